//! How a module is made, and opened.

use std::io;
use std::path::Path;

use akm_element::ElementSpec;
use zeroize::Zeroizing;

use super::Module;
use crate::error::Error;
use crate::error::module::Refusal;
use crate::keyring::Keyring;
use crate::mint;
use crate::names::{Name, Timestamp};
use crate::progress::Progress;
use crate::store::{self, Store, StoreError};
use crate::vault::{Vault, VaultError};
use crate::view;

/// A passphrase, wiped when it is dropped.
pub type Passphrase = Zeroizing<Vec<u8>>;

/// For what a passphrase is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To open a vault that is there.
    ToOpen,
    /// To seal a vault that is being made: whoever mistypes it is locked out.
    ToSeal,
}

/// How the key of a vault that is being made shall be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Custody {
    /// In a file that only its owner may read.
    KeyFile,
    /// Sealed under a passphrase.
    Passphrase,
    /// Made by this element each time.
    Element(ElementSpec),
}

/// What the operator wants a module to be.
#[derive(Clone, Debug)]
pub struct Founding {
    /// What it shall be called; otherwise as the machine.
    pub name: Option<Name>,
    /// How its vault key shall be kept, unless an earlier try has made one.
    pub custody: Custody,
}

impl Module {
    /// Opens the module in a home. The passphrase is asked for only if its vault key is sealed under one, and once.
    pub fn open(home: &Path, passphrase: impl FnOnce() -> io::Result<Passphrase>) -> Result<Self, Error> {
        let vault = open_vault(home, passphrase)?;
        let store = Store::open(home, &vault).map_err(|error| match error {
            StoreError::NoModule { home } => Refusal::StoreGone { store: home.join(store::FILE) }.into(),
            error => Error::from(error),
        })?;
        Ok(Self::of(store))
    }

    /// Makes a module in a home, or goes on where that was cut off. The passphrase is asked for if it is wanted; what
    /// whoever asks refuses comes back as it is.
    pub fn init<E: From<Error> + ToString>(
        home: &Path,
        founding: &Founding,
        mut passphrase: impl FnMut(Wanted) -> Result<Passphrase, E>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Self, E> {
        let name = founding.name.clone().unwrap_or_else(name_of_machine);
        let vault = match Vault::custody(home) {
            Ok(Some(_)) => {
                // Vault and store are made one after the other: what was cut off between them goes on.
                let asked = || passphrase(Wanted::ToOpen).map_err(|why| io::Error::other(why.to_string()));
                let vault = open_vault(home, asked)?;
                match Store::open(home, &vault) {
                    Ok(store) => return Err(exists(&store, founding.name.as_ref()).into()),
                    Err(StoreError::NoModule { .. }) => vault,
                    Err(error) => return Err(Error::from(error).into()),
                }
            }
            Ok(None) | Err(VaultError::Missing { .. }) if Store::exists(home) => {
                return Err(vault_gone(home).into());
            }
            Ok(None) | Err(VaultError::Missing { .. }) => {
                make_vault(home, &founding.custody, || passphrase(Wanted::ToSeal), tell)?
            }
            Err(error) => return Err(Error::from(error).into()),
        };
        let module = store::Module { name, root: mint::akm_id(), created_at: Timestamp::now() };
        Ok(Self::of(Store::create(home, &vault, &module).map_err(Error::from)?))
    }

    fn of(store: Store) -> Self {
        Self { store, keyring: Keyring::default() }
    }
}

fn open_vault(home: &Path, passphrase: impl FnOnce() -> io::Result<Passphrase>) -> Result<Vault, Error> {
    match Vault::open(home, passphrase) {
        Err(VaultError::Missing { .. }) if Store::exists(home) => Err(vault_gone(home)),
        Err(VaultError::Missing { .. }) => Err(StoreError::NoModule { home: home.to_owned() }.into()),
        result => Ok(result?),
    }
}

fn make_vault<E: From<Error>>(
    home: &Path,
    custody: &Custody,
    passphrase: impl FnOnce() -> Result<Passphrase, E>,
    tell: &mut dyn FnMut(Progress),
) -> Result<Vault, E> {
    let made = match custody {
        Custody::KeyFile => Vault::create_with_key_file(home),
        Custody::Passphrase => Vault::create_with_passphrase(home, &passphrase()?),
        Custody::Element(element) => Vault::create_in_element(home, element).map(|(vault, description)| {
            let element = view::Element::from(&description);
            if let Some(warning) = element.warning() {
                tell(Progress::VaultInElement { kind: element.kind, warning });
            }
            vault
        }),
    };
    Ok(made.map_err(Error::from)?)
}

fn vault_gone(home: &Path) -> Error {
    Refusal::VaultGone { home: home.to_owned() }.into()
}

/// There is a module in this home. Whoever names no name asks for none.
fn exists(store: &Store, wanted: Option<&Name>) -> Error {
    let (home, name) = (store.home().to_owned(), store.module().name.clone());
    let is_another = wanted.is_some_and(|wanted| *wanted != name);
    Refusal::Exists { home, name, is_another }.into()
}

/// The host name, where it is a name that a module can have.
fn name_of_machine() -> Name {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    host.parse().unwrap_or_else(|_| "root".parse().expect("a valid name"))
}
