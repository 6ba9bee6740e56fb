//! The bytes of the file: a clear header, the content, plain or sealed, and a checksum.
//!
//! ```text
//! header                        CBOR map {0: "akm element", 1: format,
//!                                         ? 2: [salt, memory, passes, lanes, nonce, commitment]}
//! content                       CBOR byte string; with field 2 in the header: ciphertext || tag
//! SHA-256 of all that precedes  32 bytes
//! ```
//!
//! The checksum recognises accidents. Against intent there is only the seal, which covers the header. Of the 64 bytes that
//! come from a passphrase 32 are its key and 32 stand there as its commitment: so a file opens under one passphrase, and
//! whoever may write it and sees whether it opens tries one at a time.

use akm_core::cbor::{Malformed, read_array, read_bytes, read_map_from};
use akm_core::crypto::hash::sha256;
use akm_core::secret::Secret;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

const NAME: &str = "akm element";
const FORMAT: u32 = 2;
const COMMITMENT_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 32;
const SALT_LENGTH: usize = 16;
const NONCE_LENGTH: usize = 24;
const TAG_LENGTH: usize = 16;

/// Room for header, heads, tag and checksum.
const OVERHEAD_MAX: usize = 256;

/// What finding the key costs (Argon2id, RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// In KiB.
    pub(super) memory: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Cost {
    /// The second choice of RFC 9106 with one lane: 64 MiB, three passes.
    pub(super) const DEFAULT: Self = Self { memory: 64 * 1024, passes: 3, lanes: 1 };

    /// More than this is damage: no file of ours asks for it.
    const MOST: Self = Self { memory: 1024 * 1024, passes: 64, lanes: 16 };

    fn is_sane(self) -> bool {
        (1..=Self::MOST.lanes).contains(&self.lanes)
            && (1..=Self::MOST.passes).contains(&self.passes)
            && (8 * self.lanes..=Self::MOST.memory).contains(&self.memory)
    }
}

/// The key of a sealed file, with what it takes to find it again.
#[derive(Debug)]
pub(super) struct Seal {
    salt: [u8; SALT_LENGTH],
    cost: Cost,
    key: Secret<32>,
    commitment: [u8; COMMITMENT_LENGTH],
}

/// There is not enough memory to find the key.
#[derive(Debug)]
pub(super) struct OutOfMemory;

impl Seal {
    /// Finds the key of a passphrase. Takes as long as `cost` says.
    pub(super) fn derive(
        passphrase: &[u8],
        salt: [u8; SALT_LENGTH],
        cost: Cost,
    ) -> Result<Self, OutOfMemory> {
        let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(64)).map_err(|_| OutOfMemory)?;
        let count = params.block_count();
        let mut blocks = Zeroizing::new(Vec::new());
        blocks.try_reserve_exact(count).map_err(|_| OutOfMemory)?;
        blocks.resize(count, Block::default());
        let both = Secret::<64>::try_fill(|out| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
                passphrase,
                &salt,
                out,
                &mut blocks[..],
            )
        });
        let both = both.map_err(|_| OutOfMemory)?;
        let (key, commitment) = both.expose().split_at(32);
        let key = Secret::copy_from(key).expect("it is the first half");
        Ok(Self { salt, cost, key, commitment: commitment.try_into().expect("it is the second half") })
    }

    /// A seal whose key is known already, and which commits to nothing but it.
    #[cfg(feature = "fuzzing")]
    pub(super) fn of(salt: [u8; SALT_LENGTH], cost: Cost, key: Secret<32>) -> Self {
        let commitment = sha256(&[key.expose()]);
        Self { salt, cost, key, commitment }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.expose().into())
    }
}

/// Why bytes are not an element.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InvalidEnvelope {
    /// The checksum or the form is wrong.
    Damaged,
    /// Whole, and of a format that this program does not know.
    Format(u32),
}

impl From<Malformed> for InvalidEnvelope {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

/// A file that is whole, its content not yet read. There is no `Debug`: plain content is secret.
pub(super) enum Envelope<'b> {
    Plain(&'b [u8]),
    Sealed(SealedContent<'b>),
}

/// Content that needs a key.
pub(super) struct SealedContent<'b> {
    pub(super) salt: [u8; SALT_LENGTH],
    pub(super) cost: Cost,
    nonce: [u8; NONCE_LENGTH],
    commitment: [u8; COMMITMENT_LENGTH],
    header: &'b [u8],
    ciphertext: &'b [u8],
    tag: [u8; TAG_LENGTH],
}

impl<'b> Envelope<'b> {
    /// Reads the header of a file and checks its checksum. Every byte must be accounted for.
    pub(super) fn parse(file: &'b [u8]) -> Result<Self, InvalidEnvelope> {
        let (body, sum) = file.split_last_chunk::<CHECKSUM_LENGTH>().ok_or(Malformed)?;
        if sha256(&[body]) != *sum {
            return Err(InvalidEnvelope::Damaged);
        }
        let mut decoder = Decoder::new(body);
        let sealed = read_header(&mut decoder)?;
        let header = &body[..decoder.position()];
        let content = decoder.bytes().map_err(Malformed::from)?;
        if decoder.position() != body.len() {
            return Err(InvalidEnvelope::Damaged);
        }
        let Some((salt, cost, nonce, commitment)) = sealed else {
            return Ok(Self::Plain(content));
        };
        let (ciphertext, tag) = content.split_last_chunk().ok_or(Malformed)?;
        if !cost.is_sane() {
            return Err(InvalidEnvelope::Damaged);
        }
        Ok(Self::Sealed(SealedContent { salt, cost, nonce, commitment, header, ciphertext, tag: *tag }))
    }
}

impl SealedContent<'_> {
    /// The content, wiped on drop; `None` if it was not sealed so under this key.
    pub(super) fn open(&self, seal: &Seal) -> Option<Zeroizing<Vec<u8>>> {
        // It stands there in clear.
        if seal.commitment != self.commitment {
            return None;
        }
        let mut content = Zeroizing::new(self.ciphertext.to_vec());
        let (nonce, tag) = (XNonce::from(self.nonce), Tag::from(self.tag));
        seal.cipher()
            .decrypt_inout_detached(&nonce, self.header, content.as_mut_slice().into(), &tag)
            .ok()?;
        Some(content)
    }
}

/// The bytes of a file with this content. `nonce` is fresh for each file; a plain one does not use it.
pub(super) fn emit(content: &[u8], seal: Option<&Seal>, nonce: [u8; NONCE_LENGTH]) -> Zeroizing<Vec<u8>> {
    let most = content.len() + OVERHEAD_MAX;
    // Never grown: a vector that moves leaves a copy of the keys behind.
    let mut file = Zeroizing::new(Vec::with_capacity(most));
    write_header(&mut Encoder::new(&mut *file), seal, &nonce).expect("writing to a vector cannot fail");
    match seal {
        None => write_bytes(&mut file, content),
        Some(seal) => {
            let mut sealed = Zeroizing::new(Vec::with_capacity(content.len() + TAG_LENGTH));
            sealed.extend_from_slice(content);
            let tag = seal
                .cipher()
                .encrypt_inout_detached(&XNonce::from(nonce), &file, sealed.as_mut_slice().into())
                .expect("a file is far below the length limit of the cipher");
            sealed.extend_from_slice(&tag);
            write_bytes(&mut file, &sealed);
        }
    }
    let sum = sha256(&[&file]);
    file.extend_from_slice(&sum);
    debug_assert!(file.len() <= most);
    file
}

/// The bytes of a file with this sealed content, as [`emit`] would make them.
#[cfg(feature = "fuzzing")]
pub(super) fn emit_around(sealed: &SealedContent<'_>) -> Zeroizing<Vec<u8>> {
    let mut file = Zeroizing::new(Vec::new());
    let commitment = sealed.commitment;
    let seal = Seal { commitment, ..Seal::of(sealed.salt, sealed.cost, Secret::fill(|_| {})) };
    write_header(&mut Encoder::new(&mut *file), Some(&seal), &sealed.nonce)
        .expect("writing to a vector cannot fail");
    write_bytes(&mut file, &[sealed.ciphertext, &sealed.tag].concat());
    let sum = sha256(&[&file]);
    file.extend_from_slice(&sum);
    file
}

/// What tells one state of a file from any other: its checksum. `None` if there is none.
pub(super) fn checksum(file: &[u8]) -> Option<[u8; CHECKSUM_LENGTH]> {
    file.last_chunk().copied()
}

type Parameters = ([u8; SALT_LENGTH], Cost, [u8; NONCE_LENGTH], [u8; COMMITMENT_LENGTH]);

fn read_header(decoder: &mut Decoder<'_>) -> Result<Option<Parameters>, InvalidEnvelope> {
    let mut name = None;
    let mut format = None;
    let mut sealed = None;
    let read = read_map_from(decoder, |key, decoder| {
        match key {
            0 => name = Some(decoder.str()?.to_owned()),
            1 => format = Some(decoder.u32()?),
            2 => sealed = Some(read_parameters(decoder)?),
            _ => return Err(Malformed),
        }
        Ok(())
    });
    match (name.as_deref(), format) {
        (Some(NAME), Some(FORMAT)) => read?,
        (Some(NAME), Some(other)) => return Err(InvalidEnvelope::Format(other)),
        _ => return Err(InvalidEnvelope::Damaged),
    }
    Ok(sealed)
}

fn read_parameters(decoder: &mut Decoder<'_>) -> Result<Parameters, Malformed> {
    if read_array(decoder, 6)? != 6 {
        return Err(Malformed);
    }
    let salt = read_bytes(decoder)?;
    let cost = Cost { memory: decoder.u32()?, passes: decoder.u32()?, lanes: decoder.u32()? };
    Ok((salt, cost, read_bytes(decoder)?, read_bytes(decoder)?))
}

type WriteResult = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

fn write_header(
    encoder: &mut Encoder<&mut Vec<u8>>,
    seal: Option<&Seal>,
    nonce: &[u8; NONCE_LENGTH],
) -> WriteResult {
    encoder.map(if seal.is_some() { 3 } else { 2 })?;
    encoder.u8(0)?.str(NAME)?.u8(1)?.u32(FORMAT)?;
    if let Some(Seal { salt, cost, commitment, .. }) = seal {
        encoder.u8(2)?.array(6)?.bytes(salt)?;
        encoder.u32(cost.memory)?.u32(cost.passes)?.u32(cost.lanes)?.bytes(nonce)?.bytes(commitment)?;
    }
    Ok(())
}

fn write_bytes(file: &mut Vec<u8>, bytes: &[u8]) {
    Encoder::new(file).bytes(bytes).expect("writing to a vector cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory: 8, passes: 1, lanes: 1 };

    fn seal(passphrase: &[u8]) -> Seal {
        Seal::derive(passphrase, [1; SALT_LENGTH], CHEAP).unwrap()
    }

    fn with_checksum(body: &[u8]) -> Vec<u8> {
        let mut file = body.to_vec();
        file.extend_from_slice(&sha256(&[body]));
        file
    }

    #[test]
    fn plain_content_is_read_back() {
        let file = emit(b"content", None, [0; NONCE_LENGTH]);
        assert!(matches!(Envelope::parse(&file), Ok(Envelope::Plain(b"content"))));
    }

    #[test]
    fn sealed_content_opens_under_its_passphrase_only() {
        let file = emit(b"content", Some(&seal(b"right")), [2; NONCE_LENGTH]);
        let Ok(Envelope::Sealed(sealed)) = Envelope::parse(&file) else { panic!("sealed") };
        let again = Seal::derive(b"right", sealed.salt, sealed.cost).unwrap();
        assert_eq!(sealed.open(&again).unwrap().as_slice(), b"content");
        assert!(sealed.open(&seal(b"wrong")).is_none());
    }

    #[test]
    fn a_file_that_opens_under_the_key_of_a_passphrase_and_commits_to_another_does_not_open() {
        let (one, other) = (seal(b"one"), seal(b"other"));
        let key = other.key.duplicate();
        let file = emit(b"content", Some(&Seal { key, ..seal(b"one") }), [2; NONCE_LENGTH]);
        let Ok(Envelope::Sealed(sealed)) = Envelope::parse(&file) else { panic!("sealed") };
        assert!(sealed.open(&one).is_none(), "its content is sealed under the other key");
        assert!(sealed.open(&other).is_none(), "it commits to the first passphrase");
    }

    #[test]
    fn sealed_content_that_was_altered_with_its_checksum_does_not_open() {
        let seal = seal(b"right");
        let file = emit(b"content", Some(&seal), [2; NONCE_LENGTH]);
        let body = &file[..file.len() - CHECKSUM_LENGTH];
        for place in 0..body.len() {
            let mut altered = body.to_vec();
            altered[place] ^= 1;
            if let Ok(Envelope::Sealed(sealed)) = Envelope::parse(&with_checksum(&altered)) {
                assert!(sealed.open(&seal).is_none(), "byte {place}");
            }
        }
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let file = emit(b"content", None, [0; NONCE_LENGTH]);
        let mut body = file[..file.len() - CHECKSUM_LENGTH].to_vec();
        let place = 1 + 1 + 1 + NAME.len() + 1;
        assert_eq!(u32::from(body[place]), FORMAT);
        for other in [1, 3] {
            body[place] = other;
            let read = Envelope::parse(&with_checksum(&body)).err();
            assert_eq!(read, Some(InvalidEnvelope::Format(other.into())));
        }
    }

    #[test]
    fn a_cost_that_no_file_of_ours_has_is_damage() {
        for cost in [
            Cost { memory: 7, ..CHEAP },
            Cost { memory: u32::MAX, ..CHEAP },
            Cost { passes: 0, ..CHEAP },
            Cost { passes: 65, ..CHEAP },
            Cost { lanes: 0, ..CHEAP },
            Cost { lanes: u32::MAX / 8, memory: u32::MAX, ..CHEAP },
        ] {
            let mut altered = seal(b"right");
            altered.cost = cost;
            let file = emit(b"content", Some(&altered), [2; NONCE_LENGTH]);
            assert_eq!(Envelope::parse(&file).err(), Some(InvalidEnvelope::Damaged), "{cost:?}");
        }
    }
}
