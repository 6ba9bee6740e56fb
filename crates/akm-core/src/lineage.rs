//! The generations of one relationship at one member (protocol, section 6, "Generation").
//!
//! At most three stand beside each other, each with a [`Session`] of its own:
//!
//! ```text
//!   install -> staged --- the module's word, or the first authentic frame of it ---> active
//!                                                             active before ---> closing -> erased
//! ```
//!
//! - Messages go out in the active generation only. Frames are taken in each, told apart by tag, and by
//!   header signature where tags are the same.
//! - The one before stays open for receiving for the overlap of its policy; not at all when the element
//!   version rose, since then a member left or is suspected.
//! - Erasing is an output ([`Next::Erase`]) like any other: a host that is cut off before it has erased is
//!   told again after its start.
//!
//! Like a session it does no I/O. The host drives it as it drives a session, and calls
//! [`Lineage::erased`] when what [`Next::Erase`] names is gone.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::element::Root;
use crate::frame::{Header, is_signed};
use crate::sds::{HeaderKey, SynchronizedDataSet, Tag};
use crate::session::{Input, Instant, Output, Phase, Session, SessionError, Surroundings};

/// Why a generation is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The same or a lower generation with another content is held, or was replaced by what is held.
    #[error("generation {held} is held, and this one is not above it")]
    NotAbove {
        /// The highest that is held.
        held: u32,
    },
    /// It belongs to another relationship.
    #[error("it is a generation of another relationship")]
    OtherRelationship,
}

/// What installing a generation comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is held: nothing is to be done, whatever its phase.
    Held,
    /// It is above all that is held: install its root and records, then call [`Lineage::install`].
    Above,
}

/// What is to be erased: the records of a generation, and its root where no other generation uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The generation.
    pub generation: u32,
    /// The element root that goes with it.
    pub root: Option<Root>,
}

/// Something the caller must do, in the order given.
#[must_use = "an output left undone breaks the protocol"]
#[derive(Debug)]
pub enum Next<'l> {
    /// An output of the session of this generation, never [`Output::Idle`].
    Session(u32, Output<'l>),
    /// Erase this durably, then call [`Lineage::erased`]. Until then it is handed out again after each
    /// input.
    Erase(Erasure),
    /// Nothing to do until the next input.
    Idle,
}

/// Which of the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Active,
    Staged,
    Closing,
}

#[derive(Debug)]
struct Closing {
    session: Session,
    closes: Instant,
}

/// A generation that is gone: its frames are counted, and open nothing.
#[derive(Debug)]
struct Gone {
    tag: Tag,
    header_key: HeaderKey,
}

/// All generations of a relationship that a member holds.
#[derive(Debug)]
pub struct Lineage {
    active: Option<Session>,
    staged: Option<Session>,
    closing: Option<Closing>,
    serving: Which,
    erasures: VecDeque<Erasure>,
    /// Whether the first of them was handed out since the last input.
    offered: bool,
    gone: Option<Gone>,
    late: u64,
    now: Instant,
}

impl Lineage {
    /// What a host found at its start: a session for each generation whose records are there. The highest
    /// active one goes on; what is below it is erased, and of those above it all but the highest.
    pub fn resume(mut sessions: Vec<Session>) -> Self {
        sessions.sort_by_key(|session| session.membership().sds().generation());
        let mut lineage = Self {
            active: None,
            staged: None,
            closing: None,
            serving: Which::Active,
            erasures: VecDeque::new(),
            offered: false,
            gone: None,
            late: 0,
            now: Instant::default(),
        };
        let mut dropped = Vec::new();
        for session in sessions {
            if session.is_active() {
                dropped.extend(lineage.staged.take());
                dropped.extend(lineage.active.replace(session));
            } else {
                dropped.extend(lineage.staged.replace(session));
            }
        }
        for session in dropped {
            lineage.erase(session);
        }
        lineage
    }

    /// Judges a generation that the module sends. Ask before anything of it is written; nothing changes.
    pub fn examine(&self, sds: &SynchronizedDataSet) -> Result<Arrival, NotTaken> {
        let mut held = 0;
        for session in self.sessions() {
            let other = session.membership().sds();
            if other.relationship() != sds.relationship() {
                return Err(NotTaken::OtherRelationship);
            }
            if other.digest() == sds.digest() {
                return Ok(Arrival::Held);
            }
            held = held.max(other.generation());
        }
        if sds.generation() <= held {
            return Err(NotTaken::NotAbove { held });
        }
        Ok(Arrival::Above)
    }

    /// Takes in a staged generation whose root and records are durable. One that was staged before and never
    /// became active is erased. What [`Lineage::examine`] refuses is refused here too.
    pub fn install(&mut self, session: Session) -> Result<Arrival, NotTaken> {
        let arrival = self.examine(session.membership().sds())?;
        if arrival == Arrival::Above {
            let replaced = self.staged.replace(session);
            if let Some(replaced) = replaced {
                self.erase(replaced);
            }
        }
        Ok(arrival)
    }

    /// Takes one input. All outputs of the input before must have been carried out; an erasure that could
    /// not be is handed out again.
    ///
    /// [`Input::Send`] and [`Input::Advance`] are for the active generation; a frame finds its own.
    /// [`Input::Activate`] is for whatever is staged: see [`Lineage::activate`].
    pub fn handle(
        &mut self,
        input: Input<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        if self.session_of(self.serving).is_some_and(Session::has_output) {
            return Err(SessionError::OutputPending);
        }
        self.now = surroundings.now;
        self.offered = false;
        self.turn_over();
        self.close_expired();
        let which = match &input {
            Input::Frame(frame) => match self.whose(frame) {
                Some(which) => which,
                None => {
                    self.count_late(frame);
                    self.main()
                }
            },
            Input::Timeout => match self.due() {
                Some(which) => which,
                None => return Ok(()),
            },
            Input::Activate if self.staged.is_some() => Which::Staged,
            Input::Activate | Input::Advance | Input::Send(..) => self.main(),
        };
        self.serving = which;
        match self.session_of_mut(which) {
            Some(session) => session.handle(input, surroundings),
            None => Err(SessionError::NotActive(Phase::Erased)),
        }
    }

    /// The module's word for a generation. If that one is not staged: no effect, so that a word that comes
    /// late or again activates nothing else.
    pub fn activate(
        &mut self,
        generation: u32,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let staged = self.staged.as_ref().map(|staged| staged.membership().sds().generation());
        if staged == Some(generation) { self.handle(Input::Activate, surroundings) } else { Ok(()) }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Next<'_> {
        if self.session_of(self.serving).is_some_and(Session::has_output) {
            let session = self.session_of_mut(self.serving).expect("it has an output");
            let generation = session.membership().sds().generation();
            return Next::Session(generation, session.poll());
        }
        if let Some(session) = self.session_of_mut(self.serving) {
            // So that it takes back the buffer that it handed out.
            let _ = session.poll();
        }
        self.turn_over();
        match self.erasures.front() {
            Some(erasure) if !self.offered => {
                self.offered = true;
                Next::Erase(*erasure)
            }
            _ => Next::Idle,
        }
    }

    /// The record of the last [`Output::Persist`] is durable.
    pub fn persisted(&mut self) {
        if let Some(session) = self.session_of_mut(self.serving) {
            session.persisted();
        }
    }

    /// The record of the last [`Output::Persist`] could not be written.
    pub fn persist_failed(&mut self) {
        if let Some(session) = self.session_of_mut(self.serving) {
            session.persist_failed();
        }
    }

    /// What the last [`Next::Erase`] named is erased durably. Called out of turn: no effect.
    pub fn erased(&mut self) {
        if self.offered {
            self.erasures.pop_front();
            self.offered = false;
        }
    }

    /// When to hand in [`Input::Timeout`].
    pub fn timeout(&self) -> Option<Instant> {
        let acting = [&self.active, &self.staged].into_iter().flatten().filter_map(Session::timeout);
        acting.chain(self.closing.as_ref().map(|closing| closing.closes)).min()
    }

    /// Whether frames with this tag are for this relationship.
    pub fn listens_to(&self, tag: Tag) -> bool {
        self.sessions().any(|session| session.listens_to(tag))
    }

    /// Whether a frame bears tag and right header signature of one of the generations. Decides between
    /// relationships that share a tag.
    pub fn claims(&self, frame: &[u8]) -> bool {
        let Ok(tag) = Header::parse(frame).map(|header| header.tag) else { return false };
        self.sessions().any(|session| session.listens_to(tag) && session.claims(frame))
    }

    /// The generation in which messages go out; `None` before the first is active.
    pub fn active(&self) -> Option<&Session> {
        self.active.as_ref()
    }

    /// The generation that waits for the module's word.
    pub fn staged(&self) -> Option<&Session> {
        self.staged.as_ref()
    }

    /// The one before, as long as it is open for receiving.
    pub fn closing(&self) -> Option<&Session> {
        self.closing.as_ref().map(|closing| &closing.session)
    }

    /// The generation that took the last input.
    pub fn serving(&self) -> Option<u32> {
        self.session_of(self.serving).map(|session| session.membership().sds().generation())
    }

    /// All of them.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.active.iter().chain(&self.staged).chain(self.closing())
    }

    /// Frames of the generation before that came after it was closed, as far as their header signature shows:
    /// what a removal costs in flight.
    pub fn late_frames(&self) -> u64 {
        self.late
    }

    fn session_of(&self, which: Which) -> Option<&Session> {
        match which {
            Which::Active => self.active.as_ref(),
            Which::Staged => self.staged.as_ref(),
            Which::Closing => self.closing(),
        }
    }

    fn session_of_mut(&mut self, which: Which) -> Option<&mut Session> {
        match which {
            Which::Active => self.active.as_mut(),
            Which::Staged => self.staged.as_mut(),
            Which::Closing => self.closing.as_mut().map(|closing| &mut closing.session),
        }
    }

    /// The active generation, or the staged one before there is an active one.
    fn main(&self) -> Which {
        if self.active.is_some() { Which::Active } else { Which::Staged }
    }

    fn whose(&self, frame: &[u8]) -> Option<Which> {
        let tag = Header::parse(frame).ok()?.tag;
        let listens = |which: &Which| self.session_of(*which).is_some_and(|session| session.listens_to(tag));
        let claims = |which: &Which| self.session_of(*which).is_some_and(|session| session.claims(frame));
        let all = [Which::Active, Which::Staged, Which::Closing];
        let mut candidates = all.into_iter().filter(listens);
        let first = candidates.next()?;
        if candidates.next().is_none() {
            return Some(first);
        }
        all.into_iter().find(|which| listens(which) && claims(which)).or(Some(first))
    }

    fn due(&self) -> Option<Which> {
        let due = |which: Which| {
            let due = self.session_of(which)?.timeout().filter(|due| *due <= self.now)?;
            Some((due, which))
        };
        // The closing one only receives: its time is that at which it closes.
        let first =
            [due(Which::Active), due(Which::Staged)].into_iter().flatten().min_by_key(|(due, _)| *due);
        first.map(|(_, which)| which)
    }

    fn count_late(&mut self, frame: &[u8]) {
        if let Some(gone) = &self.gone
            && Header::parse(frame).is_ok_and(|header| header.tag == gone.tag)
            && is_signed(frame, &gone.header_key)
        {
            self.late += 1;
        }
    }

    /// Makes the staged generation the active one once it is durably so.
    fn turn_over(&mut self) {
        let Some(next) = self.staged.take_if(|staged| staged.is_active()) else { return };
        let version = next.membership().sds().element_version();
        let replaced = self.closing.take();
        let before = self.active.replace(next);
        self.serving = Which::Active;
        if let Some(before) = before {
            let membership = before.membership();
            let overlap = membership.policy().overlap;
            let closes = self.now + overlap;
            if membership.sds().element_version() < version || overlap.is_zero() {
                self.erase(before);
            } else {
                self.closing = Some(Closing { session: before, closes });
            }
        }
        if let Some(replaced) = replaced {
            self.erase(replaced.session);
        }
    }

    fn close_expired(&mut self) {
        if let Some(closing) = self.closing.take_if(|closing| closing.closes <= self.now) {
            self.erase(closing.session);
        }
    }

    /// Drops a session, which wipes its keys, and has the host erase what is stored.
    #[expect(clippy::needless_pass_by_value, reason = "its keys are wiped here")]
    fn erase(&mut self, session: Session) {
        let membership = session.membership();
        let root = membership.root();
        let used = self.sessions().any(|other| other.membership().root() == root);
        let generation = membership.sds().generation();
        self.gone = Some(Gone { tag: session.tag(), header_key: session.header_key() });
        self.erasures.push_back(Erasure { generation, root: (!used).then_some(root) });
    }
}
