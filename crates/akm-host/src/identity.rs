//! Who a node is, and who provisions it.

use alloc::collections::BTreeMap;

use akm_core::id::{AkmId, RelationshipId};
use akm_core::management::Level;

/// One provisioning relationship, as far as the node must know it before its records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provisioning {
    /// The module.
    pub provisioner: AkmId,
    /// What it may do.
    pub level: Level,
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    node: AkmId,
    provisioning: BTreeMap<RelationshipId, Provisioning>,
}

impl Identity {
    /// A node with one provisioning relationship, that of its enrolment.
    pub fn of_one(node: AkmId, relationship: RelationshipId, provisioner: AkmId) -> Self {
        let provisioning = Provisioning { provisioner, level: Level::Factory };
        Self { node, provisioning: BTreeMap::from([(relationship, provisioning)]) }
    }

    /// Its AKM ID.
    pub fn node(&self) -> AkmId {
        self.node
    }

    /// Its provisioning relationships.
    pub fn provisioning(&self) -> &BTreeMap<RelationshipId, Provisioning> {
        &self.provisioning
    }

    /// Whether this is a provisioning relationship of the node.
    pub fn is_provisioned_by(&self, relationship: RelationshipId) -> bool {
        self.provisioning.contains_key(&relationship)
    }
}
