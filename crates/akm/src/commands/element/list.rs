//! `akm element list`.

use crate::error::CommandError;
use serde_json::json;

use crate::home::Options;
use crate::print;
use crate::print::element::protection;

/// The elements that this machine has
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm element list\n  akm element list --json")]
pub(crate) struct Arguments {}

pub(super) fn carry_out(options: &Options, _: &Arguments) -> Result<u8, CommandError> {
    let found = akm_element::list();
    if options.json {
        let list = found.iter().map(|found| {
            json!({
                "element": found.spec,
                "manufacturer": found.identity.as_ref().map(|identity| &identity.manufacturer),
                "serial": found.identity.as_ref().map(|identity| &identity.serial),
                "protection": found.identity.as_ref().map(|identity| protection(identity.protection)),
                "obstacle": found.obstacle,
            })
        });
        return print::say_json(&list.collect()).map(|()| 0);
    }
    if found.is_empty() {
        return print::say("no TPM, token or card is here (docs/elements.md says how to set one up)")
            .map(|()| 0);
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
    print::table(&rows).map(|()| 0)
}
