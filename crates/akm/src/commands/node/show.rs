//! `akm node show`: one node, as the module knows it and as it stands.
use akm_provision::module::Asked;

use crate::commands::name;
use crate::error::CommandError;
use crate::home::Options;
use crate::print::{self, tell};

/// One node, with the journal of its ceremony
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm node show pump")]
pub(crate) struct Arguments {
    /// Name of the node
    node: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let module = options.open_module()?;
    let Asked { answer, reached } = module.node(&name(&arguments.node)?)?;
    print::node(&answer.refused_as(CommandError::from), options.json)?;
    module.carry_on(&reached, &mut tell)?;
    Ok(0)
}
