//! `akm tasks`: what is parked.

use crate::error::CommandError;
use akm_provision::relationship;
use akm_provision::view::Task;

use crate::home::Options;
use crate::print;

/// What is parked for nodes that were away
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm tasks\n  akm tasks --json")]
pub(super) struct Arguments {}

pub(super) fn carry_out(options: &Options, _: &Arguments) -> Result<u8, CommandError> {
    let tasks: Vec<_> = relationship::tasks(&options.open_store()?)?.into_iter().map(Task::from).collect();
    print::tasks(&tasks, options.json).map(|()| 0)
}
