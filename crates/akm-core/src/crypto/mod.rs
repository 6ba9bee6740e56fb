//! The AEADs that a relationship can use, behind one interface with two providers.
//!
//! The portable provider runs everywhere; the fast one (feature `aws-lc`) is for hosts. They make
//! the same bytes, which the vectors show for both.
//!
//! # Every key and every nonce
//!
//! All that AKM encrypts or authenticates with, in this crate and outside of it: how the key is made, what the nonce
//! is, and why the two never meet twice. Sections are those of `docs/protocol.md`. `F` is the element function, `H`
//! HMAC-SHA-256, `Extract` and `Expand` the halves of HKDF-SHA-256, `D` the digest of the public part. "Random" is 32
//! bytes of the system's generator hashed with 32 bytes that the element gave at the start, unless a line says otherwise.
//!
//! ## Secrets that others follow from
//!
//! | secret | made | lives, and how often it is made | source |
//! |---|---|---|---|
//! | parameter data vector | 128 bytes of the module's system | in the module until the next five exist; once a generation | 3.2 |
//! | element root | `Expand(PRK, "akm1 element")`, `PRK = Extract("akm1 sds" \|\| D, PDV)` | in each member's element; once an element version | 3.2 |
//! | tree root | `Expand(PRK, "akm1 tree")`; in a failsafe random, hashed with `"tree root"` | in the place, until it moves on; once a run | 3.2, 15.2 |
//! | resync key | `Expand(PRK, "akm1 resync")` | in each member's host, sealed, until the generation is erased; once a generation | 3.2 |
//! | tree node, leaf | `H(node, "akm1 tree" \|\| bit)` | in the place; the leaf until the epoch secret exists | 4 |
//! | factor | `F(element root, "akm1 epoch", generation \|\| epoch)` | until the epoch secret exists; one element call an epoch | 5 |
//! | epoch secret | `Expand(Extract(leaf, factor), "akm1 secret" \|\| D)` | while the epoch is open | 5 |
//! | export secret | `Expand(epoch secret, "akm1 export")` | while one key is made of it | 5 |
//! | exported key | `Expand(export secret, "akm1 exported" \|\| lengths \|\| label \|\| context)` | it is the application's | 5 |
//! | root of resync requests | `Extract(resync key, F(element root, "akm1 resync request", D))` | until the session ends; one element call a start | 15 |
//! | device key | drawn inside the element | in the element for good; once a node | 10 |
//! | seal of places | `F(device key, "akm1 seal", start)` | until the next start; two element calls a start | 10 |
//! | seal of kept keys | `F(device key, "akm1 seal", D)` | while they are sealed or opened; one element call a generation, and one a start | 10 |
//! | seal of host parts | `F(element root, "akm1 install", D)` | while one is sealed or opened; one element call an install | 11.2 |
//! | vault key | 32 bytes of the system; or `F(device key, "akm1 vault", salt)` of the module's element | while a command runs; once a module | `akm-provision`, `vault` |
//! | vault device key | `Expand(Extract("", vault key), "akm vault device")` | the module's device key, with start 0 | 10 |
//!
//! ## Keys that seal
//!
//! | sealed | key | nonce | why no pair comes twice | source |
//! |---|---|---|---|---|
//! | frame of a session | sender key `Expand(epoch secret, "akm1 sender" \|\| index \|\| salt)`; salt: 8 random bytes, drawn with the first frame in an epoch | 8 zero bytes \|\| u32 counter, from 0 | the place is durable before the first frame, so a restart seals in a later epoch; the counter goes up by one and stops at 2^28 frames or 2^38 bytes ([`session`](crate::session)) | 5, 6 |
//! | request to find back | `Expand(root of resync requests, "akm1 request" \|\| index \|\| nonce R)`; nonce R: 16 random bytes a request | zero | one key a request ([`keys`](crate::keys)) | 15 |
//! | response to it | `Expand(Extract(resync key, F(element root, "akm1 resync response", SHA-256(D \|\| requester \|\| responder \|\| nonce R \|\| nonce P \|\| SHA-256(request)))), "akm1 response")`; nonce P: 16 random bytes a response | zero | one key a response | 15 |
//! | place of a node or of the module | `Expand(seal of places, "akm1 state" \|\| 16 bytes of the system)`, drawn for each write | zero | one key a write ([`PlaceSeal`](crate::keys::PlaceSeal)) | 10 |
//! | header key, tag and resync key at a node | `Expand(seal of kept keys, "akm1 installed" \|\| 16 bytes of the system)` | zero | one key a time ([`KeysSeal`](crate::seal::KeysSeal)) | 10 |
//! | host part on its way to a member | `Expand(seal of host parts, "akm1 host part" \|\| index \|\| 16 bytes of the module's system)` | zero | one key a time ([`HostPartSeal`](crate::seal::HostPartSeal)) | 11.2 |
//! | secret in the module's store | `Expand(Extract("", vault key), "akm vault seal")`, XChaCha20-Poly1305 | 24 bytes of the system, drawn for each | 192 random bits | `akm-provision`, `vault` |
//! | vault key under a passphrase | Argon2id(passphrase, 16 bytes of the system), XChaCha20-Poly1305 | 24 bytes of the system | sealed once under that salt | `akm-provision`, `vault` |
//! | file of a software element | Argon2id(passphrase, 16 bytes of the system), XChaCha20-Poly1305 | 24 bytes of the system, drawn for each write | 192 random bits | `akm-element`, `software/envelope` |
//!
//! ## Keys under which a root travels into an element
//!
//! | element | key | nonce or initial value | why no pair comes twice | source |
//! |---|---|---|---|---|
//! | TPM: inner wrap | 16 bytes of the module's system, sent as a credential for the endorsement key; AES-128-CFB | zero | one key a root | `akm-element`, `tpm2/wrapping` |
//! | TPM: outer wrap, credential | `KDFa` of a seed shared by ECDH with a P-256 key used once; AES-128-CFB, HMAC-SHA-256 | zero | one seed each | `akm-element`, `tpm2/wrapping` |
//! | TPM: parameters of a command | `KDFa` of the session's key and both sides' nonces, 32 bytes each, AES-128-CFB; each command and answer also has an HMAC | from the same `KDFa` | the nonces roll with each command and each answer | `akm-element`, `tpm2/session` |
//! | PKCS#11 token | RSA-OAEP under a transport key that the token makes for one root and destroys | none | one key a root | `akm-element`, `pkcs11/transport`; ADR 12 |
//! | card: secure channel | SCP03: AES-CMAC derivation from the card's static keys, the host's 8 random bytes and the card's sequence counter; AES-128-CBC and CMAC | the command's number, encrypted | the sequence counter goes up with each channel | `docs/card.md`, 7 |
//! | card: root in that channel | the card's static DEK; AES-128-CBC | zero | one root is uniform random and two blocks long; inside the channel | `docs/card.md`, 7 |
//!
//! ## Keys that only authenticate
//!
//! | what | key | over | source |
//! |---|---|---|---|
//! | header signature, SipHash-2-4 | `Expand(PRK, "akm1 header")`; in a run above zero the first 16 bytes of `F(element root, "akm1 run", SHA-256(D \|\| run))` | the header; proves nothing | 5, 6 |
//! | proof of identify | element root, label `"akm1 identify"` | challenge of 32 bytes of the module's system, identifiers, answer | 11.1 |
//! | proof of a request | element root, label `"akm1 request"` | 16 bytes that the node drew for the stream, id, operation, body | 11 |
//! | proof of an answer | element root, label `"akm1 answer"` | challenge and those 16 bytes, id, operation, outcome, answer or reason | 11 |
//! | receipt | element root, label `"akm1 receipt"` | `D`, SHA-256 of the host part that is held, the body of the install request | 11.2 |
//! | check of a card's script | element root, label `"akm1 card"` | 16 bytes of the module's system | `docs/card.md`, 7 |

pub mod hash;
mod portable;

#[cfg(feature = "aws-lc")]
mod aws_lc;

use alloc::boxed::Box;

/// Length of an AEAD tag in bytes, for every suite.
pub const TAG_LENGTH: usize = 16;

/// Length of an AEAD nonce in bytes, for every suite.
pub const NONCE_LENGTH: usize = 12;

/// The AEAD of a relationship: chosen by the module, written into the SDS, never negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Suite {
    /// AES-256-GCM (NIST SP 800-38D).
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 2,
}

impl Suite {
    /// The suite of a number in an SDS; `None` if this stack has no such suite.
    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// The number that stands in an SDS.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// The bytes did not authenticate under this key, nonce and associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not authentic")]
pub struct NotAuthentic;

/// One AEAD key, ready for use. Wiped on drop as far as the provider does.
pub trait AeadKey: Send {
    /// Encrypts `buffer` in place and returns the tag. The caller sees to it that a nonce is never
    /// used twice under one key.
    fn seal(&self, nonce: &[u8; NONCE_LENGTH], associated: &[u8], buffer: &mut [u8]) -> [u8; TAG_LENGTH];

    /// Decrypts `buffer` in place. After an error its content is undefined and must not be used.
    fn open(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), NotAuthentic>;
}

/// Makes AEAD keys.
pub trait CryptoProvider: Sync {
    /// Makes a key of 32 bytes ready for use.
    fn aead(&self, suite: Suite, key: &[u8; 32]) -> Box<dyn AeadKey>;
}

/// The provider that runs everywhere, `no_std` included (RustCrypto).
pub static PORTABLE: &dyn CryptoProvider = &portable::Portable;

/// The provider for hosts (aws-lc-rs).
#[cfg(feature = "aws-lc")]
pub static AWS_LC: &dyn CryptoProvider = &aws_lc::AwsLc;

/// The fastest provider that this build has.
pub fn provider() -> &'static dyn CryptoProvider {
    #[cfg(feature = "aws-lc")]
    return AWS_LC;
    #[cfg(not(feature = "aws-lc"))]
    return PORTABLE;
}
