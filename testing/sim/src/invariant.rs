//! The promises that are checked after everything that happens.

use std::fmt;

/// A promise that holds after every event, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No two frames bear the same sender, epoch, salt and counter: with the sender's key these are
    /// key and nonce.
    NoKeyAndNonceTwice,
    /// No application is given the same frame twice.
    NothingDeliveredTwice,
    /// What an application is given a member sent, in the same words.
    NothingDeliveredThatNoMemberSent,
    /// Nothing of an epoch up to the durable one at a start is accepted after it.
    NothingFromBeforeTheStart,
    /// The epoch on the disk and the one in memory never go back.
    EpochsNeverGoBack,
    /// A frame goes out, or is given to an application, only when the place of its epoch is durable
    /// and the relationship durably active.
    DurableBeforeUse,
    /// A place older than the element's counter allows is recognised.
    OldImageRecognised,
    /// A place is not lost, and not taken for rolled back, unless somebody put an older disk in.
    NoPlaceLost,
    /// What a session holds is bounded, and does not grow by frames that did not authenticate.
    StateBounded,
    /// The element is asked at most once for an input, and at most ten times in a second for epochs
    /// that nothing proves.
    ElementSpared,
    /// The disk is written to, and the element called, at most so often for each input, and for a frame that did not
    /// authenticate nothing is written.
    DiskSpared,
    /// A phase follows another only where section 9 of the protocol document has it so.
    PhasesAlongEdges,
    /// A session refuses only for this node's own trouble, and that changes nothing.
    RefusalsChangeNothing,
    /// A session whose time was served does not ask for the same time again.
    TimersMoveOn,
    /// After the faults stopped every member hears every other within the stated bound.
    AllHearAllWithinTheBound,
    /// Nobody takes from others a (run, epoch) below its own.
    NobodyAdoptsALowerPlace,
    /// A failsafe begins a run only when no member has a place: all members or none.
    FailsafeOfAllOrNone,
    /// After the faults stopped every member without place finds back within the stated bound, if any member
    /// has one, or by failsafe if all are there.
    FindsBackWithinTheBound,
    /// Whoever is no member of a generation opens nothing of it, and nobody who has gone over to it sends in
    /// an older one.
    RemovedMemberOpensNothing,
    /// When the element version stays, a frame of the generation before that arrives within its overlap is
    /// taken.
    NoMessageLostByAdding,
    /// Nothing that happens makes a program fall over.
    NothingBringsItDown,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::NoKeyAndNonceTwice,
        Self::NothingDeliveredTwice,
        Self::NothingDeliveredThatNoMemberSent,
        Self::NothingFromBeforeTheStart,
        Self::EpochsNeverGoBack,
        Self::DurableBeforeUse,
        Self::OldImageRecognised,
        Self::NoPlaceLost,
        Self::StateBounded,
        Self::ElementSpared,
        Self::DiskSpared,
        Self::PhasesAlongEdges,
        Self::RefusalsChangeNothing,
        Self::TimersMoveOn,
        Self::AllHearAllWithinTheBound,
        Self::NobodyAdoptsALowerPlace,
        Self::FailsafeOfAllOrNone,
        Self::FindsBackWithinTheBound,
        Self::RemovedMemberOpensNothing,
        Self::NoMessageLostByAdding,
        Self::NothingBringsItDown,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoKeyAndNonceTwice => "no-key-and-nonce-twice",
            Self::NothingDeliveredTwice => "nothing-delivered-twice",
            Self::NothingDeliveredThatNoMemberSent => "nothing-delivered-that-no-member-sent",
            Self::NothingFromBeforeTheStart => "nothing-from-before-the-start",
            Self::EpochsNeverGoBack => "epochs-never-go-back",
            Self::DurableBeforeUse => "durable-before-use",
            Self::OldImageRecognised => "old-image-recognised",
            Self::NoPlaceLost => "no-place-lost",
            Self::StateBounded => "state-bounded",
            Self::ElementSpared => "element-spared",
            Self::DiskSpared => "disk-spared",
            Self::PhasesAlongEdges => "phases-along-edges",
            Self::RefusalsChangeNothing => "refusals-change-nothing",
            Self::TimersMoveOn => "timers-move-on",
            Self::AllHearAllWithinTheBound => "all-hear-all-within-the-bound",
            Self::NobodyAdoptsALowerPlace => "nobody-adopts-a-lower-place",
            Self::FailsafeOfAllOrNone => "failsafe-of-all-or-none",
            Self::FindsBackWithinTheBound => "finds-back-within-the-bound",
            Self::RemovedMemberOpensNothing => "removed-member-opens-nothing",
            Self::NoMessageLostByAdding => "no-message-lost-by-adding",
            Self::NothingBringsItDown => "nothing-brings-it-down",
        }
    }
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
}

impl Violation {
    pub(crate) fn new(invariant: Invariant, seen: impl Into<String>) -> Self {
        Self { invariant, seen: seen.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.name(), self.seen)
    }
}
