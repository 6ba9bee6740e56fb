//! What a node says: events in the log, and why a wish was refused.

use akm_core::session::{Event, Phase, Rejection, SessionError};
use tracing::{debug, error, info, warn};

use super::generations::Held;
use crate::error::NodeError;

/// Members that are named to somebody who named none of them.
const NAMED_AT_MOST: usize = 20;

/// Writes an event of a session into the log.
pub(super) fn tell((id, generation): Held, label: &str, event: Event) {
    match event {
        Event::Activated => info!(relationship = %id, label, generation, "active"),
        Event::EpochBegan { epoch, cause } => debug!(relationship = %id, label, epoch, ?cause, "epoch began"),
        Event::Rejected { reason, sender } => {
            if reason == Rejection::PossibleClone {
                let reason = reason.name();
                warn!(relationship = %id, label, reason, sender, "possible clone: two nodes send in the name of one member");
            } else {
                debug!(relationship = %id, label, reason = reason.name(), sender, "frame dropped");
            }
        }
        Event::EpochsRunningLow => warn!(relationship = %id, label, "half of the epochs are used up"),
        Event::EpochsUsedUp => {
            error!(relationship = %id, label, "epochs used up: needs a new generation from its module");
        }
        Event::FoundBack(found) => {
            let (way, run, epoch) = (found.way.name(), found.run, found.epoch);
            warn!(relationship = %id, label, generation, way, run, epoch, "found back");
        }
        Event::Answered { requester, with_place } => {
            info!(relationship = %id, label, requester, with_place, "answered a member that looks for its place");
        }
        Event::FailsafeMissed { missing } => {
            warn!(relationship = %id, label, missing, "failsafe: members are missing");
        }
        Event::NeedsModule => {
            error!(relationship = %id, label, "no member that is reached has a place: needs its module");
        }
    }
}

/// An application's wish that a session refused, in words that say what to do.
pub(super) fn wish_failed(asr: &str, error: SessionError, rests: Option<&str>) -> NodeError {
    match error {
        SessionError::TooLong { most } => NodeError::Usage(format!(
            "the text is too long: one message on {asr} carries at most {most} bytes; send it in parts"
        )),
        SessionError::NotActive(Phase::Staged) => NodeError::Failed(format!(
            "{asr} is installed but not active yet: its module begins it when it has reached all members (akm tasks \
             there shows who is missing)"
        )),
        SessionError::NotActive(phase) => {
            let why = rests.unwrap_or("its module mends it with a new generation (akm asr renew)");
            NodeError::Failed(format!("{asr} rests here ({phase:?}): {why}"))
        }
        SessionError::Element(error) => NodeError::Element(error),
        other => NodeError::Failed(format!("{asr}: {other}")),
    }
}

/// An application named a member that an ASR does not have, but `others`.
pub(super) fn no_such_member(asr: &str, member: &str, others: impl Iterator<Item = String>) -> NodeError {
    let mut others: Vec<String> = others.collect();
    others.sort();
    let unnamed = others.len().saturating_sub(NAMED_AT_MOST);
    others.truncate(NAMED_AT_MOST);
    let more =
        if unnamed == 0 { String::new() } else { format!(" and {unnamed} more (akmd status shows them)") };
    NodeError::Usage(format!("{asr} has no member {member}; the others are {}{more}", others.join(", ")))
}
