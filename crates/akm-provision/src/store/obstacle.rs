//! What stands against a change of the store.

use std::fmt;
use std::path::PathBuf;

use akm_core::id::{AkmId, RelationshipId};
use akm_target::TargetUrl;

use crate::names::Name;

/// What is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// A node of this name.
    Node {
        /// Its name.
        name: Name,
    },
    /// A node that is to replace the same one.
    Replacing {
        /// That node.
        node: AkmId,
        /// The one that is replaced.
        old: Name,
    },
    /// An active node with the same element.
    Element {
        /// The node.
        holder: Name,
    },
    /// An ASR of this name.
    Asr {
        /// Its name.
        name: Name,
    },
    /// The module.
    Module {
        /// Its home.
        home: PathBuf,
    },
}

impl fmt::Display for Occupied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { name } => write!(f, "node {name}"),
            Self::Replacing { node, old } => write!(f, "node {node}, which replaces {old},"),
            Self::Element { holder } => write!(f, "an active node with this element ({holder})"),
            Self::Asr { name } => write!(f, "ASR {name}"),
            Self::Module { home } => write!(f, "the module in {}", home.display()),
        }
    }
}

/// What stands against a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no such node.
    NoNode {
        /// Its AKM ID.
        node: AkmId,
    },
    /// There is no such relationship.
    NoRelationship {
        /// Its ID.
        id: RelationshipId,
    },
    /// A node stands in the way.
    Node(ObstacleNode),
    /// A relationship stands in the way.
    Relationship {
        /// Its ID.
        id: RelationshipId,
        /// How.
        obstacle: ObstacleRelationship,
    },
    /// The ASR that was given is no communication relationship.
    NoAsr,
    /// The provisioning relationship that was given does not bind the root of this module and the node.
    OtherMembers,
}

/// How a node stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObstacleNode {
    /// It is in this status.
    Is {
        /// The node.
        name: Name,
        /// The word for where it stands.
        status: &'static str,
    },
    /// It is not active.
    NotActive {
        /// The node.
        node: AkmId,
    },
    /// It became a member of an ASR.
    IsMember {
        /// The node.
        name: Name,
    },
    /// Its state is at a target.
    IsAt {
        /// The node.
        node: AkmId,
        /// The target.
        target: TargetUrl,
    },
    /// It replaces another, which is in force.
    Replaces {
        /// The node.
        node: AkmId,
        /// The other.
        old: AkmId,
    },
    /// It does not replace that one.
    ReplacesNot {
        /// The node.
        node: AkmId,
        /// That one.
        old: AkmId,
    },
    /// Its ceremony has not come so far.
    Step {
        /// The node.
        node: AkmId,
        /// The step that was to be completed.
        step: u8,
        /// The last that is complete.
        completed: u8,
    },
}

/// How a relationship stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObstacleRelationship {
    /// It has ended.
    Ended,
    /// It is no ASR that is in force.
    NotInForce,
    /// It was changed meanwhile.
    Changed,
    /// The node is no member.
    NoMember {
        /// The node.
        node: AkmId,
    },
    /// The member has not acknowledged it.
    NotAcknowledged {
        /// The member.
        node: AkmId,
    },
    /// The module has no place in it.
    NoPlace,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode { node } => write!(f, "this module knows no node {node}"),
            Self::NoRelationship { id } => write!(f, "there is no relationship {id} in this module's set"),
            Self::Node(obstacle) => obstacle.fmt(f),
            Self::Relationship { id, obstacle } => match obstacle {
                ObstacleRelationship::Ended => write!(f, "relationship {id} has ended"),
                ObstacleRelationship::NotInForce => write!(f, "relationship {id} is no ASR that is in force"),
                ObstacleRelationship::Changed => write!(f, "relationship {id} was changed meanwhile"),
                ObstacleRelationship::NoMember { node } => {
                    write!(f, "node {node} is not a member of relationship {id}")
                }
                ObstacleRelationship::NotAcknowledged { node } => {
                    write!(f, "node {node} has not acknowledged relationship {id}")
                }
                ObstacleRelationship::NoPlace => write!(f, "the module has no place in relationship {id}"),
            },
            Self::NoAsr => f.write_str("an ASR is a communication relationship"),
            Self::OtherMembers => {
                f.write_str("a provisioning relationship binds the root of this module and the node")
            }
        }
    }
}

impl fmt::Display for ObstacleNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is { name, status } => write!(f, "node {name} is {status}"),
            Self::NotActive { node } => write!(f, "node {node} is not active"),
            Self::IsMember { name } => write!(f, "node {name} became a member of an ASR"),
            Self::IsAt { node, target } => write!(f, "the state of node {node} is at {target}"),
            Self::Replaces { node, old } => write!(f, "node {node} has to replace node {old}"),
            Self::ReplacesNot { node, old } => write!(f, "node {node} does not replace node {old}"),
            Self::Step { node, step, completed } => {
                write!(f, "step {step} cannot be completed after step {completed} (node {node})")
            }
        }
    }
}

impl ObstacleRelationship {
    /// As an obstacle of this relationship.
    pub(super) fn of(self, id: RelationshipId) -> Obstacle {
        Obstacle::Relationship { id, obstacle: self }
    }
}

impl From<ObstacleNode> for Obstacle {
    fn from(obstacle: ObstacleNode) -> Self {
        Self::Node(obstacle)
    }
}
