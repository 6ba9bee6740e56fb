//! The generations of a provisioning relationship (protocol, section 11.5).
//!
//! Of each the node's state says how far it has come: *pending* until its receipt is there, *installed* from then on,
//! *active* once a proven answer came in it. The present one is that in which the module speaks. What comes before the
//! latest in which a proven answer came is erased; what comes after stays, as far as it was acknowledged.

use akm_core::id::RelationshipId;
use akm_core::sds::{GenerationSecrets, Kind, SynchronizedDataSet};

use super::obstacle::ObstacleRelationship;
use super::relationships::{insert_generation, require, unknown};
use super::rows::{generation, member, secret};
use super::sql::Sql;
use super::{MemberState, RelationshipSecrets, RelationshipState, Store, StoreError};
use crate::names::Timestamp;

impl Store {
    /// The generations in which a node may be: the present one, and then those that it has acknowledged, the latest
    /// first.
    pub fn spoken(&self, id: RelationshipId) -> Result<Vec<SynchronizedDataSet>, StoreError> {
        self.read(|sql| secret::spoken(sql, id))
    }

    /// The secrets of one generation, as far as they are not erased.
    pub fn secrets_of(&self, sds: &SynchronizedDataSet) -> Result<RelationshipSecrets, StoreError> {
        let (id, generation) = (sds.relationship(), sds.generation());
        self.read(|sql| secret::of_generation(sql, self.vault(), id, generation)?.ok_or_else(|| unknown(id)))
    }

    /// The latest of all generations that were made.
    pub fn latest_made(&self, id: RelationshipId) -> Result<SynchronizedDataSet, StoreError> {
        self.read(|sql| generation::latest(sql, id)?.ok_or_else(|| unknown(id)))
    }

    /// How far a generation has come at the node.
    pub fn state_at_node(&self, sds: &SynchronizedDataSet) -> Result<MemberState, StoreError> {
        let id = sds.relationship();
        let members = self.read(|sql| member::of_generation(sql, id, sds.generation()))?;
        members.get(1).map(|node| node.state).ok_or_else(|| unknown(id))
    }

    /// Makes another generation of a provisioning relationship, which the node has not acknowledged. The module goes on
    /// speaking in the one before. What was made before it and never acknowledged is erased.
    ///
    /// Refused unless generation and element version are above all that were made, between the same members.
    pub fn add_provisioning_generation(
        &self,
        sds: &SynchronizedDataSet,
        secrets: &GenerationSecrets,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let id = sds.relationship();
        self.write(|sql| {
            let present = require(sql, id)?;
            let is_one = [present.sds.kind(), sds.kind()] == [Kind::Provisioning; 2];
            if !is_one || present.status == RelationshipState::Ended {
                return Err(StoreError::refused(ObstacleRelationship::NotInForce.of(id)));
            }
            let latest = generation::latest(sql, id)?.ok_or_else(|| unknown(id))?;
            let rises =
                sds.generation() > latest.generation() && sds.element_version() > latest.element_version();
            if !rises || present.sds.members() != sds.members() {
                return Err(StoreError::refused(ObstacleRelationship::Changed.of(id)));
            }
            secret::erase_unacknowledged(sql, id)?;
            insert_generation(sql, self.vault(), sds, secrets, true, at)
        })?;
        self.forget_log()
    }

    /// A node has acknowledged a generation: from here on the module speaks in it. Repeating it changes nothing.
    pub fn acknowledge_generation(&self, sds: &SynchronizedDataSet) -> Result<(), StoreError> {
        let (id, generation) = (sds.relationship(), sds.generation());
        self.write(|sql| {
            let present = require(sql, id)?;
            if present.sds.generation() >= generation {
                return Ok(());
            }
            speak_in(sql, sds)?;
            for node in sds.members() {
                member::set_state(sql, id, *node, MemberState::Installed)?;
            }
            Ok(())
        })
    }

    /// A proven answer came in a generation: the module speaks in it, and what came before it is erased, with its tree
    /// root, in which the module has a place by now. Repeating it changes nothing.
    pub fn proven_in(&self, sds: &SynchronizedDataSet) -> Result<(), StoreError> {
        let (id, generation) = (sds.relationship(), sds.generation());
        self.write(|sql| {
            if require(sql, id)?.sds.generation() != generation {
                speak_in(sql, sds)?;
            }
            for node in sds.members() {
                member::set_state(sql, id, *node, MemberState::Active)?;
            }
            if secret::place(sql, id, generation)?.is_some() {
                secret::erase_tree_root(sql, id, generation)?;
            }
            secret::erase_before(sql, sds)?;
            secret::erase_places_before(sql, id, generation)
        })?;
        self.forget_log()
    }
}

/// Makes a generation of a relationship in use the one in which the module speaks.
fn speak_in(sql: Sql<'_>, sds: &SynchronizedDataSet) -> Result<(), StoreError> {
    generation::set_present(sql, sds.relationship(), sds.generation())?;
    generation::set_status(sql, sds.relationship(), RelationshipState::Active)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mint::{self, Minted};
    use crate::store::Node;
    use crate::store::fixture::{AT, Fixture};

    fn next(fixture: &Fixture, node: &Node) -> SynchronizedDataSet {
        let latest = fixture.store.latest_made(node.relationship).unwrap();
        let Minted { sds, secrets } =
            mint::next_provisioning(&latest, latest.generation() + 1, latest.element_version() + 1).unwrap();
        fixture.store.add_provisioning_generation(&sds, &secrets, AT).unwrap();
        sds
    }

    fn spoken(fixture: &Fixture, node: &Node) -> Vec<u32> {
        let spoken = fixture.store.spoken(node.relationship).unwrap();
        spoken.iter().map(SynchronizedDataSet::generation).collect()
    }

    #[test]
    fn the_module_speaks_in_the_one_before_until_the_receipt_is_there() {
        let fixture = Fixture::new();
        let node = fixture.active_node("a");
        let second = next(&fixture, &node);
        assert_eq!(spoken(&fixture, &node), [1]);
        assert_eq!(fixture.store.state_at_node(&second).unwrap(), MemberState::Pending);
        for _ in 0..2 {
            fixture.store.acknowledge_generation(&second).unwrap();
            assert_eq!(spoken(&fixture, &node), [2, 1]);
        }
        fixture.store.save_place(node.relationship, 2, b"place").unwrap();
        for _ in 0..2 {
            fixture.store.proven_in(&second).unwrap();
            assert_eq!(spoken(&fixture, &node), [2]);
        }
        let left = fixture.store.secrets_of(&second).unwrap();
        assert!(left.element_root.is_some() && left.tree_root.is_none() && left.keys.is_some());
        assert!(fixture.store.element_root(node.relationship, 1).unwrap().is_none());
        assert_eq!(fixture.store.load_place(node.relationship, 1).unwrap(), None);
        let present = fixture.store.relationship(node.relationship).unwrap().unwrap();
        assert_eq!((present.sds.generation(), present.status), (2, RelationshipState::Active));
    }

    #[test]
    fn a_node_that_proves_itself_in_the_one_before_is_spoken_to_there_and_later_ones_are_kept() {
        let fixture = Fixture::new();
        let node = fixture.active_node("a");
        let first = fixture.store.latest_made(node.relationship).unwrap();
        let second = next(&fixture, &node);
        fixture.store.acknowledge_generation(&second).unwrap();
        fixture.store.proven_in(&first).unwrap();
        assert_eq!(spoken(&fixture, &node), [1, 2]);
        let third = next(&fixture, &node);
        assert_eq!((third.generation(), third.element_version()), (3, 3));
        fixture.store.acknowledge_generation(&third).unwrap();
        assert_eq!(spoken(&fixture, &node), [3, 2, 1]);
        // The frame in the second was held back, and delivered.
        fixture.store.proven_in(&second).unwrap();
        assert_eq!(spoken(&fixture, &node), [2, 3]);
    }

    #[test]
    fn what_was_never_acknowledged_is_erased_by_the_next() {
        let fixture = Fixture::new();
        let node = fixture.active_node("a");
        let second = next(&fixture, &node);
        next(&fixture, &node);
        assert!(fixture.store.secrets_of(&second).unwrap().element_root.is_none());
        assert_eq!(spoken(&fixture, &node), [1]);
        let again = mint::next_provisioning(&second, 3, 4).unwrap();
        let refused = fixture.store.add_provisioning_generation(&again.sds, &again.secrets, AT);
        assert!(matches!(refused, Err(StoreError::Refused(_))));
    }
}
