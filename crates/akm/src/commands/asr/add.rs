//! `akm asr add`.

use crate::error::CommandError;
use akm_provision::relationship::Wish;

use super::{Members, change};
use crate::commands::names;
use crate::home::Options;

/// Let nodes join an ASR; no message between the others is lost
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm asr add line boiler")]
pub(crate) struct Arguments {
    #[command(flatten)]
    of: Members,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let Members { name, members, absent } = &arguments.of;
    change(options, name, Wish::Add(names(members)?), absent)
}
