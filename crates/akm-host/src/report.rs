//! How a node and its relationships stand, for the module.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use akm_core::id::{AkmId, RelationshipId};
use akm_core::lineage::Lineage;
use akm_core::management::{PAGE_MAX, RelationshipStatus, ReportAnswer};
use akm_core::session::{Phase, Rejection, Session};
use akm_core::tree::NO_EPOCH;

use crate::door::{Surroundings, Verdict};
use crate::endpoints::seconds_since;
use crate::node::Node;
use crate::relationship::Relationship;

impl Node {
    /// One page of the relationships as the module asks for them, and whether there are more. One that is set
    /// aside is told as generation 0 without place.
    pub(crate) fn page(&self, after: Option<RelationshipId>, most: usize) -> (Vec<RelationshipStatus>, bool) {
        let most = most.min(PAGE_MAX);
        let start = after.map_or(Unbounded, Excluded);
        let aside = after.map_or(Unbounded, |after| Excluded((after, u32::MAX)));
        // One more of each than the page holds shows whether there are more.
        let in_use = self.relationships.range((start, Unbounded)).map(|(id, _)| *id).take(most + 1);
        let mut ids: BTreeSet<RelationshipId> = in_use.collect();
        let mut set_aside = BTreeSet::new();
        for ((id, _), _) in self.set_aside.range((aside, Unbounded)) {
            set_aside.insert(*id);
            if set_aside.len() > most {
                break;
            }
        }
        ids.append(&mut set_aside);
        let more = ids.len() > most;
        (ids.into_iter().take(most).map(|id| self.standing_of(id)).collect(), more)
    }

    /// How a relationship stands, as the module hears it.
    fn standing_of(&self, id: RelationshipId) -> RelationshipStatus {
        let all = (id, 0)..=(id, u32::MAX);
        let is_damaged = self.set_aside.range(all).next().is_some();
        let in_force = self.lineage(id).and_then(Lineage::in_force);
        let element_version = self.relationships.get(&id).map_or(0, Relationship::element_version);
        let highest = self.highest(id);
        match in_force.filter(|(session, _)| !is_damaged || session.is_active()) {
            Some((session, known)) => RelationshipStatus {
                relationship: id,
                generation: session.membership().sds().generation(),
                epoch: session.epoch(),
                run: session.run(),
                phase: session.phase(),
                element_version,
                highest,
                found_back: known.found_back,
            },
            None => RelationshipStatus {
                relationship: id,
                generation: 0,
                epoch: NO_EPOCH,
                run: 0,
                phase: Phase::WithoutPlace,
                element_version,
                highest,
                found_back: 0,
            },
        }
    }

    /// What the node hears of one member.
    pub(crate) fn report(
        &self,
        relationship: RelationshipId,
        member: AkmId,
        surroundings: &Surroundings<'_>,
    ) -> Option<ReportAnswer> {
        let held = self.relationships.get(&relationship)?;
        let (session, known) = held.lineage.in_force()?;
        let at = session.membership().sds().index_of(member).map(usize::from);
        let endpoint = at.and_then(|at| known.endpoints[at]);
        Some(ReportAnswer {
            is_member: at.is_some(),
            endpoint: endpoint.map_or_else(String::new, |endpoint| endpoint.to_string()),
            heard: at.and_then(|at| known.heard[at]).map(|heard| seconds_since(heard, surroundings)),
            sent: session.transmitted(),
            accepted: session.delivered(),
            rejected: rejections(held, session),
            sent_ago: known.sent_at.map(|sent| seconds_since(sent, surroundings)),
            up: seconds_since(self.began, surroundings),
            rolled_back: known.rolled_back,
        })
    }

    /// Frames that were dropped since the start, by the name of the reason; the names ascend. What a session dropped
    /// is that of the generation in force.
    pub fn dropped(&self, relationship: RelationshipId) -> Vec<(String, u64)> {
        let held = self.relationships.get(&relationship);
        held.and_then(|held| Some(rejections(held, held.lineage.in_force()?.0))).unwrap_or_default()
    }
}

fn rejections(held: &Relationship, session: &Session) -> Vec<(String, u64)> {
    let reasons = Rejection::ALL.into_iter().map(|reason| (reason.name(), session.rejected(reason)));
    let late = (Verdict::OldGeneration.name(), held.lineage.late_frames());
    let not_taken = (Verdict::NotTaken.name(), held.not_taken);
    let mut all: Vec<(String, u64)> = reasons
        .chain([late, not_taken])
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    all.sort_unstable();
    all
}
