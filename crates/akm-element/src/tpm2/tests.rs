//! The TPM element on swtpm: the suite, and what somebody who has the TPM can do to it.

mod extraction;
mod interrupted;

use std::fs;

use akm_core::element::RootCheck;
use akm_core::id::RelationshipId;
use akm_core::keys::element_function;
use tempfile::TempDir;

use super::command::NV_INDICES;
use super::counter::COUNTER_FIRST;
use super::spec::Place;
use super::*;
use crate::conformance;
use akm_counterparts::swtpm::Swtpm;

const PERSISTENT: u32 = 0x8100_0000;
const TRANSIENT: u32 = 0x8000_0000;
const LOADED_SESSIONS: u32 = 0x0200_0000;
const SAVED_SESSIONS: u32 = 0x0300_0000;

/// A TPM and the state directory of a node.
struct Home {
    swtpm: Swtpm,
    directory: TempDir,
    options: &'static str,
}

impl Home {
    fn new() -> Self {
        Self::with("")
    }

    fn with(options: &'static str) -> Self {
        Self { swtpm: Swtpm::start(), directory: TempDir::new().unwrap(), options }
    }

    fn spec(&self) -> TpmSpec {
        let text = format!("{}{}", self.swtpm.spec(), self.options);
        text.strip_prefix("tpm:").unwrap().parse().unwrap()
    }

    fn place(&self) -> Place {
        self.spec().place
    }

    fn create(&self) -> TpmElement {
        TpmElement::create(&self.spec(), self.directory.path()).unwrap()
    }

    fn open(&self) -> Result<TpmElement, ElementError> {
        TpmElement::open(&self.spec(), self.directory.path())
    }

    fn file(&self) -> Vec<u8> {
        fs::read(self.directory.path().join(FILE_NAME)).unwrap()
    }

    fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let (is_done, said) = self.swtpm.tool(program, arguments);
        assert!(is_done, "{program} {arguments:?}: {said}");
        said
    }

    /// What is in the TPM, seen over a way of its own that cleans nothing up.
    fn inside(&self) -> Inside {
        Tpm::new(Box::new(Seeing(self.place()))).run(|_| Ok(()), Inside::read).unwrap()
    }
}

/// A way on which nothing is cleaned up first.
struct Seeing(Place);

impl Connect for Seeing {
    fn connect(&self) -> Result<Box<dyn transport::Transport>, Failure> {
        self.0.connect()
    }

    fn is_raw(&self) -> bool {
        false
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Inside {
    /// Transient objects and sessions.
    passing: Vec<u32>,
    persistent: Vec<u32>,
    indices: Vec<u32>,
}

impl Inside {
    fn read(tpm: &mut Tpm) -> Result<Self, Failure> {
        let mut passing = tpm.handles(TRANSIENT)?;
        passing.extend(tpm.handles(LOADED_SESSIONS)?);
        passing.extend(tpm.handles(SAVED_SESSIONS)?);
        Ok(Self { passing, persistent: tpm.handles(PERSISTENT)?, indices: tpm.handles(NV_INDICES)? })
    }

    /// What one node has in a TPM that nobody else uses.
    fn of_one_node() -> Self {
        Self { passing: vec![], persistent: vec![STORAGE_HANDLE], indices: vec![COUNTER_FIRST] }
    }
}

fn relationship(number: u8) -> Root {
    Root::Relationship { id: RelationshipId::from_random([number; 16]), version: 1, check: RootCheck([0; 4]) }
}

fn wrapped_for(element: &mut TpmElement, root: Root, key: [u8; 32]) -> Vec<u8> {
    let material = element.prepare().unwrap();
    let key = Secret::take(&mut { key });
    wrap(root, &key, &element.description(), &material).unwrap().expose().to_vec()
}

fn install(element: &mut TpmElement, root: Root, key: [u8; 32]) {
    let wrapped = wrapped_for(element, root, key);
    element.install(root, &wrapped).unwrap();
}

fn assert_holds(element: &mut TpmElement, root: Root, key: [u8; 32]) {
    let derived = element.derive(root, Label::Epoch, b"context").unwrap();
    assert!(element_function(&key, Label::Epoch.as_bytes(), b"context").equals(derived.expose()));
}

fn assert_refused(done: Result<(), ElementError>, words: &str) {
    assert!(matches!(&done, Err(ElementError::Refused(why)) if why.contains(words)), "{done:?}");
}

#[test]
fn passes_the_suite_with_and_without_pcrs() {
    for options in ["", ",pcrs=0+2+7", ",pcrs=0+1+2+3+4+5+6+7+8+9+10+11+23"] {
        let home = Home::with(options);
        let spec: crate::ElementSpec = format!("{}{options}", home.swtpm.spec()).parse().unwrap();
        drop(spec.create(home.directory.path()).unwrap());
        conformance::check(
            || spec.open(home.directory.path()).unwrap(),
            |element, material, name, root| {
                crate::wrap(name, root, element, material, &crate::WrapKeys::default())
                    .unwrap()
                    .expose()
                    .to_vec()
            },
        );
        assert_eq!(home.inside(), Inside::of_one_node());
    }
}

#[test]
fn a_swtpm_says_that_it_is_a_program_and_which() {
    let home = Home::new();
    let description = home.create().description();
    assert_eq!(description.kind, "tpm");
    assert_eq!(description.manufacturer, "IBM");
    assert!(description.firmware.starts_with("SW TPM 8"), "{}", description.firmware);
    assert_eq!(description.protection, Protection::Software);
    assert!(description.counter && !description.sealed);
    // The name of the endorsement key as independent tools compute it.
    home.tool("tpm2_createek", &["-G", "ecc", "-c", "ek.ctx", "-u", "ek.pub"]);
    let said = home.tool("tpm2_readpublic", &["-c", "ek.ctx"]);
    assert!(said.contains(&format!("name: {}", description.serial)), "{said}");
}

#[test]
fn a_chip_is_hardware() {
    let maker = |manufacturer: &str| Maker { manufacturer: manufacturer.into(), firmware: String::new() };
    for name in ["IFX", "STM", "NTC", "INTC", "AMD", "unknown"] {
        assert_eq!(maker(name).protection(), Protection::Hardware, "{name}");
    }
    for name in ["IBM", "MSFT", "VMW"] {
        assert_eq!(maker(name).protection(), Protection::Software, "{name}");
    }
    assert_eq!(text(&[0x4942_4d00]), "IBM");
    assert_eq!(text(&[0x5357_2020, 0x2054_504d, 0, 0]), "SW TPM");
}

#[test]
fn ten_thousand_rounds_leave_no_handle_and_no_session() {
    let home = Home::new();
    let mut element = home.create();
    element.make_device_key().unwrap();
    install(&mut element, relationship(1), [1; 32]);
    for round in 0u64..5_000 {
        for root in [Root::Device, relationship(1)] {
            element.derive(root, Label::Seal, &round.to_be_bytes()).unwrap();
        }
    }
    let inside = element.tpm.run(|_| Ok(()), Inside::read).unwrap();
    assert_eq!(inside, Inside::of_one_node());
}

#[test]
fn wrap_refuses_every_altered_material() {
    let home = Home::new();
    let mut element = home.create();
    let material = element.prepare().unwrap();
    let description = element.description();
    let wrap = |material: &[u8], description: &Description| {
        wrap(relationship(1), &Secret::take(&mut [1; 32]), description, material)
    };
    assert!(wrap(&material, &description).is_ok());
    for at in 0..material.len() {
        for bit in [0x01, 0x80] {
            let mut altered = material.clone();
            altered[at] ^= bit;
            assert_eq!(wrap(&altered, &description).err(), Some(crate::WrapError::Material), "byte {at}");
        }
        assert!(wrap(&material[..at], &description).is_err(), "{at} bytes");
    }
    assert!(wrap(&[&material[..], &[0]].concat(), &description).is_err());
    let other = Description { serial: description.serial.to_uppercase(), ..description };
    assert!(wrap(&material, &other).is_err());
}

#[test]
fn an_altered_wrapped_root_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let mut element = home.create();
    let wrapped = wrapped_for(&mut element, relationship(1), [1; 32]);
    // The authorisation at the end is no secret of the TPM's: it is checked by the use of the root.
    for at in 0..wrapped.len() {
        let mut altered = wrapped.clone();
        altered[at] ^= 0x01;
        assert_refused(element.install(relationship(1), &altered), "");
    }
    assert_eq!(element.roots(), Ok(vec![]));
    assert_refused(element.install(relationship(2), &wrapped), "another relationship");
    element.install(relationship(1), &wrapped).unwrap();
    element.install(relationship(1), &wrapped).unwrap();
    assert_holds(&mut element, relationship(1), [1; 32]);
}

#[test]
fn a_root_wrapped_for_another_tpm_is_refused() {
    let (home, other) = (Home::new(), Home::new());
    let (mut element, mut foreign) = (home.create(), other.create());
    let wrapped = wrapped_for(&mut foreign, relationship(1), [1; 32]);
    assert_refused(element.install(relationship(1), &wrapped), "not wrapped for this TPM");

    // The endorsement key of one and the storage key of the other: no TPM has both.
    let mixed = Material {
        storage: foreign.state.storage.clone(),
        endorsement: element.state.endorsement.clone(),
        binding: None,
    };
    let key = Secret::take(&mut [1; 32]);
    let wrapped = wrap(relationship(1), &key, &element.description(), &mixed.emit()).unwrap();
    for element in [&mut element, &mut foreign] {
        assert_refused(element.install(relationship(1), wrapped.expose()), "not wrapped for this TPM");
        assert_eq!(element.roots(), Ok(vec![]));
    }
}

#[test]
fn a_state_file_is_worth_nothing_with_another_tpm() {
    let (home, other) = (Home::new(), Home::new());
    let mut element = home.create();
    element.make_device_key().unwrap();
    drop(element);
    fs::copy(home.directory.path().join(FILE_NAME), other.directory.path().join(FILE_NAME)).unwrap();
    let damaged = |done: Result<TpmElement, ElementError>| {
        assert!(
            matches!(&done, Err(ElementError::Damaged(why)) if why.contains("another TPM, or it was cleared")),
            "{done:?}"
        );
    };
    damaged(other.open());
    damaged(TpmElement::create(&other.spec(), other.directory.path()));
    assert_eq!(other.inside(), Inside { passing: vec![], persistent: vec![], indices: vec![] });

    // Also where AKM is at home in the other one: and what is there stays.
    let second = TempDir::new().unwrap();
    drop(TpmElement::create(&other.spec(), second.path()).unwrap());
    damaged(other.open());
    TpmElement::discard(&other.spec(), other.directory.path()).unwrap();
    let mut element = TpmElement::open(&other.spec(), second.path()).unwrap();
    element.value().unwrap();
}

#[test]
fn a_tpm_that_was_cleared_is_told_and_the_node_can_be_made_again() {
    let home = Home::new();
    home.create().make_device_key().unwrap();
    home.tool("tpm2_clear", &[]);
    assert!(matches!(home.open(), Err(ElementError::Damaged(why)) if why.contains("cleared")));
    TpmElement::discard(&home.spec(), home.directory.path()).unwrap();
    home.create().make_device_key().unwrap();
    assert_eq!(home.inside(), Inside::of_one_node());
}

#[test]
fn what_is_missing_is_made_by_create_only() {
    let home = Home::new();
    assert!(matches!(home.open(), Err(ElementError::Unavailable(why)) if why.contains("is missing")));
    assert_eq!(home.inside(), Inside { passing: vec![], persistent: vec![], indices: vec![] });
    let mut element = home.create();
    element.make_device_key().unwrap();
    let counter = element.value().unwrap();
    drop(element);
    let mut element = home.create();
    assert_eq!(element.value(), Ok(counter));
    assert_eq!(element.roots(), Ok(vec![Root::Device]));
    drop(element);
    home.tool("tpm2_evictcontrol", &["-C", "o", "-c", &format!("{STORAGE_HANDLE:#x}")]);
    assert!(matches!(home.open(), Err(ElementError::Damaged(_))));
    home.create().derive(Root::Device, Label::Seal, &[]).unwrap();
    home.open().unwrap().derive(Root::Device, Label::Seal, &[]).unwrap();
}

#[test]
fn discard_takes_everything_of_this_node_and_nothing_of_another() {
    let home = Home::new();
    let mut element = home.create();
    element.make_device_key().unwrap();
    install(&mut element, relationship(1), [1; 32]);
    drop(element);
    let second = TempDir::new().unwrap();
    let counter = TpmElement::create(&home.spec(), second.path()).unwrap().count_up().unwrap();
    assert_eq!(home.inside().indices, [COUNTER_FIRST, COUNTER_FIRST + 1]);

    for _ in 0..2 {
        TpmElement::discard(&home.spec(), home.directory.path()).unwrap();
        assert_eq!(fs::read_dir(home.directory.path()).unwrap().count(), 0);
        assert_eq!(home.inside().indices, [COUNTER_FIRST + 1]);
    }
    assert_eq!(TpmElement::open(&home.spec(), second.path()).unwrap().value(), Ok(counter));
}

#[test]
fn a_counter_that_was_removed_and_made_again_does_not_go_back() {
    let home = Home::new();
    let mut element = home.create();
    let mut last = element.value().unwrap();
    for _ in 0..5 {
        last = element.count_up().unwrap();
    }
    drop(element);
    home.tool("tpm2_nvundefine", &[&format!("{COUNTER_FIRST:#x}")]);
    let mut element = home.open().unwrap();
    assert!(matches!(element.value(), Err(ElementError::Damaged(why)) if why.contains("counter")));
    assert!(matches!(element.count_up(), Err(ElementError::Damaged(why)) if why.contains("counter")));
    drop(element);
    TpmElement::discard(&home.spec(), home.directory.path()).unwrap();
    assert!(home.create().value().unwrap() > last);
}

#[test]
fn another_programs_index_and_key_are_left_alone() {
    let home = Home::new();
    let index = format!("{COUNTER_FIRST:#x}");
    home.tool("tpm2_nvdefine", &[&index, "-s", "8", "-a", "ownerread|ownerwrite"]);
    drop(home.create());
    assert_eq!(home.inside().indices, [COUNTER_FIRST, COUNTER_FIRST + 1]);

    let home = Home::new();
    home.tool("tpm2_createprimary", &["-c", "primary.ctx"]);
    home.tool("tpm2_evictcontrol", &["-C", "o", "-c", "primary.ctx", &format!("{STORAGE_HANDLE:#x}")]);
    let done = TpmElement::create(&home.spec(), home.directory.path()).map(drop);
    assert_refused(done, "another program has a key");
    assert_eq!(fs::read_dir(home.directory.path()).unwrap().count(), 0);
}

#[test]
fn a_hierarchy_with_a_password_is_told() {
    for name in ["owner", "endorsement"] {
        let home = Home::new();
        home.tool("tpm2_changeauth", &["-c", name, "secret"]);
        let done = TpmElement::create(&home.spec(), home.directory.path()).map(drop);
        assert_refused(done, &format!("{name} hierarchy has a password"));
    }
}

#[test]
fn a_tpm_that_is_locked_out_still_serves() {
    let home = Home::new();
    let mut element = home.create();
    element.make_device_key().unwrap();
    drop(element);
    home.tool("tpm2_nvdefine", &["0x1500016", "-s", "8", "-p", "right", "-a", "authread|authwrite"]);
    home.tool("tpm2_getrandom", &["-o", "data", "8"]);
    let is_locked_out =
        || home.tool("tpm2_getcap", &["properties-variable"]).contains("inLockout:                 1");
    let mut tries = 0;
    while !is_locked_out() {
        let (is_done, said) = home.swtpm.tool("tpm2_nvwrite", &["0x1500016", "-P", "wrong", "-i", "data"]);
        assert!(!is_done, "{said}");
        tries += 1;
        assert!(tries < 40, "never locked out: {said}");
    }
    let mut element = home.open().unwrap();
    element.derive(Root::Device, Label::Seal, &[]).unwrap();
    element.count_up().unwrap();
    install(&mut element, relationship(1), [1; 32]);
    assert_holds(&mut element, relationship(1), [1; 32]);
}

#[test]
fn what_others_left_in_the_tpm_is_cleared_away() {
    let home = Home::new();
    home.create().make_device_key().unwrap();
    for _ in 0..3 {
        home.tool("tpm2_createprimary", &["-c", "primary.ctx"]);
    }
    home.tool("tpm2_startauthsession", &["-S", "session.ctx"]);
    assert!(home.inside().passing.len() >= 3);
    home.open().unwrap().derive(Root::Device, Label::Seal, &[]).unwrap();
    assert_eq!(home.inside(), Inside::of_one_node());
}

#[test]
fn roots_are_bound_to_pcrs() {
    let home = Home::with(",pcrs=16");
    let mut element = home.create();
    element.make_device_key().unwrap();
    install(&mut element, relationship(1), [1; 32]);
    let late = wrapped_for(&mut element, relationship(2), [2; 32]);
    drop(element);
    home.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    let mut element = home.open().unwrap();
    for root in [Root::Device, relationship(1)] {
        let derived = element.derive(root, Label::Seal, &[]).map(drop);
        assert_refused(derived, "not started as when");
    }
    assert_refused(element.install(relationship(2), &late), "PCRs 16");
    drop(element);
    home.tool("tpm2_pcrreset", &["16"]);
    let mut element = home.open().unwrap();
    element.derive(Root::Device, Label::Seal, &[]).unwrap();
    assert_holds(&mut element, relationship(1), [1; 32]);
    element.install(relationship(2), &late).unwrap();
    drop(element);

    let other = Home { options: "", ..home };
    assert_refused(other.open().map(drop), "was made with pcrs=16");
    let home = Home::new();
    drop(home.create());
    let other = Home { options: ",pcrs=7", ..home };
    assert_refused(other.open().map(drop), "was made without pcrs=");
}

#[test]
fn damage_to_the_file_is_recognised() {
    let home = Home::new();
    home.create().make_device_key().unwrap();
    let whole = home.file();
    let path = home.directory.path().join(FILE_NAME);
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut altered = whole.clone();
        altered[at] ^= 4;
        fs::write(&path, altered).unwrap();
        assert!(matches!(home.open(), Err(ElementError::Damaged(_))), "{at}");
    }
    fs::write(&path, &whole).unwrap();
    home.open().unwrap();
}

#[test]
fn the_attributes_are_as_promised_in_the_words_of_other_tools() {
    let home = Home::new();
    let mut element = home.create();
    element.make_device_key().unwrap();
    install(&mut element, relationship(1), [1; 32]);
    let files = [(Root::Device, "device.pub"), (relationship(1), "root.pub")].map(|(root, name)| {
        let path = home.directory.path().join(name);
        let mut public = wire::Writer::new();
        public.sized(&element.state.roots[&root].public);
        fs::write(&path, public.as_slice()).unwrap();
        path.to_str().unwrap().to_owned()
    });
    drop(element);
    let attributes = |said: &str| {
        let mut lines = said.lines().map(str::trim).skip_while(|line| *line != "attributes:");
        lines.nth(1).unwrap().strip_prefix("value: ").unwrap().to_owned()
    };
    let said = home.tool("tpm2_readpublic", &["-c", &format!("{STORAGE_HANDLE:#x}")]);
    assert_eq!(
        attributes(&said),
        "fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|noda|restricted|decrypt",
        "{said}"
    );
    let said = home.tool("tpm2_print", &["-t", "TPM2B_PUBLIC", &files[0]]);
    assert_eq!(
        attributes(&said),
        "fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|noda|sign",
        "{said}"
    );
    let said = home.tool("tpm2_print", &["-t", "TPM2B_PUBLIC", &files[1]]);
    assert_eq!(attributes(&said), "adminwithpolicy|noda|encryptedduplication|sign", "{said}");
    let said = home.tool("tpm2_nvreadpublic", &[&format!("{COUNTER_FIRST:#x}")]);
    assert!(said.contains("authwrite|nt=0x1|authread|no_da|written"), "{said}");
}

#[test]
fn each_tpm_of_this_machine_is_listed_as_an_element() {
    for text in list() {
        let spec: crate::ElementSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), text);
    }
}
