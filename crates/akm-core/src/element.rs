//! What the protocol asks of a secure element.
//!
//! The traits are small on purpose. Every element has the element function `F`; one that can also be
//! provisioned, or that has a counter, implements the trait for that. A capability that an element
//! lacks is a missing trait, never a method that answers "not supported".

mod account;

use alloc::string::String;
use alloc::vec::Vec;

pub use account::{Account, ElementTime};

use crate::crypto::hash::sha256;
use crate::id::RelationshipId;
use crate::secret::Secret;

/// The domain labels of the element function (protocol, section 1): a closed set, so that no
/// caller's bytes ever reach an element as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The factor of an epoch.
    Epoch,
    /// Header key and tag of a run above zero.
    Run,
    /// The keys under which a node seals its places, and what it keeps of a generation.
    Seal,
    /// Proof that what an install request brings is held, under the root that it names.
    Receipt,
    /// Proof that an answer to `identify` comes from the element.
    Identify,
    /// The vault key of a provisioning module whose vault is in an element.
    Vault,
    /// From which the keys of resync requests follow.
    ResyncRequest,
    /// The key of one resync response.
    ResyncResponse,
    /// Proof that a request comes from a module that has the root.
    Request,
    /// Proof that an answer comes from the element, and belongs to what was asked.
    Answer,
    /// The key under which a host part travels to the element's host.
    Install,
    /// The key under which a record of one module for another is kept in a file.
    Sponsor,
    /// Word of the module that took a node over, that the one before may resign.
    Resign,
}

impl Label {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Epoch,
        Self::Run,
        Self::Seal,
        Self::Receipt,
        Self::Identify,
        Self::Vault,
        Self::ResyncRequest,
        Self::ResyncResponse,
        Self::Request,
        Self::Answer,
        Self::Install,
        Self::Sponsor,
        Self::Resign,
    ];

    /// The ASCII bytes that go into the element function.
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Epoch => b"akm1 epoch",
            Self::Run => b"akm1 run",
            Self::Seal => b"akm1 seal",
            Self::Receipt => b"akm1 receipt",
            Self::Identify => b"akm1 identify",
            Self::Vault => b"akm1 vault",
            Self::ResyncRequest => b"akm1 resync request",
            Self::ResyncResponse => b"akm1 resync response",
            Self::Request => b"akm1 request",
            Self::Answer => b"akm1 answer",
            Self::Install => b"akm1 install",
            Self::Sponsor => b"akm1 sponsor",
            Self::Resign => b"akm1 resign",
        }
    }
}

/// The first four bytes of a root's SHA-256: part of its name, so that two roots that were given one version by mistake
/// are told apart. Says nothing of use about the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootCheck(pub [u8; 4]);

impl RootCheck {
    /// That of a root.
    pub fn of(root: &Secret<32>) -> Self {
        let [a, b, c, d, ..] = sha256(&[root.expose()]);
        Self([a, b, c, d])
    }
}

/// Names a root that an element holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// The device key: made inside the element at enrolment, known to nobody else.
    Device,
    /// The element root of a relationship at one element version.
    Relationship {
        /// The relationship.
        id: RelationshipId,
        /// The element version, as in its SDS.
        version: u32,
        /// What tells this root from another of the same version.
        check: RootCheck,
    },
}

/// Length of a root's name as bytes.
pub const ROOT_NAME_LENGTH: usize = 24;

impl Root {
    /// Its name as bytes: `relationship ID || u32 version || root check`. That of the device key is all zero.
    pub fn name(self) -> [u8; ROOT_NAME_LENGTH] {
        let mut name = [0; ROOT_NAME_LENGTH];
        if let Self::Relationship { id, version, check } = self {
            name[..16].copy_from_slice(id.as_bytes());
            name[16..20].copy_from_slice(&version.to_be_bytes());
            name[20..].copy_from_slice(&check.0);
        }
        name
    }

    /// The root of a relationship with this name; `None` if there can be none.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        let (id, rest) = name.split_first_chunk::<16>()?;
        let (version, check) = rest.split_first_chunk()?;
        Some(Self::Relationship {
            id: RelationshipId::from_bytes(*id).ok()?,
            version: u32::from_be_bytes(*version),
            check: RootCheck(check.try_into().ok()?),
        })
    }
}

/// Whether an element withstands somebody who controls the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A device of its own keeps the roots.
    Hardware,
    /// A program keeps the roots: it protects nothing from root on the same machine.
    Software,
}

/// What an element says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Kind in the words of the command line, such as `software` or `tpm`.
    pub kind: String,
    /// Who made it.
    pub manufacturer: String,
    /// Serial number, unique for this manufacturer.
    pub serial: String,
    /// Version of its firmware or program.
    pub firmware: String,
    /// What it withstands.
    pub protection: Protection,
    /// Whether its content is sealed under something that is not stored beside it, such as a
    /// passphrase or a PIN.
    pub sealed: bool,
    /// Whether it has a counter, so that a place from an older disk is recognised.
    pub counter: bool,
}

impl Description {
    /// The identity that the module binds an AKM ID to: `manufacturer || 0x00 || serial`
    /// (protocol, section 2).
    pub fn identity(&self) -> Vec<u8> {
        let mut identity = Vec::from(self.manufacturer.as_bytes());
        identity.push(0);
        identity.extend_from_slice(self.serial.as_bytes());
        identity
    }
}

/// Why an element did not do what was asked. Named for what the caller can do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// Busy, removed, or its storage failed: try again when that is mended.
    #[error("the element is not available: {0}")]
    Unavailable(String),
    /// It will not do this: stop.
    #[error("the element refused: {0}")]
    Refused(String),
    /// It does not hold this root.
    #[error("the element holds no such root")]
    NoSuchRoot,
    /// It has no room for another root.
    #[error("the element is full")]
    Full,
    /// Its content fails its own checks.
    #[error("the element's content is damaged: {0}")]
    Damaged(String),
    /// It was not asked yet: whoever stands in for it has to ask it first. The same call again will be answered then.
    #[error("the element was not asked yet")]
    Unanswered,
}

/// An element as the session engine uses it: the element function and randomness.
pub trait SecureElement {
    /// The element function `F` under one of its roots. `context` has at most 32 bytes.
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError>;

    /// Fills `out` from the element's own generator.
    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError>;

    /// Whoever keeps account of its time; `None`: nobody does, and it may be asked at any time.
    fn time(&mut self) -> Option<&mut dyn ElementTime> {
        None
    }
}

/// An element into which a module can put roots.
pub trait ProvisionableElement: SecureElement {
    /// What the element says of itself.
    fn description(&self) -> Description;

    /// What a module needs to wrap a root for this element; opaque to the protocol.
    fn prepare(&mut self) -> Result<Vec<u8>, ElementError>;

    /// Makes the device key inside the element if it has none. Repeating changes nothing.
    fn make_device_key(&mut self) -> Result<(), ElementError>;

    /// Unwraps a root and keeps it durably. Installing the root that is held changes nothing;
    /// another under the same name is [`ElementError::Refused`].
    fn install(&mut self, root: Root, wrapped: &[u8]) -> Result<(), ElementError>;

    /// Erases a root durably. Erasing one that is not there changes nothing.
    fn erase(&mut self, root: Root) -> Result<(), ElementError>;

    /// The roots that it holds, in ascending order.
    fn roots(&mut self) -> Result<Vec<Root>, ElementError>;

    /// The counter, where the element has one.
    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter>;
}

/// A number that only ever goes up, also across crashes and restored disks.
pub trait MonotonicCounter {
    /// Reads it.
    fn value(&mut self) -> Result<u64, ElementError>;

    /// Counts up by one, durably, and returns what it is then.
    fn count_up(&mut self) -> Result<u64, ElementError>;
}
