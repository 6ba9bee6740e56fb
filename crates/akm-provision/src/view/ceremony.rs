//! What became of a ceremony, and of a removal.

use std::time::Duration;

use akm_core::id::RelationshipId;
use akm_core::sds::SynchronizedDataSet;
use serde::{Serialize, Serializer};

use super::{Node, part, text};
use crate::ceremony;
use crate::error::Error;
use crate::names::Name;
use crate::progress::StepReport;
use crate::relationship::Changed;
use crate::store;

/// One step of a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// From 1 to 5.
    pub number: u8,
    /// What it is called.
    pub name: &'static str,
    /// How long it took.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// What came out of it, in one line.
    pub outcome: String,
}

impl From<&StepReport> for Step {
    fn from(report: &StepReport) -> Self {
        let StepReport { number, name, duration, outcome } = report.clone();
        Self { number, name, duration, outcome }
    }
}

pub(super) fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}

/// A target that was made into a node.
#[derive(Clone, Debug, Serialize)]
pub struct Provisioned {
    /// The node.
    pub node: Node,
    /// The steps that were done.
    pub steps: Vec<Step>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// A node that took the place of another.
#[derive(Clone, Debug, Serialize)]
#[serde(bound(serialize = "R: Serialize"))]
pub struct Replaced<R = Error> {
    /// The name of the one that is over.
    pub old: Name,
    /// The node that took its place.
    pub node: Node,
    /// The steps that were done.
    pub steps: Vec<Step>,
    /// What became of the ASRs of the old one.
    pub asrs: Vec<PlaceTaken<R>>,
}

impl<R> Replaced<R> {
    /// The same with what was refused as somebody shows it.
    pub fn refused_as<Q>(self, show: impl Fn(R) -> Q) -> Replaced<Q> {
        let Self { old, node, steps, asrs } = self;
        let shown = |PlaceTaken { asr, replaced, result }: PlaceTaken<R>| PlaceTaken {
            asr,
            replaced,
            result: result.map_err(&show),
        };
        Replaced { old, node, steps, asrs: asrs.into_iter().map(shown).collect() }
    }
}

/// A node whose provisioning relationship has another generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProvisioningRenewed {
    /// Its name.
    pub renewed: Name,
    /// The provisioning relationship.
    #[serde(serialize_with = "text")]
    pub provisioning_relationship_id: RelationshipId,
    /// The generation that has begun.
    pub generation: u32,
    /// Whether what somebody who commanded its element may have kept is worthless: `yes`, `no`, or `if-nobody-is-root`, as
    /// its element attests no key.
    pub heals: &'static str,
}

impl ProvisioningRenewed {
    /// This generation has begun at a node.
    pub(crate) fn of(node: &store::Node, sds: &SynchronizedDataSet) -> Self {
        let heals = match ceremony::Heals::of(node) {
            ceremony::Heals::Yes => "yes",
            ceremony::Heals::IfNobodyIsRoot => "if-nobody-is-root",
            ceremony::Heals::No => "no",
        };
        Self {
            renewed: node.name.clone(),
            provisioning_relationship_id: sds.relationship(),
            generation: sds.generation(),
            heals,
        }
    }
}

/// An ASR in which one node should take the place of another.
#[derive(Clone, Debug, Serialize)]
#[serde(bound(serialize = "R: Serialize"))]
pub struct PlaceTaken<R = Error> {
    /// Its name.
    pub asr: Name,
    /// Whether it has.
    pub replaced: bool,
    /// Why not.
    #[serde(flatten, serialize_with = "refused_part")]
    pub result: Result<(), R>,
}

impl From<Changed> for PlaceTaken {
    fn from((asr, result): Changed) -> Self {
        Self { asr, replaced: result.is_ok(), result }
    }
}

/// A part that says nothing where it is well.
fn refused_part<R: Serialize, S: Serializer>(
    result: &Result<(), R>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Nothing {}
    part(&result.as_ref().map(|()| Nothing {}), serializer)
}

/// A node that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// What it was called.
    pub removed: Name,
    /// Whether the device holds nothing of it any more, as far as the module can tell.
    pub erased: bool,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl Removal {
    /// The node of this name is removed, and this was told on the way.
    pub fn new(removed: Name, removal: ceremony::Removal, notes: Vec<String>) -> Self {
        let ceremony::Removal { erased } = removal;
        Self { removed, erased, notes }
    }
}
