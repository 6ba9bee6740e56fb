//! What was measured, for people and for programs.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::machine::Machine;
use crate::rounds::{Comparison, Spread};

/// One ratio.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The part that measured it.
    pub part: &'static str,
    /// What was measured (A).
    pub what: String,
    /// What it was held against (B).
    pub against: String,
    /// A / B.
    pub ratio: Spread,
    /// What the median of the ratios should not exceed, where there is such a goal.
    pub goal: Option<f64>,
    /// How many rounds.
    pub rounds: usize,
    /// What A and B are counted in: `seconds`, or `bytes`.
    pub unit: &'static str,
    /// What A took in this run. Seconds say nothing about other machines.
    pub a: Spread,
    /// What B took.
    pub b: Spread,
    /// What else was found.
    pub facts: Map<String, Value>,
}

impl Row {
    pub(crate) fn of(
        part: &'static str,
        what: impl Into<String>,
        against: impl Into<String>,
        comparison: Comparison,
    ) -> Self {
        Self {
            part,
            what: what.into(),
            against: against.into(),
            ratio: comparison.ratio,
            goal: None,
            rounds: comparison.rounds,
            unit: "seconds",
            a: comparison.a,
            b: comparison.b,
            facts: Map::new(),
        }
    }

    /// The same, of memory.
    pub(crate) fn in_bytes(mut self) -> Self {
        self.unit = "bytes";
        self
    }

    pub(crate) fn with_goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    pub(crate) fn with_fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// How the median stands to the goal.
    pub fn verdict(&self) -> &'static str {
        match self.goal {
            None => "",
            Some(goal) if self.ratio.median <= goal => "met",
            Some(_) => "missed",
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The arguments of the command.
    pub arguments: Vec<String>,
    /// What came out.
    pub rows: Vec<Row>,
}

impl Report {
    /// As a table.
    pub fn table(&self) -> String {
        let Machine { processor, processors, memory_mib, kernel, rustc, scratch_filesystem } = &self.machine;
        let mut text = format!(
            "{processors} processors ({processor}), {memory_mib} MiB; {kernel}; {rustc}; scratch files on \
             {scratch_filesystem}\n"
        );
        let mut part = "";
        for row in &self.rows {
            if row.part != part {
                part = row.part;
                let _ = write!(text, "\n{part}\n{:>10} {:>21}  {:<14}\n", "ratio", "min .. max", "goal");
            }
            let spread = format!("{} .. {}", short(row.ratio.min), short(row.ratio.max));
            let goal = row.goal.map(|goal| format!("{goal:.2} {}", row.verdict())).unwrap_or_default();
            let _ = writeln!(
                text,
                "{:>10} {spread:>21}  {goal:<14} {} : {}",
                short(row.ratio.median),
                row.what,
                row.against
            );
            for (name, value) in &row.facts {
                let _ = writeln!(text, "{:>50}{name}: {}", "", shown(value));
            }
        }
        text
    }

    /// As JSON.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report has text keys and finite numbers");
        text.push('\n');
        text
    }
}

/// A figure with three digits that count.
fn short(figure: f64) -> String {
    match figure {
        figure if figure < 10.0 => format!("{figure:.2}"),
        figure if figure < 100.0 => format!("{figure:.1}"),
        figure => format!("{figure:.0}"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => short(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}
