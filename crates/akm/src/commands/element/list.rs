//! `akm element list`.

use akm_provision::view::ListedElement;

use crate::error::CommandError;
use crate::home::Options;
use crate::print;

/// The elements that this machine has
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm element list\n  akm element list --json")]
pub(crate) struct Arguments {}

pub(super) fn carry_out(options: &Options, _: &Arguments) -> Result<u8, CommandError> {
    let found: Vec<_> = akm_element::list().into_iter().map(ListedElement::from).collect();
    print::elements(&found, options.json).map(|()| 0)
}
