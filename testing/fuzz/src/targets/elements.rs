//! What is kept beside a TPM, and what travels between a token or a card and the module. Whoever controls a node's host
//! gives the module what it likes for material.

use akm_core::element::{Description, Protection, Root, RootCheck};
use akm_core::id::RelationshipId;
use akm_core::secret::Secret;
use akm_element::{WrapError, WrapKeys, card, pkcs11, tpm2, wrap};

use super::records::{with_sum, without_sum};
use crate::cbor::check_reread;
use crate::memory::within;

/// A list of roots is larger in memory than on the disk, each in places of its own.
const EXPANSION: usize = 64;

const SERIAL: &str = "SIM-0001";

fn root() -> Root {
    Root::Relationship { id: RelationshipId::from_random([7; 16]), version: 3, check: RootCheck([0; 4]) }
}

fn wrapped(kind: &str, serial: &str, material: &[u8]) -> Result<Vec<u8>, WrapError> {
    let element = Description {
        kind: kind.to_owned(),
        manufacturer: "M".to_owned(),
        serial: serial.to_owned(),
        firmware: "1".to_owned(),
        protection: Protection::Hardware,
        sealed: true,
        counter: true,
    };
    let keys = WrapKeys { card: (kind == "card").then(card::fuzzing::keys) };
    let wrapped = wrap(root(), &Secret::take(&mut [0xa5; 32]), &element, material, &keys)?;
    assert!(!wrapped.expose().windows(8).any(|part| part == [0xa5; 8]), "the root stands in what wraps it");
    Ok(wrapped.expose().to_vec())
}

/// The file beside a TPM is read in one encoding only, and with its SHA-256.
pub fn tpm_state(content: &[u8]) -> bool {
    let file = with_sum(content);
    if without_sum_is_wrong(content) {
        assert!(tpm2::fuzzing::reread_state(content).is_none(), "read a file without its SHA-256");
    }
    let Some(emitted) = within(EXPANSION, file.len(), || tpm2::fuzzing::reread_state(&file)) else {
        return false;
    };
    assert_eq!(emitted[..], file[..]);
    true
}

fn without_sum_is_wrong(content: &[u8]) -> bool {
    content.len() < 32 || with_sum(&content[..content.len() - 32]) != content
}

pub fn tpm_state_seeds() -> Vec<Vec<u8>> {
    [(0x0180_4b00, false, &[][..]), (0x0180_4b01, true, &[86, 200])]
        .into_iter()
        .map(|(index, is_made, lengths)| {
            without_sum(tpm2::fuzzing::emit_state(index, is_made, lengths).to_vec())
        })
        .collect()
}

/// The first byte chooses what a token gives, for which a root is then wrapped, or a wrapped root.
pub fn token_material(bytes: &[u8]) -> bool {
    let Some((which, bytes)) = bytes.split_first() else { return false };
    match which {
        0 => {
            let Some(emitted) = within(EXPANSION, bytes.len(), || pkcs11::fuzzing::reread_material(bytes))
            else {
                return false;
            };
            check_reread(bytes, &emitted);
            assert_eq!(emitted, bytes);
            if let Ok(wrapped) = wrapped("pkcs11", SERIAL, bytes) {
                let (length, again) =
                    pkcs11::fuzzing::reread_wrapped(&wrapped).expect("what is wrapped is read");
                assert!((256..=1024).contains(&length), "a ciphertext of {length} bytes");
                assert_eq!(again, wrapped);
            }
            true
        }
        1 => {
            let Some((_, emitted)) =
                within(EXPANSION, bytes.len(), || pkcs11::fuzzing::reread_wrapped(bytes))
            else {
                return false;
            };
            check_reread(bytes, &emitted);
            assert_eq!(emitted, bytes);
            true
        }
        _ => false,
    }
}

pub fn token_material_seeds() -> Vec<Vec<u8>> {
    let modulus = [&[0xc5][..], &[0x3b; 254], &[0x71]].concat();
    let materials = pkcs11::fuzzing::emit_material(&modulus, &[1, 0, 1]);
    let wrapped = wrapped("pkcs11", SERIAL, &materials[0]).expect("a token's key");
    let materials = materials.into_iter().map(|material| [&[0], &material[..]].concat());
    materials.chain([[&[1], &wrapped[..]].concat()]).collect()
}

/// The first byte chooses a script, or what a card gives, for which a root is then wrapped.
pub fn card_script(bytes: &[u8]) -> bool {
    let Some((which, bytes)) = bytes.split_first() else { return false };
    match which {
        0 => {
            let Some(emitted) = within(EXPANSION, bytes.len(), || card::fuzzing::reread_script(bytes)) else {
                return false;
            };
            assert_eq!(emitted, bytes);
            true
        }
        1 => {
            let Some((serial, emitted)) =
                within(EXPANSION, bytes.len(), || card::fuzzing::reread_material(bytes))
            else {
                return false;
            };
            assert_eq!(emitted, bytes);
            assert!(wrapped("card", "another", bytes).is_err() || serial == "another");
            if let Ok(script) = wrapped("card", serial, bytes) {
                assert_eq!(card::fuzzing::reread_script(&script), Some(script));
            }
            true
        }
        _ => false,
    }
}

pub fn card_script_seeds() -> Vec<Vec<u8>> {
    let materials = [(SERIAL, [0, 0, 0]), ("0001", [0xff, 0xff, 0xfe])]
        .map(|(serial, sequence)| (serial, card::fuzzing::emit_material(serial, sequence)));
    let scripts = materials.iter().map(|(serial, material)| {
        [&[0], &wrapped("card", serial, material).expect("a card's material")[..]].concat()
    });
    scripts.chain(materials.iter().map(|(_, material)| [&[1], &material[..]].concat())).collect()
}
