//! The messages of the provisioning relationship (protocol, section 11).
//!
//! Requests and responses are CBOR maps in frames of kind management. The body of a request is a byte
//! string of its own, so that a receipt can cover it byte for byte. Every request may be repeated
//! without harm. The CDDL is in `docs/akm.cddl`.

mod identify;
mod messages;
mod report;

pub use identify::{IdentifyAnswer, IdentifyRequest, NodeIdentity, read_description, write_description};
pub use messages::*;
pub use report::{ReportAnswer, ReportRequest};

use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::{Malformed, read_map, write, write_sized};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Who are you, and what do you hold? Answered with a proof by the element.
    Identify = 1,
    /// What does your element need, so that a root can be wrapped for it?
    Prepare = 2,
    /// Keep this generation of a relationship, staged.
    Install = 3,
    /// Let a staged generation become active.
    Activate = 4,
    /// Erase a relationship; the provisioning relationship itself: erase all.
    Erase = 5,
    /// How do your relationships stand? In pages.
    Status = 6,
    /// Where the members of a relationship are.
    SetEndpoints = 7,
    /// What do you hear of a member of a relationship?
    Report = 8,
}

impl Operation {
    /// The operation of a number; `None` if this stack has no such operation.
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Self::Identify,
            Self::Prepare,
            Self::Install,
            Self::Activate,
            Self::Erase,
            Self::Status,
            Self::SetEndpoints,
            Self::Report,
        ]
        .into_iter()
        .find(|operation| *operation as u8 == number)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Done, or it was done already.
    Done = 0,
    /// The request cannot be read.
    Malformed = 1,
    /// This stack has no such operation, or not in this form.
    Unsupported = 2,
    /// Another content is held under this name and generation, or the node is no member.
    Conflict = 3,
    /// The node holds no such relationship or generation.
    NotHeld = 4,
    /// The element did not do its part.
    Element = 5,
    /// The node could not write; nothing has changed.
    Storage = 6,
}

impl Outcome {
    fn from_number(number: u8) -> Option<Self> {
        [
            Self::Done,
            Self::Malformed,
            Self::Unsupported,
            Self::Conflict,
            Self::NotHeld,
            Self::Element,
            Self::Storage,
        ]
        .into_iter()
        .find(|outcome| *outcome as u8 == number)
    }
}

/// A request as it stands in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Comes back in the response.
    pub id: u64,
    /// The number of the operation; one that this stack does not know is answered, not dropped.
    pub operation: u8,
    /// The encoded body of the operation.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut id, mut operation, mut body) = (None, None, None);
        read_map(bytes, |key, d| {
            match key {
                0 => id = Some(d.u64()?),
                1 => operation = Some(d.u8()?),
                2 => body = Some(d.bytes()?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        Ok(Self {
            id: id.ok_or(Malformed)?,
            operation: operation.ok_or(Malformed)?,
            body: body.ok_or(Malformed)?,
        })
    }

    /// The request as it is sent; its body may hold secrets.
    pub fn emit(&self) -> Vec<u8> {
        write_sized(32 + self.body.len(), |e| {
            e.map(3)?.u8(0)?.u64(self.id)?.u8(1)?.u8(self.operation)?.u8(2)?.bytes(self.body)?;
            Ok(())
        })
    }
}

/// A response as it stands in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// That of the request.
    pub id: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The encoded answer; empty unless done.
    pub body: Vec<u8>,
    /// What went wrong, in the node's words; empty if done. Holds no secret.
    pub reason: String,
}

impl Response {
    /// Reads a response.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut id, mut outcome, mut body, mut reason) = (None, None, None, None);
        read_map(bytes, |key, d| {
            match key {
                0 => id = Some(d.u64()?),
                1 => outcome = Some(Outcome::from_number(d.u8()?).ok_or(Malformed)?),
                2 => body = Some(d.bytes()?.to_vec()),
                3 => reason = Some(String::from(d.str()?)),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        Ok(Self {
            id: id.ok_or(Malformed)?,
            outcome: outcome.ok_or(Malformed)?,
            body: body.ok_or(Malformed)?,
            reason: reason.ok_or(Malformed)?,
        })
    }

    /// The response as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(4)?.u8(0)?.u64(self.id)?.u8(1)?.u8(self.outcome as u8)?;
            e.u8(2)?.bytes(&self.body)?.u8(3)?.str(&self.reason)?;
            Ok(())
        })
    }
}
