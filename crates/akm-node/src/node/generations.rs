//! Several generations of one relationship (protocol, section 6).
//!
//! ```text
//!   install      n active, n + 1 staged beside it
//!   activation   by the module's word, or by the first authentic frame of n + 1
//!   overlap      n + 1 in force, n only receives; not at all where the element version rose
//!   end          n is erased, and its root where no generation needs that
//! ```
//!
//! The rules are those of [`akm_core::lineage`]; here is what they come to for files, timers and endpoints.
//! Each generation has a session of its own; frames find theirs by the tag. Who still sends in a generation that is
//! behind is told by a hello in the one in force.

use std::collections::BTreeSet;

use akm_core::frame::{FrameKind, Header, is_signed};
use akm_core::id::RelationshipId;
use akm_core::lineage;
use akm_core::sds::{HeaderKey, Tag};
use akm_core::session::{Input, Instant, Phase};
use tracing::{debug, info, warn};

use super::{Network, Node, OLD_GENERATION, save_endpoints, tags_of};
use crate::error::NodeError;
use crate::storage::keep_roots;

/// One generation of a relationship.
pub(super) type Held = (RelationshipId, u32);

/// How often a member that is behind is told so, at most.
const TELL_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// A generation that was erased in this start, as far as its frames must be known again.
pub(super) struct Former {
    pub(super) relationship: RelationshipId,
    header_key: HeaderKey,
}

impl Node {
    /// The generation in which a relationship is sent: the highest one that was ever active, else the highest.
    pub(super) fn in_force(&self, relationship: RelationshipId) -> Option<Held> {
        let held = self.generations(relationship);
        let in_force = lineage::in_force(held.map(|held| (held.1, self.relationships[&held].is_active())))?;
        Some((relationship, in_force))
    }

    /// The generations of a relationship that are in use, lowest first.
    pub(super) fn generations(
        &self,
        relationship: RelationshipId,
    ) -> impl DoubleEndedIterator<Item = Held> + Clone {
        self.relationships.range((relationship, 0)..=(relationship, u32::MAX)).map(|(held, _)| *held)
    }

    /// The highest generation of a relationship that has an entry here, of whatever kind; 0 if there is none.
    pub(super) fn highest(&self, relationship: RelationshipId) -> u32 {
        let all = (relationship, 0)..=(relationship, u32::MAX);
        let damaged = self.damaged.range(all).next_back().map(|((_, generation), _)| *generation);
        self.generations(relationship).next_back().map(|(_, generation)| generation).max(damaged).unwrap_or(0)
    }

    /// A generation became active: those before it only receive from here on, for their overlap, or end at once where
    /// the element version rose.
    pub(super) fn supersede(&mut self, held: Held) {
        let now = self.now();
        let before: Vec<Held> = self.generations(held.0).filter(|older| *older < held).collect();
        for older in before.into_iter().rev() {
            self.take_over_endpoints(older, held);
            let [Some(old), Some(next)] = [older, held].map(|held| self.relationships.get(&held)) else {
                return;
            };
            let open_until = lineage::open_until(old.session.membership(), &next.sds, now);
            match (open_until, self.relationships.get_mut(&older)) {
                (Some(ends), Some(old)) => {
                    // What closes already does not close later.
                    old.ends = Some(old.ends.map_or(ends, |sooner| sooner.min(ends)));
                    self.schedule_at(older, None);
                }
                _ => self.end(older),
            }
        }
        let all = (held.0, 0)..(held.0, held.1);
        if self.damaged.range(all.clone()).next().is_some() {
            self.damaged.retain(|id, _| !all.contains(id));
            self.tidy(held.0);
        }
    }

    /// Ends a generation after the one that follows it: erases its records, and its root where no other needs that.
    pub(super) fn end(&mut self, held: Held) {
        self.schedule_at(held, None);
        let Some(ended) = self.relationships.remove(&held) else { return };
        if let Some(due) = ended.timer {
            self.timers.remove(&(due, held));
        }
        let tag = ended.session.tag();
        self.unlist_tags(held, &ended.tags);
        if let Some(in_force) = self.in_force(held.0).and_then(|held| self.relationships.get_mut(&held)) {
            in_force.late += ended.late;
        }
        let header_key = ended.session.membership().header_key().duplicate();
        // Of one relationship only the latest: who is two behind hears of it from the module.
        self.former.retain(|_, former| former.relationship != held.0);
        self.former.insert(tag, Former { relationship: held.0, header_key });
        info!(relationship = %held.0, label = ended.label, generation = held.1, "generation ended");
        self.tidy(held.0);
    }

    /// Takes note of the tags by which the frames of a generation are found; they change with a failsafe.
    pub(super) fn list_tags(&mut self, held: Held) {
        let Some(relationship) = self.relationships.get_mut(&held) else { return };
        let tags = tags_of(&relationship.session);
        let before = std::mem::replace(&mut relationship.tags, tags.clone());
        self.unlist_tags(held, &before);
        for tag in tags {
            self.by_tag.entry(tag).or_default().push(held);
        }
    }

    pub(super) fn unlist_tags(&mut self, held: Held, tags: &[Tag]) {
        for tag in tags {
            if let Some(others) = self.by_tag.get_mut(tag) {
                others.retain(|other| *other != held);
                if others.is_empty() {
                    self.by_tag.remove(tag);
                }
            }
        }
    }

    /// Erases what is there of a relationship beside the generations in use. Where that fails the next start does it.
    fn tidy(&mut self, relationship: RelationshipId) {
        if let Err(error) = self.try_tidy(relationship) {
            warn!(%relationship, %error, "an ended generation could not be erased; the next start does it");
        }
    }

    pub(super) fn try_tidy(&mut self, relationship: RelationshipId) -> Result<(), NodeError> {
        let all = (relationship, 0)..=(relationship, u32::MAX);
        if self.damaged.range(all.clone()).next().is_some() {
            // Nobody knows which root it needs.
            return Ok(());
        }
        let in_use = self.relationships.range(all).map(|((_, generation), held)| (*generation, held));
        let (generations, versions): (BTreeSet<u32>, BTreeSet<u32>) =
            in_use.map(|(generation, held)| (generation, held.sds.element_version())).unzip();
        self.storage.keep_generations(self.identity.node, relationship, &generations)?;
        keep_roots(&mut *self.element, relationship, &versions)
    }

    /// What was learnt of where members are goes on to the generation that follows.
    fn take_over_endpoints(&mut self, from: Held, to: Held) {
        let Some(old) = self.relationships.get(&from) else { return };
        let learnt: Vec<_> = old
            .sds
            .members()
            .iter()
            .zip(old.endpoints.iter().zip(&old.heard))
            .filter(|(_, (endpoint, heard))| endpoint.is_some() && heard.is_some())
            .map(|(member, (endpoint, heard))| (*member, *endpoint, *heard))
            .collect();
        let Some(new) = self.relationships.get_mut(&to) else { return };
        let mut moved = false;
        for (member, endpoint, heard) in learnt {
            let Some(at) = new.sds.index_of(member).map(usize::from) else { continue };
            if new.heard[at].is_none() {
                moved |= new.endpoints[at] != endpoint;
                (new.endpoints[at], new.heard[at]) = (endpoint, heard);
            }
        }
        if moved {
            save_endpoints(&self.storage, self.identity.node, new);
        }
    }

    /// Whether a frame is of a generation that was erased here; its sender is told.
    pub(super) fn is_of_former(&mut self, frame: &[u8], network: &mut dyn Network) -> Option<RelationshipId> {
        let former = self.former.get(&Header::parse(frame).ok()?.tag)?;
        if !is_signed(frame, &former.header_key) {
            return None;
        }
        let relationship = former.relationship;
        let in_force = self.in_force(relationship)?;
        let entry = self.relationships.get_mut(&in_force)?;
        entry.late += 1;
        debug!(%relationship, label = entry.label, reason = OLD_GENERATION, "frame dropped");
        self.say_hello(in_force, network);
        Some(relationship)
    }

    /// Tells a member whose frame came in a generation that another has followed.
    pub(super) fn tell_who_is_behind(&mut self, held: Held, verdict: &str, network: &mut dyn Network) {
        if verdict == "accepted"
            && self.relationships.get(&held).is_some_and(|held| held.ends.is_some())
            && let Some(in_force) = self.in_force(held.0)
        {
            self.say_hello(in_force, network);
        }
    }

    fn say_hello(&mut self, held: Held, network: &mut dyn Network) {
        let now = self.now();
        let Some(relationship) = self.relationships.get_mut(&held) else { return };
        if relationship.session.phase() != Phase::Established
            || relationship.told.is_some_and(|told: Instant| now < told + TELL_WITHIN)
        {
            return;
        }
        relationship.told = Some(now);
        if let Err(error) = self.drive(held, Input::Send(FrameKind::Hello, &[]), network, &mut Vec::new()) {
            warn!(relationship = %held.0, %error, "a member that is behind could not be told");
        }
    }
}
