//! `akm element`: what elements are here, what they say of themselves, and whether they do what AKM asks of them.

mod list;
mod show;
mod test;

use crate::error::CommandError;
use akm_element::ElementSpec;

use crate::home::Options;

/// Secure elements at this machine
#[derive(clap::Subcommand)]
#[command(
    after_help = "Examples:\n  akm element list\n  akm element show tpm:device:/dev/tpmrm0\n  akm element test tpm:device:/dev/tpmrm0"
)]
pub(super) enum Command {
    List(list::Arguments),
    Show(show::Arguments),
    Test(test::Arguments),
}

pub(super) fn carry_out(options: &Options, command: &Command) -> Result<u8, CommandError> {
    match command {
        Command::List(arguments) => list::carry_out(options, arguments),
        Command::Show(arguments) => show::carry_out(options, arguments),
        Command::Test(arguments) => test::carry_out(options, arguments),
    }
}

/// The element that a text names.
pub(super) fn spec(text: &str) -> Result<ElementSpec, CommandError> {
    Ok(text.parse::<ElementSpec>()?)
}
