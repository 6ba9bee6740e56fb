//! Why the store did not do what was asked, and what a person can do about it.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use akm_disk::{DiskError, advice, private};
use rusqlite::ErrorCode;

use super::obstacle::{Obstacle, Occupied};
use crate::lock::LockError;

/// Bytes that a log and its index take at least.
const PROBE: usize = 64 * 1024;

/// Why the store did not do what was asked.
///
/// Nothing was changed, except that after [`StoreError::Unavailable`] it may have been: then open
/// the store again and look.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store, or nobody finished making it.
    #[error("no module here (nothing in {home})", home = .home.display())]
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
    #[error("{0} exists already")]
    Exists(Occupied),
    /// It is not there, or its state does not allow this.
    #[error("{0}")]
    Refused(Obstacle),
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
    pub(super) fn damaged(what: &str) -> Self {
        Self::Damaged { what: what.to_owned() }
    }

    pub(super) fn refused(why: impl Into<Obstacle>) -> Self {
        Self::Refused(why.into())
    }

    /// The same, with the file that it is about.
    pub(super) fn in_file(self, path: &Path) -> Self {
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

impl From<Occupied> for StoreError {
    fn from(occupied: Occupied) -> Self {
        Self::Exists(occupied)
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
