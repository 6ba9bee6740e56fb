//! Parked work: what could not be done at a node that was away, and goes on when it is reached.

use std::collections::BTreeSet;
use std::time::Duration;

use akm_core::id::AkmId;
use akm_core::management::RelationshipStatus;
use tracing::info;

use super::issue::{bring_forward, erase_leftovers, reach};
use super::{Change, Wish, change, in_order};
use crate::error::{Error, Kind};
use crate::link::Link;
use crate::lock::LockKey;
use crate::names::{Name, Timestamp};
use crate::progress::{OfWork, Progress};
use crate::store::{Absence, MemberState, Node, NodeStatus, Relationship, Store};

/// The first back-off of `akm serve`; it doubles with each try.
const BACK_OFF: Duration = Duration::from_secs(30);

/// The longest back-off of `akm serve`.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(3600);

/// What is to be done at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It has to get this generation.
    Install(u32),
    /// It holds this generation, which may become active, but has not there.
    Activate(u32),
    /// It holds this generation, which others lack: it waits for them.
    Wait(u32),
    /// It has to erase the ASR.
    Erase,
}

impl Work {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Install(_) => "install",
            // Who waits has the same to do, after others.
            Self::Activate(_) | Self::Wait(_) => "activate",
            Self::Erase => "erase",
        }
    }

    /// The generation that it is about.
    pub fn generation(self) -> Option<u32> {
        match self {
            Self::Install(generation) | Self::Activate(generation) | Self::Wait(generation) => {
                Some(generation)
            }
            Self::Erase => None,
        }
    }
}

/// Something parked.
#[derive(Clone, Debug)]
pub struct Task {
    /// For whom.
    pub node: Node,
    /// Of which ASR.
    pub asr: Name,
    /// What.
    pub work: Work,
    /// Since when.
    pub since: Timestamp,
    /// Since when the node is away, and what came of the tries; absent if it was not tried, or was reached.
    pub absence: Option<Absence>,
}

/// When `akm serve` tries a node again.
pub fn next_try(absence: &Absence) -> Timestamp {
    let doubled = BACK_OFF.saturating_mul(1 << (absence.tries - 1).min(16)).min(BACK_OFF_MAX);
    Timestamp::from_unix_millis(absence.tried_at.as_unix_millis() + doubled.as_millis() as i64)
}

/// All that is parked: oldest first, then by node.
pub fn tasks(store: &Store) -> Result<Vec<Task>, Error> {
    let absences = store.absences()?;
    let absence_of = |node: &Node| absences.iter().find(|absence| absence.node == node.id).cloned();
    let mut tasks = Vec::new();
    for asr in store.unfinished_asrs()? {
        let Some(name) = asr.name.clone() else { continue };
        let generation = asr.sds.generation();
        let is_lacking = asr.members.iter().any(|member| member.state == MemberState::Pending);
        for member in &asr.members {
            let work = match member.state {
                MemberState::Pending => Work::Install(generation),
                MemberState::Installed if is_lacking && !asr.released => Work::Wait(generation),
                MemberState::Installed => Work::Activate(generation),
                MemberState::Active | MemberState::Erased => continue,
            };
            if let Some(node) = store.node_by_id(member.node)? {
                let absence = absence_of(&node);
                tasks.push(Task { node, asr: name.clone(), work, since: asr.made_at, absence });
            }
        }
    }
    for leftover in store.leftovers()? {
        if let Some(node) = store.node_by_id(leftover.node)? {
            let absence = absence_of(&node);
            tasks.push(Task { node, asr: leftover.name, work: Work::Erase, since: leftover.since, absence });
        }
    }
    tasks.sort_by_key(|task| (task.since, task.node.name.clone(), task.asr.clone()));
    Ok(tasks)
}

/// What came of the ASRs in which a member found back.
#[derive(Debug, Default)]
pub struct Renewals {
    /// How many are renewed.
    pub renewed: u64,
    /// Why the first that failed is not.
    pub failed: Option<Error>,
}

/// Makes a new generation of each ASR of which a node says that it found back by a fallback or a failsafe: whoever
/// recorded that, and commands an element of a member later, could read from there on.
pub fn renew_found_back(
    store: &Store,
    heard: &[RelationshipStatus],
    tell: &mut dyn FnMut(Progress),
) -> Result<Renewals, Error> {
    let mut renewals = Renewals::default();
    for asr in store.asrs()? {
        let (id, generation) = (asr.id(), asr.sds.generation());
        let is_of_it = |status: &&RelationshipStatus| {
            status.relationship == id && status.generation == generation && status.found_back > 0
        };
        let (Some(name), Some(status)) = (&asr.name, heard.iter().find(is_of_it)) else { continue };
        info!(relationship = %id, label = %name, generation, found_back = status.found_back, "found back");
        tell(OfWork::FoundBack { asr: name.clone() }.into());
        let wish = Change { wish: Wish::RenewFoundBack, without_absent: false };
        match change(store, name, &wish, tell) {
            Ok(_) => {
                renewals.renewed += 1;
                tell(OfWork::Renewed { asr: name.clone() }.into());
            }
            // It goes on by itself, or when the other command is done.
            Err(why) if is_parked(&why) || why.kind() == Kind::Held => {
                tell(OfWork::RenewedLater { asr: name.clone(), why }.into());
            }
            // The others are nothing to it.
            Err(error) => renewals.failed = renewals.failed.or(Some(error)),
        }
    }
    Ok(renewals)
}

/// Does what is parked for these nodes, and for what hangs on that also at others, unless they are known to be away.
/// Whoever is away stays parked; an ASR that another command works on is left to that. Tells what was done.
pub fn carry_on(store: &Store, nodes: &BTreeSet<AkmId>, tell: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    let mut failed = None;
    for asr in store.unfinished_asrs()? {
        if lacking(&asr).any(|id| nodes.contains(&id)) {
            // The others are nothing to it.
            failed = failed.or(carry_on_with(store, &asr, nodes, tell).err());
        }
    }
    let leftovers = store.leftovers()?.into_iter().filter(|leftover| nodes.contains(&leftover.node));
    let former: BTreeSet<AkmId> = leftovers.map(|leftover| leftover.node).collect();
    for id in former {
        let Some(node) = store.node_by_id(id)? else { continue };
        let erased = Link::open(store, &node).map_err(Error::from);
        match erased.and_then(|mut link| erase_leftovers(store, &mut link)) {
            Ok(()) => {
                store.forget_absence(id)?;
                tell(OfWork::Erased { node: node.name }.into());
            }
            Err(error) => store.note_absence(id, &error.to_string(), Timestamp::now())?,
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Whether a change waits for members, or members for the word to begin: both go on by themselves.
fn is_parked(error: &Error) -> bool {
    matches!(error.kind(), Kind::Parked | Kind::BeginsLater)
}

/// The members that do not use the present generation.
fn lacking(asr: &Relationship) -> impl Iterator<Item = AkmId> {
    asr.members.iter().filter(|member| member.state != MemberState::Active).map(|member| member.node)
}

fn carry_on_with(
    store: &Store,
    asr: &Relationship,
    reached: &BTreeSet<AkmId>,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let Some(name) = &asr.name else { return Ok(()) };
    let Ok(Some(_held)) = store.lock_if_free(LockKey::Asr(name.clone())) else {
        return Ok(());
    };
    // It may have come to its end before the lock was held.
    let Some(asr) = store.asr_by_name(name)?.filter(|found| found.id() == asr.id()) else { return Ok(()) };
    let away: BTreeSet<AkmId> = store.absences()?.iter().map(|absence| absence.node).collect();
    let mut nodes = Vec::new();
    for id in lacking(&asr).filter(|id| reached.contains(id) || !away.contains(id)) {
        nodes.extend(store.node_by_id(id)?.filter(|node| node.status == NodeStatus::Active));
    }
    let nodes = in_order(&asr, nodes);
    let before: Vec<_> = asr.members.iter().map(|member| member.state).collect();
    let reached = match reach(store, &nodes) {
        Ok(reached) => reached,
        // Another command has one of them: it does this work.
        Err(error) if error.kind() == Kind::Held => return Ok(()),
        Err(error) => return Err(error),
    };
    match bring_forward(store, &asr, &nodes, reached, false) {
        Ok(_) => {}
        Err(error) if is_parked(&error) => {}
        Err(error) => return Err(error),
    }
    if let Some(after) = store.relationship(asr.id())?
        && after.members.iter().map(|member| member.state).ne(before)
    {
        let (generation, lacking) = (after.sds.generation(), lacking(&after).count());
        tell(OfWork::Generation { asr: name.clone(), generation, lacking }.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_up_to_an_hour() {
        let absence = |tries| Absence {
            node: AkmId::from_random([1; 16]),
            since: Timestamp::from_unix_millis(0),
            tried_at: Timestamp::from_unix_millis(1000),
            tries,
            reason: String::new(),
        };
        let after = |tries| next_try(&absence(tries)).as_unix_millis() - 1000;
        assert_eq!([after(1), after(2), after(3)], [30_000, 60_000, 120_000]);
        assert_eq!([after(8), after(1000)], [3_600_000; 2]);
    }
}
