//! Why a program did not get from its stack what it asked for.

use std::io;
use std::path::PathBuf;

/// Why a program did not get from its stack what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// No stack runs in this installation.
    #[error("no stack runs in {dir}: start it with {dir}/current/akmd run --dir {dir} --detach", dir = .dir.display())]
    NotRunning {
        /// The directory of the installation.
        dir: PathBuf,
    },
    /// This user may not talk to the stack.
    #[error("no permission for the stack in {}: use the user that it runs as", .dir.display())]
    NotPermitted {
        /// The directory of the installation.
        dir: PathBuf,
    },
    /// The stack has closed the connection.
    #[error("the stack has stopped")]
    Stopped,
    /// The connection broke. Whether the request came to the stack is not known.
    #[error("lost the stack in {}: {source}", .dir.display())]
    Lost {
        /// The directory of the installation.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing came within the patience that was set.
    #[error("nothing came within the time given")]
    Silent,
    /// The stack refused; nothing was done.
    #[error("{error}")]
    Refused {
        /// What a program should exit with: the exit codes of `akmd`.
        exit_code: u8,
        /// Why, and what to do.
        error: String,
    },
    /// The stack answered with something else than what was asked, as one of another version may.
    #[error("the stack says what nobody understands: {0}")]
    NotUnderstood(String),
}

impl StackError {
    /// Whether there is no stack, or none any more, that could have answered.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::Stopped | Self::Lost { .. })
    }
}
