//! How a node leaves the module.

use crate::error::CommandError;
use crate::link::Link;
use crate::lock::{Lock, LockKey};
use crate::names::{Name, Timestamp};
use crate::store::{NodeStatus, Store};

/// What a removal did at the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Whether the device holds nothing of this node any more, as far as the module can tell.
    pub erased: bool,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Removes a node: its credentials from the device, its stack from the target, then the node from the
/// module's set. With `force` it is forgotten although the device cannot be reached, or although it
/// is a member of ASRs.
pub fn remove(store: &Store, name: &Name, force: bool) -> Result<Removal, CommandError> {
    let unknown = || CommandError::Usage(format!("there is no node {name} (akm node list shows all)"));
    let node = match store.node_by_name(name)? {
        Some(node) => node,
        None => store
            .unfinished_ceremonies()?
            .into_iter()
            .map(|(node, _)| node)
            .find(|node| node.name == *name)
            .ok_or_else(unknown)?,
    };
    let _held = Lock::acquire(store.home(), LockKey::Target(node.target.clone()), super::PATIENCE)?;
    let asrs: Vec<String> = store
        .asrs_of_node(node.id)?
        .iter()
        .filter_map(|asr| asr.name.as_ref())
        .map(ToString::to_string)
        .collect();
    let mut notes = Vec::new();
    if !asrs.is_empty() {
        let names = asrs.join(", ");
        if !force {
            return Err(CommandError::Failed(format!(
                "node {name} is a member of {names}: its absence would be noticed there; use --force to remove it \
                 all the same"
            )));
        }
        notes.push(format!(
            "{name} is still listed as a member of {names}: if its credentials may have been copied, make new ASRs \
             without it"
        ));
    }
    if node.status == NodeStatus::Active {
        store.begin_removal(node.id)?;
    }
    // The node erases itself if it can be reached; the installer's channel does the rest.
    let over_network = Link::open(store, &node).and_then(|mut link| link.erase(node.relationship)).is_ok();
    let at_target = erase_at_target(&node);
    let erased = over_network || at_target.is_ok();
    if let Err(error) = at_target {
        if !erased && !force {
            let text = format!(
                "{error}; node {name} still holds its credentials: try again when it can be reached, or forget it \
                 with --force"
            );
            return Err(match error {
                CommandError::Unreachable(_) => CommandError::Unreachable(text),
                _ => CommandError::Failed(text),
            });
        }
        notes.push(if erased {
            format!("the credentials are erased, but the stack could not be taken off: {error}")
        } else {
            format!("the device was not reached and still holds its credentials: {error}")
        });
    }
    store.remove_node(node.id, Timestamp::now())?;
    Ok(Removal { erased, notes })
}

fn erase_at_target(node: &crate::store::Node) -> Result<(), CommandError> {
    let target = super::target_of(node)?;
    let probe = target.probe()?;
    if probe.release.is_some() {
        target.stop()?;
        let output = target.akmd(&["reset", "--force"], &[])?;
        if output.code != Some(0) {
            return Err(CommandError::Failed(format!(
                "the element at {} could not be erased: {}",
                target.url(),
                output.last_words()
            )));
        }
    }
    target.uninstall()?;
    Ok(())
}
