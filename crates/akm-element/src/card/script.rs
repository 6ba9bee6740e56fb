//! What goes between a card's host and its module: what wrapping needs, and the script that brings a root in
//! (`docs/card.md`, section 7).

use akm_core::crypto::hash::sha256;
use akm_core::element::{Description, Root};
use akm_core::keys::element_function;
use akm_core::secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use super::applet::{AID, CHECK_LABEL, KEY_INFORMATION, NAME};
use super::keys::CardKeys;
use super::scp03::{Channel, LEVEL, SHORT, encrypt_cbc};
use crate::WrapError;

const MATERIAL_MAGIC: &[u8; 5] = b"AKMM\x01";
const SCRIPT_MAGIC: &[u8; 5] = b"AKMS\x01";

/// Bytes that the check of a script is made over.
pub(super) const NONCE: usize = 16;
/// Bytes of the check.
pub(super) const CHECK: usize = 32;
const STEPS: usize = 3;
const DIVERSIFICATION: usize = 10;
const SERIAL_MAX: usize = 32;

/// Commands that need an answer, and the only right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step<'a> {
    pub(super) command: &'a [u8],
    /// With the status word.
    pub(super) response: &'a [u8],
}

/// What wrapping needs: of which card, and what its key information and sequence counter are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Material<'a> {
    pub(super) serial: &'a str,
    pub(super) keys: &'a [u8; KEY_INFORMATION],
}

impl<'a> Material<'a> {
    pub(super) fn emit(&self) -> Vec<u8> {
        [&MATERIAL_MAGIC[..], &[self.serial.len() as u8], self.serial.as_bytes(), self.keys].concat()
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes.strip_prefix(MATERIAL_MAGIC)?);
        let serial = reader.serial()?;
        let keys = reader.array()?;
        reader.0.is_empty().then_some(Self { serial, keys })
    }

    /// What tells this card from others that may have the same keys.
    fn diversification(&self) -> &[u8] {
        &self.keys[..DIVERSIFICATION]
    }

    fn is_of_its_serial(&self) -> bool {
        self.diversification() == &sha256(&[self.serial.as_bytes()])[..DIVERSIFICATION]
    }

    fn version(&self) -> u8 {
        self.keys[10]
    }

    /// Whether the card speaks SCP03 with pseudo-random challenges and R-MAC.
    fn is_protocol_known(&self) -> bool {
        self.keys[11] == 0x03 && self.keys[12] & 0x30 == 0x30
    }

    fn sequence(&self) -> [u8; 3] {
        std::array::from_fn(|at| self.keys[13 + at])
    }
}

/// A script, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script<'a> {
    pub(super) name: &'a [u8; NAME],
    pub(super) serial: &'a str,
    pub(super) nonce: &'a [u8; NONCE],
    /// `F(root, "akm1 card", nonce)`.
    pub(super) check: &'a [u8; CHECK],
    /// Key information and sequence counter that it was made for.
    pub(super) keys: &'a [u8; KEY_INFORMATION],
    pub(super) steps: [Step<'a>; STEPS],
}

impl<'a> Script<'a> {
    /// Nothing in it is secret.
    pub(super) fn emit(&self) -> Vec<u8> {
        let mut script = [
            &SCRIPT_MAGIC[..],
            self.name,
            &[self.serial.len() as u8],
            self.serial.as_bytes(),
            self.nonce,
            self.check,
            self.keys,
        ]
        .concat();
        for part in self.steps.iter().flat_map(|step| [step.command, step.response]) {
            script.push(part.len() as u8);
            script.extend_from_slice(part);
        }
        script
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes.strip_prefix(SCRIPT_MAGIC)?);
        let name = reader.array()?;
        let serial = reader.serial()?;
        let nonce = reader.array()?;
        let check = reader.array()?;
        let keys = reader.array()?;
        let mut step = || {
            let command = reader.counted()?;
            let response = reader.counted()?;
            // A header and a status word at least, so that who plays it need not ask again.
            (command.len() >= 4 && response.len() >= 2).then_some(Step { command, response })
        };
        let steps = [step()?, step()?, step()?];
        reader.0.is_empty().then_some(Self { name, serial, nonce, check, keys, steps })
    }
}

/// Takes bytes apart from the front. `None` where there are too few.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let [length] = *self.array()?;
        self.take(usize::from(length))
    }

    fn serial(&mut self) -> Option<&'a str> {
        let serial = self.counted()?;
        let is_serial = (1..=SERIAL_MAX).contains(&serial.len()) && serial.iter().all(u8::is_ascii_graphic);
        std::str::from_utf8(serial).ok().filter(|_| is_serial)
    }
}

/// Wraps a root for a card, from what its `prepare` gave, under the static keys of that card: a script that its host plays.
/// Nothing in it is secret, and nothing tells the root.
pub fn wrap(
    name: Root,
    root: &Secret<32>,
    element: &Description,
    material: &[u8],
    keys: &CardKeys,
) -> Result<SecretBytes, WrapError> {
    let mut random = [0; SHORT + NONCE];
    getrandom::fill(&mut random).map_err(|_| WrapError::NoRandomness)?;
    wrap_with(name, root, element, material, keys, &random)
}

fn wrap_with(
    name: Root,
    root: &Secret<32>,
    element: &Description,
    material: &[u8],
    keys: &CardKeys,
    random: &[u8; SHORT + NONCE],
) -> Result<SecretBytes, WrapError> {
    let material = Material::parse(material)
        .filter(|material| {
            material.serial == element.serial && material.is_of_its_serial() && material.is_protocol_known()
        })
        .ok_or(WrapError::Material)?;
    if material.version() != keys.version {
        return Err(WrapError::OtherKeyVersion {
            serial: element.serial.clone(),
            needed: material.version(),
            given: keys.version,
        });
    }
    let name = name.name();
    let host_challenge = random.first_chunk::<SHORT>().expect("both are in it");
    let nonce = random.last_chunk::<NONCE>().expect("both are in it");
    let sequence = material.sequence();
    let mut channel = Channel::new(keys, &AID, host_challenge, &sequence);

    let update = [&[0x80, 0x50, keys.version, 0x00, SHORT as u8], &host_challenge[..], &[0x00]].concat();
    let updated = [
        &material.keys[..13],
        &channel.card_challenge(),
        &channel.card_cryptogram(),
        &sequence,
        &[0x90, 0x00],
    ]
    .concat();
    let authenticate = channel.authenticate(LEVEL);
    let mut plain = Zeroizing::new(Vec::with_capacity(DIVERSIFICATION + NAME + 32));
    plain.extend_from_slice(material.diversification());
    plain.extend_from_slice(&name);
    plain.extend_from_slice(root.expose());
    encrypt_cbc(&keys.data, &[0; 16], &mut plain[DIVERSIFICATION + NAME..]);
    let store = channel.secure([0x84, 0xe2, 0xa0, 0x00], &plain);
    let stored = [&channel.response_mac(&[], [0x90, 0x00])[..], &[0x90, 0x00]].concat();

    let check = element_function(root.expose(), CHECK_LABEL, nonce);
    let script = Script {
        name: &name,
        serial: material.serial,
        nonce,
        check: check.expose(),
        keys: material.keys,
        steps: [
            Step { command: &update, response: &updated },
            Step { command: &authenticate, response: &[0x90, 0x00] },
            Step { command: &store, response: &stored },
        ],
    };
    Ok(script.emit().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use akm_core::element::{Protection, RootCheck};
    use akm_core::id::RelationshipId;
    use proptest::prelude::*;

    /// Whole exchanges, computed by other software: `testing/card/tests/scp03.py`.
    const VECTORS: &str = include_str!("../../../../testing/card/tests/scp03.txt");

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn element(serial: &str) -> Description {
        Description {
            kind: "card".into(),
            manufacturer: "AKM simulated card".into(),
            serial: serial.into(),
            firmware: "x".into(),
            protection: Protection::Software,
            sealed: false,
            counter: true,
        }
    }

    fn keys() -> CardKeys {
        let key = |first: u8| Secret::fill(|out| *out = std::array::from_fn(|at| first + at as u8));
        CardKeys { version: 0x30, encryption: key(0x00), mac: key(0x10), data: key(0x20) }
    }

    const INFORMATION: [u8; KEY_INFORMATION] =
        [0xea, 0xb8, 0x45, 0xc9, 0x9e, 0x34, 0x0b, 0x03, 0xdd, 0xd1, 0x30, 0x03, 0x70, 0, 0, 0];

    fn root() -> Root {
        Root::Relationship { id: RelationshipId::from_random([7; 16]), version: 1, check: RootCheck([0; 4]) }
    }

    #[test]
    fn scripts_are_bit_for_bit_those_of_other_software() {
        let mut values = std::collections::HashMap::new();
        let mut compared = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#') && !line.starts_with("SIM-")) {
            let (word, value) = line.split_once(' ').unwrap();
            values.insert(word, hex(value));
            if word != "f" {
                continue;
            }
            let mut information = INFORMATION;
            information[13..].copy_from_slice(&values["sequence"]);
            let material = Material { serial: "SIM-0001", keys: &information }.emit();
            let name = &values["name"];
            let name = Root::of_name(name).unwrap();
            let key = Secret::copy_from(&values["root"]).unwrap();
            let mut random = [0; SHORT + NONCE];
            random[..SHORT].copy_from_slice(&values["challenge"]);
            random[SHORT..].copy_from_slice(&std::array::from_fn::<u8, NONCE, _>(|at| at as u8));
            let script = wrap_with(name, &key, &element("SIM-0001"), &material, &keys(), &random).unwrap();
            let script = Script::parse(script.expose()).unwrap();
            assert_eq!(script.check[..], values["f"]);
            assert_eq!(
                script.steps,
                [
                    Step { command: &values["update"], response: &values["updated"] },
                    Step { command: &values["authenticate"], response: &[0x90, 0x00] },
                    Step { command: &values["store"], response: &values["stored"] },
                ]
            );
            compared += 1;
        }
        assert_eq!(compared, 3);
    }

    #[test]
    fn a_script_needs_the_material_and_the_keys_of_its_card() {
        let key = Secret::take(&mut [1; 32]);
        let material = Material { serial: "SIM-0001", keys: &INFORMATION }.emit();
        let wrap = |name, serial: &str, material: &[u8], keys: &CardKeys| {
            wrap(name, &key, &element(serial), material, keys).map(drop)
        };
        assert_eq!(wrap(root(), "SIM-0001", &material, &keys()), Ok(()));
        assert_eq!(wrap(root(), "SIM-0002", &material, &keys()), Err(WrapError::Material));
        for (at, value) in [(0, 0xeb), (11, 0x02), (12, 0x60), (12, 0x10)] {
            let mut other = INFORMATION;
            other[at] = value;
            let material = Material { serial: "SIM-0001", keys: &other }.emit();
            assert_eq!(wrap(root(), "SIM-0001", &material, &keys()), Err(WrapError::Material), "{at}");
        }
        let mut other = keys();
        other.version = 0x31;
        let refused = wrap(root(), "SIM-0001", &material, &other).unwrap_err().to_string();
        assert!(refused.starts_with("card SIM-0001 has keys of version 0x30"), "{refused}");
    }

    #[test]
    fn a_script_shows_neither_root_nor_keys() {
        let key = Secret::fill(|out| *out = std::array::from_fn(|at| 0xc0 + at as u8));
        let material = Material { serial: "SIM-0001", keys: &INFORMATION }.emit();
        let script = wrap(root(), &key, &element("SIM-0001"), &material, &keys()).unwrap();
        let script: &[u8] = script.expose();
        for first in [0xc0, 0xc8, 0xd0, 0xd8, 0x00, 0x10, 0x20] {
            let secret: [u8; 4] = std::array::from_fn(|at| first + at as u8);
            assert!(!script.windows(4).any(|bytes| bytes == secret), "{secret:x?}");
        }
    }

    #[test]
    fn what_is_cut_short_or_longer_is_no_script_and_no_material() {
        let key = Secret::take(&mut [1; 32]);
        let material = Material { serial: "SIM-0001", keys: &INFORMATION }.emit();
        let script = wrap(root(), &key, &element("SIM-0001"), &material, &keys()).unwrap();
        for length in 0..script.len() {
            assert!(Script::parse(&script.expose()[..length]).is_none(), "{length}");
        }
        assert!(Script::parse(&[script.expose(), &[0]].concat()).is_none());
        for length in 0..material.len() {
            assert!(Material::parse(&material[..length]).is_none(), "{length}");
        }
        assert!(Material::parse(&[&material[..], &[0]].concat()).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_parsing_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Material::parse(&[MATERIAL_MAGIC, &bytes[..]].concat());
            let _ = Script::parse(&[SCRIPT_MAGIC, &bytes[..]].concat());
        }
    }
}
