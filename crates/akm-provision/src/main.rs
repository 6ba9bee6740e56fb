//! `akm`: the provisioning module.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(akm_provision::cli::main())
}
