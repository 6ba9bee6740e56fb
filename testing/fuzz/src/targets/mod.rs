//! The targets.

mod elements;
mod messages;
mod records;
mod sealed;
mod session;
mod stream;
mod texts;
mod wire;

/// Something that takes any bytes.
pub struct Target {
    /// By which it is called on the command line; also the directory of its corpus.
    pub name: &'static str,
    /// Takes one input and says whether it was accepted.
    ///
    /// # Panics
    ///
    /// If a promise does not hold.
    pub run: fn(&[u8]) -> bool,
    /// Inputs to start from. All of them are accepted.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Whether there is no input that it refuses.
    pub takes_anything: bool,
    /// How many times as long as others it takes for an input, roughly.
    pub weight: usize,
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8]) -> bool, seeds: fn() -> Vec<Vec<u8>>) -> Self {
        Self { name, run, seeds, takes_anything: false, weight: 1 }
    }

    const fn that_takes_anything(self) -> Self {
        Self { takes_anything: true, ..self }
    }

    const fn that_takes_long(self) -> Self {
        Self { weight: 4, ..self }
    }
}

/// All targets.
pub static TARGETS: &[Target] = &[
    Target::new("frame", wire::frame, wire::frame_seeds),
    Target::new("place", wire::place, wire::place_seeds),
    Target::new("sealed_place", sealed::place, sealed::place_seeds),
    Target::new("sds", wire::sds, wire::sds_seeds),
    Target::new("policy", wire::policy, wire::policy_seeds),
    Target::new("management", messages::management, messages::management_seeds),
    Target::new("enrolment", messages::enrolment, messages::enrolment_seeds),
    Target::new("node_identity", records::identity, records::identity_seeds),
    Target::new("node_installed", records::installed, records::installed_seeds),
    Target::new("node_endpoints", records::endpoints, records::endpoints_seeds),
    Target::new("element_content", records::element_content, records::element_content_seeds),
    Target::new("element_file", records::element_file, records::element_file_seeds),
    Target::new("tpm_state", elements::tpm_state, elements::tpm_state_seeds),
    Target::new("token_material", elements::token_material, elements::token_material_seeds),
    Target::new("card_script", elements::card_script, elements::card_script_seeds),
    Target::new("vault_file", sealed::vault_file, sealed::vault_file_seeds),
    Target::new("stream", stream::run, stream::seeds),
    Target::new("local_api", texts::local_api, texts::local_api_seeds),
    Target::new("configuration", texts::configuration, texts::configuration_seeds),
    Target::new("target_url", texts::target_url, texts::target_url_seeds),
    Target::new("element_spec", texts::element_spec, texts::element_spec_seeds),
    Target::new("names", texts::names, texts::names_seeds),
    Target::new("stack", texts::stack, texts::stack_seeds).that_takes_anything(),
    Target::new("target_answer", texts::target_answer, texts::target_answer_seeds),
    Target::new("session", session::run, session::seeds).that_takes_anything().that_takes_long(),
];

/// The target of a name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
