//! What a node says about itself to whoever asks on its own machine.

use std::collections::BTreeSet;

use akm_client::{ElementReport, FoundBackReport, MemberStatus, NodeStatus, RelationshipReport};
use akm_core::element::{Description, Protection};
use akm_core::id::RelationshipId;
use akm_core::management::{PAGE_MAX, RelationshipStatus};
use akm_core::session::{FoundBack, Phase, Rejection};
use akm_core::text::hexadecimal;
use akm_core::tree::NO_EPOCH;

use super::generations::Held;
use super::{Node, OLD_GENERATION, Relationship};
use crate::error::NodeError;

fn report_of(description: Description) -> ElementReport {
    let Description { kind, manufacturer, serial, firmware, protection, sealed, counter } = description;
    let hardware = protection == Protection::Hardware;
    ElementReport { kind, manufacturer, serial, firmware, hardware, sealed, counter }
}

/// What an element said of itself to the stack that reports it.
pub fn description_of(report: ElementReport) -> Description {
    let ElementReport { kind, manufacturer, serial, firmware, hardware, sealed, counter } = report;
    let protection = if hardware { Protection::Hardware } else { Protection::Software };
    Description { kind, manufacturer, serial, firmware, protection, sealed, counter }
}

fn found_back_of(found: FoundBack) -> FoundBackReport {
    let of = |epoch: u32| Some(epoch).filter(|epoch| *epoch != NO_EPOCH);
    FoundBackReport {
        way: found.way.name().to_owned(),
        run_before: found.before.map(|(run, _)| run),
        epoch_before: found.before.and_then(|(_, epoch)| of(epoch)),
        run: found.run,
        epoch: of(found.epoch),
    }
}

impl Node {
    /// How this node and its relationships stand.
    pub fn status(&self) -> Result<NodeStatus, NodeError> {
        let description = self.element.description();
        let mut relationships: Vec<_> = self
            .relationships
            .iter()
            .filter(|(held, _)| self.in_force(held.0) == Some(**held))
            .map(|(held, entry)| (entry.kind() as u8, entry.report(held.0, self.staged_after(*held))))
            .collect();
        relationships.sort_by(|(kind, one), (other_kind, other)| {
            (kind, &one.name, &one.id).cmp(&(other_kind, &other.name, &other.id))
        });
        let mut warning = match (description.protection, description.sealed) {
            (Protection::Hardware, _) => "",
            (Protection::Software, true) => {
                "software: protects nothing from root on this machine while it runs"
            }
            (Protection::Software, false) => "software: protects nothing from root on this machine",
        }
        .to_owned();
        if !description.counter {
            let separator = if warning.is_empty() { "" } else { "; " };
            warning.push_str(separator);
            warning.push_str("no counter: an older state of this disk is recognised only by the neighbours");
        }
        Ok(NodeStatus {
            name: self.identity.name.clone(),
            akm_id: self.identity.node.to_string(),
            provisioning_relationship_id: self.identity.relationship.to_string(),
            stack_version: env!("CARGO_PKG_VERSION").to_owned(),
            integrity_code: hexadecimal(&self.layout.integrity(&description.identity())?),
            listen: self.config.listen.to_string(),
            element: format!(
                "{} {} {} ({})",
                description.kind, description.manufacturer, description.serial, description.firmware
            ),
            element_description: report_of(description),
            element_warning: warning,
            element_trouble: self.element_trouble.as_ref().map(|(why, _)| why.clone()),
            unknown_frames: self.unknown_frames,
            relationships: relationships.into_iter().map(|(_, report)| report).collect(),
            damaged: self.damaged.iter().map(|(held, why)| (held.0.to_string(), why.clone())).collect(),
        })
    }

    /// One page of the relationships as the module asks for them, and whether there are more. One that is set
    /// aside is told as generation 0 without place.
    pub(crate) fn page(&self, after: Option<RelationshipId>, most: usize) -> (Vec<RelationshipStatus>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let most = most.min(PAGE_MAX);
        let start = after.map_or(Unbounded, |after| Excluded((after, u32::MAX)));
        let mut ids = BTreeSet::new();
        // One more of each than the page holds shows whether there are more.
        let in_use = self.relationships.range((start, Unbounded)).map(|((id, _), _)| *id);
        let set_aside = self.damaged.range((start, Unbounded)).map(|((id, _), _)| *id);
        for mut all in
            [&mut in_use.into_iter() as &mut dyn Iterator<Item = RelationshipId>, &mut set_aside.into_iter()]
        {
            let mut of_each = BTreeSet::new();
            for id in &mut all {
                of_each.insert(id);
                if of_each.len() > most {
                    break;
                }
            }
            ids.extend(of_each);
        }
        let more = ids.len() > most;
        (ids.into_iter().take(most).map(|id| self.standing_of(id)).collect(), more)
    }

    /// How a relationship stands, as the module hears it.
    fn standing_of(&self, id: RelationshipId) -> RelationshipStatus {
        let all = (id, 0)..=(id, u32::MAX);
        let is_damaged = self.damaged.range(all.clone()).next().is_some();
        let in_force = self.in_force(id).filter(|held| !is_damaged || self.relationships[held].is_active());
        let element_version =
            self.relationships.range(all).map(|(_, entry)| entry.sds.element_version()).max().unwrap_or(0);
        match in_force {
            Some(held) => {
                let entry = &self.relationships[&held];
                RelationshipStatus {
                    relationship: id,
                    generation: entry.generation(),
                    epoch: entry.session.epoch(),
                    run: entry.session.run(),
                    phase: entry.session.phase(),
                    element_version,
                    highest: self.highest(id),
                    found_back: entry.found_back,
                }
            }
            None => RelationshipStatus {
                relationship: id,
                generation: 0,
                epoch: NO_EPOCH,
                run: 0,
                phase: Phase::WithoutPlace,
                element_version,
                highest: self.highest(id),
                found_back: 0,
            },
        }
    }

    /// The highest generation that waits for its activation beside this one.
    fn staged_after(&self, held: Held) -> Option<u32> {
        let highest = self.generations(held.0).next_back().map(|(_, generation)| generation);
        highest.filter(|highest| *highest > held.1)
    }
}

impl Relationship {
    pub(super) fn report(&self, id: RelationshipId, staged_generation: Option<u32>) -> RelationshipReport {
        let sds = self.session.membership().sds();
        let own = usize::from(self.session.membership().index());
        let members = sds.members().iter().enumerate().map(|(at, member)| MemberStatus {
            akm_id: member.to_string(),
            name: self.member_labels.get(at).cloned().unwrap_or_default(),
            endpoint: self.endpoints[at].map(|endpoint| endpoint.to_string()),
            heard_seconds_ago: self.heard[at].map(|heard| heard.elapsed().as_secs()),
            this: at == own,
        });
        let rejected = Rejection::ALL
            .into_iter()
            .map(|reason| (reason.name().to_owned(), self.session.rejected(reason)))
            .chain([(OLD_GENERATION.to_owned(), self.late)])
            .filter(|(_, count)| *count > 0);
        RelationshipReport {
            id: id.to_string(),
            name: self.label.clone(),
            kind: format!("{:?}", sds.kind()).to_lowercase(),
            generation: sds.generation(),
            staged_generation,
            epoch: Some(self.session.epoch()).filter(|epoch| *epoch != NO_EPOCH),
            run: self.session.run(),
            phase: format!("{:?}", self.session.phase()),
            found_back: self.found_back,
            last_found_back: self.session.found_back().map(found_back_of),
            trouble: self.rests.as_ref().or(self.not_recorded.as_ref()).cloned(),
            sent: self.session.transmitted(),
            accepted: self.session.delivered(),
            rejected: rejected.collect(),
            members: members.collect(),
        }
    }
}
