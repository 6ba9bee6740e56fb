//! Who waits for a lock, in the order in which they came.
//!
//! Each waiter has a ticket: a file in the directory of the queue, named by the moment at which it came, and locked by
//! the system for as long as its process waits. So a waiter that is killed leaves its place to whoever is next. A
//! ticket that nobody holds is removed by whoever finds it, and the directory goes with the last ticket.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use akm_disk::DiskError;
use akm_disk::directory::make_directory;
use akm_disk::private::{self, Links};
use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};

/// How often a ticket is made anew because its directory went meanwhile.
const ATTEMPTS: u32 = 1000;

/// Tells the tickets of one process apart.
static TICKETS: AtomicU64 = AtomicU64::new(0);

/// The queue of one lock.
pub(super) struct Queue {
    directory: PathBuf,
}

/// Who is there, as seen from one place in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// Who is first of those that came before, by his ticket.
    pub(super) ahead: Option<String>,
    /// Whether anybody came later.
    pub(super) behind: bool,
}

/// A place in a queue, until it is dropped or the process ends.
pub(super) struct Ticket {
    name: String,
    path: PathBuf,
    _file: File,
}

impl Queue {
    /// The queue of the lock whose file this is.
    pub(super) fn of(lock: &Path) -> Self {
        Self { directory: lock.with_extension("queue") }
    }

    /// Takes the last place.
    pub(super) fn join(&self) -> Result<Ticket, DiskError> {
        // All processes of a machine read the same, also where its clock is set meanwhile.
        let came = clock_gettime(ClockId::Boottime);
        for attempt in 1.. {
            // The last of others may remove the directory at any moment.
            let may_be_back = attempt < ATTEMPTS;
            match make_directory(&self.directory, Links::Followed) {
                Err(error) if error.is_missing() && may_be_back => continue,
                made => made?,
            }
            let number = TICKETS.fetch_add(1, Ordering::Relaxed);
            let name = format!("{:012}.{:09}-{}-{number}", came.tv_sec, came.tv_nsec, std::process::id());
            let path = self.directory.join(&name);
            let unavailable = |source| DiskError::system("cannot use", &path)(source);
            let file = match open(OpenOptions::new().create_new(true), &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_back => continue,
                opened => opened.map_err(unavailable)?,
            };
            file.lock().map_err(unavailable)?;
            // Who found it before it was locked took it for one that nobody holds.
            if file.metadata().map_err(unavailable)?.nlink() > 0 {
                return Ok(Ticket { name, path, _file: file });
            }
        }
        unreachable!("one attempt comes to its end")
    }

    /// Who waits beside the holder of this ticket, or at all.
    pub(super) fn others(&self, own: Option<&Ticket>) -> Result<Others, DiskError> {
        let unavailable = |source| DiskError::system("cannot use", &self.directory)(source);
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Others::default()),
            entries => entries.map_err(unavailable)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(unavailable)?.file_name().into_string());
        }
        names.sort_unstable();
        let mut others = Others::default();
        for name in names {
            let is_own = own.is_some_and(|own| own.name == name);
            if is_own || !self.is_held(&name)? {
                continue;
            }
            if own.is_some_and(|own| own.name < name) {
                others.behind = true;
                break;
            }
            others.ahead.get_or_insert(name);
        }
        Ok(others)
    }

    /// Whether somebody waits with this ticket; one that nobody holds is removed.
    fn is_held(&self, name: &str) -> Result<bool, DiskError> {
        let path = self.directory.join(name);
        let held = open(&mut OpenOptions::new(), &path).and_then(|file| match file.try_lock() {
            Ok(()) => fs::remove_file(&path).map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        });
        match held {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            held => held.map_err(DiskError::system("cannot use", &path)),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // What stays is removed by whoever finds it.
        let _ = fs::remove_file(&self.path);
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options
        .read(true)
        .write(true)
        .mode(private::FILE_MODE)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}
