//! Whose a frame is.

use alloc::vec::Vec;

use akm_core::frame::Header;
use akm_core::id::RelationshipId;
use akm_core::lineage::Whose;
use akm_core::sds::{Kind, Tag};
use akm_core::session::Rejection;

use crate::Endpoint;
use crate::door::{Stream, Surroundings, Verdict};
use crate::limits::HINTED_AT_ONCE;
use crate::node::Node;
use crate::outbox::Queued;
use crate::relationship::{Given, Origin, Relationship};

impl Node {
    /// Takes note of the tags by which the frames of a relationship are found; they change with generations and runs.
    pub(crate) fn list_tags(&mut self, id: RelationshipId) {
        let Some(relationship) = self.relationships.get_mut(&id) else { return };
        if relationship.lineage.tags().eq(relationship.tags.iter().copied()) {
            return;
        }
        let mut listed: Vec<Tag> = relationship.lineage.tags().collect();
        let before = core::mem::replace(&mut relationship.tags, listed.clone());
        for tag in before {
            self.routes.unlist(id, tag);
        }
        // Generations may share one.
        listed.sort_unstable();
        listed.dedup();
        for tag in listed {
            self.routes.list(id, tag);
        }
    }

    pub(crate) fn unlist_tags(&mut self, id: RelationshipId, relationship: &Relationship) {
        for tag in &relationship.tags {
            self.routes.unlist(id, *tag);
        }
    }

    /// The relationship of this kind that a frame belongs to: by its tag; where several share one, by the header
    /// signature.
    fn relationship_of(&self, frame: &[u8], kind: Kind) -> Option<RelationshipId> {
        let header = Header::parse(frame).ok()?;
        let candidates = self.routes.by_tag.get(&header.tag)?;
        let mut of_kind = candidates.iter().filter(|id| self.relationships[*id].kind == kind);
        let found = if candidates.len() == 1 {
            of_kind.next()
        } else {
            let mut others = of_kind.clone();
            of_kind
                .find(|id| self.relationships[*id].lineage.claims(frame))
                // Where it cannot be seen yet, the frame makes that it can.
                .or_else(|| others.find(|id| self.relationships[*id].lineage.may_claim(header.tag)))
        };
        found.copied().filter(|id| self.relationships[id].lineage.whose(frame) != Whose::Nobody)
    }

    pub(crate) fn take_datagram(
        &mut self,
        frame: &[u8],
        from: Endpoint,
        surroundings: &mut Surroundings<'_>,
    ) {
        if let Some(id) = self.relationship_of(frame, Kind::Communication) {
            self.give(id, &Given::Frame(frame), Origin::Network(from), surroundings);
            return;
        }
        self.unclaimed += 1;
        let is_whole = Header::parse(frame).is_ok();
        if is_whole {
            self.hint(surroundings);
        }
        let reason = if is_whole { Rejection::UnknownTag } else { Rejection::Malformed };
        let frame = self.outbox.copy(frame);
        let verdict = Verdict::Rejected(reason);
        self.outbox.push(Queued::Seen { relationship: None, source: from, frame, verdict });
    }

    pub(crate) fn take_stream_frame(
        &mut self,
        frame: &[u8],
        stream: Stream,
        surroundings: &mut Surroundings<'_>,
    ) {
        match self.relationship_of(frame, Kind::Provisioning) {
            Some(id) => self.give(id, &Given::Frame(frame), Origin::Stream(stream), surroundings),
            None => {
                self.unclaimed += 1;
                self.outbox.push(Queued::Handled(stream));
            }
        }
    }

    /// A frame that belongs to nobody may be of members who moved to where this node cannot follow: some relationships are
    /// told, in turn, so that strangers cause no work that grows with their number.
    fn hint(&mut self, surroundings: &Surroundings<'_>) {
        use core::ops::Bound::{Excluded, Unbounded};
        let after = self.routes.hinted.map_or(Unbounded, Excluded);
        let later = self.relationships.range((after, Unbounded)).map(|(id, _)| *id);
        let all: Vec<RelationshipId> =
            later.chain(self.relationships.keys().copied()).take(HINTED_AT_ONCE).collect();
        for id in all {
            self.routes.hinted = Some(id);
            if let Some(held) =
                self.relationships.get_mut(&id).filter(|held| held.kind == Kind::Communication)
            {
                held.lineage.hint(surroundings.now);
                self.schedule(id);
            }
        }
    }

    /// Nobody listens at a stream any more.
    pub(crate) fn close_stream(&mut self, stream: Stream) {
        self.streams.close(stream);
        for relationship in self.relationships.values_mut() {
            let kept = &mut self.kept;
            relationship.waiting.retain(|waiting| {
                let stays = !matches!(waiting.origin, Origin::Stream(of) if of == stream);
                if !stays {
                    *kept -= waiting.kept.given().bytes();
                }
                stays
            });
        }
    }
}
