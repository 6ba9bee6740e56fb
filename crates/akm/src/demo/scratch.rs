//! The private directory of a demonstration, and everything that runs from it.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::CommandError;
use akm_element::random;

/// How long anything that the demonstration waits for may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long killed processes may take to be gone.
const KILLED: Duration = Duration::from_secs(10);

/// A directory of mode 0700 that goes away with all processes that run from it.
pub(super) struct Scratch {
    dir: PathBuf,
    keep: bool,
    interrupted: Arc<AtomicBool>,
    cleared: Cell<bool>,
}

impl Scratch {
    /// Makes the directory. From here on an interrupt or the wish to terminate is only noted, so that
    /// what was begun can be cleared away.
    pub(super) fn new(keep: bool) -> Result<Self, CommandError> {
        let parent = std::env::temp_dir();
        let cannot_make =
            |error| CommandError::failed(format!("cannot make a directory in {}: {error}", parent.display()));
        // Processes are found by the path that they run from, which has no links in it.
        let parent = fs::canonicalize(&parent).map_err(cannot_make)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| CommandError::failed(format!("cannot watch for signals: {error}")))?;
        }
        let dir = parent.join(format!("akm-demo-{:08x}", u32::from_be_bytes(random())));
        DirBuilder::new().mode(0o700).create(&dir).map_err(cannot_make)?;
        Ok(Self { dir, keep, interrupted, cleared: Cell::new(false) })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether the files stay when it is cleared.
    pub(super) fn is_kept(&self) -> bool {
        self.keep
    }

    /// Whether somebody wants the demonstration to end.
    pub(super) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// An error if somebody wants the demonstration to end.
    pub(super) fn go_on(&self) -> Result<(), CommandError> {
        if self.was_interrupted() {
            return Err(CommandError::failed("interrupted".to_owned()));
        }
        Ok(())
    }

    /// Waits for what other processes bring about; an error if it does not come, or on interruption.
    pub(super) fn wait_until(
        &self,
        what: &str,
        mut condition: impl FnMut() -> Result<bool, CommandError>,
    ) -> Result<(), CommandError> {
        let started = Instant::now();
        loop {
            self.go_on()?;
            if condition()? {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(CommandError::failed(format!(
                    "waited {} s in vain until {what}",
                    PATIENCE.as_secs()
                )));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The processes whose program lies in the directory.
    pub(super) fn processes(&self) -> Vec<Pid> {
        self.processes_where(|arguments| {
            arguments.first().is_some_and(|program| Path::new(program).starts_with(&self.dir))
        })
    }

    /// The process of the stack that is installed in `dir`.
    pub(super) fn stack_process(&self, dir: &Path) -> Option<Pid> {
        let found = self.processes_where(|arguments| {
            arguments.first().is_some_and(|program| Path::new(program).starts_with(dir))
                && arguments.get(1).is_some_and(|command| *command == "run")
        });
        found.into_iter().next()
    }

    fn processes_where(&self, wanted: impl Fn(&[&OsStr]) -> bool) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        numbers
            .filter(|number| {
                let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
                let arguments: Vec<&OsStr> = line.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
                wanted(&arguments)
            })
            .filter_map(Pid::from_raw)
            .collect()
    }

    /// Ends every process that runs from the directory, and removes it unless it is kept.
    ///
    /// Called again after it has succeeded: no effect.
    pub(super) fn clear(&self) -> Result<(), CommandError> {
        if self.cleared.get() {
            return Ok(());
        }
        let started = Instant::now();
        loop {
            // Looked for again each time: one that was being started may have come after the first look.
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for process in left {
                // It may have ended by itself meanwhile.
                let _ = kill_process(process, Signal::KILL);
            }
            if started.elapsed() > KILLED {
                return Err(CommandError::failed(format!(
                    "processes that run from {} cannot be ended",
                    self.dir.display()
                )));
            }
            thread::sleep(POLL_INTERVAL);
        }
        if !self.keep {
            fs::remove_dir_all(&self.dir).map_err(|error| {
                CommandError::failed(format!("cannot remove {}: {error}", self.dir.display()))
            })?;
        }
        self.cleared.set(true);
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Only a panic gets here without having cleared; it says more than this could.
        let _ = self.clear();
    }
}
