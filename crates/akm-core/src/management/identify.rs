//! Who a node is, and what its element is.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::Decoder;
use minicbor::encode::Write;

use super::messages::{LABEL_MAX, RelationshipStatus, akm_id, relationship_id, short_text};
use crate::cbor::{Malformed, WriteResult, read_bytes, read_map, read_map_from, write};
use crate::element::{Description, Protection};
use crate::id::{AkmId, RelationshipId};

/// Asks a node who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifyRequest {
    /// Fresh random bytes, so that no old answer will do.
    pub challenge: [u8; 32],
}

impl IdentifyRequest {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut challenge = None;
        read_map(bytes, |key, d| {
            match key {
                0 => challenge = Some(read_bytes(d)?),
                _ => return Err(Malformed),
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
    /// See [`crate::keys::identify_proof`].
    pub proof: [u8; 32],
}

impl IdentifyAnswer {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut identity, mut proof) = (None, None);
        read_map(bytes, |key, d| {
            match key {
                0 => identity = Some(d.bytes()?.to_vec()),
                1 => proof = Some(read_bytes(d)?),
                _ => return Err(Malformed),
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

/// Who a node is and what it holds.
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
    /// At most [`PAGE_MAX`](super::PAGE_MAX) of its relationships, ascending by ID, the provisioning one included.
    pub relationships: Vec<RelationshipStatus>,
    /// Whether it holds more than are listed; ask for its status.
    pub more: bool,
}

impl NodeIdentity {
    /// Reads what a node says of itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut node, mut relationship, mut element, mut stack_version) = (None, None, None, None);
        let (mut integrity, mut relationships, mut more) = (None, None, None);
        read_map(bytes, |key, d| {
            match key {
                0 => node = Some(akm_id(d)?),
                1 => relationship = Some(relationship_id(d)?),
                2 => element = Some(read_description(d)?),
                3 => stack_version = Some(short_text(d, LABEL_MAX)?),
                4 => integrity = Some(read_bytes(d)?),
                5 => relationships = Some(RelationshipStatus::read_list(d)?),
                6 => more = Some(d.bool()?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        Ok(Self {
            node: node.ok_or(Malformed)?,
            relationship: relationship.ok_or(Malformed)?,
            element: element.ok_or(Malformed)?,
            stack_version: stack_version.ok_or(Malformed)?,
            integrity: integrity.ok_or(Malformed)?,
            relationships: relationships.ok_or(Malformed)?,
            more: more.ok_or(Malformed)?,
        })
    }

    /// The bytes that the proof covers.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(7)?.u8(0)?.bytes(self.node.as_bytes())?.u8(1)?.bytes(self.relationship.as_bytes())?;
            e.u8(2)?;
            write_description(e, &self.element)?;
            e.u8(3)?.str(&self.stack_version)?.u8(4)?.bytes(&self.integrity)?.u8(5)?;
            RelationshipStatus::write_list(e, &self.relationships)?;
            e.u8(6)?.bool(self.more)?;
            Ok(())
        })
    }
}

/// Reads the description of an element where it stands.
pub fn read_description(d: &mut Decoder<'_>) -> Result<Description, Malformed> {
    let (mut kind, mut manufacturer, mut serial, mut firmware) = (None, None, None, None);
    let (mut protection, mut sealed, mut counter) = (None, None, None);
    read_map_from(d, |key, d| {
        match key {
            0 => kind = Some(short_text(d, LABEL_MAX)?),
            1 => manufacturer = Some(short_text(d, LABEL_MAX)?),
            2 => serial = Some(short_text(d, 2 * LABEL_MAX)?),
            3 => firmware = Some(short_text(d, LABEL_MAX)?),
            4 => protection = Some(if d.bool()? { Protection::Hardware } else { Protection::Software }),
            5 => sealed = Some(d.bool()?),
            6 => counter = Some(d.bool()?),
            _ => return Err(Malformed),
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
