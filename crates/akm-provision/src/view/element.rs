//! Elements.

use akm_core::element::{Description, Protection};
use akm_element::{ElementSpec, Listed};
use serde::{Serialize, Serializer};

use super::text;

/// What an element says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Element {
    /// Its kind, in the word of the command line.
    pub kind: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its serial number.
    pub serial: String,
    /// The version of its firmware or program.
    pub firmware: String,
    /// What it withstands.
    #[serde(serialize_with = "protection")]
    pub protection: Protection,
    /// Whether it opens only with a passphrase or a PIN.
    pub sealed: bool,
    /// Whether it has a counter.
    pub counter: bool,
}

impl Element {
    /// What an operator should know about it before relying on it; `None` if there is nothing.
    pub fn warning(&self) -> Option<&'static str> {
        match (self.protection, self.counter) {
            (Protection::Software, _) => {
                Some("it is software, and protects nothing from root on its machine")
            }
            (Protection::Hardware, false) => Some(
                "it has no counter: that a disk was put back to an older state is recognised only by the neighbours",
            ),
            (Protection::Hardware, true) => None,
        }
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        let protection = match self.protection {
            Protection::Hardware => "hardware",
            Protection::Software if self.sealed && self.kind == "software" => {
                "software, sealed by a passphrase"
            }
            Protection::Software => "software: protects nothing from root on that machine",
        };
        let counter = if self.counter { "" } else { ", no counter" };
        let Self { kind, manufacturer, serial, firmware, .. } = self;
        format!("{kind} {manufacturer} {serial}, firmware {firmware} ({protection}{counter})")
    }
}

impl From<&Description> for Element {
    fn from(description: &Description) -> Self {
        let Description { kind, manufacturer, serial, firmware, protection, sealed, counter } =
            description.clone();
        Self { kind, manufacturer, serial, firmware, protection, sealed, counter }
    }
}

/// An element that was asked what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElementShown {
    /// What it says.
    #[serde(flatten)]
    pub description: Element,
    /// What it is called.
    #[serde(serialize_with = "text")]
    pub element: ElementSpec,
    /// What should be known before relying on it.
    pub warning: Option<&'static str>,
}

impl ElementShown {
    /// An element with its name.
    pub fn new(element: ElementSpec, description: &Description) -> Self {
        let description = Element::from(description);
        Self { warning: description.warning(), description, element }
    }
}

/// An element that this machine may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedElement {
    /// What it is called.
    pub element: String,
    /// Who made it, if it says so.
    pub manufacturer: Option<String>,
    /// Its serial number, if it says so.
    pub serial: Option<String>,
    /// What it withstands, if it says so.
    #[serde(serialize_with = "optional_protection")]
    pub protection: Option<Protection>,
    /// Why it cannot be used as it is, if so.
    pub obstacle: Option<String>,
}

impl From<Listed> for ListedElement {
    fn from(found: Listed) -> Self {
        let protection = found.identity.as_ref().map(|identity| identity.protection);
        let (manufacturer, serial) =
            found.identity.map(|identity| (identity.manufacturer, identity.serial)).unzip();
        Self { element: found.spec, manufacturer, serial, protection, obstacle: found.obstacle }
    }
}

/// What came of trying everything that AKM asks of an element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElementTest {
    /// Which element.
    #[serde(serialize_with = "text")]
    pub element: ElementSpec,
    /// Whether it passed.
    pub passed: bool,
    /// What was looked at, in this order, up to the first that failed.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, in words.
    pub check: String,
    /// What the element did wrong, if it did.
    pub error: Option<String>,
}

/// The word for what an element withstands.
pub fn protection_word(protection: Protection) -> &'static str {
    match protection {
        Protection::Hardware => "hardware",
        Protection::Software => "software",
    }
}

fn protection<S: Serializer>(protection: &Protection, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(protection_word(*protection))
}

fn optional_protection<S: Serializer>(
    protection: &Option<Protection>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    protection.map(protection_word).serialize(serializer)
}
