//! The rows of relationships and of their generations: what is public of them.

use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::SynchronizedDataSet;

use crate::names::{Name, Timestamp};
use crate::store::StoreError;
use crate::store::sql::{Row, Sql, values, words};

const PRESENT: &str =
    "SELECT r.id, r.name, r.status, r.created_at, g.generation, g.public, g.made_at, g.released, g.suspected
    FROM relationships r JOIN generations g ON g.relationship = r.id AND g.generation = r.generation";

words! {
    /// How far a relationship has come.
    RelationshipState {
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

/// A relationship at its present generation, without its members.
pub(in crate::store) struct Present {
    pub(in crate::store) name: Option<Name>,
    pub(in crate::store) sds: SynchronizedDataSet,
    pub(in crate::store) status: RelationshipState,
    pub(in crate::store) created_at: Timestamp,
    pub(in crate::store) made_at: Timestamp,
    pub(in crate::store) released: bool,
    pub(in crate::store) suspected: bool,
}

/// A relationship of either kind.
pub(in crate::store) fn find(sql: Sql<'_>, id: RelationshipId) -> Result<Option<Present>, StoreError> {
    sql.first(&format!("{PRESENT} WHERE r.id = ?"), values![&id], parse)
}

/// The ASR of that name, unless it has ended.
pub(in crate::store) fn find_asr(sql: Sql<'_>, name: &Name) -> Result<Option<Present>, StoreError> {
    let query = format!("{PRESENT} WHERE r.kind = 2 AND r.status <> 'ended' AND r.name = ?");
    sql.first(&query, values![name], parse)
}

/// The ASRs that have not ended, by name.
pub(in crate::store) fn asrs(sql: Sql<'_>) -> Result<Vec<Present>, StoreError> {
    let query = format!("{PRESENT} WHERE r.kind = 2 AND r.status <> 'ended' ORDER BY r.name");
    sql.all(&query, &[], parse)
}

/// Those of them that a node is a member of.
pub(in crate::store) fn asrs_of_node(sql: Sql<'_>, node: AkmId) -> Result<Vec<Present>, StoreError> {
    let query = format!(
        "{PRESENT} JOIN relationship_members m ON m.relationship = r.id AND m.generation = r.generation
         WHERE m.node = ? AND r.kind = 2 AND r.status <> 'ended' ORDER BY r.name"
    );
    sql.all(&query, values![&node], parse)
}

/// Adds a relationship whose first generation is to follow.
pub(in crate::store) fn insert_relationship(
    sql: Sql<'_>,
    name: Option<&Name>,
    sds: &SynchronizedDataSet,
    created_at: Timestamp,
) -> Result<(), StoreError> {
    sql.execute(
        "INSERT INTO relationships (id, kind, name, generation, status, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        values![
            &sds.relationship(),
            sds.kind() as u8,
            name,
            sds.generation(),
            RelationshipState::Creating,
            created_at
        ],
    )?;
    Ok(())
}

/// Adds a generation.
pub(in crate::store) fn insert(
    sql: Sql<'_>,
    sds: &SynchronizedDataSet,
    made_at: Timestamp,
) -> Result<(), StoreError> {
    let public = sds.emit();
    sql.execute(
        "INSERT INTO generations (relationship, generation, element_version, public, made_at) VALUES (?, ?, ?, ?, ?)",
        values![
            &sds.relationship(),
            sds.generation(),
            sds.element_version(),
            public.as_slice(),
            made_at
        ],
    )?;
    Ok(())
}

/// Makes a generation the present one, which no member has acknowledged.
pub(in crate::store) fn set_present(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE relationships SET generation = ?, status = ? WHERE id = ?",
        values![generation, RelationshipState::Creating, &id],
    )?;
    Ok(())
}

/// Tells how far a relationship has come.
pub(in crate::store) fn set_status(
    sql: Sql<'_>,
    id: RelationshipId,
    status: RelationshipState,
) -> Result<(), StoreError> {
    sql.execute("UPDATE relationships SET status = ? WHERE id = ?", values![status, &id])?;
    Ok(())
}

/// A relationship is over; false if there is none of this ID. When it first was so stays.
pub(in crate::store) fn end(sql: Sql<'_>, id: RelationshipId, at: Timestamp) -> Result<bool, StoreError> {
    let changed = sql.execute(
        "UPDATE relationships SET status = ?, ended_at = COALESCE(ended_at, ?) WHERE id = ?",
        values![RelationshipState::Ended, at, &id],
    )?;
    Ok(changed > 0)
}

/// The present generation may become active.
pub(in crate::store) fn release(sql: Sql<'_>, id: RelationshipId) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE generations SET released = 1 WHERE relationship = ?
             AND generation = (SELECT generation FROM relationships WHERE id = ?)",
        values![&id, &id],
    )?;
    Ok(())
}

/// The latest of all generations that were made of a relationship.
pub(in crate::store) fn latest(
    sql: Sql<'_>,
    id: RelationshipId,
) -> Result<Option<SynchronizedDataSet>, StoreError> {
    let query = "SELECT public FROM generations WHERE relationship = ? ORDER BY generation DESC LIMIT 1";
    sql.first(query, values![&id], |row| {
        let public: Vec<u8> = row.get("public")?;
        SynchronizedDataSet::parse(&public).map_err(|_| StoreError::damaged("public"))
    })
}

/// A generation was made because of a suspicion.
pub(in crate::store) fn suspect(sql: Sql<'_>, id: RelationshipId, generation: u32) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE generations SET suspected = 1 WHERE relationship = ? AND generation = ?",
        values![&id, generation],
    )?;
    Ok(())
}

/// Whether a generation is there, of a relationship that has not ended.
pub(in crate::store) fn is_in_force(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
) -> Result<bool, StoreError> {
    let query = "SELECT 1 FROM generations g JOIN relationships r ON r.id = g.relationship
                 WHERE r.id = ? AND g.generation = ? AND r.status <> 'ended'";
    sql.any(query, values![&id, generation])
}

/// Whether a generation before the present one has its element version.
pub(in crate::store) fn has_earlier_of_version(sql: Sql<'_>, id: RelationshipId) -> Result<bool, StoreError> {
    let query = "SELECT 1 FROM generations g JOIN relationships r ON r.id = g.relationship
                 JOIN generations p ON p.relationship = r.id AND p.generation = r.generation
                 WHERE r.id = ? AND g.generation < r.generation AND g.element_version = p.element_version";
    sql.any(query, values![&id])
}

fn parse(row: &Row<'_>) -> Result<Present, StoreError> {
    let public: Vec<u8> = row.get("public")?;
    let sds = SynchronizedDataSet::parse(&public).map_err(|_| StoreError::damaged("public"))?;
    let (id, generation): (RelationshipId, u32) = (row.get("id")?, row.get("generation")?);
    if sds.relationship() != id || sds.generation() != generation {
        return Err(StoreError::damaged("public"));
    }
    let created_at = row.get("created_at")?;
    Ok(Present {
        name: row.get("name")?,
        sds,
        status: row.get("status")?,
        created_at,
        made_at: row.get::<Option<Timestamp>>("made_at")?.unwrap_or(created_at),
        released: row.get("released")?,
        suspected: row.get("suspected")?,
    })
}
