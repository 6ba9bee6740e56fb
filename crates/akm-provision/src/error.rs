//! Why the module did not do what was asked, whichever part of it refused.

pub mod ceremony;
mod kind;
pub mod module;
pub mod relationship;
mod serve;

pub use kind::Kind;
pub use serve::ServeError;

use std::error::Error as StdError;
use std::fmt;

use akm_core::element::ElementError;
use akm_core::management::Outcome;
use akm_disk::DiskError;
use akm_element::WrapError;
use akm_target::{StackError, TargetError};

pub use crate::link::LinkError;
pub use crate::lock::LockError;
use crate::names::Name;
pub use crate::store::{Obstacle, ObstacleNode, ObstacleRelationship, Occupied, StoreError};
pub use crate::vault::VaultError;

/// Why the module did not do what was asked: the refusal of one of its parts.
///
/// Its text says what happened, in one line with all causes. What to do about it is for whoever shows it, out of the
/// fields.
#[derive(Debug)]
pub enum Error {
    /// The module is not made or opened.
    Module(module::Refusal),
    /// A node is not made, looked at or removed.
    Ceremony(ceremony::Refusal),
    /// An ASR is not made or changed.
    Relationship(relationship::Refusal),
    /// Something has begun, and is not at its end.
    Unfinished(Unfinished),
    /// A node was not asked, or refused.
    Link(LinkError),
    /// The store failed.
    Store(StoreError),
    /// Another command holds something.
    Lock(LockError),
    /// The vault does not open.
    Vault(VaultError),
    /// Something did not work at a target.
    Target(TargetError),
    /// The stack that is to be installed is none.
    Stack(StackError),
    /// A root cannot be wrapped for an element.
    Wrap(WrapError),
    /// An element that is plugged in here refused.
    Element(ElementError),
    /// A file of the module cannot be used.
    Disk(DiskError),
    /// The module cannot stay running.
    Serve(ServeError),
}

impl Error {
    /// What kind of refusal this is, as scripts test it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Module(refusal) => refusal.kind(),
            Self::Ceremony(refusal) => refusal.kind(),
            Self::Relationship(refusal) => refusal.kind(),
            Self::Unfinished(unfinished) => unfinished.kind(),
            Self::Link(error) => match error {
                LinkError::Unreachable { .. } => Kind::Unreachable,
                LinkError::Silent { .. } => Kind::NotProven,
                LinkError::Refused { outcome: Outcome::Element, .. } => Kind::ElementRefused,
                LinkError::Refused { .. } => Kind::NodeRefused,
                LinkError::NoCredentials { .. } => Kind::CredentialsGone,
                LinkError::Lock(error) => of_lock(error),
                LinkError::Store(error) => of_store(error),
                LinkError::Session(_) => Kind::Failed,
            },
            Self::Store(error) => of_store(error),
            Self::Lock(error) => of_lock(error),
            Self::Vault(error) => match error {
                VaultError::Missing { .. } => Kind::NoModule,
                VaultError::Exists { .. } => Kind::Exists,
                VaultError::WrongPassphrase { .. } | VaultError::NoPassphrase(_) => Kind::VaultClosed,
                VaultError::Damaged { .. } | VaultError::NotAuthentic => Kind::ModuleDamaged,
                VaultError::Element(_) => Kind::ElementRefused,
                VaultError::AnotherElement { .. } => Kind::ElementOfAnother,
                VaultError::NoRandomness(_) => Kind::Failed,
                VaultError::File(_) => Kind::File,
            },
            Self::Target(error) => match error {
                TargetError::Unreachable { .. } => Kind::Unreachable,
                TargetError::WrongArchitecture { .. } => Kind::WrongArchitecture,
                TargetError::Occupied { .. }
                | TargetError::Owned { .. }
                | TargetError::NotRoot { .. }
                | TargetError::Missing { .. }
                | TargetError::Unwritable { .. } => Kind::TargetUnfit,
                TargetError::Damaged { .. } | TargetError::Absent { .. } | TargetError::Failed { .. } => {
                    Kind::TargetFailed
                }
            },
            Self::Stack(_) => Kind::NoStack,
            Self::Wrap(_) | Self::Element(_) => Kind::ElementRefused,
            Self::Disk(_) => Kind::File,
            Self::Serve(ServeError::Signals(_)) => Kind::Failed,
            Self::Serve(ServeError::Address { .. }) => Kind::Usage,
        }
    }

    /// Whether it blames the element that was asked, or whose it is.
    pub(crate) fn is_of_element(&self) -> bool {
        matches!(self.kind(), Kind::ElementRefused | Kind::ElementOfAnother)
    }

    fn inner(&self) -> &(dyn StdError + 'static) {
        match self {
            Self::Module(error) => error,
            Self::Ceremony(error) => error,
            Self::Relationship(error) => error,
            Self::Unfinished(error) => error,
            Self::Link(error) => error,
            Self::Store(error) => error,
            Self::Lock(error) => error,
            Self::Vault(error) => error,
            Self::Target(error) => error,
            Self::Stack(error) => error,
            Self::Wrap(error) => error,
            Self::Element(error) => error,
            Self::Disk(error) => error,
            Self::Serve(error) => error,
        }
    }
}

/// What has begun and is not at its end, because of other refusals: it goes on later.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// The ceremony of a node was cut off here, and goes on here.
    #[error("{source}")]
    CutOff {
        /// The name of the node.
        name: Name,
        /// What it was cut off by.
        source: Box<Error>,
    },
    /// The removal did not come to its end: the device may still hold the credentials.
    #[error("{source}; node {name} may still hold its credentials")]
    MayHold {
        /// The name of the node.
        name: Name,
        /// What stood in the way.
        source: Box<Error>,
    },
    /// Nobody begins before those that are away have the generation.
    #[error("{} is parked until {} can be reached: {}", generation_of(.asr, *.generation), named(.away), reasons(.away))]
    Parked {
        /// The name of the ASR.
        asr: String,
        /// The generation.
        generation: u32,
        /// Who is away, and why.
        away: Vec<Away>,
    },
    /// All have the generation, and these could not be told to begin.
    #[error(
        "{} is active; {} {} with the first message of another member, or when a command reaches it: {}",
        generation_of(.asr, *.generation), named(.away),
        if .away.len() == 1 { "has it, and begins" } else { "have it, and begin" }, reasons(.away)
    )]
    BeginsLater {
        /// The name of the ASR.
        asr: String,
        /// The generation.
        generation: u32,
        /// Who is away, and why.
        away: Vec<Away>,
    },
}

/// Who is away, and why.
#[derive(Debug)]
pub struct Away {
    /// The member.
    pub name: Name,
    /// Why it was not reached.
    pub why: Error,
}

impl Unfinished {
    fn kind(&self) -> Kind {
        match self {
            // What merely failed can be resumed.
            Self::CutOff { source, .. } => match source.kind() {
                kind if kind.is_mere_failure() => Kind::Interrupted,
                kind => kind,
            },
            Self::MayHold { source, .. } => source.kind(),
            Self::Parked { .. } => Kind::Parked,
            Self::BeginsLater { .. } => Kind::BeginsLater,
        }
    }
}

fn generation_of(asr: &str, generation: u32) -> String {
    match generation {
        1 => format!("ASR {asr}"),
        generation => format!("generation {generation} of ASR {asr}"),
    }
}

fn named(away: &[Away]) -> String {
    away.iter().map(|away| away.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn reasons(away: &[Away]) -> String {
    away.iter().map(|away| away.why.to_string()).collect::<Vec<_>>().join("; ")
}

fn of_store(error: &StoreError) -> Kind {
    match error {
        StoreError::NoModule { .. } => Kind::NoModule,
        StoreError::Held => Kind::Held,
        StoreError::Exists(_) => Kind::Exists,
        StoreError::NewerSchema { .. } | StoreError::WrongVault { .. } | StoreError::Damaged { .. } => {
            Kind::ModuleDamaged
        }
        StoreError::File(_) => Kind::File,
        StoreError::Refused(_) | StoreError::Unavailable(_) => Kind::Failed,
    }
}

fn of_lock(error: &LockError) -> Kind {
    match error {
        LockError::Held { .. } => Kind::Held,
        LockError::File(_) => Kind::File,
    }
}

/// With everything that it was caused by, in one line.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.inner().to_string();
        let mut source = self.inner().source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        f.write_str(&text)
    }
}

impl StdError for Error {}

macro_rules! from {
    ($($variant:ident($inner:ty)),* $(,)?) => {
        $(
            impl From<$inner> for Error {
                fn from(error: $inner) -> Self {
                    Self::$variant(error)
                }
            }
        )*
    };
}

from!(
    Module(module::Refusal),
    Ceremony(ceremony::Refusal),
    Relationship(relationship::Refusal),
    Unfinished(Unfinished),
    Store(StoreError),
    Lock(LockError),
    Vault(VaultError),
    Target(TargetError),
    Stack(StackError),
    Wrap(WrapError),
    Element(ElementError),
    Disk(DiskError),
    Serve(ServeError),
);

/// What merely passed through the link is what it was.
impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Lock(error) => Self::Lock(error),
            LinkError::Store(error) => Self::Store(error),
            error => Self::Link(error),
        }
    }
}
