//! What can be wrong with the hosts of a world on purpose.

/// Something that is wrong with every host of a world, so that a test can show that an invariant is
/// able to fail. A trace can name one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Both generators give the same bytes for ever: an older disk then means the same salts.
    StuckGenerators,
    /// Gives each message to the application twice.
    DeliversTwice,
    /// Spoils a message before the application has it.
    SpoilsMessages,
    /// Gives the last message from before a start to the application again.
    RepeatsItselfAfterStart,
    /// The disk says that it wrote and keeps what it had at the start.
    ForgetsWrites,
    /// Tells the session that a place is durable, and never writes it.
    SkipsPersist,
    /// Uses a place of any start.
    IgnoresCounter,
    /// Counts up before the places are written.
    CountsFirst,
    /// Keeps every frame that was dropped.
    HoardsFrames,
    /// Asks the element for each frame.
    AsksForEachFrame,
    /// Does not read that a relationship is active.
    ForgetsActivation,
    /// Shakes the element until it answers, behind the back of whoever was told that it did not.
    RetriesBehindTheBack,
    /// Lets the time of a session pass without telling it.
    SleepsThroughTimers,
    /// Passes on nothing of an epoch that lies ahead.
    DeafToLaterEpochs,
    /// Falls over when a frame is not authentic.
    FallsOver,
    /// Node 0 thinks at each start that its places are lost.
    MislaysPlaces,
    /// Sends nothing by which a member finds back.
    SwallowsRequests,
    /// Passes on nothing of the generation before the active one.
    ClosesAtOnce,
    /// Writes something for each frame.
    WritesForEachFrame,
    /// The module gives a generation to a member that it removed, under the old element version.
    KeepsRemovedMembers,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::StuckGenerators,
        Self::DeliversTwice,
        Self::SpoilsMessages,
        Self::RepeatsItselfAfterStart,
        Self::ForgetsWrites,
        Self::SkipsPersist,
        Self::IgnoresCounter,
        Self::CountsFirst,
        Self::HoardsFrames,
        Self::AsksForEachFrame,
        Self::ForgetsActivation,
        Self::RetriesBehindTheBack,
        Self::SleepsThroughTimers,
        Self::DeafToLaterEpochs,
        Self::FallsOver,
        Self::MislaysPlaces,
        Self::SwallowsRequests,
        Self::ClosesAtOnce,
        Self::WritesForEachFrame,
        Self::KeepsRemovedMembers,
    ];

    /// Its name in a trace.
    pub fn name(self) -> &'static str {
        match self {
            Self::StuckGenerators => "stuck-generators",
            Self::DeliversTwice => "delivers-twice",
            Self::SpoilsMessages => "spoils-messages",
            Self::RepeatsItselfAfterStart => "repeats-itself-after-start",
            Self::ForgetsWrites => "forgets-writes",
            Self::SkipsPersist => "skips-persist",
            Self::IgnoresCounter => "ignores-counter",
            Self::CountsFirst => "counts-first",
            Self::HoardsFrames => "hoards-frames",
            Self::AsksForEachFrame => "asks-for-each-frame",
            Self::ForgetsActivation => "forgets-activation",
            Self::RetriesBehindTheBack => "retries-behind-the-back",
            Self::SleepsThroughTimers => "sleeps-through-timers",
            Self::DeafToLaterEpochs => "deaf-to-later-epochs",
            Self::FallsOver => "falls-over",
            Self::MislaysPlaces => "mislays-places",
            Self::SwallowsRequests => "swallows-requests",
            Self::ClosesAtOnce => "closes-at-once",
            Self::WritesForEachFrame => "writes-for-each-frame",
            Self::KeepsRemovedMembers => "keeps-removed-members",
        }
    }

    /// The flaw of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flaw| flaw.name() == name)
    }
}
