//! The AKM protocol without I/O: credentials, keys, frames, and the session engine.
//!
//! A module provisions a device by giving its secure element one root and its host the rest of a
//! [`sds::SynchronizedDataSet`]. From these two halves every member of a relationship finds the
//! keys of each next session alone:
//!
//! ```text
//!   parameter data vector (module only, erased)
//!        |                        |
//!   element root              tree root ---- epoch tree ---- leaf(e)
//!   (secure element)          (host)                            |
//!        |                                                      |
//!   factor(e), one element call an epoch ------------- epoch secret(e) ---- sender keys ---- frames
//! ```
//!
//! What it promises: a (key, nonce) pair is never used twice; a frame is believed only after it has
//! authenticated; a place in the epoch tree is durable before anything rests on it; nothing that a
//! remote party sends makes a call fail.
//!
//! What it does not do: read a clock, draw randomness, touch a disk or a network, log. The caller
//! hands these in ([`session::Surroundings`]) and carries out what comes back
//! ([`session::Output`]).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cbor;
pub mod crypto;
pub mod element;
pub mod enrolment;
pub mod frame;
pub mod id;
pub mod keys;
pub mod lineage;
pub mod management;
pub mod policy;
pub mod proof;
pub mod replay;
pub mod resync;
pub mod sds;
pub mod seal;
pub mod secret;
pub mod session;
pub mod start;
pub mod text;
pub mod tree;
