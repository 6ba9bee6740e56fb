//! Proofs between module and node (protocol, section 11): each is the element function under the root of the provisioning
//! relationship, so a node makes them by its element and its module by the root that it has.

use crate::crypto::hash::sha256;
use crate::element::{ElementError, Label, Root, SecureElement};
use crate::id::{AkmId, RelationshipId};
use crate::keys::element_function;
use crate::sds::ElementRoot;
use crate::secret::Secret;

/// Length of the nonce that a node draws for each stream.
pub const STREAM_NONCE_LENGTH: usize = 16;

/// What tells one stream from all others: the nonce is the node's, the challenge the module's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamBinding {
    /// That of the `identify` that began the stream.
    pub challenge: [u8; 32],
    /// That of the answer to it.
    pub nonce: [u8; STREAM_NONCE_LENGTH],
}

/// What a proof says. The root is named when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    label: Label,
    context: [u8; 32],
}

impl Proof {
    /// An answer to `identify` comes from the element. `identity` is taken byte for byte as it was sent.
    pub fn identify(
        challenge: &[u8; 32],
        node: AkmId,
        relationship: RelationshipId,
        identity: &[u8],
    ) -> Self {
        let context = sha256(&[challenge, node.as_bytes(), relationship.as_bytes(), &sha256(&[identity])]);
        Self { label: Label::Identify, context }
    }

    /// A request belongs to a stream, and comes from a module that has the root.
    pub fn request(nonce: &[u8; STREAM_NONCE_LENGTH], id: u64, operation: u8, body: &[u8]) -> Self {
        let context = sha256(&[nonce, &id.to_be_bytes(), &[operation], &sha256(&[body])]);
        Self { label: Label::Request, context }
    }

    /// An answer comes from the element and belongs to a request of a stream. `said` is the body of the answer, or the
    /// reason where the outcome is none.
    pub fn answer(stream: &StreamBinding, id: u64, operation: u8, outcome: u8, said: &[u8]) -> Self {
        let StreamBinding { challenge, nonce } = stream;
        let context = sha256(&[challenge, nonce, &id.to_be_bytes(), &[operation, outcome], &sha256(&[said])]);
        Self { label: Label::Answer, context }
    }

    /// The generation with this digest is held with this host part, under the root that it names. `body` is what brought
    /// it, byte for byte as it was received.
    pub fn receipt(digest: &[u8; 32], host_part: &[u8; 32], body: &[u8]) -> Self {
        let context = sha256(&[digest, host_part, &sha256(&[body])]);
        Self { label: Label::Receipt, context }
    }

    /// The proof, by the element that holds the root.
    pub fn by_element(
        &self,
        element: &mut dyn SecureElement,
        root: Root,
    ) -> Result<Secret<32>, ElementError> {
        element.derive(root, self.label, &self.context)
    }

    /// The proof, for whoever has the root.
    pub fn by_root(&self, root: &ElementRoot) -> Secret<32> {
        element_function(root.expose(), self.label.as_bytes(), &self.context)
    }
}
