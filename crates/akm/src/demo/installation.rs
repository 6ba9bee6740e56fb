//! The installed `akmd` of one node, used as an application uses it: through its commands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::CommandError;
use akm_client::{NodeStatus, RelationshipReport};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::scratch::{PATIENCE, Scratch};

/// A node of the demonstration.
pub(super) struct Installation<'a> {
    pub(super) name: &'static str,
    pub(super) dir: PathBuf,
    scratch: &'a Scratch,
}

/// What `akmd identify --json` says, as far as it is needed here.
#[derive(Deserialize)]
pub(super) struct StackIdentity {
    pub(super) akm_id: String,
    pub(super) provisioning_relationship_id: String,
}

impl<'a> Installation<'a> {
    pub(super) fn new(scratch: &'a Scratch, name: &'static str) -> Self {
        Self { name, dir: scratch.path().join(name), scratch }
    }

    /// A command that is not started yet.
    pub(super) fn akmd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.dir.join("current/akmd"));
        command.args(arguments).arg("--dir").arg(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and returns what it printed; an error unless it ends well.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String, CommandError> {
        let output = self.output(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it said nothing");
        Err(CommandError::failed(format!("{}: akmd {}: {last}", self.name, arguments.join(" "))))
    }

    /// Runs a command to its end and returns its exit code.
    pub(super) fn exit_code(&self, arguments: &[&str]) -> Result<Option<i32>, CommandError> {
        Ok(self.output(arguments)?.status.code())
    }

    fn output(&self, arguments: &[&str]) -> Result<Output, CommandError> {
        let text = format!("{}: akmd {}", self.name, arguments.join(" "));
        let cannot_run = |error| CommandError::failed(format!("{text}: {error}"));
        let mut command = self.akmd(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(cannot_run)?;
        let process = Pid::from_child(&child);
        // Read in a thread of its own, so that a stack that hangs does not make the demonstration hang.
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(child.wait_with_output()));
        let started = Instant::now();
        loop {
            match end.recv_timeout(Duration::from_millis(100)) {
                Ok(output) => return output.map_err(cannot_run),
                Err(RecvTimeoutError::Timeout) if started.elapsed() < PATIENCE => {
                    if let Err(error) = self.scratch.go_on() {
                        let _ = kill_process(process, Signal::KILL);
                        return Err(error);
                    }
                }
                Err(_) => {
                    let _ = kill_process(process, Signal::KILL);
                    return Err(CommandError::failed(format!("{text} does not come to its end")));
                }
            }
        }
    }

    /// Sends a message.
    pub(super) fn send(&self, asr: &str, text: &str) -> Result<(), CommandError> {
        self.run(&["send", asr, text]).map(|_| ())
    }

    /// Who it says it is.
    pub(super) fn identity(&self) -> Result<StackIdentity, CommandError> {
        self.json(&["identify", "--json"])
    }

    /// Where it listens.
    pub(super) fn address(&self) -> Result<SocketAddr, CommandError> {
        let listen = self.status()?.listen;
        listen.parse().map_err(|_| CommandError::failed(format!("{} listens on {listen}", self.name)))
    }

    /// How it stands.
    pub(super) fn status(&self) -> Result<NodeStatus, CommandError> {
        self.json(&["status", "--json"])
    }

    /// How one relationship stands at it.
    pub(super) fn asr(&self, asr: &str) -> Result<RelationshipReport, CommandError> {
        let all = self.status()?.relationships;
        all.into_iter()
            .find(|status| status.name == asr)
            .ok_or_else(|| CommandError::failed(format!("node {} does not know ASR {asr}", self.name)))
    }

    fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, CommandError> {
        serde_json::from_str(&self.run(arguments)?).map_err(|error| {
            CommandError::failed(format!("{}: akmd {}: {error}", self.name, arguments.join(" ")))
        })
    }
}

/// Waits until all members are in the same epoch and have heard each other.
///
/// Right after a relationship became active, or a member came back, they still meet: a message sent
/// meanwhile in an epoch that another member skipped is lost, as any datagram may be.
pub(super) fn settle(
    scratch: &Scratch,
    asr: &str,
    members: &[&Installation<'_>],
) -> Result<u32, CommandError> {
    let mut epoch = None;
    scratch.wait_until(&format!("the members of {asr} have met"), || {
        let mut epochs = Vec::new();
        for member in members {
            let status = member.asr(asr)?;
            let heard = status.members.iter().all(|other| other.this || other.heard_seconds_ago.is_some());
            epochs.push(status.epoch.filter(|_| heard));
        }
        epoch = epochs[0].filter(|_| epochs.iter().all(|other| *other == epochs[0]));
        Ok(epoch.is_some())
    })?;
    Ok(epoch.unwrap_or_default())
}
