//! Fuzz targets for whatever reads bytes from outside, and for the session engine as a whole.
//!
//! ```text
//!   corpus/TARGET/* ---+                +-- tests/brief.rs      on any toolchain, a counted number of inputs
//!   seeds, mutated  ---+--> Target ---> +-- make fuzz           libFuzzer, guided by coverage, as long as wanted
//!                                       +-- akm-fuzz TARGET F   one input again
//! ```
//!
//! A [`Target`] takes any bytes and panics if a promise does not hold. "Does not panic" is the least of
//! them: what is read is emitted as the same bytes, or was refused; what is emitted is read; nothing
//! takes more memory than its input justifies; paths stay where they belong. Sealed records are fuzzed
//! from both sides: as bytes that do not open, and as plaintext behind a right seal.
//!
//! What it does not do: the store of the module (SQLite), the command lines, and the shell scripts that
//! run on a target.

pub mod cbor;
pub mod corpus;
pub mod memory;
mod mutate;
mod reader;
mod targets;

pub use mutate::Mutator;
pub use targets::{TARGETS, Target, find};
