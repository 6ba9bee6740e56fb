//! `akm asr add`.

use crate::error::CommandError;
use akm_provision::relationship::Wish;

use super::{Absent, change};
use crate::commands::names;
use crate::home::Options;

/// Let nodes join an ASR; no message between the others is lost
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm asr add line boiler")]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
    /// Names of the nodes
    #[arg(required = true)]
    members: Vec<String>,
    #[command(flatten)]
    absent: Absent,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    change(options, &arguments.name, Wish::Add(names(&arguments.members)?), &arguments.absent)
}
