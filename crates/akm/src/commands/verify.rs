//! `akm verify`: asks nodes who they are.

use std::collections::BTreeSet;

use crate::error::CommandError;
use akm_provision::ceremony;
use akm_provision::error::Kind;
use akm_provision::store::NodeStatus;
use akm_provision::view::Verification;

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
    let results: Vec<_> = nodes.into_iter().map(|node| (ceremony::verify(&store, &node), node)).collect();
    let mut shown = Vec::new();
    let mut reached = BTreeSet::new();
    let mut heard = Vec::new();
    for (result, node) in results {
        if let Ok(verified) = &result {
            reached.insert(node.id);
            heard.extend_from_slice(&verified.identity.relationships);
        }
        let result = result.as_ref().map_err(CommandError::from);
        shown.push(Verification::of(&store, &node, result)?);
    }
    print::verified(&shown, options.json)?;
    carry_on(&store, reached, &heard)?;
    Ok(worst(shown.iter().map(|shown| shown.result.as_ref().err().map_or(0, CommandError::exit_code))))
}
