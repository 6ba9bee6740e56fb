//! How a program on a node talks to the AKM stack there.
//!
//! ```text
//!   program -- Stack -- run/akmd.sock -- akmd -- other members of the ASR
//!              send        one JSON object a line, both ways (docs/local-api.md)
//!              listen --> Listening --> Arrival, Arrival, ...
//! ```
//!
//! ```no_run
//! # fn main() -> Result<(), akm_client::StackError> {
//! let mut stack = akm_client::Stack::connect("/opt/akm".as_ref())?;
//! stack.send("line", b"hello")?;
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: each call returns when the stack has answered, and what the stack refused is an error that says what
//! to do. A connection that was cut off is never taken up again by itself: nothing is sent twice.
//!
//! What it does not do: keep keys, or know the protocol. It holds one socket and no thread; a program that sends while it
//! listens opens two connections.

mod api;
mod error;
mod kind;
mod listening;
mod stack;
mod status;

pub use api::{LINE_MAX, LocalRequest, Reply, SOCKET, decode, encode};
pub use error::StackError;
pub use kind::Kind;
pub use listening::{Arrival, Listening, Message};
pub use stack::Stack;
pub use status::{ElementReport, FoundBackReport, MemberStatus, NodeStatus, RelationshipReport};
