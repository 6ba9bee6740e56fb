//! `akm asr show`: one ASR, as each member sees it.
use akm_provision::module::AsrShown;

use crate::commands::{name, worst};
use crate::error::CommandError;
use crate::home::Options;
use crate::print::{self, tell};

/// One ASR, as each member sees it
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm asr show line")]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let asr = name(&arguments.name)?;
    let AsrShown { members, carried_on } = options.open_module()?.asr(&asr, &mut tell)?;
    let members = members.refused_as(CommandError::from);
    print::members(&members, options.json)?;
    carried_on?;
    Ok(worst(members.members.iter().map(print::member_exit_code)))
}
