//! `akm tasks`: what is parked.
use crate::error::CommandError;
use crate::home::Options;
use crate::print;

/// What is parked for nodes that were away
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm tasks\n  akm tasks --json")]
pub(super) struct Arguments {}

pub(super) fn carry_out(options: &Options, _: &Arguments) -> Result<u8, CommandError> {
    print::tasks(&options.open_module()?.tasks()?, options.json).map(|()| 0)
}
