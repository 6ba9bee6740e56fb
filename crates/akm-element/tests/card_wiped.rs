//! What wraps for cards wipes roots and static keys before it gives memory back.
#![cfg(feature = "card")]

#[path = "../../akm-core/tests/support/freed.rs"]
mod freed;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use akm_core::crypto::hash::sha256;
use akm_core::element::{Description, Protection, Root, RootCheck};
use akm_core::id::RelationshipId;
use akm_core::secret::Secret;
use akm_element::card::CardKeys;
use akm_element::{WrapKeys, wrap};
use freed::{check_wiped, record};

#[global_allocator]
static ALLOCATOR: freed::Keeping = freed::Keeping;

const SERIAL: &str = "SB-1";

fn key<const N: usize>(number: u8) -> [u8; N] {
    std::array::from_fn(|at| number.wrapping_mul(31).wrapping_add(at as u8))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tag 0107 of a card (`docs/card.md`), as `prepare` gives it.
fn material() -> Vec<u8> {
    let diversification = &sha256(&[SERIAL.as_bytes()])[..10];
    [b"AKMM\x01\x04", SERIAL.as_bytes(), diversification, &[0x30, 0x03, 0x70, 0, 0, 9]].concat()
}

/// All that a module does for a card.
fn wrap_one(file: &Path) {
    let keys = CardKeys::load(file, SERIAL).expect("a file of keys").expect("keys of this card");
    let keys = CardKeys::parse(&keys.emit()).expect("the same keys");
    let element = Description {
        kind: "card".into(),
        manufacturer: "Swissbit".into(),
        serial: SERIAL.into(),
        firmware: "AKM applet 1.0".into(),
        protection: Protection::Hardware,
        sealed: false,
        counter: true,
    };
    let name =
        Root::Relationship { id: RelationshipId::from_random([7; 16]), version: 1, check: RootCheck([0; 4]) };
    wrap(name, &Secret::take(&mut key(4)), &element, &material(), &WrapKeys { card: Some(keys) })
        .expect("wrapped");
}

#[test]
fn wrapping_leaves_neither_the_root_nor_static_keys_in_freed_memory() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("cards");
    let keys = [1, 2, 3].map(key::<16>);
    let words = keys.iter().map(|key| hex(key)).collect::<Vec<_>>();
    fs::write(&file, format!("# cards\n{SERIAL} 30 {}\n", words.join(" "))).expect("a file of keys");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
    let ((), freed) = record(|| wrap_one(&file));
    let mut secrets = vec![("the root".to_owned(), key::<32>(4).to_vec())];
    for (number, key) in keys.iter().enumerate() {
        secrets.push((format!("static key {number}"), key.to_vec()));
        secrets.push((format!("static key {number} as text"), hex(key).into_bytes()));
    }
    check_wiped(&freed, &secrets);
}
