//! Many shipped nodes on a virtual network with a virtual clock.
//!
//! ```text
//!   trace (setup, actions) -> World -> happenings -> Watch -> the first Violation, or none
//!                               |
//!        nodes (akm_host::Node, with a virtual element and disk), network, module, intruder, bad member, time
//! ```
//!
//! What runs here is [`akm_host::Node`] itself, the node of `akmd`, with the real sessions, keys, frames, sealed
//! places, starts and management. Virtual is what it asks: network, disk and element, which answer at once or after a
//! time; and the clock and the random generators, so that a run takes milliseconds and can be repeated byte for
//! byte from its trace.
//!
//! After everything that happens the watch checks the [`Invariant`]s. A [`Flaw`] puts something wrong around the nodes
//! of a world on purpose: so it is shown that each invariant can fail.
//!
//! It simulates neither real disks and sockets nor words for people: the tests of the programs do that.

mod action;
mod bad_member;
pub mod bound;
mod disk;
mod drive;
mod element;
mod flaw;
mod happening;
mod host;
mod intruder;
mod invariant;
mod issue;
mod line;
mod link;
mod mixture;
mod module;
mod network;
mod node;
mod process;
mod random;
mod run;
mod runs;
mod scenario;
mod setup;
mod shrink;
mod story;
mod tally;
mod trace;
mod watch;
mod world;

pub use action::{Action, Change, Deed};
pub use flaw::Flaw;
pub use invariant::{Invariant, Violation};
pub use line::Malformed;
pub use run::run;
pub use runs::{Failure, run_many, seed_of};
pub use scenario::Scenario;
pub use setup::{NodeSetup, RelationshipSetup, Setup};
pub use shrink::shrink;
pub use tally::Tally;
pub use trace::{InvalidTrace, Trace};
pub use world::{Step, World};
