//! `akm asr delete`.

use crate::error::CommandError;
use akm_provision::relationship;
use akm_provision::view::Ended;

use crate::commands::name;
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
    relationship::delete(&options.open_store()?, &asr, &mut tell)?;
    print::deleted(&Ended::new(asr), options.json).map(|()| 0)
}
