//! The module itself.

use std::path::{Path, PathBuf};

use akm_core::id::AkmId;
use serde::{Serialize, Serializer};

use super::text;
use crate::names::Name;
use crate::store::Store;
use crate::vault::{Custody, Vault};

/// Who the module is, and where it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its name.
    pub module: Name,
    /// Its AKM ID.
    #[serde(serialize_with = "text")]
    pub akm_id: AkmId,
    /// The directory that holds all that it knows.
    #[serde(serialize_with = "path")]
    pub home: PathBuf,
    /// What opens its vault, in words.
    pub vault: &'static str,
}

impl Module {
    /// The module of a store.
    pub(crate) fn of(store: &Store) -> Self {
        let vault = match Vault::custody(store.home()) {
            Ok(Some(Custody::Passphrase)) => "passphrase",
            Ok(Some(Custody::Element)) => "secure element",
            _ => "key file",
        };
        let module = store.module();
        Self { module: module.name.clone(), akm_id: module.root, home: store.home().to_owned(), vault }
    }
}

fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
