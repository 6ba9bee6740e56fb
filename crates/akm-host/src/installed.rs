//! What the disk holds of a generation, as it is written and as a start finds it.

use alloc::string::String;
use alloc::vec::Vec;

use akm_core::element::RootCheck;
use akm_core::id::AkmId;
use akm_core::id::RelationshipId;
use akm_core::management::Install;
use akm_core::sds::{HostPart, SynchronizedDataSet, Tag};
use akm_core::session::KeptKeys;

use crate::Endpoint;

/// One generation of a relationship, without its place. Nothing in it is secret without the element.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The public part.
    pub sds: SynchronizedDataSet,
    /// What tells its element root from another of the same version.
    pub root_check: RootCheck,
    /// SHA-256 of the host part: by which it is known again.
    pub host_part: [u8; 32],
    /// The tag of run 0.
    pub tag: Tag,
    /// Header key, tag and resync key, sealed under the device key (see [`akm_core::seal::KeysSeal`]).
    pub sealed_keys: Vec<u8>,
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
    /// What is kept of what a module sent: its host part, opened, and the keys of that, sealed.
    pub fn of(
        install: Install,
        sds: SynchronizedDataSet,
        part: &HostPart,
        sealed_keys: Vec<u8>,
        active: bool,
    ) -> Self {
        let Install { root_check, label, member_labels, endpoints, .. } = install;
        let (host_part, tag) = (part.digest(), part.keys.tag);
        Self { sds, root_check, host_part, tag, sealed_keys, label, member_labels, endpoints, active }
    }

    /// The keys as a session takes them: they are opened with its first frame.
    pub fn keys(&self) -> KeptKeys {
        KeptKeys::Sealed { tag: self.tag, sealed: self.sealed_keys.clone() }
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
    /// The highest run that it found back to; 0 if it never did.
    pub run: u32,
    /// Labels and endpoints as they were last saved, if they were.
    pub learnt: Option<(Vec<String>, Vec<String>)>,
}

impl StoredGeneration {
    /// Whether this node may have sent or heard something in it: it is active, and there is another to send to.
    pub(crate) fn may_have_a_past(&self, own: AkmId) -> bool {
        let endpoints = self.learnt.as_ref().map_or(&self.installed.endpoints, |(_, endpoints)| endpoints);
        let members = self.installed.sds.members().iter().zip(endpoints);
        let reaches = |(member, at): (&AkmId, &String)| *member != own && at.parse::<Endpoint>().is_ok();
        self.installed.active && members.into_iter().any(reaches)
    }
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
