//! What is watched of each session after each input: phase, epoch, memory, element.

use std::time::Duration;

use akm_core::session::{Footprint, Phase};
use akm_core::tree::LAST_EPOCH;

use super::{SECOND, Spending, WatchedProcess, WatchedSession, is_lost, rank, violated};
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
    (deferred, stranger): (bool, bool),
) -> Result<(), Violation> {
    let Footprint { open_epochs, senders, over, heard, unproven, resync, queued, buffers, buffer_bytes } =
        stands.footprint;
    let others = members - 1;
    let fits = open_epochs <= OPEN_EPOCHS
        && senders <= open_epochs * (others + members + FURTHER_SALTS)
        && over <= others + members + FURTHER_SALTS
        && heard <= others
        && unproven <= UNPROVEN
        && resync <= RESYNC + others
        && queued <= if deferred { QUEUED } else { 0 }
        && buffers <= BUFFERS
        && buffer_bytes <= BUFFERS * BUFFER_BYTES
        && (!deferred || stands.host_bytes <= akm_host::limits::BYTES_WAITING);
    if !fits {
        return violated(
            Invariant::StateBounded,
            format!("node {node} of {members} members holds {:?}", stands.footprint),
        );
    }
    let grew = session.stands.as_ref().filter(|_| stranger).is_some_and(|before| {
        open_epochs > before.footprint.open_epochs
            || senders > before.footprint.senders
            || heard > before.footprint.heard
            || stands.host_bytes > before.host_bytes.max(KEPT_BYTES)
    });
    if grew {
        return violated(
            Invariant::StateBounded,
            format!("a frame that did not authenticate stays at node {node}: {stands:?}"),
        );
    }
    Ok(())
}

/// The element is asked for an epoch that nothing has proven yet.
pub(super) fn element_is_spared(
    now: Duration,
    node: usize,
    session: &mut WatchedSession,
    epoch: u32,
    deferred: bool,
) -> Result<(), Violation> {
    session.unproven.retain(|(asked, _)| *asked + SECOND > now);
    session.unproven.push_back((now, epoch));
    // What the node itself wanted is among them where it waited for its turn.
    let most = if deferred { CALLS + akm_host::limits::QUESTIONS_OUT } else { CALLS };
    if session.unproven.len() > most {
        let asked = session.unproven.len();
        return violated(
            Invariant::ElementSpared,
            format!("node {node} asks its element {asked} times in a second for nothing"),
        );
    }
    Ok(())
}

/// What a start with so many issues may cost, and what a process before it left undone.
pub(super) fn of_a_start(issues: u64) -> Spending {
    Spending { calls: 20 + 10 * issues, writes: 20 + 5 * issues }
}

/// What may come of one input at a node with so many sessions.
pub(super) fn of_an_input(given: Given, sessions: u64) -> Spending {
    match given {
        // Its epoch, an answer to who asks to find back; a new generation goes into force and what was before is erased.
        Given::Datagram(_) | Given::Send | Given::Advance => Spending { calls: 6, writes: 8 },
        Given::Timeout => Spending { calls: 6 * (sessions + 1), writes: 8 * (sessions + 1) },
        Given::Module => Spending { calls: 24, writes: 16 },
        // It comes of what was given before.
        Given::Answer => Spending::default(),
    }
}

pub(super) fn spending_is_bounded(
    node: usize,
    process: &WatchedProcess,
    spent: Spending,
) -> Result<(), Violation> {
    let WatchedProcess { given, authentic, ended, deferred, used, allowed, .. } = process;
    let stranger = matches!(given, Some(Given::Datagram(_))) && !authentic && !deferred;
    // Whatever comes, what is over by then is erased.
    if stranger && spent.writes > *ended {
        let writes = spent.writes;
        return violated(
            Invariant::DiskSpared,
            format!("node {node} writes {writes} times for a frame that did not authenticate"),
        );
    }
    if used.writes > allowed.writes || used.calls > allowed.calls {
        return violated(
            Invariant::DiskSpared,
            format!("what node {node} was given is worth {allowed:?}, and it spent {used:?}"),
        );
    }
    Ok(())
}

/// The current epoch and four closed ones.
const OPEN_EPOCHS: usize = 5;

/// What waits behind a record that is being written.
const QUEUED: usize = 8;

/// Salts in an epoch beyond one for each member and as many more.
const FURTHER_SALTS: usize = 64;

/// Epochs that a header named and nothing proved, pinned ones included.
const UNPROVEN: usize = 4 + 2;

/// Requests that are out, answers of the last second, and answered requests.
const RESYNC: usize = 3 + 4 + 64;

/// Calls of the element in a second for such epochs: each counts as 20 ms at least, 1.2 s are there at most, and the
/// pinned ones are not counted.
const CALLS: usize = 60 + 2;

/// Bytes of frames that wait until one more epoch may be followed.
const KEPT_BYTES: usize = akm_host::limits::FRAMES_KEPT * 1452;

/// Buffers that are used again, and the one that was handed out.
const BUFFERS: usize = 5;

/// A buffer grows by doubling, and holds a frame of at most this many bytes.
const BUFFER_BYTES: usize = 2 * 1452;
