//! The provider that runs everywhere: RustCrypto.

use alloc::boxed::Box;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;

use super::{AeadKey, CryptoProvider, NONCE_LENGTH, NotAuthentic, Suite, TAG_LENGTH};

pub(super) struct Portable;

impl CryptoProvider for Portable {
    fn aead(&self, suite: Suite, key: &[u8; 32]) -> Box<dyn AeadKey> {
        match suite {
            Suite::Aes256Gcm => Box::new(Aes256Gcm::new(key.into())),
            Suite::ChaCha20Poly1305 => Box::new(ChaCha20Poly1305::new(key.into())),
        }
    }
}

impl<A> AeadKey for A
where
    A: AeadInOut<NonceSize = aes_gcm::aead::consts::U12, TagSize = aes_gcm::aead::consts::U16> + Send,
{
    fn seal(&self, nonce: &[u8; NONCE_LENGTH], associated: &[u8], buffer: &mut [u8]) -> [u8; TAG_LENGTH] {
        self.encrypt_inout_detached(&(*nonce).into(), associated, buffer.into())
            .expect("a frame is far below the length limit of either AEAD")
            .into()
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), NotAuthentic> {
        self.decrypt_inout_detached(&(*nonce).into(), associated, buffer.into(), &(*tag).into())
            .map_err(|_| NotAuthentic)
    }
}
