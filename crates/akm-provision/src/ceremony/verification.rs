//! Step 5, at any time.

use akm_core::element::Description;
use akm_core::management::{NodeIdentity, RelationshipStatus};

use super::preparation::target_of;
use crate::error::Error;
use crate::error::ceremony::Refusal;
use crate::link::Link;
use crate::names::Timestamp;
use crate::store::{Node, NodeStatus, Store};

/// What a node said of itself, proven.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Who it is.
    pub identity: NodeIdentity,
    /// How its relationships stand there.
    pub relationships: Vec<RelationshipStatus>,
}

/// Asks an active node who it is, and compares. Returns what it said.
pub(crate) fn verify(store: &Store, node: &Node) -> Result<Said, Error> {
    if node.status != NodeStatus::Active {
        return Err(not_active(node));
    }
    let mut link = Link::open(store, node)?;
    let identity = link.identify()?;
    check(node, &identity)?;
    let relationships = link.status()?;
    store.mark_verified(node.id, Timestamp::now())?;
    Ok(Said { identity, relationships })
}

/// Says what has to be done before a node can take part in anything.
pub(crate) fn not_active(node: &Node) -> Error {
    Refusal::NotActive { name: node.name.clone(), status: node.status }.into()
}

/// Whether what a node says of itself is what the module knows of it.
pub(super) fn check(node: &Node, identity: &NodeIdentity) -> Result<(), Error> {
    let failed = |what: &'static str, expected: &str, found: &str| -> Result<(), Error> {
        let (name, expected, found) = (node.name.clone(), expected.to_owned(), found.to_owned());
        Err(Refusal::Differs { name, what, expected, found }.into())
    };
    if identity.node != node.id {
        return failed("AKM ID", &node.id.to_string(), &identity.node.to_string());
    }
    if identity.relationship != node.relationship {
        let (expected, found) = (node.relationship.to_string(), identity.relationship.to_string());
        return failed("provisioning relationship", &expected, &found);
    }
    if let Some(element) = &node.element
        && (identity.element.identity() != element.identity()
            || identity.element.kind != element.kind
            || identity.element.protection != element.protection)
    {
        let text = |element: &Description| format!("{} {}", element.kind, element.serial);
        return failed("element", &text(element), &text(&identity.element));
    }
    let version = node.stack_version.as_deref().and_then(|said| said.split_whitespace().last());
    if let Some(version) = version
        && identity.stack_version != version
    {
        return failed("stack version", version, &identity.stack_version);
    }
    if let Some(code) = &node.integrity_code
        && identity.integrity != *code
    {
        return Err(Refusal::Altered { name: node.name.clone() }.into());
    }
    Ok(())
}

/// What the stack of a node says of an element that does not answer, over the installer's channel; `None` if it answers,
/// or nobody can tell.
pub(crate) fn asks_for_element(node: &Node) -> Option<String> {
    let target = target_of(node);
    // A stack that runs knows whether its element answers it, and has that to itself.
    let running = target.akmd_if_installed(&["status", "--json"], &[]).ok()??;
    if running.code == Some(0) {
        let status: akm_client::NodeStatus = serde_json::from_slice(&running.stdout).ok()?;
        return status.element_trouble;
    }
    let output = target.akmd_if_installed(&["enroll", "--prepare"], &[]).ok()??;
    (output.code == Some(4)).then(|| output.last_words())
}
