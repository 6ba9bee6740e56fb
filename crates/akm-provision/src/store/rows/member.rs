//! The rows of members: how far each generation has come at each of them.

use akm_core::id::{AkmId, RelationshipId};

use crate::names::{Name, Timestamp};
use crate::store::StoreError;
use crate::store::sql::{Row, Sql, values, words};

/// Of members that left, and of ASRs that ended: what a node was not yet told to erase, or has not confirmed.
const LEFT_OVER: &str =
    "SELECT DISTINCT m.node, r.id, r.name, COALESCE(r.ended_at, g.made_at, r.created_at) AS since
    FROM relationship_members m JOIN relationships r ON r.id = m.relationship
    JOIN nodes n ON n.id = m.node AND n.status = 'active'
    JOIN generations g ON g.relationship = r.id AND g.generation = r.generation
    WHERE r.kind = 2 AND m.state <> 'erased' AND (r.status = 'ended' OR NOT EXISTS (
        SELECT 1 FROM relationship_members p
        WHERE p.relationship = r.id AND p.generation = r.generation AND p.node = m.node))";

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

/// The members of a generation, in the order of their indices.
pub(in crate::store) fn of_generation(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
) -> Result<Vec<Member>, StoreError> {
    let query = "SELECT node, member_index, state FROM relationship_members
                 WHERE relationship = ? AND generation = ? ORDER BY member_index";
    sql.all(query, values![&id, generation], |row| {
        Ok(Member { node: row.get("node")?, index: row.get("member_index")?, state: row.get("state")? })
    })
}

/// Adds the members of a generation, all pending.
pub(in crate::store) fn insert(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
    members: &[AkmId],
) -> Result<(), StoreError> {
    for (index, node) in members.iter().enumerate() {
        sql.execute(
            "INSERT INTO relationship_members (relationship, generation, node, member_index, state)
             VALUES (?, ?, ?, ?, ?)",
            values![&id, generation, node, index as u16, MemberState::Pending],
        )?;
    }
    Ok(())
}

/// Tells how far the present generation has come at a member; false if there is no such member.
pub(in crate::store) fn set_state(
    sql: Sql<'_>,
    id: RelationshipId,
    node: AkmId,
    state: MemberState,
) -> Result<bool, StoreError> {
    let changed = sql.execute(
        "UPDATE relationship_members SET state = ? WHERE relationship = ? AND node = ?
             AND generation = (SELECT generation FROM relationships WHERE id = ?)",
        values![state, &id, &node, &id],
    )?;
    Ok(changed > 0)
}

/// Tells how far all generations have come at all members.
pub(in crate::store) fn set_all(
    sql: Sql<'_>,
    id: RelationshipId,
    state: MemberState,
) -> Result<(), StoreError> {
    sql.execute("UPDATE relationship_members SET state = ? WHERE relationship = ?", values![state, &id])?;
    Ok(())
}

/// A node has erased all generations.
pub(in crate::store) fn mark_erased(sql: Sql<'_>, id: RelationshipId, node: AkmId) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE relationship_members SET state = ? WHERE relationship = ? AND node = ?",
        values![MemberState::Erased, &id, &node],
    )?;
    Ok(())
}

/// Whether a node is a member of an ASR that has not ended.
pub(in crate::store) fn is_in_asr(sql: Sql<'_>, node: AkmId) -> Result<bool, StoreError> {
    let query = "SELECT 1 FROM relationship_members m JOIN relationships r
                     ON r.id = m.relationship AND r.generation = m.generation
                 WHERE m.node = ? AND r.kind = 2 AND r.status <> 'ended'";
    sql.any(query, values![&node])
}

/// Whether a node has acknowledged a generation with this element version.
pub(in crate::store) fn has_element_root(
    sql: Sql<'_>,
    id: RelationshipId,
    element_version: u32,
    node: AkmId,
) -> Result<bool, StoreError> {
    let query = "SELECT 1 FROM relationship_members m
                 JOIN generations g ON g.relationship = m.relationship AND g.generation = m.generation
                 WHERE m.relationship = ? AND m.node = ? AND g.element_version = ?
                     AND m.state IN ('installed', 'active')";
    sql.any(query, values![&id, &node, element_version])
}

/// What active nodes may still hold, the oldest first.
pub(in crate::store) fn leftovers(sql: Sql<'_>) -> Result<Vec<Leftover>, StoreError> {
    sql.all(&format!("{LEFT_OVER} ORDER BY since"), &[], parse_leftover)
}

/// The same, of one node.
pub(in crate::store) fn leftovers_of_node(sql: Sql<'_>, node: AkmId) -> Result<Vec<Leftover>, StoreError> {
    sql.all(&format!("{LEFT_OVER} AND m.node = ? ORDER BY since"), values![&node], parse_leftover)
}

fn parse_leftover(row: &Row<'_>) -> Result<Leftover, StoreError> {
    Ok(Leftover {
        node: row.get("node")?,
        relationship: row.get("id")?,
        name: row.get("name")?,
        since: row.get("since")?,
    })
}
