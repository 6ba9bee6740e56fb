//! `akm node list`.

use crate::error::CommandError;
use akm_provision::view::Nodes;

use crate::home::Options;
use crate::print;

/// All nodes, the root first
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm node list\n  akm node list --json")]
pub(crate) struct Arguments {}

pub(super) fn carry_out(options: &Options, _: &Arguments) -> Result<u8, CommandError> {
    print::nodes(&Nodes::of(&options.open_store()?)?, options.json).map(|()| 0)
}
