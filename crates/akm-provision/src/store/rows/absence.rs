//! The rows of nodes that could not be reached.

use akm_core::id::AkmId;

use crate::names::Timestamp;
use crate::store::StoreError;
use crate::store::sql::{Sql, values};

/// A node that could not be reached when there was work for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The node.
    pub node: AkmId,
    /// Since when it has not been reached.
    pub since: Timestamp,
    /// When it was tried last.
    pub tried_at: Timestamp,
    /// How often it was tried since.
    pub tries: u32,
    /// What came of the last try.
    pub reason: String,
}

/// All of them, the longest away first.
pub(in crate::store) fn all(sql: Sql<'_>) -> Result<Vec<Absence>, StoreError> {
    sql.all("SELECT node, since, tried_at, tries, reason FROM absences ORDER BY since", &[], |row| {
        Ok(Absence {
            node: row.get("node")?,
            since: row.get("since")?,
            tried_at: row.get("tried_at")?,
            tries: row.get("tries")?,
            reason: row.get("reason")?,
        })
    })
}

/// One more try of a node that came to nothing.
pub(in crate::store) fn note(
    sql: Sql<'_>,
    node: AkmId,
    reason: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    sql.execute(
        "INSERT INTO absences (node, since, tried_at, tries, reason) VALUES (?, ?, ?, 1, ?)
         ON CONFLICT (node) DO UPDATE
             SET tried_at = excluded.tried_at, tries = absences.tries + 1, reason = excluded.reason",
        values![&node, at, at, reason],
    )?;
    Ok(())
}

/// The node is not away any more.
pub(in crate::store) fn forget(sql: Sql<'_>, node: AkmId) -> Result<(), StoreError> {
    sql.execute("DELETE FROM absences WHERE node = ?", values![&node])?;
    Ok(())
}
