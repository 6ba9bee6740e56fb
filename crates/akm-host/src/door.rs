//! What goes into a node and what comes out of it.

use akm_core::element::ElementError;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::session::{Instant, RandomSource, Rejection, SessionError};
use akm_core::start::StartError;

use crate::ask::{Answer, Question, Ticket};
use crate::event::Event;
use crate::persist::{Write, WriteFailed};
use crate::{Endpoint, GenerationId};

/// What a node needs from the world for one input.
pub struct Surroundings<'a> {
    /// The time of this input.
    pub now: Instant,
    /// The system's random generator.
    pub random: &'a mut dyn RandomSource,
}

/// Names a stream over which a module speaks; chosen by the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream(pub u64);

/// Names what an application wants; chosen by the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wish(pub u64);

/// Something that happened to this node.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram came: a frame of a communication relationship, or not even that.
    Datagram {
        /// Where it came from.
        from: Endpoint,
        /// Its bytes.
        frame: &'a [u8],
    },
    /// A frame came over a stream: management, or not even that. Ends in [`Output::Handled`].
    StreamFrame {
        /// Which stream.
        stream: Stream,
        /// Its bytes.
        frame: &'a [u8],
    },
    /// Nobody listens at a stream any more: what of it only waits is dropped.
    StreamClosed {
        /// Which stream.
        stream: Stream,
    },
    /// An application sends a message. Ends in [`Output::Done`].
    Send {
        /// What the end is told under.
        wish: Wish,
        /// The communication relationship.
        relationship: RelationshipId,
        /// The member that it goes to; `None`: all.
        to: Option<AkmId>,
        /// The message.
        body: &'a [u8],
    },
    /// An application wants the next epoch as soon as the policy allows it. Ends in [`Output::Done`].
    Advance {
        /// What the end is told under.
        wish: Wish,
        /// The communication relationship.
        relationship: RelationshipId,
    },
    /// The answer to an [`Output::Ask`]. Answered twice: no effect.
    Answered {
        /// Its ticket.
        ticket: Ticket,
        /// What the element says.
        result: Result<Answer, ElementError>,
    },
    /// What became of an [`Output::Persist`]. Told twice: no effect.
    Persisted {
        /// Its ticket.
        ticket: Ticket,
        /// Durable, or not done at all.
        result: Result<(), WriteFailed>,
    },
    /// The time of [`Node::timeout`](crate::Node::timeout) has come. Early or repeated: no effect.
    Timeout,
}

/// Something the program must do, in the order given.
#[must_use = "an output left undone breaks the protocol"]
#[derive(Debug)]
pub enum Output<'n> {
    /// Ask this, when it is convenient and in this order, then hand in [`Input::Answered`].
    Ask {
        /// Comes back with the answer.
        ticket: Ticket,
        /// What to ask.
        question: Question,
    },
    /// Make this durable, in this order, then hand in [`Input::Persisted`].
    Persist {
        /// Comes back with what became of it.
        ticket: Ticket,
        /// What to write.
        write: Write,
    },
    /// Send this frame as a datagram to each of these.
    Send {
        /// Whose frame it is.
        of: GenerationId,
        /// Where to.
        to: &'n [Endpoint],
        /// Its bytes.
        frame: &'n [u8],
    },
    /// Send this frame over a stream.
    Reply {
        /// Which stream.
        stream: Stream,
        /// Its bytes.
        frame: &'n [u8],
    },
    /// Whoever speaks over this stream has proven to be a module of this node: it may stay until [`Output::Close`]. Whoever
    /// has not is a stranger.
    Proven {
        /// Which stream.
        stream: Stream,
    },
    /// Close this stream, when all is sent that was said over it, and take nothing more of it.
    Close {
        /// Which stream.
        stream: Stream,
    },
    /// All is said that comes of the oldest [`Input::StreamFrame`] of this stream.
    Handled {
        /// Which stream.
        stream: Stream,
    },
    /// Give a message to the applications that listen.
    Deliver(Message<'n>),
    /// What became of a datagram, for those who watch.
    Seen(Seen<'n>),
    /// What became of a wish.
    Done {
        /// The wish.
        wish: Wish,
        /// Carried out, or why not.
        result: Result<(), Refused>,
    },
    /// Something happened, for whoever watches.
    Event {
        /// The generation that it concerns; `None`: the node. Generation 0: the relationship.
        about: Option<GenerationId>,
        /// What operators call that relationship; empty if not known.
        label: &'n str,
        /// What.
        event: Event,
    },
    /// The node runs: from here on it takes frames and wishes.
    Started,
    /// The node does not start, and does nothing more.
    NotStarted(StartFailed),
    /// Nothing to do until the next input.
    Idle,
}

/// A message of another member, authentic and never delivered before.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The generation in which it came.
    pub of: GenerationId,
    /// What operators call the relationship.
    pub label: &'a str,
    /// Who sent it.
    pub from: AkmId,
    /// What operators call the sender; empty if not known.
    pub from_label: &'a str,
    /// The epoch that it was sent in.
    pub epoch: u32,
    /// The bytes.
    pub payload: &'a [u8],
}

/// A datagram that came, and its fate.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The relationship, if one claims the frame.
    pub relationship: Option<RelationshipId>,
    /// Where it came from.
    pub source: Endpoint,
    /// As it came.
    pub frame: &'a [u8],
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was delivered, or was a hello or an answer.
    Accepted,
    /// It was dropped, and why.
    Rejected(Rejection),
    /// It is of a generation that is gone.
    OldGeneration,
    /// The record that it needs could not be written.
    NotRecorded,
    /// Too many wait for an answer of the element already, or it did not answer.
    NotTaken,
}

impl Verdict {
    /// The name that those who watch are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected(reason) => reason.name(),
            Self::OldGeneration => "old-generation",
            Self::NotRecorded => "not-recorded",
            Self::NotTaken => "not-taken",
        }
    }
}

/// Why a wish was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The node does not run yet, or not any more.
    #[error("the node does not run")]
    NotRunning,
    /// There is no such relationship, or it was erased meanwhile.
    #[error("no such relationship here")]
    NotHeld,
    /// That node is no other member of it.
    #[error("no such member")]
    NotAMember,
    /// Too much waits already.
    #[error("too much waits for the element or the disk already")]
    Crowded,
    /// What it needs could not be written.
    #[error(transparent)]
    NotRecorded(#[from] WriteFailed),
    /// The session refused.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Why a node does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartFailed {
    /// The element did not do its part, or something else uses it.
    #[error(transparent)]
    Element(#[from] StartError),
    /// The disk takes nothing at this moment. Nothing has been counted: all of it can be done again.
    #[error(transparent)]
    Disk(#[from] WriteFailed),
}

impl From<ElementError> for StartFailed {
    fn from(error: ElementError) -> Self {
        Self::Element(error.into())
    }
}
