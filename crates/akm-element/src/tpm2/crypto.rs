//! The compositions of TPM 2.0 (Library Specification, part 1, sections 11.4 and C.6), from the primitives of
//! libraries: key derivation, AES-128-CFB, and secrets shared with a key of the TPM.

use akm_core::crypto::hash::{hmac_sha256, sha256};
use akm_core::secret::Secret;
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

use super::wire::Writer;

/// A point of P-256: x and y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) x: [u8; 32],
    pub(super) y: [u8; 32],
}

/// The bytes are no point of P-256.
#[derive(Debug)]
pub(super) struct NoPoint;

/// `KDFa` with HMAC-SHA-256 (NIST SP 800-108, counter mode) for at most 256 bits.
pub(super) fn kdf_a<const N: usize>(key: &[u8], label: &[u8], u: &[u8], v: &[u8]) -> Secret<N> {
    const { assert!(N <= 32) };
    let block = hmac_sha256(key, &[&1u32.to_be_bytes(), label, &[0], u, v, &(N as u32 * 8).to_be_bytes()]);
    Secret::fill(|out| out.copy_from_slice(&block.expose()[..N]))
}

/// A secret that only the holder of `point` can find, and what it finds it from: a `TPM2B_ENCRYPTED_SECRET`
/// without its length (ECDH with a key used once, then `KDFe` with SHA-256).
pub(super) fn share(point: &Point, label: &[u8]) -> Result<(Secret<32>, Vec<u8>), NoPoint> {
    let ours = PrivateKey::generate(&ECDH_P256).map_err(|_| NoPoint)?;
    let public = ours.compute_public_key().map_err(|_| NoPoint)?;
    let (x, y) = match public.as_ref().split_first() {
        Some((4, rest)) if rest.len() == 64 => rest.split_at(32),
        _ => return Err(NoPoint),
    };
    let mut theirs = [4; 65];
    theirs[1..33].copy_from_slice(&point.x);
    theirs[33..].copy_from_slice(&point.y);
    let theirs = UnparsedPublicKey::new(&ECDH_P256, theirs);
    let seed = agreement::agree(&ours, theirs, NoPoint, |z| {
        let mut hash = sha256(&[&1u32.to_be_bytes(), z, label, &[0], x, &point.x]);
        Ok(Secret::take(&mut hash))
    })?;
    let mut encrypted = Writer::new();
    encrypted.sized(x).sized(y);
    Ok((seed, encrypted.into_public()))
}

/// Encrypts in place with AES-128-CFB.
pub(super) fn encrypt(key: &Secret<16>, iv: [u8; 16], bytes: &mut [u8]) {
    UnboundCipherKey::new(&AES_128, key.expose())
        .and_then(EncryptingKey::cfb128)
        .and_then(|key| key.less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(iv))))
        .expect("AES-128-CFB takes bytes of any length");
}

/// Decrypts in place with AES-128-CFB.
pub(super) fn decrypt(key: &Secret<16>, iv: [u8; 16], bytes: &mut [u8]) {
    UnboundCipherKey::new(&AES_128, key.expose())
        .and_then(DecryptingKey::cfb128)
        .and_then(|key| key.decrypt(bytes, DecryptionContext::Iv128(FixedLength::from(iv))).map(drop))
        .expect("AES-128-CFB takes bytes of any length");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cfb_is_that_of_nist_sp_800_38a() {
        // F.3.13, the first block and half of the second.
        let key = Secret::take(&mut [
            0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c,
        ]);
        let iv = std::array::from_fn(|at| at as u8);
        let plain = [
            0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a,
            0xae, 0x2d, 0x8a, 0x57, 0x1e, 0x03, 0xac, 0x9c,
        ];
        let mut bytes = plain;
        encrypt(&key, iv, &mut bytes);
        assert_eq!(
            bytes,
            [
                0x3b, 0x3f, 0xd9, 0x2e, 0xb7, 0x2d, 0xad, 0x20, 0x33, 0x34, 0x49, 0xf8, 0xe8, 0x3c, 0xfb,
                0x4a, 0xc8, 0xa6, 0x45, 0x37, 0xa0, 0xb3, 0xa9, 0x3f,
            ]
        );
        decrypt(&key, iv, &mut bytes);
        assert_eq!(bytes, plain);
    }

    #[test]
    fn bytes_that_are_no_point_of_the_curve_share_nothing() {
        assert!(share(&Point { x: [1; 32], y: [1; 32] }, b"DUPLICATE").is_err());
        assert!(share(&Point { x: [0; 32], y: [0; 32] }, b"DUPLICATE").is_err());
    }
}
