//! What a member knows of a generation, without roots and place.

use alloc::vec::Vec;

use crate::crypto::CryptoProvider;
use crate::element::{ElementError, Root, RootCheck, SecureElement};
use crate::id::AkmId;
use crate::keys::{self, ResyncPair, ResyncRequestRoot};
use crate::policy::Policy;
use crate::sds::{HeaderKey, HostKeys, ResyncKey, SynchronizedDataSet, Tag};
use crate::seal::KeysSeal;
use crate::secret::Secret;

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

/// Header key, tag and resync key of a generation, as a host has them.
#[derive(Debug)]
pub enum KeptKeys {
    /// At hand.
    Open(HostKeys),
    /// Sealed under the device key (see [`KeysSeal`]), but for the tag of run 0, which every frame shows. They are opened
    /// when the first frame is made or heard.
    Sealed {
        /// The tag of run 0.
        tag: Tag,
        /// All three.
        sealed: Vec<u8>,
    },
}

impl KeptKeys {
    /// The tag of run 0.
    pub fn tag(&self) -> Tag {
        match self {
            Self::Open(keys) => keys.tag,
            Self::Sealed { tag, .. } => *tag,
        }
    }
}

impl From<HostKeys> for KeptKeys {
    fn from(keys: HostKeys) -> Self {
        Self::Open(keys)
    }
}

/// Who finds back, or helps to, has opened the keys that the host keeps.
const OPENED: &str = "they were opened before";

/// What a member knows of a generation, without roots and place.
#[derive(Debug)]
pub struct Membership {
    sds: SynchronizedDataSet,
    index: u16,
    policy: Policy,
    root: Root,
    keys: KeptKeys,
}

impl Membership {
    /// Joins the public part with what the host was given at installation.
    pub fn new(
        sds: SynchronizedDataSet,
        node: AkmId,
        check: RootCheck,
        keys: impl Into<KeptKeys>,
    ) -> Result<Self, NotAMember> {
        let policy = Policy::parse(sds.policy()).map_err(|_| NotAMember::UnknownPolicy)?;
        Self::with_policy(sds, node, check, keys, policy)
    }

    /// Like [`Membership::new`], for a caller that reads the opaque policy of the SDS itself.
    pub fn with_policy(
        sds: SynchronizedDataSet,
        node: AkmId,
        check: RootCheck,
        keys: impl Into<KeptKeys>,
        policy: Policy,
    ) -> Result<Self, NotAMember> {
        let index = sds.index_of(node).ok_or(NotAMember::NotListed)?;
        let root = sds.root(check);
        Ok(Self { sds, index, policy, root, keys: keys.into() })
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

    /// The header key as installed, that of run 0; `None` while it is sealed.
    pub fn header_key(&self) -> Option<&HeaderKey> {
        match &self.keys {
            KeptKeys::Open(keys) => Some(&keys.header_key),
            KeptKeys::Sealed { .. } => None,
        }
    }

    /// The resync key; `None` while it is sealed.
    pub fn resync_key(&self) -> Option<&ResyncKey> {
        match &self.keys {
            KeptKeys::Open(keys) => Some(&keys.resync_key),
            KeptKeys::Sealed { .. } => None,
        }
    }

    /// The tag as installed, that of run 0.
    pub fn tag(&self) -> Tag {
        self.keys.tag()
    }

    /// The name of this relationship's root in the element.
    pub fn root(&self) -> Root {
        self.root
    }

    /// Opens what is sealed: one element call. Returns whether the keys are at hand.
    pub(super) fn open_keys(
        &mut self,
        provider: &dyn CryptoProvider,
        element: &mut dyn SecureElement,
    ) -> Result<bool, ElementError> {
        let KeptKeys::Sealed { tag, sealed } = &self.keys else { return Ok(true) };
        let seal = KeysSeal::derive(element, &self.sds)?;
        let opened = seal.open(provider, sealed).ok().filter(|keys| keys.tag == *tag);
        let is_open = opened.is_some();
        if let Some(keys) = opened {
            self.keys = KeptKeys::Open(keys);
        }
        Ok(is_open)
    }

    /// From which the keys of requests to find back follow: one element call. The keys that the host keeps are open.
    pub(super) fn request_root(
        &self,
        element: &mut dyn SecureElement,
    ) -> Result<ResyncRequestRoot, ElementError> {
        let resync_key = self.resync_key().expect(OPENED);
        ResyncRequestRoot::derive(element, self.root, self.sds.digest(), resync_key)
    }

    /// The key of a response: one element call. The keys that the host keeps are open.
    pub(super) fn response_key(
        &self,
        pair: &ResyncPair,
        element: &mut dyn SecureElement,
    ) -> Result<Secret<32>, ElementError> {
        let resync_key = self.resync_key().expect(OPENED);
        keys::resync_response_key(element, self.root, self.sds.digest(), resync_key, pair)
    }

    /// Header key and tag of a run: one element call for any but run 0. There is no header key while that of run 0 is
    /// sealed.
    pub(super) fn run_header(
        &self,
        run: u32,
        element: &mut dyn SecureElement,
    ) -> Result<(Option<HeaderKey>, Tag), ElementError> {
        if run == 0 {
            return Ok((self.header_key().map(Secret::duplicate), self.tag()));
        }
        let (header_key, tag) = keys::run_header(element, self.root, self.sds.digest(), run)?;
        Ok((Some(header_key), tag))
    }
}
