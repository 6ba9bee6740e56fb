//! The module itself.

use std::path::Path;

use crate::error::CommandError;
use akm_provision::store::Store;
use akm_provision::vault::{Custody, Vault};
use serde_json::json;

use super::{say, say_json};

pub(crate) fn module(store: &Store, as_json: bool) -> Result<(), CommandError> {
    let module = store.module();
    let custody = custody_word(store.home());
    if as_json {
        return say_json(&json!({
            "module": module.name.as_str(),
            "akm_id": module.root.to_string(),
            "home": store.home().to_string_lossy(),
            "vault": custody,
        }));
    }
    say(&format!("module {} is the AKM root {}", module.name, module.root))?;
    say(&format!("its home is {}, its vault opens with a {custody}", store.home().display()))
}

/// Whether a vault asks for a passphrase.
fn custody_word(home: &Path) -> &'static str {
    match Vault::custody(home) {
        Ok(Some(Custody::Passphrase)) => "passphrase",
        Ok(Some(Custody::Element)) => "secure element",
        _ => "key file",
    }
}
