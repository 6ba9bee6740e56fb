//! `akm asr list`.

use crate::error::CommandError;
use akm_provision::view;

use crate::home::Options;
use crate::print;

/// All ASRs
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm asr list\n  akm asr list --json")]
pub(crate) struct Arguments {}

pub(super) fn carry_out(options: &Options, _: &Arguments) -> Result<u8, CommandError> {
    print::asrs(&view::asrs(&options.open_store()?)?, options.json).map(|()| 0)
}
