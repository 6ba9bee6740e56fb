//! What can happen at a node, as somebody sees it who sees everything.

use std::fmt;

use akm_core::frame::{FrameKind, Header};
use akm_core::session::{Event, Footprint, FoundBack, Phase, Rejection, SessionError};
use akm_core::tree::NO_EPOCH;
use akm_host::Endpoint;

/// Something that happened at a node, as somebody sees it who sees everything. The invariants are
/// checked on these, and the event log shows them.
#[derive(Clone, Debug)]
pub enum Happening {
    /// The process begins. What follows up to `Counted` belongs to the start.
    Starts,
    /// What the disk holds of an issue was examined.
    Found { issue: usize, found: Found },
    /// The start is over: the element has counted, if it counts.
    Counted { count: Option<u64> },
    /// The process ended without a word.
    Died,
    /// The process could not start.
    DidNotStart { why: String },
    /// A frame with this header arrived, or something that is no frame, that no relationship of this node
    /// claims.
    Unclaimed { header: Option<Header> },
    /// Something was handed to the node.
    Given { what: Given },
    /// Its element is asked for an epoch; of no issue where it is one of a provisioning relationship.
    Asked { issue: Option<usize>, epoch: u32 },
    /// A session refused what it was to do; whether it was the only thing that was under way.
    Refused { issue: usize, error: SessionError, alone: bool },
    /// A place is on the disk.
    PlaceWritten { issue: usize, run: u32, epoch: u32, start: u64 },
    /// The trace of a fallback or failsafe is kept; the place follows.
    Noted { issue: usize, found: FoundBack },
    /// The module put a generation in.
    Installed { issue: usize },
    /// A generation is erased.
    Erased { issue: usize },
    /// That an issue is active is on the disk.
    ActiveWritten { issue: usize },
    /// The disk took nothing; the epoch of the place that it should have taken, if it was one.
    NotWritten { issue: usize, epoch: Option<u32> },
    /// A session made a frame and it went out.
    Sent { issue: usize, header: Header, kind: FrameKind, body: Vec<u8> },
    /// A session made a frame to find back by.
    SentTo { issue: usize, to: Vec<Endpoint>, length: usize },
    /// A message of a frame was given to the application.
    Delivered { issue: usize, header: Header, delivery: Delivered },
    /// A session told something.
    Told { issue: usize, event: Event },
    /// A frame was dropped.
    Dropped { header: Option<Header>, reason: Rejection },
    /// The node told something else.
    Noticed { event: akm_host::Event },
    /// A session stands otherwise than before.
    Stands { issue: usize, stands: Stands },
    /// All is done that comes of what was given: how often the element was called and the disk written to, ever.
    Rests { calls: u64, writes: u64 },
}

/// What a start found on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A good place, and whether the issue is active.
    Good { run: u32, epoch: u32, active: bool },
    /// No place, or a damaged one.
    Lost,
    /// A place of another start.
    RolledBack,
}

/// An input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// A datagram with this header, or something that is no frame.
    Datagram(Option<Header>),
    /// The time of the node has come.
    Timeout,
    /// An operator asks for the next epoch.
    Advance,
    /// An application sends.
    Send,
    /// The module says something.
    Module,
    /// Element or disk answers, later than at once.
    Answer,
}

/// What an application was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The node that sent it, as the session says.
    pub from: usize,
    /// Its index.
    pub index: u16,
    /// What it is.
    pub kind: FrameKind,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// How a session stands after an input, and what that cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// Where the session stands.
    pub phase: Phase,
    /// The epoch in memory.
    pub epoch: u32,
    /// What the session holds.
    pub footprint: Footprint,
    /// Bytes of frames that the host keeps beside.
    pub host_bytes: usize,
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starts => f.write_str("starts"),
            Self::Found { issue, found } => {
                write!(f, "issue {issue}: ")?;
                match found {
                    Found::Good { epoch, active, .. } => {
                        let standing = if *active { "active" } else { "staged" };
                        write!(f, "place {} found, {standing}", EpochText(*epoch))
                    }
                    Found::Lost => f.write_str("no place found"),
                    Found::RolledBack => f.write_str("rolled back: the place is from another start"),
                }
            }
            Self::Counted { count: Some(count) } => write!(f, "has started; its element counts {count}"),
            Self::Counted { count: None } => f.write_str("has started"),
            Self::Died => f.write_str("dies"),
            Self::DidNotStart { why } => write!(f, "does not start: {why}"),
            Self::Unclaimed { .. } => {
                f.write_str("hears something that belongs to none of its relationships")
            }
            Self::Given { what } => match what {
                Given::Datagram(Some(header)) => write!(f, "hears {}", HeaderText(header)),
                Given::Datagram(None) => f.write_str("hears something that is no frame"),
                Given::Timeout => f.write_str("its time has come"),
                Given::Advance => f.write_str("is asked for the next epoch"),
                Given::Send => f.write_str("is to send"),
                Given::Module => f.write_str("hears its module"),
                Given::Answer => f.write_str("is answered"),
            },
            Self::Asked { epoch, .. } => write!(f, "asks its element for epoch {epoch}"),
            Self::Refused { issue, error, .. } => write!(f, "issue {issue}: cannot: {error}"),
            Self::PlaceWritten { issue, run, epoch, start } => {
                write!(f, "issue {issue}: place {} of run {run} is durable, start {start}", EpochText(*epoch))
            }
            Self::Noted { issue, found } => {
                write!(f, "issue {issue}: the trace is durable: {found:?}")
            }
            Self::Installed { issue } => write!(f, "issue {issue}: is installed"),
            Self::Erased { issue } => write!(f, "issue {issue}: is erased"),
            Self::SentTo { issue, to, length } => {
                write!(f, "issue {issue}: sends {length} bytes to find back to {to:?}")
            }
            Self::Dropped { reason, .. } => write!(f, "drops it: {}", reason.name()),
            Self::Noticed { event } => write!(f, "{event:?}"),
            Self::Rests { .. } => f.write_str("rests"),
            Self::ActiveWritten { issue } => {
                write!(f, "issue {issue}: active is durable")
            }
            Self::NotWritten { issue, .. } => {
                write!(f, "issue {issue}: the disk takes nothing")
            }
            Self::Sent { issue, header, kind, body } => {
                write!(f, "issue {issue}: sends {}: {}", HeaderText(header), Message(*kind, body))
            }
            Self::Delivered { issue, header, delivery: Delivered { from, kind, payload, .. } } => {
                write!(
                    f,
                    "issue {issue}: accepts {} of node {from}: {}",
                    HeaderText(header),
                    Message(*kind, payload),
                )
            }
            Self::Told { issue, event } => match event {
                Event::Rejected { reason, .. } => {
                    write!(f, "issue {issue}: drops it: {}", reason.name())
                }
                Event::PossibleClone { sender } => {
                    write!(f, "issue {issue}: a possible clone of member {sender}")
                }
                Event::Far { sender, distance } => {
                    write!(f, "issue {issue}: member {sender} is {distance} epochs ahead")
                }
                Event::EpochBegan { epoch, cause } => {
                    write!(f, "issue {issue}: epoch {epoch} begins ({cause:?})")
                }
                Event::Activated => write!(f, "issue {issue}: becomes active"),
                Event::EpochsRunningLow => {
                    write!(f, "issue {issue}: half of the epochs are gone")
                }
                Event::EpochsUsedUp => write!(f, "issue {issue}: the last epoch begins"),
                Event::FoundBack(found) => write!(f, "issue {issue}: found back: {found:?}"),
                Event::Answered { requester, with_place } => {
                    let what = if *with_place { "its place" } else { "no place" };
                    write!(f, "issue {issue}: gives member {requester} {what}")
                }
                Event::FailsafeMissed { missing } => {
                    write!(f, "issue {issue}: failsafe lacks {missing} members")
                }
                Event::NeedsModule => write!(f, "issue {issue}: needs the module"),
            },
            Self::Stands { issue, stands: Stands { phase, epoch, .. } } => {
                write!(f, "issue {issue}: {phase:?} at {}", EpochText(*epoch))
            }
        }
    }
}

struct EpochText(u32);

impl fmt::Display for EpochText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == NO_EPOCH { f.write_str("before the first epoch") } else { write!(f, "epoch {}", self.0) }
    }
}

struct HeaderText<'a>(&'a Header);

impl fmt::Display for HeaderText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header { sender, epoch, salt, counter, .. } = self.0;
        write!(f, "[member {sender} epoch {epoch} salt {salt:016x} counter {counter}]")
    }
}

struct Message<'a>(FrameKind, &'a [u8]);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FrameKind::Hello if self.1.is_empty() => f.write_str("hello"),
            FrameKind::Data => write!(f, "\"{}\"", self.1.escape_ascii()),
            kind => write!(f, "{kind:?} \"{}\"", self.1.escape_ascii()),
        }
    }
}
