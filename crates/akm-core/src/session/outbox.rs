//! What a session hands out: a step that waits for its records, the outputs in their order, and the buffers that they
//! travel in.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use zeroize::Zeroize;

use super::buffer::Buffer;
use super::counts::Counts;
use super::epochs::OpenEpoch;
use super::{Cause, Delivery, Event, FoundBack, Instant, Output, Record};
use crate::frame::{FrameKind, Header};
use crate::id::AkmId;
use crate::sds::{HeaderKey, Kind, Tag};
use crate::tree::Place;

/// Buffers that are kept for the next frames.
const SPARE_MAX: usize = 4;

/// Whom a frame is for.
#[derive(Clone, Copy)]
pub(super) enum Recipients {
    Others,
    One(u16),
}

/// What happens once the records of a step are durable.
pub(super) enum Step {
    Activate,
    Begin {
        place: Place,
        epoch: OpenEpoch,
        cause: Cause,
        kind: FrameKind,
        to: Recipients,
        buffer: Buffer,
        /// Drawn with the input, since `persisted` has no surroundings.
        salt: u64,
    },
    Adopt {
        place: Place,
        epoch: OpenEpoch,
        header: Header,
        buffer: Buffer,
        activates: bool,
    },
    FindBack {
        place: Place,
        header_key: Option<HeaderKey>,
        tag: Tag,
        found: FoundBack,
        has_jumped: bool,
    },
}

/// A step, and the records that must be durable before it is taken.
pub(super) struct Pending {
    record: Record,
    /// Those that follow it.
    later: VecDeque<Record>,
    /// Whether the record was handed out.
    offered: bool,
    pub(super) step: Step,
    pub(super) now: Instant,
}

impl Pending {
    pub(super) fn new(record: Record, step: Step, now: Instant) -> Self {
        Self { record, later: VecDeque::new(), offered: false, step, now }
    }

    /// With a record that is written before the others.
    pub(super) fn after(self, record: Record) -> Self {
        let mut later = self.later;
        later.push_front(self.record);
        Self { record, later, ..self }
    }
}

/// Something to be carried out that rests on no record.
enum Queued {
    Transmit(Recipients, Buffer),
    Deliver(Received, Buffer),
    Event(Event),
}

/// What is known of an authentic frame beside what it says.
#[derive(Clone, Copy)]
pub(super) struct Received {
    pub(super) index: u16,
    pub(super) epoch: u32,
    pub(super) kind: FrameKind,
    pub(super) newest: bool,
}

/// All that waits to be carried out.
pub(super) struct Outbox {
    /// Whether what is said here may hold roots: then buffers are wiped before they are used again.
    holds_roots: bool,
    pending: Option<Pending>,
    queue: VecDeque<Queued>,
    handed_out: Option<Buffer>,
    spare: Vec<Buffer>,
}

impl Outbox {
    /// Of a relationship of this kind. Management messages carry roots.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            holds_roots: kind == Kind::Provisioning,
            pending: None,
            queue: VecDeque::new(),
            handed_out: None,
            spare: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_none() && self.queue.is_empty()
    }

    /// Whether the next output is a delivery.
    pub(super) fn is_about_to_deliver(&self) -> bool {
        self.pending.is_none() && matches!(self.queue.front(), Some(Queued::Deliver(..)))
    }

    /// How many outputs wait, a step included.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.pending.is_some())
    }

    /// All that is kept for frames.
    pub(super) fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        self.spare.iter().chain(&self.handed_out)
    }

    /// Holds everything back until the records of this step are durable.
    pub(super) fn hold(&mut self, pending: Pending) {
        self.pending = Some(pending);
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.queue.push_back(Queued::Event(event));
    }

    pub(super) fn transmit(&mut self, to: Recipients, frame: Buffer) {
        self.queue.push_back(Queued::Transmit(to, frame));
    }

    /// Delivers a frame of this kind and body.
    pub(super) fn deliver(&mut self, received: Received, plaintext: Buffer) {
        self.queue.push_back(Queued::Deliver(received, plaintext));
    }

    /// What is to be carried out next, counted. What was handed out before is taken back with it.
    pub(super) fn next<'o>(&'o mut self, members: &[AkmId], counts: &mut Counts) -> Output<'o> {
        if self.pending.is_some() {
            return self.offer();
        }
        match self.queue.pop_front() {
            None => {
                self.take_back();
                Output::Idle
            }
            Some(Queued::Event(event)) => Output::Event(event),
            Some(Queued::Transmit(to, frame)) => {
                counts.transmitted += 1;
                let frame = self.hand_out(frame);
                match to {
                    Recipients::Others => Output::Transmit(frame),
                    Recipients::One(member) => Output::TransmitTo(member, frame),
                }
            }
            Some(Queued::Deliver(Received { index, epoch, kind, newest }, plaintext)) => {
                counts.delivered += 1;
                let from = members[usize::from(index)];
                let payload = &self.hand_out(plaintext)[1..];
                Output::Deliver(Delivery { from, index, epoch, kind, newest, payload })
            }
        }
    }

    fn offer(&mut self) -> Output<'_> {
        match &mut self.pending {
            Some(pending) => {
                pending.offered = true;
                Output::Persist(&pending.record)
            }
            None => Output::Idle,
        }
    }

    fn hand_out(&mut self, buffer: Buffer) -> &[u8] {
        self.take_back();
        self.handed_out.insert(buffer)
    }

    fn take_back(&mut self) {
        if let Some(used) = self.handed_out.take() {
            self.recycle(used);
        }
    }

    /// The record that was handed out is durable: the step, if it was the last. `None` out of turn.
    pub(super) fn recorded(&mut self) -> Option<Pending> {
        let pending = self.pending.as_mut().filter(|pending| pending.offered)?;
        pending.offered = false;
        match pending.later.pop_front() {
            Some(next) => {
                drop(mem::replace(&mut pending.record, next));
                None
            }
            None => self.pending.take(),
        }
    }

    /// The record that was handed out could not be written: the step that is given up. `None` out of turn.
    pub(super) fn give_up(&mut self) -> Option<Pending> {
        self.pending.take_if(|pending| pending.offered)
    }

    /// A buffer to fill, empty.
    pub(super) fn spare(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps a buffer for the next frame.
    pub(super) fn recycle(&mut self, mut buffer: Buffer) {
        if self.holds_roots {
            buffer.zeroize();
        }
        buffer.clear();
        if buffer.capacity() > 0 && self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }
}
