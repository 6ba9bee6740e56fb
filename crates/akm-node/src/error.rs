//! What can go wrong in `akmd`, and its exit codes.

use std::io;
use std::path::{Path, PathBuf};

use akm_client::{Reply, StackError};
use akm_core::element::ElementError;
use akm_disk::{DiskError, advice};

/// Exit code: something failed.
pub const FAILED: u8 = 1;
/// Exit code: the command line is wrong, or names what does not exist.
pub const USAGE: u8 = 2;
/// Exit code: there is nothing to do.
pub const NOTHING_TO_DO: u8 = 3;
/// Exit code: the element refused, or is not ours.
pub const ELEMENT: u8 = 4;
/// Exit code: the stack does not run.
pub const NOT_RUNNING: u8 = 7;

/// Why `akmd` could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file could not be read or written.
    #[error("{action} {}: {source}{}", path.display(), advice(source))]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The element did not do its part.
    #[error("{}{}", .0, element_advice(.0))]
    Element(#[from] ElementError),
    /// The request cannot be met as it is; the text says what to do.
    #[error("{0}")]
    Usage(String),
    /// It is as asked already, or there is nothing that could be done.
    #[error("{0}")]
    NothingToDo(String),
    /// The stack does not run, or does not answer.
    #[error("{0}")]
    NotRunning(String),
    /// Anything else; the text says what to do.
    #[error("{0}")]
    Failed(String),
}

impl NodeError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Damaged { .. } | Self::Failed(_) => FAILED,
            Self::Usage(_) => USAGE,
            Self::NothingToDo(_) => NOTHING_TO_DO,
            Self::Element(_) => ELEMENT,
            Self::NotRunning(_) => NOT_RUNNING,
        }
    }

    /// Whether the disk took nothing at that moment, rather than that something stands in the way of one file.
    pub fn is_of_the_disk(&self) -> bool {
        use io::ErrorKind::{
            AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory, NotFound, PermissionDenied,
        };
        let of_one_file =
            [AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory, NotFound, PermissionDenied];
        matches!(self, Self::File { source, .. } if !of_one_file.contains(&source.kind()))
    }

    /// For `map_err` after a file operation.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

impl From<DiskError> for NodeError {
    fn from(error: DiskError) -> Self {
        let (path, what) = match error {
            DiskError::System { action, path, source } => return Self::File { action, path, source },
            DiskError::Foreign { path, owner, user } => {
                let what = format!(
                    "it belongs to user {owner}, and this program runs as user {user}: use that user, or give all of \
                     it back (chown -R {user} {})",
                    path.display()
                );
                (path, what)
            }
            DiskError::Exposed { path, is_directory, .. } => {
                let mode = if is_directory { 700 } else { 600 };
                let what = format!("open to other users: chmod {mode} {}", path.display());
                (path, what)
            }
            DiskError::Misplaced { path, wanted } => {
                (path, format!("not a {wanted}: move away what is in its place"))
            }
            DiskError::TooLong { path, most } => (path, format!("longer than {most} bytes")),
            DiskError::Exists { path } => (path, "exists already".to_owned()),
        };
        Self::Damaged { path, what }
    }
}

impl From<StackError> for NodeError {
    fn from(error: StackError) -> Self {
        match error {
            StackError::Refused { exit_code, error } => match exit_code {
                USAGE => Self::Usage(error),
                NOTHING_TO_DO => Self::NothingToDo(error),
                ELEMENT => Self::Element(ElementError::Refused(error)),
                NOT_RUNNING => Self::NotRunning(error),
                _ => Self::Failed(error),
            },
            error if error.is_gone() => Self::NotRunning(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<NodeError> for Reply {
    fn from(error: NodeError) -> Self {
        Self::Failed { exit_code: error.exit_code(), error: error.to_string() }
    }
}

/// What an element that is damaged says of itself does not tell how a device gets on without it.
fn element_advice(error: &ElementError) -> &'static str {
    match error {
        ElementError::Damaged(_) => {
            "; what it held is lost: run akmd reset --force on this device, then provision it again (akm provision \
             TARGET --again)"
        }
        _ => "",
    }
}
