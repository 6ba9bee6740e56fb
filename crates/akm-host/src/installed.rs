//! What the disk holds of a generation, as it is written and as a start finds it.

use alloc::string::String;
use alloc::vec::Vec;

use akm_core::id::RelationshipId;
use akm_core::management::Install;
use akm_core::sds::{HeaderKey, SynchronizedDataSet, Tag, TreeRoot};

/// One generation of a relationship, without its place.
#[derive(Debug)]
pub struct Installed {
    /// The public part.
    pub sds: SynchronizedDataSet,
    /// The header key of run 0.
    pub header_key: HeaderKey,
    /// The tag of run 0.
    pub tag: Tag,
    /// What operators call the relationship.
    pub label: String,
    /// What operators call the members; empty if not known.
    pub member_labels: Vec<String>,
    /// Where the members are, as texts; empty: unknown.
    pub endpoints: Vec<String>,
    /// Whether it is active.
    pub active: bool,
}

impl Installed {
    /// Splits what a module sent into what is kept and the root of the first place.
    pub fn of(install: Install, sds: SynchronizedDataSet, active: bool) -> (Self, TreeRoot) {
        let Install { tree_root, header_key, tag, label, member_labels, endpoints, .. } = install;
        (Self { sds, header_key, tag, label, member_labels, endpoints, active }, tree_root)
    }
}

/// A generation that can be read, with all that stands beside it.
#[derive(Debug)]
pub struct StoredGeneration {
    /// What was installed.
    pub installed: Installed,
    /// The sealed place, `None` if there is none; or why it cannot be read.
    pub place: Result<Option<Vec<u8>>, String>,
    /// How often this node found back in it.
    pub found_back: u32,
    /// Labels and endpoints as they were last saved, if they were.
    pub learnt: Option<(Vec<String>, Vec<String>)>,
}

/// A generation as a start finds it on the disk.
#[derive(Debug)]
pub struct Found {
    /// Its relationship.
    pub relationship: RelationshipId,
    /// Its number; 0 if nothing says it.
    pub generation: u32,
    /// Its content, or why it cannot be read, in words.
    pub content: Result<StoredGeneration, String>,
}
