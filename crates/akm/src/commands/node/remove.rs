//! `akm node remove`.

use crate::error::CommandError;
use akm_provision::view::Removal;

use crate::commands::name;
use crate::home::Options;
use crate::print::{self, Printer};

/// Erase a node's credentials and stack, and remove it from the module
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm node remove pump\n  akm node remove pump --force")]
pub(crate) struct Arguments {
    /// Name of the node
    node: String,
    /// Even if it cannot be reached, or is a member of ASRs
    #[arg(long)]
    force: bool,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let module = options.open_module()?;
    let name = name(&arguments.node)?;
    let mut printer = Printer::new(options);
    let removal = module.remove(&name, arguments.force, &mut |progress| printer.tell(progress))?;
    print::removal(&Removal::new(name, removal, printer.notes), options.json).map(|()| 0)
}
