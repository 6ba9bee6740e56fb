//! What a node wants written, and what becomes of it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::{Discriminant, discriminant};

use akm_core::id::RelationshipId;
use akm_core::session::FoundBack;

use crate::installed::Installed;
use crate::{Endpoint, GenerationId};

/// One change of what the disk holds: durable as a whole or not at all, unless it says more. Repeating one changes
/// nothing.
#[derive(Debug)]
pub enum Write {
    /// Replace the sealed place of a generation. Run and epoch are what it says.
    Place {
        /// Which generation.
        of: GenerationId,
        /// Its run.
        run: u32,
        /// Its epoch.
        epoch: u32,
        /// The record.
        sealed: Vec<u8>,
    },
    /// Remember that a generation is active.
    Active {
        /// Which generation.
        of: GenerationId,
    },
    /// Remember that the node found back once more.
    FoundBack {
        /// Which generation.
        of: GenerationId,
        /// How.
        found: FoundBack,
    },
    /// Remember where the members are, and what they are called.
    Endpoints {
        /// Which generation.
        of: GenerationId,
        /// In the order of the members.
        labels: Vec<String>,
        /// The same.
        endpoints: Vec<Option<Endpoint>>,
    },
    /// Keep a generation, with its first place. What makes it count comes last.
    Install {
        /// The generation.
        installed: Box<Installed>,
        /// Its first place.
        sealed: Vec<u8>,
        /// Whether others of its relationship are held, beside which it is kept. Else what is there under this
        /// relationship is a leftover, and it appears as a whole or not at all.
        beside: bool,
    },
    /// Remove what is there of all generations of a relationship but these; places first.
    KeepGenerations {
        /// Which relationship.
        relationship: RelationshipId,
        /// What stays.
        kept: BTreeSet<u32>,
    },
    /// Take all records of a relationship out of use, in one step.
    Erase {
        /// Which relationship.
        relationship: RelationshipId,
    },
    /// Remove what [`Write::Erase`] took out of use.
    Forget {
        /// Which relationship.
        relationship: RelationshipId,
    },
    /// Give the identity up.
    Disown,
}

/// A write did not come about; what was there stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct WriteFailed {
    /// Whether the disk takes nothing at this moment, rather than that something stands in the way of this record.
    pub of_the_disk: bool,
    /// Why, in words.
    pub why: String,
}

impl Write {
    pub(crate) fn kind(&self) -> Discriminant<Self> {
        discriminant(self)
    }
}
