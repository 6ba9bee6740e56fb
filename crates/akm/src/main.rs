//! `akm`: the operator's program of the provisioning module.
//!
//! ```text
//!   commands/NOUN/VERB   what is asked: the arguments, and the call of the library
//!   home                 where the module is, and what opens its vault
//!   error, hints         why not, and the ways out
//!   print                what came of it, as text for people and JSON for programs
//!   demo                 all of it with a throw-away module
//! ```
//!
//! What it does not do: decide. That is the library's, `akm-provision`.

mod commands;
mod demo;
mod error;
mod hints;
mod home;
mod print;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(commands::main())
}
