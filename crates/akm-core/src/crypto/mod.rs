//! The AEADs that a relationship can use, behind one interface with two providers.
//!
//! The portable provider runs everywhere; the fast one (feature `aws-lc`) is for hosts. They make
//! the same bytes, which the vectors show for both.

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
