//! What a software element holds, and its CBOR.

use std::collections::BTreeMap;

use akm_core::cbor::{Malformed, WriteResult, read_bytes, read_map};
use akm_core::element::{ROOT_NAME_LENGTH, Root};
use akm_core::secret::Secret;
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::roots::{read_roots, write_roots};

/// Length of the serial number in bytes.
pub(super) const SERIAL_LENGTH: usize = 16;

/// Longest encoding of one root: head, name, key.
const ROOT_LENGTH_MAX: usize = 1 + 2 + ROOT_NAME_LENGTH + 34;

/// Longest encoding of all else.
const FIXED_LENGTH_MAX: usize = 128;

const SERIAL: u8 = 0;
const COUNTER: u8 = 1;
const DEVICE_KEY: u8 = 2;
const ROOTS: u8 = 3;

/// Serial number, counter and roots. The device key is among the roots once it is made.
pub(super) struct Content {
    pub(super) serial: [u8; SERIAL_LENGTH],
    pub(super) counter: u64,
    pub(super) roots: BTreeMap<Root, Secret<32>>,
}

impl Content {
    /// The content of an element that nobody has used yet.
    pub(super) fn new(serial: [u8; SERIAL_LENGTH]) -> Self {
        Self { serial, counter: 0, roots: BTreeMap::new() }
    }

    /// A second copy, on which a change is made while the first still stands.
    pub(super) fn duplicate(&self) -> Self {
        let roots = self.roots.iter().map(|(root, key)| (*root, key.duplicate())).collect();
        Self { serial: self.serial, counter: self.counter, roots }
    }

    /// The content as it is stored: `{0: serial, 1: counter, ? 2: device key, 3: [* [name,
    /// root]]}`, ascending. Equal contents make equal bytes.
    pub(super) fn emit(&self) -> Zeroizing<Vec<u8>> {
        let most = FIXED_LENGTH_MAX + ROOT_LENGTH_MAX * self.roots.len();
        // Never grown: a vector that moves leaves a copy of the keys behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(most));
        self.write(&mut Encoder::new(&mut *bytes)).expect("writing to a vector cannot fail");
        debug_assert!(bytes.len() <= most);
        bytes
    }

    fn write(&self, encoder: &mut Encoder<&mut Vec<u8>>) -> WriteResult {
        let device_key = self.roots.get(&Root::Device);
        encoder.map(if device_key.is_some() { 4 } else { 3 })?;
        encoder.u8(SERIAL)?.bytes(&self.serial)?;
        encoder.u8(COUNTER)?.u64(self.counter)?;
        if let Some(key) = device_key {
            encoder.u8(DEVICE_KEY)?.bytes(key.expose())?;
        }
        write_roots(encoder.u8(ROOTS)?, &self.roots, |encoder, key| {
            encoder.bytes(key.expose())?;
            Ok(())
        })
    }

    /// Reads what [`Content::emit`] made, and nothing else.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut serial = None;
        let mut counter = None;
        let mut roots = None;
        let mut device_key = None;
        read_map(bytes, |key, decoder| {
            match key {
                SERIAL => serial = Some(read_bytes(decoder)?),
                COUNTER => counter = Some(decoder.u64()?),
                DEVICE_KEY => device_key = Some(read_key(decoder)?),
                ROOTS => roots = Some(read_roots(decoder, bytes.len(), read_key)?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let mut roots = roots.ok_or(Malformed)?;
        if let Some(key) = device_key {
            roots.insert(Root::Device, key);
        }
        let content = Self { serial: serial.ok_or(Malformed)?, counter: counter.ok_or(Malformed)?, roots };
        // Other spellings of the same content, such as roots in another order, are not ours.
        if content.emit()[..] == *bytes { Ok(content) } else { Err(Malformed) }
    }
}

fn read_key(decoder: &mut Decoder<'_>) -> Result<Secret<32>, Malformed> {
    Secret::copy_from(decoder.bytes()?).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use akm_core::element::RootCheck;
    use akm_core::id::RelationshipId;
    use proptest::prelude::*;

    use super::*;

    fn content(counter: u64, device: bool, versions: &[u32]) -> Content {
        let mut content = Content::new([7; SERIAL_LENGTH]);
        content.counter = counter;
        if device {
            content.roots.insert(Root::Device, Secret::take(&mut [9; 32]));
        }
        for version in versions {
            let id = RelationshipId::from_random([*version as u8; 16]);
            let check = RootCheck([*version as u8; 4]);
            content
                .roots
                .insert(Root::Relationship { id, version: *version, check }, Secret::take(&mut [3; 32]));
        }
        content
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_read_back(
            counter: u64,
            device: bool,
            versions in prop::collection::vec(any::<u32>(), 0..20),
        ) {
            let emitted = content(counter, device, &versions).emit();
            let read = Content::parse(&emitted).ok().unwrap();
            prop_assert_eq!(read.counter, counter);
            prop_assert_eq!(&*read.emit(), &*emitted);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Content::parse(&bytes);
        }
    }

    #[test]
    fn an_emitted_content_fits_the_room_that_was_made_for_it() {
        let content = content(u64::MAX, true, &(u32::MAX - 300..=u32::MAX).collect::<Vec<_>>());
        let emitted = content.emit();
        assert_eq!(emitted.capacity(), FIXED_LENGTH_MAX + ROOT_LENGTH_MAX * content.roots.len());
    }

    #[test]
    fn content_cut_short_or_followed_by_more_is_refused() {
        let emitted = content(5, true, &[1, 2]).emit();
        for length in 0..emitted.len() {
            assert!(Content::parse(&emitted[..length]).is_err(), "{length}");
        }
        let mut longer = emitted.to_vec();
        longer.push(0);
        assert!(Content::parse(&longer).is_err());
    }
}
