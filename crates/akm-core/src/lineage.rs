//! The generations of one relationship at one member (protocol, section 6, "Generation").
//!
//! They stand beside each other, each with a [`Session`] of its own:
//!
//! ```text
//!   install -> staged --- the module's word, or the first authentic frame of it ---> active
//!                                                             active before ---> closing -> erased
//! ```
//!
//! - Messages go out in the highest active generation only. Frames are taken in each, told apart by tag, and by
//!   header signature where tags are the same.
//! - All that are staged stay until one above them is active: another member may have gone over to any of them.
//! - Those below the active one stay open for receiving for the overlap of their policy; not at all when the element
//!   version rose, since then a member left or is suspected.
//! - Erasing is an output ([`Next::Erase`]) like any other: a host that is cut off before it has erased is
//!   told again after its start.
//!
//! [`examine`], [`in_force`] and [`open_until`] are these rules alone, for a host that keeps more with each generation and
//! drives their sessions itself. [`Lineage`] drives them. Like a session it does no I/O. The host drives it as it
//! drives a session, and calls [`Lineage::erased`] when what [`Next::Erase`] names is gone.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::element::Root;
use crate::frame::{Header, is_signed};
use crate::sds::{HeaderKey, SynchronizedDataSet, Tag};
use crate::session::{Input, Instant, Membership, Output, Phase, Session, SessionError, Surroundings};

/// Why a generation is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The same or a lower generation with another content is held, or was replaced by what is held.
    #[error("generation {held} is held, and this one is not above it")]
    NotAbove {
        /// The highest that is held.
        held: u32,
    },
    /// Its element version is below one that is held: who was shut out would be let in again.
    #[error("element version {held} is held, and that of this generation is below it")]
    LowerElementVersion {
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

/// Judges a generation that the module sends, against all that are held of its relationship. Ask before anything of it
/// is written.
pub fn examine<'a>(
    held: impl IntoIterator<Item = &'a SynchronizedDataSet>,
    offered: &SynchronizedDataSet,
) -> Result<Arrival, NotTaken> {
    let (mut generation, mut version) = (0, 0);
    for held in held {
        if held.relationship() != offered.relationship() {
            return Err(NotTaken::OtherRelationship);
        }
        if held.digest() == offered.digest() {
            return Ok(Arrival::Held);
        }
        generation = generation.max(held.generation());
        version = version.max(held.element_version());
    }
    if offered.generation() <= generation {
        return Err(NotTaken::NotAbove { held: generation });
    }
    if offered.element_version() < version {
        return Err(NotTaken::LowerElementVersion { held: version });
    }
    Ok(Arrival::Above)
}

/// The generation in which messages go out, of those that are held, lowest first, each with whether it was ever active:
/// the highest active one. Before there is one, the highest.
pub fn in_force(held: impl DoubleEndedIterator<Item = (u32, bool)> + Clone) -> Option<u32> {
    let generation = |(generation, _)| generation;
    held.clone().rfind(|(_, active)| *active).or_else(|| held.clone().next_back()).map(generation)
}

/// Until when a generation stays open for receiving after `next` became active above it; `None`: it is over at once.
pub fn open_until(before: &Membership, next: &SynchronizedDataSet, now: Instant) -> Option<Instant> {
    let overlap = before.policy().overlap;
    let stays = before.sds().element_version() == next.element_version() && !overlap.is_zero();
    stays.then(|| now + overlap)
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

#[derive(Debug)]
struct Held {
    session: Session,
    /// When it is erased, as a later one is active.
    ends: Option<Instant>,
}

/// A generation that is gone: its frames are counted, and open nothing.
#[derive(Debug)]
struct Gone {
    tag: Tag,
    header_key: HeaderKey,
}

/// All generations of a relationship that a member holds.
#[derive(Debug, Default)]
pub struct Lineage {
    held: BTreeMap<u32, Held>,
    /// The generation that took the last input.
    serving: Option<u32>,
    erasures: VecDeque<Erasure>,
    /// Whether the first of them was handed out since the last input.
    offered: bool,
    gone: Option<Gone>,
    late: u64,
    now: Instant,
}

impl Lineage {
    /// What a host found at its start: a session for each generation whose records are there. The highest
    /// active one goes on, and what is below it is erased.
    pub fn resume(sessions: Vec<Session>) -> Self {
        let mut lineage = Self::default();
        for session in sessions {
            lineage.held.insert(session.membership().sds().generation(), Held { session, ends: None });
        }
        if let Some(active) = lineage.active_generation() {
            let above = lineage.held.split_off(&active);
            for (_, below) in core::mem::replace(&mut lineage.held, above) {
                lineage.erase(below.session);
            }
        }
        lineage
    }

    /// Judges a generation that the module sends, as [`examine`] does.
    pub fn examine(&self, sds: &SynchronizedDataSet) -> Result<Arrival, NotTaken> {
        examine(self.sessions().map(|session| session.membership().sds()), sds)
    }

    /// Takes in a staged generation whose root and records are durable. What [`Lineage::examine`] refuses is refused
    /// here too.
    pub fn install(&mut self, session: Session) -> Result<Arrival, NotTaken> {
        let sds = session.membership().sds();
        let (arrival, generation) = (self.examine(sds)?, sds.generation());
        if arrival == Arrival::Above {
            self.held.insert(generation, Held { session, ends: None });
        }
        Ok(arrival)
    }

    /// Takes one input. All outputs of the input before must have been carried out; an erasure that could
    /// not be is handed out again.
    ///
    /// [`Input::Send`] and [`Input::Advance`] are for the generation in force; a frame finds its own.
    /// [`Input::Activate`] is for the highest that is staged: see [`Lineage::activate`].
    pub fn handle(
        &mut self,
        input: Input<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let generation = match &input {
            Input::Activate => self.staged().map(generation_of),
            _ => None,
        };
        self.hand_in(generation, input, surroundings)
    }

    /// The module's word for a generation. If that one is not staged: no effect, so that a word that comes
    /// late or again activates nothing else.
    pub fn activate(
        &mut self,
        generation: u32,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let above = self.active_generation().is_none_or(|active| active < generation);
        if above && self.held.contains_key(&generation) {
            self.hand_in(Some(generation), Input::Activate, surroundings)
        } else {
            Ok(())
        }
    }

    fn hand_in(
        &mut self,
        generation: Option<u32>,
        input: Input<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        if self.serving().is_some_and(Session::has_output) {
            return Err(SessionError::OutputPending);
        }
        self.now = surroundings.now;
        self.offered = false;
        self.turn_over();
        self.close_expired();
        let serving = match (&input, generation) {
            (_, Some(generation)) => Some(generation),
            (Input::Frame(frame), None) => {
                let whose = self.whose(frame);
                if whose.is_none() {
                    self.count_late(frame);
                }
                whose.or_else(|| self.main())
            }
            (Input::Timeout, None) => match self.due() {
                Some(due) => Some(due),
                None => return Ok(()),
            },
            (Input::Activate | Input::Advance | Input::Send(..), None) => self.main(),
        };
        self.serving = serving;
        match self.serving_mut() {
            Some(session) => session.handle(input, surroundings),
            None => Err(SessionError::NotActive(Phase::Erased)),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Next<'_> {
        if self.serving().is_some_and(Session::has_output) {
            let session = self.serving_mut().expect("it has an output");
            let generation = generation_of(session);
            return Next::Session(generation, session.poll());
        }
        if let Some(session) = self.serving_mut() {
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
        if let Some(session) = self.serving_mut() {
            session.persisted();
        }
    }

    /// The record of the last [`Output::Persist`] could not be written.
    pub fn persist_failed(&mut self) {
        if let Some(session) = self.serving_mut() {
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
        // One that closes does not act.
        let due = |held: &Held| match held.ends {
            Some(ends) => Some(held.session.expiry().map_or(ends, |expiry| expiry.min(ends))),
            None => held.session.timeout(),
        };
        self.held.values().filter_map(due).min()
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
        self.sessions().rfind(|session| session.is_active())
    }

    /// The highest generation that waits for the module's word.
    pub fn staged(&self) -> Option<&Session> {
        self.sessions().next_back().filter(|session| !session.is_active())
    }

    /// Those before the active one that are open for receiving, lowest first.
    pub fn closing(&self) -> impl DoubleEndedIterator<Item = &Session> + Clone {
        self.held.values().filter(|held| held.ends.is_some()).map(|held| &held.session)
    }

    /// The session that took the last input.
    pub fn serving(&self) -> Option<&Session> {
        self.serving.and_then(|generation| self.held.get(&generation)).map(|held| &held.session)
    }

    /// All of them, lowest first.
    pub fn sessions(&self) -> impl DoubleEndedIterator<Item = &Session> + Clone {
        self.held.values().map(|held| &held.session)
    }

    /// Frames of the generation before that came after it was closed, as far as their header signature shows:
    /// what a removal costs in flight.
    pub fn late_frames(&self) -> u64 {
        self.late
    }

    fn serving_mut(&mut self) -> Option<&mut Session> {
        self.serving.and_then(|generation| self.held.get_mut(&generation)).map(|held| &mut held.session)
    }

    fn active_generation(&self) -> Option<u32> {
        self.active().map(generation_of)
    }

    fn main(&self) -> Option<u32> {
        in_force(self.sessions().map(|session| (generation_of(session), session.is_active())))
    }

    /// The generation of a frame; of those that share its tag the one whose signature it bears.
    fn whose(&self, frame: &[u8]) -> Option<u32> {
        let tag = Header::parse(frame).ok()?.tag;
        // The one in force is the likeliest.
        let listening = || self.sessions().rev().filter(|session| session.listens_to(tag));
        let mut candidates = listening();
        let first = candidates.next()?;
        if candidates.next().is_none() {
            return Some(generation_of(first));
        }
        let signed = listening().find(|session| session.claims(frame));
        Some(generation_of(signed.unwrap_or(first)))
    }

    fn due(&self) -> Option<u32> {
        let acting = self.held.values().filter(|held| held.ends.is_none());
        let due = acting.filter_map(|held| Some((held.session.timeout()?, generation_of(&held.session))));
        due.filter(|(due, _)| *due <= self.now).min().map(|(_, generation)| generation)
    }

    fn count_late(&mut self, frame: &[u8]) {
        if let Some(gone) = &self.gone
            && Header::parse(frame).is_ok_and(|header| header.tag == gone.tag)
            && is_signed(frame, &gone.header_key)
        {
            self.late += 1;
        }
    }

    /// Those below the active generation close, or are over.
    fn turn_over(&mut self) {
        let Some(active) = self.active_generation().filter(|_| self.held.len() > 1) else { return };
        let next = self.held[&active].session.membership().sds();
        let mut over = Vec::new();
        let mut closing = Vec::new();
        for (generation, before) in self.held.range(..active) {
            match open_until(before.session.membership(), next, self.now) {
                // What closes already does not close later.
                Some(ends) => {
                    closing.push((*generation, before.ends.map_or(ends, |sooner| sooner.min(ends))))
                }
                None => over.push(*generation),
            }
        }
        for (generation, ends) in closing {
            self.held.get_mut(&generation).expect("it was found there").ends = Some(ends);
        }
        self.end(over);
    }

    fn close_expired(&mut self) {
        let now = self.now;
        let expired = self.held.iter().filter(|(_, held)| held.ends.is_some_and(|ends| ends <= now));
        let expired = expired.map(|(generation, _)| *generation).collect();
        self.end(expired);
        for held in self.held.values_mut().filter(|held| held.ends.is_some()) {
            held.session.expire(now);
        }
    }

    fn end(&mut self, generations: Vec<u32>) {
        for generation in generations {
            if let Some(held) = self.held.remove(&generation) {
                self.erase(held.session);
            }
        }
    }

    /// Drops a session, which wipes its keys, and has the host erase what is stored.
    #[expect(clippy::needless_pass_by_value, reason = "its keys are wiped here")]
    fn erase(&mut self, session: Session) {
        let membership = session.membership();
        let root = membership.root();
        let used = self.sessions().any(|other| other.membership().root() == root);
        let generation = generation_of(&session);
        self.gone = Some(Gone { tag: session.tag(), header_key: session.header_key() });
        self.erasures.push_back(Erasure { generation, root: (!used).then_some(root) });
    }
}

fn generation_of(session: &Session) -> u32 {
    session.membership().sds().generation()
}
