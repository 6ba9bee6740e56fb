//! What the virtual module does: it makes generations, and brings them and its word to the nodes.

use std::collections::BTreeSet;

use akm_core::lineage::{Arrival, Lineage};

use super::World;
use crate::action::Change;
use crate::flaw::Flaw;
use crate::invariant::Violation;
use crate::node::NotInstalled;
use crate::process::Aftermath;
use crate::random::{Part, Random};

impl World {
    /// The module makes another generation. Its members get it when the module works.
    pub(crate) fn change(&mut self, relationship: usize, change: Change) -> Result<(), Violation> {
        self.ask_after_restore(relationship);
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
    fn ask_after_restore(&mut self, relationship: usize) {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            if !self.module.ledger(relationship).ask.remove(&node.identity) {
                continue;
            }
            let held = node.lineage(relationship).into_iter().flat_map(Lineage::sessions);
            for session in held {
                let sds = session.membership().sds();
                let ledger = self.module.ledger(relationship);
                ledger.highest = ledger.highest.max(sds.generation());
                ledger.version = ledger.version.max(sds.element_version());
            }
        }
    }

    /// The module does what is parked, at the nodes that run: gives them their generation, and its word once
    /// all have it.
    pub(crate) fn module_works(&mut self) -> Result<(), Violation> {
        for relationship in 0..self.module.relationships() {
            self.ask_after_restore(relationship);
            let ledger = self.module.ledger(relationship);
            let forgotten = ledger.highest > self.issues[ledger.latest].sds.generation();
            if forgotten || !self.install_parked(relationship)? {
                // A node holds one that this module does not know, since its backup is older: it makes another
                // above all. Whom the forgotten one removed it does not know either.
                self.module.ledger(relationship).ask.extend(0..self.nodes.len());
                self.change(relationship, Change::Renew { suspect: true })?;
                continue;
            }
            self.give_word(relationship)?;
        }
        Ok(())
    }

    fn install_parked(&mut self, relationship: usize) -> Result<bool, Violation> {
        let latest = self.module.ledger(relationship).latest;
        for member in self.issues[latest].members.clone() {
            if self.module.ledger(relationship).acknowledged.contains(&member) {
                continue;
            }
            let Some(node) = self.running(member) else { continue };
            let mut aftermath = Aftermath::default();
            let arrival = self.nodes[node].take_in(self.now, latest, &self.issues, &mut aftermath);
            self.carry_on(node, aftermath)?;
            match arrival {
                Ok(Arrival::Held | Arrival::Above) => {
                    self.module.ledger(relationship).acknowledged.insert(member);
                }
                Err(NotInstalled::NotAbove) => return Ok(false),
                Err(NotInstalled::Trouble) => {}
            }
        }
        Ok(true)
    }

    fn give_word(&mut self, relationship: usize) -> Result<(), Violation> {
        let ledger = self.module.ledger(relationship);
        let latest = ledger.latest;
        let issue = &self.issues[latest];
        let generation = issue.sds.generation();
        if issue.members.iter().any(|member| !ledger.acknowledged.contains(member)) || generation == 1 {
            return Ok(());
        }
        for member in issue.members.clone() {
            if self.module.ledger(relationship).told.contains(&member) {
                continue;
            }
            let Some(node) = self.running(member) else { continue };
            self.activate(node, relationship, generation)?;
            let active = self.nodes[node].lineage(relationship).and_then(Lineage::active);
            if active.is_some_and(|active| active.membership().sds().generation() >= generation) {
                self.module.ledger(relationship).told.insert(member);
            }
        }
        Ok(())
    }

    /// The node of this identity that the module reaches.
    fn running(&self, identity: usize) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.nodes[*node].identity == identity && self.nodes[*node].runs())
    }
}
