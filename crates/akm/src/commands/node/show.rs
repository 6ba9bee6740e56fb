//! `akm node show`: one node, as the module knows it and as it stands.

use crate::error::CommandError;
use akm_provision::relationship;
use akm_provision::store::NodeStatus;

use crate::commands::{carry_on, name, node_named};
use crate::home::Options;
use crate::print;

/// One node, with the journal of its ceremony
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm node show pump")]
pub(crate) struct Arguments {
    /// Name of the node
    node: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let store = options.open_store()?;
    let node = node_named(&store, &name(&arguments.node)?)?;
    let at_node = (node.status == NodeStatus::Active).then(|| relationship::held_by(&store, &node));
    print::node(&store, &node, at_node.as_ref(), options.json)?;
    let reached = at_node.as_ref().is_some_and(Result::is_ok).then_some(node.id);
    let heard = at_node.and_then(Result::ok).unwrap_or_default();
    carry_on(&store, reached.into_iter().collect(), &heard).map(|()| 0)
}
