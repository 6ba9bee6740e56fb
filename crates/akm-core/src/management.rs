//! The messages of the provisioning relationship (protocol, section 11).
//!
//! Requests and responses are CBOR maps in frames of kind management. The body of a request is a byte
//! string of its own, so that a receipt can cover it byte for byte. Every request may be repeated
//! without harm. The CDDL is in `docs/akm.cddl`.

mod identify;
mod messages;
mod report;
mod stream;

pub use identify::{
    IdentifyAnswer, IdentifyRequest, Level, NodeIdentity, read_description, write_description,
};
pub use messages::*;
pub use report::{ReportAnswer, ReportRequest};
pub use stream::{ModuleStream, Taken};

use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::{Malformed, Unreadable, read_bytes, read_message, unknown, write, write_sized};

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
    /// Erase a relationship; a provisioning relationship with all that came by it; or everything.
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
    /// The request bears no proof, or a wrong one. The answer bears none either.
    Unproven = 7,
    /// The node tries another stack, and does not do this meanwhile.
    Trial = 8,
    /// This relationship has as much here as it may have.
    Quota = 9,
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
            Self::Unproven,
            Self::Trial,
            Self::Quota,
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
    /// See [`Proof::request`](crate::proof::Proof::request); only the first `identify` of a stream bears none.
    pub proof: Option<[u8; 32]>,
}

impl<'a> Request<'a> {
    /// Reads a request.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let (mut id, mut operation, mut body, mut proof) = (None, None, None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => id = Some(d.u64()?),
                1 => operation = Some(d.u8()?),
                2 => body = Some(d.bytes()?),
                3 => proof = Some(read_bytes(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self {
            id: id.ok_or(Malformed)?,
            operation: operation.ok_or(Malformed)?,
            body: body.ok_or(Malformed)?,
            proof,
        })
    }

    /// The request as it is sent; its body may hold secrets.
    pub fn emit(&self) -> Vec<u8> {
        write_sized(72 + self.body.len(), |e| {
            e.map(3 + u64::from(self.proof.is_some()))?.u8(0)?.u64(self.id)?;
            e.u8(1)?.u8(self.operation)?.u8(2)?.bytes(self.body)?;
            if let Some(proof) = &self.proof {
                e.u8(3)?.bytes(proof)?;
            }
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
    /// See [`Proof::answer`](crate::proof::Proof::answer); none in the answer to the first `identify` of a stream, and
    /// none with [`Outcome::Unproven`].
    pub proof: Option<[u8; 32]>,
}

impl Response {
    /// Reads a response.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut id, mut outcome, mut body, mut reason, mut proof) = (None, None, None, None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => id = Some(d.u64()?),
                1 => outcome = Some(Outcome::from_number(d.u8()?).ok_or(Malformed)?),
                2 => body = Some(d.bytes()?.to_vec()),
                3 => reason = Some(String::from(d.str()?)),
                4 => proof = Some(read_bytes(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self {
            id: id.ok_or(Malformed)?,
            outcome: outcome.ok_or(Malformed)?,
            body: body.ok_or(Malformed)?,
            reason: reason.ok_or(Malformed)?,
            proof,
        })
    }

    /// What the proof covers beside outcome and request: the answer, or the reason where there is none.
    pub fn said(&self) -> &[u8] {
        if self.outcome == Outcome::Done { &self.body } else { self.reason.as_bytes() }
    }

    /// The response as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(4 + u64::from(self.proof.is_some()))?.u8(0)?.u64(self.id)?.u8(1)?.u8(self.outcome as u8)?;
            e.u8(2)?.bytes(&self.body)?.u8(3)?.str(&self.reason)?;
            if let Some(proof) = &self.proof {
                e.u8(4)?.bytes(proof)?;
            }
            Ok(())
        })
    }
}
