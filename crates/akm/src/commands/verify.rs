//! `akm verify`: asks nodes who they are.

use crate::error::CommandError;
use akm_provision::ceremony;
use akm_provision::error::Kind;
use akm_provision::store::NodeStatus;

use super::{carry_on, name, node_named, worst};
use crate::home::Options;
use crate::print;

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
    let store = options.open_store()?;
    let nodes = match &arguments.node {
        Some(text) => vec![node_named(&store, &name(text)?)?],
        None if arguments.all => {
            store.nodes()?.into_iter().filter(|node| node.status == NodeStatus::Active).collect()
        }
        None => return Err(CommandError::usage("name a node, or use --all".to_owned())),
    };
    if nodes.is_empty() {
        return Err(CommandError::new(Kind::NothingToDo, "there is no active node: nothing to verify"));
    }
    let results: Vec<_> = nodes
        .into_iter()
        .map(|node| (node.clone(), ceremony::verify(&store, &node).map_err(CommandError::from)))
        .collect();
    print::verified(&store, &results, options.json)?;
    let reached = results.iter().filter(|(_, result)| result.is_ok()).map(|(node, _)| node.id);
    let heard: Vec<_> = results
        .iter()
        .filter_map(|(_, result)| result.as_ref().ok())
        .flat_map(|verified| verified.identity.relationships.iter().copied())
        .collect();
    carry_on(&store, reached.collect(), &heard)?;
    Ok(worst(results.iter().map(|(_, result)| result.as_ref().err().map_or(0, CommandError::exit_code))))
}
