//! What the provisioning module knows, durably: `$AKM_HOME/store.db` (SQLite).
//!
//! ```text
//!   module ---- nodes ---- ceremonies ---- journal          who, where, how far
//!                 |
//!          relationships ---- generations ---- members      what binds them; secrets sealed
//!                                  |
//!                               places                      where the module itself stands
//! ```
//!
//! What it promises: each call is one transaction that is on the disk when the call returns, so a
//! command that is killed leaves all of a call or nothing. Secrets are sealed under the
//! [`Vault`] and bound to their row; what is erased is overwritten. Several
//! threads and several commands can use the store at once.
//!
//! What it does not do: read a clock, or decide when a secret may go; it only refuses what would
//! make a relationship useless.

mod card_keys;
mod ceremonies;
mod columns;
mod generations;
mod nodes;
mod relationships;
mod schema;

#[cfg(test)]
pub(crate) mod fixture;

use std::error::Error;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use akm_core::id::AkmId;
use akm_disk::{DiskError, advice, durable, private};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};

use crate::lock::{Lock, LockError, LockKey};
use crate::names::{Name, Timestamp};
use crate::vault::Vault;

pub use ceremonies::{Ceremony, JournalEntry, STEPS};
pub use generations::{Absence, Leftover};
pub use nodes::{NewNode, Node, NodeStatus, Settled};
pub use relationships::{Member, MemberState, Relationship, RelationshipSecrets, RelationshipStatus};

const FILE: &str = "store.db";

/// How long a call waits for the transactions of others: a hundred commands may want to write, each with syncs of a
/// busy disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it looks whether it is its turn.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes that a log and its index take at least.
const PROBE: usize = 64 * 1024;

/// Sealed in the store, so that another vault key is noticed when the store is opened.
const VAULT_CHECK: &[u8] = b"akm store";
const VAULT_CHECK_CONTEXT: &str = "module/vault_check";

/// Why the store did not do what was asked.
///
/// Nothing was changed, except that after [`StoreError::Unavailable`] it may have been: then open
/// the store again and look.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store, or nobody finished making it.
    #[error("no module here: run `akm init` (nothing in {home})", home = .home.display())]
    NoModule {
        /// The module's home.
        home: PathBuf,
    },
    /// A later version of this program wrote it.
    #[error(
        "the store has schema {found} and this akm knows up to {known}: use the akm that last wrote it, or a later one"
    )]
    NewerSchema {
        /// The schema of the file.
        found: i64,
        /// The latest schema that this program knows.
        known: i64,
    },
    /// Another command is writing and did not finish in time.
    #[error("the store is held by another command: try again when it is done")]
    Held,
    /// What was to be made is there, or its name is taken.
    #[error("{what} exists already")]
    Exists {
        /// What is there.
        what: String,
    },
    /// It is not there, or its state does not allow this.
    #[error("{why}")]
    Refused {
        /// What stands against it.
        why: String,
    },
    /// The vault key is not the one that the store is sealed under.
    #[error(
        "the vault key is not the one that the store is sealed under ({home}): put store.db and the vault key back \
         from the same backup",
        home = .home.display()
    )]
    WrongVault {
        /// The module's home.
        home: PathBuf,
    },
    /// Something in it is not what this program wrote.
    #[error("the store is damaged ({what}): restore it from a backup")]
    Damaged {
        /// Where.
        what: String,
    },
    /// The file or its directory cannot be used.
    #[error(transparent)]
    File(#[from] DiskError),
    /// The system failed: no space, no access, no random bytes.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    fn damaged(what: &str) -> Self {
        Self::Damaged { what: what.to_owned() }
    }

    fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }

    /// The same, with the file that it is about.
    fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Damaged { what } => Self::Damaged { what: format!("{what}, in {}", path.display()) },
            Self::Unavailable(error) => {
                let advice =
                    error.downcast_ref().map_or_else(String::new, |error| sqlite_advice(error, path));
                Self::Unavailable(format!("{}: {error}{advice}", path.display()).into())
            }
            other => other,
        }
    }
}

/// What a person can do about an error of SQLite that is none of the store's content.
fn sqlite_advice(error: &rusqlite::Error, path: &Path) -> String {
    let code = error.sqlite_error_code();
    if code == Some(ErrorCode::DiskFull) {
        return advice(&io::ErrorKind::StorageFull.into()).to_owned();
    }
    if !matches!(
        code,
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
        )
    ) {
        return String::new();
    }
    match obstacle(path) {
        Some((path, error)) => format!(" ({}: {error}){}", path.display(), advice(&error)),
        None => String::new(),
    }
}

/// What stands against using the store's files, as SQLite does not tell the error of the system. None of them is
/// opened here: closing it again would let go of SQLite's own locks.
fn obstacle(path: &Path) -> Option<(PathBuf, io::Error)> {
    use rustix::fs::{Access, access};
    for suffix in ["db", "db-wal", "db-shm"] {
        let path = path.with_extension(suffix);
        let found = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            // SQLite follows a link to the store itself, and to nothing beside it.
            Ok(metadata) if metadata.is_symlink() && suffix != "db" => Err(rustix::io::Errno::LOOP.into()),
            Ok(_) => access(&path, Access::READ_OK | Access::WRITE_OK).map_err(io::Error::from),
        };
        if let Err(error) = found {
            return Some((path, error));
        }
    }
    let probe = path.with_extension(format!("probe-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(private::FILE_MODE)
        .open(&probe)
        .and_then(|mut file| file.write_all(&[0; PROBE]).and_then(|()| file.sync_all()));
    // Where it could not be made there is nothing to remove.
    let _ = std::fs::remove_file(&probe);
    written.err().map(|error| (path.parent().unwrap_or(path).to_owned(), error))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        match (error.sqlite_error_code(), &error) {
            (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => Self::Held,
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _)
            | (None, InvalidColumnType(..) | FromSqlConversionFailure(..) | IntegralValueOutOfRange(..)) => {
                Self::Damaged { what: error.to_string() }
            }
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

impl From<LockError> for StoreError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { .. } => Self::Held,
            LockError::File(error) => Self::File(error),
        }
    }
}

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

/// The open store of a module.
pub struct Store {
    connection: Mutex<Connection>,
    vault: Vault,
    home: PathBuf,
    module: Module,
    /// How long a call waits for others: at all, or not.
    patience: Duration,
}

impl Store {
    /// Makes the store of a module. Cut off half-way, it can be called again.
    pub fn create(home: &Path, vault: &Vault, module: &Module) -> Result<Self, StoreError> {
        private::make_home(home)?;
        let path = home.join(FILE);
        let sealed = seal(vault, VAULT_CHECK_CONTEXT, VAULT_CHECK)?;

        let held = Lock::acquire(home, LockKey::Schema, PATIENCE)?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(private::FILE_MODE)
            .open(&path)
            .map_err(DiskError::system("cannot write", &path))?;
        durable::sync_directory_of(&path)?;
        let made = make_tables(&path, module, &sealed).map_err(|error| error.in_file(&path))?;
        drop(held);
        if made == 0 {
            return Err(StoreError::Exists { what: format!("the module in {}", home.display()) });
        }
        Self::open(home, vault)
    }

    /// Whether there is a store, of whatever form.
    pub fn exists(home: &Path) -> bool {
        home.join(FILE).exists()
    }

    /// Opens the store, and brings its form up to date if an earlier version wrote it.
    pub fn open(home: &Path, vault: &Vault) -> Result<Self, StoreError> {
        Self::open_with(home, vault, PATIENCE)
    }

    fn open_with(home: &Path, vault: &Vault, patience: Duration) -> Result<Self, StoreError> {
        let path = home.join(FILE);
        check_files(home, &path)?;
        Self::open_checked(home, &path, vault, patience).map_err(|error| error.in_file(&path))
    }

    fn open_checked(home: &Path, path: &Path, vault: &Vault, patience: Duration) -> Result<Self, StoreError> {
        let has_log = has_log(path);
        let mut connection = connect(path, patience)?;
        if schema::version_of(&connection)? < schema::VERSION {
            let _held = Lock::acquire(home, LockKey::Schema, patience)?;
            schema::migrate(&mut connection)?;
        }
        let (module, sealed) =
            read_module(&connection)?.ok_or_else(|| StoreError::NoModule { home: home.to_owned() })?;
        match vault.open_sealed(VAULT_CHECK_CONTEXT, &sealed) {
            Ok(plain) if &plain[..] == VAULT_CHECK => {}
            _ => return Err(StoreError::WrongVault { home: home.to_owned() }),
        }
        if has_log {
            check_pages(&connection)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        }
        let (connection, vault, home) = (Mutex::new(connection), vault.clone(), home.to_owned());
        Ok(Self { connection, vault, home, module, patience })
    }

    /// The module that this store belongs to.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The directory that holds the store, the vault and the locks.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The vault under which the store is sealed.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Reads from one state of the store, whatever others write meanwhile.
    fn read<T>(
        &self,
        statements: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transaction(TransactionBehavior::Deferred, |transaction| statements(transaction))
    }

    /// Writes all or nothing.
    fn write<T>(
        &self,
        statements: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transaction(TransactionBehavior::Immediate, statements)
    }

    fn transaction<T>(
        &self,
        behavior: TransactionBehavior,
        statements: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A thread that panicked has rolled its transaction back on the way out.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        transact(&mut connection, behavior, statements).map_err(|error| {
            if let StoreError::Damaged { .. } = error {
                // It may be the log that does not fit: then the file is still whole without it.
                let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            }
            error.in_file(&self.home.join(FILE))
        })
    }

    /// Takes what was erased out of the write-ahead log too, unless others are reading it: then the
    /// next such call, or the end of the last command, does.
    fn forget_log(&self) -> Result<(), StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.busy_timeout(Duration::ZERO)?;
        let outcome = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        be_patient(&connection, self.patience)?;
        match outcome.map_err(StoreError::from) {
            Ok(()) | Err(StoreError::Held) => Ok(()),
            Err(error) => Err(error.in_file(&self.home.join(FILE))),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Whether there is something in the write-ahead log: a command is at work, or one was killed.
fn has_log(path: &Path) -> bool {
    path.with_extension("db-wal").metadata().is_ok_and(|log| log.len() > 0)
}

/// Whether the pages of the file and of the log beside it fit together: a log of another store, or of another time,
/// is whole for itself.
fn check_pages(connection: &Connection) -> Result<(), StoreError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Damaged { what: found.replace('\n', " ") }) }
}

fn transact<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    statements: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(behavior)?;
    let done = statements(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Brings an empty file to the latest form and enters the module; 0 if one stands there already.
fn make_tables(path: &Path, module: &Module, sealed: &[u8]) -> Result<usize, StoreError> {
    let mut connection = connect(path, PATIENCE)?;
    schema::migrate(&mut connection)?;
    Ok(connection.execute(
        "INSERT OR IGNORE INTO module (only_one, name, root, vault_check, created_at)
         VALUES (1, ?, ?, ?, ?)",
        params![module.name.as_str(), module.root.as_bytes(), sealed, module.created_at.as_unix_millis()],
    )?)
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

fn read_module(connection: &Connection) -> Result<Option<(Module, Vec<u8>)>, StoreError> {
    let mut statement = connection.prepare("SELECT name, root, vault_check, created_at FROM module")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let module = Module {
        name: columns::name(row, "name")?,
        root: columns::akm_id(row, "root")?,
        created_at: columns::timestamp(row, "created_at")?,
    };
    Ok(Some((module, row.get("vault_check")?)))
}

fn seal(vault: &Vault, context: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    vault.seal(context, plain).map_err(|error| StoreError::Unavailable(Box::new(error)))
}

/// The first row of a query, made into what it stands for.
fn first<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    parse: impl FnOnce(&rusqlite::Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    rows.next()?.map(parse).transpose()
}

/// All rows of a query, each made into what it stands for.
fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    parse: impl FnMut(&rusqlite::Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    connection.prepare_cached(sql)?.query_and_then(parameters, parse)?.collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::thread;

    use super::fixture::Fixture;
    use super::*;

    #[test]
    fn without_a_store_the_error_says_how_to_make_one() {
        let top = tempfile::tempdir().unwrap();
        let vault = Vault::create_with_key_file(&top.path().join("akm")).unwrap();
        for home in [top.path().join("none"), top.path().join("akm")] {
            let error = Store::open(&home, &vault).unwrap_err();
            assert!(error.to_string().starts_with("no module here: run `akm init`"), "{error}");
        }
    }

    #[test]
    fn a_module_is_made_once_and_reads_back() {
        let fixture = Fixture::new();
        let module = fixture.store.module();
        let other = Module { name: "other".parse().unwrap(), ..module.clone() };
        let again = Store::create(fixture.store.home(), fixture.store.vault(), &other);
        assert!(matches!(again, Err(StoreError::Exists { .. })));
        assert_eq!(fixture.reopen().module(), module);
    }

    #[test]
    fn a_store_that_nobody_finished_making_is_no_module_and_can_be_finished() {
        let fixture = Fixture::new();
        fixture.execute("DELETE FROM module");
        let (home, vault) = (fixture.store.home(), fixture.store.vault());
        assert!(matches!(Store::open(home, vault), Err(StoreError::NoModule { .. })));
        Store::create(home, vault, fixture.store.module()).unwrap();
    }

    #[test]
    fn another_vault_key_is_noticed_when_the_store_is_opened() {
        let fixture = Fixture::new();
        let other = Fixture::new();
        let opened = Store::open(fixture.store.home(), other.store.vault());
        assert!(matches!(opened, Err(StoreError::WrongVault { .. })));
    }

    #[test]
    fn a_store_of_a_later_version_is_left_alone() {
        let fixture = Fixture::new();
        fixture.execute(&format!("PRAGMA user_version = {}", schema::VERSION + 1));
        let error = Store::open(fixture.store.home(), fixture.store.vault()).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { .. }));
        assert!(error.to_string().contains(&format!("schema {}", schema::VERSION + 1)));
    }

    #[test]
    fn what_is_not_a_store_is_damage() {
        let fixture = Fixture::new();
        let vault = fixture.store.vault().clone();
        let top = tempfile::tempdir().unwrap();
        let home = top.path().join("akm");
        private::make_home(&home).unwrap();
        durable::create(&home.join(FILE), &[0x5a; 4096]).unwrap();
        let opened = Store::open(&home, &vault);
        assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{opened:?}");
    }

    #[test]
    fn all_files_are_closed_to_others_and_open_ones_are_refused() {
        let fixture = Fixture::new();
        fixture.create_node("a");
        let home = fixture.store.home();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(home), 0o700);
        for file in ["store.db", "store.db-wal", "store.db-shm", "vault.key", "locks/schema.lock"] {
            assert_eq!(mode(&home.join(file)), 0o600, "{file}");
        }
        for (path, open) in [(home.join(FILE), 0o644), (home.to_owned(), 0o755)] {
            let closed = mode(&path);
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            let error = Store::open(home, fixture.store.vault()).unwrap_err();
            assert!(error.to_string().contains("chmod"), "{error}");
            fs::set_permissions(&path, Permissions::from_mode(closed)).unwrap();
        }
    }

    #[test]
    fn durability_and_erasing_are_switched_on_for_each_connection() {
        let fixture = Fixture::new();
        let connection = fixture.store.connection.lock().unwrap();
        let number =
            |pragma: &str| -> i64 { connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap() };
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        let numbers = ["synchronous", "foreign_keys", "secure_delete"].map(number);
        assert_eq!(numbers, [2, 1, 1]);
    }

    #[test]
    fn a_writer_that_does_not_finish_is_told_as_held_and_readers_go_on() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a");
        let (home, vault) = (fixture.store.home(), fixture.store.vault());
        let second = Store::open_with(home, vault, Duration::ZERO).unwrap();
        fixture
            .store
            .write(|_| {
                assert!(matches!(second.save_integrity_code(node.id, &[1; 32]), Err(StoreError::Held)));
                assert_eq!(second.nodes().unwrap().len(), 1);
                Ok(())
            })
            .unwrap();
        second.save_integrity_code(node.id, &[1; 32]).unwrap();
    }

    #[test]
    fn threads_and_connections_write_side_by_side() {
        let fixture = Fixture::new();
        let second = fixture.reopen();
        thread::scope(|scope| {
            let stores = [&fixture.store, &second, &fixture.store, &second];
            for (index, store) in stores.into_iter().enumerate() {
                let prepared: Vec<_> =
                    (0..5).map(|turn| fixture.prepared(&format!("node-{index}-{turn}"))).collect();
                scope.spawn(move || {
                    for (node, sds, secrets) in prepared {
                        store.create_node(&node, &sds, &secrets).unwrap();
                    }
                });
            }
        });
        assert_eq!(second.nodes().unwrap().len(), 20);
    }

    #[test]
    fn debug_text_shows_where_the_store_is_and_nothing_in_it() {
        let fixture = Fixture::new();
        let text = format!("{:?}", fixture.store);
        assert_eq!(text, format!("Store {{ home: {:?}, .. }}", fixture.store.home()));
    }
}
