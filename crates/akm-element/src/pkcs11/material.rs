//! What travels between a token and the module, and the wrapping that the module does.

use akm_core::cbor::{self, Malformed, read_bytes, read_map};
use akm_core::element::{Description, Root};
use akm_core::secret::{Secret, SecretBytes};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey,
    PublicKeyComponents,
};
use minicbor::Decoder;
use minicbor::decode::Error;

use super::object::Name;
use crate::WrapError;

/// Length of what names a transport key, drawn anew for each.
pub(super) const TRANSPORT_ID: usize = 16;

const MODULUS_MIN: usize = 2048 / 8;
const MODULUS_MAX: usize = 8192 / 8;
/// 65537; smaller ones have known attacks, and no token makes them.
const EXPONENT_MIN: u64 = 65_537;

/// What a transport key pads with: OAEP, its hash also in the mask generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    Sha256,
    /// What SoftHSM 2.6 and many tokens are limited to. OAEP does not rest on the collisions that SHA-1 has.
    Sha1,
}

impl Padding {
    /// Best first.
    pub(super) const ALL: [Self; 2] = [Self::Sha256, Self::Sha1];

    fn number(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha1 => 2,
        }
    }

    fn from_number(number: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|padding| padding.number() == number).ok_or(Malformed)
    }

    fn algorithm(self) -> &'static OaepAlgorithm {
        match self {
            Self::Sha256 => &OAEP_SHA256_MGF1SHA256,
            Self::Sha1 => &OAEP_SHA1_MGF1SHA1,
        }
    }
}

/// The public part of a transport key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicPart {
    /// Big-endian, without leading zeros.
    pub(super) modulus: Vec<u8>,
    pub(super) exponent: Vec<u8>,
}

impl PublicPart {
    /// Encrypts 32 bytes to the transport key. `None` where the key is none that a token should have made.
    pub(super) fn encrypt(&self, padding: Padding, root: &Secret<32>) -> Option<Vec<u8>> {
        let exponent = self
            .exponent
            .iter()
            .try_fold(0u64, |value, byte| value.checked_mul(256).map(|value| value + u64::from(*byte)))?;
        if !(MODULUS_MIN..=MODULUS_MAX).contains(&self.modulus.len())
            || self.modulus[0] < 0x80
            || exponent < EXPONENT_MIN
            || exponent % 2 == 0
        {
            return None;
        }
        let components = PublicKeyComponents { n: &self.modulus[..], e: &self.exponent[..] };
        let key: PublicEncryptingKey = components.try_into().ok()?;
        let key = OaepPublicEncryptingKey::new(key).ok()?;
        let mut out = vec![0; key.ciphertext_size()];
        let length = key.encrypt(padding.algorithm(), root.expose(), &mut out, None).ok()?.len();
        out.truncate(length);
        Some(out)
    }
}

/// What `prepare` gives: `{0: transport key, 1: padding, 2: modulus, 3: exponent}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Material {
    pub(super) transport: [u8; TRANSPORT_ID],
    pub(super) padding: Padding,
    pub(super) public: PublicPart,
}

impl Material {
    pub(super) fn emit(&self) -> Vec<u8> {
        cbor::write(|encoder| {
            encoder.map(4)?;
            encoder.u8(0)?.bytes(&self.transport)?;
            encoder.u8(1)?.u8(self.padding.number())?;
            encoder.u8(2)?.bytes(&self.public.modulus)?;
            encoder.u8(3)?.bytes(&self.public.exponent)?;
            Ok(())
        })
    }

    /// Reads what [`Material::emit`] made, and nothing else.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut transport, mut padding, mut modulus, mut exponent) = (None, None, None, None);
        read_map(bytes, |key, decoder| {
            match key {
                0 => transport = Some(read_bytes(decoder)?),
                1 => padding = Some(Padding::from_number(decoder.u8()?)?),
                2 => modulus = Some(at_most(decoder, MODULUS_MAX)?),
                3 => exponent = Some(at_most(decoder, size_of::<u64>())?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let material = Self {
            transport: transport.ok_or(Malformed)?,
            padding: padding.ok_or(Malformed)?,
            public: PublicPart { modulus: modulus.ok_or(Malformed)?, exponent: exponent.ok_or(Malformed)? },
        };
        // Other spellings of the same are not ours.
        if material.emit() == bytes { Ok(material) } else { Err(Malformed) }
    }
}

/// A wrapped root: `{0: transport key, 1: padding, 2: name of the root, 3: ciphertext}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrapped {
    pub(super) transport: [u8; TRANSPORT_ID],
    pub(super) padding: Padding,
    /// The root that it is wrapped for. It is not authenticated: who can change it could as well install a
    /// root of his own. It tells mistakes apart.
    pub(super) name: [u8; Name::LENGTH],
    pub(super) ciphertext: Vec<u8>,
}

impl Wrapped {
    pub(super) fn emit(&self) -> Vec<u8> {
        cbor::write(|encoder| {
            encoder.map(4)?;
            encoder.u8(0)?.bytes(&self.transport)?;
            encoder.u8(1)?.u8(self.padding.number())?;
            encoder.u8(2)?.bytes(&self.name)?;
            encoder.u8(3)?.bytes(&self.ciphertext)?;
            Ok(())
        })
    }

    /// Reads what [`Wrapped::emit`] made, and nothing else.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut transport, mut padding, mut name, mut ciphertext) = (None, None, None, None);
        read_map(bytes, |key, decoder| {
            match key {
                0 => transport = Some(read_bytes(decoder)?),
                1 => padding = Some(Padding::from_number(decoder.u8()?)?),
                2 => name = Some(read_bytes(decoder)?),
                3 => ciphertext = Some(at_most(decoder, MODULUS_MAX)?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let wrapped = Self {
            transport: transport.ok_or(Malformed)?,
            padding: padding.ok_or(Malformed)?,
            name: name.ok_or(Malformed)?,
            ciphertext: ciphertext.ok_or(Malformed)?,
        };
        if wrapped.emit() == bytes { Ok(wrapped) } else { Err(Malformed) }
    }
}

/// Wraps a root for a token, from what its `prepare` gave: for that transport key alone, which unwraps it once.
///
/// RSA: not quantum-safe by itself (protocol, section 0).
pub fn wrap(
    name: Root,
    root: &Secret<32>,
    element: &Description,
    material: &[u8],
) -> Result<SecretBytes, WrapError> {
    if element.kind != "pkcs11" {
        return Err(WrapError::Material);
    }
    let material = Material::parse(material).map_err(|_| WrapError::Material)?;
    let ciphertext = material.public.encrypt(material.padding, root).ok_or(WrapError::Material)?;
    let wrapped = Wrapped {
        transport: material.transport,
        padding: material.padding,
        name: Name::of(name).in_wrapped(),
        ciphertext,
    };
    Ok(wrapped.emit().into())
}

fn at_most(decoder: &mut Decoder<'_>, most: usize) -> Result<Vec<u8>, Error> {
    let bytes = decoder.bytes()?;
    if bytes.len() > most {
        return Err(Error::message("too long"));
    }
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use akm_core::element::{Protection, RootCheck};
    use akm_core::id::RelationshipId;
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
    use proptest::prelude::*;

    use super::*;

    fn name() -> Root {
        Root::Relationship { id: RelationshipId::from_random([7; 16]), version: 3, check: RootCheck([0; 4]) }
    }

    fn description(kind: &str) -> Description {
        Description {
            kind: kind.into(),
            manufacturer: "M".into(),
            serial: "1".into(),
            firmware: "1".into(),
            protection: Protection::Hardware,
            sealed: true,
            counter: false,
        }
    }

    fn key_pair() -> (OaepPrivateDecryptingKey, PublicPart) {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
        // It ends with the modulus and the exponent, whose head has two bytes.
        let (head, exponent) = der.as_ref().split_at(der.as_ref().len() - 3);
        let modulus = &head[head.len() - 2 - MODULUS_MIN..head.len() - 2];
        let public = PublicPart { modulus: modulus.to_vec(), exponent: exponent.to_vec() };
        (OaepPrivateDecryptingKey::new(private).unwrap(), public)
    }

    fn material(public: PublicPart, padding: Padding) -> Material {
        Material { transport: [9; TRANSPORT_ID], padding, public }
    }

    fn some_public() -> PublicPart {
        PublicPart { modulus: vec![0xff; MODULUS_MIN], exponent: vec![1, 0, 1] }
    }

    #[test]
    fn a_root_is_wrapped_for_the_key_the_padding_and_the_name() {
        let (private, public) = key_pair();
        for padding in Padding::ALL {
            let material = material(public.clone(), padding);
            let wrapped =
                wrap(name(), &Secret::take(&mut [5; 32]), &description("pkcs11"), &material.emit()).unwrap();
            let wrapped = Wrapped::parse(wrapped.expose()).unwrap();
            assert_eq!((wrapped.transport, wrapped.padding), (material.transport, padding));
            assert_eq!(wrapped.name, Name::of(name()).in_wrapped());
            let mut out = vec![0; private.min_output_size()];
            let root = private.decrypt(padding.algorithm(), &wrapped.ciphertext, &mut out, None).unwrap();
            assert_eq!(root, [5; 32]);
        }
    }

    #[test]
    fn an_element_of_another_kind_or_without_material_is_not_wrapped_for() {
        let (_, public) = key_pair();
        let material = material(public, Padding::Sha256).emit();
        let root = Secret::take(&mut [5; 32]);
        assert_eq!(wrap(name(), &root, &description("tpm"), &material).unwrap_err(), WrapError::Material);
        assert_eq!(wrap(name(), &root, &description("pkcs11"), b"").unwrap_err(), WrapError::Material);
    }

    #[test]
    fn a_key_that_is_too_short_or_has_a_bad_exponent_is_not_wrapped_for() {
        let root = Secret::take(&mut [5; 32]);
        let (_, good) = key_pair();
        assert!(good.encrypt(Padding::Sha1, &root).is_some());
        for (modulus, exponent) in [
            (&good.modulus[1..], &good.exponent[..]),
            (&good.modulus[..0], &good.exponent[..]),
            (&[&[0], &good.modulus[..]].concat()[..], &good.exponent[..]),
            (&[0xff; MODULUS_MAX + 1][..], &good.exponent[..]),
            (&good.modulus[..], &[3][..]),
            (&good.modulus[..], &[1, 0, 2][..]),
            (&good.modulus[..], &[][..]),
        ] {
            let public = PublicPart { modulus: modulus.to_vec(), exponent: exponent.to_vec() };
            assert!(public.encrypt(Padding::Sha1, &root).is_none(), "{public:?}");
        }
    }

    #[test]
    fn only_the_one_spelling_is_read() {
        let material = material(some_public(), Padding::Sha1);
        let good = material.emit();
        assert_eq!(Material::parse(&good), Ok(material));
        for length in 0..good.len() {
            assert!(Material::parse(&good[..length]).is_err(), "{length}");
        }
        assert!(Material::parse(&[&good[..], &[0]].concat()).is_err());
        let wrapped = Wrapped {
            transport: [1; TRANSPORT_ID],
            padding: Padding::Sha256,
            name: [2; Name::LENGTH],
            ciphertext: vec![3; 384],
        };
        let good = wrapped.emit();
        assert_eq!(Wrapped::parse(&good), Ok(wrapped));
        for length in 0..good.len() {
            assert!(Wrapped::parse(&good[..length]).is_err(), "{length}");
        }
        assert!(Wrapped::parse(&[&good[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(material) = Material::parse(&bytes) {
                prop_assert_eq!(material.emit(), &bytes[..]);
            }
            if let Ok(wrapped) = Wrapped::parse(&bytes) {
                prop_assert_eq!(wrapped.emit(), &bytes[..]);
            }
        }
    }
}
