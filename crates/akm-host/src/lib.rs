//! One AKM node without I/O: all its relationships, their generations, where members are, timers, management, start.
//!
//! One door in ([`Node::handle`]), one queue out ([`Node::poll`]); time and randomness are passed in. It calls nothing:
//! network, disk and element are asked by outputs and answer by inputs.
//!
//! ```text
//!                    Datagram, StreamFrame, Send, Advance, Timeout
//!                                      |
//!                                      v
//!    element   Ask ------------->   +------+   -------------> Persist   disk
//!              Answered <--------   | Node |   <------------- Persisted
//!                                   +------+
//!                                      |
//!                                      v
//!                   Send, Reply, Proven, Close, Handled, Deliver, Seen, Done, Event
//! ```
//!
//! A program drives it like this, in one task: hand an input in, then carry out what [`Node::poll`] gives until
//! [`Output::Idle`]; sleep until [`Node::timeout`], an answer, or something from outside. A question may take as long as
//! the element likes, on another thread; a write may too.
//!
//! What it promises:
//! - Nothing waits for the element or the disk but what rests on it. While a question is out, frames of open epochs and all
//!   other relationships go on; while a record of a relationship is written, the other relationships go on. Of each sender,
//!   and of what is sent, the order stays.
//! - [`Output::Persist`] is a barrier for its relationship: nothing that rests on the record comes out before
//!   [`Input::Persisted`].
//! - Nothing that comes from outside makes it fail or keep more than a fixed amount: see [`limits`].
//! - Sealing and opening in an open epoch can be handed to another thread ([`Node::lend_sealing`], [`Node::lend_opening`]):
//!   what needs them waits until they are back.
//! - A question is asked once, and its answer is wiped when what asked for it is done.
//! - A node that starts is a [`Node`] too: it asks, writes and asks, and then says [`Output::Started`].
//!
//! What it does not do: keep files, open sockets, call an element, log, say anything in words for people beside the
//! short reasons that the protocol carries. What a session means is in `akm-core`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ask;
mod door;
mod drive;
mod due;
mod endpoints;
mod event;
mod generations;
mod identity;
mod index;
mod installed;
mod lend;
pub mod limits;
mod management;
mod node;
mod outbox;
mod persist;
mod proving;
mod relationship;
mod report;
mod route;
mod run;
mod start;
mod starting;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod time;
mod trouble;

pub use ask::{Answer, Question, Ticket};
pub use door::{Input, Message, Output, Refused, Seen, StartFailed, Stream, Surroundings, Verdict, Wish};
pub use event::{Aside, Event, Rest};
pub use identity::{Identity, Provisioning};
pub use installed::{Found, Installed, StoredGeneration};
pub use node::{Counts, Node};
pub use persist::{Write, WriteFailed};
pub use relationship::Known;

pub use akm_transport::Endpoint;

/// One generation of a relationship.
pub type GenerationId = (akm_core::id::RelationshipId, u32);
