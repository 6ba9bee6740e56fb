//! A card with the AKM applet as a secure element.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use akm_core::element::{
    Description, ElementError, Label, MonotonicCounter, ProvisionableElement, Root, SecureElement,
};
use akm_core::secret::Secret;

use crate::InvalidElementSpec;

/// A reader, by a part of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardSpec {
    text: String,
}

impl FromStr for CardSpec {
    type Err = InvalidElementSpec;

    fn from_str(text: &str) -> Result<Self, InvalidElementSpec> {
        Ok(Self { text: text.to_owned() })
    }
}

impl fmt::Display for CardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A card with the AKM applet as a secure element.
#[derive(Debug)]
pub struct CardElement {}

impl CardElement {
    /// Opens the element of an enrolled node, which must exist.
    pub fn open(_spec: &CardSpec, _state_dir: &Path) -> Result<Self, ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }

    /// Opens the element, and makes what is missing.
    pub fn create(spec: &CardSpec, state_dir: &Path) -> Result<Self, ElementError> {
        Self::open(spec, state_dir)
    }

    /// Throws away an element that cannot be opened any more, with all that it holds.
    pub fn discard(_spec: &CardSpec, _state_dir: &Path) -> Result<(), ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }
}

impl SecureElement for CardElement {
    fn derive(&mut self, _: Root, _: Label, _: &[u8]) -> Result<Secret<32>, ElementError> {
        Err(ElementError::NoSuchRoot)
    }

    fn random(&mut self, _: &mut [u8]) -> Result<(), ElementError> {
        Err(ElementError::Unavailable("not there yet".into()))
    }
}

impl ProvisionableElement for CardElement {
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

/// The static keys of one card, with which its secure channel is opened.
#[derive(Debug)]
pub struct CardKeys {}

impl CardKeys {
    /// Reads the keys of one card from a file that holds those of one or many; `None` if this serial is not in it.
    pub fn load(_path: &Path, _serial: &str) -> Result<Option<Self>, InvalidCardKeys> {
        Err(InvalidCardKeys::Malformed)
    }

    /// Reads what [`CardKeys::emit`] made.
    pub fn parse(_bytes: &[u8]) -> Option<Self> {
        None
    }

    /// The keys as bytes, to be sealed by whoever keeps them.
    pub fn emit(&self) -> zeroize::Zeroizing<Vec<u8>> {
        zeroize::Zeroizing::new(Vec::new())
    }
}

/// Why a file of card keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCardKeys {
    /// It is not as it should be.
    #[error("not a file of card keys")]
    Malformed,
}

/// Wraps a root for a card, from what its `prepare` gave, under the static keys of that card.
pub fn wrap(
    _name: Root,
    _root: &Secret<32>,
    _element: &Description,
    _material: &[u8],
    _keys: &CardKeys,
) -> Result<zeroize::Zeroizing<Vec<u8>>, crate::WrapError> {
    Err(crate::WrapError::Material)
}
