//! What can go wrong in `akmd`: its kinds, its exit codes, and the ways out.

mod cases;

pub use cases::{AsItIs, AsrTrouble, Damage, Request, StackTrouble, Strange};

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use akm_client::{Kind, Reply, StackError};
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

/// How a device is made a node again when what made it one is lost.
pub(crate) const AGAIN: &str =
    "run akmd reset --force on this device, then provision it again (akm provision TARGET --again)";

/// Why `akmd` could not do what was asked.
///
/// As a text it is one line: what happened, then each way out.
#[derive(Debug)]
pub enum NodeError {
    /// A file could not be read or written.
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// The element did not do its part.
    Element(ElementError),
    /// The element is not there when the stack starts, and may be soon.
    ElementAway(ElementError),
    /// What the element holds is not this device's.
    Strange(Strange),
    /// The request cannot be met as it is.
    Request(Request),
    /// The ASR does not do that at this time.
    Asr {
        /// As the application calls it.
        asr: String,
        /// Why not.
        trouble: AsrTrouble,
    },
    /// It is as asked already, or there is nothing that could be done.
    AsItIs(AsItIs),
    /// A stack does not start, end or answer.
    Running(StackTrouble),
    /// The stack was asked, and refused or is not there.
    Stack(StackError),
}

/// The exit code that goes with a kind.
pub fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Failed
        | Kind::File
        | Kind::Damaged
        | Kind::Held
        | Kind::NotActive
        | Kind::Resting
        | Kind::ElementAway
        | Kind::Silent
        | Kind::NotPermitted
        | Kind::NotUnderstood
        | Kind::Other => FAILED,
        Kind::Usage | Kind::TooLong | Kind::NoAsr | Kind::NoMember | Kind::Ambiguous => USAGE,
        Kind::Running | Kind::NotANode | Kind::IsANode => NOTHING_TO_DO,
        Kind::ElementRefused | Kind::ElementOfAnother => ELEMENT,
        Kind::NotRunning => NOT_RUNNING,
    }
}

impl NodeError {
    /// What kind of refusal it is, as scripts test it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::File { .. } => Kind::File,
            Self::Damaged { .. } => Kind::Damaged,
            Self::Element(_) => Kind::ElementRefused,
            Self::ElementAway(_) => Kind::ElementAway,
            Self::Strange(_) => Kind::ElementOfAnother,
            Self::Request(request) => request.kind(),
            Self::Asr { trouble, .. } => trouble.kind(),
            Self::AsItIs(state) => state.kind(),
            Self::Running(process) => process.kind(),
            Self::Stack(error) => error.kind(),
        }
    }

    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            // A stack of another version knows better.
            Self::Stack(StackError::Refused { exit_code, .. }) => *exit_code,
            other => exit_code(other.kind()),
        }
    }

    /// What happened, without the ways out.
    pub fn what(&self) -> String {
        match self {
            Self::File { action, path, source } => format!("{action} {}: {source}", path.display()),
            Self::Damaged { path, damage } => format!("{}: {damage}", path.display()),
            Self::Element(error) | Self::ElementAway(error) => error.to_string(),
            Self::Strange(strange) => strange.to_string(),
            Self::Request(request) => request.to_string(),
            Self::Asr { asr, trouble } => trouble.of(asr),
            Self::AsItIs(state) => state.to_string(),
            Self::Running(process) => process.to_string(),
            Self::Stack(error) => error.what(),
        }
    }

    /// The ways out, the likeliest first.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::File { source, .. } => {
                let advice = advice(source).trim_start_matches("; ");
                if advice.is_empty() { Vec::new() } else { vec![advice.to_owned()] }
            }
            Self::Damaged { path, damage } => damage.hints(path),
            // What an element that is damaged says of itself does not tell how a device gets on without it.
            Self::Element(ElementError::Damaged(_)) => vec![format!("what it held is lost: {AGAIN}")],
            Self::Element(_) | Self::ElementAway(_) => Vec::new(),
            Self::Strange(strange) => strange.hints(),
            Self::Request(request) => request.hints(),
            Self::Asr { trouble, .. } => trouble.hints(),
            Self::AsItIs(state) => state.hints(),
            Self::Running(process) => process.hints(),
            Self::Stack(error) => error.hints(),
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

    /// For `map_err` after another call of the system.
    pub fn system(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Running(StackTrouble::System { action, source })
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        self.hints().iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl Error for NodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Element(error) | Self::ElementAway(error) => Some(error),
            Self::Stack(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DiskError> for NodeError {
    fn from(error: DiskError) -> Self {
        let (path, damage) = match error {
            DiskError::System { action, path, source } => return Self::File { action, path, source },
            DiskError::Foreign { path, owner, user } => (path, Damage::Foreign { owner, user }),
            DiskError::Exposed { path, is_directory, .. } => (path, Damage::Exposed { is_directory }),
            DiskError::Misplaced { path, wanted } => (path, Damage::Misplaced { wanted }),
            DiskError::TooLong { path, most } => (path, Damage::TooLong { most }),
            DiskError::Exists { path } => (path, Damage::Exists),
        };
        Self::Damaged { path, damage }
    }
}

impl From<ElementError> for NodeError {
    fn from(error: ElementError) -> Self {
        Self::Element(error)
    }
}

impl From<StackError> for NodeError {
    fn from(error: StackError) -> Self {
        Self::Stack(error)
    }
}

macro_rules! from {
    ($($variant:ident),* $(,)?) => {
        $(
            impl From<$variant> for NodeError {
                fn from(case: $variant) -> Self {
                    Self::$variant(case)
                }
            }
        )*
    };
}

from!(Strange, Request, AsItIs);

impl From<StackTrouble> for NodeError {
    fn from(trouble: StackTrouble) -> Self {
        Self::Running(trouble)
    }
}

impl From<&NodeError> for Reply {
    fn from(error: &NodeError) -> Self {
        Self::Failed {
            exit_code: error.exit_code(),
            kind: error.kind(),
            error: error.what(),
            hints: error.hints(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between `| ` and ` |` in the first two columns of the rows under a heading.
    fn documented() -> Vec<(String, u8)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/local-api.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, section) = text.split_once("## Kinds\n").unwrap();
        let section = section.split("\n#").next().unwrap();
        let rows = section.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let kind = cells.next()?.trim().trim_end_matches('`').to_owned();
            Some((kind, cells.next()?.trim().parse().ok()?))
        });
        rows.collect()
    }

    #[test]
    fn each_kind_stands_in_the_guide_with_its_exit_code_and_no_other() {
        let all: Vec<_> = Kind::ALL.iter().map(|kind| (kind.as_str().to_owned(), exit_code(*kind))).collect();
        assert_eq!(documented(), all);
    }

    #[test]
    fn the_ways_out_stand_apart_for_programs_and_in_the_line_for_people() {
        let error = NodeError::from(StackTrouble::Held { dir: "n1".into() });
        assert_eq!(error.to_string(), "another akmd works in n1; stop it first (akmd stop --dir n1)");
        let Reply::Failed { exit_code, kind, error, hints } = Reply::from(&error) else { panic!() };
        assert_eq!((exit_code, kind), (FAILED, Kind::Held));
        assert_eq!(
            (error.as_str(), hints),
            ("another akmd works in n1", vec!["stop it first (akmd stop --dir n1)".into()])
        );
    }
}
