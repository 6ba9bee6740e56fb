//! Elements.

use akm_core::element::{Description, Protection};
use serde_json::{Value, json};

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
pub(crate) fn text(element: &Description) -> String {
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
pub(crate) fn value(element: &Description) -> Value {
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

pub(crate) fn protection(protection: Protection) -> &'static str {
    match protection {
        Protection::Hardware => "hardware",
        Protection::Software => "software",
    }
}
