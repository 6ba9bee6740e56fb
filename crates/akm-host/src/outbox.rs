//! What waits to be carried out by the program, in order.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use akm_core::id::{AkmId, RelationshipId};
use zeroize::{Zeroize, Zeroizing};

use crate::ask::{Question, Ticket};
use crate::door::{Refused, StartFailed, Stream, Verdict, Wish};
use crate::event::Event;
use crate::persist::Write;
use crate::{Endpoint, GenerationId};

/// Bytes of a frame or a message; wiped on drop.
pub(crate) type Buffer = Zeroizing<Vec<u8>>;

/// Buffers that are kept for the next frames.
const SPARE_MAX: usize = 8;

/// Longer buffers are not kept.
const SPARE_BYTES: usize = 2048;

pub(crate) enum Queued {
    Ask(Ticket, Question),
    Persist(Ticket, Write),
    Send { of: GenerationId, to: Vec<Endpoint>, frame: Buffer },
    Reply { stream: Stream, frame: Buffer },
    Handled(Stream),
    Proven(Stream),
    Close(Stream),
    Deliver { of: GenerationId, at: usize, from: AkmId, epoch: u32, payload: Buffer },
    Seen { relationship: Option<RelationshipId>, source: Endpoint, frame: Buffer, verdict: Verdict },
    Done(Wish, Result<(), Refused>),
    Event(Option<GenerationId>, Event),
    Started,
    NotStarted(StartFailed),
}

/// The queue out of a node.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Queued>,
    /// What was handed out last: the program looks at it until it polls again.
    pub(crate) out: Option<Queued>,
    spare: Vec<Buffer>,
    spare_lists: Vec<Vec<Endpoint>>,
}

impl Outbox {
    pub(crate) fn push(&mut self, queued: Queued) {
        self.queue.push_back(queued);
    }

    pub(crate) fn tell(&mut self, about: GenerationId, event: Event) {
        self.push(Queued::Event(Some(about), event));
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        self.take_back();
        self.queue.pop_front()
    }

    /// Keeps the buffers of what was handed out for what comes.
    fn take_back(&mut self) {
        let buffer = match self.out.take() {
            Some(Queued::Send { to, frame, .. }) => {
                if self.spare_lists.len() < SPARE_MAX {
                    self.spare_lists.push(to);
                }
                frame
            }
            Some(Queued::Reply { frame, .. } | Queued::Seen { frame, .. }) => frame,
            Some(Queued::Deliver { payload, .. }) => {
                let mut payload = payload;
                payload.zeroize();
                payload
            }
            _ => return,
        };
        if self.spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES {
            self.spare.push(buffer);
        }
    }

    /// A copy of these bytes in a buffer that was used before.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Buffer {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// The same of a list.
    pub(crate) fn list(&mut self, endpoints: impl Iterator<Item = Endpoint>) -> Vec<Endpoint> {
        let mut list = self.spare_lists.pop().unwrap_or_default();
        list.clear();
        list.extend(endpoints);
        list
    }
}
