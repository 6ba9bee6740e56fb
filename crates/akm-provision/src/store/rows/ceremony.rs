//! The rows of ceremonies: how far each has come.

use akm_core::id::AkmId;

use crate::names::Timestamp;
use crate::store::StoreError;
use crate::store::sql::{Row, Sql, values};

/// How many steps a ceremony has.
pub const STEPS: u8 = 5;

const COLUMNS: &str = "node, completed, started_at, ended_at, last_error FROM ceremonies";

/// How far the ceremony of a node has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceremony {
    /// The node that it makes.
    pub node: AkmId,
    /// The last step that is complete, from 0 to [`STEPS`].
    pub completed: u8,
    /// When it began.
    pub started_at: Timestamp,
    /// When it came to its end: complete, or given up with its node.
    pub ended_at: Option<Timestamp>,
    /// Why the last attempt at the next step failed.
    pub last_error: Option<String>,
}

/// The ceremony of a node.
pub(in crate::store) fn find(sql: Sql<'_>, node: AkmId) -> Result<Option<Ceremony>, StoreError> {
    sql.first(&format!("SELECT {COLUMNS} WHERE node = ?"), values![&node], parse)
}

/// Those that have not come to their end, oldest first.
pub(in crate::store) fn unfinished(sql: Sql<'_>) -> Result<Vec<Ceremony>, StoreError> {
    let query = format!("SELECT {COLUMNS} WHERE ended_at IS NULL ORDER BY started_at, node");
    sql.all(&query, &[], parse)
}

/// Begins the ceremony of a node, with so many steps complete.
pub(in crate::store) fn insert(
    sql: Sql<'_>,
    node: AkmId,
    completed: u8,
    started_at: Timestamp,
) -> Result<(), StoreError> {
    sql.execute(
        "INSERT INTO ceremonies (node, completed, started_at) VALUES (?, ?, ?)",
        values![&node, completed, started_at],
    )?;
    Ok(())
}

/// This step is complete, if the ceremony is under way.
pub(in crate::store) fn complete(sql: Sql<'_>, node: AkmId, step: u8) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE ceremonies SET completed = CASE WHEN completed < ? THEN ? ELSE completed END, last_error = NULL
         WHERE node = ? AND ended_at IS NULL",
        values![step, step, &node],
    )?;
    Ok(())
}

/// The attempt at the next step failed, if the ceremony is under way.
pub(in crate::store) fn fail(sql: Sql<'_>, node: AkmId, error: &str) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE ceremonies SET last_error = ? WHERE node = ? AND ended_at IS NULL",
        values![error, &node],
    )?;
    Ok(())
}

/// All steps are complete. When it first was so stays.
pub(in crate::store) fn finish(sql: Sql<'_>, node: AkmId, at: Timestamp) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE ceremonies SET completed = ?, ended_at = COALESCE(ended_at, ?), last_error = NULL WHERE node = ?",
        values![STEPS, at, &node],
    )?;
    Ok(())
}

/// It ends where it is, if it is under way.
pub(in crate::store) fn abandon(sql: Sql<'_>, node: AkmId, at: Timestamp) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE ceremonies SET ended_at = ? WHERE node = ? AND ended_at IS NULL",
        values![at, &node],
    )?;
    Ok(())
}

fn parse(row: &Row<'_>) -> Result<Ceremony, StoreError> {
    Ok(Ceremony {
        node: row.get("node")?,
        completed: row.get("completed")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        last_error: row.get("last_error")?,
    })
}
