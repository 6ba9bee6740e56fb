//! What an operator is told when a command does not come to its end, and the exit code that goes
//! with it.

use std::error::Error;

use akm_element::WrapError;

use crate::link::LinkError;
use crate::lock::LockError;
use crate::store::StoreError;
use crate::vault::VaultError;
use akm_target::TargetError;

/// Why a command did not do what was asked; one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Exit code 2: the command line is malformed, or names what does not fit.
    #[error("{0}")]
    Usage(String),
    /// Exit code 3: what was asked for is there already.
    #[error("{0}")]
    Exists(String),
    /// Exit code 4: the element refused, or is not ours.
    #[error("{0}")]
    Element(String),
    /// Exit code 5: a node is not what it should be.
    #[error("{0}")]
    Verification(String),
    /// Exit code 6: parked or interrupted; the text says how to go on.
    #[error("{0}")]
    Interrupted(String),
    /// Exit code 7: a target or node cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Exit code 8: another command holds what this one needs.
    #[error("{0}")]
    Held(String),
}

impl CommandError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Exists(_) => 3,
            Self::Element(_) => 4,
            Self::Verification(_) => 5,
            Self::Interrupted(_) => 6,
            Self::Unreachable(_) => 7,
            Self::Held(_) => 8,
        }
    }

    /// The same blame with a hint how to go on; what merely failed can be resumed.
    pub fn resumable(self, hint: &str) -> Self {
        let with = |text: String| format!("{text}; {hint}");
        match self {
            Self::Failed(text) | Self::Interrupted(text) => Self::Interrupted(with(text)),
            Self::Element(text) => Self::Element(with(text)),
            Self::Verification(text) => Self::Verification(with(text)),
            Self::Unreachable(text) => Self::Unreachable(with(text)),
            other => other,
        }
    }
}

/// An error with everything that it was caused by, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error {
            StoreError::Held => Self::Held(text),
            StoreError::Exists { .. } => Self::Exists(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<LockError> for CommandError {
    fn from(error: LockError) -> Self {
        let text = chain(&error);
        match error {
            LockError::Held { .. } => Self::Held(format!("{text}: try again when it is done")),
            LockError::File(_) => Self::Failed(text),
        }
    }
}

impl From<VaultError> for CommandError {
    fn from(error: VaultError) -> Self {
        let text = chain(&error);
        match error {
            VaultError::Element(_) | VaultError::AnotherElement { .. } => Self::Element(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<WrapError> for CommandError {
    fn from(error: WrapError) -> Self {
        Self::Element(chain(&error))
    }
}

impl From<TargetError> for CommandError {
    fn from(error: TargetError) -> Self {
        let text = chain(&error);
        match error {
            TargetError::Unreachable { .. } => Self::Unreachable(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<LinkError> for CommandError {
    fn from(error: LinkError) -> Self {
        let text = chain(&error);
        match error {
            LinkError::Unreachable { .. } => Self::Unreachable(text),
            LinkError::Silent { .. } => Self::Verification(text),
            LinkError::Lock(error) => error.into(),
            LinkError::Store(error) => error.into(),
            LinkError::Refused { outcome: akm_core::management::Outcome::Element, .. } => Self::Element(text),
            LinkError::Refused { .. } | LinkError::NoCredentials { .. } | LinkError::Session(_) => {
                Self::Failed(text)
            }
        }
    }
}
