//! What is watched of places that come from others, and of generations.

use std::time::Duration;

use akm_core::frame::{Class, Header};
use akm_core::session::{FoundBack, Way};

use super::{Issued, Watch, WatchedNode, name, rank, violated};
use crate::happening::Found;
use crate::invariant::{Invariant, Violation};

/// For so long a member that has confirmed a failsafe takes no place from others.
const LATELY: Duration = Duration::from_secs(60);

impl Watch {
    /// A place that a node had not reached by itself becomes durable.
    pub(super) fn found_back(
        &mut self,
        now: Duration,
        node: usize,
        issue: usize,
        found: &FoundBack,
    ) -> Result<(), Violation> {
        let FoundBack { way, run, epoch, .. } = *found;
        let identity = self.nodes[node].identity;
        let was_found = self.session(node, issue).found;
        let without = self.known(node, issue).lost || was_found == Found::RolledBack;
        let known = self.known(node, issue);
        let own = (known.run, known.epoch);
        if !without && (run, rank(epoch)) < (own.0, rank(own.1)) {
            return violated(
                Invariant::NobodyAdoptsALowerPlace,
                format!(
                    "node {node} adopts epoch {epoch} of run {run} and has epoch {} of run {}",
                    own.1, own.0
                ),
            );
        }
        // Who has all keys confirms in the name of others.
        let honest = !self.is_betrayed(issue);
        if honest && way == Way::Failsafe && self.index(issue, identity) == 0 {
            for member in self.issues[issue].members.clone() {
                let lately = |other: &WatchedNode| {
                    let seen = other.without_place.get(&issue);
                    other.identity == member && seen.is_some_and(|at| *at + LATELY >= now)
                };
                if !self.nodes.iter().any(lately) {
                    return violated(
                        Invariant::FailsafeOfAllOrNone,
                        format!("node {node} begins run {run} and node {member} has a place"),
                    );
                }
            }
        }
        let known = self.known(node, issue);
        if without {
            // What it knew is gone. Frames above the place that it is given may be accepted once more.
            (known.run, known.epoch, known.lost) = (run, epoch, false);
            known.delivered.clear();
        }
        let session = self.session(node, issue);
        session.floor = epoch;
        session.found = Found::Good { run, epoch, active: true };
        Ok(())
    }

    /// A generation becomes active at a node.
    pub(super) fn goes_over(&mut self, now: Duration, node: usize, to: usize) {
        let Issued { relationship, generation, .. } = self.issues[to];
        let before = self.nodes[node].disk.iter().filter(|(issue, held)| {
            let other = &self.issues[**issue];
            held.active && !held.erased && other.relationship == relationship && other.generation < generation
        });
        let before = before.map(|(issue, _)| *issue).max_by_key(|issue| self.issues[*issue].generation);
        if let Some(from) = before {
            self.process(node).turned.insert(relationship, (from, to, now));
        }
    }

    /// Nobody sends in a generation below one that is active at the same node.
    pub(super) fn sends_in_its_generation(&self, node: usize, issue: usize) -> Result<(), Violation> {
        let issue = &self.issues[issue];
        let later = self.nodes[node].disk.iter().any(|(other, held)| {
            let other = &self.issues[*other];
            held.active
                && !held.erased
                && other.relationship == issue.relationship
                && other.generation > issue.generation
        });
        if later || !issue.members.contains(&self.nodes[node].identity) {
            return violated(
                Invariant::RemovedMemberOpensNothing,
                format!("node {node} sends in generation {} and is not in it any more", issue.generation),
            );
        }
        Ok(())
    }

    /// A frame arrived that no issue of a node claims: was it one of the generation before, which
    /// should still be open?
    pub(super) fn nothing_lost_by_adding(
        &mut self,
        now: Duration,
        node: usize,
        header: &Header,
    ) -> Result<(), Violation> {
        if header.class != Class::Session {
            return Ok(());
        }
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        for (from, to, since) in process.turned.values() {
            let (before, after) = (&self.issues[*from], &self.issues[*to]);
            let Some(sender) = before.members.get(usize::from(header.sender)) else { continue };
            let Some(sent) = self.sent.get(&name(*from, header)) else { continue };
            // Who has no place there, or is in another run, takes nothing of it.
            let found = process.sessions.get(from).map(|session| session.found);
            let has_place = matches!(found, Some(Found::Good { .. }));
            let one_run = self.nodes[node].disk.get(from).is_some_and(|held| held.run == sent.run);
            let overlaps = before.version == after.version && now < *since + before.overlap;
            let open = overlaps && has_place && one_run;
            if open && after.members.contains(sender) {
                return violated(
                    Invariant::NoMessageLostByAdding,
                    format!(
                        "node {node} went over {:?} ago and takes nothing of the generation before",
                        now - *since
                    ),
                );
            }
        }
        Ok(())
    }
}
