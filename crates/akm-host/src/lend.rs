//! Sealing and opening of an open epoch, lent to another thread and taken back.
//!
//! The rules are those of [`akm_core::session::Sealer`] and [`akm_core::session::Opener`]. What the node itself has to seal or
//! open meanwhile waits here, in order, until they are back; it is asked for once a second in case they are lost.

use akm_core::id::RelationshipId;
use akm_core::session::{Opener, Sealer};

use crate::door::Surroundings;
use crate::node::Node;
use crate::relationship::{Order, Relationship};

impl Node {
    /// Lends sealing in the generation in force of a relationship. `None` where the node has to seal the next frame itself,
    /// also because something that it is to send waits.
    pub fn lend_sealing(&mut self, relationship: RelationshipId) -> Option<Sealer> {
        let held = self.free(relationship)?;
        if held.waits(Order::Wish) { None } else { held.lineage.lend_sealing() }
    }

    /// Lends opening in the generation in force of a relationship, for the members that were heard in its epoch. `None`
    /// where there are none, also while frames wait.
    pub fn lend_opening(&mut self, relationship: RelationshipId) -> Option<Opener> {
        let held = self.free(relationship)?;
        let frames = held.waiting.iter().any(|waiting| matches!(waiting.order, Order::Frame { .. }));
        if frames { None } else { held.lineage.lend_opening() }
    }

    /// Takes sealing back, and goes on with what waits for it.
    pub fn take_back_sealing(
        &mut self,
        relationship: RelationshipId,
        sealer: Sealer,
        surroundings: &mut Surroundings<'_>,
    ) {
        if let Some(held) = self.relationships.get_mut(&relationship) {
            held.lineage.take_back_sealing(sealer);
        }
        self.is_back(relationship, surroundings);
    }

    /// Takes opening back, and goes on with what waits for it.
    pub fn take_back_opening(
        &mut self,
        relationship: RelationshipId,
        opener: Opener,
        surroundings: &mut Surroundings<'_>,
    ) {
        if let Some(held) = self.relationships.get_mut(&relationship) {
            held.lineage.take_back_opening(opener);
        }
        self.is_back(relationship, surroundings);
    }

    fn free(&mut self, relationship: RelationshipId) -> Option<&mut Relationship> {
        self.relationships.get_mut(&relationship).filter(|held| !held.is_held_up())
    }

    fn is_back(&mut self, relationship: RelationshipId, surroundings: &mut Surroundings<'_>) {
        self.now = surroundings.now;
        self.stirred.insert(relationship);
        self.settle(surroundings);
    }
}
