//! Why a module is not made or opened.

use std::path::PathBuf;

use super::Kind;
use crate::names::Name;

/// Why a module is not made or opened, although vault and store may be well each for itself.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The vault is there, and what it opens is not.
    #[error("{} is missing or empty, and the vault is there", .store.display())]
    StoreGone {
        /// The file that should hold the store.
        store: PathBuf,
    },
    /// The store is there, and what opens it is not.
    #[error("there is a module in {}, but its vault is gone", .home.display())]
    VaultGone {
        /// The home of the module.
        home: PathBuf,
    },
    /// There is a module in this home.
    #[error("{} is the home of module {name} already", .home.display())]
    Exists {
        /// The home.
        home: PathBuf,
        /// The module that is there.
        name: Name,
        /// Whether one of another name was ordered.
        is_another: bool,
    },
}

impl Refusal {
    /// What kind of refusal this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::StoreGone { .. } | Self::VaultGone { .. } => Kind::ModuleDamaged,
            Self::Exists { is_another: true, .. } => Kind::OtherName,
            Self::Exists { .. } => Kind::Exists,
        }
    }
}
