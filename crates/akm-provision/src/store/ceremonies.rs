//! How far each ceremony has come, and its journal.

use std::time::Duration;

use akm_core::id::AkmId;
use rusqlite::{Connection, Row, Transaction, params};

use super::columns;
use super::nodes::{self, Node};
use super::{Store, StoreError, all, first};
use crate::names::Timestamp;

/// How many steps a ceremony has.
pub const STEPS: u8 = 5;

/// The step that brings a node to its target.
const INSTALL: u8 = 3;

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

/// One attempt at one step, as it went into the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The node.
    pub node: AkmId,
    /// The number of the step, from 1 to [`STEPS`].
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

impl Store {
    /// The ceremony of a node.
    pub fn ceremony(&self, node: AkmId) -> Result<Option<Ceremony>, StoreError> {
        self.read(|connection| find(connection, node))
    }

    /// The ceremonies that have not come to their end, each with its node, oldest first.
    pub fn unfinished_ceremonies(&self) -> Result<Vec<(Node, Ceremony)>, StoreError> {
        let sql = format!("SELECT {COLUMNS} WHERE ended_at IS NULL ORDER BY started_at, node");
        self.read(|connection| {
            all(connection, &sql, [], |row| {
                let ceremony = parse(row)?;
                let node = nodes::require(connection, ceremony.node)?;
                Ok((node, ceremony))
            })
        })
    }

    /// A step is complete. No step can be left out; completing one again changes nothing.
    ///
    /// Step 5 is completed by [`Store::activate_node`] or [`Store::replace_node`].
    pub fn complete_step(&self, node: AkmId, step: u8) -> Result<(), StoreError> {
        self.write(|transaction| {
            let ceremony = find(transaction, node)?.ok_or_else(|| nodes::unknown(node))?;
            if step == 0 || step >= STEPS || step > ceremony.completed + 1 {
                let why = format!(
                    "step {step} cannot be completed after step {} (node {node})",
                    ceremony.completed
                );
                return Err(StoreError::refused(why));
            }
            transaction.execute(
                "UPDATE ceremonies SET completed = max(completed, ?), last_error = NULL
                 WHERE node = ? AND ended_at IS NULL",
                params![step, node.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// The attempt at the next step failed. `error` is for the operator and holds no secret.
    pub fn fail_step(&self, node: AkmId, error: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE ceremonies SET last_error = ? WHERE node = ? AND ended_at IS NULL",
                params![error, node.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// Adds an entry to the journal, which is never rewritten.
    pub fn journal(&self, entry: &JournalEntry) -> Result<(), StoreError> {
        let duration = i64::try_from(entry.duration.as_millis()).unwrap_or(i64::MAX);
        self.write(|transaction| {
            nodes::require(transaction, entry.node)?;
            transaction.execute(
                "INSERT INTO journal (node, step, name, started_at, duration_ms, outcome)
                 VALUES (?, ?, ?, ?, ?, ?)",
                params![
                    entry.node.as_bytes(),
                    entry.step,
                    entry.name,
                    entry.started_at.as_unix_millis(),
                    duration,
                    entry.outcome
                ],
            )?;
            Ok(())
        })
    }

    /// The journal of a node, in the order in which it was written.
    pub fn journal_of(&self, node: AkmId) -> Result<Vec<JournalEntry>, StoreError> {
        let sql = "SELECT node, step, name, started_at, duration_ms, outcome FROM journal
                   WHERE node = ? ORDER BY sequence";
        self.read(|connection| {
            all(connection, sql, [node.as_bytes()], |row| {
                let millis: u64 = row.get("duration_ms")?;
                Ok(JournalEntry {
                    node: columns::akm_id(row, "node")?,
                    step: row.get("step")?,
                    name: row.get("name")?,
                    started_at: columns::timestamp(row, "started_at")?,
                    duration: Duration::from_millis(millis),
                    outcome: row.get("outcome")?,
                })
            })
        })
    }
}

/// Begins the ceremony of a node whose relationship is made and saved: steps 1 and 2 are complete
/// when the transaction is.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    node: AkmId,
    started_at: Timestamp,
) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO ceremonies (node, completed, started_at) VALUES (?, 2, ?)",
        params![node.as_bytes(), started_at.as_unix_millis()],
    )?;
    Ok(())
}

/// The node is verified, which completes the last step. Refused before the one before it.
pub(super) fn finish(transaction: &Transaction<'_>, node: AkmId, at: Timestamp) -> Result<(), StoreError> {
    let ceremony = find(transaction, node)?.ok_or_else(|| nodes::unknown(node))?;
    if ceremony.completed + 1 < STEPS {
        let why = format!("node {node} has come to step {} of {STEPS} only", ceremony.completed);
        return Err(StoreError::refused(why));
    }
    transaction.execute(
        "UPDATE ceremonies SET completed = ?, ended_at = coalesce(ended_at, ?), last_error = NULL
         WHERE node = ?",
        params![STEPS, at.as_unix_millis(), node.as_bytes()],
    )?;
    Ok(())
}

/// Whether the step is complete that brings a node to its target.
pub(super) fn is_at_target(transaction: &Transaction<'_>, node: AkmId) -> Result<bool, StoreError> {
    Ok(find(transaction, node)?.is_some_and(|ceremony| ceremony.completed >= INSTALL))
}

/// The ceremony of a node that is given up ends where it is.
pub(super) fn abandon(transaction: &Transaction<'_>, node: AkmId, at: Timestamp) -> Result<(), StoreError> {
    transaction.execute(
        "UPDATE ceremonies SET ended_at = ? WHERE node = ? AND ended_at IS NULL",
        params![at.as_unix_millis(), node.as_bytes()],
    )?;
    Ok(())
}

fn find(connection: &Connection, node: AkmId) -> Result<Option<Ceremony>, StoreError> {
    first(connection, &format!("SELECT {COLUMNS} WHERE node = ?"), [node.as_bytes()], parse)
}

fn parse(row: &Row<'_>) -> Result<Ceremony, StoreError> {
    Ok(Ceremony {
        node: columns::akm_id(row, "node")?,
        completed: row.get("completed")?,
        started_at: columns::timestamp(row, "started_at")?,
        ended_at: columns::optional_timestamp(row, "ended_at")?,
        last_error: row.get("last_error")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{AT, Fixture, LATER};

    #[test]
    fn steps_are_completed_in_order_and_repeating_changes_nothing() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a").id;
        let store = &fixture.store;
        assert_eq!(store.ceremony(node).unwrap().unwrap().completed, 2);
        for step in [0, 4, 5] {
            assert!(matches!(store.complete_step(node, step), Err(StoreError::Refused { .. })), "{step}");
        }
        for step in [3, 3, 4, 3] {
            store.complete_step(node, step).unwrap();
        }
        assert!(matches!(store.complete_step(node, 5), Err(StoreError::Refused { .. })));
        assert_eq!(store.ceremony(node).unwrap().unwrap().completed, 4);
    }

    #[test]
    fn the_last_error_stays_until_the_step_is_complete() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a").id;
        let last_error = || fixture.store.ceremony(node).unwrap().unwrap().last_error;
        fixture.store.fail_step(node, "no route to host").unwrap();
        assert_eq!(last_error().as_deref(), Some("no route to host"));
        fixture.store.complete_step(node, 3).unwrap();
        assert_eq!(last_error(), None);
    }

    #[test]
    fn ceremonies_are_unfinished_until_their_node_is_active_or_given_up() {
        let fixture = Fixture::new();
        let nodes = ["a", "b", "c"].map(|name| fixture.create_node(name));
        fixture.activate(&nodes[0]);
        fixture.store.remove_node(nodes[1].id, LATER).unwrap();
        let unfinished = fixture.reopen().unfinished_ceremonies().unwrap();
        assert_eq!(unfinished.len(), 1);
        assert_eq!(unfinished[0].0, nodes[2]);
        assert_eq!(unfinished[0].1.started_at, AT);
        let given_up = fixture.store.ceremony(nodes[1].id).unwrap().unwrap();
        assert_eq!((given_up.completed, given_up.ended_at), (2, Some(LATER)));
    }

    #[test]
    fn the_journal_keeps_every_attempt_in_order_and_is_not_rewritten() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a").id;
        let entry = |outcome: &str| JournalEntry {
            node,
            step: 3,
            name: "install".to_owned(),
            started_at: AT,
            duration: Duration::from_millis(1_234),
            outcome: outcome.to_owned(),
        };
        fixture.store.journal(&entry("no route to host")).unwrap();
        fixture.store.journal(&entry("done")).unwrap();
        assert_eq!(fixture.store.journal_of(node).unwrap(), [entry("no route to host"), entry("done")]);
        assert!(fixture.try_execute("UPDATE journal SET outcome = 'done'").is_err());
        assert!(fixture.try_execute("DELETE FROM journal").is_err());
        let stranger = AkmId::from_random([9; 16]);
        let refused = fixture.store.journal(&JournalEntry { node: stranger, ..entry("done") });
        assert!(matches!(refused, Err(StoreError::Refused { .. })));
    }
}
