//! Why a program did not get from its stack what it asked for.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::kind::Kind;

/// Why a program did not get from its stack what it asked for.
///
/// As a text it is one line: what happened, then each way out.
#[derive(Debug)]
pub enum StackError {
    /// No stack runs in this installation.
    NotRunning {
        /// The directory of the installation.
        dir: PathBuf,
    },
    /// This user may not talk to the stack.
    NotPermitted {
        /// The directory of the installation.
        dir: PathBuf,
    },
    /// The stack has closed the connection.
    Stopped,
    /// The connection broke. Whether the request came to the stack is not known.
    Lost {
        /// The directory of the installation.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing came within the patience that was set.
    Silent,
    /// The stack refused; nothing was done.
    Refused {
        /// What a program should exit with: the exit codes of `akmd`.
        exit_code: u8,
        /// What kind of refusal it is.
        kind: Kind,
        /// What happened.
        error: String,
        /// The ways out, the likeliest first.
        hints: Vec<String>,
    },
    /// The stack answered with something else than what was asked, as one of another version may.
    NotUnderstood(String),
}

impl StackError {
    /// Whether there is no stack, or none any more, that could have answered.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::Stopped | Self::Lost { .. })
    }

    /// What kind of refusal it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotRunning { .. } | Self::Stopped | Self::Lost { .. } => Kind::NotRunning,
            Self::NotPermitted { .. } => Kind::NotPermitted,
            Self::Silent => Kind::Silent,
            Self::Refused { kind, .. } => *kind,
            Self::NotUnderstood(_) => Kind::NotUnderstood,
        }
    }

    /// What happened, without the ways out.
    pub fn what(&self) -> String {
        match self {
            Self::NotRunning { dir } => format!("no stack runs in {}", dir.display()),
            Self::NotPermitted { dir } => format!("no permission for the stack in {}", dir.display()),
            Self::Stopped => "the stack has stopped".to_owned(),
            Self::Lost { dir, source } => format!("lost the stack in {}: {source}", dir.display()),
            Self::Silent => "nothing came within the time given".to_owned(),
            Self::Refused { error, .. } => error.clone(),
            Self::NotUnderstood(what) => format!("the stack says what nobody understands: {what}"),
        }
    }

    /// The ways out, the likeliest first.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NotRunning { dir } => {
                let dir = dir.display();
                vec![format!("start it with {dir}/current/akmd run --dir {dir} --detach")]
            }
            Self::NotPermitted { .. } => vec!["use the user that it runs as".to_owned()],
            Self::Refused { hints, .. } => hints.clone(),
            Self::Stopped | Self::Lost { .. } | Self::Silent | Self::NotUnderstood(_) => Vec::new(),
        }
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        self.hints().iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl Error for StackError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Lost { source, .. } => Some(source),
            _ => None,
        }
    }
}
