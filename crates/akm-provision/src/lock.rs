//! Advisory locks between commands of the same module.
//!
//! A lock is a file in `$AKM_HOME/locks` that the system locks for the process: it is free again
//! when the process ends, however it ends. The file itself stays, since removing it would let two
//! commands hold two files of one name.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use akm_core::crypto::hash::sha256;
use akm_core::id::AkmId;
use akm_disk::DiskError;
use akm_disk::private::{self, Links, make_directory};

use crate::names::Name;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What a command holds for itself alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockKey {
    /// A node and its provisioning relationship.
    Node(AkmId),
    /// An ASR, by name, so that it can be held before it exists.
    Asr(Name),
    /// A target, by its text in normal form, so that it can be held before it is a node.
    Target(String),
    /// The addresses of the nodes, from the choice of one until it is in the store.
    Addresses,
    /// The form of the store, while it is made or migrated.
    Schema,
}

impl LockKey {
    fn file_name(&self) -> String {
        match self {
            Self::Node(id) => format!("node-{id}.lock"),
            Self::Asr(name) => format!("asr-{name}.lock"),
            Self::Target(text) => {
                let digest = sha256(&[text.as_bytes()]);
                let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("target-{hex}.lock")
            }
            Self::Addresses => "addresses.lock".to_owned(),
            Self::Schema => "schema.lock".to_owned(),
        }
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node {id}"),
            Self::Asr(name) => write!(f, "ASR {name}"),
            Self::Target(text) => write!(f, "target {text}"),
            Self::Addresses => f.write_str("the choice of addresses"),
            Self::Schema => f.write_str("the store"),
        }
    }
}

/// Why a lock was not obtained.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another command holds it and did not let go in time.
    #[error("{key} is held by another command{}", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Held {
        /// What is held.
        key: LockKey,
        /// The process that holds it, as far as it is known.
        pid: Option<u32>,
    },
    /// The lock file cannot be made or read.
    #[error(transparent)]
    File(#[from] DiskError),
}

/// A lock that is held until it is dropped or the process ends.
#[derive(Debug)]
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, waiting for at most `patience` while another command holds it.
    ///
    /// `home` must be there. It blocks the thread. Taking a lock that this process holds already is not noticed as such:
    /// it is held by "another".
    pub fn acquire(home: &Path, key: LockKey, patience: Duration) -> Result<Self, LockError> {
        let directory = home.join("locks");
        make_directory(&directory, Links::Followed)?;
        let path = directory.join(key.file_name());
        let unavailable = |source| DiskError::system("cannot use", &path)(source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(private::FILE_MODE)
            // The number of this process goes into the file, and into no other that a link may name.
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(unavailable)?;

        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < patience => {
                    thread::sleep(POLL_INTERVAL.min(patience));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { key, pid: read_pid(&mut file) });
                }
                Err(TryLockError::Error(source)) => return Err(unavailable(source).into()),
            }
        }
        write_pid(&mut file).map_err(unavailable)?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The number is for whoever waits; the system frees the lock when the file is closed.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> LockKey {
        LockKey::Target("ssh://root@pump:22/opt/akm".to_owned())
    }

    #[test]
    fn a_held_lock_is_refused_with_its_name_and_process_and_free_after_drop() {
        let home = tempfile::tempdir().unwrap();
        let held = Lock::acquire(home.path(), target(), Duration::ZERO).unwrap();
        let error = Lock::acquire(home.path(), target(), Duration::from_millis(30)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "target ssh://root@pump:22/opt/akm is held by another command (process {})",
                std::process::id()
            )
        );
        drop(held);
        let _again = Lock::acquire(home.path(), target(), Duration::ZERO).unwrap();
    }

    #[test]
    fn waiting_ends_when_the_holder_lets_go() {
        let home = tempfile::tempdir().unwrap();
        let held = Lock::acquire(home.path(), target(), Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::acquire(home.path(), target(), Duration::from_secs(60)));
            drop(held);
            let _obtained = waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn different_keys_do_not_hinder_each_other() {
        let home = tempfile::tempdir().unwrap();
        let id = AkmId::from_random([7; 16]);
        let name: Name = "a".parse().unwrap();
        let keys = [LockKey::Node(id), LockKey::Asr(name), target(), LockKey::Target("a".to_owned())];
        let _held = keys.map(|key| Lock::acquire(home.path(), key, Duration::ZERO).unwrap());
    }
}
