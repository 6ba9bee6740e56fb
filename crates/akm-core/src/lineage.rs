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
//! - Whoever still sends in one that is behind, closing or gone, is told by a hello in the one in force, at most once
//!   a second.
//! - Erasing is an output ([`Next::Erase`]) like any other: a host that is cut off before it has erased is
//!   told again after its start.
//!
//! Like a session a [`Lineage`] does no I/O. The host drives it as it drives a session, and calls [`Lineage::erased`]
//! when what [`Next::Erase`] names is gone. What the host itself keeps of a generation, such as names and endpoints, stands
//! beside the session of that generation and goes with it.

mod arrival;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::element::{ElementError, Root};
use crate::frame::{FrameKind, Header, is_signed};
use crate::sds::{HeaderKey, SynchronizedDataSet, Tag};
use crate::session::{
    Input, Instant, Membership, Opener, Output, Phase, Sealer, Session, SessionError, Surroundings,
};

use arrival::examine;
pub use arrival::{Arrival, NotTaken};

/// A member that is behind is told so at most once in this time.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// Generations that are gone whose late frames are recognised, each run of one counted for itself.
const GONE_MAX: usize = 8;

/// Until when a generation stays open for receiving after `next` became active above it; `None`: it is over at once.
fn open_until(before: &Membership, next: &SynchronizedDataSet, now: Instant) -> Option<Instant> {
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

/// The generation that a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// One that is held.
    Generation(u32),
    /// One that is gone, as its header signature shows: it is counted, and opens nothing.
    Former,
    /// None: it bears no tag of theirs, or one that several share and the signature of none.
    Nobody,
}

/// Something the caller must do, in the order given.
#[must_use = "an output left undone breaks the protocol"]
#[derive(Debug)]
pub enum Next<'l, T = ()> {
    /// An output of the session of this generation, never [`Output::Idle`], and what the host keeps beside it.
    Session(u32, Output<'l>, &'l mut T),
    /// Erase this durably, then call [`Lineage::erased`]. Until then it is handed out again after each
    /// input.
    Erase(Erasure),
    /// Nothing to do until the next input.
    Idle,
}

#[derive(Debug)]
struct HeldGeneration<T> {
    session: Session,
    /// When it is erased, as a later one is active.
    ends: Option<Instant>,
    data: T,
}

/// A run of a generation that is gone: its frames are counted, and open nothing.
#[derive(Debug)]
struct Gone {
    tag: Tag,
    header_key: HeaderKey,
}

/// All generations of a relationship that a member holds, each with what the host keeps of it.
#[derive(Debug)]
pub struct Lineage<T = ()> {
    held: BTreeMap<u32, HeldGeneration<T>>,
    /// The generation that took the last input.
    serving: Option<u32>,
    erasures: VecDeque<Erasure>,
    /// Whether the first of them was handed out since the last input.
    offered: bool,
    /// The oldest first.
    gone: VecDeque<Gone>,
    late: u64,
    /// When members that are behind were last told.
    told: Option<Instant>,
    /// Whether they are to be told.
    tells: bool,
    now: Instant,
}

impl<T> Default for Lineage<T> {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
            serving: None,
            erasures: VecDeque::new(),
            offered: false,
            gone: VecDeque::new(),
            late: 0,
            told: None,
            tells: false,
            now: Instant::default(),
        }
    }
}

impl<T> Lineage<T> {
    /// What a host found at its start: a session for each generation whose records are there. The highest
    /// active one goes on, and what is below it is erased.
    pub fn resume(sessions: Vec<(Session, T)>) -> Self {
        let mut lineage = Self::default();
        for (session, data) in sessions {
            lineage.held.insert(generation_of(&session), HeldGeneration { session, ends: None, data });
        }
        if let Some(active) = lineage.active_generation() {
            let above = lineage.held.split_off(&active);
            for (_, below) in core::mem::replace(&mut lineage.held, above) {
                lineage.erase(below.session);
            }
        }
        lineage
    }

    /// Judges a generation that the module sends, against all that are held. Ask before anything of it is written.
    pub fn examine(&self, sds: &SynchronizedDataSet) -> Result<Arrival, NotTaken> {
        examine(self.sessions().map(|session| session.membership().sds()), sds)
    }

    /// Takes in a staged generation whose root and records are durable. What [`Lineage::examine`] refuses is refused
    /// here too.
    pub fn install(&mut self, session: Session, data: T) -> Result<Arrival, NotTaken> {
        let sds = session.membership().sds();
        let (arrival, generation) = (self.examine(sds)?, sds.generation());
        if arrival == Arrival::Above {
            self.held.insert(generation, HeldGeneration { session, ends: None, data });
        }
        Ok(arrival)
    }

    /// Takes one input. All outputs of the input before must have been carried out; an erasure that could
    /// not be is handed out again.
    ///
    /// [`Input::Send`], [`Input::SendTo`] and [`Input::Advance`] are for the generation in force; a frame finds its own,
    /// one of nobody is counted by the one in force. After a frame of a generation that is gone [`Lineage::serving`] is `None`.
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

    /// When a frame can be handed in that would be dropped now only because as many epochs were followed lately as may be:
    /// see [`Session::waits_until`].
    pub fn waits_until(&self, frame: &[u8], now: Instant) -> Option<(u32, Instant)> {
        match self.whose(frame) {
            Whose::Generation(generation) => self.held[&generation].session.waits_until(frame, now),
            Whose::Former | Whose::Nobody => None,
        }
    }

    /// The module's word for the generation in force: it may follow as far as at a start. If it is another: no effect.
    pub fn fill_stock(&mut self, generation: u32, now: Instant) {
        if self.active_generation() == Some(generation)
            && let Some(held) = self.held.get_mut(&generation)
        {
            held.session.fill_stock(now);
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
            (Input::Frame(frame), None) => match self.whose(frame) {
                Whose::Generation(generation) => Some(generation),
                Whose::Former => {
                    self.late += 1;
                    self.tell_who_is_behind();
                    self.serving = None;
                    return Ok(());
                }
                Whose::Nobody => self.main(),
            },
            (Input::Timeout, None) if self.tells => return self.say_hello(surroundings),
            (Input::Timeout, None) => match self.due() {
                Some(due) => Some(due),
                None => return Ok(()),
            },
            (Input::Activate | Input::Advance | Input::Send(..) | Input::SendTo(..), None) => self.main(),
        };
        self.serving = serving;
        match self.serving_mut() {
            Some(session) => session.handle(input, surroundings),
            None => Err(SessionError::NotActive(Phase::Erased)),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Next<'_, T> {
        if self.serving().is_some_and(Session::has_output) {
            let generation = self.serving.expect("it has an output");
            if self.held[&generation].ends.is_some() && self.held[&generation].session.is_about_to_deliver() {
                self.tell_who_is_behind();
            }
            let HeldGeneration { session, data, .. } =
                self.held.get_mut(&generation).expect("it has an output");
            return Next::Session(generation, session.poll(), data);
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

    /// The same, for a host that goes on while a record is being written: see [`Session::persisted_at`].
    pub fn persisted_at(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if let Some(session) = self.serving_mut() {
            session.persisted_at(now);
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
        let due = |held: &HeldGeneration<T>| match held.ends {
            Some(ends) => Some(held.session.expiry().map_or(ends, |expiry| expiry.min(ends))),
            None => held.session.timeout(),
        };
        let tells = if self.tells { self.told } else { None };
        self.held.values().filter_map(due).chain(tells).min()
    }

    /// When [`Lineage::expire`] has something to do: the part of [`Lineage::timeout`] in which this member does not act.
    pub fn expiry(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.session.expiry()).min()
    }

    /// Closes epochs whose overlap is over, and wipes what is left of them; for a host whose sessions cannot act for the
    /// time being.
    pub fn expire(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            held.session.expire(now);
        }
    }

    /// Tells the sessions that frames are heard that belong to nobody: see [`Session::hint`].
    pub fn hint(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            held.session.hint(now);
        }
    }

    /// The tags of the frames of all generations, those by which members find back, and those of the ones that are gone.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + '_ {
        let of_session = |session: &Session| [Some(session.tag()), session.resync_tag()];
        let gone = self.gone.iter().map(|gone| gone.tag);
        self.sessions().flat_map(of_session).flatten().chain(gone)
    }

    /// Whether frames with this tag are for this relationship.
    pub fn listens_to(&self, tag: Tag) -> bool {
        self.sessions().any(|session| session.listens_to(tag))
    }

    /// Whether a generation that listens to this tag cannot see yet which frames its members signed: then a frame that
    /// nobody claims is for it.
    pub fn may_claim(&self, tag: Tag) -> bool {
        self.sessions().any(|session| session.listens_to(tag) && session.is_sealed())
    }

    /// Whether a frame bears tag and right header signature of one of the generations, or of one that is gone.
    /// Decides between relationships that share a tag.
    pub fn claims(&self, frame: &[u8]) -> bool {
        let Ok(tag) = Header::parse(frame).map(|header| header.tag) else { return false };
        self.sessions().any(|session| session.listens_to(tag) && session.claims(frame))
            || self.is_of_former(tag, frame)
    }

    /// The generation of a frame: by its tag; of those that share it, by the header signature.
    pub fn whose(&self, frame: &[u8]) -> Whose {
        let Ok(tag) = Header::parse(frame).map(|header| header.tag) else { return Whose::Nobody };
        let former = self.is_of_former(tag, frame);
        // The one in force is the likeliest.
        let listening = || self.sessions().rev().filter(|session| session.listens_to(tag));
        let mut candidates = listening();
        let first = candidates.next();
        let found = match first {
            Some(first) if candidates.next().is_none() && !former => Some(first),
            _ => listening()
                .find(|session| session.claims(frame))
                .or_else(|| listening().find(|session| !former && session.is_sealed())),
        };
        match found {
            Some(session) => Whose::Generation(generation_of(session)),
            None if former => Whose::Former,
            None => Whose::Nobody,
        }
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

    /// All of them with what the host keeps beside each, lowest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (&Session, &T)> {
        self.held.values().map(|held| (&held.session, &held.data))
    }

    /// One generation and what the host keeps beside it.
    pub fn entry(&self, generation: u32) -> Option<(&Session, &T)> {
        self.held.get(&generation).map(|held| (&held.session, &held.data))
    }

    /// The generation in which messages go out, and what the host keeps beside it: the highest that was ever active;
    /// before there is one, the highest.
    pub fn in_force(&self) -> Option<(&Session, &T)> {
        self.entry(self.main()?)
    }

    /// Lends sealing in the generation in force: [`Session::lend_sealing`]. It is recalled when another is.
    pub fn lend_sealing(&mut self) -> Option<Sealer> {
        let generation = self.main()?;
        self.held.get_mut(&generation)?.session.lend_sealing()
    }

    /// Lends opening in the generation in force: [`Session::lend_opening`].
    pub fn lend_opening(&mut self) -> Option<Opener> {
        let generation = self.main()?;
        self.held.get_mut(&generation)?.session.lend_opening()
    }

    /// Takes sealing back for the generation that lent it. If that is gone it is dropped.
    pub fn take_back_sealing(&mut self, sealer: Sealer) {
        if let Some(held) = self.held.values_mut().find(|held| held.session.has_lent_sealer(&sealer)) {
            held.session.take_back_sealing(sealer);
        }
    }

    /// Takes opening back for the generation that lent it. If that is gone it is dropped.
    pub fn take_back_opening(&mut self, opener: Opener) {
        if let Some(held) = self.held.values_mut().find(|held| held.session.has_lent_opener(&opener)) {
            held.session.take_back_opening(opener);
        }
    }

    /// What the host keeps beside a generation.
    pub fn data_mut(&mut self, generation: u32) -> Option<&mut T> {
        self.held.get_mut(&generation).map(|held| &mut held.data)
    }

    /// What the host keeps beside a generation and beside those below it, highest first: so that it can hand on what
    /// it learnt in them. When [`Event::Activated`](crate::session::Event::Activated) comes out they are all there still.
    #[expect(clippy::type_complexity, reason = "one generation, and all below it")]
    pub fn and_those_below(
        &mut self,
        generation: u32,
    ) -> Option<((&Session, &mut T), impl Iterator<Item = (&Session, &T)>)> {
        let mut up_to = self.held.range_mut(..=generation).rev();
        let (highest, held) = up_to.next()?;
        let below = up_to.map(|(_, held)| (&held.session, &held.data));
        (*highest == generation).then_some(((&held.session, &mut held.data), below))
    }

    /// Frames of generations before that came after they were closed, as far as their header signature
    /// shows: what a removal costs in flight.
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
        self.active().or_else(|| self.sessions().next_back()).map(generation_of)
    }

    fn is_of_former(&self, tag: Tag, frame: &[u8]) -> bool {
        self.gone.iter().any(|gone| gone.tag == tag && is_signed(frame, &gone.header_key))
    }

    /// Somebody sends in a generation that is behind.
    fn tell_who_is_behind(&mut self) {
        let told_lately = self.told.is_some_and(|told| self.now < told + TELL_WITHIN);
        if !told_lately && self.active().is_some_and(|active| active.phase() == Phase::Established) {
            self.told = Some(self.now);
            self.tells = true;
        }
    }

    fn say_hello(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        self.tells = false;
        self.serving = self.active_generation();
        let Some(session) = self.serving_mut() else { return Ok(()) };
        match session.handle(Input::Send(FrameKind::Hello, &[]), surroundings) {
            // Nobody asked for it.
            Err(SessionError::EpochsUsedUp | SessionError::NotActive(_)) => Ok(()),
            result => {
                self.tells = matches!(result, Err(SessionError::Element(ElementError::Unanswered)));
                result
            }
        }
    }

    fn due(&self) -> Option<u32> {
        let acting = self.held.values().filter(|held| held.ends.is_none());
        let due = acting.filter_map(|held| Some((held.session.timeout()?, generation_of(&held.session))));
        due.filter(|(due, _)| *due <= self.now).min().map(|(_, generation)| generation)
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
            let held = self.held.get_mut(&generation).expect("it was found there");
            held.ends = Some(ends);
            held.session.recall_sealing();
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
        let runs =
            session.headers().map(|(header_key, tag)| Gone { tag, header_key: header_key.duplicate() });
        self.gone.extend(runs);
        self.gone.drain(..self.gone.len().saturating_sub(GONE_MAX));
        self.erasures.push_back(Erasure { generation, root: (!used).then_some(root) });
    }
}

fn generation_of(session: &Session) -> u32 {
    session.membership().sds().generation()
}
