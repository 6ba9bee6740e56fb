//! What is refused before anything is changed: names, targets, and elements that are somebody else's.

use std::path::{Path, PathBuf};

use akm_core::element::Description;
use akm_core::enrolment::Preparation;
use akm_core::id::AkmId;
use akm_target::{Stack, Target};

use super::Order;
use super::luggage::is_filled;
use super::preparation::ask_whoever_is_there;
use crate::error::CommandError;
use crate::names::Name;
use crate::store::{Node, Store};
use crate::vault::Vault;

/// Longest directory of a target, in bytes: the path of the socket in it must fit into the 107 bytes
/// that the system allows.
const DIR_MAX: usize = 107 - "/run/akmd.sock".len();

/// Refuses a target at which the stack could not work; `chosen` is the stack, unless the order names another. Changes
/// nothing.
pub(super) fn check_target(order: &Order, chosen: Option<&Path>) -> Result<(Target, PathBuf), CommandError> {
    if order.target.dir().len() > DIR_MAX {
        return Err(CommandError::Usage(format!(
            "the directory of the target is too long for a socket in it: at most {DIR_MAX} bytes"
        )));
    }
    let path = match order.stack.as_deref().or(chosen) {
        Some(path) => path.to_owned(),
        None => stack_beside_us()?,
    };
    let stack = Stack::load(&path).map_err(|error| CommandError::Failed(error.to_string()))?;
    let target = Target::new(order.target.clone(), order.ssh_config.as_deref());
    // The configuration is not known yet, but what counts here is the program.
    target.admit(&target.probe()?, &stack.release("", target.dir()), false)?;
    Ok((target, path))
}

/// Refuses a device that is a node already, unless it is `own`.
pub(super) fn check_is_nobodys(store: &Store, target: &Target, own: AkmId) -> Result<(), CommandError> {
    let probe = target.probe()?;
    if probe.release.is_none() {
        return Ok(());
    }
    match ask_whoever_is_there(target, probe.has_state)? {
        Some(found) if found.node.is_some_and(|found| found.node != own) => check_owner(store, &found, false),
        _ => Ok(()),
    }
}

/// A name is that of one node; `active` may keep its own.
pub(super) fn check_name_is_free(
    store: &Store,
    name: &Name,
    active: Option<&Node>,
) -> Result<(), CommandError> {
    if *name == store.module().name {
        return Err(CommandError::Exists(format!(
            "the name {name} is taken by the module itself: choose another with --name"
        )));
    }
    match store.node_by_name(name)? {
        Some(holder) if active.is_none_or(|active| active.id != holder.id) => Err(CommandError::Exists(
            format!("the name {name} is taken by the node at {}: choose another with --name", holder.target),
        )),
        _ => Ok(()),
    }
}

/// Whether a device's element is one that this module may use: it is not the element of any node but
/// `own`, and holds no root of which this module knows nothing.
pub(super) fn check_element(store: &Store, found: &Preparation, own: &[AkmId]) -> Result<(), CommandError> {
    check_is_free(store, &found.element, own)?;
    for leftover in &found.leftovers {
        if store.relationship(*leftover)?.is_none() {
            return Err(CommandError::Element(format!(
                "the element holds a root of relationship {leftover}, which is not of this module; if it may go, \
                 run akmd reset --force at the device"
            )));
        }
    }
    Ok(())
}

/// Refuses an element that is another node's than `own`, or the vault's.
pub(super) fn check_is_free(store: &Store, element: &Description, own: &[AkmId]) -> Result<(), CommandError> {
    if let Some(holder) = holder_of(store, element)?.filter(|holder| !own.contains(&holder.id)) {
        return Err(CommandError::Element(format!(
            "this element ({} {}) belongs to node {} at {}: a device must not be copied; use that target if it is \
             the same device, else reset this one, or plug in another element",
            element.manufacturer, element.serial, holder.name, holder.target
        )));
    }
    // A TPM keeps each user's keys apart; in a token or a card a node and a vault would have one device key.
    let vault = if element.kind == "tpm" { None } else { Vault::element_identity(store.home()) };
    if vault.is_some_and(|vault| vault == element.identity()) {
        return Err(CommandError::Element(format!(
            "this element ({} {}) makes the vault key of this module: take another one for a node",
            element.manufacturer, element.serial
        )));
    }
    Ok(())
}

/// Whose node a device is that was provisioned before.
pub(super) fn check_owner(store: &Store, found: &Preparation, again: bool) -> Result<(), CommandError> {
    let Some(existing) = found.node else { return Ok(()) };
    if existing.provisioner != store.module().root {
        return Err(CommandError::Failed(format!(
            "this device was provisioned by another module ({}) as node {}: have it removed there, or, at the \
             device itself, run akmd stop and akmd reset --force",
            existing.provisioner, existing.node
        )));
    }
    if !again {
        return Err(CommandError::Exists(format!(
            "this device is node {} of this module already: use --again to make it a new node",
            existing.node
        )));
    }
    Ok(())
}

/// The node whose element this is, or will be once it has come to its target. There is at most one.
fn holder_of(store: &Store, element: &Description) -> Result<Option<Node>, CommandError> {
    if let Some(holder) = store.node_by_element_identity(&element.manufacturer, &element.serial)? {
        return Ok(Some(holder));
    }
    for (node, _) in store.unfinished_ceremonies()? {
        let is_its = node.element.as_ref().is_some_and(|its| its.identity() == element.identity());
        if is_its && is_filled(store, &node)? {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// The `akmd` beside this program.
pub fn stack_beside_us() -> Result<PathBuf, CommandError> {
    let own = std::env::current_exe()
        .map_err(|error| CommandError::Failed(format!("cannot find this program: {error}")))?;
    let akmd = own.with_file_name("akmd");
    if akmd.is_file() {
        Ok(akmd)
    } else {
        Err(CommandError::Failed(format!(
            "there is no akmd beside this program ({}): build it (cargo build --bins) or name one with --stack",
            akmd.display()
        )))
    }
}
