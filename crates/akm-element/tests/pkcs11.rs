//! The PKCS#11 element on SoftHSM 2, and what somebody who has the PIN can do to it.
//!
//! The library is told by the environment where its tokens are, so each test runs in a process of its own.
#![cfg(all(feature = "pkcs11", feature = "conformance"))]

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use akm_core::element::{
    Description, ElementError, Label, Protection, ProvisionableElement, Root, RootCheck, SecureElement,
};
use akm_core::id::RelationshipId;
use akm_core::keys::element_function;
use akm_core::secret::Secret;
use akm_counterparts::softhsm::{MODULE, PIN, SO_PIN, SoftHsm};
use akm_element::pkcs11::{Pkcs11Element, Pkcs11Spec, list, modules};
use akm_element::{ElementSpec, WrapKeys, conformance, wrap};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

/// Does the body in a process of its own, with a store of its own.
fn alone(test: &str, body: impl FnOnce(&SoftHsm)) {
    if let Some(store) = SoftHsm::of_this_process() {
        return body(&store);
    }
    let store = SoftHsm::new();
    run(store.again(test));
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed ({}):\n{said}", output.status);
    said
}

fn spec(text: &str) -> Pkcs11Spec {
    text.strip_prefix("pkcs11:").unwrap().parse().unwrap()
}

fn create(text: &str) -> Pkcs11Element {
    Pkcs11Element::create(&spec(text), Path::new("/nonexistent")).unwrap()
}

fn open(text: &str) -> Result<Pkcs11Element, ElementError> {
    Pkcs11Element::open(&spec(text), Path::new("/nonexistent"))
}

fn refusal<T: std::fmt::Debug>(done: Result<T, ElementError>) -> String {
    match done {
        Err(ElementError::Refused(why)) => why,
        other => panic!("refused, not {other:?}"),
    }
}

fn unavailability<T: std::fmt::Debug>(done: Result<T, ElementError>) -> String {
    match done {
        Err(ElementError::Unavailable(why)) => why,
        other => panic!("unavailable, not {other:?}"),
    }
}

fn root(number: u8) -> Root {
    Root::Relationship { id: RelationshipId::from_random([number; 16]), version: 1, check: RootCheck([0; 4]) }
}

fn wrapped_for(description: &Description, material: &[u8], root: Root, mut key: [u8; 32]) -> Vec<u8> {
    wrap(root, &Secret::take(&mut key), description, material, &WrapKeys::default())
        .unwrap()
        .expose()
        .to_vec()
}

fn prepared(element: &mut Pkcs11Element, root: Root, key: [u8; 32]) -> Vec<u8> {
    let material = element.prepare().unwrap();
    wrapped_for(&element.description(), &material, root, key)
}

fn install(element: &mut Pkcs11Element, root: Root, key: [u8; 32]) -> Result<(), ElementError> {
    let wrapped = prepared(element, root, key);
    element.install(root, &wrapped)
}

fn assert_is(element: &mut Pkcs11Element, root: Root, key: [u8; 32]) {
    let derived = element.derive(root, Label::Receipt, b"which").unwrap();
    assert!(element_function(&key, b"akm1 receipt", b"which").equals(derived.expose()));
}

/// Somebody on the host who has the PIN and the token's own library.
struct Intruder {
    session: Session,
}

impl Intruder {
    fn new(label: &str) -> Self {
        let library = Pkcs11::new(MODULE).unwrap();
        // The element of this process has initialised it already, or will find it so.
        let _ = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        let slot = library
            .get_slots_with_initialized_token()
            .unwrap()
            .into_iter()
            .find(|slot| library.get_token_info(*slot).unwrap().label() == label)
            .unwrap();
        let session = library.open_rw_session(slot).unwrap();
        match session.login(UserType::User, Some(&AuthPin::from(PIN))) {
            Ok(()) | Err(Error::Pkcs11(cryptoki::error::RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => panic!("{error}"),
        }
        Self { session }
    }

    fn labelled(&self, label: &str) -> Vec<ObjectHandle> {
        self.session.find_objects(&[Attribute::Label(label.as_bytes().to_vec())]).unwrap()
    }

    fn one(&self, label: &str) -> ObjectHandle {
        match self.labelled(label)[..] {
            [one] => one,
            ref found => panic!("{} objects labelled {label}", found.len()),
        }
    }

    fn private_transport(&self) -> ObjectHandle {
        let found = self
            .session
            .find_objects(&[
                Attribute::Class(ObjectClass::PRIVATE_KEY),
                Attribute::Label(b"akm transport".to_vec()),
            ])
            .unwrap();
        assert_eq!(found.len(), 1);
        found[0]
    }

    fn has_value(&self, object: ObjectHandle) -> bool {
        match self.session.get_attributes(object, &[AttributeType::Value]) {
            Ok(found) => !found.is_empty(),
            Err(_) => false,
        }
    }

    fn attribute(&self, object: ObjectHandle, kind: AttributeType) -> Attribute {
        self.session.get_attributes(object, &[kind]).unwrap().remove(0)
    }

    fn unwrap(&self, with: ObjectHandle, blob: &[u8], template: &[Attribute]) -> Result<ObjectHandle, Error> {
        self.session.unwrap_key(&oaep(), with, ciphertext(blob), template)
    }
}

/// What SoftHSM 2.6 can.
fn oaep() -> Mechanism<'static> {
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(
        MechanismType::SHA1,
        PkcsMgfType::MGF1_SHA1,
        PkcsOaepSource::empty(),
    ))
}

/// The ciphertext stands at the end of a wrapped root.
fn ciphertext(wrapped: &[u8]) -> &[u8] {
    &wrapped[wrapped.len() - 3072 / 8..]
}

/// What AKM unwraps a root with.
fn closed() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Verify(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
        // Last: SoftHSM takes none after it.
        Attribute::Copyable(false),
        Attribute::Modifiable(false),
    ]
}

fn closed_as(id: &Attribute) -> Vec<Attribute> {
    let mut template = vec![Attribute::Token(true), Attribute::Label(b"akm root".to_vec()), id.clone()];
    template.extend(closed());
    template
}

fn closed_but(others: &[Attribute]) -> Vec<Attribute> {
    let kept = closed().into_iter();
    let kept = kept.filter(|kept| others.iter().all(|other| other.attribute_type() != kept.attribute_type()));
    others.iter().cloned().chain(kept).collect()
}

#[test]
fn passes_the_suite() {
    alone("passes_the_suite", |store| {
        let text = store.token("akm");
        let spec: ElementSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), text);
        conformance::check(
            || spec.create(store.directory()).unwrap(),
            |description, material, root, key| {
                wrap(root, key, description, material, &WrapKeys::default()).unwrap().expose().to_vec()
            },
        );
        assert!(Intruder::new("akm").labelled("akm root").is_empty());
    });
}

#[test]
fn says_honestly_what_it_is() {
    alone("says_honestly_what_it_is", |store| {
        let description = create(&store.token("akm")).description();
        assert_eq!(description.kind, "pkcs11");
        assert_eq!(description.manufacturer, "SoftHSM project");
        assert_eq!(description.serial.len(), 16);
        assert_eq!(description.firmware, "SoftHSM v2 2.6");
        assert_eq!(description.protection, Protection::Software);
        assert!(description.sealed);
        assert!(!description.counter);
    });
}

#[test]
fn an_element_without_its_device_key_is_not_opened() {
    alone("an_element_without_its_device_key_is_not_opened", |store| {
        let text = store.token("akm");
        let mut element = create(&text);
        assert!(unavailability(open(&text)).contains("holds no device key"));
        element.make_device_key().unwrap();
        drop(element);
        assert_eq!(open(&text).unwrap().roots(), Ok(vec![Root::Device]));
    });
}

#[test]
fn somebody_with_the_pin_gets_no_root_out() {
    alone("somebody_with_the_pin_gets_no_root_out", |store| {
        let mut element = create(&store.token("akm"));
        element.make_device_key().unwrap();
        let blob = prepared(&mut element, root(1), [0xc7; 32]);
        element.install(root(1), &blob).unwrap();

        let intruder = Intruder::new("akm");
        let session = &intruder.session;
        let own = session
            .generate_key(
                &Mechanism::AesKeyGen,
                &[
                    Attribute::ValueLen(32.into()),
                    Attribute::Token(false),
                    Attribute::Wrap(true),
                    Attribute::Unwrap(true),
                    Attribute::Encrypt(true),
                ],
            )
            .unwrap();
        for label in ["akm root", "akm device"] {
            let object = intruder.one(label);
            assert!(!intruder.has_value(object), "{label}: its value was read");
            for mechanism in [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad] {
                session.wrap_key(&mechanism, own, object).expect_err("it was wrapped");
            }
            for change in [
                Attribute::Extractable(true),
                Attribute::Sensitive(false),
                Attribute::Derive(true),
                Attribute::Wrap(true),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Modifiable(true),
                Attribute::Copyable(true),
            ] {
                session.update_attributes(object, std::slice::from_ref(&change)).expect_err("it was changed");
                session
                    .copy_object(object, &[Attribute::Token(false), change])
                    .expect_err("it was copied with another attribute");
            }
            session.copy_object(object, &[Attribute::Token(false)]).expect_err("it was copied");
            session.encrypt(&Mechanism::AesEcb, object, &[0; 16]).expect_err("it encrypts");
            session.derive_key(&Mechanism::AesEcb, object, &[]).expect_err("it derives keys");
            assert_eq!(intruder.attribute(object, AttributeType::Sensitive), Attribute::Sensitive(true));
            assert_eq!(intruder.attribute(object, AttributeType::Extractable), Attribute::Extractable(false));
        }
        assert_eq!(
            intruder.attribute(intruder.one("akm device"), AttributeType::NeverExtractable),
            Attribute::NeverExtractable(true)
        );

        // The blob was kept, but what it was wrapped for is gone.
        assert!(intruder.labelled("akm transport").is_empty());
        element.prepare().unwrap();
        for template in [closed(), closed_but(&[Attribute::Extractable(true), Attribute::Sensitive(false)])] {
            intruder
                .unwrap(intruder.private_transport(), &blob, &template)
                .expect_err("it was unwrapped again");
        }
        assert_is(&mut element, root(1), [0xc7; 32]);
    });
}

#[test]
fn a_transport_key_unwraps_to_nothing_that_can_be_read() {
    alone("a_transport_key_unwraps_to_nothing_that_can_be_read", |store| {
        let mut element = create(&store.token("akm"));
        let blob = prepared(&mut element, root(1), [0xc7; 32]);
        let intruder = Intruder::new("akm");
        let session = &intruder.session;
        let transport = intruder.private_transport();

        for others in [
            &[Attribute::Extractable(true)][..],
            &[Attribute::Sensitive(false)],
            &[Attribute::Extractable(true), Attribute::Sensitive(false)],
            &[Attribute::KeyType(KeyType::AES)],
            &[Attribute::Derive(true)],
            &[Attribute::Encrypt(true)],
            &[Attribute::Decrypt(true)],
            &[Attribute::Wrap(true)],
            &[Attribute::Unwrap(true)],
            &[Attribute::Modifiable(true)],
            &[Attribute::Copyable(true)],
        ] {
            let template = closed_but(others);
            intruder.unwrap(transport, &blob, &template).expect_err(&format!("unwrapped with {others:?}"));
        }
        // Without saying what it shall be.
        let bare = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::GENERIC_SECRET)];
        if let Ok(unwrapped) = intruder.unwrap(transport, &blob, &bare) {
            assert!(!intruder.has_value(unwrapped));
            assert_eq!(
                intruder.attribute(unwrapped, AttributeType::Extractable),
                Attribute::Extractable(false)
            );
        }
        let unwrapped = intruder.unwrap(transport, &blob, &closed()).unwrap();
        assert!(!intruder.has_value(unwrapped));
        session.destroy_object(unwrapped).unwrap();

        session.decrypt(&oaep(), transport, ciphertext(&blob)).expect_err("it decrypts");
        session.decrypt(&Mechanism::RsaX509, transport, ciphertext(&blob)).expect_err("it decrypts");
        session.sign(&Mechanism::RsaX509, transport, ciphertext(&blob)).expect_err("it signs");
        for change in [
            Attribute::Decrypt(true),
            Attribute::Sign(true),
            Attribute::SignRecover(true),
            Attribute::Derive(true),
            Attribute::Extractable(true),
            Attribute::Modifiable(true),
            Attribute::VendorDefined((AttributeType::VendorDefined(0x4000_0212), Vec::new())),
        ] {
            session.update_attributes(transport, std::slice::from_ref(&change)).expect_err("it was changed");
            session
                .copy_object(transport, &[Attribute::Token(false), change])
                .expect_err("it was copied with another attribute");
        }
        session.copy_object(transport, &[Attribute::Token(false)]).expect_err("it was copied");
        let private =
            session.get_attributes(transport, &[AttributeType::PrivateExponent, AttributeType::Prime1]);
        assert!(private.is_err() || private.unwrap().is_empty(), "its private parts were read");

        // All that changed nothing.
        element.install(root(1), &blob).unwrap();
        assert_is(&mut element, root(1), [0xc7; 32]);
        assert!(intruder.labelled("akm transport").is_empty());
    });
}

#[test]
fn what_pkcs11_tool_sees_is_closed() {
    alone("what_pkcs11_tool_sees_is_closed", |store| {
        let mut element = create(&store.token("akm"));
        element.make_device_key().unwrap();
        install(&mut element, root(1), [1; 32]).unwrap();
        drop(element);
        let mut tool = store.command("pkcs11-tool");
        tool.args(["--module", MODULE, "--token-label", "akm", "--login", "--pin", PIN, "--list-objects"]);
        assert!(tool.output().is_ok(), "pkcs11-tool is missing: apt-get install opensc");
        let said = run(tool);
        let objects: Vec<&str> = said.split("Secret Key Object").skip(1).collect();
        assert_eq!(objects.len(), 2, "{said}");
        assert!(!said.contains("Private Key Object") && !said.contains("Public Key Object"), "{said}");
        for object in &objects {
            let line = |name: &str| {
                let found = object.lines().find_map(|line| line.trim().strip_prefix(name));
                found.unwrap_or_else(|| panic!("no {name} in {object}")).trim()
            };
            let access: BTreeSet<&str> = line("Access:").split(", ").collect();
            assert!(access.contains("sensitive") && !access.contains("extractable"), "{object}");
            // It names signing for private keys only.
            assert_eq!(line("Usage:"), "none", "{object}");
        }
        assert!(said.contains("akm root") && said.contains("akm device"), "{said}");
        assert!(
            said.contains(&format!("{}00000001", "01".repeat(6))),
            "the ID is relationship and version: {said}"
        );
        assert!(said.contains("never extractable") && said.contains("always sensitive"), "{said}");
    });
}

#[test]
fn a_wrapped_root_that_was_altered_is_refused_whole() {
    alone("a_wrapped_root_that_was_altered_is_refused_whole", |store| {
        let mut element = create(&store.token("akm"));
        let blob = prepared(&mut element, root(1), [1; 32]);
        let intruder = Intruder::new("akm");
        // Each in turn uses the transport key up.
        for place in [0, 1, 4, 20, blob.len() / 2, blob.len() - 1] {
            let mut altered = prepared(&mut element, root(1), [1; 32]);
            altered[place] ^= 1;
            refusal(element.install(root(1), &altered));
            assert!(intruder.labelled("akm root").is_empty(), "{place}");
            assert!(intruder.labelled("akm transport").is_empty(), "{place}");
        }
        let said = refusal(element.install(root(1), &blob));
        assert!(said.contains("no longer has; prepare and wrap again"), "{said}");
        let said = refusal({
            let wrapped = prepared(&mut element, root(1), [1; 32]);
            element.install(root(2), &wrapped)
        });
        assert!(said.contains("under another name"), "{said}");
        refusal(element.install(Root::Device, &blob));
        assert_eq!(element.roots(), Ok(vec![]));
    });
}

#[test]
fn a_wrong_pin_is_told_and_not_tried_again() {
    alone("a_wrong_pin_is_told_and_not_tried_again", |store| {
        let text = store.token("akm");
        fs::write(store.pin_file(), "wrong-pin").unwrap();
        let said = refusal(Pkcs11Element::create(&spec(&text), store.directory()));
        assert!(
            said.starts_with("wrong PIN for token \"akm\" in /")
                && said.contains("more than one try is left"),
            "{said}"
        );
        assert!(!said.contains("wrong-pin"), "{said}");
        fs::write(store.pin_file(), "").unwrap();
        assert!(refusal(open(&text)).contains("holds no passphrase"));
        fs::write(store.pin_file(), PIN).unwrap();
        fs::set_permissions(store.pin_file(), Permissions::from_mode(0o644)).unwrap();
        assert!(refusal(open(&text)).contains("wider than 0600"));
        fs::remove_file(store.pin_file()).unwrap();
        assert!(unavailability(open(&text)).contains("/pin is missing"));
    });
}

#[test]
fn a_token_without_a_user_pin_is_refused() {
    alone("a_token_without_a_user_pin_is_refused", |store| {
        let library = Pkcs11::new(MODULE).unwrap();
        library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let slot = library.get_slots_with_token().unwrap()[0];
        library.init_token(slot, &AuthPin::from(SO_PIN), "akm").unwrap();
        let said = refusal(Pkcs11Element::create(&spec(&store.spec("akm")), store.directory()));
        assert!(said.contains("has no user PIN"), "{said}");
        assert!(list(Path::new(MODULE)).unwrap()[0].obstacle.as_ref().unwrap().contains("has no user PIN"));
    });
}

#[test]
fn a_token_that_is_not_there_is_told_with_those_that_are() {
    alone("a_token_that_is_not_there_is_told_with_those_that_are", |store| {
        let missing = store.spec("akm");
        store.token("other");
        let said = unavailability(Pkcs11Element::create(&spec(&missing), store.directory()));
        assert!(
            said.starts_with("no such token: /usr/lib/softhsm/libsofthsm2.so has \"other\" (serial "),
            "{said}"
        );
        assert!(said.contains("none that is \"akm\"; plug it in"), "{said}");
        let said = unavailability(open(&store.spec("other").replace('?', ";serial=1?")));
        assert!(said.contains("none that is \"other\" with serial \"1\""), "{said}");

        let said = unavailability(open(&missing.replace(MODULE, "/nonexistent/module.so")));
        assert!(said.contains("there is no /nonexistent/module.so"), "{said}");
        let no_module = store.directory().join("no.so");
        fs::write(&no_module, "no library").unwrap();
        let said = unavailability(open(&missing.replace(MODULE, no_module.to_str().unwrap())));
        assert!(said.contains("no PKCS#11 library"), "{said}");
    });
}

#[test]
fn a_store_without_any_token_says_so() {
    alone("a_store_without_any_token_says_so", |store| {
        let said = unavailability(open(&store.spec("akm")));
        assert!(said.contains("has none at all; plug in the one called \"akm\""), "{said}");
        assert_eq!(list(Path::new(MODULE)), Ok(vec![]));
    });
}

#[test]
fn of_two_tokens_with_one_label_the_serial_number_chooses() {
    alone("of_two_tokens_with_one_label_the_serial_number_chooses", |store| {
        let text = store.token("akm");
        store.token("akm");
        let said = refusal(Pkcs11Element::create(&spec(&text), store.directory()));
        assert!(
            said.starts_with("several tokens fit: \"akm\" (serial ") && said.ends_with(";serial="),
            "{said}"
        );
        let listed = list(Path::new(MODULE)).unwrap();
        assert_eq!(listed.len(), 2);
        for token in &listed {
            assert_eq!(token.obstacle, None);
            assert_eq!(token.label, "akm");
            assert!(token.spec.parse::<ElementSpec>().is_ok());
            let text = token.spec.replace("/PIN/FILE", store.pin_file().to_str().unwrap());
            assert_eq!(create(&text).description(), token.description);
            assert_eq!(Pkcs11Element::describe(&spec(&token.spec)), Ok(token.description.clone()));
        }
        assert_ne!(listed[0].description.serial, listed[1].description.serial);
    });
}

#[test]
fn the_libraries_of_this_machine_are_found_once_each() {
    let found = modules();
    let softhsm = fs::canonicalize(MODULE).unwrap();
    assert_eq!(
        found.iter().filter(|path| fs::canonicalize(path).unwrap() == softhsm).count(),
        1,
        "{found:?}"
    );
}

#[test]
fn the_latest_prepared_alone_can_be_installed_also_after_a_restart() {
    const NAME: &str = "the_latest_prepared_alone_can_be_installed_also_after_a_restart";
    let Some(store) = SoftHsm::of_this_process() else {
        let store = SoftHsm::new();
        store.token("akm");
        let step = |step: &str| {
            let mut again = store.again(NAME);
            again.env("STEP", step);
            run(again);
        };
        step("prepare");
        step("prepare");
        step("install");
        return;
    };
    let mut element = create(&store.spec("akm"));
    if std::env::var("STEP").unwrap() == "prepare" {
        let wrapped = prepared(&mut element, root(1), [1; 32]);
        let kept = if store.directory().join("first").exists() { "second" } else { "first" };
        fs::write(store.directory().join(kept), wrapped).unwrap();
        // As if killed: nothing is tidied up.
        std::process::exit(0);
    }
    assert_eq!(Intruder::new("akm").labelled("akm transport").len(), 1);
    let second = fs::read(store.directory().join("second")).unwrap();
    element.install(root(1), &second).unwrap();
    assert_is(&mut element, root(1), [1; 32]);
    let first = fs::read(store.directory().join("first")).unwrap();
    refusal(element.install(root(2), &first));
    assert!(Intruder::new("akm").labelled("akm transport").is_empty());
}

#[test]
fn after_power_was_lost_between_unwrapping_and_destroying_a_repetition_ends_in_one_root() {
    alone("after_power_was_lost_between_unwrapping_and_destroying_a_repetition_ends_in_one_root", |store| {
        let mut element = create(&store.token("akm"));
        let intruder = Intruder::new("akm");
        for (times, again) in [(1, true), (2, true), (3, false)] {
            let id = root(1).name().to_vec();
            let blob = prepared(&mut element, root(1), [1; 32]);
            for _ in 0..times {
                let template = closed_as(&Attribute::Id(id.clone()));
                intruder.unwrap(intruder.private_transport(), &blob, &template).unwrap();
            }
            assert_is(&mut element, root(1), [1; 32]);
            assert_eq!(element.roots(), Ok(vec![root(1)]));
            if again {
                element.install(root(1), &blob).unwrap();
            } else {
                install(&mut element, root(1), [1; 32]).unwrap();
            }
            assert_eq!(intruder.labelled("akm root").len(), 1);
            assert!(intruder.labelled("akm transport").is_empty());
            assert_is(&mut element, root(1), [1; 32]);
            element.erase(root(1)).unwrap();
            assert!(intruder.labelled("akm root").is_empty());
        }
    });
}

/// Kills a process that does `step` before it changes the tokens' files, before one change after the other, each time
/// from the same tokens; then lets `check` look at what is there. Returns how often.
///
/// Of the writes every fifth, unless `AKM_SWEEP` is `full`: SoftHSM writes an object anew for each attribute. Not the
/// first two: the test harness makes them, and SoftHSM's own at login, before which it empties the file of the whole
/// token. A power failure then takes the token with it, and nobody can help.
fn killed_at_each_change(test: &str, store: &SoftHsm, step: &str, check: impl Fn()) -> usize {
    let kept = store.directory().join("kept");
    let copy = |from: &Path, to: &Path| {
        let mut command = Command::new("cp");
        command.arg("-a").arg(from).arg(to);
        run(command);
    };
    copy(&store.tokens(), &kept);
    let stride = if std::env::var("AKM_SWEEP").is_ok_and(|sweep| sweep == "full") { 1 } else { 5 };
    let mut kills = 0;
    for (call, first, stride) in [("write", 3, stride), ("unlink", 1, 1)] {
        for at in (first..).step_by(stride) {
            fs::remove_dir_all(store.tokens()).unwrap();
            copy(&kept, &store.tokens());
            let again = store.again(test);
            let output = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e"])
                .arg(format!("trace={call}"))
                .arg("-e")
                .arg(format!("inject={call}:signal=KILL:when={at}"))
                .arg(again.get_program())
                .args(again.get_args())
                .envs(again.get_envs().filter_map(|(name, value)| Some((name, value?))))
                .env("STEP", step)
                .output()
                .unwrap_or_else(|error| panic!("strace does not start ({error}): apt-get install strace"));
            if output.status.success() {
                break;
            }
            assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
            kills += 1;
            check();
        }
    }
    kills
}

/// The store of a process that does one step of a test, as `STEP` tells it. Everywhere else it does the whole test, in
/// processes of their own: `prepare`, then `killed` again and again, with `repeat` after each kill.
fn in_a_step(test: &str, killed: &str) -> Option<SoftHsm> {
    if let Some(store) = SoftHsm::of_this_process() {
        return Some(store);
    }
    let store = SoftHsm::new();
    store.token("akm");
    let step = |step: &str| {
        let mut again = store.again(test);
        again.env("STEP", step);
        run(again);
    };
    step("prepare");
    let kills = killed_at_each_change(test, &store, killed, || step("repeat"));
    assert!(kills > 10, "only {kills} changes were seen");
    None
}

#[test]
fn killed_at_any_change_of_an_installation_a_repetition_ends_in_one_root() {
    const NAME: &str = "killed_at_any_change_of_an_installation_a_repetition_ends_in_one_root";
    let blob = |store: &SoftHsm| store.directory().join("blob");
    let Some(store) = in_a_step(NAME, "install") else { return };
    let mut element = create(&store.spec("akm"));
    match &std::env::var("STEP").unwrap()[..] {
        "prepare" => fs::write(blob(&store), prepared(&mut element, root(1), [1; 32])).unwrap(),
        "install" => {
            element.install(root(1), &fs::read(blob(&store)).unwrap()).unwrap();
            element.make_device_key().unwrap();
        }
        "repeat" => {
            // What is there is whole, and the element can be used.
            for root in element.roots().unwrap() {
                element.derive(root, Label::Epoch, &[]).unwrap();
            }
            // The transport key may be gone already, with the root there.
            if element.install(root(1), &fs::read(blob(&store)).unwrap()).is_err() {
                assert_is(&mut element, root(1), [1; 32]);
                install(&mut element, root(1), [1; 32]).unwrap();
            }
            element.make_device_key().unwrap();
            assert_eq!(element.roots(), Ok(vec![Root::Device, root(1)]));
            assert_is(&mut element, root(1), [1; 32]);
            let intruder = Intruder::new("akm");
            intruder.one("akm root");
            intruder.one("akm device");
            assert!(intruder.labelled("akm transport").is_empty());
        }
        step => panic!("{step}"),
    }
}

#[test]
fn killed_at_any_change_of_preparing_the_next_can_be_installed() {
    const NAME: &str = "killed_at_any_change_of_preparing_the_next_can_be_installed";
    // Before it is killed once was prepared already: that one is replaced.
    let Some(store) = in_a_step(NAME, "prepare") else { return };
    let mut element = create(&store.spec("akm"));
    if std::env::var("STEP").unwrap() == "prepare" {
        element.prepare().unwrap();
        return;
    }
    install(&mut element, root(1), [1; 32]).unwrap();
    assert_is(&mut element, root(1), [1; 32]);
    let intruder = Intruder::new("akm");
    intruder.one("akm root");
    assert!(intruder.labelled("akm transport").is_empty());
}

#[test]
fn two_different_roots_under_one_name_are_damage_until_the_module_says_which() {
    alone("two_different_roots_under_one_name_are_damage_until_the_module_says_which", |store| {
        let mut element = create(&store.token("akm"));
        let intruder = Intruder::new("akm");
        install(&mut element, root(1), [1; 32]).unwrap();
        let id = intruder.attribute(intruder.one("akm root"), AttributeType::Id);
        let blob = prepared(&mut element, root(1), [2; 32]);
        intruder.unwrap(intruder.private_transport(), &blob, &closed_as(&id)).unwrap();
        drop(element);
        let mut element = create(&store.spec("akm"));
        let derived = element.derive(root(1), Label::Epoch, &[]);
        assert!(matches!(derived, Err(ElementError::Damaged(_))), "{derived:?}");
        assert!(refusal(install(&mut element, root(1), [3; 32])).contains("another root"));
        install(&mut element, root(1), [2; 32]).unwrap();
        assert_eq!(intruder.labelled("akm root").len(), 1);
        assert_is(&mut element, root(1), [2; 32]);
    });
}

#[test]
fn ten_thousand_derives_leave_no_session_behind() {
    alone("ten_thousand_derives_leave_no_session_behind", |store| {
        let mut element = create(&store.token("akm"));
        install(&mut element, root(1), [1; 32]).unwrap();
        install(&mut element, root(2), [2; 32]).unwrap();
        let library = Pkcs11::new(MODULE).unwrap();
        let slot = library.get_slots_with_initialized_token().unwrap()[0];
        let sessions = || library.get_token_info(slot).unwrap().session_count();
        let before = sessions();
        for number in 0..10_000u32 {
            let which = 1 + (number % 2) as u8;
            let context = number.to_be_bytes();
            let derived = element.derive(root(which), Label::Epoch, &context).unwrap();
            assert!(element_function(&[which; 32], b"akm1 epoch", &context).equals(derived.expose()));
        }
        assert_eq!(sessions(), before);
        let objects = Intruder::new("akm").session.find_objects(&[]).unwrap().len();
        assert_eq!(objects, 2, "objects were left behind");
        for _ in 0..50 {
            drop(create(&store.spec("akm")));
        }
        assert_eq!(sessions(), before);
    });
}

#[test]
fn a_session_that_another_closed_is_opened_again() {
    alone("a_session_that_another_closed_is_opened_again", |store| {
        let mut element = create(&store.token("akm"));
        element.make_device_key().unwrap();
        install(&mut element, root(1), [1; 32]).unwrap();
        let close_all = || {
            let library = Pkcs11::new(MODULE).unwrap();
            library.clone().finalize().unwrap();
            library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        };
        for _ in 0..3 {
            close_all();
            assert_is(&mut element, root(1), [1; 32]);
            Intruder::new("akm").session.logout().unwrap();
            assert_eq!(element.roots(), Ok(vec![Root::Device, root(1)]));
            Intruder::new("akm").session.logout().unwrap();
            assert_eq!(element.derive(root(2), Label::Epoch, &[]).unwrap_err(), ElementError::NoSuchRoot);
            Intruder::new("akm").session.logout().unwrap();
            assert_is(&mut element, root(1), [1; 32]);
            Intruder::new("akm").session.logout().unwrap();
            assert_eq!(element.erase(root(2)), Ok(()));
        }
        close_all();
        fs::write(store.pin_file(), "wrong-pin").unwrap();
        assert!(refusal(element.derive(root(1), Label::Epoch, &[])).contains("wrong PIN"));
        // The file is right again, but nobody asked for another try.
        fs::write(store.pin_file(), PIN).unwrap();
        assert!(refusal(element.derive(root(1), Label::Epoch, &[])).contains("wrong PIN"));
        assert_is(&mut open(&store.spec("akm")).unwrap(), root(1), [1; 32]);
    });
}

#[test]
fn another_token_of_the_same_label_is_not_taken_for_it() {
    alone("another_token_of_the_same_label_is_not_taken_for_it", |store| {
        let text = store.token("akm");
        let mut element = create(&text);
        install(&mut element, root(1), [1; 32]).unwrap();
        let first = element.description().serial;
        let library = Pkcs11::new(MODULE).unwrap();
        library.finalize().unwrap();
        fs::remove_dir_all(store.tokens()).unwrap();
        fs::create_dir(store.tokens()).unwrap();
        let restart = || {
            let library = Pkcs11::new(MODULE).unwrap();
            library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        };
        restart();
        assert!(unavailability(element.derive(root(1), Label::Epoch, &[])).contains("has none at all"));
        Pkcs11::new(MODULE).unwrap().finalize().unwrap();
        store.token("akm");
        restart();
        let said = unavailability(element.derive(root(1), Label::Epoch, &[]));
        assert!(said.contains(&format!("plug in the one with serial {first}")), "{said}");
    });
}

#[test]
fn an_erased_root_is_missed_at_once_also_by_another_process() {
    alone("an_erased_root_is_missed_at_once_also_by_another_process", |store| {
        let mut element = create(&store.token("akm"));
        install(&mut element, root(1), [1; 32]).unwrap();
        assert_is(&mut element, root(1), [1; 32]);
        let intruder = Intruder::new("akm");
        intruder.session.destroy_object(intruder.one("akm root")).unwrap();
        assert_eq!(element.derive(root(1), Label::Epoch, &[]).unwrap_err(), ElementError::NoSuchRoot);
        install(&mut element, root(1), [2; 32]).unwrap();
        assert_is(&mut element, root(1), [2; 32]);
    });
}

#[test]
fn discarding_erases_what_is_akms_and_nothing_else() {
    alone("discarding_erases_what_is_akms_and_nothing_else", |store| {
        let text = store.token("akm");
        let mut element = create(&text);
        element.make_device_key().unwrap();
        install(&mut element, root(1), [1; 32]).unwrap();
        element.prepare().unwrap();
        let intruder = Intruder::new("akm");
        let template =
            [Attribute::Token(true), Attribute::Label(b"another's".to_vec()), Attribute::ValueLen(32.into())];
        intruder.session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
        for _ in 0..2 {
            Pkcs11Element::discard(&spec(&text), store.directory()).unwrap();
            let left = intruder.session.find_objects(&[Attribute::Token(true)]).unwrap();
            assert_eq!(left, intruder.labelled("another's"));
        }
        assert_eq!(element.derive(root(1), Label::Epoch, &[]).unwrap_err(), ElementError::NoSuchRoot);
    });
}

#[test]
fn debug_text_shows_no_secret() {
    alone("debug_text_shows_no_secret", |store| {
        let element = create(&store.token("akm"));
        let text = format!("{element:?}");
        assert!(text.starts_with("Pkcs11Element { spec: token=akm?") && !text.contains(PIN), "{text}");
    });
}
