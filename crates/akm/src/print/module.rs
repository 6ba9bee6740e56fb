//! The module itself.

use akm_provision::view::Module;

use super::{say, say_json};
use crate::error::CommandError;

/// Who the module is, and where it lives.
pub(crate) fn module(module: &Module, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(module);
    }
    let Module { module, akm_id, home, vault } = module;
    say(&format!("module {module} is the AKM root {akm_id}"))?;
    say(&format!("its home is {}, its vault opens with a {vault}", home.display()))
}
