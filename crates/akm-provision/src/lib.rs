//! The provisioning module: makes devices into AKM nodes, and relationships between nodes.
//!
//! ```text
//!   akm <--- view (answers), error (refusals), progress (what is told on the way)
//!    \-----> module, the one door
//!               |--> ceremony (five steps) ---> akm-target (files and commands on a device: local, ssh)
//!               |--> relationship (ASRs) --\
//!               \--> diagnosis, serve ------\-> link (management frames over TCP)
//!                         all of them ---------> store (SQLite, sealed under the vault)
//! ```
//!
//! What it promises: a relationship is in the module's own set before anything is written to a target;
//! a ceremony that is cut off goes on where it was and ends in exactly one relationship; a node is
//! active only after its own element has proved who it is, over the node's own network endpoint.
//!
//! What it does not do: take part in communication relationships. It makes their secrets, hands them
//! out, and erases them once every member has acknowledged.

pub mod ceremony;
pub mod diagnosis;
pub mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod keyring;
mod link;
mod lock;
mod mint;
pub mod module;
pub mod names;
pub mod progress;
pub mod relationship;
mod serve;
mod store;
mod vault;
pub mod view;
