//! The rows of the store, one file for each kind: statements and parsing.
//!
//! They hold no rule and know nothing of each other. What a row means for another, and what is done in one transaction,
//! stands above them. What is secret is read and written by `secret.rs` alone.

pub(super) mod absence;
pub(super) mod ceremony;
pub(super) mod generation;
pub(super) mod journal;
pub(super) mod member;
pub(super) mod module;
pub(super) mod node;
pub(super) mod secret;
