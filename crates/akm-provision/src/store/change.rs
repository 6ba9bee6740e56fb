//! The life of a relationship: each change is one transaction over its generations, members and secrets.

use akm_core::element::Description;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::{ElementRoot, GenerationSecrets, Kind, SynchronizedDataSet};
use akm_element::card::CardKeys;

use super::obstacle::{Obstacle, ObstacleNode, ObstacleRelationship, Occupied};
use super::relationships::{
    advance, end, find_asr, insert, insert_generation, refuse_while_pending, require, unknown,
};
use super::rows::{generation, member, node, secret};
use super::sql::Sql;
use super::{MemberState, RelationshipSecrets, RelationshipState, Store, StoreError};
use crate::names::{Name, Timestamp};

impl Store {
    /// Makes an ASR between nodes that are all active, with its members pending.
    ///
    /// [`StoreError::Exists`] if an ASR of that name is there; the caller then goes on with that.
    pub fn create_asr(
        &self,
        name: &Name,
        sds: &SynchronizedDataSet,
        secrets: &GenerationSecrets,
        created_at: Timestamp,
    ) -> Result<(), StoreError> {
        if sds.kind() != Kind::Communication {
            return Err(StoreError::refused(Obstacle::NoAsr));
        }
        self.write(|sql| {
            if find_asr(sql, name)?.is_some() {
                return Err(Occupied::Asr { name: name.clone() }.into());
            }
            check_active(sql, sds.members())?;
            insert(sql, self.vault(), Some(name), sds, secrets, created_at)
        })
    }

    /// Makes the next generation of an ASR, with its members pending, and erases the secrets of those before it, also
    /// the element root where a new one takes its place. All of it or nothing.
    ///
    /// Refused unless it is above the present one and all its members are active.
    pub fn add_generation(
        &self,
        sds: &SynchronizedDataSet,
        secrets: &GenerationSecrets,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.add_generation_for(sds, secrets, at, false)
    }

    /// The same, and remembers whether it is made because of a suspicion.
    pub fn add_generation_for(
        &self,
        sds: &SynchronizedDataSet,
        secrets: &GenerationSecrets,
        at: Timestamp,
        suspected: bool,
    ) -> Result<(), StoreError> {
        let (id, generation) = (sds.relationship(), sds.generation());
        self.write(|sql| {
            let present = require(sql, id)?;
            if present.sds.kind() != Kind::Communication || present.status == RelationshipState::Ended {
                return Err(StoreError::refused(ObstacleRelationship::NotInForce.of(id)));
            }
            let version = present.sds.element_version();
            if generation <= present.sds.generation() || sds.element_version() < version {
                return Err(StoreError::refused(ObstacleRelationship::Changed.of(id)));
            }
            check_active(sql, sds.members())?;
            let new_root = sds.element_version() > version;
            insert_generation(sql, self.vault(), sds, secrets, new_root, at)?;
            if suspected {
                generation::suspect(sql, id, generation)?;
            }
            secret::erase_before(sql, sds)?;
            generation::set_present(sql, id, generation)
        })?;
        self.forget_log()
    }

    /// Remembers that the present generation may become active: with members pending only by the operator's word.
    /// Repeating it changes nothing.
    pub fn release_generation(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|sql| generation::release(sql, id))
    }

    /// Tells how far the relationship has come at one member.
    pub fn set_member_state(
        &self,
        id: RelationshipId,
        node: AkmId,
        state: MemberState,
    ) -> Result<(), StoreError> {
        self.write(|sql| match member::set_state(sql, id, node, state)? {
            true => Ok(()),
            false => Err(StoreError::refused(ObstacleRelationship::NoMember { node }.of(id))),
        })
    }

    /// A node has erased an ASR in all its generations.
    pub fn mark_erased(&self, id: RelationshipId, node: AkmId) -> Result<(), StoreError> {
        self.write(|sql| member::mark_erased(sql, id, node))
    }

    /// Every member has acknowledged the relationship. Refused while one is pending; repeating it
    /// changes nothing.
    pub fn acknowledge_relationship(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|sql| advance(sql, id, RelationshipState::Acknowledged))
    }

    /// The relationship is in use. Refused while a member is pending; repeating it changes nothing.
    pub fn activate_relationship(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|sql| advance(sql, id, RelationshipState::Active))
    }

    /// Ends a relationship: its secrets and place are erased, its name is free. Repeating it
    /// changes nothing.
    pub fn end_relationship(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|sql| end(sql, id, Timestamp::now()))?;
        self.forget_log()
    }

    /// The secrets of a relationship's present generation, as far as they are not erased.
    pub fn secrets(&self, id: RelationshipId) -> Result<RelationshipSecrets, StoreError> {
        self.read(|sql| secret::of_present(sql, self.vault(), id)?.ok_or_else(|| unknown(id)))
    }

    /// The element root at one element version; `None` if the module does not hold it.
    pub fn element_root(
        &self,
        id: RelationshipId,
        element_version: u32,
    ) -> Result<Option<ElementRoot>, StoreError> {
        self.read(|sql| secret::element_root(sql, self.vault(), id, element_version))
    }

    /// Erases the secrets that the module need not keep once every member has acknowledged.
    ///
    /// The tree root, and of an ASR header key, tag and resync key too. The element root stays, sealed: members that join later
    /// get it, and receipts are checked with it; without a tree root it opens nothing. Of a provisioning relationship,
    /// where the module is a member, its place must be saved before.
    pub fn erase_secrets(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|sql| {
            let relationship = require(sql, id)?;
            let generation = relationship.sds.generation();
            refuse_while_pending(&relationship)?;
            match relationship.sds.kind() {
                Kind::Communication => secret::erase_keys(sql, id, generation)?,
                Kind::Provisioning if secret::place(sql, id, generation)?.is_some() => {}
                Kind::Provisioning => {
                    return Err(StoreError::refused(ObstacleRelationship::NoPlace.of(id)));
                }
            }
            secret::erase_tree_root(sql, id, generation)
        })?;
        self.forget_log()
    }

    /// Keeps the module's place in a relationship, as the core sealed it. The place before it is
    /// overwritten.
    pub fn save_place(&self, id: RelationshipId, generation: u32, place: &[u8]) -> Result<(), StoreError> {
        self.write(|sql| match generation::is_in_force(sql, id, generation)? {
            true => secret::save_place(sql, id, generation, place),
            false => Err(unknown(id)),
        })
    }

    /// The module's place in a relationship, as the core sealed it; `None` before the first.
    pub fn load_place(&self, id: RelationshipId, generation: u32) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|sql| secret::place(sql, id, generation))
    }

    /// The keys of a card, if they are known.
    pub fn card_keys(&self, card: &Description) -> Result<Option<CardKeys>, StoreError> {
        self.read(|sql| secret::card_keys(sql, self.vault(), card))
    }

    /// Keeps the keys of a card in the place of those that it had.
    pub fn save_card_keys(&self, card: &Description, keys: &CardKeys) -> Result<(), StoreError> {
        self.write(|sql| secret::save_card_keys(sql, self.vault(), card, keys))
    }

    /// Forgets the keys of a card. Repeating changes nothing.
    pub fn forget_card_keys(&self, card: &Description) -> Result<(), StoreError> {
        self.write(|sql| secret::forget_card_keys(sql, card))?;
        self.forget_log()
    }
}

/// Refuses members that are not active nodes.
fn check_active(sql: Sql<'_>, members: &[AkmId]) -> Result<(), StoreError> {
    for member in members {
        if !node::is_active(sql, *member)? {
            return Err(StoreError::refused(ObstacleNode::NotActive { node: *member }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use akm_core::sds::{Generation, ParameterDataVector};
    use akm_core::secret::Secret;

    use super::super::fixture::{AT, Fixture, LATER};
    use super::*;

    fn next(
        sds: &SynchronizedDataSet,
        element_version: u32,
        members: &[AkmId],
    ) -> (SynchronizedDataSet, GenerationSecrets) {
        let mut bytes = [0; 128];
        getrandom::fill(&mut bytes).unwrap();
        let next = SynchronizedDataSet::new(Generation {
            kind: sds.kind(),
            relationship: sds.relationship(),
            generation: sds.generation() + 1,
            element_version,
            instance: bytes[..16].try_into().unwrap(),
            suite: sds.suite(),
            members: members.to_vec(),
            policy: sds.policy().to_vec(),
        })
        .unwrap();
        let secrets = ParameterDataVector::new(Secret::take(&mut bytes)).derive(&next);
        (next, secrets)
    }

    #[test]
    fn a_generation_takes_the_place_of_the_one_before_and_of_its_secrets() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let (a, b, c) = (fixture.active_node("a"), fixture.active_node("b"), fixture.active_node("c"));
        let (first, secrets) = fixture.create_asr("line", &[a.id, b.id]);
        let id = first.relationship();
        for node in [a.id, b.id] {
            store.set_member_state(id, node, MemberState::Active).unwrap();
        }
        store.activate_relationship(id).unwrap();

        let (second, of_second) = next(&first, 1, &[a.id, b.id, c.id]);
        store.add_generation(&second, &of_second, LATER).unwrap();
        let asr = store.relationship(id).unwrap().unwrap();
        assert_eq!((asr.sds.generation(), asr.made_at, asr.standing()), (2, LATER, "changing"));
        assert!(asr.members.iter().all(|member| member.state == MemberState::Pending));
        assert!(store.secrets(id).unwrap().tree_root.unwrap().equals(of_second.host.tree_root.expose()));
        let root =
            store.element_root(id, 1).unwrap().expect("the element version stays, and so does its root");
        assert!(root.equals(secrets.element_root.expose()));
        assert!(
            store.has_element_root(id, 1, a.id).unwrap() && !store.has_element_root(id, 1, c.id).unwrap()
        );
        assert!(matches!(store.add_generation(&second, &of_second, AT), Err(StoreError::Refused(_))));

        let (third, of_third) = next(&second, 2, &[a.id, c.id]);
        store.add_generation(&third, &of_third, LATER).unwrap();
        assert!(store.element_root(id, 1).unwrap().is_none(), "nobody needs it any more");
        assert!(store.element_root(id, 2).unwrap().unwrap().equals(of_third.element_root.expose()));
        assert!(!store.has_element_root(id, 2, a.id).unwrap());
    }

    #[test]
    fn who_left_or_holds_what_has_ended_is_to_erase_it_until_it_says_so() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let (a, b, c) = (fixture.active_node("a"), fixture.active_node("b"), fixture.active_node("c"));
        let (first, _) = fixture.create_asr("line", &[a.id, b.id, c.id]);
        assert_eq!(store.leftovers().unwrap(), []);
        let (second, secrets) = next(&first, 2, &[a.id, b.id]);
        store.add_generation(&second, &secrets, LATER).unwrap();
        let left: Vec<AkmId> = store.leftovers().unwrap().iter().map(|leftover| leftover.node).collect();
        assert_eq!(left, [c.id]);
        assert_eq!(store.leftovers_of_node(c.id).unwrap()[0].since, LATER);
        store.mark_erased(first.relationship(), c.id).unwrap();
        assert_eq!(store.leftovers().unwrap(), []);
        store.end_relationship(first.relationship()).unwrap();
        assert_eq!(store.leftovers().unwrap().len(), 2);
    }

    #[test]
    fn an_absence_begins_with_the_first_try_and_ends_when_the_node_is_reached() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let a = fixture.active_node("a");
        store.note_absence(a.id, "nobody there", AT).unwrap();
        store.note_absence(a.id, "still nobody", LATER).unwrap();
        let absences = store.absences().unwrap();
        assert_eq!((absences[0].since, absences[0].tried_at, absences[0].tries), (AT, LATER, 2));
        store.forget_absence(a.id).unwrap();
        assert_eq!(store.absences().unwrap(), []);
    }
}
