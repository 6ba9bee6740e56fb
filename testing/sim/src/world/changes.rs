//! What the virtual module does: it makes generations, and brings them and its word to the nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use akm_core::lineage::Lineage;
use akm_core::management::{
    ActivateRequest, EraseRequest, Operation, Outcome, PAGE_MAX, SetEndpoints, StatusAnswer, StatusRequest,
    Taken,
};
use akm_host::{Endpoint, Stream};

use super::World;
use crate::action::Change;
use crate::flaw::Flaw;
use crate::invariant::Violation;
use crate::issue::{node_of_id, relationship_id};
use crate::node::issue_of;
use crate::random::{Part, Random};

impl World {
    /// The module makes another generation. Its members get it when the module works.
    pub(crate) fn change(&mut self, relationship: usize, change: Change) -> Result<(), Violation> {
        self.ask_after_restore(relationship)?;
        let ledger = self.module.ledger(relationship);
        let before = &self.issues[ledger.latest];
        let mut members = before.members.clone();
        let mut raises = false;
        let mut removed = None;
        match change {
            Change::Renew { suspect } => raises = suspect,
            Change::Add { node } if !members.contains(&node) => {
                members.push(node);
                members.sort_unstable();
            }
            Change::Remove { node } if members.len() > 2 && members.contains(&node) => {
                raises = true;
                removed = Some(node);
                members.retain(|member| *member != node);
            }
            Change::Add { .. } | Change::Remove { .. } => return Ok(()),
        }
        let of_watch = members.clone();
        if let Some(node) = removed.filter(|_| self.setup.flaw == Some(Flaw::KeepsRemovedMembers)) {
            members.push(node);
            members.sort_unstable();
            raises = false;
        }
        // Whoever was added once before may hold an old root of that version.
        let generation = ledger.highest + 1;
        let version = ledger.version + u32::from(raises);
        let number = self.issues.len();
        let random = Random::stream(self.setup.seed, Part::Module, number);
        let made = before.next(random, generation, version, &members);
        let overlap = self.setup.relationships[relationship].policy.overlap;
        self.watch.issued(relationship, of_watch, generation, version, overlap);
        self.issues.push(made);
        let ledger = self.module.ledger(relationship);
        (ledger.latest, ledger.highest, ledger.version) = (number, generation, version);
        (ledger.acknowledged, ledger.told) = (BTreeSet::new(), BTreeSet::new());
        self.watch.tally.changes += 1;
        self.module_works()
    }

    /// After its own restore the module first hears what the nodes hold.
    fn ask_after_restore(&mut self, relationship: usize) -> Result<(), Violation> {
        for node in 0..self.nodes.len() {
            let identity = self.nodes[node].identity;
            if !self.nodes[node].runs() || !self.module.ledger(relationship).ask.contains(&identity) {
                continue;
            }
            let request = StatusRequest { after: None, most: PAGE_MAX as u16 };
            let answer = self.request(node, Operation::Status, &request.emit())?;
            let Some((Outcome::Done, body)) = answer else { continue };
            let Ok(status) = StatusAnswer::parse(&body) else { continue };
            let ledger = self.module.ledger(relationship);
            ledger.ask.remove(&identity);
            let wanted = relationship_id(relationship);
            for status in status.relationships.iter().filter(|status| status.relationship == wanted) {
                ledger.highest = ledger.highest.max(status.highest);
                ledger.version = ledger.version.max(status.element_version);
            }
        }
        Ok(())
    }

    /// The module does what is parked, at the nodes that run: gives them their generation, and its word once
    /// all have it.
    pub(crate) fn module_works(&mut self) -> Result<(), Violation> {
        for relationship in 0..self.module.relationships() {
            self.ask_after_restore(relationship)?;
            let ledger = self.module.ledger(relationship);
            let forgotten = ledger.highest > self.issues[ledger.latest].sds.generation();
            let conflict = if forgotten { None } else { self.install_parked(relationship)? };
            if forgotten || conflict.is_some() {
                // A node holds one that this module does not know, since its backup is older: it makes another
                // above all. Whom the forgotten one removed it does not know either.
                self.module.ledger(relationship).ask.extend(0..self.nodes.len());
                self.ask_after_restore(relationship)?;
                let asked = |identity| !self.module.ledger(relationship).ask.contains(&identity);
                if conflict.is_none_or(asked) {
                    self.change(relationship, Change::Renew { suspect: true })?;
                }
                continue;
            }
            self.give_word(relationship)?;
        }
        Ok(())
    }

    /// Sends the latest generation to the members that run and do not have it; the first that has another in its stead.
    fn install_parked(&mut self, relationship: usize) -> Result<Option<usize>, Violation> {
        let latest = self.module.latest(relationship);
        for member in self.issues[latest].members.clone() {
            if self.module.ledger(relationship).acknowledged.contains(&member) {
                continue;
            }
            let Some(node) = self.running(member) else { continue };
            let issue = &self.issues[latest];
            let endpoints = issue.members.iter().map(|member| self.address_of(*member).to_string()).collect();
            let message = issue.message(member, endpoints).emit();
            match self.request(node, Operation::Install, message.expose())? {
                Some((Outcome::Done, _)) => {
                    self.module.ledger(relationship).acknowledged.insert(member);
                }
                Some((Outcome::Conflict, _)) => return Ok(Some(member)),
                Some(_) | None => {}
            }
        }
        Ok(None)
    }

    fn give_word(&mut self, relationship: usize) -> Result<(), Violation> {
        let ledger = self.module.ledger(relationship);
        let latest = ledger.latest;
        let issue = &self.issues[latest];
        let waits = issue.members.iter().any(|member| !ledger.acknowledged.contains(member));
        if waits || issue.sds.generation() == 1 {
            return Ok(());
        }
        for member in issue.members.clone() {
            if self.module.ledger(relationship).told.contains(&member) {
                continue;
            }
            let Some(node) = self.running(member) else { continue };
            if self.give_word_to(node, latest)? {
                self.module.ledger(relationship).told.insert(member);
            }
        }
        Ok(())
    }

    /// The module's word for the latest generation that a node holds and that is not active there.
    pub(crate) fn activate(&mut self, node: usize, relationship: usize) -> Result<(), Violation> {
        let staged = self.nodes[node].lineage(relationship).and_then(Lineage::staged);
        let staged = staged.and_then(|session| issue_of(&self.issues, session.membership().sds().digest()));
        match staged {
            Some(issue) => self.give_word_to(node, issue).map(|_| ()),
            None => Ok(()),
        }
    }

    fn give_word_to(&mut self, node: usize, issue: usize) -> Result<bool, Violation> {
        let (relationship, generation) = self.issues[issue].id();
        let request = ActivateRequest { relationship, generation, follow: false };
        let answer = self.request(node, Operation::Activate, &request.emit())?;
        Ok(matches!(answer, Some((Outcome::Done, _))))
    }

    /// The module has a relationship erased at a node that is no member any more.
    pub(crate) fn erase(&mut self, node: usize, relationship: usize) -> Result<(), Violation> {
        let latest = self.module.latest(relationship);
        if !self.issues[latest].members.contains(&self.nodes[node].identity) {
            let request = EraseRequest::Relationship(relationship_id(relationship));
            self.request(node, Operation::Erase, &request.emit())?;
        }
        Ok(())
    }

    /// The module tells the members of a relationship where the others are, where they do not know it.
    pub(crate) fn tell_addresses(&mut self, relationship: usize) -> Result<(), Violation> {
        for node in 0..self.nodes.len() {
            let Some(lineage) = self.nodes[node].lineage(relationship) else { continue };
            let Some((session, known)) = lineage.entries().next_back() else { continue };
            let members = session.membership().sds().members().iter().map(|id| node_of_id(*id));
            let own = usize::from(session.membership().index());
            let addresses: Vec<Endpoint> = members.map(|member| self.address_of(member)).collect();
            let knows =
                |(at, address): (usize, &Endpoint)| at == own || known.endpoints[at] == Some(*address);
            if addresses.iter().enumerate().all(knows) {
                continue;
            }
            let entry = |(at, address): (usize, &Endpoint)| (at as u16, format!("{at}"), address.to_string());
            let entries = addresses.iter().enumerate().map(entry).collect();
            let request = SetEndpoints { relationship: relationship_id(relationship), entries };
            self.request(node, Operation::SetEndpoints, &request.emit())?;
        }
        Ok(())
    }

    /// The module asks a node something and waits a while for the answer; `None`: none came.
    fn request(
        &mut self,
        node: usize,
        operation: Operation,
        body: &[u8],
    ) -> Result<Option<(Outcome, Vec<u8>)>, Violation> {
        if !self.nodes[node].runs() {
            return Ok(None);
        }
        let identity = self.nodes[node].identity;
        let number = self.links[identity].open();
        let stream = Stream((identity as u64) << 32 | number);
        let first = self.links[identity].begin();
        let answer = match self.ask(node, stream, &first)? {
            Some(Taken::Begun(..)) => {
                let request = self.links[identity].request(operation as u8, body);
                match self.ask(node, stream, &request)? {
                    Some(Taken::Answer(response)) => Some((response.outcome, response.body)),
                    _ => None,
                }
            }
            _ => None,
        };
        self.at(node, |node, now, issues, aftermath| node.close_stream(now, stream, issues, aftermath))?;
        Ok(answer)
    }

    fn ask(&mut self, node: usize, stream: Stream, request: &[u8]) -> Result<Option<Taken>, Violation> {
        let identity = self.nodes[node].identity;
        let end = self.now + PATIENCE;
        for attempt in 0..ATTEMPTS {
            let mut frames = Vec::new();
            if attempt > 0 {
                frames.extend(self.links[identity].advance(self.now));
            }
            frames.extend(self.links[identity].say(self.now, request));
            loop {
                for frame in frames.drain(..) {
                    self.at(node, |node, now, issues, aftermath| {
                        node.hear_module(now, stream, &frame, issues, aftermath);
                    })?;
                }
                let mut was_behind = false;
                for (_, reply) in std::mem::take(&mut self.replies).iter().filter(|(to, _)| *to == stream) {
                    let heard = self.links[identity].hear(self.now, reply);
                    let taken = heard
                        .taken
                        .into_iter()
                        .find(|taken| !matches!(taken, Taken::Nothing | Taken::Forged));
                    if taken.is_some() {
                        return Ok(taken);
                    }
                    was_behind |= heard.was_behind;
                }
                if was_behind {
                    frames.extend(self.links[identity].say(self.now, request));
                } else if self.nodes[node].answers_at().is_none() || !self.happen_next(end)? {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Whether a node has the addresses of all others in the generation that it holds last.
    pub(crate) fn knows_addresses(&self, node: usize, relationship: usize) -> bool {
        let entry = self.nodes[node].lineage(relationship).and_then(|lineage| lineage.entries().next_back());
        entry.is_some_and(|(session, known)| {
            let members = session.membership().sds().members().iter().map(|id| node_of_id(*id));
            let own = usize::from(session.membership().index());
            let mut others = members.enumerate().filter(|(at, _)| *at != own);
            others.all(|(at, member)| known.endpoints[at] == Some(self.address_of(member)))
        })
    }

    fn address_of(&self, identity: usize) -> Endpoint {
        self.nodes[identity].address
    }

    /// The node of this identity that the module reaches.
    fn running(&self, identity: usize) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.nodes[*node].identity == identity && self.nodes[*node].runs())
    }
}

/// How often a request is sent.
const ATTEMPTS: u32 = 3;

/// How long the module waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
