//! The module's own set of relationships, as it stands.

use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::{GenerationSecrets, SynchronizedDataSet};

use super::obstacle::{Obstacle, ObstacleRelationship};
use super::rows::{generation, member, secret};
use super::sql::Sql;
use super::{Leftover, Member, MemberState, RelationshipState, Store, StoreError};
use crate::names::{Name, Timestamp};
use crate::vault::Vault;

/// A relationship in the module's set, at its present generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relationship {
    /// The name of an ASR; a provisioning relationship has none.
    pub name: Option<Name>,
    /// The public part; it holds ID, kind, generation and element version.
    pub sds: SynchronizedDataSet,
    /// How far it has come.
    pub status: RelationshipState,
    /// The members in the order of their indices.
    pub members: Vec<Member>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its present generation was made.
    pub made_at: Timestamp,
    /// Whether its present generation may become active: all have acknowledged it, or the operator said so.
    pub released: bool,
    /// Whether its present generation was made because of a suspicion.
    pub suspected: bool,
}

impl Relationship {
    /// Where it stands, in the word that the operator reads: a change is another thing than a making.
    pub fn standing(&self) -> &'static str {
        match self.status {
            RelationshipState::Creating if self.sds.generation() > 1 => "changing",
            status => status.as_str(),
        }
    }

    /// The relationship ID.
    pub fn id(&self) -> RelationshipId {
        self.sds.relationship()
    }
}

impl Store {
    /// The ASR of that name, unless it has ended.
    pub fn asr_by_name(&self, name: &Name) -> Result<Option<Relationship>, StoreError> {
        self.read(|sql| find_asr(sql, name))
    }

    /// A relationship of either kind.
    pub fn relationship(&self, id: RelationshipId) -> Result<Option<Relationship>, StoreError> {
        self.read(|sql| find(sql, id))
    }

    /// All ASRs that have not ended, by name.
    pub fn asrs(&self) -> Result<Vec<Relationship>, StoreError> {
        self.read(|sql| with_members(sql, generation::asrs(sql)?))
    }

    /// The ASRs that a node is a member of and that have not ended, by name.
    pub fn asrs_of_node(&self, node: AkmId) -> Result<Vec<Relationship>, StoreError> {
        self.read(|sql| with_members(sql, generation::asrs_of_node(sql, node)?))
    }

    /// The names of the ASRs that a node is a member of and that have not ended, in their order.
    pub fn asr_names_of_node(&self, node: AkmId) -> Result<Vec<String>, StoreError> {
        let asrs = self.asrs_of_node(node)?;
        Ok(asrs.iter().filter_map(|asr| asr.name.as_ref()).map(ToString::to_string).collect())
    }

    /// The ASRs that have not come to their end: not all members have their present generation in use.
    pub fn unfinished_asrs(&self) -> Result<Vec<Relationship>, StoreError> {
        Ok(self.asrs()?.into_iter().filter(|asr| asr.status != RelationshipState::Active).collect())
    }

    /// Whether a node has acknowledged a generation with this element version: then it holds the root.
    pub fn has_element_root(
        &self,
        id: RelationshipId,
        element_version: u32,
        node: AkmId,
    ) -> Result<bool, StoreError> {
        self.read(|sql| member::has_element_root(sql, id, element_version, node))
    }

    /// Whether the present generation has an element root that none before it had.
    pub fn has_new_root(&self, id: RelationshipId) -> Result<bool, StoreError> {
        self.read(|sql| Ok(!generation::has_earlier_of_version(sql, id)?))
    }

    /// What active nodes may still hold of ASRs that ended, or that they have left.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, StoreError> {
        self.read(member::leftovers)
    }

    /// The same, of one node.
    pub fn leftovers_of_node(&self, node: AkmId) -> Result<Vec<Leftover>, StoreError> {
        self.read(|sql| member::leftovers_of_node(sql, node))
    }
}

/// A relationship of either kind, refused if it is not there.
pub(super) fn require(sql: Sql<'_>, id: RelationshipId) -> Result<Relationship, StoreError> {
    find(sql, id)?.ok_or_else(|| unknown(id))
}

pub(super) fn find_asr(sql: Sql<'_>, name: &Name) -> Result<Option<Relationship>, StoreError> {
    generation::find_asr(sql, name)?.map(|present| with_its_members(sql, present)).transpose()
}

/// Adds a relationship at its first generation, with all members pending.
pub(super) fn insert(
    sql: Sql<'_>,
    vault: &Vault,
    name: Option<&Name>,
    sds: &SynchronizedDataSet,
    secrets: &GenerationSecrets,
    created_at: Timestamp,
) -> Result<(), StoreError> {
    generation::insert_relationship(sql, name, sds, created_at)?;
    insert_generation(sql, vault, sds, secrets, true, created_at)
}

/// Adds a generation with all its members pending; with its element root, if that is one of its own.
pub(super) fn insert_generation(
    sql: Sql<'_>,
    vault: &Vault,
    sds: &SynchronizedDataSet,
    secrets: &GenerationSecrets,
    with_element_root: bool,
    made_at: Timestamp,
) -> Result<(), StoreError> {
    generation::insert(sql, sds, made_at)?;
    secret::save(sql, vault, sds, secrets, with_element_root)?;
    member::insert(sql, sds.relationship(), sds.generation(), sds.members())
}

/// Moves the status forward, never back.
pub(super) fn advance(sql: Sql<'_>, id: RelationshipId, status: RelationshipState) -> Result<(), StoreError> {
    let relationship = require(sql, id)?;
    if relationship.status == RelationshipState::Ended {
        return Err(StoreError::refused(ObstacleRelationship::Ended.of(id)));
    }
    refuse_while_pending(&relationship)?;
    if relationship.status < status {
        generation::set_status(sql, id, status)?;
    }
    Ok(())
}

/// Ends a relationship and erases what the module holds of it.
pub(super) fn end(sql: Sql<'_>, id: RelationshipId, at: Timestamp) -> Result<(), StoreError> {
    if !generation::end(sql, id, at)? {
        return Err(unknown(id));
    }
    secret::erase_all(sql, id)
}

pub(super) fn refuse_while_pending(relationship: &Relationship) -> Result<(), StoreError> {
    match relationship.members.iter().find(|member| member.state == MemberState::Pending) {
        Some(member) => Err(StoreError::refused(
            ObstacleRelationship::NotAcknowledged { node: member.node }.of(relationship.id()),
        )),
        None => Ok(()),
    }
}

pub(super) fn unknown(id: RelationshipId) -> StoreError {
    StoreError::refused(Obstacle::NoRelationship { id })
}

fn find(sql: Sql<'_>, id: RelationshipId) -> Result<Option<Relationship>, StoreError> {
    generation::find(sql, id)?.map(|present| with_its_members(sql, present)).transpose()
}

fn with_members(sql: Sql<'_>, all: Vec<generation::Present>) -> Result<Vec<Relationship>, StoreError> {
    all.into_iter().map(|present| with_its_members(sql, present)).collect()
}

fn with_its_members(sql: Sql<'_>, present: generation::Present) -> Result<Relationship, StoreError> {
    let generation::Present { name, sds, status, created_at, made_at, released, suspected } = present;
    let members = member::of_generation(sql, sds.relationship(), sds.generation())?;
    Ok(Relationship { name, sds, status, members, created_at, made_at, released, suspected })
}

#[cfg(test)]
mod tests {
    use akm_core::sds::Kind;
    use akm_core::text::hexadecimal;

    use super::*;
    use crate::store::fixture::{AT, Fixture};

    fn names(relationships: &[Relationship]) -> Vec<String> {
        relationships.iter().map(|asr| asr.name.as_ref().unwrap().to_string()).collect()
    }

    #[test]
    fn an_asr_reads_back_as_it_was_made_also_after_reopening() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.active_node("a"), fixture.active_node("b"));
        let (sds, secrets) = fixture.create_asr("ab", &[a.id, b.id]);

        let store = fixture.reopen();
        let asr = store.asr_by_name(&"ab".parse().unwrap()).unwrap().unwrap();
        assert_eq!(asr.sds, sds);
        assert_eq!(asr.status, RelationshipState::Creating);
        assert_eq!(asr.created_at, AT);
        let members: Vec<_> = asr.members.iter().map(|m| (m.node, m.index, m.state)).collect();
        let pending = |index: u16| (sds.members()[usize::from(index)], index, MemberState::Pending);
        assert_eq!(members, [pending(0), pending(1)]);
        assert_eq!(store.relationship(sds.relationship()).unwrap(), Some(asr));

        let kept = store.secrets(sds.relationship()).unwrap();
        let part = kept.host_part().unwrap();
        assert!(part.emit().equals(secrets.host.emit().expose()));
        assert!(kept.element_root.unwrap().equals(secrets.element_root.expose()));
    }

    #[test]
    fn asrs_are_listed_by_name_and_by_member() {
        let fixture = Fixture::new();
        let ids: Vec<_> = ["a", "b", "c"].iter().map(|name| fixture.active_node(name).id).collect();
        fixture.create_asr("bc", &[ids[1], ids[2]]);
        let (ab, _) = fixture.create_asr("ab", &[ids[0], ids[1]]);
        fixture.create_asr("again", &[ids[0], ids[1]]);
        assert_eq!(names(&fixture.store.asrs().unwrap()), ["ab", "again", "bc"]);
        assert_eq!(names(&fixture.store.asrs_of_node(ids[0]).unwrap()), ["ab", "again"]);
        assert_eq!(names(&fixture.store.asrs_of_node(ids[2]).unwrap()), ["bc"]);
        fixture.store.end_relationship(ab.relationship()).unwrap();
        assert_eq!(names(&fixture.store.asrs_of_node(ids[0]).unwrap()), ["again"]);
    }

    #[test]
    fn a_used_name_or_a_member_that_is_not_active_leaves_nothing_behind() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.active_node("a"), fixture.active_node("b"));
        let c = fixture.create_node("c");
        fixture.create_asr("ab", &[a.id, b.id]);

        let attempt = |name: &str, members: &[AkmId]| {
            let (sds, secrets) = fixture.generation(Kind::Communication, members);
            let outcome = fixture.store.create_asr(&name.parse().unwrap(), &sds, &secrets, AT);
            assert_eq!(fixture.store.relationship(sds.relationship()).unwrap(), None);
            outcome.unwrap_err()
        };
        assert_eq!(attempt("ab", &[a.id, b.id]).to_string(), "ASR ab exists already");
        let error = attempt("abc", &[a.id, b.id, c.id]);
        assert_eq!(error.to_string(), format!("node {} is not active", c.id));
        let stranger = AkmId::from_random([0xee; 16]);
        assert!(matches!(attempt("x", &[a.id, stranger]), StoreError::Refused(_)));
    }

    #[test]
    fn the_name_of_an_asr_that_ended_is_free() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.active_node("a"), fixture.active_node("b"));
        let (first, _) = fixture.create_asr("ab", &[a.id, b.id]);
        fixture.store.end_relationship(first.relationship()).unwrap();
        fixture.store.end_relationship(first.relationship()).unwrap();
        let (second, _) = fixture.create_asr("ab", &[a.id, b.id]);
        let found = fixture.store.asr_by_name(&"ab".parse().unwrap()).unwrap().unwrap();
        assert_eq!(found.id(), second.relationship());
    }

    #[test]
    fn secrets_are_erased_only_when_no_member_is_pending() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let (a, b) = (fixture.active_node("a"), fixture.active_node("b"));
        let (sds, _) = fixture.create_asr("ab", &[a.id, b.id]);
        let id = sds.relationship();

        store.set_member_state(id, a.id, MemberState::Installed).unwrap();
        for refused in [store.erase_secrets(id), store.acknowledge_relationship(id)] {
            let why = refused.unwrap_err().to_string();
            assert_eq!(why, format!("node {} has not acknowledged relationship {id}", b.id));
        }
        assert!(store.secrets(id).unwrap().tree_root.is_some());

        store.set_member_state(id, b.id, MemberState::Installed).unwrap();
        store.acknowledge_relationship(id).unwrap();
        for _ in 0..2 {
            store.erase_secrets(id).unwrap();
        }
        let left = store.secrets(id).unwrap();
        assert!(left.tree_root.is_none() && left.keys.is_none());
        assert!(store.element_root(id, 1).unwrap().is_some(), "for members that join later");
        store.activate_relationship(id).unwrap();
        store.acknowledge_relationship(id).unwrap();
        let status = store.relationship(id).unwrap().unwrap().status;
        assert_eq!(status, RelationshipState::Active, "it never goes back");
    }

    #[test]
    fn of_a_provisioning_relationship_only_the_tree_root_goes_and_only_once_there_is_a_place() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let node = fixture.create_node("a");
        let id = node.relationship;
        for member in [store.module().root, node.id] {
            store.set_member_state(id, member, MemberState::Installed).unwrap();
        }
        assert!(matches!(store.erase_secrets(id), Err(StoreError::Refused(_))));
        assert_eq!(store.load_place(id, 1).unwrap(), None);
        store.save_place(id, 1, b"first").unwrap();
        store.save_place(id, 1, b"second").unwrap();
        store.erase_secrets(id).unwrap();
        assert_eq!(store.load_place(id, 1).unwrap().as_deref(), Some(&b"second"[..]));
        let left = store.secrets(id).unwrap();
        assert!(left.element_root.is_some() && left.tree_root.is_none() && left.keys.is_some());
    }

    #[test]
    fn a_sealed_column_in_another_row_or_column_is_damage() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.create_node("a"), fixture.create_node("b"));
        fixture.execute(&format!(
            "UPDATE generations SET element_root =
                 (SELECT element_root FROM generations WHERE relationship = x'{}')
             WHERE relationship = x'{}'",
            hexadecimal(a.relationship.as_bytes()),
            hexadecimal(b.relationship.as_bytes())
        ));
        assert!(fixture.store.secrets(a.relationship).is_ok());
        let error = fixture.store.secrets(b.relationship).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }));
        assert!(error.to_string().contains(&format!("generations/{}/1/element_root", b.relationship)));

        fixture.execute("UPDATE generations SET tree_root = element_root");
        assert!(matches!(fixture.store.secrets(a.relationship), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn no_secret_and_nothing_erased_stands_in_the_files() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.active_node("a"), fixture.active_node("b"));
        let (sds, secrets) = fixture.create_asr("ab", &[a.id, b.id]);
        let id = sds.relationship();
        for bytes in [&secrets.element_root.expose()[..], secrets.host.tree_root.expose()] {
            assert!(!fixture.files_contain(bytes));
        }

        let sealed = fixture.column(&format!(
            "SELECT tree_root FROM generations WHERE relationship = x'{}'",
            hexadecimal(id.as_bytes())
        ));
        assert!(fixture.files_contain(&sealed));
        for node in [a.id, b.id] {
            fixture.store.set_member_state(id, node, MemberState::Installed).unwrap();
        }
        fixture.store.erase_secrets(id).unwrap();
        assert!(!fixture.files_contain(&sealed), "neither in the file nor in its log");
    }

    #[test]
    fn what_is_not_in_the_set_is_refused() {
        let fixture = Fixture::new();
        let id = RelationshipId::from_random([1; 16]);
        let node = AkmId::from_random([2; 16]);
        let store = &fixture.store;
        assert_eq!(store.relationship(id).unwrap(), None);
        for outcome in [
            store.secrets(id).map(|_| ()),
            store.save_place(id, 1, b""),
            store.erase_secrets(id),
            store.activate_relationship(id),
            store.end_relationship(id),
            store.set_member_state(id, node, MemberState::Active),
        ] {
            assert!(matches!(outcome, Err(StoreError::Refused(_))));
        }
    }
}
