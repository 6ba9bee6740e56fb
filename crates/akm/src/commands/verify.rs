//! `akm verify`: asks nodes who they are.
use akm_provision::module::Asked;
use akm_provision::view::Verification;

use super::{name, worst};
use crate::error::CommandError;
use crate::home::Options;
use crate::print::{self, tell};

/// Ask nodes who they are, and compare
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm verify pump\n  akm verify --all")]
pub(super) struct Arguments {
    /// Name of a node
    node: Option<String>,
    /// All active nodes
    #[arg(long, conflicts_with = "node")]
    all: bool,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let module = options.open_module()?;
    let asked = match &arguments.node {
        Some(text) => module.verify(&name(text)?)?.map(|one| vec![one]),
        None if arguments.all => module.verify_all()?,
        None => return Err(CommandError::usage("name a node, or use --all")),
    };
    let Asked { answer, reached } = asked;
    let results: Vec<Verification<CommandError>> =
        answer.into_iter().map(|one| one.refused_as(CommandError::from)).collect();
    print::verified(&results, options.json)?;
    module.carry_on(&reached, &mut tell)?;
    Ok(worst(results.iter().map(|one| one.result.as_ref().err().map_or(0, CommandError::exit_code))))
}
