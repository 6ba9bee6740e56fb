//! How far a start has come.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use akm_core::id::RelationshipId;
use akm_core::session::Session;
use akm_core::start::Start;
use akm_core::tree::Place;

use crate::GenerationId;
use crate::ask::Answers;
use crate::event::Rest;
use crate::installed::StoredGeneration;
use crate::persist::WriteFailed;
use crate::relationship::Known;

/// What the sealed place of a generation says.
pub(crate) enum FoundPlace {
    NotExamined,
    Good(Place),
    /// Good, and moved on from there, as this node may have been set back.
    Jumped(Place),
    Rests(Rest),
    /// Good, but it could not be written under this start: using it would break the next one.
    NotRecorded(WriteFailed),
}

/// One generation on its way to a session.
pub(crate) struct Candidate {
    pub(crate) of: GenerationId,
    pub(crate) held: Option<StoredGeneration>,
    pub(crate) place: FoundPlace,
    pub(crate) answers: Answers,
    pub(crate) session: Option<(Session, Known)>,
}

pub(crate) enum Stage {
    /// The element is asked who it is and how far it has counted.
    Asking,
    /// So many places are being written.
    Writing(usize),
    Counting,
    Sessions,
    Roots,
}

/// A start that is under way.
pub(crate) struct Starting {
    pub(crate) stage: Stage,
    pub(crate) answers: Answers,
    pub(crate) start: Option<Start>,
    pub(crate) candidates: Vec<Candidate>,
    /// The first write that failed because the disk takes nothing.
    pub(crate) failed: Option<WriteFailed>,
    /// Relationships of which something is to be erased.
    pub(crate) unfinished: BTreeSet<RelationshipId>,
}
