//! What is parked.

use akm_core::id::AkmId;
use serde::{Serialize, Serializer};

use super::text;
use crate::names::{Name, Timestamp};
use crate::relationship::{self, Work, next_try};
use crate::store::NodeStatus;

/// Something that is parked: for whom, what, since when, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// For whom.
    pub node: Name,
    /// The AKM ID of that node.
    #[serde(serialize_with = "text")]
    pub akm_id: AkmId,
    /// Where that node stands.
    #[serde(skip)]
    pub node_status: NodeStatus,
    /// Of which ASR.
    pub asr: Name,
    /// What.
    #[serde(serialize_with = "word")]
    pub work: Work,
    /// The generation that it is about; absent where the ASR is to be erased.
    pub generation: Option<u32>,
    /// Since when.
    pub since: Timestamp,
    /// Since when the node is away; absent if it was not tried, or was reached.
    pub away_since: Option<Timestamp>,
    /// How often it was tried since.
    pub tries: u32,
    /// What came of the last try.
    pub reason: Option<String>,
    /// When it is tried again.
    pub next_try: Option<Timestamp>,
}

impl Task {
    /// Whether it can never be done: its node is none any more, and cannot be reached.
    pub fn is_hopeless(&self) -> bool {
        self.node_status != NodeStatus::Active && self.generation.is_some()
    }
}

impl From<relationship::Task> for Task {
    fn from(task: relationship::Task) -> Self {
        let relationship::Task { node, asr, work, since, absence } = task;
        Self {
            node: node.name,
            akm_id: node.id,
            node_status: node.status,
            asr,
            work,
            generation: work.generation(),
            since,
            away_since: absence.as_ref().map(|absence| absence.since),
            tries: absence.as_ref().map_or(0, |absence| absence.tries),
            next_try: absence.as_ref().map(next_try),
            reason: absence.map(|absence| absence.reason),
        }
    }
}

fn word<S: Serializer>(work: &Work, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(work.as_str())
}
