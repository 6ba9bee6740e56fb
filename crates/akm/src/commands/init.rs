//! `akm init`: makes this machine the AKM root.
use akm_provision::module::{Custody, Founding, Module, Wanted};

use super::{element, name};
use crate::error::CommandError;
use crate::home::Options;
use crate::print::{self, tell};

/// Make this machine the AKM root and a provisioning module
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  akm init --name plant\n  akm init --name plant --vault tpm:device:/dev/tpmrm0"
)]
pub(super) struct Arguments {
    /// What the module is called; otherwise the host name
    #[arg(long)]
    name: Option<String>,
    /// Seal the vault under a passphrase instead of a key file
    #[arg(long)]
    passphrase: bool,
    /// Let this secure element make the vault key; it must be plugged in for every command
    #[arg(long, value_name = "ELEMENT", conflicts_with_all = ["passphrase", "passphrase_file"])]
    vault: Option<String>,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let custody = match &arguments.vault {
        Some(element) => Custody::Element(element::spec(element)?),
        None if arguments.passphrase || options.passphrase_file.is_some() => Custody::Passphrase,
        None => Custody::KeyFile,
    };
    let home = options.home()?;
    let founding = Founding { name: arguments.name.as_deref().map(name).transpose()?, custody };
    let passphrase = |wanted| options.read_passphrase(wanted == Wanted::ToSeal);
    let module = Module::init(&home, &founding, passphrase, &mut tell)?;
    print::module(&module.view(), options.json).map(|()| 0)
}
