//! The node: one door in, one queue out.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use core::fmt;

use akm_core::crypto::{CryptoProvider, provider};
use akm_core::element::{Description, ElementError};
use akm_core::frame::FrameKind;
use akm_core::id::RelationshipId;
use akm_core::keys::PlaceSeal;
use akm_core::lineage::Lineage;
use akm_core::sds::Kind;
use akm_core::session::Instant;

use crate::GenerationId;
use crate::ask::{Answer, Question, Ticket};
use crate::door::{Input, Message, Output, Refused, Seen, Surroundings};
use crate::event::Event;
use crate::identity::Identity;
use crate::index::{Routes, Timers};
use crate::outbox::{Outbox, Queued};
use crate::persist::{Write, WriteFailed};
use crate::relationship::{Given, Known, Origin, Relationship};
use crate::starting::Starting;
use crate::stream::Streams;
use crate::task::{TaskId, Tasks};
use crate::time::Time;
use crate::trouble::Trouble;

/// Whether a node takes frames and wishes.
pub(crate) enum Phase {
    Starting(alloc::boxed::Box<Starting>),
    Running,
    /// It did not start, or its module erased it.
    Over,
}

/// Who asked a question.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    Relationship(RelationshipId),
    Task(TaskId),
    /// The start: the one of this number, or the start as a whole.
    Start(Option<usize>),
    Trouble,
}

/// Who had something written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Writer {
    /// A session, for what it is about to do.
    Session(RelationshipId),
    Endpoints(GenerationId),
    Task(TaskId),
    Start(usize),
}

/// How much a node has asked for since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions to the element.
    pub asked: u64,
    /// Records to be written.
    pub written: u64,
}

/// A node: see the crate.
pub struct Node {
    pub(crate) provider: &'static dyn CryptoProvider,
    pub(crate) identity: Identity,
    pub(crate) stack_version: String,
    pub(crate) phase: Phase,
    /// What the element says of itself, from the start on.
    pub(crate) description: Option<Description>,
    /// The seal of this start.
    pub(crate) seal: Option<PlaceSeal>,
    pub(crate) began: Instant,
    pub(crate) now: Instant,
    pub(crate) relationships: BTreeMap<RelationshipId, Relationship>,
    /// Generations that are of no use, and why.
    pub(crate) set_aside: BTreeMap<GenerationId, String>,
    pub(crate) routes: Routes,
    pub(crate) timers: Timers,
    pub(crate) tasks: Tasks,
    pub(crate) outbox: Outbox,
    pub(crate) streams: Streams,
    pub(crate) asking: BTreeMap<Ticket, Asker>,
    pub(crate) writing: BTreeMap<Ticket, Writer>,
    tickets: u64,
    /// Relationships in which something that waits may go on.
    pub(crate) stirred: BTreeSet<RelationshipId>,
    /// Tasks that may go on.
    pub(crate) ready: VecDeque<TaskId>,
    /// Bytes of what waits.
    pub(crate) kept: usize,
    pub(crate) trouble: Option<Trouble>,
    /// What the element's time is spent on.
    pub(crate) time: Time,
    pub(crate) unclaimed: u64,
    pub(crate) disowned: bool,
    counts: Counts,
}

impl Node {
    /// A node that begins its start; `found` is what its disk holds. Poll it.
    pub fn start(
        identity: Identity,
        stack_version: String,
        found: alloc::vec::Vec<crate::Found>,
        surroundings: &mut Surroundings<'_>,
    ) -> Self {
        let mut node = Self {
            provider: provider(),
            identity,
            stack_version,
            phase: Phase::Over,
            description: None,
            seal: None,
            began: surroundings.now,
            now: surroundings.now,
            relationships: BTreeMap::new(),
            set_aside: BTreeMap::new(),
            routes: Routes::default(),
            timers: Timers::default(),
            tasks: Tasks::default(),
            outbox: Outbox::default(),
            streams: Streams::default(),
            asking: BTreeMap::new(),
            writing: BTreeMap::new(),
            tickets: 0,
            stirred: BTreeSet::new(),
            ready: VecDeque::new(),
            kept: 0,
            trouble: None,
            time: Time::new(surroundings.now),
            unclaimed: 0,
            disowned: false,
            counts: Counts::default(),
        };
        node.begin(found, surroundings);
        node
    }

    /// Takes one input. All outputs of the input before should have been carried out: they are not lost, but wait.
    pub fn handle(&mut self, input: Input<'_>, surroundings: &mut Surroundings<'_>) {
        self.now = surroundings.now;
        match input {
            Input::Answered { ticket, result } => self.answered(ticket, result, surroundings),
            Input::Persisted { ticket, result } => self.persisted(ticket, result, surroundings),
            Input::Datagram { from, frame } => {
                if self.is_running() {
                    self.take_datagram(frame, from, surroundings);
                }
            }
            Input::StreamFrame { stream, frame } => {
                if self.is_running() {
                    self.take_stream_frame(frame, stream, surroundings);
                } else {
                    self.outbox.push(Queued::Handled(stream));
                }
            }
            Input::StreamClosed { stream } => self.close_stream(stream),
            Input::Send { wish, relationship, to, body } => {
                let member = |node: &Self| match to {
                    None => Ok(None),
                    Some(member) => node.other_member(relationship, member).map(Some),
                };
                match self.wished_of(relationship).and_then(|()| member(self)) {
                    Ok(to) => {
                        let given = Given::Send { to, kind: FrameKind::Data, body };
                        self.give(relationship, &given, Origin::Local(wish), surroundings);
                    }
                    Err(refused) => self.outbox.push(Queued::Done(wish, Err(refused))),
                }
            }
            Input::Advance { wish, relationship } => match self.wished_of(relationship) {
                Ok(()) => self.give(relationship, &Given::Advance, Origin::Local(wish), surroundings),
                Err(refused) => self.outbox.push(Queued::Done(wish, Err(refused))),
            },
            Input::Timeout => {
                if self.is_running() {
                    self.fire(surroundings);
                }
            }
        }
        self.settle(surroundings);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Output<'_> {
        match self.outbox.pop() {
            None => Output::Idle,
            Some(Queued::Ask(ticket, question)) => Output::Ask { ticket, question },
            Some(Queued::Persist(ticket, write)) => Output::Persist { ticket, write },
            Some(Queued::Handled(stream)) => Output::Handled { stream },
            Some(Queued::Proven(stream)) => Output::Proven { stream },
            Some(Queued::Close(stream)) => Output::Close { stream },
            Some(Queued::Done(wish, result)) => Output::Done { wish, result },
            Some(Queued::Event(about, event)) => {
                let label = about.map_or("", |(id, _)| self.label(id));
                Output::Event { about, label, event }
            }
            Some(Queued::Started) => Output::Started,
            Some(Queued::NotStarted(why)) => Output::NotStarted(why),
            Some(lent) => self.lend_out(lent),
        }
    }

    /// Hands out what the program looks at, and keeps it until it polls again.
    fn lend_out(&mut self, queued: Queued) -> Output<'_> {
        self.outbox.out = Some(queued);
        match self.outbox.out.as_ref() {
            Some(Queued::Send { of, to, frame }) => Output::Send { of: *of, to, frame },
            Some(Queued::Reply { stream, frame }) => Output::Reply { stream: *stream, frame },
            Some(Queued::Seen { relationship, source, frame, verdict }) => {
                Output::Seen(Seen { relationship: *relationship, source: *source, frame, verdict: *verdict })
            }
            Some(Queued::Deliver { of, at, from, epoch, payload }) => {
                let relationship = self.relationships.get(&of.0);
                let known = relationship.and_then(|held| held.lineage.entry(of.1)).map(|(_, known)| known);
                Output::Deliver(Message {
                    of: *of,
                    label: known.map_or("", |known| &known.label),
                    from: *from,
                    from_label: known
                        .and_then(|known| known.member_labels.get(*at))
                        .map_or("", String::as_str),
                    epoch: *epoch,
                    payload,
                })
            }
            _ => Output::Idle,
        }
    }

    /// When to hand in [`Input::Timeout`]; `None`: only something else will move this node.
    pub fn timeout(&self) -> Option<Instant> {
        let trouble = self.trouble.as_ref().and_then(Trouble::due);
        let due = self.timers.first().into_iter().chain(self.streams.due());
        due.chain(trouble).min().filter(|_| self.is_running())
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it takes frames and wishes.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether its module has erased it: it has nothing more to do, but to say what it still has to say.
    pub fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// Forgets all relationships, when its module has erased it and all is said: what comes is of nobody then.
    pub fn forget(&mut self) {
        self.relationships.clear();
        self.routes = Routes::default();
        self.timers = Timers::default();
        self.streams = Streams::default();
    }

    /// The start of this node, on the clock that it is given.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// How much it has asked for.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes that it keeps of what waits.
    pub fn bytes_waiting(&self) -> usize {
        self.kept
    }

    /// What the element says of itself; `None` before it was asked.
    pub fn description(&self) -> Option<&Description> {
        self.description.as_ref()
    }

    /// Why the element does not answer, in its words; `None` while it does.
    pub fn element_trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(Trouble::why)
    }

    /// Frames that no relationship claimed.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed
    }

    /// The generations of a relationship.
    pub fn lineage(&self, relationship: RelationshipId) -> Option<&Lineage<Known>> {
        self.relationships.get(&relationship).map(|held| &held.lineage)
    }

    /// All relationships that are in use, by ID.
    pub fn relationships(&self) -> impl Iterator<Item = (RelationshipId, Kind, &Lineage<Known>)> {
        self.relationships.iter().map(|(id, held)| (*id, held.kind, &held.lineage))
    }

    /// Generations that are of no use, and why, in words.
    pub fn set_aside(&self) -> &BTreeMap<GenerationId, String> {
        &self.set_aside
    }

    /// What operators call a relationship; empty if not known.
    pub fn label(&self, relationship: RelationshipId) -> &str {
        self.relationships.get(&relationship).map_or("", Relationship::label)
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub(crate) fn ask(&mut self, asker: Asker, question: Question) -> Ticket {
        let ticket = self.ticket();
        self.counts.asked += 1;
        self.asking.insert(ticket, asker);
        self.time.asks(ticket, &question, self.now);
        self.outbox.push(Queued::Ask(ticket, question));
        ticket
    }

    pub(crate) fn write(&mut self, writer: Writer, write: Write) -> Ticket {
        let ticket = self.ticket();
        self.counts.written += 1;
        self.writing.insert(ticket, writer);
        self.outbox.push(Queued::Persist(ticket, write));
        ticket
    }

    pub(crate) fn tell(&mut self, about: GenerationId, event: Event) {
        self.outbox.tell(about, event);
    }

    fn answered(
        &mut self,
        ticket: Ticket,
        result: Result<Answer, ElementError>,
        surroundings: &mut Surroundings<'_>,
    ) {
        self.time.is_answered(ticket, surroundings.now);
        match self.asking.remove(&ticket) {
            None => {}
            Some(Asker::Relationship(id)) => {
                if !self.relationships.contains_key(&id) {
                    self.time.forget_answered(id);
                }
                if let Some(relationship) = self.relationships.get_mut(&id) {
                    relationship.answers.take_in(ticket, result);
                    self.stirred.insert(id);
                }
            }
            Some(Asker::Task(task)) => {
                if let Some(task) = self.tasks.get_mut(task) {
                    task.hand.answers.take_in(ticket, result);
                }
                self.ready.push_back(task);
            }
            Some(Asker::Start(of)) => self.start_was_answered(of, ticket, result, surroundings),
            Some(Asker::Trouble) => self.trouble_was_answered(&result),
        }
    }

    fn persisted(
        &mut self,
        ticket: Ticket,
        result: Result<(), WriteFailed>,
        surroundings: &mut Surroundings<'_>,
    ) {
        match self.writing.remove(&ticket) {
            None => {}
            Some(Writer::Session(id)) => self.session_was_written(id, ticket, result, surroundings),
            Some(Writer::Endpoints(of)) => self.endpoints_were_written(of, result),
            Some(Writer::Task(task)) => {
                if let Some(task) = self.tasks.get_mut(task) {
                    task.hand.take_written(ticket, result);
                }
                self.ready.push_back(task);
            }
            Some(Writer::Start(at)) => self.start_was_written(at, result, surroundings),
        }
    }

    /// Whether an application can want something of a relationship.
    fn wished_of(&self, relationship: RelationshipId) -> Result<(), Refused> {
        if !self.is_running() {
            return Err(Refused::NotRunning);
        }
        match self.relationships.get(&relationship) {
            Some(held) if held.kind == Kind::Communication => Ok(()),
            _ => Err(Refused::NotHeld),
        }
    }

    fn other_member(
        &self,
        relationship: RelationshipId,
        member: akm_core::id::AkmId,
    ) -> Result<u16, Refused> {
        let in_force = self.lineage(relationship).and_then(Lineage::in_force);
        let (session, _) = in_force.ok_or(Refused::NotHeld)?;
        let membership = session.membership();
        match membership.sds().index_of(member) {
            Some(at) if at != membership.index() => Ok(at),
            _ => Err(Refused::NotAMember),
        }
    }

    /// Lets all that may go on do so.
    pub(crate) fn settle(&mut self, surroundings: &mut Surroundings<'_>) {
        loop {
            if let Some(id) = self.stirred.pop_first() {
                self.go_on(id, surroundings);
            } else if let Some(task) = self.ready.pop_front() {
                self.run(task, surroundings);
            } else {
                self.begin_streams(surroundings);
                if self.ready.is_empty() {
                    return;
                }
            }
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("identity", &self.identity)
            .field("relationships", &self.relationships.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("now", &self.now).finish_non_exhaustive()
    }
}
