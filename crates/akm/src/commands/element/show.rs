//! `akm element show`.

use akm_provision::view::ElementShown;

use super::spec;
use crate::error::CommandError;
use crate::home::Options;
use crate::print;

/// What an element says of itself; changes nothing
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm element show tpm:device:/dev/tpmrm0")]
pub(crate) struct Arguments {
    /// The element, as in --element
    element: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let spec = spec(&arguments.element)?;
    let description = spec.describe()?;
    print::element(&ElementShown::new(spec, &description), options.json).map(|()| 0)
}
