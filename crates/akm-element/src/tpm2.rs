//! A TPM 2.0 as a secure element.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use akm_core::element::{
    Description, ElementError, Label, MonotonicCounter, ProvisionableElement, Root, SecureElement,
};
use akm_core::secret::Secret;

use crate::InvalidElementSpec;

/// How to reach a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmSpec {
    text: String,
}

impl FromStr for TpmSpec {
    type Err = InvalidElementSpec;

    fn from_str(text: &str) -> Result<Self, InvalidElementSpec> {
        Ok(Self { text: text.to_owned() })
    }
}

impl fmt::Display for TpmSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A TPM 2.0 as a secure element.
#[derive(Debug)]
pub struct TpmElement {}

impl TpmElement {
    /// Opens the element of an enrolled node, which must exist.
    pub fn open(_spec: &TpmSpec, _state_dir: &Path) -> Result<Self, ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }

    /// Opens the element, and makes what is missing.
    pub fn create(spec: &TpmSpec, state_dir: &Path) -> Result<Self, ElementError> {
        Self::open(spec, state_dir)
    }

    /// Throws away an element that cannot be opened any more, with all that it holds.
    pub fn discard(_spec: &TpmSpec, _state_dir: &Path) -> Result<(), ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }
}

impl SecureElement for TpmElement {
    fn derive(&mut self, _: Root, _: Label, _: &[u8]) -> Result<Secret<32>, ElementError> {
        Err(ElementError::NoSuchRoot)
    }

    fn random(&mut self, _: &mut [u8]) -> Result<(), ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }
}

impl ProvisionableElement for TpmElement {
    fn description(&self) -> Description {
        unreachable!("never opened")
    }

    fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }

    fn make_device_key(&mut self) -> Result<(), ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }

    fn install(&mut self, _: Root, _: &[u8]) -> Result<(), ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }

    fn erase(&mut self, _: Root) -> Result<(), ElementError> {
        Ok(())
    }

    fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
        Ok(Vec::new())
    }

    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        None
    }
}

/// Wraps a root for a TPM, from what its `prepare` gave.
pub fn wrap(
    _name: Root,
    _root: &Secret<32>,
    _element: &Description,
    _material: &[u8],
) -> Result<zeroize::Zeroizing<Vec<u8>>, crate::WrapError> {
    Err(crate::WrapError::Material)
}
