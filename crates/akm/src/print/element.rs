//! Elements.

use akm_provision::view::{Check, Element, ElementShown, ElementTest, ListedElement, protection_word};

use super::{note, row, say, say_json, table};
use crate::error::CommandError;

/// The elements that this machine has.
pub(crate) fn elements(found: &[ListedElement], as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(&found);
    }
    if found.is_empty() {
        return say("no TPM, token or card is here (docs/elements.md says how to set one up)");
    }
    let mut rows = vec![row(&["ELEMENT", "MANUFACTURER", "SERIAL NUMBER", "PROTECTION", ""])];
    for found in found {
        rows.push(row(&[
            &found.element,
            found.manufacturer.as_deref().unwrap_or("-"),
            found.serial.as_deref().unwrap_or("-"),
            found.protection.map_or("-", protection_word),
            found.obstacle.as_deref().unwrap_or_default(),
        ]));
    }
    table(&rows)
}

/// What an element says of itself.
pub(crate) fn element(shown: &ElementShown, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(shown);
    }
    let Element { kind, manufacturer, serial, firmware, protection, sealed, counter } = &shown.description;
    let yes = |is: bool| if is { "yes" } else { "no" };
    table(&[
        row(&["element", &shown.element.to_string()]),
        row(&["kind", kind]),
        row(&["manufacturer", manufacturer]),
        row(&["serial number", serial]),
        row(&["firmware", firmware]),
        row(&["protection", protection_word(*protection)]),
        row(&["sealed", yes(*sealed)]),
        row(&["counter", yes(*counter)]),
    ])?;
    if let Some(warning) = shown.warning {
        note(&format!("mind: {warning}"));
    }
    Ok(())
}

/// One thing that was looked at in an element; told while it happens.
pub(crate) fn check(check: &Check) {
    // If nobody reads it, the test still goes on.
    let _ = say(&format!("{:<42} {}", check.check, check.error.as_deref().unwrap_or("ok")));
}

/// An element that was tried, as JSON says it.
pub(crate) fn element_test(test: &ElementTest) -> Result<(), CommandError> {
    say_json(test)
}
