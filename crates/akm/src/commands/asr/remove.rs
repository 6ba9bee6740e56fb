//! `akm asr remove`.

use crate::error::CommandError;
use akm_provision::relationship::Wish;

use super::{Members, change};
use crate::commands::names;
use crate::home::Options;

/// Shut members out of an ASR: they open nothing that is sent after the change
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  akm asr remove line boiler\n  akm asr remove line boiler --without-absent"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    of: Members,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let Members { name, members, absent } = &arguments.of;
    change(options, name, Wish::Remove(names(members)?), absent)
}
