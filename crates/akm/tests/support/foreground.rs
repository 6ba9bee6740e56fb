//! A real stack that is counted and disturbed.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::faults::Run;
use super::plant::{Plant, akmd_program, wait_until};

/// A stack in the foreground that takes part in a run; ended when dropped.
#[derive(Debug)]
pub(crate) struct Stack(Child);

impl Stack {
    /// Starts it, and returns once it answers or has ended.
    pub(crate) fn start(plant: &Plant, name: &str, counted: &Run) -> Self {
        let mut command = Command::new(akmd_program());
        command.args(["run", "--dir"]).arg(plant.dir(name)).current_dir(plant.place());
        let log = fs::File::create(counted.output()).unwrap();
        let child = counted.on(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut stack = Self(child.expect("akmd can be started"));
        wait_until("the stack answers or has ended", || {
            stack.has_ended() || plant.akmd(name, &["status"]).code == Some(0)
        });
        stack
    }

    /// Whether it runs no more.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("akmd can be waited for").is_some()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
