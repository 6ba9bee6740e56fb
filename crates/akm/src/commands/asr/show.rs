//! `akm asr show`: one ASR, as each member sees it.

use crate::error::CommandError;
use akm_provision::relationship;
use akm_provision::view::Members;

use crate::commands::{asr_named, carry_on, name, worst};
use crate::home::Options;
use crate::print;

/// One ASR, as each member sees it
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm asr show line")]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let asr = name(&arguments.name)?;
    let store = options.open_store()?;
    let found = asr_named(&store, &asr)?;
    let mut reports = relationship::show(&store, &found)?;
    let parked = relationship::tasks(&store)?.len();
    let reached = reports.iter().filter(|report| report.status.is_ok()).map(|report| report.node.id);
    let heard: Vec<_> = reports.iter().filter_map(|report| report.status.as_ref().ok().copied()).collect();
    let carried_on = carry_on(&store, reached.collect(), &heard);
    // What is shown is how it stands when this is done.
    if let Some(now) = store.asr_by_name(&asr)?
        && (now.sds.generation() != found.sds.generation() || relationship::tasks(&store)?.len() != parked)
    {
        reports = relationship::show(&store, &now)?;
    }
    let shown = Members::of(&store, &asr, reports)?.refused_as(CommandError::from);
    print::members(&shown, options.json)?;
    carried_on?;
    Ok(worst(shown.members.iter().map(print::member_exit_code)))
}
