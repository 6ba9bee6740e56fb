//! What is watched of each session after each input: phase, epoch, memory, element.

use std::time::Duration;

use akm_core::session::{Footprint, Phase};
use akm_core::tree::LAST_EPOCH;

use super::{SECOND, WatchedSession, is_lost, rank, violated};
use crate::happening::{Found, Given, Stands};
use crate::invariant::{Invariant, Violation};

pub(super) fn phase_is_allowed(
    node: usize,
    session: &WatchedSession,
    stands: &Stands,
    durable: u32,
) -> Result<(), Violation> {
    let to = stands.phase;
    let allowed = match &session.stands {
        None => match session.found {
            Found::Lost => to == Phase::WithoutPlace,
            Found::RolledBack => to == Phase::RolledBack,
            Found::Good { active: false, .. } => to == Phase::Staged,
            Found::Good { .. } if durable == LAST_EPOCH => to == Phase::UsedUp,
            Found::Good { .. } => to == Phase::Established,
        },
        Some(before) => match before.phase {
            // The frame that makes it active may be of the last epoch.
            Phase::Staged => matches!(to, Phase::Staged | Phase::Established | Phase::UsedUp),
            Phase::Established => matches!(to, Phase::Established | Phase::UsedUp),
            // A lost place is looked for, found, or not found.
            Phase::WithoutPlace | Phase::RolledBack | Phase::Resyncing => {
                to == before.phase
                    || matches!(to, Phase::Resyncing | Phase::Established | Phase::UsedUp)
                    || before.phase == Phase::Resyncing && is_lost(to)
            }
            phase => to == phase,
        },
    };
    if allowed {
        return Ok(());
    }
    let from = session.stands.as_ref().map(|before| before.phase);
    violated(Invariant::PhasesAlongEdges, format!("node {node} goes from {from:?} to {to:?}"))
}

pub(super) fn epoch_is_durable(node: usize, stands: &Stands, durable: u32) -> Result<(), Violation> {
    let epoch = stands.epoch;
    if is_lost(stands.phase) || epoch == durable {
        return Ok(());
    }
    let invariant =
        if rank(epoch) < rank(durable) { Invariant::EpochsNeverGoBack } else { Invariant::DurableBeforeUse };
    violated(invariant, format!("node {node} is in epoch {epoch} and durable is {durable}"))
}

pub(super) fn state_is_bounded(
    node: usize,
    session: &WatchedSession,
    stands: &Stands,
    members: usize,
) -> Result<(), Violation> {
    let Footprint {
        open_epochs,
        senders,
        over,
        heard,
        unproven,
        element_calls,
        resync,
        queued,
        buffers,
        buffer_bytes,
    } = stands.footprint;
    let others = members - 1;
    let fits = open_epochs <= OPEN_EPOCHS
        && senders <= open_epochs * others
        && over <= others
        && heard <= others
        && unproven <= UNPROVEN
        && element_calls <= CALLS
        && resync <= RESYNC + others
        && queued == 0
        && buffers <= BUFFERS
        && buffer_bytes <= BUFFERS * BUFFER_BYTES;
    if !fits {
        return violated(
            Invariant::StateBounded,
            format!("node {node} of {members} members holds {:?}", stands.footprint),
        );
    }
    let stranger = matches!(session.given, Some(Given::Frame(_))) && !session.authentic;
    let grew = session.stands.as_ref().filter(|_| stranger).is_some_and(|before| {
        open_epochs > before.footprint.open_epochs
            || senders > before.footprint.senders
            || heard > before.footprint.heard
            || stands.host_bytes > before.host_bytes
    });
    if grew {
        return violated(
            Invariant::StateBounded,
            format!("a frame that did not authenticate stays at node {node}: {stands:?}"),
        );
    }
    Ok(())
}

pub(super) fn element_is_spared(
    now: Duration,
    node: usize,
    session: &mut WatchedSession,
    stands: &Stands,
) -> Result<(), Violation> {
    if stands.asked.len() > 1 {
        return violated(
            Invariant::ElementSpared,
            format!("node {node} asks its element for {:?} because of one input", stands.asked),
        );
    }
    if let Some(Given::Frame(_)) = session.given
        && !session.authentic
    {
        session.unproven.retain(|(asked, _)| *asked + SECOND > now);
        session.unproven.extend(stands.asked.iter().map(|epoch| (now, *epoch)));
        if session.unproven.len() > CALLS {
            return violated(
                Invariant::ElementSpared,
                format!(
                    "node {node} asks its element {} times in a second for nothing",
                    session.unproven.len()
                ),
            );
        }
    }
    Ok(())
}

/// The current epoch and four closed ones.
const OPEN_EPOCHS: usize = 5;

/// Epochs that a header named and nothing proved.
const UNPROVEN: usize = 4;

/// Requests that are out, answers of the last second, and answered requests.
const RESYNC: usize = 3 + 4 + 64;

/// Calls of the element in a second for such epochs.
const CALLS: usize = 10;

/// Buffers that are used again, and the one that was handed out.
const BUFFERS: usize = 5;

/// A buffer grows by doubling, and holds a frame of at most this many bytes.
const BUFFER_BYTES: usize = 2 * 1452;
