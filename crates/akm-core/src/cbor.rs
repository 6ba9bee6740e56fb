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

/// Keys of messages from this one on say what a reader may pass over. A key below it that a reader does not know makes
/// the whole message one that it does not understand.
pub const FIRST_KEY_TO_PASS_OVER: u64 = 64;

/// Why bytes are not a message that this program can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They are no such message at all.
    #[error("malformed message")]
    Malformed,
    /// It says something, under this key, that is not understood here and must not be passed over.
    #[error("key {key} is not understood by this version of the stack")]
    Unsupported {
        /// The key.
        key: u8,
    },
    /// It is of a version of AKM with which this program does not work together.
    #[error("it is of {} version of AKM: format {format}, and this is {own}", if format < own { "an earlier" } else { "a later" })]
    Format {
        /// The format that stands in it.
        format: u8,
        /// The one that is read here.
        own: u8,
    },
}

impl From<Malformed> for Unreadable {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<Error> for Unreadable {
    fn from(_: Error) -> Self {
        Self::Malformed
    }
}

/// What reading the value of a key comes to whose meaning is not known.
pub fn unknown<T>(key: u8) -> Result<T, Unreadable> {
    Err(Unreadable::Unsupported { key })
}

/// Reads one message and nothing after it. `field` takes the value of each key, and answers [`unknown`] for one that it
/// does not know; what a reader may pass over does not come to it.
pub fn read_message<'b>(
    bytes: &'b [u8],
    field: impl FnMut(u8, &mut Decoder<'b>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut decoder = Decoder::new(bytes);
    read_message_from(&mut decoder, field)?;
    if decoder.position() == bytes.len() { Ok(()) } else { Err(Unreadable::Malformed) }
}

/// Reads a part of a message where it stands.
pub fn read_message_from<'b>(
    decoder: &mut Decoder<'b>,
    mut field: impl FnMut(u8, &mut Decoder<'b>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    read_entries(decoder, |key, decoder| match u8::try_from(key) {
        Ok(known) if key < FIRST_KEY_TO_PASS_OVER => field(known, decoder),
        _ => Ok(decoder.skip()?),
    })
}

/// Reads one map that is no message, such as a record, and nothing after it. `field` takes the value of each key and
/// refuses unknown ones.
pub fn read_map<'b>(
    bytes: &'b [u8],
    field: impl FnMut(u8, &mut Decoder<'b>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut decoder = Decoder::new(bytes);
    read_map_from(&mut decoder, field)?;
    if decoder.position() == bytes.len() { Ok(()) } else { Err(Malformed) }
}

/// The same where it stands.
pub fn read_map_from<'b>(
    decoder: &mut Decoder<'b>,
    mut field: impl FnMut(u8, &mut Decoder<'b>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    read_entries(decoder, |key, decoder| field(u8::try_from(key).map_err(|_| Malformed)?, decoder))
}

fn read_entries<'b, E: From<Malformed> + From<Error>>(
    decoder: &mut Decoder<'b>,
    mut field: impl FnMut(u64, &mut Decoder<'b>) -> Result<(), E>,
) -> Result<(), E> {
    let entries = decoder.map()?.ok_or(Malformed)?;
    let mut last = None;
    for _ in 0..entries {
        let key = decoder.u64()?;
        if last.is_some_and(|last| key <= last) {
            return Err(Malformed.into());
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
