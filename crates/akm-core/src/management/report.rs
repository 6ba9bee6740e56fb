//! What a node hears of another member, for whoever looks for the cause of a silence.

use alloc::string::String;
use alloc::vec::Vec;

use super::messages::{ENDPOINT_MAX, akm_id, relationship_id, short_text};
use crate::cbor::{Malformed, Unreadable, read_array, read_message, unknown, write};
use crate::id::{AkmId, RelationshipId};

/// Longest name of a reason for which frames are dropped, in bytes.
const REASON_MAX: usize = 32;

/// Most reasons in a report.
const REASONS_MAX: usize = 64;

/// Asks what a node hears of one member of a relationship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportRequest {
    /// The relationship.
    pub relationship: RelationshipId,
    /// The member.
    pub member: AkmId,
}

impl ReportRequest {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut relationship, mut member) = (None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => relationship = Some(relationship_id(d)?),
                1 => member = Some(akm_id(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self { relationship: relationship.ok_or(Malformed)?, member: member.ok_or(Malformed)? })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(2)?.u8(0)?.bytes(self.relationship.as_bytes())?.u8(1)?.bytes(self.member.as_bytes())?;
            Ok(())
        })
    }
}

/// What a node hears of a member in the generation in force, since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAnswer {
    /// Whether that node is a member there.
    pub is_member: bool,
    /// Where frames for it are sent; an empty text: nowhere.
    pub endpoint: String,
    /// Seconds since it was last heard; `None` if it was not.
    pub heard: Option<u64>,
    /// Data frames and hellos that this node sent.
    pub sent: u64,
    /// Frames of all members that it accepted.
    pub accepted: u64,
    /// Frames that it dropped, with the name of the reason.
    pub rejected: Vec<(String, u64)>,
    /// Seconds since it sent its latest frame; `None` if it sent none.
    pub sent_ago: Option<u64>,
    /// Seconds since its start.
    pub up: u64,
    /// Whether its place was older than its element allows when it started.
    pub rolled_back: bool,
}

impl ReportAnswer {
    /// Reads the body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut is_member, mut endpoint, mut heard, mut sent) = (None, None, None, None);
        let (mut accepted, mut rejected) = (None, None);
        let (mut sent_ago, mut up, mut rolled_back) = (None, None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => is_member = Some(d.bool()?),
                1 => endpoint = Some(short_text(d, ENDPOINT_MAX)?),
                2 => heard = Some(d.u64()?),
                3 => sent = Some(d.u64()?),
                4 => accepted = Some(d.u64()?),
                5 => {
                    let count = read_array(d, REASONS_MAX)?;
                    let entry = |d: &mut minicbor::Decoder<'_>| {
                        if read_array(d, 2)? != 2 {
                            return Err(Malformed);
                        }
                        Ok((short_text(d, REASON_MAX)?, d.u64()?))
                    };
                    rejected = Some((0..count).map(|_| entry(d)).collect::<Result<Vec<_>, Malformed>>()?);
                }
                6 => sent_ago = Some(d.u64()?),
                7 => up = Some(d.u64()?),
                8 => rolled_back = Some(d.bool()?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        Ok(Self {
            sent_ago,
            up: up.ok_or(Malformed)?,
            rolled_back: rolled_back.ok_or(Malformed)?,
            is_member: is_member.ok_or(Malformed)?,
            endpoint: endpoint.ok_or(Malformed)?,
            heard,
            sent: sent.ok_or(Malformed)?,
            accepted: accepted.ok_or(Malformed)?,
            rejected: rejected.ok_or(Malformed)?,
        })
    }

    /// The body as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(7 + u64::from(self.heard.is_some()) + u64::from(self.sent_ago.is_some()))?;
            e.u8(0)?.bool(self.is_member)?.u8(1)?.str(&self.endpoint)?;
            if let Some(heard) = self.heard {
                e.u8(2)?.u64(heard)?;
            }
            e.u8(3)?.u64(self.sent)?.u8(4)?.u64(self.accepted)?;
            e.u8(5)?.array(self.rejected.len() as u64)?;
            for (reason, count) in &self.rejected {
                e.array(2)?.str(reason)?.u64(*count)?;
            }
            if let Some(sent_ago) = self.sent_ago {
                e.u8(6)?.u64(sent_ago)?;
            }
            e.u8(7)?.u64(self.up)?.u8(8)?.bool(self.rolled_back)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_and_what_is_cut_short_does_not() {
        let request = ReportRequest {
            relationship: RelationshipId::from_random([1; 16]),
            member: AkmId::from_random([2; 16]),
        };
        assert_eq!(ReportRequest::parse(&request.emit()), Ok(request));
        for heard in [None, Some(7)] {
            let answer = ReportAnswer {
                is_member: true,
                endpoint: "192.0.2.1:47100".into(),
                heard,
                sent: 3,
                accepted: 4,
                rejected: alloc::vec![("duplicate".into(), 5)],
                sent_ago: heard,
                up: 9,
                rolled_back: false,
            };
            let bytes = answer.emit();
            assert_eq!(ReportAnswer::parse(&bytes), Ok(answer));
            assert!((0..bytes.len()).all(|length| ReportAnswer::parse(&bytes[..length]).is_err()));
        }
    }
}
