//! The module's own set of relationships: public parts, sealed secrets, members, places.

use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::{ElementRoot, GenerationSecrets, HeaderKey, Kind, SynchronizedDataSet, Tag, TreeRoot};
use akm_core::secret::Secret;
use rusqlite::{Connection, Row, Transaction, params};

use super::columns::{self, words};
use super::{Store, StoreError, all, first, seal};
use crate::names::{Name, Timestamp};
use crate::vault::Vault;

const HEADER_LENGTH: usize = 20;

const COLUMNS: &str = "r.id, r.name, r.status, r.created_at, g.generation, g.public, g.made_at, g.released
    FROM relationships r JOIN generations g ON g.relationship = r.id AND g.generation = r.generation";

words! {
    /// How far a relationship has come.
    RelationshipStatus {
        /// Not every member has acknowledged it.
        Creating = "creating",
        /// Every member has acknowledged it.
        Acknowledged = "acknowledged",
        /// In use.
        Active = "active",
        /// Over; its secrets are erased.
        Ended = "ended",
    }
}

words! {
    /// How far a relationship has come at one member.
    MemberState {
        /// The member has not acknowledged it.
        Pending = "pending",
        /// The member holds it.
        Installed = "installed",
        /// The member uses it.
        Active = "active",
        /// The member has erased it.
        Erased = "erased",
    }
}

/// One member of a relationship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node; in a provisioning relationship member 0 is the root of the module.
    pub node: AkmId,
    /// Its place in the list of members.
    pub index: u16,
    /// How far the relationship has come there.
    pub state: MemberState,
}

/// A relationship in the module's set, at its present generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relationship {
    /// The name of an ASR; a provisioning relationship has none.
    pub name: Option<Name>,
    /// The public part; it holds ID, kind, generation and element version.
    pub sds: SynchronizedDataSet,
    /// How far it has come.
    pub status: RelationshipStatus,
    /// The members in the order of their indices.
    pub members: Vec<Member>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its present generation was made.
    pub made_at: Timestamp,
    /// Whether its present generation may become active: all have acknowledged it, or the operator said so.
    pub released: bool,
}

impl Relationship {
    /// Where it stands, in the word that the operator reads: a change is another thing than a making.
    pub fn standing(&self) -> &'static str {
        match self.status {
            RelationshipStatus::Creating if self.sds.generation() > 1 => "changing",
            status => status.as_str(),
        }
    }

    /// The relationship ID.
    pub fn id(&self) -> RelationshipId {
        self.sds.relationship()
    }
}

/// The secrets of a generation that the module still holds. Wiped on drop.
#[derive(Debug)]
pub struct RelationshipSecrets {
    /// The root that goes into the element of each member.
    pub element_root: Option<ElementRoot>,
    /// The root of the epoch tree.
    pub tree_root: Option<TreeRoot>,
    /// Header key and tag as installed.
    pub header: Option<(HeaderKey, Tag)>,
}

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
            return Err(StoreError::refused("an ASR is a communication relationship"));
        }
        self.write(|transaction| {
            if find_asr(transaction, name)?.is_some() {
                return Err(StoreError::Exists { what: format!("ASR {name}") });
            }
            super::generations::check_active(transaction, sds.members())?;
            insert(transaction, self.vault(), Some(name), sds, secrets, created_at)
        })
    }

    /// The ASR of that name, unless it has ended.
    pub fn asr_by_name(&self, name: &Name) -> Result<Option<Relationship>, StoreError> {
        self.read(|connection| find_asr(connection, name))
    }

    /// A relationship of either kind.
    pub fn relationship(&self, id: RelationshipId) -> Result<Option<Relationship>, StoreError> {
        self.read(|connection| find(connection, id))
    }

    /// All ASRs that have not ended, by name.
    pub fn asrs(&self) -> Result<Vec<Relationship>, StoreError> {
        let sql = format!("SELECT {COLUMNS} WHERE r.kind = 2 AND r.status <> 'ended' ORDER BY r.name");
        self.read(|connection| all(connection, &sql, [], |row| parse(connection, row)))
    }

    /// The ASRs that a node is a member of and that have not ended, by name.
    pub fn asrs_of_node(&self, node: AkmId) -> Result<Vec<Relationship>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} JOIN relationship_members m
                 ON m.relationship = r.id AND m.generation = r.generation
             WHERE m.node = ? AND r.kind = 2 AND r.status <> 'ended' ORDER BY r.name"
        );
        self.read(|connection| all(connection, &sql, [node.as_bytes()], |row| parse(connection, row)))
    }

    /// The names of the ASRs that a node is a member of and that have not ended, in their order.
    pub fn asr_names_of_node(&self, node: AkmId) -> Result<Vec<String>, StoreError> {
        let asrs = self.asrs_of_node(node)?;
        Ok(asrs.iter().filter_map(|asr| asr.name.as_ref()).map(ToString::to_string).collect())
    }

    /// The secrets of a relationship's present generation, as far as they are not erased.
    pub fn secrets(&self, id: RelationshipId) -> Result<RelationshipSecrets, StoreError> {
        let sql = "SELECT g.generation, g.element_root, g.tree_root, g.header
                   FROM relationships r
                   JOIN generations g ON g.relationship = r.id AND g.generation = r.generation
                   WHERE r.id = ?";
        self.read(|connection| {
            first(connection, sql, [id.as_bytes()], |row| {
                let generation = row.get("generation")?;
                let header = open_column::<HEADER_LENGTH>(self.vault(), row, id, generation, "header")?;
                Ok(RelationshipSecrets {
                    element_root: open_column(self.vault(), row, id, generation, "element_root")?,
                    tree_root: open_column(self.vault(), row, id, generation, "tree_root")?,
                    header: header.as_ref().map(split_header),
                })
            })?
            .ok_or_else(|| unknown(id))
        })
    }

    /// The element root at one element version; `None` if the module does not hold it.
    pub fn element_root(
        &self,
        id: RelationshipId,
        element_version: u32,
    ) -> Result<Option<ElementRoot>, StoreError> {
        let sql = "SELECT generation, element_root FROM generations
                   WHERE relationship = ? AND element_version = ? AND element_root IS NOT NULL
                   ORDER BY generation LIMIT 1";
        self.read(|connection| {
            first(connection, sql, params![id.as_bytes(), element_version], |row| {
                open_column(self.vault(), row, id, row.get("generation")?, "element_root")
            })
            .map(Option::flatten)
        })
    }

    /// Tells how far the relationship has come at one member.
    pub fn set_member_state(
        &self,
        id: RelationshipId,
        node: AkmId,
        state: MemberState,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            let changed = transaction.execute(
                "UPDATE relationship_members SET state = ?
                 WHERE relationship = ? AND node = ?
                   AND generation = (SELECT generation FROM relationships WHERE id = ?)",
                params![state.as_str(), id.as_bytes(), node.as_bytes(), id.as_bytes()],
            )?;
            match changed {
                0 => Err(StoreError::refused(format!("node {node} is not a member of relationship {id}"))),
                _ => Ok(()),
            }
        })
    }

    /// Every member has acknowledged the relationship. Refused while one is pending; repeating it
    /// changes nothing.
    pub fn acknowledge_relationship(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|transaction| advance(transaction, id, RelationshipStatus::Acknowledged))
    }

    /// The relationship is in use. Refused while a member is pending; repeating it changes nothing.
    pub fn activate_relationship(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|transaction| advance(transaction, id, RelationshipStatus::Active))
    }

    /// Ends a relationship: its secrets and place are erased, its name is free. Repeating it
    /// changes nothing.
    pub fn end_relationship(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|transaction| end(transaction, id, Timestamp::now()))?;
        self.forget_log()
    }

    /// Erases the secrets that the module need not keep once every member has acknowledged.
    ///
    /// The tree root, and of an ASR header key and tag too. The element root stays, sealed: members that join later
    /// get it, and receipts are checked with it; without a tree root it opens nothing. Of a provisioning relationship,
    /// where the module is a member, its place must be saved before.
    pub fn erase_secrets(&self, id: RelationshipId) -> Result<(), StoreError> {
        self.write(|transaction| {
            let relationship = find(transaction, id)?.ok_or_else(|| unknown(id))?;
            let generation = relationship.sds.generation();
            refuse_while_pending(&relationship)?;
            let erased = match relationship.sds.kind() {
                Kind::Communication => "tree_root = NULL, header = NULL",
                Kind::Provisioning if find_place(transaction, id, generation)?.is_some() => {
                    "tree_root = NULL"
                }
                Kind::Provisioning => {
                    let why = format!("the module has no place in relationship {id}");
                    return Err(StoreError::refused(why));
                }
            };
            transaction.execute(
                &format!("UPDATE generations SET {erased} WHERE relationship = ? AND generation = ?"),
                params![id.as_bytes(), generation],
            )?;
            Ok(())
        })?;
        self.forget_log()
    }

    /// Keeps the module's place in a relationship, as the core sealed it. The place before it is
    /// overwritten.
    pub fn save_place(&self, id: RelationshipId, generation: u32, place: &[u8]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let sql = "SELECT 1 FROM generations g JOIN relationships r ON r.id = g.relationship
                       WHERE r.id = ? AND g.generation = ? AND r.status <> 'ended'";
            if first(transaction, sql, params![id.as_bytes(), generation], |_| Ok(()))?.is_none() {
                return Err(unknown(id));
            }
            transaction.execute(
                "INSERT INTO places (relationship, generation, place) VALUES (?, ?, ?)
                 ON CONFLICT (relationship, generation) DO UPDATE SET place = excluded.place",
                params![id.as_bytes(), generation, place],
            )?;
            Ok(())
        })
    }

    /// The module's place in a relationship, as the core sealed it; `None` before the first.
    pub fn load_place(&self, id: RelationshipId, generation: u32) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|connection| find_place(connection, id, generation))
    }
}

/// Adds a relationship at its first generation, with all members pending.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    vault: &Vault,
    name: Option<&Name>,
    sds: &SynchronizedDataSet,
    secrets: &GenerationSecrets,
    created_at: Timestamp,
) -> Result<(), StoreError> {
    let (id, generation) = (sds.relationship(), sds.generation());
    transaction.execute(
        "INSERT INTO relationships (id, kind, name, generation, status, created_at)
         VALUES (?, ?, ?, ?, 'creating', ?)",
        params![
            id.as_bytes(),
            sds.kind() as u8,
            name.map(Name::as_str),
            generation,
            created_at.as_unix_millis()
        ],
    )?;
    insert_generation(transaction, vault, sds, secrets, true, created_at)
}

/// Adds a generation with all its members pending; with its element root, if that is a new one.
pub(super) fn insert_generation(
    transaction: &Transaction<'_>,
    vault: &Vault,
    sds: &SynchronizedDataSet,
    secrets: &GenerationSecrets,
    with_element_root: bool,
    made_at: Timestamp,
) -> Result<(), StoreError> {
    let (id, generation) = (sds.relationship(), sds.generation());
    let header: Secret<HEADER_LENGTH> = Secret::fill(|out| {
        out[..16].copy_from_slice(secrets.header_key.expose());
        out[16..].copy_from_slice(&secrets.tag.0);
    });
    let sealed = |column: &str, plain: &[u8]| seal(vault, &context(id, generation, column), plain);
    let element_root =
        with_element_root.then(|| sealed("element_root", secrets.element_root.expose())).transpose()?;
    transaction.execute(
        "INSERT INTO generations
             (relationship, generation, element_version, public, element_root, tree_root, header, made_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            id.as_bytes(),
            generation,
            sds.element_version(),
            sds.emit(),
            element_root,
            sealed("tree_root", secrets.tree_root.expose())?,
            sealed("header", header.expose())?,
            made_at.as_unix_millis(),
        ],
    )?;
    let mut member = transaction.prepare_cached(
        "INSERT INTO relationship_members (relationship, generation, node, member_index, state)
         VALUES (?, ?, ?, ?, 'pending')",
    )?;
    for (index, node) in sds.members().iter().enumerate() {
        member.execute(params![id.as_bytes(), generation, node.as_bytes(), index as u16])?;
    }
    Ok(())
}

/// Moves the status forward, never back.
pub(super) fn advance(
    transaction: &Transaction<'_>,
    id: RelationshipId,
    status: RelationshipStatus,
) -> Result<(), StoreError> {
    let relationship = find(transaction, id)?.ok_or_else(|| unknown(id))?;
    if relationship.status == RelationshipStatus::Ended {
        return Err(StoreError::refused(format!("relationship {id} has ended")));
    }
    refuse_while_pending(&relationship)?;
    if relationship.status < status {
        transaction.execute(
            "UPDATE relationships SET status = ? WHERE id = ?",
            params![status.as_str(), id.as_bytes()],
        )?;
    }
    Ok(())
}

/// Ends a relationship and erases what the module holds of it.
pub(super) fn end(
    transaction: &Transaction<'_>,
    id: RelationshipId,
    at: Timestamp,
) -> Result<(), StoreError> {
    let changed = transaction.execute(
        "UPDATE relationships SET status = 'ended', ended_at = COALESCE(ended_at, ?) WHERE id = ?",
        params![at.as_unix_millis(), id.as_bytes()],
    )?;
    if changed == 0 {
        return Err(unknown(id));
    }
    transaction.execute(
        "UPDATE generations SET element_root = NULL, tree_root = NULL, header = NULL WHERE relationship = ?",
        [id.as_bytes()],
    )?;
    transaction.execute("DELETE FROM places WHERE relationship = ?", [id.as_bytes()])?;
    Ok(())
}

/// Whether a node is a member of an ASR that has not ended.
pub(super) fn is_in_asr(transaction: &Transaction<'_>, node: AkmId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM relationship_members m JOIN relationships r
                   ON r.id = m.relationship AND r.generation = m.generation
               WHERE m.node = ? AND r.kind = 2 AND r.status <> 'ended'";
    Ok(first(transaction, sql, [node.as_bytes()], |_| Ok(()))?.is_some())
}

/// Sets the state of every member.
pub(super) fn set_all_members(
    transaction: &Transaction<'_>,
    id: RelationshipId,
    state: MemberState,
) -> Result<(), StoreError> {
    transaction.execute(
        "UPDATE relationship_members SET state = ? WHERE relationship = ?",
        params![state.as_str(), id.as_bytes()],
    )?;
    Ok(())
}

fn refuse_while_pending(relationship: &Relationship) -> Result<(), StoreError> {
    match relationship.members.iter().find(|member| member.state == MemberState::Pending) {
        Some(member) => Err(StoreError::refused(format!(
            "node {} has not acknowledged relationship {}",
            member.node,
            relationship.id()
        ))),
        None => Ok(()),
    }
}

pub(super) fn find(connection: &Connection, id: RelationshipId) -> Result<Option<Relationship>, StoreError> {
    let sql = format!("SELECT {COLUMNS} WHERE r.id = ?");
    first(connection, &sql, [id.as_bytes()], |row| parse(connection, row))
}

fn find_asr(connection: &Connection, name: &Name) -> Result<Option<Relationship>, StoreError> {
    let sql = format!("SELECT {COLUMNS} WHERE r.kind = 2 AND r.status <> 'ended' AND r.name = ?");
    first(connection, &sql, [name.as_str()], |row| parse(connection, row))
}

fn find_place(
    connection: &Connection,
    id: RelationshipId,
    generation: u32,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT place FROM places WHERE relationship = ? AND generation = ?";
    first(connection, sql, params![id.as_bytes(), generation], |row| Ok(row.get("place")?))
}

fn parse(connection: &Connection, row: &Row<'_>) -> Result<Relationship, StoreError> {
    let id = columns::relationship_id(row, "id")?;
    let generation: u32 = row.get("generation")?;
    let public: Vec<u8> = row.get("public")?;
    let sds = SynchronizedDataSet::parse(&public).map_err(|_| StoreError::damaged("public"))?;
    if sds.relationship() != id || sds.generation() != generation {
        return Err(StoreError::damaged("public"));
    }
    let members = all(
        connection,
        "SELECT node, member_index, state FROM relationship_members
         WHERE relationship = ? AND generation = ? ORDER BY member_index",
        params![id.as_bytes(), generation],
        |row| {
            Ok(Member {
                node: columns::akm_id(row, "node")?,
                index: row.get("member_index")?,
                state: MemberState::from_column(row, "state")?,
            })
        },
    )?;
    Ok(Relationship {
        name: columns::optional_name(row, "name")?,
        sds,
        status: RelationshipStatus::from_column(row, "status")?,
        members,
        created_at: columns::timestamp(row, "created_at")?,
        made_at: match columns::optional_timestamp(row, "made_at")? {
            Some(made_at) => made_at,
            None => columns::timestamp(row, "created_at")?,
        },
        released: row.get("released")?,
    })
}

/// Where a sealed column stands; it opens nowhere else.
fn context(id: RelationshipId, generation: u32, column: &str) -> String {
    format!("generations/{id}/{generation}/{column}")
}

fn open_column<const N: usize>(
    vault: &Vault,
    row: &Row<'_>,
    id: RelationshipId,
    generation: u32,
    column: &str,
) -> Result<Option<Secret<N>>, StoreError> {
    let sealed: Option<Vec<u8>> = row.get(column)?;
    let Some(sealed) = sealed else { return Ok(None) };
    let context = context(id, generation, column);
    let plain = vault.open_sealed(&context, &sealed).map_err(|_| StoreError::damaged(&context))?;
    Secret::copy_from(&plain).map(Some).ok_or_else(|| StoreError::damaged(&context))
}

fn split_header(header: &Secret<HEADER_LENGTH>) -> (HeaderKey, Tag) {
    let (key, tag) = header.expose().split_at(16);
    (HeaderKey::copy_from(key).expect("16 bytes"), Tag(tag.try_into().expect("4 bytes")))
}

pub(super) fn unknown(id: RelationshipId) -> StoreError {
    StoreError::refused(format!("there is no relationship {id} in this module's set"))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(asr.status, RelationshipStatus::Creating);
        assert_eq!(asr.created_at, AT);
        let members: Vec<_> = asr.members.iter().map(|m| (m.node, m.index, m.state)).collect();
        let pending = |index: u16| (sds.members()[usize::from(index)], index, MemberState::Pending);
        assert_eq!(members, [pending(0), pending(1)]);
        assert_eq!(store.relationship(sds.relationship()).unwrap(), Some(asr));

        let kept = store.secrets(sds.relationship()).unwrap();
        assert!(kept.element_root.unwrap().equals(secrets.element_root.expose()));
        assert!(kept.tree_root.unwrap().equals(secrets.tree_root.expose()));
        let (header_key, tag) = kept.header.unwrap();
        assert!(header_key.equals(secrets.header_key.expose()));
        assert_eq!(tag, secrets.tag);
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
        assert!(matches!(attempt("x", &[a.id, stranger]), StoreError::Refused { .. }));
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
        assert!(left.tree_root.is_none() && left.header.is_none());
        assert!(store.element_root(id, 1).unwrap().is_some(), "for members that join later");
        store.activate_relationship(id).unwrap();
        store.acknowledge_relationship(id).unwrap();
        let status = store.relationship(id).unwrap().unwrap().status;
        assert_eq!(status, RelationshipStatus::Active, "it never goes back");
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
        assert!(matches!(store.erase_secrets(id), Err(StoreError::Refused { .. })));
        assert_eq!(store.load_place(id, 1).unwrap(), None);
        store.save_place(id, 1, b"first").unwrap();
        store.save_place(id, 1, b"second").unwrap();
        store.erase_secrets(id).unwrap();
        assert_eq!(store.load_place(id, 1).unwrap().as_deref(), Some(&b"second"[..]));
        let left = store.secrets(id).unwrap();
        assert!(left.element_root.is_some() && left.tree_root.is_none() && left.header.is_some());
    }

    #[test]
    fn a_sealed_column_in_another_row_or_column_is_damage() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.create_node("a"), fixture.create_node("b"));
        fixture.execute(&format!(
            "UPDATE generations SET element_root =
                 (SELECT element_root FROM generations WHERE relationship = x'{}')
             WHERE relationship = x'{}'",
            hex(a.relationship.as_bytes()),
            hex(b.relationship.as_bytes())
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
        for bytes in [&secrets.element_root.expose()[..], secrets.tree_root.expose()] {
            assert!(!fixture.files_contain(bytes));
        }

        let sealed = fixture.column(&format!(
            "SELECT tree_root FROM generations WHERE relationship = x'{}'",
            hex(id.as_bytes())
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
            assert!(matches!(outcome, Err(StoreError::Refused { .. })));
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
