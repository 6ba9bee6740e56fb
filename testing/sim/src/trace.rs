//! A whole run as text.

use std::fmt;

use crate::action::Action;
use crate::line::Malformed;
use crate::setup::Setup;

/// A setup and what is done to it: everything that a run consists of. As text it is one line each,
/// after a first line that names the format; `#` begins a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The world at the beginning.
    pub setup: Setup,
    /// What is done to it, in this order.
    pub actions: Vec<Action>,
}

/// Why a text is not a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrace {
    /// The first line does not name the format.
    #[error("the first line is not {FORMAT:?}")]
    Format,
    /// A line is neither a line of a setup nor an action, or names a node or relationship that is
    /// not there.
    #[error("line {line} is not understood: {text}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// As it stands there.
        text: String,
    },
    /// There is no relationship.
    #[error("it has no relationship")]
    Empty,
}

const FORMAT: &str = "akm-sim trace 1";

impl Trace {
    /// Reads a trace.
    pub fn parse(text: &str) -> Result<Self, InvalidTrace> {
        let setup = Setup { seed: 0, nodes: vec![], relationships: vec![], one_tag: false, flaw: None };
        let mut trace = Self { setup, actions: Vec::new() };
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, line)| line.trim_end() != FORMAT) {
            return Err(InvalidTrace::Format);
        }
        for (at, line) in lines {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let understood = match trace.setup.read_line(line) {
                Some(result) => result,
                None => line.parse().map(|action| trace.actions.push(action)),
            };
            understood.map_err(|Malformed| InvalidTrace::Line { line: at + 1, text: line.to_owned() })?;
        }
        if trace.setup.relationships.is_empty() {
            return Err(InvalidTrace::Empty);
        }
        Ok(trace)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FORMAT}")?;
        write!(f, "{}", self.setup)?;
        self.actions.iter().try_for_each(|action| writeln!(f, "{action}"))
    }
}
