//! `akm asr remove`.

use crate::error::CommandError;
use akm_provision::relationship::Wish;

use super::{Absent, change};
use crate::commands::names;
use crate::home::Options;

/// Shut members out of an ASR: they open nothing that is sent after the change
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  akm asr remove line boiler\n  akm asr remove line boiler --without-absent"
)]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
    /// Names of the members
    #[arg(required = true)]
    members: Vec<String>,
    #[command(flatten)]
    absent: Absent,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    change(options, &arguments.name, Wish::Remove(names(&arguments.members)?), &arguments.absent)
}
