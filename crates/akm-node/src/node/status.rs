//! What a node says about itself to whoever asks on its own machine.

use akm_client::{ElementReport, FoundBackReport, MemberStatus, NodeStatus, RelationshipReport};
use akm_core::element::{Description, ElementError, Protection};
use akm_core::id::RelationshipId;
use akm_core::session::FoundBack;
use akm_core::text::hexadecimal;
use akm_core::tree::NO_EPOCH;

use super::{Node, words};
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
        let gone = || ElementError::Unavailable("it did not say what it is".to_owned());
        let description = self.host.description().cloned().ok_or_else(gone)?;
        let mut relationships: Vec<_> = self
            .host
            .relationships()
            .filter_map(|(id, kind, _)| Some((kind as u8, self.report(id)?)))
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
        let set_aside = self.host.set_aside().iter().map(|(of, why)| {
            let why = self.set_aside.get(of).unwrap_or(why);
            (of.0.to_string(), why.clone())
        });
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
            element_trouble: self.host.element_trouble().map(str::to_owned),
            unknown_frames: self.host.unclaimed(),
            relationships: relationships.into_iter().map(|(_, report)| report).collect(),
            damaged: set_aside.collect(),
        })
    }

    /// How one relationship stands, in the generation in force.
    fn report(&self, id: RelationshipId) -> Option<RelationshipReport> {
        let lineage = self.host.lineage(id)?;
        let (session, known) = lineage.in_force()?;
        let sds = session.membership().sds();
        let own = usize::from(session.membership().index());
        let now = self.now().0;
        let members = sds.members().iter().enumerate().map(|(at, member)| MemberStatus {
            akm_id: member.to_string(),
            name: known.member_labels.get(at).cloned().unwrap_or_default(),
            endpoint: known.endpoints[at].map(|endpoint| endpoint.to_string()),
            heard_seconds_ago: known.heard[at].map(|heard| now.saturating_sub(heard.0).as_secs()),
            this: at == own,
        });
        let highest = lineage.sessions().next_back().map(|session| session.membership().sds().generation());
        let rests = self.rests(id).map(|(why, cure)| format!("{why}; {cure}"));
        Some(RelationshipReport {
            id: id.to_string(),
            name: known.label.clone(),
            kind: format!("{:?}", sds.kind()).to_lowercase(),
            generation: sds.generation(),
            staged_generation: highest.filter(|highest| *highest > sds.generation()),
            epoch: Some(session.epoch()).filter(|epoch| *epoch != NO_EPOCH),
            run: session.run(),
            phase: format!("{:?}", session.phase()),
            found_back: known.found_back,
            last_found_back: session.found_back().map(found_back_of),
            trouble: rests.or_else(|| known.not_recorded.clone()),
            sent: session.transmitted(),
            accepted: session.delivered(),
            rejected: self.host.dropped(id).into_iter().collect(),
            members: members.collect(),
        })
    }

    /// Why the generation in force of a relationship has no good place, and what to do.
    pub(super) fn rests(&self, id: RelationshipId) -> Option<(String, &'static str)> {
        let (session, known) = self.host.lineage(id)?.in_force()?;
        let of = (id, session.membership().sds().generation());
        known.rests.as_ref().map(|why| words::rests(&self.storage, &self.identity, of, why))
    }
}
