//! By what a relationship is found: the tags of its frames, and the time at which it acts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use akm_core::id::RelationshipId;
use akm_core::sds::Tag;
use akm_core::session::Instant;

/// The relationships by the tags of their frames.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) by_tag: BTreeMap<Tag, Vec<RelationshipId>>,
    /// The relationship that was told last of a frame that belongs to none.
    pub(crate) hinted: Option<RelationshipId>,
}

impl Routes {
    pub(crate) fn list(&mut self, id: RelationshipId, tag: Tag) {
        self.by_tag.entry(tag).or_default().push(id);
    }

    pub(crate) fn unlist(&mut self, id: RelationshipId, tag: Tag) {
        if let Some(others) = self.by_tag.get_mut(&tag) {
            others.retain(|other| *other != id);
            if others.is_empty() {
                self.by_tag.remove(&tag);
            }
        }
    }
}

/// The times of all relationships, the next first.
#[derive(Debug, Default)]
pub(crate) struct Timers(pub(crate) BTreeSet<(Instant, RelationshipId)>);

impl Timers {
    pub(crate) fn first(&self) -> Option<Instant> {
        self.0.first().map(|(due, _)| *due)
    }
}
