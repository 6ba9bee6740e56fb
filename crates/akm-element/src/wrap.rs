//! Wrapping a root for an element, at the module.

use akm_core::element::{Description, Root};
use akm_core::secret::{Secret, SecretBytes};

#[cfg(feature = "card")]
use crate::card::CardKeys;

/// What wrapping for some kinds of element takes beside what the element itself says.
#[derive(Debug, Default)]
pub struct WrapKeys {
    /// The static keys of the card, where the element is one.
    #[cfg(feature = "card")]
    pub card: Option<CardKeys>,
}

/// Why a root could not be wrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The kind of element is unknown, or this build is without it.
    #[error("this build cannot wrap a root for an element of kind {kind}")]
    UnknownKind {
        /// As the element calls itself.
        kind: String,
    },
    /// What the element said does not fit its kind, or is not of the element that it says it is.
    #[error("what the element said for wrapping is malformed, or is not of that element")]
    Material,
    /// The card's keys have another version than those that are there.
    #[cfg(feature = "card")]
    #[error("card {serial} has keys of version {needed:#04x}, and those given have version {given:#04x}")]
    OtherKeyVersion {
        /// Serial number of the card.
        serial: String,
        /// The version that the card names.
        needed: u8,
        /// The version that is there.
        given: u8,
    },
    /// Wrapping takes random bytes.
    #[cfg(feature = "card")]
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// Keys are needed that are not there.
    #[error("the keys of card {serial} are needed")]
    KeysNeeded {
        /// Serial number of the card.
        serial: String,
    },
}

/// Wraps a root for an element, under the name by which it shall be installed there, from the element's description and
/// what its `prepare` gave. Each is for one installation: `prepare` again, and wrap again, for the next. A software element has no key to
/// unwrap with: for it the result holds the root in clear.
pub fn wrap(
    name: Root,
    root: &Secret<32>,
    element: &Description,
    material: &[u8],
    keys: &WrapKeys,
) -> Result<SecretBytes, WrapError> {
    match element.kind.as_str() {
        "software" => Ok(crate::software::wrap_for_software(root)),
        #[cfg(feature = "tpm2")]
        "tpm" => crate::tpm2::wrap(name, root, element, material),
        #[cfg(feature = "pkcs11")]
        "pkcs11" => crate::pkcs11::wrap(name, root, element, material),
        #[cfg(feature = "card")]
        "card" => match &keys.card {
            Some(keys) => crate::card::wrap(name, root, element, material, keys),
            None => Err(WrapError::KeysNeeded { serial: element.serial.clone() }),
        },
        kind => {
            let _ = (name, material, keys);
            Err(WrapError::UnknownKind { kind: kind.to_owned() })
        }
    }
}
