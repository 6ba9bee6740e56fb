//! What the commands print, all of it out of the same answers: text for people, JSON for programs.

mod asr;
mod diagnosis;
mod element;
mod module;
mod node;
mod progress;
mod task;

pub(crate) use asr::{asrs, deleted, member_exit_code, members};
pub(crate) use diagnosis::diagnosis;
pub(crate) use element::{check, element, element_test, elements};
pub(crate) use module::module;
pub(crate) use node::{node, nodes, provisioned, removal, renewed, replaced, verified};
pub(crate) use progress::{Printer, sentence, tell};
pub(crate) use task::tasks;

use std::io::Write;
use std::time::Duration;

use akm_process::plain;
use serde::Serialize;

use crate::error::CommandError;

/// Prints a line; an error if nobody reads it.
pub(crate) fn say(line: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", plain(line))
        .and_then(|()| out.flush())
        .map_err(|error| CommandError::failed(format!("cannot write to standard output: {error}")))
}

/// Prints an answer as JSON; the names in an object are sorted.
pub(crate) fn say_json(answer: &impl Serialize) -> Result<(), CommandError> {
    let value = serde_json::to_value(answer)
        .map_err(|error| CommandError::failed(format!("cannot say it as JSON: {error}")))?;
    say(&format!("{value:#}"))
}

/// Notes something on standard error.
pub(crate) fn note(text: &str) {
    // Where nobody can be told, as on a full disk, the command still goes on.
    let _ = writeln!(std::io::stderr(), "akm: {}", plain(text));
}

/// A refusal as JSON.
pub(crate) fn refusal(error: &CommandError) {
    // If nobody reads the JSON, the exit code still tells.
    let _ = say_json(error);
}

/// A refusal as text on standard error: what happened, then each way out.
pub(crate) fn trouble(error: &CommandError) {
    // Where nobody can be told, as on a full disk, the exit code still tells.
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "error: {}", plain(&error.to_string()));
    for hint in error.hints() {
        let _ = writeln!(out, "  hint: {}", plain(hint));
    }
}

/// A table with columns as wide as they need to be.
pub(crate) fn table(rows: &[Vec<String>]) -> Result<(), CommandError> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say(cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// A duration as people read it.
pub(crate) fn milliseconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
