//! `akm asr list`.
use crate::error::CommandError;
use crate::home::Options;
use crate::print;

/// All ASRs
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm asr list\n  akm asr list --json")]
pub(crate) struct Arguments {}

pub(super) fn carry_out(options: &Options, _: &Arguments) -> Result<u8, CommandError> {
    print::asrs(&options.open_module()?.asrs()?, options.json).map(|()| 0)
}
