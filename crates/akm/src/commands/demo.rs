//! `akm demo`: the whole of it.

use crate::error::CommandError;

use crate::home::Options;

/// Show the whole of it with a throw-away module and four local targets
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm demo\n  akm demo --keep")]
pub(super) struct Arguments {
    /// Keep the files, and say where
    #[arg(long)]
    keep: bool,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    crate::demo::run(arguments.keep, options.json).map(|()| 0)
}
