//! Secure elements to measure: each as real as it is on a machine without devices, and how the programs find it.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use akm_core::element::{Label, Root};
use akm_counterparts::softhsm::{self, SoftHsm};
use akm_counterparts::swtpm::Swtpm;
use akm_counterparts::vpcd::{DRIVER, PCSCD, READERS, Vpcd, wait_for_card};
use akm_element::ElementSpec;

use crate::error::BenchError;
use crate::processes::{output, program};
use crate::rounds::timed;

/// The argument with which this program measures F in a process of its own.
const FUNCTIONS: &str = "--functions";

/// An element, and what it needs to be there. That ends with the value.
pub(crate) struct Element {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    /// How a command names it.
    pub(crate) spec: String,
    /// The static keys of a card, for `--card-keys`.
    pub(crate) card_keys: Option<PathBuf>,
    /// What a program must find in its environment to see it.
    environment: Option<(&'static str, PathBuf)>,
    _running: Box<dyn Any>,
}

impl Element {
    /// The one that is a file in the state of its node: there is nothing to start.
    pub(crate) fn software() -> Self {
        Self {
            name: "the software element",
            spec: "software".to_owned(),
            card_keys: None,
            environment: None,
            _running: Box::new(()),
        }
    }

    /// A TPM that is a program.
    pub(crate) fn tpm() -> Result<Self, BenchError> {
        needs(&["swtpm"], "swtpm")?;
        let swtpm = Swtpm::start();
        Ok(Self {
            name: "tpm (swtpm)",
            spec: swtpm.spec(),
            card_keys: None,
            environment: None,
            _running: Box::new(swtpm),
        })
    }

    /// A token that is a library.
    pub(crate) fn token() -> Result<Self, BenchError> {
        needs(&["softhsm2-util", softhsm::MODULE], "softhsm2")?;
        let store = SoftHsm::new();
        Ok(Self {
            name: "pkcs11 (SoftHSM)",
            spec: store.token("akm"),
            card_keys: None,
            environment: Some(store.environment()),
            _running: Box::new(store),
        })
    }

    /// A card that is a program, in a virtual reader of the real service for cards.
    pub(crate) fn card() -> Result<Self, BenchError> {
        needs(&[PCSCD, DRIVER], "pcscd vsmartcard-vpcd")?;
        program("akm-card")?;
        let service = Vpcd::start();
        let mut card = service.card("0001");
        card.insert(0);
        wait_for_card(0);
        Ok(Self {
            name: "card (akm-card)",
            spec: format!("card:{}", READERS[0]),
            card_keys: Some(card.keys().to_owned()),
            environment: Some(service.environment()),
            // The card leaves its reader first.
            _running: Box::new((card, service)),
        })
    }

    /// Lets a command see it.
    pub(crate) fn show_to(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// How long it takes for so many F. The element is as new afterwards.
    ///
    /// In a process of its own, since the library of a token looks for it in the environment.
    pub(crate) fn functions(&self, scratch: &Path, count: u32) -> Result<Duration, BenchError> {
        let state = tempfile::Builder::new()
            .prefix("akm-bench-")
            .tempdir_in(scratch)
            .map_err(BenchError::scratch(scratch))?;
        let mut command = Command::new(program("akm-bench")?);
        command.args([FUNCTIONS, &self.spec]).arg(state.path()).arg(count.to_string());
        self.show_to(&mut command);
        let said = output(&mut command)?;
        let nanoseconds = said.trim().parse().map_err(|_| BenchError::Program {
            what: format!("it said {said:?}, which is no number of nanoseconds"),
            hint: format!("{command:?}"),
        })?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// Asks an element so many times for F under its device key, and returns how long that took. It is made before that, with
/// its state in `state_dir`, and thrown away after it.
pub fn time_functions(spec: &str, state_dir: &Path, count: u32) -> Result<Duration, BenchError> {
    let spec: ElementSpec = spec.parse().map_err(BenchError::product)?;
    let mut element = spec.create(state_dir).map_err(BenchError::product)?;
    element.make_device_key().map_err(BenchError::product)?;
    let mut derive = |number: u32| {
        element.derive(Root::Device, Label::Epoch, &number.to_be_bytes()).map_err(BenchError::product)
    };
    // The first one may load the key.
    derive(count)?;
    let (result, took) = timed(|| (0..count).try_for_each(|number| derive(number).map(drop)));
    result?;
    drop(element);
    spec.discard(state_dir).map_err(BenchError::product)?;
    Ok(took)
}

/// Names what is missing of these programs and libraries, and the packages that hold them.
fn needs(programs: &[&str], packages: &'static str) -> Result<(), BenchError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|place| place.join(name).is_file());
    match programs.iter().find(|name| !is_there(name)) {
        None => Ok(()),
        Some(missing) => Err(BenchError::Missing { program: (*missing).to_owned(), packages }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_told_with_what_installs_it() {
        needs(&["sh", "/bin/sh"], "dash").unwrap();
        for missing in ["akm-no-such-program", "/usr/lib/akm-no-such-library.so"] {
            let said = needs(&["sh", missing], "some packages").unwrap_err().to_string();
            assert!(said.starts_with(&format!("{missing} is missing")), "{said}");
            assert!(said.contains("apt-get install -y some packages"), "{said}");
        }
    }

    #[test]
    fn a_thing_that_is_no_element_is_told() {
        let state = tempfile::tempdir().unwrap();
        let said = time_functions("nothing", state.path(), 1).unwrap_err().to_string();
        assert!(said.contains("\"nothing\" is no kind of element"), "{said}");
    }

    #[test]
    fn an_element_is_gone_after_its_functions_were_timed() {
        let state = tempfile::tempdir().unwrap();
        assert!(time_functions("software", state.path(), 10).unwrap() > Duration::ZERO);
        let spec: ElementSpec = "software".parse().unwrap();
        assert!(spec.open(state.path()).is_err());
    }
}
