//! Identifiers of nodes and relationships.

use core::fmt;
use core::str::FromStr;

/// Length of an identifier in bytes.
pub const LENGTH: usize = 16;

/// Why bytes or text are not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// All 16 bytes are zero.
    #[error("the identifier is zero")]
    Zero,
    /// Not 16 bytes, or not a UUID in hyphenated text form.
    #[error("an identifier is a UUID of 36 characters, as in 0f8fad5b-d9cb-469f-a165-70867728950e")]
    Malformed,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; LENGTH]);

        impl $name {
            /// Makes an identifier of 16 random bytes, as a UUID of version 4 (RFC 9562).
            pub fn from_random(random: [u8; LENGTH]) -> Self {
                Self(*uuid::Builder::from_random_bytes(random).as_uuid().as_bytes())
            }

            /// Takes the identifier as it stands in a frame or a record.
            pub fn from_bytes(bytes: [u8; LENGTH]) -> Result<Self, InvalidId> {
                if bytes == [0; LENGTH] { Err(InvalidId::Zero) } else { Ok(Self(bytes)) }
            }

            /// The 16 bytes, as they stand in a frame or a record.
            pub fn as_bytes(&self) -> &[u8; LENGTH] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                Self::from_bytes(bytes.try_into().map_err(|_| InvalidId::Malformed)?)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.len() != 36 {
                    return Err(InvalidId::Malformed);
                }
                let uuid = uuid::Uuid::try_parse(text).map_err(|_| InvalidId::Malformed)?;
                Self::from_bytes(*uuid.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

identifier! {
    /// The identity of an AKM node (AKM ID), given once and never used again.
    AkmId
}

identifier! {
    /// The identity of a relationship; that of a provisioning relationship is the seed's AKM
    /// Provisioning Relationship ID.
    RelationshipId
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_form_is_a_lower_case_uuid_of_version_four_and_reads_back() {
        let id = AkmId::from_random([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn zero_and_other_spellings_are_refused() {
        assert_eq!(AkmId::from_bytes([0; 16]), Err(InvalidId::Zero));
        assert_eq!("00000000-0000-0000-0000-000000000000".parse::<AkmId>(), Err(InvalidId::Zero));
        assert_eq!("ffffffffffff4fffbfffffffffffffff".parse::<AkmId>(), Err(InvalidId::Malformed));
        assert_eq!("".parse::<RelationshipId>(), Err(InvalidId::Malformed));
        assert_eq!(RelationshipId::try_from(&[1u8; 15][..]), Err(InvalidId::Malformed));
    }
}
