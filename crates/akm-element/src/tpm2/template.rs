//! The public areas of what AKM has in a TPM, byte for byte: whatever differs is not it.

use akm_core::crypto::hash::sha256;
use akm_core::text::hexadecimal;

use super::crypto::Point;
use super::spec::Pcrs;
use super::wire::{Malformed, Reader, Writer};

const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_HMAC: u16 = 0x0005;
pub(super) const ALG_AES: u16 = 0x0006;
pub(super) const ALG_SHA256: u16 = 0x000b;
pub(super) const ALG_NULL: u16 = 0x0010;
const ALG_ECC: u16 = 0x0023;
pub(super) const ALG_CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const ADMIN_WITH_POLICY: u32 = 1 << 7;
const NO_DA: u32 = 1 << 10;
const ENCRYPTED_DUPLICATION: u32 = 1 << 11;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

const CC_ACTIVATE_CREDENTIAL: u32 = 0x147;
const CC_CREATE: u32 = 0x153;
const CC_HMAC: u32 = 0x155;
const CC_IMPORT: u32 = 0x156;
const CC_LOAD: u32 = 0x157;
const CC_POLICY_AUTH_VALUE: u32 = 0x16b;
const CC_POLICY_COMMAND_CODE: u32 = 0x16c;
const CC_POLICY_OR: u32 = 0x171;
const CC_POLICY_PCR: u32 = 0x17f;

/// `PolicySecret(TPM_RH_ENDORSEMENT)`, the policy of the TCG's endorsement keys.
const POLICY_OF_ENDORSEMENT: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// Goes into the storage key beside the owner's seed, so that it is AKM's alone.
const STORAGE_LABEL: &[u8] = b"akm1 storage key";

/// The name of an object or NV index: its name algorithm, always SHA-256, and the digest of its public area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) [u8; 34]);

impl Name {
    pub(super) fn of(public: &[u8]) -> Self {
        let mut name = [0; 34];
        name[..2].copy_from_slice(&ALG_SHA256.to_be_bytes());
        name[2..].copy_from_slice(&sha256(&[public]));
        Self(name)
    }

    /// In lower-case hexadecimal digits.
    pub(super) fn text(&self) -> String {
        hexadecimal(&self.0)
    }
}

/// A key of the TPM that secrets can be encrypted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EccKey {
    pub(super) public: Vec<u8>,
    pub(super) name: Name,
    pub(super) point: Point,
}

/// The two such keys that AKM uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EccRole {
    /// AKM's storage key: a primary of the owner hierarchy under which all roots are. It can be used by policy
    /// only, and the policy permits what AKM needs. Above all it does not permit `TPM2_Rewrap`, by which whoever
    /// may use a storage key turns what was wrapped for it into something wrapped for a key of his own.
    Storage,
    /// The endorsement key of the TCG's template L-2 for P-256: which TPM it is.
    Endorsement,
}

impl EccRole {
    fn public(self, point: &Point) -> Vec<u8> {
        let base =
            FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT;
        let (attributes, policy) = match self {
            Self::Storage => (base | NO_DA, policy_of_storage()),
            Self::Endorsement => (base, POLICY_OF_ENDORSEMENT),
        };
        let mut public = Writer::new();
        public.u16(ALG_ECC).u16(ALG_SHA256).u32(attributes).sized(&policy);
        public.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_NULL).u16(CURVE_P256).u16(ALG_NULL);
        public.sized(&point.x).sized(&point.y);
        public.into_public()
    }

    /// The public area from which a TPM makes this primary key, the same each time.
    pub(super) fn template(self) -> Vec<u8> {
        let x = match self {
            Self::Storage => sha256(&[STORAGE_LABEL]),
            Self::Endorsement => [0; 32],
        };
        self.public(&Point { x, y: [0; 32] })
    }

    /// Reads the public area of such a key: every attribute and parameter is as AKM demands.
    pub(super) fn parse(self, public: &[u8]) -> Result<EccKey, Malformed> {
        let start = public.len().checked_sub(2 * (2 + 32)).ok_or(Malformed)?;
        let mut reader = Reader::new(&public[start..]);
        let mut coordinate = || -> Result<[u8; 32], Malformed> {
            if reader.u16()? != 32 {
                return Err(Malformed);
            }
            reader.array()
        };
        let point = Point { x: coordinate()?, y: coordinate()? };
        if self.public(&point) != public {
            return Err(Malformed);
        }
        Ok(EccKey { public: public.to_vec(), name: Name::of(public), point })
    }
}

/// Values of PCRs that a root is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PcrBinding {
    pub(super) pcrs: Pcrs,
    /// SHA-256 over the values in ascending order.
    pub(super) digest: [u8; 32],
}

/// What a root is in the TPM: an HMAC-SHA-256 key that can be used by policy only, and whose policy permits
/// `TPM2_HMAC` with its authorisation and nothing else. So no session of any kind can duplicate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RootRole {
    /// Wrapped by a module, imported.
    Installed,
    /// Made inside the TPM.
    Device,
}

impl RootRole {
    /// The public area. Before the key is there `unique` is empty.
    pub(super) fn public(self, binding: Option<&PcrBinding>, unique: &[u8]) -> Vec<u8> {
        let origin = match self {
            Self::Installed => ENCRYPTED_DUPLICATION,
            Self::Device => FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN,
        };
        let attributes = origin | ADMIN_WITH_POLICY | NO_DA | SIGN;
        let mut public = Writer::new();
        public.u16(ALG_KEYEDHASH).u16(ALG_SHA256).u32(attributes).sized(&policy(binding));
        public.u16(ALG_HMAC).u16(ALG_SHA256).sized(unique);
        public.into_public()
    }

    /// Checks a public area: all but the 32 bytes that the key itself decides is as demanded.
    pub(super) fn check(self, binding: Option<&PcrBinding>, public: &[u8]) -> Result<(), Malformed> {
        let unique = public.last_chunk::<32>().ok_or(Malformed)?;
        if self.public(binding, unique) == public { Ok(()) } else { Err(Malformed) }
    }
}

/// The policy of a root.
fn policy(binding: Option<&PcrBinding>) -> [u8; 32] {
    let mut digest = [0; 32];
    if let Some(PcrBinding { pcrs, digest: values }) = binding {
        digest = sha256(&[&digest, &CC_POLICY_PCR.to_be_bytes(), &pcr_selection(*pcrs), values]);
    }
    digest = sha256(&[&digest, &CC_POLICY_AUTH_VALUE.to_be_bytes()]);
    sha256(&[&digest, &CC_POLICY_COMMAND_CODE.to_be_bytes(), &CC_HMAC.to_be_bytes()])
}

/// The ways to use the storage key, each for one command, as `TPM2_PolicyOR` takes them.
pub(super) fn uses_of_storage() -> [[u8; 32]; 4] {
    [CC_ACTIVATE_CREDENTIAL, CC_CREATE, CC_IMPORT, CC_LOAD]
        .map(|code| sha256(&[&[0; 32], &CC_POLICY_COMMAND_CODE.to_be_bytes(), &code.to_be_bytes()]))
}

/// The policy of the storage key.
fn policy_of_storage() -> [u8; 32] {
    sha256(&[&[0; 32], &CC_POLICY_OR.to_be_bytes(), uses_of_storage().as_flattened()])
}

/// A `TPML_PCR_SELECTION` of the SHA-256 bank.
pub(super) fn pcr_selection(pcrs: Pcrs) -> Vec<u8> {
    let mut selection = Writer::new();
    selection.u32(1).u16(ALG_SHA256).u8(3).bytes(&pcrs.as_bytes());
    selection.into_public()
}

const NV_COUNTER: u32 = 1 << 4;
const NV_AUTH_WRITE: u32 = 1 << 2;
const NV_AUTH_READ: u32 = 1 << 18;
const NV_NO_DA: u32 = 1 << 25;
const NV_WRITTEN: u32 = 1 << 29;

/// The public area of AKM's counter under this index: read and counted up with its own authorisation only.
pub(super) fn counter_public(index: u32, is_written: bool) -> Vec<u8> {
    let written = if is_written { NV_WRITTEN } else { 0 };
    let mut public = Writer::new();
    public.u32(index).u16(ALG_SHA256);
    public.u32(NV_COUNTER | NV_AUTH_WRITE | NV_AUTH_READ | NV_NO_DA | written).sized(&[]).u16(8);
    public.into_public()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Point = Point { x: [1; 32], y: [2; 32] };

    #[test]
    fn a_key_with_any_other_byte_is_not_the_one_demanded() {
        for role in [EccRole::Storage, EccRole::Endorsement] {
            let public = role.public(&POINT);
            assert_eq!(role.parse(&public).unwrap().point, POINT);
            let coordinates = public.len() - 68;
            for at in
                (0..coordinates).chain([coordinates, coordinates + 1, coordinates + 34, coordinates + 35])
            {
                for bit in 0..8 {
                    let mut altered = public.clone();
                    altered[at] ^= 1 << bit;
                    assert!(role.parse(&altered).is_err(), "{role:?}: byte {at}, bit {bit}");
                }
            }
            for length in 0..public.len() {
                assert!(role.parse(&public[..length]).is_err(), "{role:?}: {length} bytes");
            }
        }
        assert!(EccRole::Storage.parse(&EccRole::Endorsement.public(&POINT)).is_err());
    }

    #[test]
    fn a_root_of_another_policy_or_attribute_is_not_the_one_demanded() {
        let binding = PcrBinding { pcrs: Pcrs::from_bytes([1, 0, 0]), digest: [3; 32] };
        let other = PcrBinding { pcrs: Pcrs::from_bytes([1, 0, 0]), digest: [4; 32] };
        let bindings = [None, Some(&binding), Some(&other)];
        for role in [RootRole::Installed, RootRole::Device] {
            for made in bindings {
                let public = role.public(made, &[9; 32]);
                for demanded in bindings {
                    assert_eq!(role.check(demanded, &public).is_ok(), made == demanded);
                }
                assert!(role.check(made, &role.public(made, &[9; 31])).is_err());
                assert!(role.check(made, &[]).is_err());
            }
        }
        assert!(RootRole::Installed.check(None, &RootRole::Device.public(None, &[9; 32])).is_err());
    }
}
