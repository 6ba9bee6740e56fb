//! How a root travels from the module into a TPM, past the host.
//!
//! ```text
//!   module                                                     node
//!      |  <-- material: storage key, endorsement key, PCRs ---  |  prepare
//!      |  checks both keys; the endorsement key is the element's serial number
//!      |  inner key, drawn for this once
//!      |  --- inner key, as a credential for the endorsement key that names the storage key
//!      |      root under the inner key under the storage key, authorisation  -->  |  install
//!      |                                   TPM2_ActivateCredential: inner key, if both keys are in one TPM
//!      |                                   TPM2_Import: root, under the storage key
//! ```
//!
//! The host sees the authorisation, which opens nothing without that TPM, and ciphertext.

use akm_core::cbor::{Malformed, WriteResult, read_array, read_bytes, read_map, write, write_sized};
use akm_core::crypto::hash::{hmac_sha256, sha256};
use akm_core::element::{Description, Root};
use akm_core::secret::{Secret, SecretBytes};
use minicbor::Encoder;
use zeroize::Zeroizing;

use super::crypto::{self, NoPoint, kdf_a, share};
use super::spec::Pcrs;
use super::template::{EccKey, EccRole, Name, PcrBinding, RootRole};
use super::wire::Writer;
use crate::WrapError;

/// Longest part of a wrapped root; each is far shorter.
const PART_LENGTH_MAX: usize = 512;

const ALG_KEYEDHASH: u16 = 0x0008;

/// What a module needs to know of a TPM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Material {
    pub(super) storage: EccKey,
    pub(super) endorsement: EccKey,
    pub(super) binding: Option<PcrBinding>,
}

impl Material {
    /// `{0: public area of the storage key, 1: of the endorsement key, ? 2: [PCRs, digest of their values]}`.
    pub(super) fn emit(&self) -> Vec<u8> {
        write(|encoder| {
            encoder.map(if self.binding.is_some() { 3 } else { 2 })?;
            encoder.u8(0)?.bytes(&self.storage.public)?;
            encoder.u8(1)?.bytes(&self.endorsement.public)?;
            if let Some(binding) = &self.binding {
                encoder.u8(2)?.array(2)?.bytes(&binding.pcrs.as_bytes())?.bytes(&binding.digest)?;
            }
            Ok(())
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut storage = None;
        let mut endorsement = None;
        let mut binding = None;
        read_map(bytes, |key, decoder| {
            match key {
                0 => storage = Some(EccRole::Storage.parse(decoder.bytes()?).map_err(|_| Malformed)?),
                1 => endorsement = Some(EccRole::Endorsement.parse(decoder.bytes()?).map_err(|_| Malformed)?),
                2 => {
                    if read_array(decoder, 2)? != 2 {
                        return Err(Malformed);
                    }
                    let pcrs = Pcrs::from_bytes(read_bytes(decoder)?);
                    binding = Some(PcrBinding { pcrs, digest: read_bytes(decoder)? });
                }
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let material =
            Self { storage: storage.ok_or(Malformed)?, endorsement: endorsement.ok_or(Malformed)?, binding };
        let is_binding_empty = material.binding.as_ref().is_some_and(|binding| binding.pcrs.is_empty());
        // Other spellings of the same are not ours.
        if material.emit() == bytes && !is_binding_empty { Ok(material) } else { Err(Malformed) }
    }
}

/// A root on its way. There is no `Debug`: the authorisation is a secret for everybody but the host.
#[derive(PartialEq, Eq)]
pub(super) struct Wrapped {
    pub(super) name: Root,
    pub(super) credential: Vec<u8>,
    pub(super) credential_secret: Vec<u8>,
    pub(super) public: Vec<u8>,
    pub(super) duplicate: Vec<u8>,
    pub(super) seed: Vec<u8>,
    pub(super) authorisation: Zeroizing<[u8; 32]>,
}

impl Wrapped {
    /// `{0: name, 1: TPM2B_ID_OBJECT, 2: its TPM2B_ENCRYPTED_SECRET, 3: TPM2B_PUBLIC, 4:
    /// TPM2B_PRIVATE, 5: its TPM2B_ENCRYPTED_SECRET, 6: authorisation}`, each without its length in front.
    pub(super) fn emit(&self) -> SecretBytes {
        write_sized(7 * PART_LENGTH_MAX, |encoder| self.write(encoder)).into()
    }

    fn write(&self, encoder: &mut Encoder<&mut Vec<u8>>) -> WriteResult {
        encoder.map(7)?.u8(0)?;
        encoder.bytes(&self.name.name())?;
        encoder.u8(1)?.bytes(&self.credential)?.u8(2)?.bytes(&self.credential_secret)?;
        encoder.u8(3)?.bytes(&self.public)?.u8(4)?.bytes(&self.duplicate)?.u8(5)?.bytes(&self.seed)?;
        encoder.u8(6)?.bytes(&self.authorisation[..])?;
        Ok(())
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut name = None;
        let mut parts: [Option<Vec<u8>>; 5] = Default::default();
        let mut authorisation = None;
        read_map(bytes, |key, decoder| {
            match key {
                0 => name = Some(Root::of_name(decoder.bytes()?).ok_or(Malformed)?),
                1..=5 => {
                    let part = decoder.bytes()?;
                    if part.len() > PART_LENGTH_MAX {
                        return Err(Malformed);
                    }
                    parts[usize::from(key) - 1] = Some(part.to_vec());
                }
                6 => authorisation = Some(Zeroizing::new(read_bytes(decoder)?)),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let [credential, credential_secret, public, duplicate, seed] = parts;
        let wrapped = Self {
            name: name.ok_or(Malformed)?,
            credential: credential.ok_or(Malformed)?,
            credential_secret: credential_secret.ok_or(Malformed)?,
            public: public.ok_or(Malformed)?,
            duplicate: duplicate.ok_or(Malformed)?,
            seed: seed.ok_or(Malformed)?,
            authorisation: authorisation.ok_or(Malformed)?,
        };
        // Other spellings of the same are not ours.
        if wrapped.emit().expose()[..] == *bytes { Ok(wrapped) } else { Err(Malformed) }
    }
}

/// Wraps a root for a TPM, under the name by which it shall be installed, from what its `prepare` gave.
///
/// Only a TPM that holds both the endorsement key whose name is the element's serial number and the storage key
/// beside it can install the result. Both keys must be exactly as AKM makes them: a storage key that could leave
/// its TPM, or whose private part was made outside, is refused.
pub fn wrap(
    name: Root,
    root: &Secret<32>,
    element: &Description,
    material: &[u8],
) -> Result<SecretBytes, WrapError> {
    let material = Material::parse(material).map_err(|_| WrapError::Material)?;
    if material.endorsement.name.text() != element.serial {
        return Err(WrapError::Material);
    }
    wrap_for(name, root, &material).map_err(|_| WrapError::Material)
}

fn wrap_for(name: Root, root: &Secret<32>, material: &Material) -> Result<SecretBytes, NoPoint> {
    let inner_key: Secret<16> = Secret::try_fill(|out| getrandom::fill(out)).map_err(|_| NoPoint)?;
    let obfuscation: Secret<32> = Secret::try_fill(|out| getrandom::fill(out)).map_err(|_| NoPoint)?;
    let authorisation = new_authorisation().map_err(|_| NoPoint)?;

    let unique = sha256(&[obfuscation.expose(), root.expose()]);
    let public = RootRole::Installed.public(material.binding.as_ref(), &unique);
    let object = Name::of(&public);
    let mut sensitive = Writer::new();
    sensitive.u16(ALG_KEYEDHASH).sized(authorisation.expose());
    sensitive.sized(obfuscation.expose()).sized(root.expose());

    let inner = wrap_inside(&inner_key, sensitive.as_slice(), &object);
    let (seed, encrypted_seed) = share(&material.storage.point, b"DUPLICATE")?;
    let duplicate = wrap_outside(&seed, inner, &object);
    let (credential, credential_secret) =
        make_credential(&material.endorsement, &material.storage.name, inner_key.expose())?;
    let wrapped = Wrapped {
        name,
        credential,
        credential_secret,
        public,
        duplicate,
        seed: encrypted_seed,
        authorisation: Zeroizing::new(*authorisation.expose()),
    };
    Ok(wrapped.emit())
}

/// `TPM2_MakeCredential` (part 1, section 24): a secret for the TPM that holds the endorsement key, if it holds
/// the object of this name too.
fn make_credential(endorsement: &EccKey, name: &Name, secret: &[u8]) -> Result<(Vec<u8>, Vec<u8>), NoPoint> {
    let (seed, encrypted_seed) = share(&endorsement.point, b"IDENTITY")?;
    let mut identity = Writer::new();
    identity.sized(secret);
    Ok((wrap_outside(&seed, identity.into_secret(), name), encrypted_seed))
}

/// The inner wrap of a duplicate (part 1, section 23.3.2): integrity and sensitive area under a key that travels
/// apart from it.
fn wrap_inside(key: &Secret<16>, sensitive: &[u8], name: &Name) -> Zeroizing<Vec<u8>> {
    let mut sized = Writer::new();
    sized.sized(sensitive);
    let integrity = sha256(&[sized.as_slice(), &name.0]);
    let mut inner = Writer::new();
    inner.sized(&integrity).bytes(sized.as_slice());
    crypto::encrypt(key, [0; 16], inner.as_mut_slice());
    inner.into_secret()
}

/// The outer wrap of a duplicate, and the whole of a credential: integrity and ciphertext under a seed.
pub(super) fn wrap_outside(seed: &Secret<32>, mut plain: Zeroizing<Vec<u8>>, name: &Name) -> Vec<u8> {
    let key = kdf_a(seed.expose(), b"STORAGE", &name.0, &[]);
    crypto::encrypt(&key, [0; 16], &mut plain);
    let mac_key: Secret<32> = kdf_a(seed.expose(), b"INTEGRITY", &[], &[]);
    let mac = hmac_sha256(mac_key.expose(), &[&plain, &name.0]);
    let mut wrapped = Writer::new();
    wrapped.sized(mac.expose()).bytes(&plain);
    wrapped.into_public()
}

/// A random authorisation. A TPM takes zeros at the end away, so there are none.
pub(super) fn new_authorisation() -> Result<Secret<32>, getrandom::Error> {
    loop {
        let authorisation: Secret<32> = Secret::try_fill(|out| getrandom::fill(out))?;
        if authorisation.expose().last() != Some(&0) {
            return Ok(authorisation);
        }
    }
}

#[cfg(test)]
mod tests {
    use akm_core::element::RootCheck;
    use akm_core::id::RelationshipId;
    use proptest::prelude::*;

    use super::*;

    fn wrapped() -> Wrapped {
        Wrapped {
            name: Root::Relationship {
                id: RelationshipId::from_random([1; 16]),
                version: 7,
                check: RootCheck([0; 4]),
            },
            credential: vec![1; 50],
            credential_secret: vec![2; 68],
            public: vec![3; 80],
            duplicate: vec![4; 170],
            seed: vec![5; 68],
            authorisation: Zeroizing::new([6; 32]),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Material::parse(&bytes);
            let _ = Wrapped::parse(&bytes);
        }

        #[test]
        fn an_altered_wrapped_root_is_read_without_a_panic(at: prop::sample::Index, byte: u8) {
            let mut emitted = wrapped().emit();
            let at = at.index(emitted.len());
            emitted.expose_mut()[at] = byte;
            let _ = Wrapped::parse(emitted.expose());
        }
    }

    #[test]
    fn a_wrapped_root_is_read_back_and_a_longer_or_shorter_one_refused() {
        let emitted = wrapped().emit();
        assert!(Wrapped::parse(emitted.expose()).is_ok_and(|read| read == wrapped()));
        for length in 0..emitted.len() {
            assert!(Wrapped::parse(&emitted.expose()[..length]).is_err(), "{length}");
        }
        let mut longer = emitted.expose().to_vec();
        longer.push(0);
        assert!(Wrapped::parse(&longer).is_err());
        let long = Wrapped { duplicate: vec![0; PART_LENGTH_MAX + 1], ..wrapped() };
        assert!(Wrapped::parse(long.emit().expose()).is_err());
    }
}
