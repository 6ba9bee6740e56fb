//! `akm asr delete`.
use crate::commands::name;
use crate::error::CommandError;
use crate::home::Options;
use crate::print::{self, tell};

/// End an ASR; its members erase it
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm asr delete line")]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let asr = name(&arguments.name)?;
    print::deleted(&options.open_module()?.delete_asr(&asr, &mut tell)?, options.json).map(|()| 0)
}
