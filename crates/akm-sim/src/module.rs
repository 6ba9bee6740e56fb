use std::collections::BTreeSet;

use akm_core::lineage::Arrival;

use crate::flaw::Flaw;
use crate::invariant::Violation;
use crate::node::{NotInstalled, Outcome};
use crate::random::{Part, Random};
use crate::relationship::Relationship;
use crate::world::World;

/// What the module knows of its relationships. A copy of it is a backup.
#[derive(Clone, Debug)]
pub struct Module {
    lines: Vec<Line>,
}

/// One relationship.
#[derive(Clone, Debug)]
struct Line {
    /// The number of its latest generation.
    latest: usize,
    /// The highest generation that it has heard of.
    highest: u32,
    /// The highest element version that it has heard of.
    version: u32,
    /// Members that it must still ask for their status since it was restored.
    ask: BTreeSet<usize>,
    acknowledged: BTreeSet<usize>,
    told: BTreeSet<usize>,
}

/// Another generation of a relationship.
#[expect(missing_docs, reason = "the words of each variant name its fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// With the same members; they are suspected or not.
    Renew { suspect: bool },
    /// With one more.
    Add { node: usize },
    /// Without one.
    Remove { node: usize },
}

impl Module {
    /// A module that has issued these and given its word for those that are active.
    pub fn new(relationships: &[Relationship]) -> Self {
        let line = |(latest, relationship): (usize, &Relationship)| {
            let all: BTreeSet<usize> = relationship.members.iter().copied().collect();
            Line {
                latest,
                highest: 1,
                version: 1,
                ask: BTreeSet::new(),
                told: if relationship.active { all.clone() } else { BTreeSet::new() },
                acknowledged: all,
            }
        };
        Self { lines: relationships.iter().enumerate().map(line).collect() }
    }

    /// The latest generation of a relationship.
    pub fn latest(&self, lineage: usize) -> usize {
        self.lines[lineage].latest
    }

    /// A backup is put back: what it knows may be old, so all nodes are asked for their status.
    pub fn restore(&mut self, backup: &Self, nodes: usize) {
        *self = backup.clone();
        for line in &mut self.lines {
            line.ask = (0..nodes).collect();
        }
    }
}

impl World {
    /// The module makes another generation. Its members get it when the module works.
    pub(crate) fn change(&mut self, lineage: usize, change: Change) -> Result<(), Violation> {
        self.ask_after_restore(lineage);
        let line = &self.module.lines[lineage];
        let before = &self.relationships[line.latest];
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
        let generation = line.highest + 1;
        let version = line.version + u32::from(raises);
        let number = self.relationships.len();
        let random = Random::stream(self.setup.seed, Part::Module, number);
        let made = before.next(random, generation, version, &members);
        let overlap = self.setup.relationships[lineage].policy.overlap;
        self.watch.issued(lineage, of_watch, generation, version, overlap);
        self.relationships.push(made);
        let line = &mut self.module.lines[lineage];
        (line.latest, line.highest, line.version) = (number, generation, version);
        (line.acknowledged, line.told) = (BTreeSet::new(), BTreeSet::new());
        self.watch.tally.changes += 1;
        self.module_works()
    }

    /// After its own restore the module first hears what the nodes hold.
    fn ask_after_restore(&mut self, lineage: usize) {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            if !self.module.lines[lineage].ask.remove(&node.identity) {
                continue;
            }
            let held = node.lineage(lineage).into_iter().flat_map(akm_core::lineage::Lineage::sessions);
            for session in held {
                let sds = session.membership().sds();
                let line = &mut self.module.lines[lineage];
                line.highest = line.highest.max(sds.generation());
                line.version = line.version.max(sds.element_version());
            }
        }
    }

    /// The module does what is parked, at the nodes that run: gives them their generation, and its word once
    /// all have it.
    pub(crate) fn module_works(&mut self) -> Result<(), Violation> {
        for lineage in 0..self.module.lines.len() {
            self.ask_after_restore(lineage);
            let line = &self.module.lines[lineage];
            let forgotten = line.highest > self.relationships[line.latest].sds.generation();
            if forgotten || !self.install_parked(lineage)? {
                // A node holds one that this module does not know, since its backup is older: it makes another
                // above all. Whom the forgotten one removed it does not know either.
                self.module.lines[lineage].ask.extend(0..self.nodes.len());
                self.change(lineage, Change::Renew { suspect: true })?;
                continue;
            }
            self.give_word(lineage)?;
        }
        Ok(())
    }

    fn install_parked(&mut self, lineage: usize) -> Result<bool, Violation> {
        let latest = self.module.lines[lineage].latest;
        for member in self.relationships[latest].members.clone() {
            if self.module.lines[lineage].acknowledged.contains(&member) {
                continue;
            }
            let Some(node) = self.running(member) else { continue };
            let mut outcome = Outcome::default();
            let arrival = self.nodes[node].take_in(self.now, latest, &self.relationships, &mut outcome);
            self.carry_on(node, outcome)?;
            match arrival {
                Ok(Arrival::Held | Arrival::Above) => {
                    self.module.lines[lineage].acknowledged.insert(member);
                }
                Err(NotInstalled::NotAbove) => return Ok(false),
                Err(NotInstalled::Trouble) => {}
            }
        }
        Ok(true)
    }

    fn give_word(&mut self, lineage: usize) -> Result<(), Violation> {
        let line = &self.module.lines[lineage];
        let latest = line.latest;
        let relationship = &self.relationships[latest];
        let generation = relationship.sds.generation();
        if relationship.members.iter().any(|member| !line.acknowledged.contains(member)) || generation == 1 {
            return Ok(());
        }
        for member in relationship.members.clone() {
            if self.module.lines[lineage].told.contains(&member) {
                continue;
            }
            let Some(node) = self.running(member) else { continue };
            self.activate(node, lineage, generation)?;
            let active = self.nodes[node].lineage(lineage).and_then(akm_core::lineage::Lineage::active);
            if active.is_some_and(|active| active.membership().sds().generation() >= generation) {
                self.module.lines[lineage].told.insert(member);
            }
        }
        Ok(())
    }

    /// The node of this identity that the module reaches.
    fn running(&self, identity: usize) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.nodes[*node].identity == identity && self.nodes[*node].runs())
    }
}
