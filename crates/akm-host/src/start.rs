//! How a node starts (protocol, section 9), as a sequence of questions and writes.
//!
//! ```text
//!   what the element says of itself, its count, the seals
//!     -> examine each place, move it on where this node may have been set back -> write the good ones again -> count up -> a session for each -> which roots it holds
//! ```
//!
//! The rules are those of [`akm_core::start`]. A process that ends anywhere leaves places that the next start accepts.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use akm_core::element::{ElementError, Root};
use akm_core::id::RelationshipId;
use akm_core::lineage::Lineage;
use akm_core::session::{
    Membership, RandomSource, Session, Standing, Surroundings as Around, jump, may_be_set_back,
};
use akm_core::start::{SealedPlace, Start, StartError};

use crate::GenerationId;
use crate::ask::{Answer, Answers, Question, StandIn, Ticket, astray};
use crate::door::{StartFailed, Surroundings};
use crate::event::{Aside, Event, Rest};
use crate::installed::Found;
use crate::management::options_of;
use crate::node::{Asker, Node, Phase, Writer};
use crate::outbox::Queued;
use crate::persist::{Write, WriteFailed};
use crate::relationship::{Known, Relationship};
use crate::starting::{Candidate, FoundPlace, Stage, Starting};

/// A start goes no further for the time being.
enum Halt {
    Waits,
    Fails(StartFailed),
}

impl<E: Into<StartFailed>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Fails(error.into())
    }
}

impl Node {
    /// Begins the start with what the disk holds.
    pub(crate) fn begin(&mut self, found: Vec<Found>, surroundings: &mut Surroundings<'_>) {
        let mut candidates = Vec::new();
        for Found { relationship, generation, content } in found {
            let of = (relationship, generation);
            match content {
                Ok(held) => candidates.push(Candidate {
                    of,
                    held: Some(held),
                    place: FoundPlace::NotExamined,
                    answers: Answers::default(),
                    session: None,
                }),
                Err(why) => self.put_aside(of, Aside::Unreadable(why)),
            }
        }
        let provisioning: Vec<RelationshipId> = self.identity.provisioning().keys().copied().collect();
        for relationship in provisioning {
            let all = (relationship, 0)..=(relationship, u32::MAX);
            let is_there = candidates.iter().any(|candidate| candidate.of.0 == relationship);
            if !is_there && self.set_aside.range(all).next().is_none() {
                self.put_aside((relationship, 0), Aside::Missing);
            }
        }
        let unfinished = drop_superseded(&mut candidates);
        self.phase = Phase::Starting(Box::new(Starting {
            stage: Stage::Asking,
            answers: Answers::default(),
            start: None,
            candidates,
            failed: None,
            unfinished,
        }));
        self.go_on_starting(surroundings);
    }

    pub(crate) fn put_aside(&mut self, of: GenerationId, why: Aside) {
        self.set_aside.insert(of, why.to_string());
        self.tell(of, Event::SetAside(why));
    }

    pub(crate) fn start_was_answered(
        &mut self,
        of: Option<usize>,
        ticket: Ticket,
        result: Result<Answer, ElementError>,
        surroundings: &mut Surroundings<'_>,
    ) {
        let Phase::Starting(starting) = &mut self.phase else { return };
        match of {
            None => starting.answers.take_in(ticket, result),
            Some(at) => starting.candidates[at].answers.take_in(ticket, result),
        }
        self.go_on_starting(surroundings);
    }

    pub(crate) fn start_was_written(
        &mut self,
        at: usize,
        result: Result<(), WriteFailed>,
        surroundings: &mut Surroundings<'_>,
    ) {
        let Phase::Starting(starting) = &mut self.phase else { return };
        if let Stage::Writing(left) = &mut starting.stage {
            *left -= 1;
        }
        match result {
            Ok(()) => {}
            Err(failed) if failed.of_the_disk => {
                starting.failed.get_or_insert(failed);
            }
            Err(failed) => starting.candidates[at].place = FoundPlace::NotRecorded(failed),
        }
        self.go_on_starting(surroundings);
    }

    fn go_on_starting(&mut self, surroundings: &mut Surroundings<'_>) {
        let Phase::Starting(mut starting) = core::mem::replace(&mut self.phase, Phase::Over) else { return };
        match self.try_start(&mut starting, surroundings) {
            Ok(()) => self.started(*starting),
            Err(Halt::Waits) => self.phase = Phase::Starting(starting),
            Err(Halt::Fails(why)) => self.outbox.push(Queued::NotStarted(why)),
        }
    }

    fn try_start(
        &mut self,
        starting: &mut Starting,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), Halt> {
        if let Stage::Asking = starting.stage {
            if self.description.is_none() {
                match self.answer_to_start(starting, Question::Describe)? {
                    Answer::Description(description) => self.description = Some(description.clone()),
                    _ => return Err(astray().into()),
                }
            }
            let mut element = StandIn::new(&starting.answers, self.description.as_ref());
            let begun = Start::begin(&mut element);
            if let Some(question) = element.missing.take() {
                self.ask_for_start(starting, question);
                return Err(Halt::Waits);
            }
            let start = begun?;
            let written = self.take_up_places(starting, &start, surroundings);
            starting.start = Some(start);
            starting.stage = Stage::Writing(written);
        }
        if let Stage::Writing(left) = starting.stage {
            if left > 0 {
                return Err(Halt::Waits);
            }
            if let Some(failed) = starting.failed.take() {
                return Err(failed.into());
            }
            starting.stage = Stage::Counting;
        }
        if let Stage::Counting = starting.stage {
            let start = starting.start.as_ref().expect("it was begun");
            let expected = start.rewrites().then(|| start.seal().start());
            if expected.is_some() {
                let counted = match self.answer_to_start(starting, Question::CountUp)? {
                    Answer::Count(counted) => *counted,
                    _ => return Err(astray().into()),
                };
                if counted != expected {
                    return Err(StartError::CounterMoved.into());
                }
            }
            self.seal = starting.start.take().map(Start::into_seal);
            starting.stage = Stage::Sessions;
        }
        if let Stage::Sessions = starting.stage {
            self.begin_sessions(starting, surroundings)?;
            starting.stage = Stage::Roots;
        }
        let roots = match self.answer_to_start(starting, Question::Roots)? {
            Answer::Roots(roots) => roots.clone(),
            _ => return Err(astray().into()),
        };
        self.find_strange(starting, &roots);
        Ok(())
    }

    fn ask_for_start(&mut self, starting: &mut Starting, question: Question) {
        if starting.answers.to(&question).is_none() {
            let ticket = self.ask(Asker::Start(None), question.clone());
            starting.answers.asked(question, ticket);
        }
    }

    fn answer_to_start<'a>(
        &mut self,
        starting: &'a mut Starting,
        question: Question,
    ) -> Result<&'a Answer, Halt> {
        self.ask_for_start(starting, question.clone());
        match starting.answers.to(&question) {
            Some((_, Some(Ok(answer)))) => Ok(answer),
            Some((_, Some(Err(error)))) => Err(error.clone().into()),
            _ => Err(Halt::Waits),
        }
    }

    /// Judges all places and has the good ones written under this start; how many.
    fn take_up_places(
        &mut self,
        starting: &mut Starting,
        start: &Start,
        surroundings: &mut Surroundings<'_>,
    ) -> usize {
        let mut written = 0;
        let may_be_set_back = self.description.as_ref().is_some_and(may_be_set_back);
        for (at, candidate) in starting.candidates.iter_mut().enumerate() {
            let Some(held) = &candidate.held else { continue };
            let sds = &held.installed.sds;
            let sealed = match &held.place {
                Ok(sealed) => sealed.as_deref(),
                Err(why) => {
                    candidate.place = FoundPlace::Rests(Rest::Unreadable(why.clone()));
                    continue;
                }
            };
            candidate.place = match start.examine(self.provider, sds, sealed) {
                SealedPlace::Good(place) => FoundPlace::Good(place),
                SealedPlace::Missing if sealed.is_none() => FoundPlace::Rests(Rest::Missing),
                SealedPlace::Missing | SealedPlace::Damaged => FoundPlace::Rests(Rest::Damaged),
                SealedPlace::RolledBack => FoundPlace::Rests(Rest::RolledBack),
            };
            let further = match &candidate.place {
                FoundPlace::Good(place) if may_be_set_back && held.may_have_a_past(self.identity.node()) => {
                    jump(sds, place)
                }
                _ => None,
            };
            let has_jumped = further.is_some();
            if let Some(further) = further {
                candidate.place = FoundPlace::Jumped(further);
            }
            if let FoundPlace::Good(place) | FoundPlace::Jumped(place) = &candidate.place
                && (start.rewrites() || has_jumped)
            {
                let mut random = [0; 16];
                surroundings.random.fill(&mut random);
                let sealed = start.seal().seal(
                    self.provider,
                    sds.suite(),
                    sds.digest(),
                    &random,
                    place.emit().expose(),
                );
                let write = Write::Place { of: candidate.of, run: place.run(), epoch: place.epoch(), sealed };
                self.write(Writer::Start(at), write);
                written += 1;
            }
        }
        written
    }

    /// Begins a session for each generation; asks for all of them what they need.
    fn begin_sessions(
        &mut self,
        starting: &mut Starting,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), Halt> {
        let mut waits = false;
        for (at, candidate) in starting.candidates.iter_mut().enumerate() {
            if candidate.held.is_none() || candidate.answers.out() > 0 {
                waits |= candidate.answers.out() > 0;
                continue;
            }
            match self.begin_session(candidate, surroundings) {
                Ok(()) => {}
                Err(Begun::Asks(question)) => {
                    let ticket = self.ask(Asker::Start(Some(at)), question.clone());
                    candidate.answers.asked(question, ticket);
                    waits = true;
                }
                Err(Begun::Aside(why)) => {
                    candidate.held = None;
                    self.put_aside(candidate.of, why);
                }
            }
        }
        if waits { Err(Halt::Waits) } else { Ok(()) }
    }

    fn begin_session(
        &mut self,
        candidate: &mut Candidate,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), Begun> {
        let held = candidate.held.as_ref().expect("the caller saw it");
        let active = held.installed.active;
        let standing = match &candidate.place {
            FoundPlace::NotRecorded(failed) => {
                // The element has counted: under the next count this place will be one of an earlier start.
                return Err(Begun::Aside(Aside::NotRecorded(failed.why.clone())));
            }
            FoundPlace::Good(place) if active => Standing::Active(place.duplicate()),
            FoundPlace::Jumped(place) => Standing::Jumped(place.duplicate()),
            FoundPlace::Good(place) => Standing::Staged(place.duplicate()),
            FoundPlace::Rests(Rest::RolledBack) => Standing::RolledBack { active, run: held.run },
            FoundPlace::Rests(_) | FoundPlace::NotExamined => {
                Standing::WithoutPlace { active, run: held.run }
            }
        };
        let installed = &held.installed;
        let (sds, check) = (installed.sds.clone(), installed.root_check);
        let options = options_of(sds.kind());
        let unusable = |why: String| Begun::Aside(Aside::Unusable(why));
        let membership = Membership::new(sds, self.identity.node(), check, installed.keys())
            .map_err(|error| unusable(error.to_string()))?;
        let mut element = StandIn::new(&candidate.answers, self.description.as_ref());
        let random: &mut dyn RandomSource = &mut *surroundings.random;
        let mut around = Around { now: surroundings.now, element: &mut element, random };
        let session = Session::start(self.provider, membership, standing, options, &mut around);
        if let Some(question) = element.missing.take() {
            return Err(Begun::Asks(question));
        }
        let session = session.map_err(|error| unusable(error.to_string()))?;
        let held = candidate.held.take().expect("seen above");
        let mut known = Known::of_held(&session, held);
        if let FoundPlace::Rests(why) = &candidate.place {
            known.rolled_back = *why == Rest::RolledBack;
            known.rests = Some(why.clone());
        }
        candidate.session = Some((session, known));
        Ok(())
    }

    /// Notes the relationships of which the element holds a root that none of their generations needs, where that is sure.
    fn find_strange(&mut self, starting: &mut Starting, roots: &[Root]) {
        for root in roots {
            let Root::Relationship { id, .. } = root else { continue };
            let of_this = || starting.candidates.iter().filter(|candidate| candidate.of.0 == *id);
            let sessions = of_this().filter_map(|candidate| candidate.session.as_ref());
            let mut needed = sessions.map(|(session, _)| session.membership().root());
            let in_use = of_this().any(|candidate| candidate.session.is_some());
            if in_use && !needed.any(|needed| needed == *root) {
                starting.unfinished.insert(*id);
            }
        }
    }

    fn started(&mut self, starting: Starting) {
        self.phase = Phase::Running;
        let mut sessions: BTreeMap<RelationshipId, Vec<(Session, Known)>> = BTreeMap::new();
        let mut resting = Vec::new();
        for candidate in starting.candidates {
            if let Some((session, known)) = candidate.session {
                resting.extend(known.rests.clone().map(|why| (candidate.of, why)));
                sessions.entry(candidate.of.0).or_default().push((session, known));
            }
        }
        for (id, sessions) in sessions {
            let kind = sessions[0].0.membership().sds().kind();
            self.relationships.insert(id, Relationship::new(kind, Lineage::resume(sessions)));
            self.list_tags(id);
            self.schedule(id);
        }
        for (of, why) in resting {
            self.tell(of, Event::Rests(why));
        }
        self.outbox.push(Queued::Started);
        for relationship in starting.unfinished {
            self.tidy(relationship);
        }
    }
}

/// Why a session was not begun.
enum Begun {
    Asks(Question),
    Aside(Aside),
}

/// Of each relationship the generations before the one in force are over: a crash came before they were erased, or
/// before their overlap had ended. Returns the relationships of which something is to be erased.
fn drop_superseded(candidates: &mut Vec<Candidate>) -> BTreeSet<RelationshipId> {
    let mut in_force = BTreeMap::new();
    let is_active = |candidate: &Candidate| candidate.held.as_ref().is_some_and(|held| held.installed.active);
    for Candidate { of, .. } in candidates.iter().filter(|candidate| is_active(candidate)) {
        let highest = in_force.entry(of.0).or_insert(0);
        *highest = of.1.max(*highest);
    }
    let mut unfinished = BTreeSet::new();
    candidates.retain(|Candidate { of, .. }| {
        let over = in_force.get(&of.0).is_some_and(|highest| of.1 < *highest);
        if over {
            unfinished.insert(of.0);
        }
        !over
    });
    unfinished
}
