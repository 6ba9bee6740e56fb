//! Why a file or a directory was not made, changed or used.

use std::io;
use std::path::{Path, PathBuf};

use crate::advice;

/// Why a file or a directory was not made, changed or used. Programs may have words of their own for it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Others could read or write it, so what it holds cannot be trusted.
    #[error("{path} is open to others: run `chmod {mode} {path}`", path = .path.display(), mode = if *.is_directory { 700 } else { 600 })]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its mode, without its kind.
        mode: u32,
        /// Whether it is a directory.
        is_directory: bool,
    },
    /// Another user owns it.
    #[error(
        "{path} belongs to user {owner}, and this program runs as user {user}: use that user, or give it back (chown \
         {user})", path = .path.display()
    )]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who runs this program.
        user: u32,
    },
    /// Something of another kind has its name.
    #[error("{} is not a {wanted}; something else is in its place: move that away", .path.display())]
    Misplaced {
        /// The name.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// It has more bytes than whatever belongs there.
    #[error("{} is longer than {most} bytes", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How many it may have.
        most: usize,
    },
    /// It is there already and is not overwritten.
    #[error("{} exists already", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system did not let us.
    #[error("{action} {}: {source}{}", .path.display(), advice(source))]
    System {
        /// What was tried, such as "cannot write".
        action: &'static str,
        /// The file or directory, as it is called while that is done.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DiskError {
    /// For `map_err` after a call of the system.
    pub fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::System { action, path, source }
    }

    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
