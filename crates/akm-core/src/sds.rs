//! The synchronized data set (SDS): what the members of a relationship share.

use alloc::vec::Vec;
use core::fmt;

use crate::crypto::Suite;
use crate::crypto::hash::{expand, extract, sha256};
use crate::element::{Root, RootCheck};
use crate::id::{AkmId, RelationshipId};
use crate::secret::Secret;

const MAGIC: &[u8; 4] = b"AKM1";
const FIXED_LENGTH: usize = 4 + 1 + 16 + 4 + 4 + 16 + 2 + 2;

/// Most members of a communication relationship.
pub const MEMBERS_MAX: usize = 4096;

/// Longest encoded policy in bytes; its length stands in 16 bits.
pub const POLICY_LENGTH_MAX: usize = u16::MAX as usize;

/// The key of the header signature. It only keeps strangers from causing work.
pub type HeaderKey = Secret<16>;

/// The root of the epoch tree, for the host.
pub type TreeRoot = Secret<32>;

/// What the keys of finding back follow from, beside the element root: so that whoever gets hold of the root later opens
/// nothing of an earlier generation.
pub type ResyncKey = Secret<32>;

/// The root that goes into the element and never comes out.
pub type ElementRoot = Secret<32>;

/// Four bytes by which a receiver finds the relationship of a frame. Relationships may share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 4]);

/// What a relationship is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Between the provisioner (member 0) and one node (member 1).
    Provisioning = 1,
    /// An AKM security relationship (ASR) between two or more nodes.
    Communication = 2,
}

/// Why bytes are not the public part of an SDS, or a set of members does not make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSds {
    /// Cut short, too long, or not an SDS at all.
    #[error("not the public part of a synchronized data set")]
    Malformed,
    /// Another kind than provisioning or communication.
    #[error("unknown kind of relationship")]
    UnknownKind,
    /// A suite that this stack does not have.
    #[error("unknown suite")]
    UnknownSuite,
    /// A zero identifier.
    #[error("an identifier is zero")]
    ZeroId,
    /// Generation or element version is zero.
    #[error("generation and element version count from 1")]
    ZeroGeneration,
    /// Too few, too many, doubled, or not ascending.
    #[error(
        "a provisioning relationship has two members, any other 2 to 4096 in ascending order, none twice"
    )]
    Members,
}

/// The public part of an SDS (protocol, section 3).
///
/// Member indices are places in `members`. Made by [`SynchronizedDataSet::new`] or
/// [`SynchronizedDataSet::parse`], so what exists is valid and can be emitted.
#[derive(Clone, PartialEq, Eq)]
pub struct SynchronizedDataSet {
    kind: Kind,
    relationship: RelationshipId,
    generation: u32,
    element_version: u32,
    instance: [u8; 16],
    suite: Suite,
    members: Vec<AkmId>,
    policy: Vec<u8>,
    digest: [u8; 32],
}

/// What a module decides when it makes a generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// What the relationship is for.
    pub kind: Kind,
    /// The relationship.
    pub relationship: RelationshipId,
    /// Counts from 1.
    pub generation: u32,
    /// Rises whenever a member leaves or is suspected; counts from 1.
    pub element_version: u32,
    /// Random, so that two generations that were ever made differ.
    pub instance: [u8; 16],
    /// The AEAD.
    pub suite: Suite,
    /// Provisioning: the provisioner, then the node. Communication: in any order.
    pub members: Vec<AkmId>,
    /// Deterministic CBOR; opaque here (see [`crate::policy`]).
    pub policy: Vec<u8>,
}

impl SynchronizedDataSet {
    /// Makes the public part of a generation; sorts the members of a communication relationship.
    pub fn new(mut generation: Generation) -> Result<Self, InvalidSds> {
        if generation.kind == Kind::Communication {
            generation.members.sort_unstable();
        }
        Self::check(generation)
    }

    fn check(generation: Generation) -> Result<Self, InvalidSds> {
        let Generation { kind, relationship, generation, element_version, instance, suite, members, policy } =
            generation;
        if generation == 0 || element_version == 0 {
            return Err(InvalidSds::ZeroGeneration);
        }
        let fits = match kind {
            Kind::Provisioning => members.len() == 2 && members[0] != members[1],
            Kind::Communication => {
                (2..=MEMBERS_MAX).contains(&members.len()) && members.is_sorted_by(|a, b| a < b)
            }
        };
        if !fits {
            return Err(InvalidSds::Members);
        }
        if policy.len() > POLICY_LENGTH_MAX {
            return Err(InvalidSds::Malformed);
        }
        let mut sds = Self {
            kind,
            relationship,
            generation,
            element_version,
            instance,
            suite,
            members,
            policy,
            digest: [0; 32],
        };
        sds.digest = sha256(&[&sds.emit()]);
        Ok(sds)
    }

    /// Reads a public part. Every byte must be accounted for.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidSds> {
        let mut rest = bytes;
        let mut take = |length: usize| -> Result<&[u8], InvalidSds> {
            let (head, tail) = rest.split_at_checked(length).ok_or(InvalidSds::Malformed)?;
            rest = tail;
            Ok(head)
        };
        if take(4)? != MAGIC {
            return Err(InvalidSds::Malformed);
        }
        let kind = match take(1)?[0] {
            1 => Kind::Provisioning,
            2 => Kind::Communication,
            _ => return Err(InvalidSds::UnknownKind),
        };
        let relationship = RelationshipId::try_from(take(16)?).map_err(|_| InvalidSds::ZeroId)?;
        let generation = u32::from_be_bytes(take(4)?.try_into().expect("4 bytes"));
        let element_version = u32::from_be_bytes(take(4)?.try_into().expect("4 bytes"));
        let instance = take(16)?.try_into().expect("16 bytes");
        let suite = Suite::from_number(u16::from_be_bytes(take(2)?.try_into().expect("2 bytes")))
            .ok_or(InvalidSds::UnknownSuite)?;
        let count = usize::from(u16::from_be_bytes(take(2)?.try_into().expect("2 bytes")));
        let members = take(count * 16)?
            .chunks_exact(16)
            .map(|id| AkmId::try_from(id).map_err(|_| InvalidSds::ZeroId))
            .collect::<Result<_, _>>()?;
        let length = usize::from(u16::from_be_bytes(take(2)?.try_into().expect("2 bytes")));
        let policy = take(length)?.to_vec();
        if !rest.is_empty() {
            return Err(InvalidSds::Malformed);
        }
        Self::check(Generation {
            kind,
            relationship,
            generation,
            element_version,
            instance,
            suite,
            members,
            policy,
        })
    }

    /// The public part as it is sent and stored.
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_LENGTH + self.members.len() * 16 + 2 + self.policy.len());
        bytes.extend_from_slice(MAGIC);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(self.relationship.as_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.element_version.to_be_bytes());
        bytes.extend_from_slice(&self.instance);
        bytes.extend_from_slice(&self.suite.number().to_be_bytes());
        bytes.extend_from_slice(&(self.members.len() as u16).to_be_bytes());
        for member in &self.members {
            bytes.extend_from_slice(member.as_bytes());
        }
        bytes.extend_from_slice(&(self.policy.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.policy);
        bytes
    }

    /// What the relationship is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The relationship.
    pub fn relationship(&self) -> RelationshipId {
        self.relationship
    }

    /// Counts from 1.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The name under which an element holds the root of this generation.
    pub fn root(&self, check: RootCheck) -> Root {
        Root::Relationship { id: self.relationship(), version: self.element_version(), check }
    }

    /// Counts from 1; names the root in the element.
    pub fn element_version(&self) -> u32 {
        self.element_version
    }

    /// The AEAD.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The members; a member's index is its place in this list.
    pub fn members(&self) -> &[AkmId] {
        &self.members
    }

    /// The index of a member.
    pub fn index_of(&self, member: AkmId) -> Option<u16> {
        self.members.iter().position(|id| *id == member).map(|index| index as u16)
    }

    /// The encoded policy.
    pub fn policy(&self) -> &[u8] {
        &self.policy
    }

    /// `D`: SHA-256 of the public part.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl fmt::Debug for SynchronizedDataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SynchronizedDataSet")
            .field("kind", &self.kind)
            .field("relationship", &self.relationship)
            .field("generation", &self.generation)
            .field("element_version", &self.element_version)
            .field("suite", &self.suite)
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

/// The parameter data vector (PDV): 128 random bytes from which a generation's secrets are made.
/// It never leaves the module and is erased, by drop, once they are made.
pub struct ParameterDataVector(Secret<128>);

/// The secret part of a generation, as it goes to element and host of each member.
#[derive(Debug)]
pub struct GenerationSecrets {
    /// For the element, when the element version rises.
    pub element_root: ElementRoot,
    /// For the host.
    pub host: HostPart,
}

impl ParameterDataVector {
    /// Takes 128 bytes that the caller drew at random.
    pub fn new(random: Secret<128>) -> Self {
        Self(random)
    }

    /// Makes the secrets of the generation with this public part. The PDV is used up.
    pub fn derive(self, sds: &SynchronizedDataSet) -> GenerationSecrets {
        let salt = [b"akm1 sds", &sds.digest()[..]].concat();
        let key = extract(&salt, self.0.expose());
        let tag: Secret<4> = expand(&key, &[b"akm1 tag"]);
        GenerationSecrets {
            element_root: expand(&key, &[b"akm1 element"]),
            host: HostPart {
                tree_root: expand(&key, &[b"akm1 tree"]),
                keys: HostKeys {
                    header_key: expand(&key, &[b"akm1 header"]),
                    tag: Tag(*tag.expose()),
                    resync_key: expand(&key, &[b"akm1 resync"]),
                },
            },
        }
    }
}

impl fmt::Debug for ParameterDataVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParameterDataVector")
    }
}

/// Length of an encoded [`HostPart`], in bytes.
pub const HOST_PART_LENGTH: usize = 32 + HOST_KEYS_LENGTH;

/// Length of encoded [`HostKeys`], in bytes.
pub const HOST_KEYS_LENGTH: usize = 16 + 4 + 32;

/// What the host of each member is given of a generation.
#[derive(Debug)]
pub struct HostPart {
    /// From which the first place is made. No host keeps it.
    pub tree_root: TreeRoot,
    /// What a host keeps as long as the generation.
    pub keys: HostKeys,
}

impl HostPart {
    /// `tree root || header key || tag || resync key`.
    pub fn emit(&self) -> Secret<HOST_PART_LENGTH> {
        Secret::fill(|out| {
            let (tree_root, keys) = out.split_at_mut(32);
            tree_root.copy_from_slice(self.tree_root.expose());
            keys.copy_from_slice(self.keys.emit().expose());
        })
    }

    /// Reads what [`HostPart::emit`] made; `None` if the length is another.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (tree_root, keys) = bytes.split_at_checked(32)?;
        Some(Self { tree_root: Secret::copy_from(tree_root)?, keys: HostKeys::parse(keys)? })
    }

    /// Its SHA-256: by which a host knows it again, and what a receipt covers.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[self.emit().expose()])
    }
}

/// What a host keeps of a [`HostPart`].
#[derive(Debug)]
pub struct HostKeys {
    /// The header key of run 0.
    pub header_key: HeaderKey,
    /// The tag of run 0.
    pub tag: Tag,
    /// For finding back.
    pub resync_key: ResyncKey,
}

impl HostKeys {
    /// `header key || tag || resync key`.
    pub fn emit(&self) -> Secret<HOST_KEYS_LENGTH> {
        Secret::fill(|out| {
            out[..16].copy_from_slice(self.header_key.expose());
            out[16..20].copy_from_slice(&self.tag.0);
            out[20..].copy_from_slice(self.resync_key.expose());
        })
    }

    /// Reads what [`HostKeys::emit`] made; `None` if the length is another.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header_key, rest) = bytes.split_at_checked(16)?;
        let (tag, resync_key) = rest.split_at_checked(4)?;
        Some(Self {
            header_key: Secret::copy_from(header_key)?,
            tag: Tag(tag.try_into().ok()?),
            resync_key: Secret::copy_from(resync_key)?,
        })
    }

    /// A second copy, where they rightly have two owners.
    pub fn duplicate(&self) -> Self {
        Self {
            header_key: self.header_key.duplicate(),
            tag: self.tag,
            resync_key: self.resync_key.duplicate(),
        }
    }
}
