//! What a session tells of: phases, causes, reasons, events.

/// Where a relationship stands at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Installed; sends nothing until the module's word or an authentic frame.
    Staged = 1,
    /// Sends and receives.
    Established = 2,
    /// The place is lost or damaged.
    WithoutPlace = 3,
    /// The place is older than the element's counter allows.
    RolledBack = 4,
    /// Finds back through other members (protocol, section 15).
    Resyncing = 5,
    /// No epoch is left: needs a generation.
    UsedUp = 6,
    /// Gone.
    Erased = 7,
}

impl Phase {
    /// The phase of a number in a message; `None` if there is no such phase.
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Self::Staged,
            Self::Established,
            Self::WithoutPlace,
            Self::RolledBack,
            Self::Resyncing,
            Self::UsedUp,
            Self::Erased,
        ]
        .into_iter()
        .find(|phase| *phase as u8 == number)
    }
}

/// Why an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first frame after a start is made in an epoch of its own.
    Start,
    /// The epoch was as old as the policy allows.
    Age,
    /// This member sent as many frames as the policy or the cipher allows.
    Frames,
    /// The application or the operator asked.
    Asked,
    /// A sender came with more salts than are accepted: whoever was muted by that is heard again.
    Salts,
    /// Another member was ahead.
    Followed,
}

/// Why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rejection {
    /// Too short, too long, another version, an unknown class, or reserved bits set.
    Malformed,
    /// The tag of another relationship.
    UnknownTag,
    /// The sender index is no member.
    NotAMember,
    /// The sender index is this node's own: a reflection or a copy of this node.
    OwnFrame,
    /// This node has no place.
    NoPlace,
    /// The epoch is closed.
    EpochTooOld,
    /// A frame that would cause work, with a wrong header signature.
    HeaderSignature,
    /// The element has been asked enough on the word of those who did not authenticate, or as many epochs were followed
    /// as may be at once.
    Budget,
    /// Accepted before.
    Duplicate,
    /// Below the replay window.
    CounterTooOld,
    /// The AEAD says no.
    NotAuthentic,
    /// Authentic, but under one more salt than are accepted of this sender: see [`Event::PossibleClone`]. Counted too for
    /// each second, third and fourth salt of a sender in an epoch, under which frames are accepted.
    PossibleClone,
    /// Authentic, but of an unknown kind or one that has no place here, or a hello that is not empty.
    UnexpectedKind,
    /// A resync request that is for another member, or a response to nothing that this node asked.
    NotAsked,
    /// An epoch further ahead than this node follows.
    Far,
}

impl Rejection {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::UnknownTag,
        Self::NotAMember,
        Self::OwnFrame,
        Self::NoPlace,
        Self::EpochTooOld,
        Self::HeaderSignature,
        Self::Budget,
        Self::Duplicate,
        Self::CounterTooOld,
        Self::NotAuthentic,
        Self::PossibleClone,
        Self::UnexpectedKind,
        Self::NotAsked,
        Self::Far,
    ];

    /// The name that logs, `status` and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownTag => "unknown-tag",
            Self::NotAMember => "not-a-member",
            Self::OwnFrame => "own-frame",
            Self::NoPlace => "no-place",
            Self::EpochTooOld => "epoch-too-old",
            Self::HeaderSignature => "header-signature",
            Self::Budget => "budget",
            Self::Duplicate => "duplicate",
            Self::CounterTooOld => "counter-too-old",
            Self::NotAuthentic => "not-authentic",
            Self::PossibleClone => "possible-clone",
            Self::UnexpectedKind => "unexpected-kind",
            Self::NotAsked => "not-asked",
            Self::Far => "far",
        }
    }
}

/// How a member came to a place that it had not reached by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A member that has a place gave it.
    Fallback {
        /// The index of that member.
        from: u16,
    },
    /// Nobody had one: all members began a run together.
    Failsafe,
}

impl Way {
    /// The name that logs and `status` use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fallback { .. } => "fallback",
            Self::Failsafe => "failsafe",
        }
    }
}

/// The trace of a fallback or a failsafe: for the operator, and for the module, which makes a new
/// generation when it hears of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundBack {
    /// How.
    pub way: Way,
    /// Run and epoch before; `None` without a place.
    pub before: Option<(u32, u32)>,
    /// The run since.
    pub run: u32,
    /// The epoch then, which is that of the place that was found, or after a jump from there.
    pub epoch: u32,
}

/// What whoever watches may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The relationship became active.
    Activated,
    /// An epoch began at this node.
    EpochBegan {
        /// Its number.
        epoch: u32,
        /// Why.
        cause: Cause,
    },
    /// A frame was dropped.
    Rejected {
        /// Why.
        reason: Rejection,
        /// The index that it claimed, where it had one.
        sender: Option<u16>,
    },
    /// A sender has a second, third or fourth salt in an epoch, or, told once, more than that: two devices run on one
    /// member's state, it was set back, or somebody lies about its name.
    PossibleClone {
        /// Its index.
        sender: u16,
    },
    /// An epoch lies further ahead than this node follows. Told once an hour. Its module can let it follow.
    Far {
        /// The index of the member that named it.
        sender: u16,
        /// How many epochs ahead.
        distance: u32,
    },
    /// At most 2^31 epochs are left: the relationship will need a generation.
    EpochsRunningLow,
    /// The last epoch began: no other follows it.
    EpochsUsedUp,
    /// This node has a place that it had not reached by itself.
    FoundBack(FoundBack),
    /// This node told a member where it stands, or member 0 without place gave a challenge.
    Answered {
        /// The index of the member that asked.
        requester: u16,
        /// Whether it was given a place.
        with_place: bool,
    },
    /// A failsafe did not come about: that many members did not confirm. It is tried again later.
    FailsafeMissed {
        /// How many.
        missing: u16,
    },
    /// Nobody that this node reaches has a place. It goes on asking, and needs its module.
    NeedsModule,
}
