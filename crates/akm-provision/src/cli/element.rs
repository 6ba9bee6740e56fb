//! `akm element`: what elements are here, what they say of themselves, and whether they do what AKM asks of them.

use std::path::{Path, PathBuf};

use akm_core::element::{Description, ElementError, Protection};
use akm_disk::private::{Links, make_directory};
use akm_element::card::CardKeys;
use akm_element::{ElementSpec, InvalidElementSpec, WrapKeys, conformance, wrap};
use serde_json::{Value, json};

use super::arguments::ElementCommand;
use super::show;
use crate::error::CommandError;

/// The element that a text names.
pub(super) fn spec(text: &str) -> Result<ElementSpec, CommandError> {
    text.parse().map_err(|error: InvalidElementSpec| CommandError::Usage(error.to_string()))
}

/// What an operator should know about an element before relying on it.
pub(crate) fn warning(element: &Description) -> Option<&'static str> {
    match (element.protection, element.counter) {
        (Protection::Software, _) => Some("it is software, and protects nothing from root on its machine"),
        (Protection::Hardware, false) => Some(
            "it has no counter: that a disk was put back to an older state is recognised only by the neighbours",
        ),
        (Protection::Hardware, true) => None,
    }
}

/// An element in one line.
pub(super) fn text(element: &Description) -> String {
    let protection = match element.protection {
        Protection::Hardware => "hardware",
        Protection::Software if element.sealed && element.kind == "software" => {
            "software, sealed by a passphrase"
        }
        Protection::Software => "software: protects nothing from root on that machine",
    };
    let counter = if element.counter { "" } else { ", no counter" };
    let Description { kind, manufacturer, serial, firmware, .. } = element;
    format!("{kind} {manufacturer} {serial}, firmware {firmware} ({protection}{counter})")
}

/// An element as JSON.
pub(super) fn value(element: &Description) -> Value {
    json!({
        "kind": element.kind,
        "manufacturer": element.manufacturer,
        "serial": element.serial,
        "firmware": element.firmware,
        "protection": protection(element.protection),
        "sealed": element.sealed,
        "counter": element.counter,
    })
}

/// Returns the exit code.
pub(super) fn carry_out(command: &ElementCommand, as_json: bool) -> Result<u8, CommandError> {
    match command {
        ElementCommand::List => list(as_json),
        ElementCommand::Show { element } => show_one(&spec(element)?, as_json),
        ElementCommand::Test { element, card_keys } => test(&spec(element)?, card_keys.as_deref(), as_json),
    }
    .map(|()| 0)
}

fn list(as_json: bool) -> Result<(), CommandError> {
    let found = akm_element::list();
    if as_json {
        let list = found.iter().map(|found| {
            json!({
                "element": found.spec,
                "manufacturer": found.identity.as_ref().map(|identity| &identity.manufacturer),
                "serial": found.identity.as_ref().map(|identity| &identity.serial),
                "protection": found.identity.as_ref().map(|identity| protection(identity.protection)),
                "obstacle": found.obstacle,
            })
        });
        return show::say_json(&list.collect());
    }
    if found.is_empty() {
        return show::say("no TPM, token or card is here (docs/elements.md says how to set one up)");
    }
    let mut rows =
        vec![["ELEMENT", "MANUFACTURER", "SERIAL NUMBER", "PROTECTION", ""].map(str::to_owned).to_vec()];
    for found in &found {
        let identity = found.identity.as_ref();
        rows.push(vec![
            found.spec.clone(),
            identity.map_or("-", |identity| &identity.manufacturer).to_owned(),
            identity.map_or("-", |identity| &identity.serial).to_owned(),
            identity.map_or("-", |identity| protection(identity.protection)).to_owned(),
            found.obstacle.clone().unwrap_or_default(),
        ]);
    }
    show::table(&rows)
}

fn protection(protection: Protection) -> &'static str {
    match protection {
        Protection::Hardware => "hardware",
        Protection::Software => "software",
    }
}

fn show_one(spec: &ElementSpec, as_json: bool) -> Result<(), CommandError> {
    let description = spec.describe().map_err(failed)?;
    let warning = warning(&description);
    if as_json {
        let mut value = value(&description);
        value["element"] = json!(spec.to_string());
        value["warning"] = json!(warning);
        return show::say_json(&value);
    }
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let rows = [
        ("element", spec.to_string()),
        ("kind", description.kind.clone()),
        ("manufacturer", description.manufacturer.clone()),
        ("serial number", description.serial.clone()),
        ("firmware", description.firmware.clone()),
        ("protection", protection(description.protection).to_owned()),
        ("sealed", yes(description.sealed)),
        ("counter", yes(description.counter)),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    show::table(&rows)?;
    if let Some(warning) = warning {
        eprintln!("akm: mind: {warning}");
    }
    Ok(())
}

/// The conformance suite against an element that nobody uses.
fn test(spec: &ElementSpec, card_keys: Option<&Path>, as_json: bool) -> Result<(), CommandError> {
    let place = Place::new()?;
    let mut element = spec.create(&place.0).map_err(failed)?;
    if !element.roots().map_err(failed)?.is_empty() {
        return Err(CommandError::Element(
            "it holds keys of a node or of a vault, and the test would erase them: take one that is not in use, or erase \
             it first (akm node remove)"
                .to_owned(),
        ));
    }
    let description = element.description();
    // Only one at a time may use it.
    drop(element);
    let mut checks: Vec<Value> = Vec::new();
    let passed = {
        let keys = wrap_keys(&description, card_keys)?;
        conformance::check_aloud(
            || spec.create(&place.0).unwrap_or_else(|error| panic!("it cannot be opened again: {error}")),
            |description, material, name, root| {
                let wrapped = wrap(name, root, description, material, &keys);
                wrapped.unwrap_or_else(|error| panic!("a root cannot be wrapped for it: {error}")).to_vec()
            },
            |name, outcome| {
                if as_json {
                    checks.push(json!({ "check": name, "error": outcome.err() }));
                } else {
                    let _ = show::say(&format!("{name:<42} {}", outcome.err().unwrap_or("ok")));
                }
            },
        )
    };
    let discarded = spec.discard(&place.0);
    if as_json {
        show::say_json(&json!({ "element": spec.to_string(), "passed": passed, "checks": checks }))?;
    }
    if !passed {
        return Err(CommandError::Element("the element does not do what AKM asks of it".to_owned()));
    }
    discarded.map_err(failed)?;
    if !as_json {
        show::say(&format!("{spec} does all that AKM asks of an element"))?;
    }
    Ok(())
}

fn wrap_keys(card: &Description, file: Option<&Path>) -> Result<WrapKeys, CommandError> {
    let Some(file) = file else { return Ok(WrapKeys::default()) };
    let keys = CardKeys::load(file, &card.serial).map_err(|error| CommandError::Failed(error.to_string()))?;
    match keys {
        Some(keys) => Ok(WrapKeys { card: Some(keys) }),
        None => {
            Err(CommandError::Element(format!("{} has no keys for card {}", file.display(), card.serial)))
        }
    }
}

fn failed(error: ElementError) -> CommandError {
    CommandError::Element(error.to_string())
}

/// A directory for what an element keeps beside itself, gone afterwards.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, CommandError> {
        let path = std::env::temp_dir().join(format!("akm-element-test-{}", std::process::id()));
        make_directory(&path, Links::Refused).map_err(|error| CommandError::Failed(error.to_string()))?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is of no use without the element.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
