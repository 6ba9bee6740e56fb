//! Frames on the wire (protocol, section 6).
//!
//! ```text
//!   0      0x10 | class        2..4   sender index    8..12  epoch    20..24 counter
//!   1      0                   4..8   tag             12..20 salt     24..28 header signature
//!   28..   ciphertext || 16-byte AEAD tag
//! ```

use siphasher::sip::SipHasher;
use subtle::ConstantTimeEq;

use crate::crypto::{NONCE_LENGTH, TAG_LENGTH};
use crate::sds::{HeaderKey, Kind, Tag};

/// Length of the header in bytes; all of it is associated data.
pub const HEADER_LENGTH: usize = 28;

/// Bytes of a header that its signature covers.
const SIGNED_LENGTH: usize = 24;

/// What a frame costs beside its body: header, kind and AEAD tag.
pub const OVERHEAD: usize = HEADER_LENGTH + 1 + TAG_LENGTH;

/// Longest frame on a stream, in bytes.
pub const STREAM_MAX: usize = 131_072;

const VERSION: u8 = 0x10;

/// What the plaintext of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Says that its sender is here, in this epoch. Empty.
    Hello = 0,
    /// Bytes of an application.
    Data = 1,
    /// A management message; only in provisioning relationships.
    Management = 2,
}

impl FrameKind {
    /// Whether a relationship of this kind carries such a frame with this body.
    pub(crate) fn fits(self, relationship: Kind, body: &[u8]) -> bool {
        match self {
            Self::Hello => body.is_empty(),
            Self::Data => relationship == Kind::Communication,
            Self::Management => relationship == Kind::Provisioning,
        }
    }

    /// The kind of a number; `None` if there is no such kind.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Hello),
            1 => Some(Self::Data),
            2 => Some(Self::Management),
            _ => None,
        }
    }
}

/// What a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// The sessions of a relationship.
    Session = 0,
    /// Resynchronisation (protocol, section 15).
    Resync = 1,
}

/// Too short, another version, an unknown class, or reserved bits set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an AKM frame")]
pub struct MalformedFrame;

/// The header of a frame. Nothing in it is believed until the frame has authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame belongs to.
    pub class: Class,
    /// Index of the member that says it sent this.
    pub sender: u16,
    /// By which a receiver finds the relationship.
    pub tag: Tag,
    /// The epoch.
    pub epoch: u32,
    /// Random for each start and epoch of the sender.
    pub salt: u64,
    /// Counts the frames under one key, from 0.
    pub counter: u32,
}

impl Header {
    /// Reads the header of a frame that is long enough to be one.
    pub fn parse(frame: &[u8]) -> Result<Self, MalformedFrame> {
        if frame.len() < OVERHEAD || frame[1] != 0 {
            return Err(MalformedFrame);
        }
        let class = match frame[0] {
            byte if byte == VERSION | Class::Session as u8 => Class::Session,
            byte if byte == VERSION | Class::Resync as u8 => Class::Resync,
            _ => return Err(MalformedFrame),
        };
        Ok(Self {
            class,
            sender: u16::from_be_bytes([frame[2], frame[3]]),
            tag: Tag(frame[4..8].try_into().expect("4 bytes")),
            epoch: u32::from_be_bytes(frame[8..12].try_into().expect("4 bytes")),
            salt: u64::from_be_bytes(frame[12..20].try_into().expect("8 bytes")),
            counter: u32::from_be_bytes(frame[20..24].try_into().expect("4 bytes")),
        })
    }

    /// The header with its signature.
    pub fn emit(&self, key: &HeaderKey) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        self.write(key, &mut bytes);
        bytes
    }

    /// Writes the header with its signature to where it is to stand.
    pub fn write(&self, key: &HeaderKey, out: &mut [u8; HEADER_LENGTH]) {
        // As whole words, since the signature reads words: it would wait for shorter writes.
        let first = u64::from(VERSION | self.class as u8) << 56
            | u64::from(self.sender) << 32
            | u64::from(u32::from_be_bytes(self.tag.0));
        let second = u64::from(self.epoch) << 32 | self.salt >> 32;
        let third = self.salt << 32 | u64::from(self.counter);
        out[..8].copy_from_slice(&first.to_be_bytes());
        out[8..16].copy_from_slice(&second.to_be_bytes());
        out[16..SIGNED_LENGTH].copy_from_slice(&third.to_be_bytes());
        let signature = header_signature(key, &out[..SIGNED_LENGTH]);
        out[SIGNED_LENGTH..].copy_from_slice(&signature);
    }

    /// The AEAD nonce: eight zero bytes and the counter.
    pub fn nonce(&self) -> [u8; NONCE_LENGTH] {
        let mut nonce = [0; NONCE_LENGTH];
        nonce[8..].copy_from_slice(&self.counter.to_be_bytes());
        nonce
    }
}

/// Whether the header signature of a frame is right under this key. Keeps strangers from causing
/// work; proves nothing.
pub fn is_signed(frame: &[u8], key: &HeaderKey) -> bool {
    let Some(header) = frame.get(..HEADER_LENGTH) else { return false };
    let (signed, signature) = header.split_at(SIGNED_LENGTH);
    header_signature(key, signed).ct_eq(signature).into()
}

/// The first four bytes of SipHash-2-4, written big-endian.
pub fn header_signature(key: &HeaderKey, signed: &[u8]) -> [u8; 4] {
    SipHasher::new_with_key(key.expose()).hash(signed).to_be_bytes()[..4].try_into().expect("4 of 8 bytes")
}
