//! Nodes: what the store tells of them, and what is learnt of one on its way.

use std::path::Path;

use akm_core::element::Description;
use akm_core::id::AkmId;
use akm_target::TargetUrl;
use akm_transport::{Endpoint, NamedEndpoint};

use super::rows::{absence, node};
use super::sql::Sql;
use super::{Absence, Node, Store, StoreError};
use crate::names::{Name, Timestamp};

impl Store {
    /// A node by its AKM ID, whatever its status.
    pub fn node_by_id(&self, id: AkmId) -> Result<Option<Node>, StoreError> {
        self.read(|sql| node::find(sql, id))
    }

    /// A node that was there before, by its AKM ID; refused if it is not there any more.
    pub fn node(&self, id: AkmId) -> Result<Node, StoreError> {
        self.read(|sql| require(sql, id))
    }

    /// The node that holds a name: never one that was replaced or removed.
    pub fn node_by_name(&self, name: &Name) -> Result<Option<Node>, StoreError> {
        self.read(|sql| node::find_by_name(sql, name))
    }

    /// The nodes in force on a target, oldest first: two while one replaces the other.
    pub fn nodes_by_target(&self, target: &TargetUrl) -> Result<Vec<Node>, StoreError> {
        self.read(|sql| node::at_target(sql, target))
    }

    /// The node whose element has this identity, active or being removed. There is at most one.
    pub fn node_by_element_identity(
        &self,
        manufacturer: &str,
        serial: &str,
    ) -> Result<Option<Node>, StoreError> {
        self.read(|sql| node::find_by_element(sql, manufacturer, serial))
    }

    /// The nodes in force, in the order in which they were made.
    pub fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        self.read(node::in_force)
    }

    /// The nodes that were replaced or removed, in the order in which they were made.
    #[cfg(test)]
    pub fn former_nodes(&self) -> Result<Vec<Node>, StoreError> {
        self.read(node::former)
    }

    /// Records where the stack listens and where the module reaches it.
    pub fn save_addresses(
        &self,
        id: AkmId,
        listen: Endpoint,
        endpoint: &NamedEndpoint,
    ) -> Result<(), StoreError> {
        self.write(|sql| node::save_addresses(sql, id, listen, endpoint))
    }

    /// Takes over what the operator gave anew for a ceremony that goes on.
    pub fn revise_node(
        &self,
        id: AkmId,
        listen: Option<Endpoint>,
        endpoint: Option<&NamedEndpoint>,
        stack: Option<&Path>,
    ) -> Result<(), StoreError> {
        self.write(|sql| node::revise(sql, id, listen, endpoint, stack))
    }

    /// Records the stack that is installed.
    pub fn save_stack(&self, id: AkmId, stack: &Path, version: &str) -> Result<(), StoreError> {
        self.write(|sql| node::save_stack(sql, id, stack, version))
    }

    /// Records what the element says of itself.
    pub fn save_element(&self, id: AkmId, element: &Description) -> Result<(), StoreError> {
        self.write(|sql| node::save_element(sql, id, element))
    }

    /// Records the integrity code that the node must show.
    pub fn save_integrity_code(&self, id: AkmId, code: &[u8; 32]) -> Result<(), StoreError> {
        self.write(|sql| node::save_integrity_code(sql, id, code))
    }

    /// Records that an active node was verified again.
    pub fn mark_verified(&self, id: AkmId, at: Timestamp) -> Result<(), StoreError> {
        self.write(|sql| node::mark_verified(sql, id, at))
    }

    /// A node could not be reached.
    pub fn note_absence(&self, node: AkmId, reason: &str, at: Timestamp) -> Result<(), StoreError> {
        self.write(|sql| absence::note(sql, node, reason, at))
    }

    /// A node was reached. Repeating it changes nothing.
    pub fn forget_absence(&self, node: AkmId) -> Result<(), StoreError> {
        if self.absences()?.iter().all(|absence| absence.node != node) {
            return Ok(());
        }
        self.write(|sql| absence::forget(sql, node))
    }

    /// The nodes that could not be reached.
    pub fn absences(&self) -> Result<Vec<Absence>, StoreError> {
        self.read(absence::all)
    }
}

/// A node by its AKM ID, refused if it is not there.
pub(super) fn require(sql: Sql<'_>, id: AkmId) -> Result<Node, StoreError> {
    node::find(sql, id)?.ok_or_else(|| node::unknown(id))
}
