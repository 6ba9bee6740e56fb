//! The session engine of one relationship at one member (protocol, sections 5 and 6).
//!
//! One door in ([`Session::handle`]), one queue out ([`Session::poll`]); time, randomness and the
//! element are passed in. A host drives it like this:
//!
//! ```text
//!   handle(input) -> poll -> Persist -> (write) -> persisted() -> poll -> Transmit / Deliver / Event ... -> Idle
//! ```
//!
//! - `Persist` is a barrier: what rests on the record comes out only after
//!   [`Session::persisted`]. After [`Session::persist_failed`] all is as before the input.
//! - Nothing that a remote party sends makes a call fail: the frame is dropped, counted and told as
//!   [`Event::Rejected`]. An `Err` is this node's own fault and leaves the state as it was.
//! - The element is asked when keys change, never for a frame, and at most once for each call.
//! - Each call does a bounded amount of work: at most 96 hashes, one element call and two AEAD
//!   operations, whatever comes in.

mod advance;
mod budget;
mod epoch;
mod membership;
mod receive;
#[cfg(test)]
mod tests;

pub use membership::{Membership, NotAMember};

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use zeroize::{Zeroize, Zeroizing};

use crate::crypto::CryptoProvider;
use crate::element::{ElementError, SecureElement};
use crate::frame::{FrameKind, OVERHEAD, STREAM_MAX};
use crate::id::AkmId;
use crate::keys;
use crate::sds::{HeaderKey, Kind, Tag};
use crate::secret::Secret;
use crate::tree::{NO_EPOCH, Place};

use budget::Budget;
use epoch::{OpenEpoch, Sending, Unproven};

/// Time on a clock that never goes back; what its zero means is up to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub Duration);

impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The system's random generator, as the host has it.
pub trait RandomSource {
    /// Fills `out` with bytes that nobody can predict.
    fn fill(&mut self, out: &mut [u8]);
}

/// What a session needs from the world for one input.
pub struct Surroundings<'a> {
    /// The time of this input.
    pub now: Instant,
    /// The element that holds the root of this relationship.
    pub element: &'a mut dyn SecureElement,
    /// The system's generator.
    pub random: &'a mut dyn RandomSource,
}

/// Something that happened to this node.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes came off a transport. Nothing about them is trusted yet.
    Frame(&'a [u8]),
    /// The time of [`Session::timeout`] has come. Early or repeated: no effect.
    Timeout,
    /// The application or the operator asks for the next epoch.
    Advance,
    /// The module's word: a staged relationship becomes active. Repeated: no effect.
    Activate,
    /// Seal these bytes for every other member.
    Send(FrameKind, &'a [u8]),
}

/// Something the caller must do, in the order given.
#[must_use = "an output left undone breaks the protocol"]
#[derive(Debug)]
pub enum Output<'s> {
    /// Make this durable, then call [`Session::persisted`], or [`Session::persist_failed`]. Until
    /// then the same record is handed out again.
    Persist(&'s Record),
    /// Send this frame to every other member.
    Transmit(&'s [u8]),
    /// An authentic frame arrived that was never delivered before.
    Deliver(Delivery<'s>),
    /// For whoever watches. Never holds a secret.
    Event(Event),
    /// Nothing to do until the next input.
    Idle,
}

/// What an authentic frame said.
#[derive(Debug)]
pub struct Delivery<'s> {
    /// Who sent it, as far as members that share keys can tell.
    pub from: AkmId,
    /// The index of that member.
    pub index: u16,
    /// What the payload is. A hello is delivered too, so that the host learns who is where.
    pub kind: FrameKind,
    /// Whether no later frame of this member was heard before.
    pub newest: bool,
    /// The bytes.
    pub payload: &'s [u8],
}

/// Something that must be durable before anything rests on it.
#[derive(Debug)]
pub enum Record {
    /// The relationship is active from here on.
    Activated,
    /// The place, encoded; the host seals it (see [`keys::PlaceSeal`]).
    Place(Zeroizing<Vec<u8>>),
}

/// Where a relationship stands at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Installed; sends nothing until the module's word or an authentic frame.
    Staged = 1,
    /// Sends and receives.
    Established = 2,
    /// The place is lost or damaged: the relationship rests.
    WithoutPlace = 3,
    /// The place is older than the element's counter allows: the relationship rests.
    RolledBack = 4,
    /// Finds back through other members (protocol, section 7).
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
    /// This node has no place, or no epoch is left.
    NoPlace,
    /// The epoch is closed.
    EpochTooOld,
    /// A frame that would cause work, with a wrong header signature.
    HeaderSignature,
    /// More unproven epochs in a second than the element is asked for.
    Budget,
    /// Accepted before.
    Duplicate,
    /// Below the replay window.
    CounterTooOld,
    /// The AEAD says no.
    NotAuthentic,
    /// Authentic, but under a second salt: somebody has a copy of this member's state.
    PossibleClone,
    /// Authentic, but of a kind that has no place here.
    UnexpectedKind,
}

impl Rejection {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 13] = [
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
        }
    }
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
    /// At most 2^31 epochs are left: the relationship will need a generation.
    EpochsRunningLow,
    /// No epoch is left.
    EpochsUsedUp,
}

/// What this node itself did wrong, or its element. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The relationship cannot send in this phase.
    #[error("the relationship is not active ({0:?})")]
    NotActive(Phase),
    /// The body does not fit into a frame.
    #[error("too long: a frame of this relationship carries at most {most} bytes")]
    TooLong {
        /// Most bytes of a body.
        most: usize,
    },
    /// Management belongs into provisioning relationships, data into all others.
    #[error("this relationship does not carry frames of this kind")]
    WrongKind,
    /// Epochs are used up: the relationship needs a generation.
    #[error("epochs used up: the relationship needs a new generation from its module")]
    EpochsUsedUp,
    /// An output of the input before is still to be carried out.
    #[error("an output is still to be carried out")]
    OutputPending,
    /// The element did not answer.
    #[error(transparent)]
    Element(#[from] ElementError),
}

/// How a relationship stands when a node starts.
#[derive(Debug)]
pub enum Standing {
    /// Installed, not yet active.
    Staged(Place),
    /// Active.
    Active(Place),
    /// Active or not, but the place is lost or damaged.
    WithoutPlace,
    /// The place is older than the element's counter allows.
    RolledBack,
}

/// How this member behaves, where the members may differ.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Makes itself heard at start and when it becomes active: on at nodes, off at the module and
    /// wherever there is nobody to hear it.
    pub hello_at_start: bool,
}

enum Queued {
    Transmit(Vec<u8>),
    Deliver { index: u16, kind: FrameKind, newest: bool, buffer: Vec<u8> },
    Event(Event),
}

/// What happens once the records of a step are durable.
enum Step {
    Activate,
    Begin { place: Place, epoch: OpenEpoch, cause: Cause, then: Option<(FrameKind, Vec<u8>)> },
    Adopt { place: Place, epoch: OpenEpoch, delivery: Queued, activates: bool },
}

struct Pending {
    records: VecDeque<Record>,
    step: Step,
    now: Instant,
    /// Randomness for the salt, drawn with the input, since `persisted` has no surroundings.
    salt: u64,
}

/// The engine of one relationship at one member.
pub struct Session {
    provider: &'static dyn CryptoProvider,
    membership: Membership,
    options: Options,
    phase: Phase,
    /// Header key and tag of the run.
    header_key: HeaderKey,
    tag: Tag,
    /// The durable place; `None` in the phases without one.
    place: Option<Place>,
    current: Option<OpenEpoch>,
    sending: Option<Sending>,
    closed: VecDeque<OpenEpoch>,
    unproven: VecDeque<Unproven>,
    budget: Budget,
    /// Randomness of the element, mixed into every salt of this start.
    salt_seed: Secret<32>,
    /// Whether this start has made its first frame, in an epoch of its own.
    own_epoch: bool,
    began: Instant,
    wanted: Option<Cause>,
    advanced: Option<Instant>,
    hello_due: Option<Instant>,
    replied: Option<Instant>,
    retry: Option<Instant>,
    pending: Option<Pending>,
    queue: VecDeque<Queued>,
    handed_out: Vec<u8>,
    spare: Vec<Vec<u8>>,
    rejections: [u64; Rejection::ALL.len()],
    delivered: u64,
    transmitted: u64,
}

impl Session {
    /// Starts the engine: asks the element for randomness, and for the header key of a run above
    /// zero.
    pub fn start(
        provider: &'static dyn CryptoProvider,
        membership: Membership,
        standing: Standing,
        options: Options,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Self, ElementError> {
        let (phase, place) = match standing {
            Standing::Staged(place) => (Phase::Staged, Some(place)),
            Standing::Active(place) if place.next_epoch().is_none() => (Phase::UsedUp, Some(place)),
            Standing::Active(place) => (Phase::Established, Some(place)),
            Standing::WithoutPlace => (Phase::WithoutPlace, None),
            Standing::RolledBack => (Phase::RolledBack, None),
        };
        let salt_seed = Secret::try_fill(|seed| surroundings.element.random(seed))?;
        let (header_key, tag) = match place.as_ref().map_or(0, Place::run) {
            0 => (membership.header_key().duplicate(), membership.tag()),
            run => keys::run_header(surroundings.element, membership.root(), membership.sds().digest(), run)?,
        };
        let hello = options.hello_at_start && phase == Phase::Established;
        Ok(Self {
            provider,
            membership,
            options,
            phase,
            header_key,
            tag,
            place,
            current: None,
            sending: None,
            closed: VecDeque::new(),
            unproven: VecDeque::new(),
            budget: Budget::full(surroundings.now),
            salt_seed,
            own_epoch: false,
            began: surroundings.now,
            wanted: None,
            advanced: None,
            hello_due: hello.then_some(surroundings.now),
            replied: None,
            retry: None,
            pending: None,
            queue: VecDeque::new(),
            handed_out: Vec::new(),
            spare: Vec::new(),
            rejections: [0; Rejection::ALL.len()],
            delivered: 0,
            transmitted: 0,
        })
    }

    /// Takes one input. All outputs of the input before must have been carried out.
    pub fn handle(
        &mut self,
        input: Input<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        if self.pending.is_some() || !self.queue.is_empty() {
            return Err(SessionError::OutputPending);
        }
        self.close_expired(surroundings.now);
        match input {
            Input::Frame(frame) => self.receive(frame, surroundings),
            Input::Timeout => self.on_timeout(surroundings),
            Input::Advance => self.on_advance(surroundings),
            Input::Activate => {
                self.on_activate(surroundings);
                Ok(())
            }
            Input::Send(kind, body) => self.send(kind, body, surroundings),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Output<'_> {
        if self.pending.is_some() {
            let record = self.pending.as_ref().and_then(|pending| pending.records.front());
            return Output::Persist(record.expect("a pending step has a record to write"));
        }
        match self.queue.pop_front() {
            None => Output::Idle,
            Some(Queued::Event(event)) => Output::Event(event),
            Some(Queued::Transmit(buffer)) => {
                self.transmitted += 1;
                Output::Transmit(self.hand_out(buffer))
            }
            Some(Queued::Deliver { index, kind, newest, buffer }) => {
                self.delivered += 1;
                let from = self.membership.sds().members()[usize::from(index)];
                let payload = &self.hand_out(buffer)[1..];
                Output::Deliver(Delivery { from, index, kind, newest, payload })
            }
        }
    }

    /// The record of the last [`Output::Persist`] is durable. Called out of turn: no effect.
    pub fn persisted(&mut self) {
        let Some(pending) = &mut self.pending else { return };
        pending.records.pop_front();
        if pending.records.is_empty()
            && let Some(pending) = self.pending.take()
        {
            self.commit(pending);
        }
    }

    /// The record of the last [`Output::Persist`] could not be written: the step is given up, and
    /// with it the frame that caused it. Called out of turn: no effect.
    pub fn persist_failed(&mut self) {
        if let Some(pending) = self.pending.take() {
            match pending.step {
                Step::Begin { then: Some((_, buffer)), .. }
                | Step::Adopt { delivery: Queued::Deliver { buffer, .. }, .. } => self.recycle(buffer),
                Step::Begin { .. } | Step::Adopt { .. } | Step::Activate => {}
            }
            self.retry = Some(pending.now + RETRY);
        }
    }

    /// When to hand in [`Input::Timeout`]; `None`: only something else will move this session.
    pub fn timeout(&self) -> Option<Instant> {
        let closing = self.closed.iter().filter_map(|epoch| epoch.closes).min();
        let acting = [self.hello_due, self.trigger_due()].into_iter().flatten().min();
        let acting = acting.map(|due| self.retry.map_or(due, |retry| due.max(retry)));
        [closing, acting].into_iter().flatten().min()
    }

    /// Whether a frame bears a right header signature of this relationship. Decides between
    /// relationships that share a tag; proves nothing.
    pub fn claims(&self, frame: &[u8]) -> bool {
        crate::frame::is_signed(frame, &self.header_key)
    }

    /// What this member is and knows.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Where the relationship stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The tag that its frames bear in this run.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// The durable epoch, or [`NO_EPOCH`].
    pub fn epoch(&self) -> u32 {
        self.place.as_ref().map_or(NO_EPOCH, Place::epoch)
    }

    /// Counts failsafes, from 0.
    pub fn run(&self) -> u32 {
        self.place.as_ref().map_or(0, Place::run)
    }

    /// How many frames were dropped for this reason since the start.
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.rejections[reason as usize]
    }

    /// How many frames were delivered since the start, hellos included.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// How many frames were made since the start.
    pub fn transmitted(&self) -> u64 {
        self.transmitted
    }

    /// Most bytes of a body that fit into a frame of this relationship.
    pub fn body_max(&self) -> usize {
        self.frame_max() - OVERHEAD
    }

    fn frame_max(&self) -> usize {
        match self.membership.sds().kind() {
            Kind::Provisioning => STREAM_MAX,
            Kind::Communication => usize::from(self.membership.policy().datagram_max),
        }
    }

    fn hand_out(&mut self, buffer: Vec<u8>) -> &[u8] {
        let used = core::mem::replace(&mut self.handed_out, buffer);
        self.recycle(used);
        &self.handed_out
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.membership.sds().kind() == Kind::Provisioning {
            // Management messages carry roots.
            buffer.zeroize();
        }
        buffer.clear();
        if buffer.capacity() > 0 && self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    fn spare_buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn tell(&mut self, event: Event) {
        self.queue.push_back(Queued::Event(event));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handed_out.zeroize();
        for buffer in &mut self.spare {
            buffer.zeroize();
        }
    }
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("relationship", &self.membership.sds().relationship())
            .field("phase", &self.phase)
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

/// After a failed write or element call the session tries by itself again after this long.
const RETRY: Duration = Duration::from_secs(1);

const SPARE_MAX: usize = 4;
