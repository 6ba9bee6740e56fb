//! What is watched of frames that nodes send and accept.

use std::time::Duration;

use akm_core::frame::{FrameKind, Header};

use super::{Sent, Watch, name, rank, violated};
use crate::happening::Delivered;
use crate::invariant::{Invariant, Violation};

/// Salts of a sender that are accepted in an epoch.
const SALTS: usize = 4;

impl Watch {
    pub(super) fn sent(
        &mut self,
        now: Duration,
        node: usize,
        issue: usize,
        header: &Header,
        kind: FrameKind,
        body: &[u8],
    ) -> Result<(), Violation> {
        self.nothing_after_a_refusal(node, issue)?;
        let identity = self.nodes[node].identity;
        let Header { sender, epoch, salt, counter, tag, .. } = *header;
        self.sends_in_its_generation(node, issue)?;
        let run = self.known(node, issue).run;
        let sent = Sent { at: now, run, kind, body: body.to_vec() };
        if self.sent.insert(name(issue, header), sent).is_some() {
            return violated(
                Invariant::NoKeyAndNonceTwice,
                format!(
                    "member {sender} makes two frames in epoch {epoch}, salt {salt:016x}, counter {counter}"
                ),
            );
        }
        let salts = self.salts.entry((issue, tag.0, sender, epoch)).or_default();
        salts.insert(salt);
        if salts.len() > SALTS {
            self.fifth_salt.insert((issue, sender), now);
        }
        let index = self.index(issue, identity);
        let known = self.known(node, issue);
        if known.epoch != epoch || !known.active || sender != index {
            let (durable, active) = (known.epoch, known.active);
            return violated(
                Invariant::DurableBeforeUse,
                format!("node {node} sends in epoch {epoch}; durable is {durable}, active: {active}"),
            );
        }
        Ok(())
    }

    pub(super) fn delivered(
        &mut self,
        now: Duration,
        node: usize,
        issue: usize,
        header: &Header,
        delivery: &Delivered,
    ) -> Result<(), Violation> {
        self.nothing_after_a_refusal(node, issue)?;
        if !self.issues[issue].members.contains(&self.nodes[node].identity) {
            return violated(
                Invariant::RemovedMemberOpensNothing,
                format!("node {node} was removed, and opens a frame of epoch {}", header.epoch),
            );
        }
        let epoch = header.epoch;
        self.proven(now, node, Some(header.epoch));
        let floor = self.session(node, issue).floor;
        if rank(epoch) <= rank(floor) {
            return violated(
                Invariant::NothingFromBeforeTheStart,
                format!("node {node} accepts a frame of epoch {epoch} and had {floor} when it started"),
            );
        }
        let known = self.known(node, issue);
        if rank(epoch) > rank(known.epoch) || !known.active {
            let (durable, active) = (known.epoch, known.active);
            return violated(
                Invariant::DurableBeforeUse,
                format!(
                    "node {node} accepts a frame of epoch {epoch}; durable is {durable}, active: {active}"
                ),
            );
        }
        let Delivered { from, index, kind, payload } = delivery;
        let name = name(issue, header);
        let sender = self.issues[issue].members.get(usize::from(header.sender)).copied();
        let fits = |sent: &&Sent| {
            sent.kind == *kind && sent.body == *payload && sender == Some(*from) && *index == header.sender
        };
        let sent = self.sent.get(&name).filter(fits);
        let is_forged = || self.forged.get(&name).is_some_and(|forged| forged.iter().any(|sent| fits(&sent)));
        if sent.is_none() && !is_forged() {
            return violated(
                Invariant::NothingDeliveredThatNoMemberSent,
                format!(
                    "node {node} accepts \"{}\" of node {from}, which sent no such thing",
                    payload.escape_ascii()
                ),
            );
        }
        let fresh = sent.is_some_and(|sent| sent.at >= self.since);
        if !self.known(node, issue).delivered.insert(name) {
            return violated(
                Invariant::NothingDeliveredTwice,
                format!("node {node} accepts \"{}\" of node {from} again", payload.escape_ascii()),
            );
        }
        if fresh {
            self.heard.entry((issue, *from, node)).or_insert(now);
        }
        Ok(())
    }
}
