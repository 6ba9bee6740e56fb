//! Who a node is, and what its element is.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::Decoder;
use minicbor::encode::Write;

use super::messages::{LABEL_MAX, akm_id, relationship_id, short_text};
use crate::cbor::{
    Malformed, Unreadable, WriteResult, read_bytes, read_message, read_message_from, unknown, write,
};
use crate::element::{Description, Protection};
use crate::id::{AkmId, RelationshipId};
use crate::proof::STREAM_NONCE_LENGTH;

/// Asks a node who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifyRequest {
    /// Fresh random bytes, so that no old answer will do.
    pub challenge: [u8; 32],
}

impl IdentifyRequest {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut challenge = None;
        read_message(bytes, |key, d| {
            match key {
                0 => challenge = Some(read_bytes(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self { challenge: challenge.ok_or(Malformed)? })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(1)?.u8(0)?.bytes(&self.challenge)?;
            Ok(())
        })
    }
}

/// What a node says of itself, with the proof by its element.
#[derive(Debug)]
pub struct IdentifyAnswer {
    /// An encoded [`NodeIdentity`], taken byte for byte as sent: the proof covers these bytes.
    pub identity: Vec<u8>,
    /// See [`Proof::identify`](crate::proof::Proof::identify).
    pub proof: [u8; 32],
}

impl IdentifyAnswer {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut identity, mut proof) = (None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => identity = Some(d.bytes()?.to_vec()),
                1 => proof = Some(read_bytes(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self { identity: identity.ok_or(Malformed)?, proof: proof.ok_or(Malformed)? })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(2)?.u8(0)?.bytes(&self.identity)?.u8(1)?.bytes(&self.proof)?;
            Ok(())
        })
    }
}

/// What a module may do at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// Everything.
    Factory = 1,
    /// What it brought.
    Authorized = 2,
}

impl Level {
    /// The level of a number in a message; `None` if there is no such level.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Factory, Self::Authorized].into_iter().find(|level| *level as u8 == number)
    }
}

/// Who a node is. What it holds is told by its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Its AKM ID.
    pub node: AkmId,
    /// Its provisioning relationship.
    pub relationship: RelationshipId,
    /// Its element.
    pub element: Description,
    /// The version of its stack.
    pub stack_version: String,
    /// Over the files of its stack and the element's identity.
    pub integrity: [u8; 32],
    /// What this module may do there.
    pub level: Level,
    /// Whether the node holds relationships beside this one.
    pub holds_others: bool,
    /// By which this stream is told from all others: the same in each answer on it.
    pub stream_nonce: [u8; STREAM_NONCE_LENGTH],
}

impl NodeIdentity {
    /// Reads what a node says of itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut node, mut relationship, mut element, mut stack_version) = (None, None, None, None);
        let (mut integrity, mut level, mut holds_others, mut stream_nonce) = (None, None, None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => node = Some(akm_id(d)?),
                1 => relationship = Some(relationship_id(d)?),
                2 => element = Some(read_description(d)?),
                3 => stack_version = Some(short_text(d, LABEL_MAX)?),
                4 => integrity = Some(read_bytes(d)?),
                5 => level = Some(Level::from_number(d.u8()?).ok_or(Malformed)?),
                6 => holds_others = Some(d.bool()?),
                7 => stream_nonce = Some(read_bytes(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self {
            node: node.ok_or(Malformed)?,
            relationship: relationship.ok_or(Malformed)?,
            element: element.ok_or(Malformed)?,
            stack_version: stack_version.ok_or(Malformed)?,
            integrity: integrity.ok_or(Malformed)?,
            level: level.ok_or(Malformed)?,
            holds_others: holds_others.ok_or(Malformed)?,
            stream_nonce: stream_nonce.ok_or(Malformed)?,
        })
    }

    /// The bytes that the proof covers.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(8)?.u8(0)?.bytes(self.node.as_bytes())?.u8(1)?.bytes(self.relationship.as_bytes())?;
            e.u8(2)?;
            write_description(e, &self.element)?;
            e.u8(3)?.str(&self.stack_version)?.u8(4)?.bytes(&self.integrity)?;
            e.u8(5)?
                .u8(self.level as u8)?
                .u8(6)?
                .bool(self.holds_others)?
                .u8(7)?
                .bytes(&self.stream_nonce)?;
            Ok(())
        })
    }
}

/// Reads the description of an element where it stands.
pub fn read_description(d: &mut Decoder<'_>) -> Result<Description, Unreadable> {
    let (mut kind, mut manufacturer, mut serial, mut firmware) = (None, None, None, None);
    let (mut protection, mut sealed, mut counter) = (None, None, None);
    read_message_from(d, |key, d| {
        match key {
            0 => kind = Some(short_text(d, LABEL_MAX)?),
            1 => manufacturer = Some(short_text(d, LABEL_MAX)?),
            2 => serial = Some(short_text(d, 2 * LABEL_MAX)?),
            3 => firmware = Some(short_text(d, LABEL_MAX)?),
            4 => protection = Some(if d.bool()? { Protection::Hardware } else { Protection::Software }),
            5 => sealed = Some(d.bool()?),
            6 => counter = Some(d.bool()?),
            _ => return unknown(key),
        }
        Ok(())
    })?;
    Ok(Description {
        kind: kind.ok_or(Malformed)?,
        manufacturer: manufacturer.ok_or(Malformed)?,
        serial: serial.ok_or(Malformed)?,
        firmware: firmware.ok_or(Malformed)?,
        protection: protection.ok_or(Malformed)?,
        sealed: sealed.ok_or(Malformed)?,
        counter: counter.ok_or(Malformed)?,
    })
}

/// Writes the description of an element.
pub fn write_description<W: Write<Error = core::convert::Infallible>>(
    e: &mut minicbor::Encoder<W>,
    description: &Description,
) -> WriteResult {
    e.map(7)?.u8(0)?.str(&description.kind)?.u8(1)?.str(&description.manufacturer)?;
    e.u8(2)?.str(&description.serial)?.u8(3)?.str(&description.firmware)?;
    e.u8(4)?.bool(description.protection == Protection::Hardware)?;
    e.u8(5)?.bool(description.sealed)?.u8(6)?.bool(description.counter)?;
    Ok(())
}
