//! The session engine of one relationship at one member (protocol, sections 5 to 9).
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
//!   [`Event::Rejected`]. An `Err` is this node's own fault, leaves the state as it was and nothing to
//!   carry out. Only two are a step: after [`SessionError::EpochsUsedUp`] the phase is
//!   [`Phase::UsedUp`], after [`SessionError::KeysLost`] it is [`Phase::WithoutPlace`].
//! - The element is asked when keys change, never for a frame of the sessions, and at most once for each
//!   call; twice where the first request to find back is answered; and once more where the first frame
//!   of a start opens what the host keeps.
//! - Each call does a bounded amount of work: at most 96 hashes, one element call (or those three) and
//!   four AEAD operations, whatever comes in.

mod advance;
mod answer;
mod budget;
mod buffer;
mod counts;
mod due;
mod epochs;
mod event;
mod export;
mod failsafe;
mod follow;
mod footprint;
mod jump;
mod lend;
mod membership;
mod outbox;
mod receive;
mod resync;
mod stage;
#[cfg(test)]
mod tests;
mod unseal;

pub use event::{Cause, Event, FoundBack, Phase, Rejection, Way};
pub use export::{Exported, NotExported};
pub use footprint::Footprint;
pub use jump::{jump, may_be_set_back};
pub use lend::{NotSealed, Opened, Opener, Sealer};
pub use membership::{KeptKeys, Membership, NotAMember};

use alloc::vec::Vec;
use core::fmt;
use core::mem;
use core::time::Duration;

use crate::crypto::CryptoProvider;
use crate::element::{ElementError, SecureElement};
use crate::frame::{Class, FrameKind, Header, OVERHEAD, STREAM_MAX};
use crate::id::AkmId;
use crate::sds::{HeaderKey, Kind, Tag};
use crate::secret::{Secret, SecretBytes};
use crate::tree::{NO_EPOCH, Place};

use counts::Counts;
use due::{Due, RETRY};
use epochs::{Epochs, Unproven};
use follow::Follow;
use jump::Again;
use lend::Lent;
use outbox::{Outbox, Recipients, Step};
use resync::Resync;
use stage::{Lost, Stage};

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
#[derive(Clone, Copy)]
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
    /// Seal these bytes once, for the member of this index. The others get no copy from here, but their
    /// keys open it: whoever of them hears it can read it.
    SendTo(u16, FrameKind, &'a [u8]),
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
    /// Send this frame to the member of this index. Where the others hear it too they drop it.
    TransmitTo(u16, &'s [u8]),
    /// An authentic frame arrived that was never delivered before.
    Deliver(Delivery<'s>),
    /// For whoever watches. Never holds a secret.
    Event(Event),
    /// Nothing to do until the next input.
    Idle,
}

/// What an authentic frame said.
pub struct Delivery<'s> {
    /// Who sent it, as far as members that share keys can tell.
    pub from: AkmId,
    /// The index of that member.
    pub index: u16,
    /// The epoch that it was sent in.
    pub epoch: u32,
    /// What the payload is. A hello is delivered too, so that the host learns who is where.
    pub kind: FrameKind,
    /// Whether no later frame of this member was heard before.
    pub newest: bool,
    /// The bytes.
    pub payload: &'s [u8],
}

/// Something that must be durable before anything rests on it.
pub enum Record {
    /// The relationship is active from here on.
    Activated,
    /// The place that follows was not reached by this node itself: a trace to keep, so that the module
    /// hears of it.
    FoundBack(FoundBack),
    /// The place, encoded; the host seals it (see [`crate::keys::PlaceSeal`]).
    Place(SecretBytes),
}

/// What this node itself did wrong, or its element. See [`crate::session`] for what an error leaves.
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
    /// Management belongs into provisioning relationships, data into all others; a hello is empty.
    #[error("this relationship does not carry frames of this kind")]
    WrongKind,
    /// A message for one member needs a member, and another than this one.
    #[error("this relationship has no other member with index {index}")]
    NoSuchMember {
        /// Whom it was for.
        index: u16,
    },
    /// What the host keeps of the generation does not open under this element's device key.
    #[error("what is kept of this generation does not open: it needs a new one from its module")]
    KeysLost,
    /// Epochs are used up: the relationship needs a generation.
    #[error("epochs used up: the relationship needs a new generation from its module")]
    EpochsUsedUp,
    /// An output of the input before is still to be carried out.
    #[error("an output is still to be carried out")]
    OutputPending,
    /// A part of the session that this input needs is lent: take it back and hand the input in again.
    #[error("sealing or opening is lent, and not taken back")]
    Lent,
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
    /// Active, and moved on to this place, which is durable, as this member may have been set back (see [`jump`]).
    Jumped(Place),
    /// The place is lost or damaged.
    WithoutPlace {
        /// Whether the relationship is active.
        active: bool,
        /// The highest run that this member found back to, as its trace says; 0 if it never did.
        run: u32,
    },
    /// The place is older than the element's counter allows.
    RolledBack {
        /// Whether the relationship is active.
        active: bool,
        /// As above.
        run: u32,
    },
}

/// How this member behaves, where the members may differ.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Makes itself heard at start and when it becomes active: on at nodes, off at the module and
    /// wherever there is nobody to hear it.
    pub hello_at_start: bool,
    /// Finds back through other members (protocol, section 15), and helps them to. Off, a relationship
    /// without place rests, and frames of that class are malformed.
    pub find_back: bool,
}

/// Runs that were left whose tags are remembered.
const RUNS_LEFT: usize = 4;

/// The engine of one relationship at one member.
pub struct Session {
    provider: &'static dyn CryptoProvider,
    membership: Membership,
    options: Options,
    stage: Stage,
    /// Whether it is durable that the relationship is active.
    active: bool,
    /// The header key of the run; `None` while it is sealed.
    header_key: Option<HeaderKey>,
    tag: Tag,
    /// Whether the element failed when a frame made this member open the keys that the host keeps.
    opening_failed: bool,
    /// Those of runs that it was in before, the latest last, without run 0.
    left: Vec<(HeaderKey, Tag)>,
    epochs: Epochs,
    follow: Follow,
    again: Again,
    lent: Lent,
    due: Due,
    resync: Option<Resync>,
    outbox: Outbox,
    counts: Counts,
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
        let has_jumped = matches!(standing, Standing::Jumped(_));
        let known_run = match &standing {
            Standing::WithoutPlace { run, .. } | Standing::RolledBack { run, .. } => *run,
            Standing::Staged(place) | Standing::Active(place) | Standing::Jumped(place) => place.run(),
        };
        let (stage, active) = match standing {
            Standing::Staged(place) => (Stage::Staged(place), false),
            Standing::Active(place) | Standing::Jumped(place) => (Stage::active(place), true),
            Standing::WithoutPlace { active, .. } => (Stage::Lost(Lost::WithoutPlace), active),
            Standing::RolledBack { active, .. } => (Stage::Lost(Lost::RolledBack), active),
        };
        let seed = Secret::try_fill(|seed| surroundings.element.random(seed))?;
        let run = stage.place().map_or(0, Place::run);
        let (header_key, tag) = membership.run_header(run, surroundings.element)?;
        let sds = membership.sds();
        let resync = options
            .find_back
            .then(|| Resync::new(sds.digest(), sds.members().len(), &stage, known_run, surroundings.now));
        let due = Due::new(surroundings.now, 0, None);
        let outbox = Outbox::new(sds.kind());
        let follow = Follow::new(sds.kind(), sds.members().len(), surroundings.now);
        let mut session = Self {
            provider,
            membership,
            options,
            stage,
            active,
            header_key,
            tag,
            opening_failed: false,
            left: Vec::new(),
            epochs: Epochs::new(seed),
            follow,
            again: Again::default(),
            lent: Lent::default(),
            due,
            resync,
            outbox,
            counts: Counts::default(),
        };
        let hello = session.start_hello(surroundings.now).filter(|_| session.stage.is_established());
        session.due = Due::new(surroundings.now, session.lateness(), hello);
        if has_jumped {
            session.insist(surroundings.now);
        }
        Ok(session)
    }

    /// Takes one input. All outputs of the input before must have been carried out.
    pub fn handle(
        &mut self,
        input: Input<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        if !self.outbox.is_empty() {
            return Err(SessionError::OutputPending);
        }
        self.epochs.close_expired(surroundings.now);
        match input {
            Input::Frame(frame) => self.receive(frame, surroundings),
            Input::Timeout => {
                self.expire(surroundings.now);
                self.on_timeout(surroundings)
            }
            Input::Advance => self.on_advance(surroundings),
            Input::Activate => {
                self.on_activate(surroundings);
                Ok(())
            }
            Input::Send(kind, body) => self.send(Recipients::Others, kind, body, surroundings),
            Input::SendTo(index, kind, body) => self.send(Recipients::One(index), kind, body, surroundings),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Output<'_> {
        self.outbox.next(self.membership.sds().members(), &mut self.counts)
    }

    /// The record of the last [`Output::Persist`] is durable. Called out of turn: no effect.
    pub fn persisted(&mut self) {
        if let Some(pending) = self.outbox.recorded() {
            self.commit(pending);
        }
    }

    /// The same, for a host that goes on while a record is being written: what begins with the step, overlaps above all,
    /// is counted from when it is durable.
    pub fn persisted_at(&mut self, now: Instant) {
        if let Some(mut pending) = self.outbox.recorded() {
            pending.now = pending.now.max(now);
            self.commit(pending);
        }
    }

    /// The record of the last [`Output::Persist`] could not be written: the step is given up, and
    /// with it the frame that caused it. Called out of turn: no effect.
    pub fn persist_failed(&mut self) {
        let Some(pending) = self.outbox.give_up() else { return };
        match pending.step {
            Step::Activate => {}
            Step::FindBack { .. } => {
                if let Some(resync) = &mut self.resync {
                    resync.look_again(pending.now + RETRY);
                }
            }
            Step::Begin { epoch, buffer, .. } | Step::Adopt { epoch, buffer, .. } => {
                self.outbox.recycle(buffer);
                // The same frame, or the next try, shall not cost another call of the element.
                let pinned = self.pinned();
                let unproven = Unproven { number: epoch.number, secret: epoch.secret, cost: None };
                self.epochs.cache(unproven, pinned);
            }
        }
        self.due.fail(pending.now);
    }

    /// When to hand in [`Input::Timeout`]; `None`: only something else will move this session.
    pub fn timeout(&self) -> Option<Instant> {
        let looking = self.resync.as_ref().and_then(Resync::due);
        let again = self.again.due().filter(|_| self.stage.is_established());
        let acting = [self.due.hello(), again, self.trigger_due(), looking];
        let acting = acting.into_iter().flatten().min().map(|due| self.due.held_back(due));
        [self.expiry(), acting].into_iter().flatten().min()
    }

    /// When [`Session::expire`] has something to do: the part of [`Session::timeout`] in which this member does not act.
    pub fn expiry(&self) -> Option<Instant> {
        self.epochs.expiry()
    }

    /// Closes epochs whose overlap is over, and wipes what is left of them. For a session that is not to act any more:
    /// [`Input::Timeout`] does it too.
    pub fn expire(&mut self, now: Instant) {
        self.epochs.close_expired(now);
        self.epochs.wipe_some(now);
    }

    /// Whether a frame bears a right header signature of this relationship. Decides between
    /// relationships that share a tag; proves nothing. While [`Session::is_sealed`] that cannot be seen, and it
    /// does not.
    pub fn claims(&self, frame: &[u8]) -> bool {
        let key = match Header::parse(frame).map(|header| header.class) {
            Ok(Class::Resync) => self.membership.header_key(),
            _ => self.header_key.as_ref(),
        };
        key.is_some_and(|key| crate::frame::is_signed(frame, key))
    }

    /// Whether frames with this tag are for this session: that of its run, or that by which its members
    /// find back.
    pub fn listens_to(&self, tag: Tag) -> bool {
        self.tag == tag || self.resync_tag() == Some(tag)
    }

    /// The tag of frames by which members find back; `None` if this one does not take part in that.
    pub fn resync_tag(&self) -> Option<Tag> {
        self.resync.as_ref().map(|resync| resync.tag)
    }

    /// The latest fallback or failsafe since the start.
    pub fn found_back(&self) -> Option<FoundBack> {
        self.resync.as_ref().and_then(|resync| resync.last)
    }

    /// How many members were told where this node stands, since the start.
    pub fn answered(&self) -> u64 {
        self.resync.as_ref().map_or(0, |resync| resync.answers.total())
    }

    /// The header key of the run; `None` while it is sealed.
    pub(crate) fn header_key(&self) -> Option<&HeaderKey> {
        self.header_key.as_ref()
    }

    /// Header keys and tags of the runs that it was in, run 0 first and the present one last; not of all, if there were
    /// very many, and not of those whose keys are sealed: nobody knows which frames of them are signed.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&HeaderKey, Tag)> {
        let of_run_0 = self.membership.header_key().map(|header_key| (header_key, self.membership.tag()));
        let left = self.left.iter().map(|(header_key, tag)| (header_key, *tag));
        let present =
            self.header_key().filter(|_| self.is_after_run_0()).map(|header_key| (header_key, self.tag));
        of_run_0.into_iter().chain(left).chain(present)
    }

    fn is_after_run_0(&self) -> bool {
        self.tag != self.membership.tag()
    }

    /// Goes over to another run.
    fn enter_run(&mut self, header_key: Option<HeaderKey>, tag: Tag) {
        if tag == self.tag {
            return;
        }
        let is_after_run_0 = self.is_after_run_0();
        let before = mem::replace(&mut self.header_key, header_key);
        let tag = mem::replace(&mut self.tag, tag);
        if is_after_run_0 {
            self.left.extend(before.map(|before| (before, tag)));
            self.left.drain(..self.left.len().saturating_sub(RUNS_LEFT));
        }
    }

    /// Whether an output is to be carried out.
    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether the next output is a delivery.
    pub(crate) fn is_about_to_deliver(&self) -> bool {
        self.outbox.is_about_to_deliver()
    }

    /// Whether it is durable that the relationship is active, in whatever phase it is.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// What this member is and knows.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Where the relationship stands.
    pub fn phase(&self) -> Phase {
        self.stage.phase()
    }

    /// The tag that its frames bear in this run.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// The durable epoch, or [`NO_EPOCH`].
    pub fn epoch(&self) -> u32 {
        self.stage.place().map_or(NO_EPOCH, Place::epoch)
    }

    /// Counts failsafes, from 0.
    pub fn run(&self) -> u32 {
        self.stage.place().map_or(0, Place::run)
    }

    /// How many frames were dropped for this reason since the start.
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.counts.rejections(reason)
    }

    /// How many frames were delivered since the start, hellos included.
    pub fn delivered(&self) -> u64 {
        self.counts.delivered
    }

    /// How many frames were made since the start.
    pub fn transmitted(&self) -> u64 {
        self.counts.transmitted
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

    fn tell(&mut self, event: Event) {
        self.outbox.tell(event);
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => write!(f, "Frame({} bytes)", frame.len()),
            Self::Timeout => f.write_str("Timeout"),
            Self::Advance => f.write_str("Advance"),
            Self::Activate => f.write_str("Activate"),
            Self::Send(kind, body) => write!(f, "Send({kind:?}, {} bytes)", body.len()),
            Self::SendTo(index, kind, body) => write!(f, "SendTo({index}, {kind:?}, {} bytes)", body.len()),
        }
    }
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("from", &self.from)
            .field("index", &self.index)
            .field("epoch", &self.epoch)
            .field("kind", &self.kind)
            .field("newest", &self.newest)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Activated => "Activated",
            Self::FoundBack(_) => "FoundBack",
            Self::Place(_) => "Place",
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("relationship", &self.membership.sds().relationship())
            .field("phase", &self.phase())
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}
