//! `akm element show`.

use crate::error::CommandError;
use serde_json::json;

use super::spec;
use crate::home::Options;
use crate::print;
use crate::print::element::{protection, value, warning};

/// What an element says of itself; changes nothing
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm element show tpm:device:/dev/tpmrm0")]
pub(crate) struct Arguments {
    /// The element, as in --element
    element: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let spec = spec(&arguments.element)?;
    let description = spec.describe()?;
    let warning = warning(&description);
    if options.json {
        let mut value = value(&description);
        value["element"] = json!(spec.to_string());
        value["warning"] = json!(warning);
        return print::say_json(&value).map(|()| 0);
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
    print::table(&rows)?;
    if let Some(warning) = warning {
        eprintln!("akm: mind: {warning}");
    }
    Ok(0)
}
