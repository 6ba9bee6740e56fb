//! The key schedule (protocol, sections 1, 5 and 10): from the element function to sender keys.

use crate::crypto::hash::{expand, expand_bytes, extract, hmac_sha256, sha256};
use crate::crypto::{AeadKey, CryptoProvider, NONCE_LENGTH, NotAuthentic, Suite, TAG_LENGTH};
use crate::element::{ElementError, Label, Root, SecureElement};
use crate::sds::{HeaderKey, ResyncKey, Tag};
use crate::secret::{Secret, SecretBytes};

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Longest context of the element function, in bytes.
pub const CONTEXT_LENGTH: usize = 32;

/// Bytes that stand before the ciphertext of a sealed place: `u64 s || 16 random bytes`.
pub const SEALED_PLACE_PREFIX: usize = 24;

/// The element function `F(K, label, context)`: NIST SP 800-108 in counter mode, one block,
/// HMAC-SHA-256, L = 8192. For elements that compute it in software; all others ask their element.
pub fn element_function(key: &[u8; 32], label: &[u8], context: &[u8]) -> Secret<32> {
    debug_assert!((1..=32).contains(&label.len()) && !label.contains(&0) && context.len() <= CONTEXT_LENGTH);
    hmac_sha256(key, &[&1u32.to_be_bytes(), label, &[0], context, &8192u32.to_be_bytes()])
}

/// The key material of one epoch, from which the sender keys follow. It closes with the epoch.
#[derive(Debug)]
pub struct EpochSecret(Secret<32>);

impl EpochSecret {
    /// Joins the host's half (the leaf) and the element's half (the factor). The leaf is used up.
    #[expect(clippy::needless_pass_by_value, reason = "the leaf is wiped when the epoch secret is made")]
    pub fn derive(leaf: Secret<32>, factor: &Secret<32>, digest: &[u8; 32]) -> Self {
        Self(expand(&extract(leaf.expose(), factor.expose()), &[b"akm1 secret", digest]))
    }

    /// The key under which one sender seals with one salt.
    pub fn sender_key(&self, sender: u16, salt: u64) -> Secret<32> {
        expand(&self.0, &[b"akm1 sender", &sender.to_be_bytes(), &salt.to_be_bytes()])
    }

    /// From which the keys follow that applications get of this epoch.
    pub fn export_secret(&self) -> ExportSecret {
        ExportSecret(expand(&self.0, &[b"akm1 export"]))
    }

    /// The bytes, for the vectors.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// Longest label of an exported key, in bytes.
pub const EXPORT_LABEL_MAX: usize = 64;

/// What an application asked for is not a key that can be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExportable {
    /// Labels keep applications apart, and are written in few characters, so that nobody mistakes one for another.
    #[error("a label has 1 to 64 characters, each one of a-z 0-9 - .")]
    Label,
    /// A key has at least one byte.
    #[error("a key has 1 to 255 bytes")]
    Length,
}

/// From which the keys follow that applications get of an epoch.
#[derive(Debug)]
pub struct ExportSecret(Secret<32>);

impl ExportSecret {
    /// A key of `length` bytes. All members that are in the epoch get the same for one label and context.
    pub fn key(&self, label: &str, context: &[u8], length: u8) -> Result<SecretBytes, NotExportable> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if !(1..=EXPORT_LABEL_MAX).contains(&label.len()) || !label.bytes().all(fits) {
            return Err(NotExportable::Label);
        }
        if length == 0 {
            return Err(NotExportable::Length);
        }
        let heads = [length, label.len() as u8];
        Ok(expand_bytes(&self.0, &[b"akm1 exported", &heads, label.as_bytes(), context], length))
    }

    /// The bytes, for the vectors.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// Asks the element for its half of an epoch's secret.
pub fn epoch_factor(
    element: &mut dyn SecureElement,
    root: Root,
    generation: u32,
    epoch: u32,
) -> Result<Secret<32>, ElementError> {
    let mut context = [0; 8];
    context[..4].copy_from_slice(&generation.to_be_bytes());
    context[4..].copy_from_slice(&epoch.to_be_bytes());
    element.derive(root, Label::Epoch, &context)
}

/// Header key and tag of a run above zero (protocol, section 5).
pub fn run_header(
    element: &mut dyn SecureElement,
    root: Root,
    digest: &[u8; 32],
    run: u32,
) -> Result<(HeaderKey, Tag), ElementError> {
    let context = sha256(&[digest, &run.to_be_bytes()]);
    let derived = element.derive(root, Label::Run, &context)?;
    let bytes = derived.expose();
    let header_key = HeaderKey::copy_from(&bytes[..16]).expect("16 bytes");
    Ok((header_key, Tag(bytes[16..20].try_into().expect("4 bytes"))))
}

/// The tag of the frames by which members of a generation find back, whatever their run
/// (protocol, section 15).
pub fn resync_tag(digest: &[u8; 32]) -> Tag {
    let hash = sha256(&[b"akm1 resync", digest]);
    Tag(hash[..4].try_into().expect("4 of 32 bytes"))
}

/// From which the keys of all resync requests of a generation follow. Asked for once a start, so that a
/// request costs whoever hears it no call of the element.
#[derive(Debug)]
pub struct ResyncRequestRoot(Secret<32>);

impl ResyncRequestRoot {
    /// Asks the element, and joins what the hosts of this generation have.
    pub fn derive(
        element: &mut dyn SecureElement,
        root: Root,
        digest: &[u8; 32],
        resync_key: &ResyncKey,
    ) -> Result<Self, ElementError> {
        let derived = element.derive(root, Label::ResyncRequest, digest)?;
        Ok(Self(extract(resync_key.expose(), derived.expose())))
    }

    /// The key of one request. `nonce` is drawn for each, so a key is used once.
    pub fn request_key(&self, sender: u16, nonce: &[u8; 16]) -> Secret<32> {
        expand(&self.0, &[b"akm1 request", &sender.to_be_bytes(), nonce])
    }
}

/// What tells one resync response from all others.
#[derive(Clone, Copy, Debug)]
pub struct ResyncPair {
    /// The index of the member that asked.
    pub requester: u16,
    /// The index of the member that answers.
    pub responder: u16,
    /// The nonce of the request.
    pub request_nonce: [u8; 16],
    /// The nonce of the response.
    pub response_nonce: [u8; 16],
    /// SHA-256 of the whole plaintext of the request.
    pub request_body: [u8; 32],
}

/// The key of one resync response: one element call.
pub fn resync_response_key(
    element: &mut dyn SecureElement,
    root: Root,
    digest: &[u8; 32],
    resync_key: &ResyncKey,
    pair: &ResyncPair,
) -> Result<Secret<32>, ElementError> {
    let context = sha256(&[
        digest,
        &pair.requester.to_be_bytes(),
        &pair.responder.to_be_bytes(),
        &pair.request_nonce,
        &pair.response_nonce,
        &pair.request_body,
    ]);
    let derived = element.derive(root, Label::ResyncResponse, &context)?;
    Ok(expand(&extract(resync_key.expose(), derived.expose()), &[b"akm1 response"]))
}

/// The key under which places are sealed during one start: `F(device key, "akm1 seal", u64 s)`.
#[derive(Debug)]
pub struct PlaceSeal {
    start: u64,
    key: Secret<32>,
}

impl PlaceSeal {
    /// Asks the element that holds the device key. `start` is the element's counter at this start,
    /// or zero where there is no counter.
    pub fn derive(element: &mut dyn SecureElement, start: u64) -> Result<Self, ElementError> {
        let key = element.derive(Root::Device, Label::Seal, &start.to_be_bytes())?;
        Ok(Self { start, key })
    }

    /// The start that this seal belongs to.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Seals an encoded place. `random` makes the key one of its own for each write.
    pub fn seal(
        &self,
        provider: &dyn CryptoProvider,
        suite: Suite,
        digest: &[u8; 32],
        random: &[u8; 16],
        place: &[u8],
    ) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(SEALED_PLACE_PREFIX + place.len() + TAG_LENGTH);
        sealed.extend_from_slice(&self.start.to_be_bytes());
        sealed.extend_from_slice(random);
        sealed.extend_from_slice(place);
        let tag = self.aead(provider, suite, random).seal(
            &[0; NONCE_LENGTH],
            digest,
            &mut sealed[SEALED_PLACE_PREFIX..],
        );
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens what [`PlaceSeal::seal`] made during the same start.
    pub fn open(
        &self,
        provider: &dyn CryptoProvider,
        suite: Suite,
        digest: &[u8; 32],
        sealed: &[u8],
    ) -> Result<SecretBytes, NotAuthentic> {
        if sealed_start(sealed) != Some(self.start) || sealed.len() < SEALED_PLACE_PREFIX + TAG_LENGTH {
            return Err(NotAuthentic);
        }
        let (prefix, rest) = sealed.split_at(SEALED_PLACE_PREFIX);
        let (ciphertext, tag) = rest.split_at(rest.len() - TAG_LENGTH);
        let random = prefix[8..].try_into().expect("16 bytes");
        let mut place = SecretBytes::copy_from(ciphertext);
        self.aead(provider, suite, random).open(
            &[0; NONCE_LENGTH],
            digest,
            place.expose_mut(),
            tag.try_into().expect("16 bytes"),
        )?;
        Ok(place)
    }

    fn aead(&self, provider: &dyn CryptoProvider, suite: Suite, random: &[u8; 16]) -> Box<dyn AeadKey> {
        let key: Secret<32> = expand(&self.key, &[b"akm1 state", random]);
        provider.aead(suite, key.expose())
    }
}

/// The start during which a place was sealed; `None` if the bytes are too short to say.
pub fn sealed_start(sealed: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(sealed.get(..8)?.try_into().ok()?))
}
