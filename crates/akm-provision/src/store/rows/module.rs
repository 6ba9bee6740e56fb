//! The one row of the module itself.

use akm_core::id::AkmId;

use crate::names::{Name, Timestamp};
use crate::store::StoreError;
use crate::store::sql::{Sql, values};

/// The module itself: the AKM root and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The name that the operator gave.
    pub name: Name,
    /// The AKM ID of the root: the only node without a provisioning relationship.
    pub root: AkmId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The module and its vault check; `None` if nobody finished making it.
pub(in crate::store) fn find(sql: Sql<'_>) -> Result<Option<(Module, Vec<u8>)>, StoreError> {
    sql.first("SELECT name, root, vault_check, created_at FROM module", &[], |row| {
        let module =
            Module { name: row.get("name")?, root: row.get("root")?, created_at: row.get("created_at")? };
        Ok((module, row.get("vault_check")?))
    })
}

/// Enters the module; false if one stands there already.
pub(in crate::store) fn insert(
    sql: Sql<'_>,
    module: &Module,
    vault_check: &[u8],
) -> Result<bool, StoreError> {
    let inserted = sql.execute(
        "INSERT INTO module (only_one, name, root, vault_check, created_at) VALUES (1, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
        values![&module.name, &module.root, vault_check, module.created_at],
    )?;
    Ok(inserted > 0)
}
