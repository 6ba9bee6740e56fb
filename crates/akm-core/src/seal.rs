//! What is sealed of a generation: the host part on its way to a node, and what the node's host keeps of it.
//!
//! ```text
//!   module:  host part -- under the element root, for one member ----> install, envelope
//!   node:    header key, tag, resync key -- under the device key ----> Installed
//! ```
//!
//! So whoever reads the way of an install, or has the disk of a node, has nothing without the element.

use alloc::vec::Vec;

use crate::crypto::hash::expand;
use crate::crypto::{CryptoProvider, NONCE_LENGTH, NotAuthentic, Suite, TAG_LENGTH};
use crate::element::{ElementError, Label, Root, SecureElement};
use crate::keys::element_function;
use crate::sds::{ElementRoot, HOST_KEYS_LENGTH, HOST_PART_LENGTH, HostKeys, HostPart, SynchronizedDataSet};
use crate::secret::{Secret, SecretBytes};

/// Length of the random bytes that stand before the ciphertext.
const RANDOM_LENGTH: usize = 16;

/// Length of a host part that is sealed, in bytes.
pub const SEALED_HOST_PART_LENGTH: usize = RANDOM_LENGTH + HOST_PART_LENGTH + TAG_LENGTH;

/// Length of sealed [`HostKeys`], in bytes.
pub const SEALED_KEYS_LENGTH: usize = RANDOM_LENGTH + HOST_KEYS_LENGTH + TAG_LENGTH;

/// From which the keys follow under which the host part of one generation travels to its members.
#[derive(Debug)]
pub struct HostPartSeal(OfGeneration);

impl HostPartSeal {
    /// As the node makes it, by the element that holds the root.
    pub fn by_element(
        element: &mut dyn SecureElement,
        root: Root,
        sds: &SynchronizedDataSet,
    ) -> Result<Self, ElementError> {
        let key = element.derive(root, Label::Install, sds.digest())?;
        Ok(Self(OfGeneration::new(key, sds)))
    }

    /// As the module makes it, which has the root.
    pub fn by_root(root: &ElementRoot, sds: &SynchronizedDataSet) -> Self {
        let key = element_function(root.expose(), Label::Install.as_bytes(), sds.digest());
        Self(OfGeneration::new(key, sds))
    }

    /// Seals it for the member of this index. `random` makes the key one of its own for each time.
    pub fn seal(
        &self,
        provider: &dyn CryptoProvider,
        member: u16,
        random: &[u8; RANDOM_LENGTH],
        part: &HostPart,
    ) -> Vec<u8> {
        self.0.seal(provider, &info(&member.to_be_bytes()), random, part.emit().expose())
    }

    /// Opens what was sealed for the member of this index.
    pub fn open(
        &self,
        provider: &dyn CryptoProvider,
        member: u16,
        sealed: &[u8],
    ) -> Result<HostPart, NotAuthentic> {
        let opened = self.0.open(provider, &info(&member.to_be_bytes()), sealed)?;
        HostPart::parse(opened.expose()).ok_or(NotAuthentic)
    }
}

fn info(member: &[u8; 2]) -> [&[u8]; 2] {
    [b"akm1 host part", member]
}

/// From which the key follows under which a node keeps the [`HostKeys`] of one generation.
#[derive(Debug)]
pub struct KeysSeal(OfGeneration);

const KEPT: [&[u8]; 1] = [b"akm1 installed"];

impl KeysSeal {
    /// Asks the element that holds the device key.
    pub fn derive(element: &mut dyn SecureElement, sds: &SynchronizedDataSet) -> Result<Self, ElementError> {
        let key = element.derive(Root::Device, Label::Seal, sds.digest())?;
        Ok(Self(OfGeneration::new(key, sds)))
    }

    /// Seals them. `random` makes the key one of its own for each time.
    pub fn seal(
        &self,
        provider: &dyn CryptoProvider,
        random: &[u8; RANDOM_LENGTH],
        keys: &HostKeys,
    ) -> Vec<u8> {
        self.0.seal(provider, &KEPT, random, keys.emit().expose())
    }

    /// Opens what [`KeysSeal::seal`] made.
    pub fn open(&self, provider: &dyn CryptoProvider, sealed: &[u8]) -> Result<HostKeys, NotAuthentic> {
        let opened = self.0.open(provider, &KEPT, sealed)?;
        HostKeys::parse(opened.expose()).ok_or(NotAuthentic)
    }
}

/// `random || AEAD(Expand(key, info || random, 32), nonce zero, associated data D, plaintext)`.
#[derive(Debug)]
struct OfGeneration {
    key: Secret<32>,
    suite: Suite,
    digest: [u8; 32],
}

impl OfGeneration {
    fn new(key: Secret<32>, sds: &SynchronizedDataSet) -> Self {
        Self { key, suite: sds.suite(), digest: *sds.digest() }
    }

    fn seal(
        &self,
        provider: &dyn CryptoProvider,
        info: &[&[u8]],
        random: &[u8; RANDOM_LENGTH],
        plaintext: &[u8],
    ) -> Vec<u8> {
        // With room for all of it, so that nothing is left of the plaintext where it moved away from.
        let mut sealed = Vec::with_capacity(RANDOM_LENGTH + plaintext.len() + TAG_LENGTH);
        sealed.extend_from_slice(random);
        sealed.extend_from_slice(plaintext);
        let key = self.key_of(info, random);
        let aead = provider.aead(self.suite, key.expose());
        let tag = aead.seal(&[0; NONCE_LENGTH], &self.digest, &mut sealed[RANDOM_LENGTH..]);
        sealed.extend_from_slice(&tag);
        sealed
    }

    fn open(
        &self,
        provider: &dyn CryptoProvider,
        info: &[&[u8]],
        sealed: &[u8],
    ) -> Result<SecretBytes, NotAuthentic> {
        let (random, rest) = sealed.split_first_chunk().ok_or(NotAuthentic)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(NotAuthentic)?;
        let mut opened = SecretBytes::copy_from(ciphertext);
        let aead = provider.aead(self.suite, self.key_of(info, random).expose());
        aead.open(&[0; NONCE_LENGTH], &self.digest, opened.expose_mut(), tag)?;
        Ok(opened)
    }

    fn key_of(&self, info: &[&[u8]], random: &[u8; RANDOM_LENGTH]) -> Secret<32> {
        let mut parts = Vec::from(info);
        parts.push(random);
        expand(&self.key, &parts)
    }
}
