//! The form of the store, as a list of migrations that only ever grows.

use std::sync::LazyLock;

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::StoreError;

/// The version of the schema that this program writes: how many migrations there are.
pub(super) const VERSION: i64 = STEPS.len() as i64;

const STEPS: &[&str] = &[PROVISIONING, ELEMENTS, GENERATIONS, HOST_KEYS, SUSPECTED];

static MIGRATIONS: LazyLock<Migrations<'static>> =
    LazyLock::new(|| Migrations::new(STEPS.iter().copied().map(M::up).collect()));

/// Identifiers are blobs of 16 bytes, times milliseconds since 1970, paths the bytes of the system.
/// `element_root`, `tree_root` and `header` (later `host_keys`) are sealed under the vault key; null means erased.
const PROVISIONING: &str = "
CREATE TABLE module (
    only_one    INTEGER PRIMARY KEY CHECK (only_one = 1),
    name        TEXT NOT NULL,
    root        BLOB NOT NULL CHECK (length(root) = 16),
    vault_check BLOB NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE relationships (
    id         BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    kind       INTEGER NOT NULL CHECK (kind IN (1, 2)),
    name       TEXT CHECK ((kind = 2) = (name IS NOT NULL)),
    generation INTEGER NOT NULL CHECK (generation > 0),
    status     TEXT NOT NULL CHECK (status IN ('creating', 'acknowledged', 'active', 'ended')),
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX asr_names ON relationships (name) WHERE status <> 'ended';

CREATE TABLE generations (
    relationship    BLOB NOT NULL REFERENCES relationships (id),
    generation      INTEGER NOT NULL CHECK (generation > 0),
    element_version INTEGER NOT NULL CHECK (element_version > 0),
    public          BLOB NOT NULL,
    element_root    BLOB,
    tree_root       BLOB,
    header          BLOB,
    PRIMARY KEY (relationship, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE relationship_members (
    relationship BLOB NOT NULL,
    generation   INTEGER NOT NULL,
    node         BLOB NOT NULL CHECK (length(node) = 16),
    member_index INTEGER NOT NULL CHECK (member_index BETWEEN 0 AND 4095),
    state        TEXT NOT NULL CHECK (state IN ('pending', 'installed', 'active', 'erased')),
    PRIMARY KEY (relationship, generation, node),
    UNIQUE (relationship, generation, member_index),
    FOREIGN KEY (relationship, generation) REFERENCES generations (relationship, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships ON relationship_members (node);

CREATE TABLE places (
    relationship BLOB NOT NULL,
    generation   INTEGER NOT NULL,
    place        BLOB NOT NULL,
    PRIMARY KEY (relationship, generation),
    FOREIGN KEY (relationship, generation) REFERENCES generations (relationship, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
    sequence             INTEGER PRIMARY KEY,
    id                   BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    name                 TEXT NOT NULL,
    holds_name           INTEGER NOT NULL CHECK (holds_name IN (0, 1)),
    status               TEXT NOT NULL
        CHECK (status IN ('provisioning', 'active', 'removing', 'replaced', 'removed')),
    target               TEXT NOT NULL,
    ssh_config           BLOB,
    element_spec         TEXT NOT NULL,
    listen               TEXT,
    endpoint             TEXT,
    stack                BLOB,
    stack_version        TEXT,
    integrity_code       BLOB CHECK (length(integrity_code) = 32),
    relationship         BLOB NOT NULL UNIQUE REFERENCES relationships (id),
    element_kind         TEXT,
    element_manufacturer TEXT,
    element_serial       TEXT,
    element_firmware     TEXT,
    element_protection   TEXT CHECK (element_protection IN ('hardware', 'software')),
    element_sealed       INTEGER CHECK (element_sealed IN (0, 1)),
    element_counter      INTEGER CHECK (element_counter IN (0, 1)),
    replaces             BLOB REFERENCES nodes (id),
    created_at           INTEGER NOT NULL,
    verified_at          INTEGER
) STRICT;
CREATE UNIQUE INDEX node_names ON nodes (name) WHERE holds_name = 1;
CREATE UNIQUE INDEX node_replacements ON nodes (replaces) WHERE status = 'provisioning';
CREATE INDEX node_targets ON nodes (target);
CREATE INDEX node_elements ON nodes (element_serial);

CREATE TABLE ceremonies (
    node       BLOB PRIMARY KEY NOT NULL REFERENCES nodes (id),
    completed  INTEGER NOT NULL CHECK (completed BETWEEN 0 AND 5),
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    last_error TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
    sequence    INTEGER PRIMARY KEY,
    node        BLOB NOT NULL REFERENCES nodes (id),
    step        INTEGER NOT NULL CHECK (step BETWEEN 1 AND 5),
    name        TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome     TEXT NOT NULL
) STRICT;
CREATE INDEX journal_of_node ON journal (node);
CREATE TRIGGER journal_is_not_rewritten BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END;
CREATE TRIGGER journal_is_not_erased BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END;
";

/// Where the state of a node waits whose element was filled here, and the static keys of cards, sealed under the
/// vault key.
const ELEMENTS: &str = "
ALTER TABLE nodes ADD COLUMN station BLOB;

CREATE TABLE card_keys (
    manufacturer TEXT NOT NULL,
    serial       TEXT NOT NULL,
    keys         BLOB NOT NULL,
    PRIMARY KEY (manufacturer, serial)
) STRICT, WITHOUT ROWID;
";

/// When a generation was made and whether the word to activate it was given, when an ASR ended, and nodes that could
/// not be reached.
const GENERATIONS: &str = "
ALTER TABLE generations ADD COLUMN made_at INTEGER;
ALTER TABLE generations ADD COLUMN released INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1));
ALTER TABLE relationships ADD COLUMN ended_at INTEGER;

CREATE TABLE absences (
    node     BLOB PRIMARY KEY NOT NULL REFERENCES nodes (id),
    since    INTEGER NOT NULL,
    tried_at INTEGER NOT NULL,
    tries    INTEGER NOT NULL CHECK (tries > 0),
    reason   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Header key, tag and resync key stand in one column. What was kept before there was a resync key speaks to no stack.
const HOST_KEYS: &str = "
UPDATE generations SET header = NULL;
ALTER TABLE generations RENAME COLUMN header TO host_keys;
";

/// Whether a generation was made because of a suspicion: then a member gets it only after a generation of its own
/// provisioning relationship.
const SUSPECTED: &str = "
ALTER TABLE generations ADD COLUMN suspected INTEGER NOT NULL DEFAULT 0 CHECK (suspected IN (0, 1));
";

/// The version of the schema in this file; zero if it is empty.
pub(super) fn version_of(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Brings the file to [`VERSION`]. The caller holds the lock for it.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    MIGRATIONS.to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => err.into(),
        other => StoreError::Unavailable(Box::new(other)),
    })
}

/// The statements that make an earlier form.
#[cfg(test)]
pub(super) fn up_to(version: i64) -> String {
    STEPS[..version as usize].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_apply_to_an_empty_file() {
        MIGRATIONS.validate().unwrap();
    }
}
