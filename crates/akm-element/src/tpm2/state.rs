//! What AKM keeps on the disk beside a TPM: which TPM it is, and the roots as only that TPM can load them.
//!
//! ```text
//! header    CBOR map {0: "akm tpm element", 1: format}
//! content   CBOR map {0: public area of the storage key, 1: of the endorsement key, 2: PCRs, 3: [index of the
//!           counter, authorisation, made], ? 4: device key, 5: [* [relationship, version, root]]}
//!           device key and root: [public area, private area, authorisation]
//! SHA-256 of all that precedes  32 bytes
//! ```
//!
//! The checksum recognises accidents. The authorisations are in clear: they keep other programs on the way to
//! the TPM out, not somebody who reads this file.

use std::collections::BTreeMap;

use akm_core::cbor::{Malformed, WriteResult, read_array, read_bytes, read_map_from, write_sized};
use akm_core::crypto::hash::sha256;
use akm_core::element::Root;
#[cfg(any(test, feature = "fuzzing"))]
use akm_core::element::RootCheck;
#[cfg(any(test, feature = "fuzzing"))]
use akm_core::id::RelationshipId;
use akm_core::secret::Secret;
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use super::spec::Pcrs;
use super::template::{EccKey, EccRole};
use crate::roots::{read_roots, write_roots};

const NAME: &str = "akm tpm element";
const FORMAT: u32 = 1;
const CHECKSUM_LENGTH: usize = 32;

/// Longest public or private area that is taken from the file.
const AREA_LENGTH_MAX: usize = 1024;

/// Room for header, keys, counter and checksum.
const FIXED_LENGTH_MAX: usize = 1024;

/// Room for the heads, identifier, version and authorisation of one root.
const ROOT_LENGTH_MAX: usize = 80;

const STORAGE: u8 = 0;
const ENDORSEMENT: u8 = 1;
const PCRS: u8 = 2;
const COUNTER: u8 = 3;
const DEVICE_KEY: u8 = 4;
const ROOTS: u8 = 5;

/// Why bytes are not such a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InvalidState {
    /// The checksum or the form is wrong.
    Damaged,
    /// Whole, and of a format that this program does not know.
    Format(u32),
}

impl From<Malformed> for InvalidState {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

impl From<minicbor::decode::Error> for InvalidState {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Damaged
    }
}

/// The NV counter.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) index: u32,
    pub(super) authorisation: Secret<32>,
    /// Whether it is certain that the index is there, is AKM's, and has counted once.
    pub(super) is_made: bool,
}

/// A root as the TPM gave it out: only under its storage key can it be loaded.
#[derive(Debug)]
pub(super) struct HeldRoot {
    pub(super) public: Vec<u8>,
    pub(super) private: Vec<u8>,
    pub(super) authorisation: Secret<32>,
}

impl HeldRoot {
    fn duplicate(&self) -> Self {
        Self {
            public: self.public.clone(),
            private: self.private.clone(),
            authorisation: self.authorisation.duplicate(),
        }
    }
}

/// The content of the file.
#[derive(Debug)]
pub(super) struct State {
    pub(super) storage: EccKey,
    pub(super) endorsement: EccKey,
    pub(super) pcrs: Pcrs,
    pub(super) counter: Counter,
    pub(super) roots: BTreeMap<Root, HeldRoot>,
}

impl State {
    /// A second copy, on which a change is made while the first still stands.
    pub(super) fn duplicate(&self) -> Self {
        Self {
            storage: self.storage.clone(),
            endorsement: self.endorsement.clone(),
            pcrs: self.pcrs,
            counter: Counter {
                index: self.counter.index,
                authorisation: self.counter.authorisation.duplicate(),
                is_made: self.counter.is_made,
            },
            roots: self.roots.iter().map(|(root, held)| (*root, held.duplicate())).collect(),
        }
    }

    /// The whole file. Equal contents make equal bytes.
    pub(super) fn emit(&self) -> Zeroizing<Vec<u8>> {
        let roots: usize =
            self.roots.values().map(|held| ROOT_LENGTH_MAX + held.public.len() + held.private.len()).sum();
        let most = FIXED_LENGTH_MAX + roots;
        let mut bytes = Zeroizing::new(write_sized(most, |encoder| self.write(encoder)));
        let checksum = sha256(&[&bytes]);
        bytes.extend_from_slice(&checksum);
        debug_assert!(bytes.len() <= most);
        bytes
    }

    fn write(&self, encoder: &mut Encoder<&mut Vec<u8>>) -> WriteResult {
        encoder.map(2)?.u8(0)?.str(NAME)?.u8(1)?.u32(FORMAT)?;
        let device_key = self.roots.get(&Root::Device);
        encoder.map(if device_key.is_some() { 6 } else { 5 })?;
        encoder.u8(STORAGE)?.bytes(&self.storage.public)?;
        encoder.u8(ENDORSEMENT)?.bytes(&self.endorsement.public)?;
        encoder.u8(PCRS)?.bytes(&self.pcrs.as_bytes())?;
        encoder.u8(COUNTER)?.array(3)?.u32(self.counter.index)?;
        encoder.bytes(self.counter.authorisation.expose())?.bool(self.counter.is_made)?;
        if let Some(held) = device_key {
            write_held(encoder.u8(DEVICE_KEY)?, held)?;
        }
        write_roots(encoder.u8(ROOTS)?, &self.roots, write_held)
    }

    /// Reads what [`State::emit`] made, and nothing else.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, InvalidState> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_LENGTH>().ok_or(InvalidState::Damaged)?;
        if sha256(&[content]) != *checksum {
            return Err(InvalidState::Damaged);
        }
        let mut decoder = Decoder::new(content);
        let format = read_header(&mut decoder)?;
        if format != FORMAT {
            return Err(InvalidState::Format(format));
        }
        let mut storage = None;
        let mut endorsement = None;
        let mut pcrs = None;
        let mut counter = None;
        let mut device_key = None;
        let mut roots = None;
        read_map_from(&mut decoder, |key, decoder| {
            match key {
                STORAGE => storage = Some(read_key(EccRole::Storage, decoder)?),
                ENDORSEMENT => endorsement = Some(read_key(EccRole::Endorsement, decoder)?),
                PCRS => pcrs = Some(Pcrs::from_bytes(read_bytes(decoder)?)),
                COUNTER => counter = Some(read_counter(decoder)?),
                DEVICE_KEY => device_key = Some(read_held(decoder)?),
                ROOTS => roots = Some(read_roots(decoder, content.len(), read_held)?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let mut roots = roots.ok_or(Malformed)?;
        if let Some(held) = device_key {
            roots.insert(Root::Device, held);
        }
        let state = Self {
            storage: storage.ok_or(Malformed)?,
            endorsement: endorsement.ok_or(Malformed)?,
            pcrs: pcrs.ok_or(Malformed)?,
            counter: counter.ok_or(Malformed)?,
            roots,
        };
        // Other spellings of the same content are not ours.
        if state.emit()[..] == *bytes { Ok(state) } else { Err(InvalidState::Damaged) }
    }
}

fn write_held(encoder: &mut Encoder<&mut Vec<u8>>, held: &HeldRoot) -> WriteResult {
    encoder.array(3)?.bytes(&held.public)?.bytes(&held.private)?;
    encoder.bytes(held.authorisation.expose())?;
    Ok(())
}

fn read_header(decoder: &mut Decoder<'_>) -> Result<u32, Malformed> {
    let mut is_ours = false;
    let mut format = None;
    read_map_from(decoder, |key, decoder| {
        match key {
            0 => is_ours = decoder.str()? == NAME,
            1 => format = Some(decoder.u32()?),
            _ => decoder.skip()?,
        }
        Ok(())
    })?;
    format.filter(|_| is_ours).ok_or(Malformed)
}

fn read_key(role: EccRole, decoder: &mut Decoder<'_>) -> Result<EccKey, Malformed> {
    role.parse(decoder.bytes()?).map_err(|_| Malformed)
}

fn read_counter(decoder: &mut Decoder<'_>) -> Result<Counter, Malformed> {
    if read_array(decoder, 3)? != 3 {
        return Err(Malformed);
    }
    let index = decoder.u32()?;
    Ok(Counter { index, authorisation: read_authorisation(decoder)?, is_made: decoder.bool()? })
}

fn read_held(decoder: &mut Decoder<'_>) -> Result<HeldRoot, Malformed> {
    if read_array(decoder, 3)? != 3 {
        return Err(Malformed);
    }
    let mut area = || -> Result<Vec<u8>, Malformed> {
        let area = decoder.bytes()?;
        if area.len() <= AREA_LENGTH_MAX { Ok(area.to_vec()) } else { Err(Malformed) }
    };
    let (public, private) = (area()?, area()?);
    Ok(HeldRoot { public, private, authorisation: read_authorisation(decoder)? })
}

fn read_authorisation(decoder: &mut Decoder<'_>) -> Result<Secret<32>, Malformed> {
    Secret::copy_from(decoder.bytes()?).ok_or(Malformed)
}

/// A content with roots whose areas are this long, and with a device key if the counter is made.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn sample(index: u32, is_made: bool, lengths: &[usize]) -> State {
    let held = |length: usize| HeldRoot {
        public: vec![1; length],
        private: vec![2; length],
        authorisation: Secret::take(&mut [3; 32]),
    };
    let mut roots: BTreeMap<Root, HeldRoot> = lengths
        .iter()
        .enumerate()
        .map(|(at, length)| {
            let id = RelationshipId::from_random([at as u8; 16]);
            (
                Root::Relationship { id, version: u32::MAX - at as u32, check: RootCheck([0; 4]) },
                held(*length),
            )
        })
        .collect();
    if is_made {
        roots.insert(Root::Device, held(200));
    }
    let key = |role: EccRole| role.parse(&role.template()).expect("a template is a public area");
    State {
        storage: key(EccRole::Storage),
        endorsement: key(EccRole::Endorsement),
        pcrs: Pcrs::from_bytes([1, 2, 3]),
        counter: Counter { index, authorisation: Secret::take(&mut [4; 32]), is_made },
        roots,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes with a right checksum again.
    fn resealed(mut content: Vec<u8>) -> Vec<u8> {
        let checksum = sha256(&[&content]);
        content.extend_from_slice(&checksum);
        content
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_read_back(
            index: u32,
            is_made: bool,
            lengths in prop::collection::vec(0..AREA_LENGTH_MAX, 0..8),
        ) {
            let emitted = sample(index, is_made, &lengths).emit();
            let read = State::parse(&emitted).unwrap();
            prop_assert_eq!(read.counter.index, index);
            prop_assert_eq!(read.roots.len(), lengths.len() + usize::from(is_made));
            prop_assert_eq!(&*read.duplicate().emit(), &*emitted);
        }

        #[test]
        fn any_content_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = State::parse(&bytes);
            let _ = State::parse(&resealed(bytes));
        }

        #[test]
        fn a_content_altered_under_a_right_checksum_is_read_without_a_panic(at: prop::sample::Index, byte: u8) {
            let emitted = sample(7, true, &[9]).emit();
            let mut content = emitted[..emitted.len() - CHECKSUM_LENGTH].to_vec();
            let at = at.index(content.len());
            content[at] = byte;
            let _ = State::parse(&resealed(content));
        }
    }

    #[test]
    fn a_file_cut_short_followed_by_more_or_with_another_bit_is_damaged() {
        let emitted = sample(5, true, &[20, 30]).emit();
        for length in 0..emitted.len() {
            assert_eq!(State::parse(&emitted[..length]).unwrap_err(), InvalidState::Damaged, "{length}");
            let mut altered = emitted.to_vec();
            altered[length] ^= 1;
            assert_eq!(State::parse(&altered).unwrap_err(), InvalidState::Damaged, "{length}");
        }
        let mut longer = emitted.to_vec();
        longer.push(0);
        assert!(State::parse(&longer).is_err());
    }

    #[test]
    fn a_format_that_is_not_known_is_told_apart_from_damage() {
        let later = akm_core::cbor::write(|encoder| {
            encoder.map(3)?.u8(0)?.str(NAME)?.u8(1)?.u32(2)?.u8(2)?.str("more")?;
            Ok(())
        });
        assert_eq!(State::parse(&resealed(later)).unwrap_err(), InvalidState::Format(2));
    }
}
