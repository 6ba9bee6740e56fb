//! What a member knows of a generation, without roots and place.

use crate::element::{ElementError, Root, SecureElement};
use crate::id::AkmId;
use crate::keys;
use crate::policy::Policy;
use crate::sds::{HeaderKey, SynchronizedDataSet, Tag};

/// Why a node cannot take part in a relationship with this SDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAMember {
    /// The node is not in the list of members.
    #[error("this node is not a member")]
    NotListed,
    /// The policy has something that this stack does not understand.
    #[error("the policy is not understood by this version of the stack")]
    UnknownPolicy,
}

/// What a member knows of a generation, without roots and place.
#[derive(Debug)]
pub struct Membership {
    sds: SynchronizedDataSet,
    index: u16,
    policy: Policy,
    header_key: HeaderKey,
    tag: Tag,
}

impl Membership {
    /// Joins the public part with what the host was given at installation.
    pub fn new(
        sds: SynchronizedDataSet,
        node: AkmId,
        header_key: HeaderKey,
        tag: Tag,
    ) -> Result<Self, NotAMember> {
        let policy = Policy::parse(sds.policy()).map_err(|_| NotAMember::UnknownPolicy)?;
        Self::with_policy(sds, node, header_key, tag, policy)
    }

    /// Like [`Membership::new`], for a caller that reads the opaque policy of the SDS itself.
    pub fn with_policy(
        sds: SynchronizedDataSet,
        node: AkmId,
        header_key: HeaderKey,
        tag: Tag,
        policy: Policy,
    ) -> Result<Self, NotAMember> {
        let index = sds.index_of(node).ok_or(NotAMember::NotListed)?;
        Ok(Self { sds, index, policy, header_key, tag })
    }

    /// The public part.
    pub fn sds(&self) -> &SynchronizedDataSet {
        &self.sds
    }

    /// This node's place in the list of members.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// How the members behave.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The header key as installed, that of run 0.
    pub fn header_key(&self) -> &HeaderKey {
        &self.header_key
    }

    /// The tag as installed, that of run 0.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Header key and tag of a run: one element call for any but run 0.
    pub(super) fn run_header(
        &self,
        run: u32,
        element: &mut dyn SecureElement,
    ) -> Result<(HeaderKey, Tag), ElementError> {
        match run {
            0 => Ok((self.header_key.duplicate(), self.tag)),
            run => keys::run_header(element, self.root(), self.sds.digest(), run),
        }
    }

    /// The name of this relationship's root in the element.
    pub fn root(&self) -> Root {
        self.sds.root()
    }
}
