//! What is sealed: the places of a node, and the vault of the module. The reader of the plaintext is
//! reached by sealing the input.

use std::sync::LazyLock;

use akm_core::crypto::{PORTABLE, Suite};
use akm_core::element::{ElementError, Label, Root, SecureElement};
use akm_core::keys::{PlaceSeal, SEALED_PLACE_PREFIX, element_function, sealed_start};
use akm_core::secret::Secret;
use akm_core::tree::Place;
use akm_provision::fuzzing::{Vault, reread_vault_file};

use crate::memory::within;
use crate::reader::Reader;

const DIGEST: [u8; 32] = [4; 32];
const START: u64 = 3;

struct DeviceKey;

impl SecureElement for DeviceKey {
    fn derive(&mut self, _: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        Ok(element_function(&[0x33; 32], label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        out.fill(1);
        Ok(())
    }
}

fn seal_of(start: u64) -> PlaceSeal {
    PlaceSeal::derive(&mut DeviceKey, start).expect("this element always answers")
}

/// The first byte chooses what is altered; the rest is the record as it stands on the disk, and the encoded
/// place that is sealed.
pub fn place(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let (at, bit) = (usize::from(reader.u8()), reader.u8() % 8);
    let bytes = reader.rest();
    let seal = seal_of(START);
    let opened = |record: &[u8]| {
        within(4, record.len(), || seal.open(PORTABLE, Suite::ChaCha20Poly1305, &DIGEST, record))
    };
    assert!(opened(bytes).is_err(), "opened what nobody sealed");
    assert_eq!(sealed_start(bytes).is_some(), bytes.len() >= 8);

    let mut record = seal.seal(PORTABLE, Suite::ChaCha20Poly1305, &DIGEST, &[7; 16], bytes);
    assert_eq!(sealed_start(&record), Some(START));
    let plain = opened(&record).expect("it was sealed so");
    assert_eq!(plain.expose()[..], *bytes);
    let at = at * 256 % record.len() + at % record.len().min(SEALED_PLACE_PREFIX);
    let at = at % record.len();
    record[at] ^= 1 << bit;
    assert!(opened(&record).is_err(), "opened although byte {at} is another");
    let other = seal_of(START + 1);
    record[at] ^= 1 << bit;
    assert!(other.open(PORTABLE, Suite::ChaCha20Poly1305, &DIGEST, &record).is_err(), "of another start");
    match Place::parse(plain.expose()) {
        Ok(place) => {
            assert_eq!(place.emit().expose()[..], *bytes);
            true
        }
        Err(_) => false,
    }
}

pub fn place_seeds() -> Vec<Vec<u8>> {
    let before = || Place::before_first(0, Secret::fill(|root| root.fill(9)));
    let at = |epoch| before().at(epoch).expect("it is ahead");
    [before(), at(5), at(u32::MAX - 1)]
        .iter()
        .map(|place| [&[9, 1][..], place.emit().expose()].concat())
        .collect()
}

static VAULT: LazyLock<Vault> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    Vault::create_with_key_file(&home.path().join("home")).expect("a vault can be made there")
});

/// The text of `vault.json`; also sealed as a secret column, opened, altered.
pub fn vault_file(bytes: &[u8]) -> bool {
    let mut sealed = VAULT.seal("row 1", bytes).expect("the system gives random bytes");
    assert_eq!(VAULT.open_sealed("row 1", &sealed).expect("it was sealed so")[..], *bytes);
    assert!(VAULT.open_sealed("row 2", &sealed).is_err(), "opened in another row");
    assert!(VAULT.open_sealed("row 1", bytes).is_err(), "opened what nobody sealed");
    let at = bytes.len() * 7 % sealed.len();
    sealed[at] ^= 1;
    assert!(VAULT.open_sealed("row 1", &sealed).is_err(), "opened although byte {at} is another");

    let Some((text, memory)) = within(64, bytes.len(), || reread_vault_file(bytes)) else { return false };
    assert_eq!(reread_vault_file(&text), Some((text.clone(), memory)));
    assert!(memory <= 4 * 1024 * 1024);
    true
}

pub fn vault_file_seeds() -> Vec<Vec<u8>> {
    let key = "AQ".to_owned() + &"A".repeat(96) + "==";
    [8, 65_536]
        .map(|memory| {
            format!(r#"{{"version":1,"derivation":"argon2id","memory_kib":{memory},"passes":3,"lanes":1,"#)
                + &format!(r#""salt":"AAAAAAAAAAAAAAAAAAAAAA==","sealed_key":"{key}"}}"#)
        })
        .map(String::into_bytes)
        .to_vec()
}
