//! The rows of the journal, which are only added to.

use std::time::Duration;

use akm_core::id::AkmId;

use crate::names::Timestamp;
use crate::store::StoreError;
use crate::store::sql::{Sql, values};

/// One attempt at one step, as it went into the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The node.
    pub node: AkmId,
    /// The number of the step, from 1 to [`STEPS`](crate::store::STEPS).
    pub step: u8,
    /// The name of the step.
    pub name: String,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// How long it took, to the millisecond.
    pub duration: Duration,
    /// How it ended, for the operator.
    pub outcome: String,
}

/// Adds an entry.
pub(in crate::store) fn add(sql: Sql<'_>, entry: &JournalEntry) -> Result<(), StoreError> {
    let duration = i64::try_from(entry.duration.as_millis()).unwrap_or(i64::MAX);
    sql.execute(
        "INSERT INTO journal (node, step, name, started_at, duration_ms, outcome) VALUES (?, ?, ?, ?, ?, ?)",
        values![
            &entry.node,
            entry.step,
            entry.name.as_str(),
            entry.started_at,
            duration,
            entry.outcome.as_str(),
        ],
    )?;
    Ok(())
}

/// The entries of a node, in the order in which they were written.
pub(in crate::store) fn of_node(sql: Sql<'_>, node: AkmId) -> Result<Vec<JournalEntry>, StoreError> {
    let query = "SELECT node, step, name, started_at, duration_ms, outcome FROM journal
                 WHERE node = ? ORDER BY sequence";
    sql.all(query, values![&node], |row| {
        Ok(JournalEntry {
            node: row.get("node")?,
            step: row.get("step")?,
            name: row.get("name")?,
            started_at: row.get("started_at")?,
            duration: Duration::from_millis(row.get("duration_ms")?),
            outcome: row.get("outcome")?,
        })
    })
}
