//! What an operator is told when a command does not come to its end: a kind for scripts, one line of what happened, and
//! the ways out.

use std::fmt;

use akm_core::element::ElementError;
use akm_disk::DiskError;
use akm_element::{InvalidElementSpec, WrapError};
use akm_provision::ceremony;
use akm_provision::error::{Error, Kind};
use akm_provision::view::Refusal;
use serde::Serialize;

use crate::hints::hints;

/// Why a command did not do what was asked.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct CommandError(Refusal);

impl CommandError {
    /// An error of this kind, without a way out that could be named.
    pub(crate) fn new(kind: Kind, error: impl Into<String>) -> Self {
        Self(Refusal { kind, error: error.into(), hints: Vec::new() })
    }

    /// Something failed.
    pub(crate) fn failed(error: impl Into<String>) -> Self {
        Self::new(Kind::Failed, error)
    }

    /// The command line is malformed, or does not fit together.
    pub(crate) fn usage(error: impl Into<String>) -> Self {
        Self::new(Kind::Usage, error)
    }

    /// The same with one more way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// The ways out, first the likeliest.
    pub(crate) fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        exit_code(self.0.kind)
    }
}

/// The exit code that goes with a kind. The table is in the README.
pub(crate) fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Failed
        | Kind::File
        | Kind::ModuleDamaged
        | Kind::VaultClosed
        | Kind::NoStack
        | Kind::WrongArchitecture
        | Kind::TargetUnfit
        | Kind::TargetFailed
        | Kind::AnotherModule
        | Kind::NodeRefused
        | Kind::CredentialsGone
        | Kind::IsMember
        | Kind::MemberGone => 1,
        Kind::Usage | Kind::NotActive | Kind::Ambiguous => 2,
        Kind::Exists | Kind::NothingToDo => 3,
        Kind::ElementRefused | Kind::ElementOfAnother => 4,
        Kind::NotAsInstalled | Kind::NotProven | Kind::Resting => 5,
        Kind::Interrupted | Kind::Waits | Kind::Parked | Kind::BeginsLater => 6,
        Kind::Unreachable => 7,
        Kind::Held => 8,
        Kind::OtherName | Kind::OtherTarget | Kind::OtherMembers | Kind::OtherPolicy | Kind::OtherElement => {
            9
        }
        Kind::NoNode | Kind::NoAsr | Kind::NoModule => 10,
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.error)
    }
}

impl std::error::Error for CommandError {}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for CommandError {
    fn from(error: &Error) -> Self {
        Self(Refusal { kind: error.kind(), error: error.to_string(), hints: hints(error) })
    }
}

macro_rules! from {
    ($($inner:ty),* $(,)?) => {
        $(
            impl From<$inner> for CommandError {
                fn from(error: $inner) -> Self {
                    Error::from(error).into()
                }
            }
        )*
    };
}

from!(ceremony::Refusal, ElementError, WrapError, DiskError);

impl From<InvalidElementSpec> for CommandError {
    fn from(error: InvalidElementSpec) -> Self {
        Self::usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text, and everything that stands between `| ` and ` |` in the rows under a heading.
    fn documented() -> Vec<(String, u8)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, section) = text.split_once("### Kinds\n").unwrap();
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
    fn the_word_of_a_kind_is_in_small_letters_with_hyphens() {
        for kind in Kind::ALL {
            assert!(kind.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{kind}");
        }
    }
}
