//! `akmd`: the AKM stack of a target.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(akm_node::cli::main())
}
