//! What a node says about itself to whoever asks on its own machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a node stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// What operators call it.
    pub name: String,
    /// Its AKM ID.
    pub akm_id: String,
    /// Its provisioning relationship.
    pub provisioning_relationship_id: String,
    /// The version of the stack.
    pub stack_version: String,
    /// The integrity code of stack and element, in hexadecimal.
    pub integrity_code: String,
    /// Address and port, for UDP and TCP.
    pub listen: String,
    /// The element, in one line.
    pub element: String,
    /// What the element says of itself.
    pub element_description: ElementReport,
    /// What the element does not protect from; empty if nothing.
    pub element_warning: String,
    /// Why the element did not answer when an epoch needed it; absent once it answers.
    #[serde(default)]
    pub element_trouble: Option<String>,
    /// Frames that no relationship claims.
    pub unknown_frames: u64,
    /// All relationships: the provisioning one first, then by name.
    pub relationships: Vec<RelationshipReport>,
    /// Relationships whose files cannot be read or written, and why.
    pub damaged: BTreeMap<String, String>,
}

/// What an element says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ElementReport {
    /// Its kind, in the words of the command line.
    pub kind: String,
    /// Who made it.
    pub manufacturer: String,
    /// Serial number, unique for this manufacturer.
    pub serial: String,
    /// Version of its firmware or program.
    pub firmware: String,
    /// Whether a device of its own keeps the roots; else a program on this machine does.
    pub hardware: bool,
    /// Whether its content is sealed under something that is not stored in it.
    pub sealed: bool,
    /// Whether it has a counter.
    pub counter: bool,
}

/// How one relationship stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RelationshipReport {
    /// Its ID.
    pub id: String,
    /// What operators call it.
    pub name: String,
    /// `provisioning` or `communication`.
    pub kind: String,
    /// The generation in force.
    pub generation: u32,
    /// A later generation that waits for its activation; absent if there is none.
    pub staged_generation: Option<u32>,
    /// The epoch; absent before the first.
    pub epoch: Option<u32>,
    /// Counts failsafes.
    pub run: u32,
    /// Where it stands.
    pub phase: String,
    /// How often this node found back to the others, by a fallback or a failsafe, in this generation.
    pub found_back: u32,
    /// The latest time since the start: how, and where it was before and after; absent if there was none.
    pub last_found_back: Option<FoundBackReport>,
    /// Why it rests, or why its latest record could not be written; absent if all is well.
    pub trouble: Option<String>,
    /// Frames made since the start.
    pub sent: u64,
    /// Frames accepted since the start, hellos included.
    pub accepted: u64,
    /// Frames dropped since the start, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// The members in the order of the SDS.
    pub members: Vec<MemberStatus>,
}

/// The trace of a fallback or a failsafe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundBackReport {
    /// `fallback` or `failsafe`.
    pub way: String,
    /// The run before; absent without a place.
    pub run_before: Option<u32>,
    /// The epoch before; absent without a place, and before the first.
    pub epoch_before: Option<u32>,
    /// The run after.
    pub run: u32,
    /// The epoch after; absent before the first.
    pub epoch: Option<u32>,
}

/// What a node knows of a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its AKM ID.
    pub akm_id: String,
    /// What operators call it; empty if not known.
    pub name: String,
    /// Where frames for it are sent; absent for this node and where nothing is known.
    pub endpoint: Option<String>,
    /// Seconds since it was last heard; absent if not heard since the start.
    pub heard_seconds_ago: Option<u64>,
    /// Whether this is the node that reports.
    pub this: bool,
}
