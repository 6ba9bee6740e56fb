//! A module, one real element and a small stack, in memory: where ceremonies are cut off.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::process::Command;

use super::elements::Real;
use super::faults::{Counted, Run};
use super::plant::{Done, Plant, run};

/// What operators call the node of a scene.
pub(crate) const NODE: &str = "node";

/// A module with one element that a node is made with.
pub(crate) struct Scene {
    pub(crate) plant: Plant,
    pub(crate) real: Real,
    pub(crate) stack: String,
}

impl Scene {
    /// A module that knows nothing yet.
    pub(crate) fn new(real: Real) -> Self {
        let plant = Plant::in_memory().in_environment(real.environment());
        plant.akm(&["init", "--name", "plant"]).expect(0);
        let stack = plant.small_stack();
        Self { plant, real, stack }
    }

    /// `akm` with these arguments, and with the keys that the element asks for.
    pub(crate) fn with_keys(&self, arguments: &[&str]) -> Command {
        let keys = self.real.keys();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.plant.akm_command(&[arguments, &keys].concat())
    }

    /// Goes on with the ceremony wherever it was.
    pub(crate) fn resume(&self) -> Done {
        run(&mut self.with_keys(&["provision", "--resume", NODE]))
    }

    /// What a command does to files where nothing disturbs it.
    pub(crate) fn undisturbed(&self, command: &mut Command, code: i32) -> Run {
        let undisturbed = Run::undisturbed(self.plant.place(), Counted::Files);
        run(undisturbed.on(command)).expect(code);
        undisturbed.close();
        undisturbed
    }
}
