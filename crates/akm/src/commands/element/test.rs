//! `akm element test`: tries everything that AKM asks of an element.

use std::path::{Path, PathBuf};

use crate::error::CommandError;
use akm_core::element::Description;
use akm_disk::directory::make_directory;
use akm_disk::private::Links;
use akm_element::card::CardKeys;
use akm_element::{WrapKeys, conformance, wrap};
use akm_provision::ceremony;
use akm_provision::error::Kind;
use akm_provision::error::ceremony::AtElement;
use akm_provision::view::{Check, ElementTest};

use super::spec;
use crate::home::Options;
use crate::print;

/// Try everything that AKM asks of an element; not for one that a node uses
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  akm element test tpm:device:/dev/tpmrm0\n  akm element test card:Swissbit --card-keys keys"
)]
pub(crate) struct Arguments {
    /// The element, as in --element
    element: String,
    /// The file with the static keys of the card, where the element is one
    #[arg(long, value_name = "FILE")]
    card_keys: Option<PathBuf>,
}

/// The conformance suite against an element that nobody uses.
pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let (spec, as_json) = (spec(&arguments.element)?, options.json);
    let place = Place::new()?;
    let mut element = spec.create(&place.0)?;
    if !element.roots()?.is_empty() {
        let why = "it holds keys of a node or of a vault, and the test would erase them";
        return Err(CommandError::new(Kind::ElementOfAnother, why)
            .hint("take one that is not in use, or erase it first: akm node remove"));
    }
    let description = element.description();
    // Only one at a time may use it.
    drop(element);
    let mut checks: Vec<Check> = Vec::new();
    let passed = {
        let keys = wrap_keys(&description, arguments.card_keys.as_deref())?;
        conformance::check_aloud(
            || spec.create(&place.0).unwrap_or_else(|error| panic!("it cannot be opened again: {error}")),
            |description, material, name, root| {
                let wrapped = wrap(name, root, description, material, &keys);
                wrapped
                    .unwrap_or_else(|error| panic!("a root cannot be wrapped for it: {error}"))
                    .expose()
                    .to_vec()
            },
            |name, outcome| {
                let check = Check { check: name.to_owned(), error: outcome.err().map(str::to_owned) };
                if !as_json {
                    print::check(&check);
                }
                checks.push(check);
            },
        )
    };
    let discarded = spec.discard(&place.0);
    if as_json {
        print::element_test(&ElementTest { element: spec.clone(), passed, checks })?;
    }
    if !passed {
        return Err(CommandError::new(Kind::ElementRefused, "the element does not do what AKM asks of it"));
    }
    discarded?;
    if !as_json {
        print::say(&format!("{spec} does all that AKM asks of an element"))?;
    }
    Ok(0)
}

fn wrap_keys(card: &Description, file: Option<&Path>) -> Result<WrapKeys, CommandError> {
    let Some(file) = file else { return Ok(WrapKeys::default()) };
    let keys = CardKeys::load(file, &card.serial).map_err(|error| CommandError::failed(error.to_string()))?;
    match keys {
        Some(keys) => Ok(WrapKeys { card: Some(keys) }),
        None => {
            let (file, serial) = (file.to_owned(), card.serial.clone());
            Err(ceremony::Refusal::from(AtElement::NoCardKeys { file, serial }).into())
        }
    }
}

/// A directory for what an element keeps beside itself, gone afterwards.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, CommandError> {
        let path = std::env::temp_dir().join(format!("akm-element-test-{}", std::process::id()));
        make_directory(&path, Links::Refused)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is of no use without the element.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
