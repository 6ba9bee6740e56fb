//! Where members are: learnt from their newest frames, set by the module, written when they change.

use akm_core::session::Instant;

use crate::door::Surroundings;
use crate::event::Event;
use crate::node::{Node, Writer};
use crate::persist::{Write, WriteFailed};
use crate::relationship::{Known, Saves};
use crate::{Endpoint, GenerationId};

impl Known {
    /// Member `at` was heard from there; whether it moved. Only its newest frame says where it is.
    pub(crate) fn hear(&mut self, at: usize, from: Option<Endpoint>, newest: bool, now: Instant) -> bool {
        self.heard[at] = Some(now);
        match from.filter(|from| newest && self.endpoints[at] != Some(*from)) {
            Some(from) => {
                self.endpoints[at] = Some(from);
                true
            }
            None => false,
        }
    }
}

impl Node {
    /// Writes where the members of a generation are. Nothing waits for it; one write at a time.
    pub(crate) fn save_endpoints(&mut self, of: GenerationId) {
        let Some(relationship) = self.relationships.get_mut(&of.0) else { return };
        let Some(known) = relationship.lineage.data_mut(of.1) else { return };
        if known.saves != Saves::Nothing {
            known.saves = Saves::WritingThenAgain;
            return;
        }
        known.saves = Saves::Writing;
        let (labels, endpoints) = (known.member_labels.clone(), known.endpoints.clone());
        self.write(Writer::Endpoints(of), Write::Endpoints { of, labels, endpoints });
    }

    pub(crate) fn endpoints_were_written(&mut self, of: GenerationId, result: Result<(), WriteFailed>) {
        let relationship = self.relationships.get_mut(&of.0);
        let Some(known) = relationship.and_then(|held| held.lineage.data_mut(of.1)) else { return };
        let again = core::mem::take(&mut known.saves) == Saves::WritingThenAgain;
        if let Err(failed) = result {
            self.tell(of, Event::EndpointsNotKept(failed.why));
        }
        if again {
            self.save_endpoints(of);
        }
    }

    /// A generation became active: what was learnt in those below of where members are goes on to it, the latest first.
    pub(crate) fn take_over_endpoints(&mut self, of: GenerationId) -> bool {
        let Some(relationship) = self.relationships.get_mut(&of.0) else { return false };
        let Some(((session, known), below)) = relationship.lineage.and_those_below(of.1) else {
            return false;
        };
        let sds = session.membership().sds();
        let mut moved = false;
        for (before, learnt) in below {
            let members = before.membership().sds().members();
            for (member, (endpoint, heard)) in members.iter().zip(learnt.endpoints.iter().zip(&learnt.heard))
            {
                let Some(at) = sds.index_of(*member).map(usize::from) else { continue };
                if endpoint.is_some() && heard.is_some() && known.heard[at].is_none() {
                    moved |= known.endpoints[at] != *endpoint;
                    (known.endpoints[at], known.heard[at]) = (*endpoint, *heard);
                }
            }
        }
        moved
    }
}

/// How long ago something was, in whole seconds.
pub(crate) fn seconds_since(then: Instant, surroundings: &Surroundings<'_>) -> u64 {
    surroundings.now.0.saturating_sub(then.0).as_secs()
}
