//! Nodes, and what they say of themselves.

use std::time::Duration;

use akm_core::id::{AkmId, RelationshipId};
use akm_core::management::RelationshipStatus;
use akm_element::ElementSpec;
use akm_target::TargetUrl;
use akm_transport::{Endpoint, NamedEndpoint};
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};

use super::ceremony::milliseconds;
use super::{Element, Standing, hex, optional_hex, optional_part, optional_text, part, text};
use crate::ceremony::{Said, is_filled};
use crate::error::Error;
use crate::names::{Name, Timestamp};
use crate::relationship::rests;
use crate::store::{self, NodeStatus, Store, StoreError};

/// A node as the module knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Its AKM ID.
    #[serde(serialize_with = "text")]
    pub akm_id: AkmId,
    /// Its provisioning relationship.
    #[serde(serialize_with = "text")]
    pub provisioning_relationship_id: RelationshipId,
    /// Where it stands.
    pub status: NodeStatus,
    /// Its target.
    #[serde(serialize_with = "text")]
    pub target: TargetUrl,
    /// Where it is reached, once chosen.
    #[serde(serialize_with = "optional_text")]
    pub endpoint: Option<NamedEndpoint>,
    /// Where its stack listens, once chosen.
    #[serde(serialize_with = "optional_text")]
    pub listen: Option<Endpoint>,
    /// Its element in one line.
    pub element: String,
    /// What its element says of itself, once asked.
    pub element_description: Option<Element>,
    /// Its element, as it is called at the target.
    #[serde(serialize_with = "text")]
    pub element_spec: ElementSpec,
    /// The version of its stack.
    pub stack_version: Option<String>,
    /// The integrity code that it must show.
    #[serde(serialize_with = "optional_hex")]
    pub integrity_code: Option<[u8; 32]>,
    /// When its ceremony began.
    pub created_at: Timestamp,
    /// When it was last verified.
    pub verified_at: Option<Timestamp>,
}

impl From<&store::Node> for Node {
    fn from(node: &store::Node) -> Self {
        let element_description = node.element.as_ref().map(Element::from);
        Self {
            name: node.name.clone(),
            akm_id: node.id,
            provisioning_relationship_id: node.relationship,
            status: node.status,
            target: node.target.clone(),
            endpoint: node.endpoint.clone(),
            listen: node.listen,
            element: element_line(element_description.as_ref(), node),
            element_description,
            element_spec: node.element_spec.clone(),
            stack_version: node.stack_version.clone(),
            integrity_code: node.integrity_code,
            created_at: node.created_at,
            verified_at: node.verified_at,
        }
    }
}

/// The element of a node in one line: its name, where it was never asked.
fn element_line(element: Option<&Element>, node: &store::Node) -> String {
    element.map_or_else(|| node.element_spec.to_string(), Element::line)
}

/// All nodes; the root, which is the module itself, is the first of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// The root.
    pub root: Root,
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl Nodes {
    /// All nodes of a store.
    pub(crate) fn of(store: &Store) -> Result<Self, StoreError> {
        let module = store.module();
        let root = Root { name: module.name.clone(), akm_id: module.root, created_at: module.created_at };
        Ok(Self { root, nodes: store.nodes()?.iter().map(Node::from).collect() })
    }
}

impl Serialize for Nodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(1 + self.nodes.len()))?;
        list.serialize_element(&self.root)?;
        for node in &self.nodes {
            list.serialize_element(node)?;
        }
        list.end()
    }
}

/// The module as the root of its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its name.
    pub name: Name,
    /// Its AKM ID.
    pub akm_id: AkmId,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Root {
    /// The word that stands for its status.
    pub const STATUS: &str = "root";
}

impl Serialize for Root {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// The fields of a node that a root has too, and those that it lacks.
        #[derive(Serialize)]
        struct AsNode<'a> {
            name: &'a Name,
            #[serde(serialize_with = "text")]
            akm_id: AkmId,
            provisioning_relationship_id: (),
            status: &'static str,
            target: (),
            endpoint: (),
            created_at: Timestamp,
        }
        let Self { name, akm_id, created_at } = self;
        AsNode {
            name,
            akm_id: *akm_id,
            provisioning_relationship_id: (),
            status: Self::STATUS,
            target: (),
            endpoint: (),
            created_at: *created_at,
        }
        .serialize(serializer)
    }
}

/// A node, with the journal of its ceremony and what it says of its relationships.
#[derive(Clone, Debug, Serialize)]
#[serde(bound(serialize = "R: Serialize"))]
pub struct NodeShown<R = Error> {
    /// As the module knows it.
    #[serde(flatten)]
    pub node: Node,
    /// The ASRs that it is a member of.
    pub asrs: Vec<String>,
    /// What it says, or why it could not be asked; absent where it is not active.
    #[serde(serialize_with = "optional_part")]
    pub at_node: Option<Result<Held, R>>,
    /// The attempts at the steps of its ceremony.
    pub journal: Vec<JournalEntry>,
    /// Whether its element was filled here, and its target has not proved yet that it is there.
    #[serde(skip)]
    pub is_filled: bool,
}

impl NodeShown {
    /// A node, and what it said.
    pub(crate) fn of(
        store: &Store,
        node: &store::Node,
        held: Option<Result<Vec<RelationshipStatus>, Error>>,
    ) -> Result<Self, Error> {
        let at_node = match held {
            Some(Ok(held)) => Some(Ok(Held::of(store, &held)?)),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        };
        Ok(Self {
            node: node.into(),
            asrs: store.asr_names_of_node(node.id)?,
            at_node,
            journal: store.journal_of(node.id)?.into_iter().map(JournalEntry::from).collect(),
            is_filled: is_filled(store, node)?,
        })
    }
}

impl<R> NodeShown<R> {
    /// The same with what was refused as somebody shows it.
    pub fn refused_as<Q>(self, show: impl Fn(R) -> Q) -> NodeShown<Q> {
        let Self { node, asrs, at_node, journal, is_filled } = self;
        NodeShown { node, asrs, at_node: at_node.map(|held| held.map_err(show)), journal, is_filled }
    }
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Its relationships, in the order in which it tells them.
    pub relationships: Vec<HeldRelationship>,
}

impl Held {
    fn of(store: &Store, held: &[RelationshipStatus]) -> Result<Self, StoreError> {
        let each = held.iter().map(|status| {
            Ok(HeldRelationship {
                relationship_id: status.relationship,
                name: name_of(store, status.relationship)?,
                standing: status.into(),
            })
        });
        Ok(Self { relationships: each.collect::<Result<_, StoreError>>()? })
    }
}

/// A relationship that a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldRelationship {
    /// Its relationship ID.
    #[serde(serialize_with = "text")]
    pub relationship_id: RelationshipId,
    /// The name of an ASR, else the relationship ID.
    pub name: String,
    /// How it stands there.
    #[serde(flatten)]
    pub standing: Standing,
}

/// One attempt at one step of a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalEntry {
    /// The number of the step.
    pub step: u8,
    /// The name of the step.
    pub name: String,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// How long it took.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// How it ended.
    pub outcome: String,
}

impl From<store::JournalEntry> for JournalEntry {
    fn from(entry: store::JournalEntry) -> Self {
        let store::JournalEntry { node: _, step, name, started_at, duration, outcome } = entry;
        Self { step, name, started_at, duration, outcome }
    }
}

/// What came of asking a node who it is.
#[derive(Clone, Debug, Serialize)]
#[serde(bound(serialize = "R: Serialize"))]
pub struct Verification<R = Error> {
    /// Its name.
    pub node: Name,
    /// Whether it proved to be what the module knows.
    pub verified: bool,
    /// What it proved, or why not.
    #[serde(flatten, serialize_with = "part")]
    pub result: Result<Proof, R>,
}

impl Verification {
    /// What came of asking this node.
    pub(crate) fn of(
        store: &Store,
        node: &store::Node,
        said: Result<Said, Error>,
    ) -> Result<Self, StoreError> {
        let result = match said {
            Ok(identity) => Ok(Proof::of(store, node, identity)?),
            Err(error) => Err(error),
        };
        Ok(Self { node: node.name.clone(), verified: result.is_ok(), result })
    }
}

impl<R> Verification<R> {
    /// The same with what was refused as somebody shows it.
    pub fn refused_as<Q>(self, show: impl FnOnce(R) -> Q) -> Verification<Q> {
        let Self { node, verified, result } = self;
        Verification { node, verified, result: result.map_err(show) }
    }
}

/// What a node proved of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Its AKM ID.
    #[serde(serialize_with = "text")]
    pub akm_id: AkmId,
    /// Its provisioning relationship.
    #[serde(serialize_with = "text")]
    pub provisioning_relationship_id: RelationshipId,
    /// The version of its stack.
    pub stack_version: String,
    /// Its integrity code.
    #[serde(serialize_with = "hex")]
    pub integrity_code: [u8; 32],
    /// Its element in one line.
    pub element: String,
    /// What its element says of itself.
    pub element_description: Option<Element>,
    /// How many relationships it told of.
    pub relationships: usize,
    /// Those in which it does not send; in JSON, how many.
    #[serde(serialize_with = "count")]
    pub resting: Vec<Resting>,
}

impl Proof {
    fn of(store: &Store, node: &store::Node, said: Said) -> Result<Self, StoreError> {
        let Said { identity, relationships } = said;
        let mut resting = Vec::new();
        for status in &relationships {
            if let Some(how) = rests(status) {
                resting.push(Resting { name: name_of(store, status.relationship)?, how });
            }
        }
        let element_description = node.element.as_ref().map(Element::from);
        Ok(Self {
            akm_id: identity.node,
            provisioning_relationship_id: identity.relationship,
            stack_version: identity.stack_version,
            integrity_code: identity.integrity,
            element: element_line(element_description.as_ref(), node),
            element_description,
            relationships: relationships.len(),
            resting,
        })
    }
}

/// A relationship in which a node does not send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// The name of an ASR, else the relationship ID.
    pub name: String,
    /// Why not, in a few words.
    pub how: &'static str,
}

fn count<T, S: Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(list.len() as u64)
}

/// What operators call a relationship: the name of an ASR, else its ID.
fn name_of(store: &Store, id: RelationshipId) -> Result<String, StoreError> {
    let name = store.relationship(id)?.and_then(|relationship| relationship.name);
    Ok(name.map_or_else(|| id.to_string(), |name| name.to_string()))
}
