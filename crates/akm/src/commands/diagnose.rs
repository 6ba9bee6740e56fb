//! `akm diagnose`: why two nodes do not reach each other.

use akm_provision::diagnosis::{Cause, Finding};
use akm_provision::error::Kind;

use crate::error::{CommandError, exit_code};

use super::name;
use crate::home::Options;
use crate::print;

/// Why two nodes do not reach each other, and what to do
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm diagnose pump valve\n  akm diagnose pump valve --asr line")]
pub(super) struct Arguments {
    /// Name of a node
    one: String,
    /// Name of the other
    other: String,
    /// Look at this ASR only
    #[arg(long, value_name = "NAME")]
    asr: Option<String>,
}

/// Returns the exit code: 0 if no cause was found, 7 if one of the two does not answer, else 5.
pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let Arguments { one, other, asr } = arguments;
    if one == other {
        return Err(CommandError::usage("name two different nodes".to_owned()));
    }
    let module = options.open_module()?;
    let nodes = [name(one)?, name(other)?];
    let asr = asr.as_deref().map(name).transpose()?;
    let findings = module.diagnose([&nodes[0], &nodes[1]], asr.as_ref())?;
    print::diagnosis(nodes, &findings, options.json)?;
    let [unreachable, verification] = [Kind::Unreachable, Kind::NotAsInstalled].map(exit_code);
    Ok(match findings.first().map(Finding::cause) {
        None => 0,
        Some(Cause::NotRunning | Cause::Unreachable) => unreachable,
        Some(_) => verification,
    })
}
