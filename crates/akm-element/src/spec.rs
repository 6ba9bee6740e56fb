//! The one line of text that names an element.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use akm_core::element::{Description, ElementError, ProvisionableElement};

#[cfg(feature = "card")]
use crate::card::{CardElement, CardSpec};
#[cfg(feature = "pkcs11")]
use crate::pkcs11::{Pkcs11Element, Pkcs11Spec};
use crate::software::SoftwareElement;
#[cfg(feature = "tpm2")]
use crate::tpm2::{TpmElement, TpmSpec};

/// Kinds that are part of AKM, and whether this build has them.
const KINDS: [(&str, bool); 4] = [
    ("software", true),
    ("tpm", cfg!(feature = "tpm2")),
    ("pkcs11", cfg!(feature = "pkcs11")),
    ("card", cfg!(feature = "card")),
];

const PASSPHRASE_FILE: &str = "passphrase-file=";

/// Which element a node uses, as one line of text: `KIND` or `KIND:WHAT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementSpec {
    /// `software` or `software:passphrase-file=/abs/path`: a file in the node's state directory.
    Software {
        /// Holds the passphrase under which the file is sealed; an absolute path.
        passphrase_file: Option<PathBuf>,
    },
    /// `tpm:device:PATH` or `tpm:swtpm:host=HOST,port=PORT`: a TPM 2.0.
    #[cfg(feature = "tpm2")]
    Tpm(TpmSpec),
    /// A PKCS#11 token, by its URI (RFC 7512).
    #[cfg(feature = "pkcs11")]
    Pkcs11(Pkcs11Spec),
    /// `card:READER`: a card with the AKM applet, in a reader whose name contains this.
    #[cfg(feature = "card")]
    Card(CardSpec),
}

/// Why a text names no element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidElementSpec {
    /// A kind that AKM knows and this program was built without.
    #[error("elements of kind {kind:?} are not in this build, which has: {}", kinds_of_this_build())]
    NotInThisBuild {
        /// As it was given.
        kind: String,
    },
    /// No kind of element at all.
    #[error("{kind:?} is no kind of element; this build has: {}", kinds_of_this_build())]
    UnknownKind {
        /// As it was given.
        kind: String,
    },
    /// A kind with something after the colon that it does not take.
    #[error("a software element takes `passphrase-file=/absolute/path` or nothing, not {option:?}")]
    SoftwareOption {
        /// As it was given.
        option: String,
    },
    /// A kind whose own text is not as it should be.
    #[error("{kind}: {why}")]
    Malformed {
        /// The kind.
        kind: &'static str,
        /// What is wrong, and what it should be.
        why: String,
    },
}

fn kinds_of_this_build() -> String {
    let here: Vec<&str> = KINDS.iter().filter(|(_, here)| *here).map(|(kind, _)| *kind).collect();
    here.join(", ")
}

impl ElementSpec {
    /// Opens the element of an enrolled node, which must exist.
    pub fn open(&self, state_dir: &Path) -> Result<Box<dyn ProvisionableElement + Send>, ElementError> {
        match self {
            Self::Software { passphrase_file } => {
                Ok(Box::new(SoftwareElement::open(state_dir, passphrase_file.as_deref())?))
            }
            #[cfg(feature = "tpm2")]
            Self::Tpm(spec) => Ok(Box::new(TpmElement::open(spec, state_dir)?)),
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(spec) => Ok(Box::new(Pkcs11Element::open(spec, state_dir)?)),
            #[cfg(feature = "card")]
            Self::Card(spec) => Ok(Box::new(CardElement::open(spec, state_dir)?)),
        }
    }

    /// Opens the element, and makes it first where it is missing and can be made. Made whole or not
    /// at all; repeating changes nothing.
    pub fn create(&self, state_dir: &Path) -> Result<Box<dyn ProvisionableElement + Send>, ElementError> {
        match self {
            Self::Software { passphrase_file } => {
                Ok(Box::new(SoftwareElement::create(state_dir, passphrase_file.as_deref())?))
            }
            #[cfg(feature = "tpm2")]
            Self::Tpm(spec) => Ok(Box::new(TpmElement::create(spec, state_dir)?)),
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(spec) => Ok(Box::new(Pkcs11Element::create(spec, state_dir)?)),
            #[cfg(feature = "card")]
            Self::Card(spec) => Ok(Box::new(CardElement::create(spec, state_dir)?)),
        }
    }
}

impl ElementSpec {
    /// What the element says of itself, without changing anything: also one that no node uses yet. A software element
    /// is a file of its node, so there is none to ask.
    pub fn describe(&self) -> Result<Description, ElementError> {
        match self {
            Self::Software { .. } => Err(ElementError::Refused(
                "a software element is a file in the state of its node: there is none here".into(),
            )),
            #[cfg(feature = "tpm2")]
            Self::Tpm(spec) => TpmElement::describe(spec),
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(spec) => Pkcs11Element::describe(spec),
            #[cfg(feature = "card")]
            Self::Card(spec) => CardElement::describe(spec),
        }
    }

    /// Throws away an element that cannot be opened any more, with all that it holds. Repeating changes
    /// nothing.
    pub fn discard(&self, state_dir: &Path) -> Result<(), ElementError> {
        match self {
            Self::Software { .. } => SoftwareElement::discard(state_dir),
            #[cfg(feature = "tpm2")]
            Self::Tpm(spec) => TpmElement::discard(spec, state_dir),
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(spec) => Pkcs11Element::discard(spec, state_dir),
            #[cfg(feature = "card")]
            Self::Card(spec) => CardElement::discard(spec, state_dir),
        }
    }
}

impl FromStr for ElementSpec {
    type Err = InvalidElementSpec;

    fn from_str(text: &str) -> Result<Self, InvalidElementSpec> {
        let (kind, option) = match text.split_once(':') {
            Some((kind, option)) => (kind, Some(option)),
            None => (text, None),
        };
        match kind {
            "software" => parse_software(option),
            #[cfg(feature = "tpm2")]
            "tpm" => Ok(Self::Tpm(option.unwrap_or_default().parse()?)),
            #[cfg(feature = "pkcs11")]
            "pkcs11" => Ok(Self::Pkcs11(option.unwrap_or_default().parse()?)),
            #[cfg(feature = "card")]
            "card" => Ok(Self::Card(option.unwrap_or_default().parse()?)),
            _ if KINDS.iter().any(|(known, _)| *known == kind) => {
                Err(InvalidElementSpec::NotInThisBuild { kind: kind.into() })
            }
            _ => Err(InvalidElementSpec::UnknownKind { kind: kind.into() }),
        }
    }
}

fn parse_software(option: Option<&str>) -> Result<ElementSpec, InvalidElementSpec> {
    let Some(option) = option else {
        return Ok(ElementSpec::Software { passphrase_file: None });
    };
    match option.strip_prefix(PASSPHRASE_FILE).map(Path::new) {
        Some(path) if path.is_absolute() => {
            Ok(ElementSpec::Software { passphrase_file: Some(path.to_path_buf()) })
        }
        _ => Err(InvalidElementSpec::SoftwareOption { option: option.into() }),
    }
}

impl fmt::Display for ElementSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Software { passphrase_file } => match passphrase_file {
                None => f.write_str("software"),
                Some(path) => write!(f, "software:{PASSPHRASE_FILE}{}", path.display()),
            },
            #[cfg(feature = "tpm2")]
            Self::Tpm(spec) => write!(f, "tpm:{spec}"),
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11(spec) => write!(f, "pkcs11:{spec}"),
            #[cfg(feature = "card")]
            Self::Card(spec) => write!(f, "card:{spec}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<ElementSpec>().unwrap_err().to_string()
    }

    #[test]
    fn software_is_read_with_and_without_a_passphrase_file() {
        assert_eq!("software".parse(), Ok(ElementSpec::Software { passphrase_file: None }));
        assert_eq!(
            "software:passphrase-file=/etc/akm/pass".parse(),
            Ok(ElementSpec::Software { passphrase_file: Some("/etc/akm/pass".into()) })
        );
    }

    #[test]
    fn a_kind_that_is_not_here_is_told_with_what_is() {
        let here = kinds_of_this_build();
        for (kind, _) in KINDS.into_iter().filter(|(_, here)| !here) {
            assert_eq!(
                refusal(&format!("{kind}:x")),
                format!("elements of kind {kind:?} are not in this build, which has: {here}")
            );
        }
        assert_eq!(refusal("soft"), format!("\"soft\" is no kind of element; this build has: {here}"));
        assert_eq!(refusal(""), format!("\"\" is no kind of element; this build has: {here}"));
    }

    #[test]
    fn software_takes_one_option_with_an_absolute_path() {
        for text in [
            "software:",
            "software:passphrase-file=",
            "software:passphrase-file=pass",
            "software:passphrase=/etc/pass",
            "software:/etc/pass",
        ] {
            assert!(refusal(text).starts_with("a software element takes"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_given_back_as_it_was(text in "(software)?(:?passphrase-file=)?.*") {
            if let Ok(spec) = text.parse::<ElementSpec>() {
                prop_assert_eq!(spec.to_string(), text);
            }
        }
    }
}
