//! What the virtual module remembers of the relationships that it made.

use std::collections::BTreeSet;

use crate::issue::Issue;

/// What the module knows of its relationships. A copy of it is a backup.
#[derive(Clone, Debug)]
pub struct Module {
    ledgers: Vec<Ledger>,
}

/// What it knows of one relationship.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// The number of the latest issue.
    pub(crate) latest: usize,
    /// The highest generation that it has heard of.
    pub(crate) highest: u32,
    /// The highest element version that it has heard of.
    pub(crate) version: u32,
    /// Members that it must still ask for their status since it was restored.
    pub(crate) ask: BTreeSet<usize>,
    /// Members that have the latest issue.
    pub(crate) acknowledged: BTreeSet<usize>,
    /// Members that have its word for the latest issue.
    pub(crate) told: BTreeSet<usize>,
}

impl Module {
    /// A module that has issued these and given its word for those that are active.
    pub fn new(issues: &[Issue]) -> Self {
        let ledger = |(latest, issue): (usize, &Issue)| {
            let all: BTreeSet<usize> = issue.members.iter().copied().collect();
            Ledger {
                latest,
                highest: 1,
                version: 1,
                ask: BTreeSet::new(),
                told: if issue.active { all.clone() } else { BTreeSet::new() },
                acknowledged: all,
            }
        };
        Self { ledgers: issues.iter().enumerate().map(ledger).collect() }
    }

    /// The latest issue of a relationship.
    pub fn latest(&self, relationship: usize) -> usize {
        self.ledgers[relationship].latest
    }

    /// What it knows of a relationship.
    pub(crate) fn ledger(&mut self, relationship: usize) -> &mut Ledger {
        &mut self.ledgers[relationship]
    }

    /// How many relationships it has made.
    pub(crate) fn relationships(&self) -> usize {
        self.ledgers.len()
    }

    /// A backup is put back: what it knows may be old, so all nodes are asked for their status.
    pub fn restore(&mut self, backup: &Self, nodes: usize) {
        *self = backup.clone();
        for ledger in &mut self.ledgers {
            ledger.ask = (0..nodes).collect();
        }
    }
}
