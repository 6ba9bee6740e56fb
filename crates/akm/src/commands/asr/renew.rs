//! `akm asr renew`.

use crate::error::CommandError;
use akm_provision::relationship::Wish;

use super::{Absent, change};
use crate::home::Options;

/// Give an ASR fresh keys
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm asr renew line\n  akm asr renew line --suspect")]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
    /// Somebody may have had control of a member: new roots in all elements too; frames in flight are lost
    #[arg(long)]
    suspect: bool,
    #[command(flatten)]
    absent: Absent,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    change(options, &arguments.name, Wish::Renew { suspect: arguments.suspect }, &arguments.absent)
}
