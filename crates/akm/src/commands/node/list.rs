//! `akm node list`.
use crate::error::CommandError;
use crate::home::Options;
use crate::print;

/// All nodes, the root first
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm node list\n  akm node list --json")]
pub(crate) struct Arguments {}

pub(super) fn carry_out(options: &Options, _: &Arguments) -> Result<u8, CommandError> {
    print::nodes(&options.open_module()?.nodes()?, options.json).map(|()| 0)
}
