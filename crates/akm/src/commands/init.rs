//! `akm init`: makes this machine the AKM root.

use std::path::Path;

use crate::error::CommandError;
use akm_provision::error::Kind;
use akm_provision::mint;
use akm_provision::names::{Name, Timestamp};
use akm_provision::store::{Module, Store, StoreError};
use akm_provision::vault::{Vault, VaultError};
use akm_provision::view::{self, Element};

use super::{element, name};
use crate::home::{self, Options};
use crate::print;

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
    let element = arguments.vault.as_deref().map(element::spec).transpose()?;
    let home = options.home()?;
    let name = match &arguments.name {
        Some(text) => name(text)?,
        None => default_name(),
    };
    match Vault::custody(&home) {
        Ok(Some(_)) => {
            // Vault and store are made one after the other: a cut-off init goes on.
            let vault = options.open_vault(&home)?;
            match Store::open(&home, &vault) {
                Ok(store) => {
                    let there = &store.module().name;
                    // Whoever names no name asks for none.
                    let is_another = arguments.name.is_some() && *there != name;
                    let kind = if is_another { Kind::OtherName } else { Kind::Exists };
                    Err(CommandError::new(
                        kind,
                        format!("{} is the home of module {there} already", home.display()),
                    ))
                }
                Err(StoreError::NoModule { .. }) => finish_init(&home, &vault, name, options.json),
                Err(error) => Err(error.into()),
            }
        }
        Ok(None) | Err(VaultError::Missing { .. }) if Store::exists(&home) => Err(home::vault_gone(&home)),
        Ok(None) | Err(VaultError::Missing { .. }) => {
            let vault = if let Some(element) = &element {
                let (vault, description) = Vault::create_in_element(&home, element)?;
                if let Some(warning) = Element::from(&description).warning() {
                    print::note(&format!("the vault key is in a {} element: {warning}", description.kind));
                }
                vault
            } else if arguments.passphrase || options.passphrase_file.is_some() {
                Vault::create_with_passphrase(&home, &options.read_passphrase(true)?)?
            } else {
                Vault::create_with_key_file(&home)?
            };
            finish_init(&home, &vault, name, options.json)
        }
        Err(error) => Err(error.into()),
    }
    .map(|()| 0)
}

fn finish_init(home: &Path, vault: &Vault, name: Name, json: bool) -> Result<(), CommandError> {
    let module = Module { name, root: mint::akm_id(), created_at: Timestamp::now() };
    let store = Store::create(home, vault, &module)?;
    print::module(&view::Module::of(&store), json)
}

/// The host name, where it is a name that we allow.
fn default_name() -> Name {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    host.parse().unwrap_or_else(|_| "root".parse().expect("a valid name"))
}
