//! The one shape of all our CBOR (RFC 8949): maps with ascending integer keys, definite lengths.

use alloc::vec::Vec;

use minicbor::decode::Error;
use minicbor::{Decoder, Encoder};

use crate::secret::SecretBytes;

/// The bytes are not the message that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub struct Malformed;

impl From<Error> for Malformed {
    fn from(_: Error) -> Self {
        Self
    }
}

/// Reads one map and nothing after it. `field` takes the value of each key and refuses unknown ones.
pub fn read_map<'b>(
    bytes: &'b [u8],
    field: impl FnMut(u8, &mut Decoder<'b>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut decoder = Decoder::new(bytes);
    read_map_from(&mut decoder, field)?;
    if decoder.position() == bytes.len() { Ok(()) } else { Err(Malformed) }
}

/// Reads one map where it stands.
pub fn read_map_from<'b>(
    decoder: &mut Decoder<'b>,
    mut field: impl FnMut(u8, &mut Decoder<'b>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let entries = decoder.map()?.ok_or(Malformed)?;
    let mut last = None;
    for _ in 0..entries {
        let key = decoder.u8()?;
        if last.is_some_and(|last| key <= last) {
            return Err(Malformed);
        }
        last = Some(key);
        field(key, decoder)?;
    }
    Ok(())
}

/// Reads the head of an array and returns how many items follow, at most `most`.
pub fn read_array(decoder: &mut Decoder<'_>, most: usize) -> Result<usize, Malformed> {
    let length = decoder.array()?.ok_or(Malformed)?;
    usize::try_from(length).ok().filter(|length| *length <= most).ok_or(Malformed)
}

/// Reads a byte string of exactly `N` bytes.
pub fn read_bytes<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], Malformed> {
    decoder.bytes()?.try_into().map_err(|_| Malformed)
}

/// Writes CBOR into a vector, which cannot fail.
pub fn write(build: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> WriteResult) -> Vec<u8> {
    write_sized(0, build)
}

/// Like [`write()`], for content with secrets: a vector that need not grow leaves no copies behind.
pub fn write_sized(
    capacity: usize,
    build: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> WriteResult,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    build(&mut Encoder::new(&mut bytes)).expect("writing to a vector cannot fail");
    bytes
}

/// Like [`write()`], for content with secrets. With room for all of it nothing has to move.
pub fn write_secret(
    capacity: usize,
    build: impl FnOnce(&mut Encoder<&mut SecretBytes>) -> WriteResult,
) -> SecretBytes {
    let mut bytes = SecretBytes::with_capacity(capacity);
    build(&mut Encoder::new(&mut bytes)).expect("writing to memory cannot fail");
    bytes
}

impl minicbor::encode::Write for SecretBytes {
    type Error = core::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.append(bytes);
        Ok(())
    }
}

/// What a closure for [`write()`] returns.
pub type WriteResult = Result<(), minicbor::encode::Error<core::convert::Infallible>>;
