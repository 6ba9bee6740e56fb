//! Advisory locks between commands of the same module.
//!
//! A lock is a file in `$AKM_HOME/locks` that the system locks for the process: it is free again
//! when the process ends, however it ends. The file itself stays, since removing it would let two
//! commands hold two files of one name.
//!
//! Who comes while it is held gets it in his turn (`queue`), and nobody is refused for being one of many: the patience
//! of those who wait begins anew whenever the lock passes on.

mod queue;

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use akm_core::crypto::hash::sha256;
use akm_core::id::AkmId;
use akm_core::text::hexadecimal;
use akm_disk::DiskError;
use akm_disk::directory::make_directory;
use akm_disk::private::{self, Links};

use crate::names::Name;
use queue::{Others, Queue};

/// How often who waits looks whether it is his turn.
const LOOK: Duration = Duration::from_millis(20);

/// How long one holder is waited for where several wait: longer than anything that a command does under a lock.
const PATIENCE_AMONG_MANY: Duration = Duration::from_secs(180);

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
    /// How long who waits alone does so for one holder.
    pub(crate) fn patience(&self) -> Duration {
        match self {
            // A ceremony, or a change of an ASR, may take minutes: whoever is second is told so soon.
            Self::Target(_) | Self::Asr(_) => Duration::from_secs(2),
            // A node that is away, or silent, is tried for as long.
            Self::Node(_) => Duration::from_secs(10),
            // Held while something is looked up and written: only a machine that is busy makes one wait.
            Self::Addresses | Self::Schema => Duration::from_secs(60),
        }
    }

    fn file_name(&self) -> String {
        match self {
            Self::Node(id) => format!("node-{id}.lock"),
            Self::Asr(name) => format!("asr-{name}.lock"),
            Self::Target(text) => {
                format!("target-{}.lock", hexadecimal(&sha256(&[text.as_bytes()])))
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
    /// Takes the lock, after all that came before. Who waits alone behind one holder does so for `patience`, if the
    /// holder stays the same; several wait longer for each.
    ///
    /// `home` must be there. It blocks the thread. Taking a lock that this process holds already is not noticed as such:
    /// it is held by "another".
    pub(crate) fn acquire(home: &Path, key: LockKey, patience: Duration) -> Result<Self, LockError> {
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

        let take = |file: &File| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(unavailable(source)),
        };
        let queue = Queue::of(&path);
        if queue.others(None)?.ahead.is_some() || !take(&file)? {
            if patience.is_zero() {
                return Err(LockError::Held { key, pid: read_pid(&mut file) });
            }
            let ticket = queue.join()?;
            let mut waiting = Waiting::new(patience);
            loop {
                let others = queue.others(Some(&ticket))?;
                if others.ahead.is_none() && take(&file)? {
                    break;
                }
                let pid = read_pid(&mut file);
                if waiting.is_over(others, pid, Instant::now()) {
                    return Err(LockError::Held { key, pid });
                }
                thread::sleep(LOOK);
            }
        }
        write_pid(&mut file).map_err(unavailable)?;
        Ok(Self { file })
    }
}

/// How long a command has waited, and for whom.
struct Waiting {
    patience: Duration,
    since: Instant,
    /// Who was next, and who held it.
    seen: (Option<String>, Option<u32>),
    among_many: bool,
}

impl Waiting {
    fn new(patience: Duration) -> Self {
        Self { patience, since: Instant::now(), seen: (None, None), among_many: false }
    }

    /// Whether it has waited long enough for the present holder.
    fn is_over(&mut self, others: Others, holder: Option<u32>, now: Instant) -> bool {
        self.among_many |= others != Others::default();
        let seen = (others.ahead, holder);
        if seen != self.seen {
            self.since = now;
            self.seen = seen;
        }
        let patience = if self.among_many { PATIENCE_AMONG_MANY.max(self.patience) } else { self.patience };
        now.saturating_duration_since(self.since) >= patience
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
    file.rewind().ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

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

    /// What a process of these tests does, as its parent told it.
    const ROLE: &str = "AKM_TEST_OF_LOCKS";

    /// No test of its own: what the processes do that the tests below start.
    #[test]
    fn a_process_that_waits_in_turn() {
        let Ok(role) = std::env::var(ROLE) else { return };
        let (home, name) = role.split_once('=').unwrap();
        let held = Lock::acquire(Path::new(home), target(), Duration::from_secs(2)).unwrap();
        let turns = Path::new(home).join("turns");
        let mut turns = OpenOptions::new().append(true).create(true).open(turns).unwrap();
        turns.write_all(format!("{name}\n").as_bytes()).unwrap();
        if name == "for ever" {
            loop {
                thread::park();
            }
        }
        drop(held);
    }

    fn start(home: &Path, name: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lock::tests::a_process_that_waits_in_turn"])
            .env(ROLE, format!("{}={name}", home.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// How many wait for the target.
    fn waiting(home: &Path) -> usize {
        let queue = home.join("locks").join(target().file_name()).with_extension("queue");
        std::fs::read_dir(queue).map_or(0, Iterator::count)
    }

    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < Duration::from_secs(300), "{what} never came to be");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn turns(home: &Path) -> Vec<String> {
        let turns = std::fs::read_to_string(home.join("turns")).unwrap_or_default();
        turns.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_hundred_processes_have_their_turn_in_the_order_in_which_they_came_and_none_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let held = Lock::acquire(home.path(), target(), Duration::ZERO).unwrap();
        let mut processes = Vec::new();
        for number in 0..100 {
            processes.push(start(home.path(), &number.to_string()));
            wait_until("the next one waits", || waiting(home.path()) > number);
        }
        drop(held);
        for mut process in processes {
            assert!(process.wait().unwrap().success());
        }
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(turns(home.path()), expected);
        assert_eq!(waiting(home.path()), 0);
    }

    #[test]
    fn whoever_is_killed_frees_the_lock_or_the_place_in_the_queue() {
        let home = tempfile::tempdir().unwrap();
        let mut holder = start(home.path(), "for ever");
        wait_until("it has the lock", || turns(home.path()).len() == 1);
        let mut waiter = start(home.path(), "never");
        wait_until("it waits", || waiting(home.path()) == 1);
        let mut last = start(home.path(), "last");
        wait_until("another one waits", || waiting(home.path()) == 2);
        for process in [&mut waiter, &mut holder] {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        assert!(last.wait().unwrap().success());
        assert_eq!(turns(home.path()), ["for ever", "last"]);
        let _free = Lock::acquire(home.path(), target(), Duration::ZERO).unwrap();
    }

    #[test]
    fn who_comes_while_others_wait_does_not_pass_them() {
        let home = tempfile::tempdir().unwrap();
        let held = Lock::acquire(home.path(), target(), Duration::ZERO).unwrap();
        let mut first = start(home.path(), "for ever");
        wait_until("it waits", || waiting(home.path()) == 1);
        drop(held);
        let passed = Lock::acquire(home.path(), target(), Duration::ZERO);
        assert!(matches!(passed, Err(LockError::Held { .. })));
        wait_until("it has the lock", || turns(home.path()).len() == 1);
        first.kill().unwrap();
        first.wait().unwrap();
    }

    #[test]
    fn patience_begins_anew_when_the_lock_passes_on_and_is_longer_among_many() {
        let patience = Duration::from_secs(2);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let alone = Others::default;
        let mut waiting = Waiting::new(patience);
        assert!(!waiting.is_over(alone(), Some(7), at(1)));
        assert!(!waiting.is_over(alone(), Some(8), at(2)));
        assert!(!waiting.is_over(alone(), Some(8), at(3)));
        assert!(waiting.is_over(alone(), Some(8), at(4)));

        let mut waiting = Waiting::new(patience);
        let behind = || Others { ahead: Some("a ticket".to_owned()), behind: false };
        assert!(!waiting.is_over(behind(), Some(7), at(1)));
        assert!(!waiting.is_over(behind(), Some(7), at(100)));
        assert!(!waiting.is_over(alone(), Some(8), at(180)));
        assert!(!waiting.is_over(alone(), Some(8), at(359)));
        assert!(waiting.is_over(alone(), Some(8), at(360)));
    }
}
