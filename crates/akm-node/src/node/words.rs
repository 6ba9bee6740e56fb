//! What a node says: events in the log, why something rests, and why a wish was refused.

use akm_core::session::{self, Phase, Rejection, SessionError};
use akm_host::{Aside, Event, GenerationId, Rest};
use tracing::{debug, error, info, warn};

use crate::error::{AsrTrouble, NodeError, Request};
use crate::storage::{IdentityRecord, Storage};

/// Members that are named to somebody who named none of them.
const NAMED_AT_MOST: usize = 20;

/// Writes what happened into the log.
pub(super) fn tell(
    storage: &Storage,
    identity: &IdentityRecord,
    about: Option<GenerationId>,
    label: &str,
    event: &Event,
) {
    let Some((id, generation)) = about else {
        match event {
            Event::ElementGone(why) => error!(
                "{why}; nothing of a new epoch is sent or heard until it answers; it is tried again by itself"
            ),
            Event::ElementBack => info!("the element answers again"),
            // All others concern a relationship.
            _ => {}
        }
        return;
    };
    let is_own = id == identity.relationship;
    match event {
        Event::Session(event) => tell_of_session((id, generation), label, *event),
        Event::OldGeneration => debug!(relationship = %id, label, reason = "old-generation", "frame dropped"),
        Event::Installed => info!(relationship = %id, label, generation, "installed"),
        Event::Ended => info!(relationship = %id, label, generation, "generation ended"),
        Event::Erased => info!(relationship = %id, "erased"),
        Event::Disowned => info!("erased by the module"),
        Event::Rests(why) => {
            let (why, cure) = rests(storage, identity, (id, generation), why);
            let why = format!("{why}; {cure}");
            error!(relationship = %id, label, "rests: {why}");
        }
        Event::SetAside(why @ Aside::Missing) => {
            let why = set_aside(why, is_own);
            error!(relationship = %id, "the provisioning relationship is set aside: {why}");
        }
        Event::SetAside(why) => {
            let why = set_aside(why, is_own);
            error!(relationship = %id, "set aside: {why}");
        }
        Event::NotReceived(error) if is_own => warn!(%error, "cannot receive from the module"),
        Event::NotReceived(error) => warn!(relationship = %id, %error, "cannot receive"),
        Event::NotMovedOn(error) => warn!(relationship = %id, %error, "cannot move on"),
        Event::NotAnswered(error) => warn!(%error, "cannot answer the module"),
        Event::NotRecorded(why) => error!(
            relationship = %id,
            label,
            "{why}; what rests on this record is not sent; it is tried again by itself"
        ),
        Event::RecordedAgain => info!(relationship = %id, label, "its records can be written again"),
        Event::EndpointsNotKept(error) => {
            warn!(relationship = %id, %error, "a member's endpoint is not remembered across a restart");
        }
        Event::NotTidied(error) => {
            warn!(relationship = %id, %error, "an ended generation could not be erased; the next start does it");
        }
        // Of the element, told above.
        Event::ElementGone(_) | Event::ElementBack => {}
    }
}

fn tell_of_session((id, generation): GenerationId, label: &str, event: session::Event) {
    use session::Event;
    match event {
        Event::Activated => info!(relationship = %id, label, generation, "active"),
        Event::EpochBegan { epoch, cause } => debug!(relationship = %id, label, epoch, ?cause, "epoch began"),
        Event::Rejected { reason, sender } => {
            debug!(relationship = %id, label, reason = reason.name(), sender, "frame dropped");
        }
        Event::PossibleClone { sender } => {
            let reason = Rejection::PossibleClone.name();
            warn!(relationship = %id, label, reason, sender, "possible clone: two nodes send in the name of one member");
        }
        Event::Far { sender, distance } => {
            warn!(relationship = %id, label, sender, distance, "a member is in an epoch further ahead than is followed: renew the relationship at its module");
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

/// Why a generation is set aside, and what to do.
pub(super) fn set_aside(why: &Aside, is_provisioning: bool) -> String {
    let cure = cure(is_provisioning);
    match why {
        // Whoever read it has said what to do.
        Aside::Unreadable(why) => why.clone(),
        Aside::Missing => format!("{why}: {cure}"),
        Aside::NotRecorded(_) | Aside::Unusable(_) => format!("{why}; {cure}"),
    }
}

/// Why a generation has no good place, and what to do.
pub(super) fn rests(
    storage: &Storage,
    identity: &IdentityRecord,
    of: GenerationId,
    why: &Rest,
) -> (String, &'static str) {
    let path = storage.place_path(identity.node, of.0, of.1);
    let path = path.display();
    let why = match why {
        Rest::Missing => format!("{path} is missing"),
        Rest::Damaged => format!("{path} is damaged"),
        Rest::Unreadable(why) => why.clone(),
        Rest::RolledBack => format!(
            "{path} is not from the latest start: it, or the element, is from an older image of the disk"
        ),
    };
    (why, cure_of_place(of.0 == identity.relationship))
}

/// What is to be done about records that are of no use.
pub(super) fn cure(is_provisioning: bool) -> &'static str {
    if is_provisioning {
        "the module cannot reach this node any more: provision the device again there (akm provision TARGET --again)"
    } else {
        "its module mends it with a new generation (akm asr renew)"
    }
}

/// What is to be done about a place that is of no use.
fn cure_of_place(is_provisioning: bool) -> &'static str {
    if is_provisioning {
        cure(true)
    } else {
        "the other members are asked for theirs; if that does not help, its module mends it (akm asr renew)"
    }
}

/// Why a session refused what an application wishes.
pub(super) fn wish_failed(
    asr: &str,
    error: SessionError,
    rests: Option<(String, &'static str)>,
) -> NodeError {
    let asr = asr.to_owned();
    let trouble = match error {
        SessionError::TooLong { most } => return Request::TooLong { asr, most }.into(),
        SessionError::Element(error) => return error.into(),
        SessionError::NotActive(Phase::Staged) => AsrTrouble::NotActive,
        SessionError::NotActive(phase) => match rests {
            Some((why, cure)) => AsrTrouble::Rests { phase, why: Some(why), cure },
            None => AsrTrouble::Rests { phase, why: None, cure: cure(false) },
        },
        other => AsrTrouble::Refused(other.into()),
    };
    NodeError::Asr { asr, trouble }
}

/// An application named a member that an ASR does not have, but `others`.
pub(super) fn no_such_member(asr: &str, member: &str, others: impl Iterator<Item = String>) -> NodeError {
    let mut others: Vec<String> = others.collect();
    others.sort();
    let more = others.len().saturating_sub(NAMED_AT_MOST);
    others.truncate(NAMED_AT_MOST);
    Request::NoMember { asr: asr.to_owned(), member: member.to_owned(), others, more }.into()
}
