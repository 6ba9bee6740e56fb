//! What takes several questions and writes: requests of a module, and what is left to be erased.
//!
//! A task is a function of the node that is run from its beginning each time something it waits for is there. What was
//! asked and written before is at [`Hand`], so that nothing is asked or written twice; the code reads in the order in which
//! things happen. Those that change what the node holds run one after the other.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem::Discriminant;

use akm_core::element::{ElementError, Root, SecureElement};
use akm_core::id::RelationshipId;
use akm_core::management::{Outcome, Response};

use crate::ask::{Answer, Answers, Question, StandIn, Tape, Ticket, astray};
use crate::door::Refused;
use crate::outbox::Buffer;
use crate::persist::{Write, WriteFailed};
use crate::stream::{First, OfStream};

/// Names a task.
pub(crate) type TaskId = u64;

/// What is to be done.
pub(crate) enum Work {
    /// Answer the first request of a stream.
    Begin { first: First },
    /// Check the proof of a request.
    Check { of: OfStream, request: Buffer },
    /// Carry out a request whose proof is right.
    Request { of: OfStream, request: Buffer },
    /// Erase what no generation in use needs.
    Tidy { relationship: RelationshipId },
}

/// Why a task does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It waits for what it has asked for.
    Waits,
    /// It ends in vain: the outcome, and why.
    Refused(Outcome, String),
}

impl Stop {
    pub(crate) fn element(error: &ElementError) -> Self {
        Self::Refused(Outcome::Element, error.to_string())
    }

    pub(crate) fn storage(failed: &WriteFailed) -> Self {
        Self::Refused(Outcome::Storage, failed.to_string())
    }
}

/// Something that a task wants from outside.
pub(crate) enum Want {
    Ask(Question),
    Write(Write),
    Activate(RelationshipId, u32),
}

/// How far an input got that a task handed to a session.
#[derive(Default)]
pub(crate) enum Moved {
    #[default]
    NotYet,
    UnderWay,
    Done(Result<(), Refused>),
}

/// One write of a task, and what became of it.
struct Written {
    kind: Discriminant<Write>,
    ticket: Option<Ticket>,
    result: Option<Result<(), WriteFailed>>,
}

/// What a task has at hand: what was answered, written and drawn for it.
#[derive(Default)]
pub(crate) struct Hand {
    pub(crate) answers: Answers,
    written: Vec<Written>,
    pub(crate) tape: Tape,
    pub(crate) moved: Moved,
    /// What was put together for an answer, and must stay as it is.
    pub(crate) composed: Option<Vec<u8>>,
    /// What came of a request, while the proof of the answer is made.
    pub(crate) response: Option<Response>,
    wants: Vec<Want>,
}

impl Hand {
    /// The answer to a question, an error of the element included.
    pub(crate) fn ask_anyway(&mut self, question: Question) -> Result<Result<&Answer, ElementError>, Stop> {
        if !matches!(self.answers.to(&question), Some((_, Some(_)))) {
            if self.answers.to(&question).is_none() {
                self.wants.push(Want::Ask(question));
            }
            return Err(Stop::Waits);
        }
        let answer = self.answers.to(&question).and_then(|(_, answer)| answer);
        Ok(answer.expect("it was found above").as_ref().map_err(Clone::clone))
    }

    /// The answer to a question.
    pub(crate) fn ask(&mut self, question: Question) -> Result<&Answer, Stop> {
        self.ask_anyway(question)?.map_err(|error| Stop::element(&error))
    }

    pub(crate) fn roots(&mut self) -> Result<Vec<Root>, Stop> {
        match self.ask(Question::Roots)? {
            Answer::Roots(roots) => Ok(roots.clone()),
            _ => Err(Stop::element(&astray())),
        }
    }

    /// Has something computed that asks an element.
    pub(crate) fn compute<R>(
        &mut self,
        work: impl FnOnce(&mut dyn SecureElement) -> Result<R, ElementError>,
    ) -> Result<R, Stop> {
        let mut element = StandIn::new(&self.answers, None);
        let result = work(&mut element);
        match element.missing.take() {
            Some(question) => {
                self.want(question);
                Err(Stop::Waits)
            }
            None => result.map_err(|error| Stop::element(&error)),
        }
    }

    /// Wants a question answered, unless it is out.
    pub(crate) fn want(&mut self, question: Question) {
        if self.answers.to(&question).is_none() {
            self.wants.push(Want::Ask(question));
        }
    }

    /// Writes something, each kind of write once; a failure included.
    pub(crate) fn write_anyway(&mut self, write: Write) -> Result<Result<(), WriteFailed>, Stop> {
        let kind = write.kind();
        match self.written.iter().find(|written| written.kind == kind) {
            Some(written) => written.result.clone().ok_or(Stop::Waits),
            None => {
                self.written.push(Written { kind, ticket: None, result: None });
                self.wants.push(Want::Write(write));
                Err(Stop::Waits)
            }
        }
    }

    pub(crate) fn write(&mut self, write: Write) -> Result<(), Stop> {
        self.write_anyway(write)?.map_err(|failed| Stop::storage(&failed))
    }

    /// Hands the module's word for a generation to its session.
    pub(crate) fn activate(
        &mut self,
        relationship: RelationshipId,
        generation: u32,
    ) -> Result<&Result<(), Refused>, Stop> {
        if matches!(self.moved, Moved::NotYet) {
            self.moved = Moved::UnderWay;
            self.wants.push(Want::Activate(relationship, generation));
        }
        match &self.moved {
            Moved::Done(result) => Ok(result),
            _ => Err(Stop::Waits),
        }
    }

    /// What it wants from outside since it was run last.
    pub(crate) fn take_wants(&mut self) -> Vec<Want> {
        core::mem::take(&mut self.wants)
    }

    /// What it wanted written is under way.
    pub(crate) fn writes(&mut self, kind: Discriminant<Write>, ticket: Ticket) {
        if let Some(written) = self.written.iter_mut().find(|written| written.kind == kind) {
            written.ticket = Some(ticket);
        }
    }

    pub(crate) fn take_written(&mut self, ticket: Ticket, result: Result<(), WriteFailed>) {
        if let Some(written) = self.written.iter_mut().find(|written| written.ticket == Some(ticket)) {
            written.result = Some(result);
        }
    }
}

/// A task, and what it has at hand.
pub(crate) struct Task {
    pub(crate) work: Work,
    pub(crate) hand: Hand,
    /// Whether it changes what the node holds.
    pub(crate) alone: bool,
}

/// All tasks that are under way.
#[derive(Default)]
pub(crate) struct Tasks {
    all: BTreeMap<TaskId, Task>,
    made: TaskId,
    /// Those that run one after the other, the one that runs first.
    in_turn: VecDeque<TaskId>,
}

impl Tasks {
    pub(crate) fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.all.get_mut(&id)
    }

    /// Requests that are under way.
    pub(crate) fn requests(&self) -> usize {
        self.all.values().filter(|task| !matches!(task.work, Work::Tidy { .. })).count()
    }

    /// Takes a task on, unless what it would do waits to be done already.
    pub(crate) fn begin(&mut self, work: Work, alone: bool) -> Option<TaskId> {
        if matches!(work, Work::Tidy { relationship } if self.is_tidying(relationship)) {
            return None;
        }
        self.made += 1;
        self.all.insert(self.made, Task { work, hand: Hand::default(), alone });
        if alone {
            self.in_turn.push_back(self.made);
        }
        Some(self.made)
    }

    /// Takes out a task that is to be run, if it is its turn.
    pub(crate) fn take(&mut self, id: TaskId) -> Option<Task> {
        let waits = self.all.get(&id)?.alone && self.in_turn.front() != Some(&id);
        if waits { None } else { self.all.remove(&id) }
    }

    /// Puts a task back that waits.
    pub(crate) fn put_back(&mut self, id: TaskId, task: Task) {
        self.all.insert(id, task);
    }

    /// A task that was taken out is done; the one whose turn it is then.
    pub(crate) fn finish(&mut self, task: &Task) -> Option<TaskId> {
        if !task.alone {
            return None;
        }
        self.in_turn.pop_front();
        self.in_turn.front().copied()
    }

    fn is_tidying(&self, of: RelationshipId) -> bool {
        // One that has begun may have looked already at what is in use.
        let waiting = self.in_turn.iter().skip(1).filter_map(|id| self.all.get(id));
        waiting.into_iter().any(|task| matches!(task.work, Work::Tidy { relationship } if relationship == of))
    }
}
