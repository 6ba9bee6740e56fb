//! The bodies of the operations.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::Decoder;
use minicbor::encode::Write;

use crate::cbor::{
    Malformed, Unreadable, WriteResult, read_array, read_bytes, read_message, read_message_from, unknown,
    write, write_secret,
};
use crate::element::RootCheck;
use crate::id::{AkmId, RelationshipId};
use crate::sds::MEMBERS_MAX;
use crate::seal::SEALED_HOST_PART_LENGTH;
use crate::secret::SecretBytes;
use crate::session::Phase;

/// Longest label of a relationship or member, in bytes.
pub const LABEL_MAX: usize = 64;

/// Longest text of an endpoint, in bytes: an IPv6 socket address with a scope.
pub const ENDPOINT_MAX: usize = 64;

/// Most entries of one page of [`StatusAnswer`].
pub const PAGE_MAX: usize = 1000;

pub(super) fn akm_id(d: &mut Decoder<'_>) -> Result<AkmId, Malformed> {
    AkmId::try_from(d.bytes()?).map_err(|_| Malformed)
}

pub(super) fn relationship_id(d: &mut Decoder<'_>) -> Result<RelationshipId, Malformed> {
    RelationshipId::try_from(d.bytes()?).map_err(|_| Malformed)
}

pub(super) fn short_text(d: &mut Decoder<'_>, most: usize) -> Result<String, Malformed> {
    let text = d.str()?;
    if text.len() > most { Err(Malformed) } else { Ok(String::from(text)) }
}

fn texts(d: &mut Decoder<'_>, most: usize) -> Result<Vec<String>, Malformed> {
    (0..read_array(d, MEMBERS_MAX)?).map(|_| short_text(d, most)).collect()
}

/// Asks what the element needs, so that the root of a relationship can be wrapped for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareRequest {
    /// The relationship that is about to be installed.
    pub relationship: RelationshipId,
    /// Its element version.
    pub element_version: u32,
}

impl PrepareRequest {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut relationship, mut element_version) = (None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => relationship = Some(relationship_id(d)?),
                1 => element_version = Some(d.u32()?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self {
            relationship: relationship.ok_or(Malformed)?,
            element_version: element_version.ok_or(Malformed)?,
        })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(2)?.u8(0)?.bytes(self.relationship.as_bytes())?.u8(1)?.u32(self.element_version)?;
            Ok(())
        })
    }
}

/// Bytes that answer a request and are opaque to the protocol: wrapping material or a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque(pub Vec<u8>);

impl Opaque {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut content = None;
        read_message(bytes, |key, d| {
            match key {
                0 => content = Some(d.bytes()?.to_vec()),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self(content.ok_or(Malformed)?))
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(1)?.u8(0)?.bytes(&self.0)?;
            Ok(())
        })
    }
}

/// A generation of a relationship, as one member gets it.
#[derive(Debug)]
pub struct Install {
    /// The public part of the SDS.
    pub public_part: Vec<u8>,
    /// The element root, wrapped for the member's element; absent if the element version stays.
    pub wrapped_root: Option<SecretBytes>,
    /// The name of that root in the element, also where the root is left out.
    pub root_check: RootCheck,
    /// The host part, sealed for this member under the element root (see [`crate::seal::HostPartSeal`]).
    pub host_part: [u8; SEALED_HOST_PART_LENGTH],
    /// What operators call the relationship.
    pub label: String,
    /// What operators call each member, in the order of the SDS; empty if that would be too long.
    pub member_labels: Vec<String>,
    /// Where each member is, as `ip:port`, in the order of the SDS; an empty text: unknown.
    pub endpoints: Vec<String>,
}

impl Install {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut public_part, mut wrapped_root, mut root_check, mut host_part) = (None, None, None, None);
        let (mut label, mut member_labels, mut endpoints) = (None, None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => public_part = Some(d.bytes()?.to_vec()),
                1 => wrapped_root = Some(SecretBytes::copy_from(d.bytes()?)),
                2 => root_check = Some(RootCheck(read_bytes(d)?)),
                3 => host_part = Some(read_bytes(d)?),
                4 => label = Some(short_text(d, LABEL_MAX)?),
                5 => member_labels = Some(texts(d, LABEL_MAX)?),
                6 => endpoints = Some(texts(d, ENDPOINT_MAX)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self {
            public_part: public_part.ok_or(Malformed)?,
            wrapped_root,
            root_check: root_check.ok_or(Malformed)?,
            host_part: host_part.ok_or(Malformed)?,
            label: label.ok_or(Malformed)?,
            member_labels: member_labels.ok_or(Malformed)?,
            endpoints: endpoints.ok_or(Malformed)?,
        })
    }

    /// The body as it is sent; where the element unwraps no root it holds the root as it is.
    pub fn emit(&self) -> SecretBytes {
        let entries = 6 + u64::from(self.wrapped_root.is_some());
        let wrapped = self.wrapped_root.as_ref().map_or(0, |wrapped| wrapped.len());
        let texts = self.member_labels.iter().chain(&self.endpoints).map(|text| text.len() + 2);
        let capacity = 192 + self.public_part.len() + wrapped + self.label.len() + texts.sum::<usize>();
        write_secret(capacity, |e| {
            e.map(entries)?.u8(0)?.bytes(&self.public_part)?;
            if let Some(wrapped) = &self.wrapped_root {
                e.u8(1)?.bytes(wrapped.expose())?;
            }
            e.u8(2)?.bytes(&self.root_check.0)?.u8(3)?.bytes(&self.host_part)?;
            e.u8(4)?.str(&self.label)?;
            e.u8(5)?.array(self.member_labels.len() as u64)?;
            for label in &self.member_labels {
                e.str(label)?;
            }
            e.u8(6)?.array(self.endpoints.len() as u64)?;
            for endpoint in &self.endpoints {
                e.str(endpoint)?;
            }
            Ok(())
        })
    }
}

/// Names one generation of a relationship: the body of `activate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivateRequest {
    /// The relationship.
    pub relationship: RelationshipId,
    /// The generation that shall be the active one.
    pub generation: u32,
    /// The stock of epochs that the node may follow in it is filled.
    pub follow: bool,
}

impl ActivateRequest {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut relationship, mut generation, mut follow) = (None, None, false);
        read_message(bytes, |key, d| {
            match key {
                0 => relationship = Some(relationship_id(d)?),
                1 => generation = Some(d.u32()?),
                2 => follow = d.bool()?,
                _ => return unknown(key),
            }
            Ok(())
        })?;
        let (relationship, generation) = (relationship.ok_or(Malformed)?, generation.ok_or(Malformed)?);
        Ok(Self { relationship, generation, follow })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(2 + u64::from(self.follow))?;
            e.u8(0)?.bytes(self.relationship.as_bytes())?.u8(1)?.u32(self.generation)?;
            if self.follow {
                e.u8(2)?.bool(true)?;
            }
            Ok(())
        })
    }
}

/// Says what is to be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraseRequest {
    /// A relationship; where it is a provisioning relationship, with all that came by it.
    Relationship(RelationshipId),
    /// Everything: the device is no node any more. Written as the ID of sixteen zero bytes.
    Everything,
}

impl EraseRequest {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut id = None;
        read_message(bytes, |key, d| {
            match key {
                0 => id = Some(read_bytes::<16>(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        let id = id.ok_or(Malformed)?;
        Ok(RelationshipId::from_bytes(id).map_or(Self::Everything, Self::Relationship))
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        let id = match self {
            Self::Relationship(id) => *id.as_bytes(),
            Self::Everything => [0; 16],
        };
        write(|e| {
            e.map(1)?.u8(0)?.bytes(&id)?;
            Ok(())
        })
    }
}

/// Asks for one page of a node's relationships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// The last one of the page before; `None` for the first page.
    pub after: Option<RelationshipId>,
    /// Most entries wanted; the node may send fewer.
    pub most: u16,
}

impl StatusRequest {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut after, mut most) = (None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => after = Some(relationship_id(d)?),
                1 => most = Some(d.u16()?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self { after, most: most.ok_or(Malformed)? })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(1 + u64::from(self.after.is_some()))?;
            if let Some(after) = self.after {
                e.u8(0)?.bytes(after.as_bytes())?;
            }
            e.u8(1)?.u16(self.most)?;
            Ok(())
        })
    }
}

/// How one relationship stands at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationshipStatus {
    /// The relationship.
    pub relationship: RelationshipId,
    /// The generation in force.
    pub generation: u32,
    /// The epoch, or [`crate::tree::NO_EPOCH`].
    pub epoch: u32,
    /// Counts failsafes.
    pub run: u32,
    /// Where it stands.
    pub phase: Phase,
    /// The highest element version that is held; 0 if that is not known.
    pub element_version: u32,
    /// The highest generation that is held, in force or not; 0 if that is not known.
    pub highest: u32,
    /// How often this node found back by a fallback or a failsafe in the generation in force.
    pub found_back: u32,
}

impl RelationshipStatus {
    fn read(d: &mut Decoder<'_>) -> Result<Self, Unreadable> {
        let (mut relationship, mut generation, mut epoch, mut run, mut phase) =
            (None, None, None, None, None);
        let (mut element_version, mut highest, mut found_back) = (0, 0, 0);
        read_message_from(d, |key, d| {
            match key {
                0 => relationship = Some(relationship_id(d)?),
                1 => generation = Some(d.u32()?),
                2 => epoch = Some(d.u32()?),
                3 => run = Some(d.u32()?),
                4 => phase = Some(Phase::from_number(d.u8()?).ok_or(Malformed)?),
                5 => element_version = d.u32()?,
                6 => highest = d.u32()?,
                7 => found_back = d.u32()?,
                _ => return unknown(key),
            }
            // What is zero is left out: each status has one form.
            let is_zero = [(5, element_version), (6, highest), (7, found_back)].contains(&(key, 0));
            if is_zero { Err(Unreadable::Malformed) } else { Ok(()) }
        })?;
        Ok(Self {
            relationship: relationship.ok_or(Malformed)?,
            generation: generation.ok_or(Malformed)?,
            epoch: epoch.ok_or(Malformed)?,
            run: run.ok_or(Malformed)?,
            phase: phase.ok_or(Malformed)?,
            element_version,
            highest,
            found_back,
        })
    }

    pub(super) fn read_list(d: &mut Decoder<'_>) -> Result<Vec<Self>, Unreadable> {
        (0..read_array(d, PAGE_MAX)?).map(|_| Self::read(d)).collect()
    }

    pub(super) fn write_list<W: Write<Error = core::convert::Infallible>>(
        e: &mut minicbor::Encoder<W>,
        list: &[Self],
    ) -> WriteResult {
        e.array(list.len() as u64)?;
        for status in list {
            let known = [(5, status.element_version), (6, status.highest), (7, status.found_back)];
            let known = known.into_iter().filter(|(_, number)| *number != 0);
            e.map(5 + known.clone().count() as u64)?.u8(0)?.bytes(status.relationship.as_bytes())?;
            e.u8(1)?.u32(status.generation)?.u8(2)?.u32(status.epoch)?;
            e.u8(3)?.u32(status.run)?.u8(4)?.u8(status.phase as u8)?;
            for (key, number) in known {
                e.u8(key)?.u32(number)?;
            }
        }
        Ok(())
    }
}

/// One page of a node's relationships.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusAnswer {
    /// Ascending by relationship ID.
    pub relationships: Vec<RelationshipStatus>,
    /// Whether there are more after the last one.
    pub more: bool,
}

impl StatusAnswer {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut relationships, mut more) = (None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => relationships = Some(RelationshipStatus::read_list(d)?),
                1 => more = Some(d.bool()?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self { relationships: relationships.ok_or(Malformed)?, more: more.ok_or(Malformed)? })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(2)?.u8(0)?;
            RelationshipStatus::write_list(e, &self.relationships)?;
            e.u8(1)?.bool(self.more)?;
            Ok(())
        })
    }
}

/// Where some members of a relationship are, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetEndpoints {
    /// The relationship.
    pub relationship: RelationshipId,
    /// Member index, label, and endpoint as `ip:port`; at most [`PAGE_MAX`] at once.
    pub entries: Vec<(u16, String, String)>,
}

impl SetEndpoints {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut relationship, mut entries) = (None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => relationship = Some(relationship_id(d)?),
                1 => {
                    let entry = |d: &mut Decoder<'_>| {
                        if read_array(d, 3)? != 3 {
                            return Err(Malformed);
                        }
                        Ok((d.u16()?, short_text(d, LABEL_MAX)?, short_text(d, ENDPOINT_MAX)?))
                    };
                    let list: Result<_, _> = (0..read_array(d, PAGE_MAX)?).map(|_| entry(d)).collect();
                    entries = Some(list?);
                }
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self { relationship: relationship.ok_or(Malformed)?, entries: entries.ok_or(Malformed)? })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(2)?.u8(0)?.bytes(self.relationship.as_bytes())?.u8(1)?;
            e.array(self.entries.len() as u64)?;
            for (index, label, endpoint) in &self.entries {
                e.array(3)?.u16(*index)?.str(label)?.str(endpoint)?;
            }
            Ok(())
        })
    }
}
