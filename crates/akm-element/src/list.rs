//! Which elements this machine has.

use akm_core::element::{Description, Protection};

/// An element that this machine may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// How to name it. Where a PIN is needed, the part that says where that is has to be added.
    pub spec: String,
    /// What can be told of it without a PIN; none if it does not answer.
    pub identity: Option<ElementIdentity>,
    /// Why it cannot be used as it is, if so.
    pub obstacle: Option<String>,
}

/// Who an element is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementIdentity {
    /// Who made it.
    pub manufacturer: String,
    /// Serial number, unique for this manufacturer.
    pub serial: String,
    /// What it withstands.
    pub protection: Protection,
}

impl From<&Description> for ElementIdentity {
    fn from(description: &Description) -> Self {
        Self {
            manufacturer: description.manufacturer.clone(),
            serial: description.serial.clone(),
            protection: description.protection,
        }
    }
}

/// The elements that can be found at this machine, without changing anything. A software element can be everywhere, and is
/// not listed.
pub fn list() -> Vec<Listed> {
    let mut found: Vec<Listed> = Vec::new();
    #[cfg(feature = "tpm2")]
    found.extend(crate::tpm2::list().into_iter().map(described));
    #[cfg(feature = "pkcs11")]
    for module in crate::pkcs11::modules() {
        match crate::pkcs11::list(&module) {
            Ok(tokens) => found.extend(tokens.into_iter().map(|token| Listed {
                spec: token.spec,
                identity: Some((&token.description).into()),
                obstacle: token.obstacle,
            })),
            Err(error) => found.push(Listed {
                spec: format!("pkcs11:?module-path={}", module.display()),
                identity: None,
                obstacle: Some(error.to_string()),
            }),
        }
    }
    #[cfg(feature = "card")]
    found.extend(crate::card::list().into_iter().map(|spec| described(spec.to_string())));
    found
}

#[cfg(any(feature = "tpm2", feature = "card"))]
fn described(text: String) -> Listed {
    let described = text
        .parse::<crate::ElementSpec>()
        .map_err(|error| error.to_string())
        .and_then(|spec| spec.describe().map_err(|error| error.to_string()));
    Listed {
        spec: text,
        obstacle: described.as_ref().err().cloned(),
        identity: described.as_ref().ok().map(ElementIdentity::from),
    }
}
