//! What can be measured: one file for each part, and the list of all.

mod carrier;
mod ceremony;
mod elements;
mod epochs;
mod frames;
mod groups;
mod start;

use crate::error::BenchError;
use crate::report::Row;
use crate::rounds::Effort;

/// Something that can be measured by itself.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What the command line calls it.
    pub name: &'static str,
    /// What it measures, in one line.
    pub about: &'static str,
    /// How much of the length of a whole run it gets, against the others.
    pub weight: u32,
    run: fn(Effort, &std::path::Path) -> Result<Vec<Row>, BenchError>,
}

impl Part {
    /// Measures. Files and processes that it needs are in a directory below `scratch`, and are gone afterwards.
    pub fn run(&self, effort: Effort, scratch: &std::path::Path) -> Result<Vec<Row>, BenchError> {
        (self.run)(effort, scratch)
    }
}

/// All parts, in the order in which they run.
pub const PARTS: [Part; 9] = [
    Part {
        name: "seal",
        about: "sealing a frame against the AEAD alone",
        weight: 2,
        run: |effort, _| frames::seal(effort),
    },
    Part {
        name: "open",
        about: "opening a frame against the AEAD alone",
        weight: 2,
        run: |effort, _| frames::open(effort),
    },
    Part {
        name: "carrier",
        about: "frames over UDP on this machine, sealed against clear",
        weight: 1,
        run: |effort, _| carrier::run(effort),
    },
    Part {
        name: "epochs",
        about: "moving to the next epoch, and over 2^20",
        weight: 1,
        run: |effort, _| epochs::run(effort),
    },
    Part {
        name: "groups",
        about: "what members cost: rotation, catching up, changes, memory",
        weight: 3,
        run: |effort, _| groups::run(effort),
    },
    Part {
        name: "ceremony",
        about: "a whole local ceremony against the disk",
        weight: 3,
        run: ceremony::one,
    },
    Part { name: "ceremonies", about: "100 ceremonies at once against one", weight: 6, run: ceremony::many },
    Part {
        name: "elements",
        about: "F and a whole ceremony with a TPM, a token and a card, against software",
        weight: 4,
        run: elements::run,
    },
    Part {
        name: "start",
        about: "starting a node with 1, 1,000 and 100,000 relationships",
        weight: 6,
        run: start::run,
    },
];
