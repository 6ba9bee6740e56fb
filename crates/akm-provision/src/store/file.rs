//! The store's file: all that is SQLite's own, but for the statements of its form (`schema.rs`).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use akm_disk::{DiskError, durable, private};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::rows::module;
use super::sql::Sql;
use super::{Module, StoreError, schema};
use crate::lock::{Lock, LockKey};

pub(crate) const FILE: &str = "store.db";

/// How long a call waits for the transactions of others: a hundred commands may want to write, each with syncs of a
/// busy disk.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often it looks whether it is its turn.
const LOOK: Duration = Duration::from_millis(10);

/// The open file, with one connection that its threads share.
pub(super) struct File {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// How long a call waits for others: at all, or not.
    patience: Duration,
    /// Whether there was something in the write-ahead log when it was opened.
    has_log: bool,
}

impl File {
    /// Makes the file of a module; false if there is one already. Cut off half-way, it can be called again.
    pub(super) fn create(home: &Path, module: &Module, vault_check: &[u8]) -> Result<bool, StoreError> {
        let path = home.join(FILE);
        let _held = Lock::acquire(home, LockKey::Schema, PATIENCE)?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(private::FILE_MODE)
            .open(&path)
            .map_err(DiskError::system("cannot write", &path))?;
        durable::sync_directory_of(&path)?;
        make_tables(&path, module, vault_check).map_err(|error| error.in_file(&path))
    }

    /// Opens the file, and brings its form up to date if an earlier version wrote it.
    pub(super) fn open(home: &Path, patience: Duration) -> Result<Self, StoreError> {
        let path = home.join(FILE);
        check_files(home, &path)?;
        let has_log = has_log(&path);
        let connection = Self::connect(home, &path, patience).map_err(|error| error.in_file(&path))?;
        Ok(Self { path, connection: Mutex::new(connection), patience, has_log })
    }

    fn connect(home: &Path, path: &Path, patience: Duration) -> Result<Connection, StoreError> {
        let mut connection = connect(path, patience)?;
        if schema::version_of(&connection)? < schema::VERSION {
            let _held = Lock::acquire(home, LockKey::Schema, patience)?;
            schema::migrate(&mut connection)?;
        }
        Ok(connection)
    }

    /// Lets the log that was found beside the file become part of it, once they are known to belong together.
    pub(super) fn accept_log(&self) -> Result<(), StoreError> {
        if self.has_log {
            let connection = self.connection();
            let checked = check_pages(&connection).and_then(|()| {
                Ok(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?)
            });
            checked.map_err(|error| error.in_file(&self.path))?;
        }
        Ok(())
    }

    /// Reads from one state of the store, whatever others write meanwhile.
    pub(super) fn read<T>(
        &self,
        statements: impl FnOnce(Sql<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transaction(TransactionBehavior::Deferred, statements)
    }

    /// Writes all or nothing.
    pub(super) fn write<T>(
        &self,
        statements: impl FnOnce(Sql<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transaction(TransactionBehavior::Immediate, statements)
    }

    fn transaction<T>(
        &self,
        behavior: TransactionBehavior,
        statements: impl FnOnce(Sql<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        transact(&mut connection, behavior, statements).map_err(|error| {
            if let StoreError::Damaged { .. } = error {
                // It may be the log that does not fit: then the file is still whole without it.
                let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            }
            error.in_file(&self.path)
        })
    }

    /// Takes what was erased out of the write-ahead log too, unless others are reading it: then the
    /// next such call, or the end of the last command, does.
    pub(super) fn forget_log(&self) -> Result<(), StoreError> {
        let connection = self.connection();
        connection.busy_timeout(Duration::ZERO)?;
        let outcome = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        be_patient(&connection, self.patience)?;
        match outcome.map_err(StoreError::from) {
            Ok(()) | Err(StoreError::Held) => Ok(()),
            Err(error) => Err(error.in_file(&self.path)),
        }
    }

    /// A thread that panicked has rolled its transaction back on the way out.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn transact<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    statements: impl FnOnce(Sql<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(behavior)?;
    let done = statements(Sql::new(&transaction))?;
    transaction.commit()?;
    Ok(done)
}

/// Whether there is something in the write-ahead log: a command is at work, or one was killed.
fn has_log(path: &Path) -> bool {
    path.with_extension("db-wal").metadata().is_ok_and(|log| log.len() > 0)
}

fn check_files(home: &Path, path: &Path) -> Result<(), StoreError> {
    for checked in [home, path] {
        let metadata = match checked.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoModule { home: home.to_owned() });
            }
            Err(source) => return Err(DiskError::system("cannot use", checked)(source).into()),
        };
        private::check(checked, &metadata, private::OWNER_ONLY)?;
        if checked == path && !metadata.is_file() {
            return Err(DiskError::Misplaced { path: path.to_owned(), wanted: "regular file" }.into());
        }
        // Nobody finished making it. SQLite would take it for its own, and the log beside it for a leftover.
        if checked == path && metadata.len() == 0 {
            return Err(StoreError::NoModule { home: home.to_owned() });
        }
    }
    Ok(())
}

/// Brings an empty file to the latest form and enters the module; false if one stands there already.
fn make_tables(path: &Path, module: &Module, vault_check: &[u8]) -> Result<bool, StoreError> {
    let mut connection = connect(path, PATIENCE)?;
    schema::migrate(&mut connection)?;
    module::insert(Sql::new(&connection), module, vault_check)
}

fn connect(path: &Path, patience: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let has_log = has_log(path);
    let connection = Connection::open_with_flags(path, flags)?;
    // What a log beside it says is not made part of the file before it is known to belong there.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log)?;
    be_patient(&connection, patience)?;
    let found = schema::version_of(&connection)?;
    if found > schema::VERSION {
        return Err(StoreError::NewerSchema { found, known: schema::VERSION });
    }
    for (pragma, value) in [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("foreign_keys", "ON"),
        ("secure_delete", "ON"),
        ("temp_store", "MEMORY"),
        ("trusted_schema", "OFF"),
    ] {
        connection.pragma_update(None, pragma, value)?;
    }
    Ok(connection)
}

/// Waits for others, all alike. SQLite's own waits grow longer each time, so that who has waited long is passed by who has
/// just come: with a hundred commands some never get their turn.
fn be_patient(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    if patience.is_zero() {
        return connection.busy_timeout(patience);
    }
    connection.busy_handler(Some(|looks| {
        thread::sleep(LOOK);
        LOOK * looks.unsigned_abs() < PATIENCE
    }))
}

/// Whether the pages of the file and of the log beside it fit together: a log of another store, or of another time,
/// is whole for itself.
fn check_pages(connection: &Connection) -> Result<(), StoreError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Damaged { what: found.replace('\n', " ") }) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;

    #[test]
    fn durability_and_erasing_are_switched_on_for_each_connection() {
        let fixture = Fixture::new();
        let connection = fixture.store.file.connection.lock().unwrap();
        let number =
            |pragma: &str| -> i64 { connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap() };
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        let numbers = ["synchronous", "foreign_keys", "secure_delete"].map(number);
        assert_eq!(numbers, [2, 1, 1]);
    }
}
