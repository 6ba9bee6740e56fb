//! A provisioning module with a home of its own, run as an operator runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::elements::Element;
use crate::error::BenchError;
use crate::processes::{kill_all_in, program, run};
use crate::rounds::timed;

/// A module and the targets that it made into nodes. All of it ends and goes when this is dropped.
pub(crate) struct Module {
    akm: PathBuf,
    place: TempDir,
    provisioned: u32,
}

impl Module {
    /// Makes a module in a directory below `scratch`.
    pub(crate) fn new(scratch: &Path) -> Result<Self, BenchError> {
        let place = tempfile::Builder::new()
            .prefix("akm-bench-")
            .tempdir_in(scratch)
            .map_err(BenchError::scratch(scratch))?;
        let module = Self { akm: program("akm")?, place, provisioned: 0 };
        program("akmd")?;
        run(&mut module.akm(&["init", "--name", "bench"]))?;
        Ok(module)
    }

    /// Where its files are.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    fn akm(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.akm);
        command.args(arguments).env("AKM_HOME", self.place().join("home")).current_dir(self.place());
        command
    }

    fn provision(&mut self) -> Command {
        self.provisioned += 1;
        let name = self.last_name();
        let target = format!("local:{}", self.place().join(&name).display());
        self.akm(&["provision", &target, "--name", &name])
    }

    /// What the last node is called that was asked for.
    fn last_name(&self) -> String {
        format!("node-{}", self.provisioned)
    }

    /// How long one ceremony takes. The node's stack is ended afterwards.
    pub(crate) fn ceremony(&mut self) -> Result<Duration, BenchError> {
        let mut command = self.provision();
        let (result, took) = timed(|| run(&mut command));
        result?;
        self.end_stacks()?;
        Ok(took)
    }

    /// How long one ceremony takes with this element. The node is removed afterwards, so that the element is free again.
    pub(crate) fn ceremony_with(&mut self, element: &Element) -> Result<Duration, BenchError> {
        let mut command = self.provision();
        command.args(["--element", &element.spec]);
        if let Some(keys) = &element.card_keys {
            command.arg("--card-keys").arg(keys);
        }
        element.show_to(&mut command);
        let (result, took) = timed(|| run(&mut command));
        result?;
        let mut remove = self.akm(&["node", "remove", &self.last_name()]);
        element.show_to(&mut remove);
        run(&mut remove)?;
        self.end_stacks()?;
        Ok(took)
    }

    /// How long so many ceremonies take that begin together, each a process of its own.
    pub(crate) fn ceremonies(&mut self, count: usize) -> Result<Duration, BenchError> {
        let mut commands: Vec<Command> = (0..count).map(|_| self.provision()).collect();
        let hint = format!("{:?} and {} others at the same time", commands[0], count - 1);
        let failed = |what: String| BenchError::Program { what, hint: hint.clone() };
        let began = Instant::now();
        let mut children = Vec::new();
        for command in &mut commands {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            children.push(command.spawn().map_err(|error| failed(error.to_string()))?);
        }
        let ends: Vec<_> = children.into_iter().map(std::process::Child::wait_with_output).collect();
        let took = began.elapsed();
        for end in ends {
            let output = end.map_err(|error| failed(error.to_string()))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(failed(format!("one ended with {}: {}", output.status, said.trim())));
            }
        }
        self.end_stacks()?;
        Ok(took)
    }

    fn end_stacks(&self) -> Result<(), BenchError> {
        kill_all_in(self.place())
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.end_stacks();
    }
}
