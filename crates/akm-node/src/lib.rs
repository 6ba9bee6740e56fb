//! The AKM stack that is installed on a target.
//!
//! ```text
//!   applications -- local API --+             +-- UDP: frames of communication relationships
//!                               +-- daemon -- node --+
//!   module -- management (TCP) -+             +-- storage: identity, relationships, places
//!                                             +-- element
//! ```
//!
//! [`node::Node`] drives the sessions of all relationships, does no network I/O and makes every
//! record durable before anything rests on it; [`daemon`] is the program around it; [`enrol`] turns a
//! target into a node before there is anything to run.
//!
//! What it promises: a relationship whose files are damaged does not stop the others; whatever was
//! cut off by a crash is finished or undone at the next start.
//!
//! What it does not do: decide about provisioning. It answers its module, and nobody else.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod enrol;
pub mod error;
pub mod layout;
pub mod node;
pub mod storage;
