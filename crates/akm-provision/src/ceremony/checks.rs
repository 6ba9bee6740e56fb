//! What is refused before anything is changed: names, targets, and elements that are somebody else's.

use std::path::{Path, PathBuf};

use akm_core::element::{Description, Root};
use akm_core::enrolment::Preparation;
use akm_core::id::{AkmId, RelationshipId};
use akm_target::{Stack, Target};

use super::Order;
use super::luggage::is_filled;
use super::preparation::ask_whoever_is_there;
use crate::error::Error;
use crate::error::ceremony::{AtElement, Device, Done, Refusal, Taken, Unfit};
use crate::names::Name;
use crate::store::{Node, Store};
use crate::vault::Vault;

/// Longest directory of a target, in bytes: the path of the socket in it must fit into the 107 bytes
/// that the system allows.
const DIR_MAX: usize = 107 - "/run/akmd.sock".len();

/// Refuses a target at which the stack could not work; `chosen` is the stack, unless the order names another. Changes
/// nothing.
pub(super) fn check_target(order: &Order, chosen: Option<&Path>) -> Result<(Target, PathBuf), Error> {
    if order.target.dir().len() > DIR_MAX {
        return Err(Refusal::from(Unfit::Directory { most: DIR_MAX }).into());
    }
    let path = match order.stack.as_deref().or(chosen) {
        Some(path) => path.to_owned(),
        None => stack_beside_us()?,
    };
    let stack = Stack::load(&path)?;
    let target = Target::new(order.target.clone(), order.ssh_config.as_deref());
    // The configuration is not known yet, but what counts here is the program.
    target.admit(&target.probe()?, &stack.release("", target.dir()), false)?;
    Ok((target, path))
}

/// Refuses a device that is a node already, unless it is `own`.
pub(super) fn check_is_nobodys(store: &Store, target: &Target, own: AkmId) -> Result<(), Error> {
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
pub(super) fn check_name_is_free(store: &Store, name: &Name, active: Option<&Node>) -> Result<(), Error> {
    if *name == store.module().name {
        return Err(Refusal::from(Taken::ByModule { name: name.clone() }).into());
    }
    match store.node_by_name(name)? {
        Some(holder) if active.is_none_or(|active| active.id != holder.id) => {
            Err(Refusal::from(Taken::ByNode { name: name.clone(), target: holder.target.to_string() }).into())
        }
        _ => Ok(()),
    }
}

/// Whether a device's element is one that this module may use: it is not the element of any node but
/// `own`, and holds no root of which this module knows nothing.
pub(super) fn check_element(store: &Store, found: &Preparation, own: &[AkmId]) -> Result<(), Error> {
    check_is_free(store, &found.element, own)?;
    for leftover in &found.leftovers {
        if let Root::Relationship { id, .. } = *leftover
            && store.relationship(id)?.is_none()
        {
            return Err(Refusal::from(AtElement::ForeignRoot { relationship: id }).into());
        }
    }
    Ok(())
}

/// Whether a device's element holds a root of this relationship that no record there names.
pub(super) fn holds_root_of(found: &Preparation, relationship: RelationshipId) -> bool {
    found.leftovers.iter().any(|root| matches!(root, Root::Relationship { id, .. } if *id == relationship))
}

/// Refuses an element that is another node's than `own`, or the vault's.
pub(super) fn check_is_free(store: &Store, element: &Description, own: &[AkmId]) -> Result<(), Error> {
    if let Some(holder) = holder_of(store, element)?.filter(|holder| !own.contains(&holder.id)) {
        let (element, name, target) = (text_of(element), holder.name, holder.target.to_string());
        return Err(Refusal::from(AtElement::OfNode { element, name, target }).into());
    }
    // A TPM keeps each user's keys apart; in a token or a card a node and a vault would have one device key.
    let vault = if element.kind == "tpm" { None } else { Vault::element_identity(store.home()) };
    if vault.is_some_and(|vault| vault == element.identity()) {
        return Err(Refusal::from(AtElement::OfVault { element: text_of(element) }).into());
    }
    Ok(())
}

/// Manufacturer and serial number.
pub(super) fn text_of(element: &Description) -> String {
    format!("{} {}", element.manufacturer, element.serial)
}

/// Whose node a device is that was provisioned before.
pub(super) fn check_owner(store: &Store, found: &Preparation, again: bool) -> Result<(), Error> {
    let Some(existing) = found.node else { return Ok(()) };
    if existing.provisioner != store.module().root {
        let (module, node) = (existing.provisioner, existing.node);
        return Err(Refusal::from(Device::AnotherModule { module, node }).into());
    }
    if !again {
        return Err(Refusal::from(Done::IsOurs { node: existing.node }).into());
    }
    Ok(())
}

/// The node whose element this is, or will be once it has come to its target. There is at most one.
fn holder_of(store: &Store, element: &Description) -> Result<Option<Node>, Error> {
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
pub fn stack_beside_us() -> Result<PathBuf, Error> {
    let own = std::env::current_exe()
        .map_err(|source| Refusal::from(Device::System { action: "find this program".to_owned(), source }))?;
    let akmd = own.with_file_name("akmd");
    if akmd.is_file() { Ok(akmd) } else { Err(Refusal::from(Device::NoStack { path: akmd }).into()) }
}
