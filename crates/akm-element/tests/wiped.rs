//! Elements wipe what is secret before they give memory back.
#![cfg(feature = "software")]

#[path = "../../akm-core/tests/support/freed.rs"]
mod freed;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use akm_core::element::{Label, MonotonicCounter, ProvisionableElement, Root, RootCheck, SecureElement};
use akm_core::id::RelationshipId;
use akm_core::secret::Secret;
use akm_element::software::{SoftwareElement, wrap_for_software};
use freed::{check_wiped, record};

#[global_allocator]
static ALLOCATOR: freed::Keeping = freed::Keeping;

const PASSPHRASE: &[u8] = b"correct horse battery staple";

fn root(number: u8) -> Root {
    Root::Relationship { id: RelationshipId::from_random([number; 16]), version: 1, check: RootCheck([0; 4]) }
}

fn key(number: u8) -> [u8; 32] {
    std::array::from_fn(|at| number.wrapping_mul(31).wrapping_add(at as u8))
}

/// Everything that an element does, over two lives.
fn live(state: &Path, passphrase_file: Option<&Path>) {
    let mut element = SoftwareElement::create(state, passphrase_file).expect("an element");
    element.make_device_key().expect("a device key");
    for number in 1..=4 {
        let wrapped = wrap_for_software(&Secret::take(&mut key(number)));
        element.install(root(number), wrapped.expose()).expect("a root");
    }
    drop(element);
    let mut element = SoftwareElement::open(state, passphrase_file).expect("the element");
    element.count_up().expect("the counter");
    for root in [root(1), Root::Device] {
        element.derive(root, Label::Seal, &[7; 8]).expect("a value");
    }
    element.erase(root(2)).expect("erased");
    element.install(root(1), &[0; 32]).expect_err("another root under the same name");
}

#[test]
fn the_recorder_finds_what_was_not_wiped() {
    freed::check_itself();
}

#[test]
fn an_element_leaves_neither_roots_nor_its_passphrase_in_freed_memory() {
    for is_sealed in [false, true] {
        let place = tempfile::tempdir().expect("a directory");
        let passphrase_file = place.path().join("passphrase");
        fs::write(&passphrase_file, PASSPHRASE).expect("a passphrase");
        fs::set_permissions(&passphrase_file, fs::Permissions::from_mode(0o600)).expect("its mode");
        let ((), freed) = record(|| live(place.path(), is_sealed.then_some(passphrase_file.as_path())));
        let mut secrets: Vec<_> =
            (1..=4).map(|number| (format!("root {number}"), key(number).to_vec())).collect();
        secrets.push(("the passphrase".to_owned(), PASSPHRASE.to_vec()));
        if !is_sealed {
            let file = fs::read(place.path().join("element")).expect("the element");
            let at = file.windows(3).position(|head| head == [2, 0x58, 0x20]).expect("a device key");
            secrets.push(("the device key".to_owned(), file[at + 3..at + 35].to_vec()));
        }
        check_wiped(&freed, &secrets);
    }
}

#[cfg(feature = "tpm2")]
#[test]
fn a_tpm_leaves_neither_roots_nor_what_is_derived_in_freed_memory() {
    let swtpm = akm_counterparts::swtpm::Swtpm::start();
    let place = tempfile::tempdir().expect("a directory");
    let spec: akm_element::ElementSpec = swtpm.spec().parse().expect("a spec");
    let mut derived = Vec::with_capacity(64);
    let ((), freed) = record(|| {
        let mut element = spec.create(place.path()).expect("an element");
        element.make_device_key().expect("a device key");
        let material = element.prepare().expect("its keys");
        let wrapped =
            akm_element::tpm2::wrap(root(1), &Secret::take(&mut key(1)), &element.description(), &material)
                .expect("a wrapped root");
        element.install(root(1), wrapped.expose()).expect("a root");
        for root in [root(1), Root::Device] {
            let value = element.derive(root, Label::Seal, &[7; 8]).expect("a value");
            derived.extend_from_slice(value.expose());
        }
    });
    let secrets = [
        ("root 1".to_owned(), key(1).to_vec()),
        ("a value of root 1".to_owned(), derived[..32].to_vec()),
        ("a value of the device key".to_owned(), derived[32..].to_vec()),
    ];
    check_wiped(&freed, &secrets);
}
