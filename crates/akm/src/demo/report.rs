//! What is told while it happens, and the summary at the end.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::error::CommandError;
use crate::print::{milliseconds, say, say_json, table};

/// The stages that have passed.
pub(super) struct Report {
    as_json: bool,
    started: Instant,
    passed: Vec<Stage>,
}

/// One stage: what is checked in it, and what came of it.
pub(super) struct Stage {
    name: &'static str,
    as_json: bool,
    count: u64,
    what: String,
    duration: Duration,
    facts: Map<String, Value>,
}

impl Report {
    pub(super) fn new(as_json: bool) -> Self {
        Self { as_json, started: Instant::now(), passed: Vec::new() }
    }

    /// Runs a stage under a headline. An error names the stage.
    pub(super) fn stage<T>(
        &mut self,
        name: &'static str,
        intent: &str,
        work: impl FnOnce(&mut Stage) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let mut stage = Stage {
            name,
            as_json: self.as_json,
            count: 0,
            what: String::new(),
            duration: Duration::ZERO,
            facts: Map::new(),
        };
        let number = self.passed.len() + 1;
        let gap = if number == 1 { "" } else { "\n" };
        stage.print(&format!("{gap}{number} {name}: {intent}"));
        let started = Instant::now();
        match work(&mut stage) {
            Ok(value) => {
                stage.duration = started.elapsed();
                self.passed.push(stage);
                Ok(value)
            }
            Err(error) => {
                stage.print(&format!("  ✗ {error}"));
                Err(CommandError::failed(format!("{name}: {error}")))
            }
        }
    }

    /// Prints the summary: a table, or one JSON object.
    pub(super) fn summary(&self, kept: Option<&Path>) -> Result<(), CommandError> {
        let total = self.started.elapsed();
        if self.as_json {
            let stages: Vec<Value> = self.passed.iter().map(Stage::json).collect();
            return say_json(&json!({
                "ok": true,
                "stages": stages,
                "milliseconds": total.as_millis() as u64,
                "kept": kept.map(|path| path.to_string_lossy()),
            }));
        }
        let mut rows = vec![["", "STAGE", "COUNT", "WHAT", "TIME"].map(str::to_owned).to_vec()];
        for stage in &self.passed {
            rows.push(vec![
                "✓".to_owned(),
                stage.name.to_owned(),
                stage.count.to_string(),
                stage.what.clone(),
                milliseconds(stage.duration),
            ]);
        }
        say("")?;
        table(&rows)?;
        say(&format!("\nall is as it should be, after {}", milliseconds(total)))
    }
}

impl Stage {
    /// Tells what happens.
    pub(super) fn tell(&self, text: &str) {
        self.print(&format!("    {text}"));
    }

    /// Goes on only if what `claim` says is so.
    pub(super) fn check(&self, holds: bool, claim: &str) -> Result<(), CommandError> {
        if !holds {
            return Err(CommandError::failed(format!("this does not hold: {claim}")));
        }
        self.passed(claim);
        Ok(())
    }

    /// Tells what was checked on the way and is so.
    pub(super) fn passed(&self, claim: &str) {
        self.print(&format!("  ✓ {claim}"));
    }

    /// What the summary says of this stage.
    pub(super) fn result(&mut self, count: u64, what: impl Into<String>) {
        self.count = count;
        self.what = what.into();
    }

    /// One more value for the JSON summary.
    pub(super) fn fact(&mut self, name: &str, value: Value) {
        self.facts.insert(name.to_owned(), value);
    }

    fn print(&self, line: &str) {
        let written = if self.as_json {
            writeln!(std::io::stderr(), "{line}")
        } else {
            writeln!(std::io::stdout(), "{line}")
        };
        // The result counts: if nobody reads what happens meanwhile, the demonstration goes on.
        let _ = written;
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "name": self.name,
            "ok": true,
            "count": self.count,
            "what": self.what,
            "milliseconds": self.duration.as_millis() as u64,
        });
        for (name, fact) in &self.facts {
            value[name] = fact.clone();
        }
        value
    }
}
