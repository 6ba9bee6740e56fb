//! What is watched of what a node is given: what it believes because of that, and what it spends.

use std::time::Duration;

use super::limits::{self, element_is_spared};
use super::{SECOND, Spending, Watch, violated};
use crate::happening::Given;
use crate::invariant::{Invariant, Violation};

impl Watch {
    pub(super) fn given(&mut self, node: usize, what: Given) {
        let Some(process) = &mut self.nodes[node].process else { return };
        (process.given, process.authentic) = (Some(what), false);
        (process.asked, process.ended) = (0, 0);
        let of_it = limits::of_an_input(what, process.sessions.len() as u64);
        process.allowed.calls += of_it.calls;
        process.allowed.writes += of_it.writes;
        process.sessions.values_mut().for_each(|session| session.refused = None);
    }

    pub(super) fn asked(
        &mut self,
        now: Duration,
        node: usize,
        issue: Option<usize>,
        epoch: u32,
    ) -> Result<(), Violation> {
        let process = self.process(node);
        process.asked += 1;
        let (asked, deferred) = (process.asked, process.deferred);
        let by_frame = matches!(process.given, Some(Given::Datagram(_)));
        // One that had to wait until it may be followed may have its turn with it.
        let mut stands = process.sessions.values().filter_map(|session| session.stands.as_ref());
        let waits = stands.any(|stands| stands.host_bytes > 0);
        if by_frame && !deferred && !waits && asked > 1 {
            return violated(
                Invariant::ElementSpared,
                format!("node {node} asks its element {asked} times because of one frame"),
            );
        }
        let given = process.given;
        let session = issue.and_then(|issue| process.sessions.get_mut(&issue));
        match session {
            Some(session) if by_frame || given == Some(Given::Answer) => {
                element_is_spared(now, node, session, epoch, deferred)
            }
            _ => Ok(()),
        }
    }

    /// All is done that comes of what was given.
    pub(super) fn rests(&mut self, node: usize, calls: u64, writes: u64) -> Result<(), Violation> {
        let before = std::mem::replace(&mut self.nodes[node].spent, (calls, writes));
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let spent =
            Spending { calls: calls.saturating_sub(before.0), writes: writes.saturating_sub(before.1) };
        process.used.calls += spent.calls;
        process.used.writes += spent.writes;
        limits::spending_is_bounded(node, process, spent)
    }

    /// A record is lost, so what it was for had authenticated. Where it is no place, the frame says which epoch that was.
    pub(super) fn not_written(&mut self, now: Duration, node: usize, issue: usize, epoch: Option<u32>) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let of_frame = match process.given {
            Some(Given::Datagram(Some(header))) => Some(header.epoch),
            _ => None,
        };
        let session = process.sessions.get_mut(&issue);
        if let (None, None, Some(session)) = (epoch, of_frame, session) {
            session.unproven.pop_front();
        }
        self.proven(now, node, epoch.or(of_frame));
    }

    /// A frame of this epoch authenticated, or something else that this node was right to believe: if the element was
    /// asked for the epoch, that call counts no more.
    pub(super) fn proven(&mut self, now: Duration, node: usize, epoch: Option<u32>) {
        let Some(process) = &mut self.nodes[node].process else { return };
        process.authentic = true;
        for session in process.sessions.values_mut() {
            let asked = session.unproven.iter().rposition(|(_, asked)| Some(*asked) == epoch);
            asked.map(|at| session.unproven.remove(at));
            session.unproven.retain(|(asked, _)| *asked + SECOND > now);
        }
    }
}
