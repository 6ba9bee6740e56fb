//! The programs that are measured, and their ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::BenchError;

/// How long killed processes may take to be gone.
const KILLED: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A program of this build, which lies beside this one.
pub(crate) fn program(name: &str) -> Result<PathBuf, BenchError> {
    let here = std::env::current_exe().map_err(BenchError::scratch(Path::new("/proc/self/exe")))?;
    let found = here.with_file_name(name);
    if found.is_file() {
        return Ok(found);
    }
    Err(BenchError::Program {
        what: format!("{} is missing", found.display()),
        hint: "cargo build --release --workspace --bins (or: make bench)".to_owned(),
    })
}

/// Runs a command to its end; an error unless it ends well.
pub(crate) fn run(command: &mut Command) -> Result<(), BenchError> {
    output(command.stdout(Stdio::null())).map(drop)
}

/// Runs a command to its end, and returns what it printed unless that goes elsewhere; an error unless it ends well.
pub(crate) fn output(command: &mut Command) -> Result<String, BenchError> {
    let hint = format!("{command:?}");
    let failed = |what: String| BenchError::Program { what, hint: hint.clone() };
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("it ended with {}: {}", output.status, said.trim())))
}

/// Kills the processes that name something in this directory in their arguments, and waits until they are
/// gone: whatever this benchmark starts in the background does that, and nobody else knows its directories.
pub(crate) fn kill_all_in(dir: &Path) -> Result<(), BenchError> {
    let began = Instant::now();
    loop {
        let left = processes_in(dir);
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() > KILLED {
            return Err(BenchError::Program {
                what: format!("processes that work in {} do not end", dir.display()),
                hint: "ps -ef".to_owned(),
            });
        }
        for process in left {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn processes_in(dir: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let below = format!("{}/", dir.display());
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(Pid::from_raw)
        .filter(|process| *process != rustix::process::getpid())
        .filter(|process| {
            let arguments =
                fs::read(format!("/proc/{}/cmdline", process.as_raw_nonzero())).unwrap_or_default();
            arguments
                .split(|byte| *byte == 0)
                .any(|argument| String::from_utf8_lossy(argument).starts_with(&below))
        })
        .collect()
}
