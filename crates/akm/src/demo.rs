//! The main job from nothing to messages, for real, on this machine.
//!
//! ```text
//!   module -> provision -> verify -> asrs -> messages -> rotation -> restart -> refusals -> end
//!   \____ the library, as `akm` uses it ____/    \___ the installed `akmd`, as applications use it ___/
//! ```
//!
//! Every node is a process of its own with an installation of its own, in a private directory that is
//! removed at the end. Each stage checks what it shows; the first check that does not hold ends the
//! demonstration with an error that names it, after everything has been cleared away.

mod installation;
mod messages;
mod provisioning;
mod refusals;
mod report;
mod scratch;
mod talk;
mod traffic;

use std::path::Path;
use std::time::Duration;

use akm_core::policy::Policy;

use crate::error::CommandError;
use akm_provision::ceremony::stack_beside_us;
use installation::Installation;
use report::{Report, Stage};
use scratch::Scratch;
use traffic::Traffic;

/// The nodes.
const NODES: [&str; 4] = ["A", "B", "C", "D"];

/// The ASR of all four, whose epochs move on fast.
const ALL: &str = "ABCD";

/// The ASRs, each with the places of its members in [`NODES`].
const ASRS: [(&str, &[usize]); 3] = [("AB", &[0, 1]), ("CD", &[2, 3]), (ALL, &[0, 1, 2, 3])];

/// Epochs that every node has to pass under traffic.
const EPOCHS: u32 = 20;

/// How the members of the ASR of all four behave: after thirty frames they move on, each once in 1.5 s, so all together less
/// than four times a second: nobody follows faster for long.
fn fast() -> Policy {
    Policy { rotate_frames: 30, advance_interval: Duration::from_millis(1500), ..Policy::default() }
}

/// Runs the demonstration; `keep` leaves its files behind, and says where.
///
/// The text goes to standard output; with `as_json` it goes to standard error, and one JSON object to
/// standard output when all is done.
pub fn run(keep: bool, as_json: bool) -> Result<(), CommandError> {
    let akmd = stack_beside_us()?;
    let scratch = Scratch::new(keep)?;
    let mut report = Report::new(as_json);
    let shown = show_all(&akmd, &scratch, &mut report);
    if let Err(error) = shown {
        let why = if scratch.was_interrupted() {
            "the demonstration was interrupted".to_owned()
        } else {
            format!("the demonstration failed: {error}")
        };
        let left = match scratch.clear() {
            Ok(()) if keep => format!("its files are in {}", scratch.path().display()),
            Ok(()) => "everything of it was removed (--keep would keep its files)".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(CommandError::failed(format!("{why}; {left}")));
    }
    report.summary(keep.then(|| scratch.path()))
}

fn show_all(akmd: &Path, scratch: &Scratch, report: &mut Report) -> Result<(), CommandError> {
    let module =
        report.stage("module", "a throw-away provisioning module, in a directory of its own", |stage| {
            provisioning::make_module(stage, scratch)
        })?;
    report.stage("provision", "four targets become nodes, in five steps each", |stage| {
        provisioning::provision(stage, scratch, &module, akmd)
    })?;
    let nodes = NODES.map(|name| Installation::new(scratch, name));
    report.stage("verify", "each node proves who it is, under a fresh challenge", |stage| {
        provisioning::verify(stage, scratch, &module, &nodes)
    })?;
    report.stage("asrs", "three relationships: two pairs, and one of all four", |stage| {
        provisioning::create_asrs(stage, scratch, &module)
    })?;
    let recorded = report.stage("messages", "in all directions of each relationship", |stage| {
        messages::in_all_directions(stage, scratch, &nodes)
    })?;
    let mut traffic = Traffic::begin(scratch, &nodes, ALL)?;
    let intent = format!("{EPOCHS} epochs of the relationship of all four, under traffic");
    report.stage("rotation", &intent, |stage| traffic.rotate(stage, EPOCHS))?;
    report.stage("restart", "C is killed under traffic, and comes back by itself", |stage| {
        traffic.kill_and_restart(stage, 2)
    })?;
    drop(traffic);
    report.stage("refusals", "what a stranger replays or forges", |stage| {
        refusals::replayed_and_forged(stage, scratch, &nodes, &recorded)
    })?;
    drop(module);
    report.stage("end", "every stack stops, and nothing is left", |stage| end(stage, scratch, &nodes))
}

fn end(stage: &mut Stage, scratch: &Scratch, nodes: &[Installation<'_>]) -> Result<(), CommandError> {
    for node in nodes {
        node.run(&["stop"])?;
    }
    scratch.wait_until("no process of the demonstration is left", || Ok(scratch.processes().is_empty()))?;
    stage.passed("all four stacks stopped when asked, and no process is left");
    scratch.clear()?;
    let files = if scratch.is_kept() {
        let module = scratch.path().join("module");
        stage.tell(&format!("look at what is kept with: akm --home {} node list", module.display()));
        "kept"
    } else {
        stage.check(!scratch.path().exists(), "module, nodes and their secrets are removed from the disk")?;
        "removed"
    };
    stage.result(nodes.len() as u64, format!("stacks stopped, files {files}"));
    Ok(())
}
