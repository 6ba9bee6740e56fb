//! The four functions of SHA-256 from which every key of AKM is made: hash, HMAC, and the two halves of HKDF.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::secret::{Secret, SecretBytes};

/// SHA-256 over the parts, joined.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// HMAC-SHA-256 over the parts, joined. The key may have any length.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Secret<32> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    let mut out = mac.finalize().into_bytes();
    let secret = Secret::fill(|bytes| bytes.copy_from_slice(&out));
    out.as_mut_slice().zeroize();
    secret
}

/// HKDF-Extract (RFC 5869) with SHA-256. An empty salt is that of the RFC where none is given.
pub fn extract(salt: &[u8], input: &[u8]) -> Secret<32> {
    let (mut key, _) = Hkdf::<Sha256>::extract(Some(salt), input);
    let secret = Secret::fill(|bytes| bytes.copy_from_slice(&key));
    key.as_mut_slice().zeroize();
    secret
}

/// HKDF-Expand (RFC 5869) with SHA-256. The info is `info`, joined; `N` is at most 8,160.
pub fn expand<const N: usize>(key: &Secret<32>, info: &[&[u8]]) -> Secret<N> {
    const { assert!(N <= 255 * 32) };
    let hkdf = Hkdf::<Sha256>::from_prk(key.expose()).expect("32 bytes are long enough for a PRK");
    Secret::fill(|out| hkdf.expand_multi_info(info, out).expect("N is at most 255 blocks"))
}

/// Like [`expand`], for a length that is not known before.
pub fn expand_bytes(key: &Secret<32>, info: &[&[u8]], length: u8) -> SecretBytes {
    let hkdf = Hkdf::<Sha256>::from_prk(key.expose()).expect("32 bytes are long enough for a PRK");
    let mut out = SecretBytes::zeros(length.into());
    hkdf.expand_multi_info(info, out.expose_mut()).expect("255 bytes are at most 255 blocks");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_halves_of_hkdf_are_those_of_rfc_5869_with_a_salt_and_without() {
        // Test cases 1 and 3.
        let salt: Vec<u8> = (0..13).collect();
        let info: Vec<u8> = (0xf0..0xfa).collect();
        let cases = [
            (
                &salt[..],
                &info[..],
                "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                &[],
                &[],
                "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ];
        for (salt, info, key, expanded) in cases {
            let made = extract(salt, &[0x0b; 22]);
            assert!(made.equals(&hex(key)));
            assert!(expand::<42>(&made, &[info]).equals(&hex(expanded)));
        }
    }

    #[test]
    fn parts_are_joined_without_a_mark_between_them() {
        assert_eq!(sha256(&[b"a", b"bc"]), sha256(&[b"abc"]));
        assert!(hmac_sha256(b"key", &[b"a", b"bc"]).equals(hmac_sha256(b"key", &[b"abc"]).expose()));
    }
}
