//! Generations after the first, what members that left may still hold, and nodes that could not be reached.

use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::{GenerationSecrets, Kind, SynchronizedDataSet};
use rusqlite::{Row, Transaction, params};

use super::columns;
use super::relationships::{self, MemberState, Relationship, RelationshipStatus};
use super::{Store, StoreError, all, first};
use crate::names::{Name, Timestamp};

/// Of members that left, and of ASRs that ended: what a node was not yet told to erase, or has not confirmed.
const LEFT_OVER: &str = "FROM relationship_members m JOIN relationships r ON r.id = m.relationship
    JOIN nodes n ON n.id = m.node AND n.status = 'active'
    JOIN generations g ON g.relationship = r.id AND g.generation = r.generation
    WHERE r.kind = 2 AND m.state <> 'erased' AND (r.status = 'ended' OR NOT EXISTS (
        SELECT 1 FROM relationship_members p
        WHERE p.relationship = r.id AND p.generation = r.generation AND p.node = m.node))";

/// An ASR that a node shall erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The node.
    pub node: AkmId,
    /// The ASR.
    pub relationship: RelationshipId,
    /// What it is, or was, called.
    pub name: Name,
    /// Since when.
    pub since: Timestamp,
}

/// A node that could not be reached when there was work for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The node.
    pub node: AkmId,
    /// Since when it has not been reached.
    pub since: Timestamp,
    /// When it was tried last.
    pub tried_at: Timestamp,
    /// How often it was tried since.
    pub tries: u32,
    /// What came of the last try.
    pub reason: String,
}

impl Store {
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
        let (id, generation) = (sds.relationship(), sds.generation());
        self.write(|transaction| {
            let present =
                relationships::find(transaction, id)?.ok_or_else(|| relationships::unknown(id))?;
            if present.sds.kind() != Kind::Communication || present.status == RelationshipStatus::Ended {
                return Err(StoreError::refused(format!("relationship {id} is no ASR that is in force")));
            }
            let version = present.sds.element_version();
            if generation <= present.sds.generation() || sds.element_version() < version {
                return Err(StoreError::refused(format!("relationship {id} was changed meanwhile")));
            }
            check_active(transaction, sds.members())?;
            let new_root = sds.element_version() > version;
            relationships::insert_generation(transaction, self.vault(), sds, secrets, new_root, at)?;
            transaction.execute(
                "UPDATE generations SET tree_root = NULL, header = NULL WHERE relationship = ? AND generation < ?",
                params![id.as_bytes(), generation],
            )?;
            transaction.execute(
                "UPDATE generations SET element_root = NULL WHERE relationship = ? AND element_version < ?",
                params![id.as_bytes(), sds.element_version()],
            )?;
            transaction.execute(
                "UPDATE relationships SET generation = ?, status = 'creating' WHERE id = ?",
                params![generation, id.as_bytes()],
            )?;
            Ok(())
        })?;
        self.forget_log()
    }

    /// Remembers that the present generation may become active: with members pending only by the operator's word.
    /// Repeating it changes nothing.
    pub fn release_generation(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE generations SET released = 1 WHERE relationship = ?
                     AND generation = (SELECT generation FROM relationships WHERE id = ?)",
                params![id.as_bytes(), id.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// Whether a node has acknowledged a generation with this element version: then it holds the root.
    pub fn has_element_root(
        &self,
        id: RelationshipId,
        element_version: u32,
        node: AkmId,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM relationship_members m
                   JOIN generations g ON g.relationship = m.relationship AND g.generation = m.generation
                   WHERE m.relationship = ? AND m.node = ? AND g.element_version = ?
                     AND m.state IN ('installed', 'active')";
        self.read(|connection| {
            let parameters = params![id.as_bytes(), node.as_bytes(), element_version];
            Ok(first(connection, sql, parameters, |_| Ok(()))?.is_some())
        })
    }

    /// Whether the present generation has an element root that none before it had.
    pub fn has_new_root(&self, id: RelationshipId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM generations g JOIN relationships r ON r.id = g.relationship
                   JOIN generations p ON p.relationship = r.id AND p.generation = r.generation
                   WHERE r.id = ? AND g.generation < r.generation AND g.element_version = p.element_version";
        self.read(|connection| Ok(first(connection, sql, [id.as_bytes()], |_| Ok(()))?.is_none()))
    }

    /// The ASRs that have not come to their end: not all members have their present generation in use.
    pub fn unfinished_asrs(&self) -> Result<Vec<Relationship>, StoreError> {
        Ok(self.asrs()?.into_iter().filter(|asr| asr.status != RelationshipStatus::Active).collect())
    }

    /// What active nodes may still hold of ASRs that ended, or that they have left.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, StoreError> {
        let sql = format!(
            "SELECT DISTINCT m.node, r.id, r.name, COALESCE(r.ended_at, g.made_at, r.created_at) AS since
             {LEFT_OVER} ORDER BY since"
        );
        self.read(|connection| all(connection, &sql, [], parse_leftover))
    }

    /// The same, of one node.
    pub fn leftovers_of_node(&self, node: AkmId) -> Result<Vec<Leftover>, StoreError> {
        let sql = format!(
            "SELECT DISTINCT m.node, r.id, r.name, COALESCE(r.ended_at, g.made_at, r.created_at) AS since
             {LEFT_OVER} AND m.node = ? ORDER BY since"
        );
        self.read(|connection| all(connection, &sql, [node.as_bytes()], parse_leftover))
    }

    /// A node has erased an ASR in all its generations.
    pub fn mark_erased(&self, id: RelationshipId, node: AkmId) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE relationship_members SET state = ? WHERE relationship = ? AND node = ?",
                params![MemberState::Erased.as_str(), id.as_bytes(), node.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// A node could not be reached.
    pub fn note_absence(&self, node: AkmId, reason: &str, at: Timestamp) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO absences (node, since, tried_at, tries, reason) VALUES (?, ?, ?, 1, ?)
                 ON CONFLICT (node) DO UPDATE
                     SET tried_at = excluded.tried_at, tries = tries + 1, reason = excluded.reason",
                params![node.as_bytes(), at.as_unix_millis(), at.as_unix_millis(), reason],
            )?;
            Ok(())
        })
    }

    /// A node was reached. Repeating it changes nothing.
    pub fn forget_absence(&self, node: AkmId) -> Result<(), StoreError> {
        if self.absences()?.iter().all(|absence| absence.node != node) {
            return Ok(());
        }
        self.write(|transaction| {
            transaction.execute("DELETE FROM absences WHERE node = ?", [node.as_bytes()])?;
            Ok(())
        })
    }

    /// The nodes that could not be reached.
    pub fn absences(&self) -> Result<Vec<Absence>, StoreError> {
        self.read(|connection| {
            all(connection, "SELECT * FROM absences ORDER BY since", [], |row| {
                Ok(Absence {
                    node: columns::akm_id(row, "node")?,
                    since: columns::timestamp(row, "since")?,
                    tried_at: columns::timestamp(row, "tried_at")?,
                    tries: row.get("tries")?,
                    reason: row.get("reason")?,
                })
            })
        })
    }
}

/// Refuses members that are not active nodes.
pub(super) fn check_active(transaction: &Transaction<'_>, members: &[AkmId]) -> Result<(), StoreError> {
    for member in members {
        let sql = "SELECT 1 FROM nodes WHERE id = ? AND status = 'active'";
        if first(transaction, sql, [member.as_bytes()], |_| Ok(()))?.is_none() {
            return Err(StoreError::refused(format!("node {member} is not active")));
        }
    }
    Ok(())
}

fn parse_leftover(row: &Row<'_>) -> Result<Leftover, StoreError> {
    Ok(Leftover {
        node: columns::akm_id(row, "node")?,
        relationship: columns::relationship_id(row, "id")?,
        name: columns::name(row, "name")?,
        since: columns::timestamp(row, "since")?,
    })
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
        assert!(store.secrets(id).unwrap().tree_root.unwrap().equals(of_second.tree_root.expose()));
        let root =
            store.element_root(id, 1).unwrap().expect("the element version stays, and so does its root");
        assert!(root.equals(secrets.element_root.expose()));
        assert!(
            store.has_element_root(id, 1, a.id).unwrap() && !store.has_element_root(id, 1, c.id).unwrap()
        );
        assert!(matches!(store.add_generation(&second, &of_second, AT), Err(StoreError::Refused { .. })));

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
