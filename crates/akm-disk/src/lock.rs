//! Locks between processes: a file that the system holds for one of them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::DiskError;
use crate::private::FILE_MODE;

/// A lock that is held until it is dropped or the process ends, however it ends.
///
/// The file stays: removing it would let two processes hold two files of one name.
#[derive(Debug)]
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, and makes its file if there is none; `None` if it is held, be it by this process. Does not wait.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, DiskError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            // A lock elsewhere would be another lock.
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(path)
            .map_err(DiskError::system("cannot use", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(DiskError::system("cannot lock", path)(source)),
        }
    }

    /// Whether somebody holds the lock at this moment. A look makes no file, and hinders nobody else who looks.
    pub fn is_held(path: &Path) -> Result<bool, DiskError> {
        let file = match OpenOptions::new().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(DiskError::system("cannot use", path)(source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(DiskError::system("cannot lock", path)(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_lock_is_held_by_one_until_it_is_dropped() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        assert!(!Lock::is_held(&path).unwrap());
        assert!(!path.exists(), "a look makes no file");
        let held = Lock::try_acquire(&path).unwrap().unwrap();
        assert!(Lock::is_held(&path).unwrap());
        assert!(Lock::try_acquire(&path).unwrap().is_none());
        drop(held);
        assert!(!Lock::is_held(&path).unwrap());
        assert!(path.exists());
        let _again = Lock::try_acquire(&path).unwrap().unwrap();
    }

    #[test]
    fn a_link_in_its_place_is_no_lock() {
        let home = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (home.path().join("lock"), home.path().join("elsewhere"));
        fs::write(&elsewhere, b"").unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(Lock::try_acquire(&path).is_err());
    }
}
