//! One relationship at a node: its generations, what the node knows beside each, and what waits.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use akm_core::crypto::Suite;
use akm_core::frame::{FrameKind, Header};
use akm_core::lineage::Lineage;
use akm_core::sds::{Kind, SynchronizedDataSet, Tag};
use akm_core::session::{Instant, Session, SessionError};
use zeroize::Zeroizing;

use crate::Endpoint;
use crate::ask::{Answers, Tape, Ticket};
use crate::door::{Refused, Stream, Verdict, Wish};
use crate::event::Rest;
use crate::installed::StoredGeneration;
use crate::limits::FRAMES_KEPT;
use crate::outbox::Buffer;
use crate::persist::WriteFailed;
use crate::task::TaskId;

/// What a node knows of a generation, beside its session.
#[derive(Debug)]
pub struct Known {
    /// What operators call the relationship.
    pub label: String,
    /// What operators call the members, in their order; empty, or too few, where not known.
    pub member_labels: Vec<String>,
    /// Where frames for each member go; `None` for this node and where nothing is known.
    pub endpoints: Vec<Option<Endpoint>>,
    /// When each member was last heard.
    pub heard: Vec<Option<Instant>>,
    /// When the latest frame was sent.
    pub sent_at: Option<Instant>,
    /// Whether its place was older than the element allows at the start.
    pub rolled_back: bool,
    /// How often this node found back in it by a fallback or a failsafe.
    pub found_back: u32,
    /// Why it has no good place.
    pub rests: Option<Rest>,
    /// Why its latest record could not be written.
    pub not_recorded: Option<String>,
    pub(crate) suite: Suite,
    pub(crate) digest: [u8; 32],
    /// SHA-256 of its host part.
    pub(crate) host_part: [u8; 32],
    /// Whether what was learnt of endpoints is to be written, and whether that is under way.
    pub(crate) saves: Saves,
}

/// Whether endpoints are to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Saves {
    #[default]
    Nothing,
    Writing,
    /// They changed again since.
    WritingThenAgain,
}

impl Known {
    /// What is known of a generation at its installation, or at a start.
    pub(crate) fn new(
        session: &Session,
        host_part: [u8; 32],
        label: String,
        member_labels: Vec<String>,
        endpoints: &[String],
    ) -> Self {
        let sds = session.membership().sds();
        let members = sds.members().len();
        let own = usize::from(session.membership().index());
        let endpoints = (0..members)
            .map(|at| endpoints.get(at).filter(|_| at != own).and_then(|text| text.parse().ok()))
            .collect();
        Self {
            label,
            member_labels,
            endpoints,
            heard: alloc::vec![None; members],
            sent_at: None,
            rolled_back: false,
            found_back: 0,
            rests: None,
            not_recorded: None,
            suite: sds.suite(),
            digest: *sds.digest(),
            host_part,
            saves: Saves::Nothing,
        }
    }

    pub(crate) fn of_held(session: &Session, held: StoredGeneration) -> Self {
        let installed = held.installed;
        let (member_labels, endpoints) =
            held.learnt.unwrap_or((installed.member_labels, installed.endpoints));
        let known = Self::new(session, installed.host_part, installed.label, member_labels, &endpoints);
        Self { found_back: held.found_back, ..known }
    }
}

/// Who wants something of a session, and is told what comes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// A datagram.
    Network(Endpoint),
    /// A frame of a stream.
    Stream(Stream),
    /// A response to what came over a stream.
    Response(Stream),
    /// The same, and nothing after it.
    LastWord(Stream),
    /// An application.
    Local(Wish),
    /// A task of this node.
    Task(TaskId),
    /// A timer.
    Itself,
}

/// What is handed to the sessions of a relationship.
pub(crate) enum Given<'a> {
    Frame(&'a [u8]),
    Timeout,
    Advance,
    Activate(u32),
    Send { to: Option<u16>, kind: FrameKind, body: &'a [u8] },
}

/// The same, kept until its turn comes.
pub(crate) enum Kept {
    Frame(Vec<u8>),
    Timeout,
    Advance,
    Activate(u32),
    Send { to: Option<u16>, kind: FrameKind, body: Zeroizing<Vec<u8>> },
}

/// What must not overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Frames of one sender in one epoch.
    Frame {
        sender: u16,
        epoch: u32,
    },
    /// What this node sends, or wants.
    Wish,
    Timer,
}

impl Given<'_> {
    pub(crate) fn keep(&self) -> Kept {
        match *self {
            Given::Frame(frame) => Kept::Frame(frame.to_vec()),
            Given::Timeout => Kept::Timeout,
            Given::Advance => Kept::Advance,
            Given::Activate(generation) => Kept::Activate(generation),
            Given::Send { to, kind, body } => Kept::Send { to, kind, body: body.to_vec().into() },
        }
    }

    pub(crate) fn order(&self) -> Order {
        match self {
            Given::Frame(frame) => match Header::parse(frame) {
                Ok(header) => Order::Frame { sender: header.sender, epoch: header.epoch },
                Err(_) => Order::Frame { sender: 0, epoch: 0 },
            },
            Given::Timeout => Order::Timer,
            Given::Advance | Given::Activate(_) | Given::Send { .. } => Order::Wish,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Given::Frame(bytes) | Given::Send { body: bytes, .. } => bytes.len(),
            Given::Timeout | Given::Advance | Given::Activate(_) => 0,
        }
    }
}

impl Kept {
    pub(crate) fn given(&self) -> Given<'_> {
        match self {
            Self::Frame(frame) => Given::Frame(frame),
            Self::Timeout => Given::Timeout,
            Self::Advance => Given::Advance,
            Self::Activate(generation) => Given::Activate(*generation),
            Self::Send { to, kind, body } => Given::Send { to: *to, kind: *kind, body },
        }
    }
}

/// Something that waits for an answer, for a write, or for what came before it.
pub(crate) struct Waiting {
    pub(crate) kept: Kept,
    pub(crate) origin: Origin,
    pub(crate) order: Order,
    pub(crate) needs: Needs,
    pub(crate) tape: Tape,
}

/// What something waits for, beside what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Its turn.
    Turn,
    /// The answer to a question.
    Answer(Ticket),
    /// Sealing or opening, which is lent.
    Return,
    /// The time at which one more epoch may be followed.
    Time(Instant),
}

/// What is being carried out.
pub(crate) struct Serving {
    pub(crate) origin: Origin,
    /// The frame, where those who watch are to see it.
    pub(crate) frame: Option<Buffer>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) error: Option<SessionError>,
    pub(crate) not_recorded: Option<WriteFailed>,
    pub(crate) requests: Vec<Buffer>,
    /// The generation that became active.
    pub(crate) activated: Option<u32>,
    /// The generation in which somebody moved.
    pub(crate) moved: Option<u32>,
}

impl Serving {
    pub(crate) fn of(origin: Origin) -> Self {
        Self {
            origin,
            frame: None,
            verdict: None,
            error: None,
            not_recorded: None,
            requests: Vec::new(),
            activated: None,
            moved: None,
        }
    }

    /// What whoever wanted it is told.
    pub(crate) fn result(&self) -> Result<(), Refused> {
        match (&self.not_recorded, &self.error) {
            (Some(failed), _) => Err(failed.clone().into()),
            (None, Some(error)) => Err(error.clone().into()),
            (None, None) => Ok(()),
        }
    }
}

/// A relationship.
pub(crate) struct Relationship {
    pub(crate) kind: Kind,
    pub(crate) lineage: Lineage<Known>,
    /// The tags under which it is listed.
    pub(crate) tags: Vec<Tag>,
    pub(crate) timer: Option<Instant>,
    /// What is being carried out, and the write on which it waits.
    pub(crate) serving: Option<(Serving, u32, Ticket)>,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) answers: Answers,
    /// Frames that were dropped because too many wait already, or the element did not answer.
    pub(crate) not_taken: u64,
    /// Whether it is about to be erased.
    pub(crate) leaves: bool,
}

impl Relationship {
    pub(crate) fn new(kind: Kind, lineage: Lineage<Known>) -> Self {
        Self {
            kind,
            lineage,
            tags: Vec::new(),
            timer: None,
            serving: None,
            waiting: VecDeque::new(),
            answers: Answers::default(),
            not_taken: 0,
            leaves: false,
        }
    }

    /// Whether nothing can be handed to its sessions.
    pub(crate) fn is_held_up(&self) -> bool {
        self.serving.is_some() || self.leaves
    }

    /// Whether something of this order waits.
    pub(crate) fn waits(&self, order: Order) -> bool {
        self.waiting.iter().any(|waiting| waiting.order == order)
    }

    /// The first of what waits that can go on, from this one on.
    pub(crate) fn next_ready(&self, from: usize, now: Instant) -> Option<usize> {
        (from..self.waiting.len()).find(|at| {
            let waiting = &self.waiting[*at];
            let early = matches!(waiting.needs, Needs::Time(until) if now < until);
            let asked = matches!(waiting.needs, Needs::Answer(ticket) if self.answers.is_out(ticket));
            let behind = self.waiting.iter().take(*at).any(|before| before.order == waiting.order);
            !early && !asked && !behind
        })
    }

    /// When the first of the frames that wait for it may be followed.
    pub(crate) fn follows_at(&self) -> Option<Instant> {
        let due = |waiting: &Waiting| match waiting.needs {
            Needs::Time(until) => Some(until),
            _ => None,
        };
        self.waiting.iter().filter_map(due).min()
    }

    /// Whether there is room for one more frame of this epoch that waits for a time: those of the highest epoch stay.
    pub(crate) fn has_room_until_followed(&self, epoch: u32) -> bool {
        let highest = self.epochs_kept().max();
        highest.is_none_or(|highest| highest < epoch)
            || highest == Some(epoch) && self.epochs_kept().count() < FRAMES_KEPT
    }

    /// Whether frames of this epoch wait for a time, and as many as may.
    pub(crate) fn is_full_until_followed(&self, epoch: u32) -> bool {
        self.follows_at().is_some() && self.epochs_kept().filter(|of| *of == epoch).count() >= FRAMES_KEPT
    }

    /// Takes out one of the frames that wait for a time, of an epoch below this one.
    pub(crate) fn take_kept_below(&mut self, epoch: u32) -> Option<Waiting> {
        let is_below = |waiting: &Waiting| matches!((waiting.needs, waiting.order), (Needs::Time(_), Order::Frame { epoch: of, .. }) if of < epoch);
        let at = self.waiting.iter().position(is_below)?;
        self.waiting.remove(at)
    }

    /// The epoch of each frame that waits for a time, or behind one that does.
    fn epochs_kept(&self) -> impl Iterator<Item = u32> + '_ {
        let waits = |of: Order| {
            let waits = |waiting: &Waiting| waiting.order == of && matches!(waiting.needs, Needs::Time(_));
            self.waiting.iter().any(waits)
        };
        self.waiting.iter().filter_map(move |waiting| match waiting.order {
            Order::Frame { epoch, .. } if waits(waiting.order) => Some(epoch),
            _ => None,
        })
    }

    /// Whether something waits for what is lent.
    pub(crate) fn waits_for_return(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.needs == Needs::Return)
    }

    /// The name of a relationship, by what is in force.
    pub(crate) fn label(&self) -> &str {
        self.lineage.in_force().map_or("", |(_, known)| &known.label)
    }

    /// Its highest element version.
    pub(crate) fn element_version(&self) -> u32 {
        let versions = self.lineage.sessions().map(|session| session.membership().sds().element_version());
        versions.max().unwrap_or(0)
    }

    /// The highest generation that is in use.
    pub(crate) fn highest(&self) -> u32 {
        self.lineage.sessions().next_back().map_or(0, |session| generation_of(session.membership().sds()))
    }
}

pub(crate) fn generation_of(sds: &SynchronizedDataSet) -> u32 {
    sds.generation()
}
