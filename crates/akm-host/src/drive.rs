//! How something is handed to a relationship, and what comes of it is carried out.
//!
//! ```text
//!   give ---- attempt ---- drain ---- conclude
//!     |          |            |
//!     |          | asks       | writes
//!     v          v            v
//!   waiting <----+        serving: all else of this relationship waits
//!     |
//!     +-- answered, written, taken back: go_on, in order
//! ```

use akm_core::frame::FrameKind;
use akm_core::id::RelationshipId;
use akm_core::lineage::Next;
use akm_core::sds::Kind;
use akm_core::session::{
    Event as Told, Input, Instant, Output, Record, SessionError, Surroundings as Around,
};

use crate::GenerationId;
use crate::ask::{Question, StandIn, Tape, Ticket};
use crate::door::{Refused, Surroundings, Verdict};
use crate::event::Event;
use crate::limits::{BYTES_WAITING, FRAMES_WAITING, QUESTIONS_OUT, WISHES_WAITING};
use crate::node::{Asker, Node, Writer};
use crate::outbox::{Outbox, Queued};
use crate::persist::{Write, WriteFailed};
use crate::relationship::{Given, Known, Needs, Order, Origin, Relationship, Serving, Waiting};

/// What became of a try.
enum Tried {
    /// It is carried out, or waits for a write.
    Served,
    /// It cannot be done before this is answered; what was drawn for it.
    Asks(Question, Tape),
    /// It cannot be done while sealing or opening is lent.
    Lent(Tape),
    /// A frame of this epoch, which can be followed at that time.
    TooEarly(u32, Instant, Tape),
}

/// Whether a frame of an epoch that cannot be followed yet waits until it can, or is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Waits,
    Drops,
}

impl Node {
    /// Hands something to a relationship: at once, or when its turn comes.
    pub(crate) fn give(
        &mut self,
        id: RelationshipId,
        given: &Given<'_>,
        origin: Origin,
        surroundings: &mut Surroundings<'_>,
    ) {
        let Some(relationship) = self.relationships.get(&id) else {
            self.refuse(id, given, origin, Refused::NotHeld);
            return;
        };
        let behind = !relationship.waiting.is_empty() && relationship.waits(given.order());
        if let Order::Frame { epoch, .. } = given.order()
            && behind
            && relationship.is_full_until_followed(epoch)
        {
            self.drop_early(id, given, origin, Tape::default(), surroundings);
            return;
        }
        let (needs, tape) = if behind || relationship.is_held_up() {
            if relationship.waits_for_return() {
                // It may be back, or lost.
                self.stirred.insert(id);
            }
            (Needs::Turn, Tape::default())
        } else {
            match self.attempt(id, given, origin, Tape::default(), Patience::Waits, surroundings) {
                Tried::Served => return,
                Tried::TooEarly(epoch, until, tape) => {
                    let held = self.relationships.get(&id);
                    if !held.is_some_and(|held| held.has_room_until_followed(epoch)) {
                        self.drop_early(id, given, origin, tape, surroundings);
                        return;
                    }
                    while let Some(kept) =
                        self.relationships.get_mut(&id).and_then(|of| of.take_kept_below(epoch))
                    {
                        let given = kept.kept.given();
                        self.kept -= given.bytes();
                        self.drop_early(id, &given, kept.origin, kept.tape, surroundings);
                    }
                    (Needs::Time(until), tape)
                }
                Tried::Lent(tape) => (Needs::Return, tape),
                Tried::Asks(question, tape) => match self.ask_for(id, question) {
                    Some(ticket) => (Needs::Answer(ticket), tape),
                    None => {
                        self.refuse(id, given, origin, Refused::Crowded);
                        return;
                    }
                },
            }
        };
        if !self.has_room(id, given) {
            self.refuse(id, given, origin, Refused::Crowded);
            return;
        }
        let waiting = Waiting { kept: given.keep(), origin, order: given.order(), needs, tape };
        self.kept += given.bytes();
        if let Some(relationship) = self.relationships.get_mut(&id) {
            relationship.waiting.push_back(waiting);
        }
        self.schedule(id);
    }

    /// Goes on with what waits in a relationship, as far as it can.
    pub(crate) fn go_on(&mut self, id: RelationshipId, surroundings: &mut Surroundings<'_>) {
        let mut from = 0;
        loop {
            let Some(relationship) = self.relationships.get_mut(&id).filter(|held| !held.is_held_up()) else {
                return;
            };
            let Some(at) = relationship.next_ready(from, surroundings.now) else { break };
            let Some(mut waiting) = relationship.waiting.remove(at) else { break };
            from = at;
            let given = waiting.kept.given();
            let tape = core::mem::take(&mut waiting.tape);
            let tried = self.attempt(id, &given, waiting.origin, tape, Patience::Waits, surroundings);
            let (needs, tape) = match tried {
                Tried::Served => {
                    self.kept -= given.bytes();
                    continue;
                }
                Tried::TooEarly(_, until, tape) => (Needs::Time(until), tape),
                Tried::Lent(tape) => (Needs::Return, tape),
                Tried::Asks(question, tape) => match self.ask_for(id, question) {
                    Some(ticket) => (Needs::Answer(ticket), tape),
                    None => {
                        self.kept -= given.bytes();
                        self.refuse(id, &given, waiting.origin, Refused::Crowded);
                        continue;
                    }
                },
            };
            (waiting.needs, waiting.tape) = (needs, tape);
            if let Some(relationship) = self.relationships.get_mut(&id) {
                relationship.waiting.insert(at, waiting);
            }
            from = at + 1;
        }
        if let Some(relationship) = self.relationships.get_mut(&id) {
            relationship.answers.forget_answered();
        }
        self.time.forget_answered(id);
        self.schedule(id);
    }

    /// Drops a frame of an epoch that cannot be followed yet.
    fn drop_early(
        &mut self,
        id: RelationshipId,
        given: &Given<'_>,
        origin: Origin,
        tape: Tape,
        surroundings: &mut Surroundings<'_>,
    ) {
        match self.attempt(id, given, origin, tape, Patience::Drops, surroundings) {
            Tried::Served => {}
            Tried::Asks(..) | Tried::Lent(_) | Tried::TooEarly(..) => {
                self.time.is_asked(id, None);
                self.refuse(id, given, origin, Refused::Crowded);
            }
        }
    }

    fn attempt(
        &mut self,
        id: RelationshipId,
        given: &Given<'_>,
        origin: Origin,
        mut tape: Tape,
        patience: Patience,
        surroundings: &mut Surroundings<'_>,
    ) -> Tried {
        let Some(relationship) = self.relationships.get_mut(&id) else {
            self.refuse(id, given, origin, Refused::NotHeld);
            return Tried::Served;
        };
        if let Given::Frame(frame) = given
            && patience == Patience::Waits
            && let Some((epoch, until)) = relationship.lineage.waits_until(frame, surroundings.now)
        {
            return Tried::TooEarly(epoch, until, tape);
        }
        let element = StandIn::new(&relationship.answers, self.description.as_ref());
        let mut element = element.with_time(self.time.of(id));
        let mut random = tape.over(surroundings.random);
        let mut around = Around { now: surroundings.now, element: &mut element, random: &mut random };
        let lineage = &mut relationship.lineage;
        let result = match *given {
            Given::Frame(frame) => lineage.handle(Input::Frame(frame), &mut around),
            Given::Timeout => lineage.handle(Input::Timeout, &mut around),
            Given::Advance => lineage.handle(Input::Advance, &mut around),
            Given::Activate(generation) => lineage.activate(generation, &mut around),
            Given::Send { to: None, kind, body } => lineage.handle(Input::Send(kind, body), &mut around),
            Given::Send { to: Some(member), kind, body } => {
                lineage.handle(Input::SendTo(member, kind, body), &mut around)
            }
        };
        if let Some(question) = element.missing.take() {
            return Tried::Asks(question, tape);
        }
        if result == Err(SessionError::Lent) {
            return Tried::Lent(tape);
        }
        let mut serving = Serving::of(origin);
        if let (Given::Frame(frame), Origin::Network(_)) = (given, origin) {
            serving.frame = Some(self.outbox.copy(frame));
        }
        if matches!(given, Given::Frame(_)) && lineage.serving().is_none() {
            serving.verdict = Some(Verdict::OldGeneration);
            self.outbox.tell((id, 0), Event::OldGeneration);
        }
        serving.error = result.err();
        self.drain(id, serving, surroundings);
        Tried::Served
    }

    /// Carries out what comes of what was handed in, up to a record that must be written first.
    fn drain(&mut self, id: RelationshipId, mut serving: Serving, surroundings: &mut Surroundings<'_>) {
        let mut ended = false;
        loop {
            let Some(relationship) = self.relationships.get_mut(&id) else { return };
            let kind = relationship.kind;
            let (generation, output, known) = match relationship.lineage.poll() {
                Next::Idle => break,
                Next::Erase(erasure) => {
                    relationship.lineage.erased();
                    self.outbox.tell((id, erasure.generation), Event::Ended);
                    ended = true;
                    continue;
                }
                Next::Session(generation, output, known) => (generation, output, known),
            };
            let of = (id, generation);
            match output {
                Output::Idle => {}
                Output::Persist(record) => {
                    let Some(seal) = &self.seal else { return };
                    let write = write_of(of, record, |place| {
                        let mut random = [0; 16];
                        surroundings.random.fill(&mut random);
                        seal.seal(self.provider, known.suite, &known.digest, &random, place)
                    });
                    let ticket = self.write(Writer::Session(id), write);
                    if let Some(relationship) = self.relationships.get_mut(&id) {
                        relationship.serving = Some((serving, generation, ticket));
                    }
                    if ended {
                        self.tidy(id);
                    }
                    return;
                }
                Output::Transmit(frame) => {
                    known.sent_at = Some(surroundings.now);
                    send(&mut self.outbox, of, kind, known, None, frame, serving.origin);
                }
                Output::TransmitTo(member, frame) => {
                    send(&mut self.outbox, of, kind, known, Some(member), frame, serving.origin);
                }
                Output::Deliver(delivery) => {
                    let at = usize::from(delivery.index);
                    serving.verdict = Some(Verdict::Accepted);
                    let from = match serving.origin {
                        Origin::Network(from) => Some(from),
                        _ => None,
                    };
                    if known.hear(at, from, delivery.newest, surroundings.now) {
                        serving.moved = Some(generation);
                    }
                    match delivery.kind {
                        FrameKind::Hello => {}
                        FrameKind::Data => {
                            let payload = self.outbox.copy(delivery.payload);
                            let (from, epoch) = (delivery.from, delivery.epoch);
                            self.outbox.push(Queued::Deliver { of, at, from, epoch, payload });
                        }
                        FrameKind::Management if delivery.index == 0 => {
                            serving.requests.push(delivery.payload.to_vec().into());
                        }
                        FrameKind::Management => {}
                    }
                }
                Output::Event(event) => {
                    match event {
                        Told::Activated => serving.activated = Some(generation),
                        Told::FoundBack(_) => {
                            known.rests = None;
                            known.found_back += 1;
                        }
                        Told::Rejected { reason, .. } => {
                            serving.verdict.get_or_insert(Verdict::Rejected(reason));
                        }
                        _ => {}
                    }
                    self.outbox.tell(of, Event::Session(event));
                    // While those below are there still.
                    if event == Told::Activated && self.take_over_endpoints(of) {
                        serving.moved = Some(generation);
                    }
                }
            }
        }
        self.conclude(id, serving, ended, surroundings);
    }

    /// All is carried out that came of something: tells whoever wanted it, and takes note of what changed.
    fn conclude(
        &mut self,
        id: RelationshipId,
        mut serving: Serving,
        ended: bool,
        surroundings: &mut Surroundings<'_>,
    ) {
        if let Some(generation) = serving.activated {
            self.end_streams_below(id, generation);
            self.give_up_those_below((id, generation));
        }
        if ended {
            self.tidy(id);
        }
        if let Some(generation) = serving.moved {
            self.save_endpoints((id, generation));
        }
        self.list_tags(id);
        self.schedule(id);
        self.note_element(serving.error.as_ref());
        let goes_on = |held: &Relationship| !held.waiting.is_empty() || held.answers.has_answered();
        if self.relationships.get(&id).is_some_and(goes_on) {
            self.stirred.insert(id);
        }
        let about = (id, 0);
        let result = serving.result();
        match serving.origin {
            Origin::Network(source) => {
                if let Some(error) = serving.error.take() {
                    self.tell(about, Event::NotReceived(error));
                }
                let verdict = match &result {
                    Err(Refused::NotRecorded(_)) => Verdict::NotRecorded,
                    Err(_) => Verdict::NotTaken,
                    Ok(()) => serving.verdict.unwrap_or(Verdict::Accepted),
                };
                if verdict == Verdict::NotTaken {
                    self.count_not_taken(id);
                }
                let relationship = Some(id);
                let frame = serving.frame.take().unwrap_or_default();
                self.outbox.push(Queued::Seen { relationship, source, frame, verdict });
            }
            Origin::Stream(stream) => {
                if let Some(error) = serving.error.take() {
                    self.tell(about, Event::NotReceived(error));
                }
                match serving.requests.pop() {
                    Some(request) => self.take_request(id, stream, request, surroundings),
                    None => self.outbox.push(Queued::Handled(stream)),
                }
            }
            Origin::Response(stream) | Origin::LastWord(stream) => {
                if let Some(error) = serving.error.take() {
                    self.tell(about, Event::NotAnswered(error));
                }
                if let Origin::LastWord(stream) = serving.origin {
                    self.outbox.push(Queued::Close(stream));
                }
                self.outbox.push(Queued::Handled(stream));
            }
            Origin::Local(wish) => self.outbox.push(Queued::Done(wish, result)),
            Origin::Task(task) => self.task_moved_on(task, result),
            Origin::Itself => {
                if let Some(error) = serving.error.take() {
                    self.tell(about, Event::NotMovedOn(error));
                }
            }
        }
    }

    /// The record that a session wanted written is durable, or is not.
    pub(crate) fn session_was_written(
        &mut self,
        id: RelationshipId,
        ticket: Ticket,
        result: Result<(), WriteFailed>,
        surroundings: &mut Surroundings<'_>,
    ) {
        let Some(relationship) = self.relationships.get_mut(&id) else { return };
        let Some((mut serving, generation, _)) = relationship.serving.take_if(|serving| serving.2 == ticket)
        else {
            return;
        };
        let known = relationship.lineage.data_mut(generation);
        match result {
            Ok(()) => {
                relationship.lineage.persisted_at(surroundings.now);
                let known = relationship.lineage.data_mut(generation);
                if known.is_some_and(|known| known.not_recorded.take().is_some()) {
                    self.outbox.tell((id, generation), Event::RecordedAgain);
                }
            }
            Err(failed) => {
                // It is tried again and again; told is what is new.
                if let Some(known) = known.filter(|known| known.not_recorded.as_ref() != Some(&failed.why)) {
                    known.not_recorded = Some(failed.why.clone());
                    self.outbox.tell((id, generation), Event::NotRecorded(failed.why.clone()));
                }
                serving.not_recorded = Some(failed);
                relationship.lineage.persist_failed();
            }
        }
        self.drain(id, serving, surroundings);
    }

    /// Has a question asked for a relationship, once; `None` if too many are out.
    fn ask_for(&mut self, id: RelationshipId, question: Question) -> Option<Ticket> {
        let ticket = self.ask_once_for(id, question);
        self.time.is_asked(id, ticket);
        ticket
    }

    fn ask_once_for(&mut self, id: RelationshipId, question: Question) -> Option<Ticket> {
        let relationship = self.relationships.get(&id)?;
        if let Some((ticket, _)) = relationship.answers.to(&question) {
            return Some(ticket);
        }
        if relationship.answers.out() >= QUESTIONS_OUT {
            return None;
        }
        let ticket = self.ask(Asker::Relationship(id), question.clone());
        self.relationships.get_mut(&id)?.answers.asked(question, ticket);
        Some(ticket)
    }

    fn has_room(&self, id: RelationshipId, given: &Given<'_>) -> bool {
        let Some(relationship) = self.relationships.get(&id) else { return false };
        let is_frame = |order: Order| matches!(order, Order::Frame { .. });
        let order = given.order();
        let alike = |waiting: &&Waiting| is_frame(waiting.order) == is_frame(order);
        let most = if is_frame(order) { FRAMES_WAITING } else { WISHES_WAITING };
        relationship.waiting.iter().filter(alike).count() < most && self.kept + given.bytes() <= BYTES_WAITING
    }

    /// A relationship is gone: nothing comes of what was under way in it, or waited.
    pub(crate) fn refuse_all(&mut self, id: RelationshipId, mut gone: Relationship) {
        if let Some((serving, ..)) = gone.serving.take() {
            let frame = serving.frame.unwrap_or_default();
            self.refuse(id, &Given::Frame(&frame), serving.origin, Refused::NotHeld);
        }
        for waiting in gone.waiting.drain(..) {
            let given = waiting.kept.given();
            self.kept -= given.bytes();
            self.refuse(id, &given, waiting.origin, Refused::NotHeld);
        }
    }

    /// Tells whoever wanted something that nothing comes of it.
    pub(crate) fn refuse(&mut self, id: RelationshipId, given: &Given<'_>, origin: Origin, why: Refused) {
        match origin {
            Origin::Network(source) => {
                if let Given::Frame(frame) = given {
                    self.count_not_taken(id);
                    let (frame, verdict) = (self.outbox.copy(frame), Verdict::NotTaken);
                    self.outbox.push(Queued::Seen { relationship: Some(id), source, frame, verdict });
                }
            }
            Origin::Stream(stream) | Origin::Response(stream) => self.outbox.push(Queued::Handled(stream)),
            Origin::LastWord(stream) => {
                self.outbox.push(Queued::Close(stream));
                self.outbox.push(Queued::Handled(stream));
            }
            Origin::Local(wish) => self.outbox.push(Queued::Done(wish, Err(why))),
            Origin::Task(task) => self.task_moved_on(task, Err(why)),
            Origin::Itself => {}
        }
    }

    fn count_not_taken(&mut self, id: RelationshipId) {
        if let Some(relationship) = self.relationships.get_mut(&id) {
            relationship.not_taken += 1;
        }
    }
}

/// Queues a frame: to the endpoints of members, or over the stream that it answers.
fn send(
    outbox: &mut Outbox,
    of: GenerationId,
    kind: Kind,
    known: &Known,
    to: Option<u16>,
    frame: &[u8],
    origin: Origin,
) {
    match (kind, origin) {
        (
            Kind::Provisioning,
            Origin::Stream(stream) | Origin::Response(stream) | Origin::LastWord(stream),
        ) => {
            let frame = outbox.copy(frame);
            outbox.push(Queued::Reply { stream, frame });
        }
        // Nobody listens.
        (Kind::Provisioning, _) => {}
        (Kind::Communication, _) => {
            let to = match to {
                None => outbox.list(known.endpoints.iter().copied().flatten()),
                Some(member) => {
                    outbox.list(known.endpoints.get(usize::from(member)).copied().flatten().into_iter())
                }
            };
            let frame = outbox.copy(frame);
            outbox.push(Queued::Send { of, to, frame });
        }
    }
}

/// What is to be written for a record.
fn write_of(of: GenerationId, record: &Record, seal: impl FnOnce(&[u8]) -> alloc::vec::Vec<u8>) -> Write {
    match record {
        Record::Activated => Write::Active { of },
        Record::FoundBack(found) => Write::FoundBack { of, found: *found },
        Record::Place(place) => {
            let number = |at: usize| {
                place.expose()[at..at + 4].iter().fold(0, |all, byte| all << 8 | u32::from(*byte))
            };
            Write::Place { of, run: number(0), epoch: number(4), sealed: seal(place.expose()) }
        }
    }
}
