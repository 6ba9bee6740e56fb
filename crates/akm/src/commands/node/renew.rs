//! `akm node renew`.

use crate::error::CommandError;

use crate::commands::name;
use crate::home::Options;
use crate::print::{self, tell};

/// Give a node fresh keys for what this module says to it
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm node renew pump")]
pub(crate) struct Arguments {
    /// Name of the node
    node: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let node = name(&arguments.node)?;
    print::renewed(&options.open_module()?.renew_node(&node, &mut tell)?, options.json).map(|()| 0)
}
