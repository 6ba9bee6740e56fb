//! `akm node show`: one node, as the module knows it and as it stands.

use crate::error::CommandError;
use akm_provision::relationship;
use akm_provision::store::NodeStatus;
use akm_provision::view::NodeShown;

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
    let (asked, heard) = match node.status {
        NodeStatus::Active => match relationship::held_by(&store, &node) {
            Ok(held) => (Some(Ok(())), held),
            Err(error) => (Some(Err(error)), Vec::new()),
        },
        _ => (None, Vec::new()),
    };
    let reached = matches!(asked, Some(Ok(()))).then_some(node.id);
    let held = asked.map(|asked| asked.map(|()| heard.as_slice()));
    let shown = NodeShown::of(&store, &node, held)?.refused_as(CommandError::from);
    print::node(&shown, options.json)?;
    carry_on(&store, reached.into_iter().collect(), &heard).map(|()| 0)
}
