//! The fast provider, for hosts: aws-lc-rs.

use alloc::boxed::Box;

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{AeadKey, CryptoProvider, NONCE_LENGTH, NotAuthentic, Suite, TAG_LENGTH};

pub(super) struct AwsLc;

/// `LessSafeKey` because the nonce is the frame's counter, which the session engine keeps unique.
struct Key(LessSafeKey);

impl CryptoProvider for AwsLc {
    fn aead(&self, suite: Suite, key: &[u8; 32]) -> Box<dyn AeadKey> {
        let algorithm = match suite {
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key).expect("both algorithms take keys of 32 bytes");
        Box::new(Key(LessSafeKey::new(key)))
    }
}

impl AeadKey for Key {
    fn seal(&self, nonce: &[u8; NONCE_LENGTH], associated: &[u8], buffer: &mut [u8]) -> [u8; TAG_LENGTH] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .seal_in_place_separate_tag(nonce, Aad::from(associated), buffer)
            .expect("a frame is far below the length limit of either AEAD")
            .as_ref()
            .try_into()
            .expect("both AEADs have tags of 16 bytes")
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), NotAuthentic> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(associated), tag, buffer)
            .map(|_| ())
            .map_err(|_| NotAuthentic)
    }
}
