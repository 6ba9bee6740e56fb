//! The rows of nodes.

use std::path::{Path, PathBuf};

use akm_core::element::{Description, Protection};
use akm_core::id::{AkmId, RelationshipId};
use akm_element::ElementSpec;
use akm_target::TargetUrl;
use akm_transport::{Endpoint, NamedEndpoint};

use crate::names::{Name, Timestamp};
use crate::store::StoreError;
use crate::store::obstacle::Obstacle;
use crate::store::sql::{Column, Row, Sql, Value, values, words};

const IN_FORCE: &str = "status IN ('provisioning', 'active', 'removing')";

words! {
    /// Where a node stands.
    NodeStatus {
        /// Its ceremony has not come to its end.
        Provisioning = "provisioning",
        /// Verified, and ready for ASRs.
        Active = "active",
        /// Its removal has begun.
        Removing = "removing",
        /// The same device was provisioned again, as another node.
        Replaced = "replaced",
        /// Removed.
        Removed = "removed",
    }
}

impl NodeStatus {
    /// Whether the module has still to do with the node.
    pub fn is_in_force(self) -> bool {
        matches!(self, Self::Provisioning | Self::Active | Self::Removing)
    }
}

/// What is known of a node when its ceremony begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its AKM ID.
    pub id: AkmId,
    /// Its name. That of the node which it replaces passes over when it becomes active.
    pub name: Name,
    /// The target.
    pub target: TargetUrl,
    /// Configuration for the operator's ssh.
    pub ssh_config: Option<PathBuf>,
    /// The element, as it is called at the target.
    pub element_spec: ElementSpec,
    /// Where the stack listens.
    pub listen: Option<Endpoint>,
    /// Where the module reaches it.
    pub endpoint: Option<NamedEndpoint>,
    /// The stack that the operator chose.
    pub stack: Option<PathBuf>,
    /// The directory here in which its element is filled, where that is done before it is in its target.
    pub station: Option<PathBuf>,
    /// The node that the same device was until then.
    pub replaces: Option<AkmId>,
    /// When the ceremony began.
    pub created_at: Timestamp,
}

/// A node of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its AKM ID.
    pub id: AkmId,
    /// Its name.
    pub name: Name,
    /// Where it stands.
    pub status: NodeStatus,
    /// The target.
    pub target: TargetUrl,
    /// Configuration for the operator's ssh.
    pub ssh_config: Option<PathBuf>,
    /// The element, as it is called at the target.
    pub element_spec: ElementSpec,
    /// Where the stack listens, once chosen.
    pub listen: Option<Endpoint>,
    /// Where the module reaches it, once chosen.
    pub endpoint: Option<NamedEndpoint>,
    /// The stack that was installed.
    pub stack: Option<PathBuf>,
    /// The version of that stack.
    pub stack_version: Option<String>,
    /// The integrity code that the node must show.
    pub integrity_code: Option<[u8; 32]>,
    /// Its provisioning relationship.
    pub relationship: RelationshipId,
    /// What its element says of itself, once asked.
    pub element: Option<Description>,
    /// The directory here in which its element was filled, while that still waits for its target or is on the way.
    pub station: Option<PathBuf>,
    /// The node that the same device was before.
    pub replaces: Option<AkmId>,
    /// When its ceremony began.
    pub created_at: Timestamp,
    /// When it was last verified.
    pub verified_at: Option<Timestamp>,
}

/// Where a node is that was begun without its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The target.
    pub target: TargetUrl,
    /// Configuration for the operator's ssh.
    pub ssh_config: Option<PathBuf>,
    /// The element as it is called there.
    pub element_spec: ElementSpec,
    /// Where the stack listens.
    pub listen: Endpoint,
    /// Where the module reaches it.
    pub endpoint: NamedEndpoint,
    /// The stack, if the operator chose another.
    pub stack: Option<PathBuf>,
}

/// A node by its AKM ID, whatever its status.
pub(in crate::store) fn find(sql: Sql<'_>, id: AkmId) -> Result<Option<Node>, StoreError> {
    sql.first("SELECT * FROM nodes WHERE id = ?", values![&id], parse)
}

/// The node that holds a name.
pub(in crate::store) fn find_by_name(sql: Sql<'_>, name: &Name) -> Result<Option<Node>, StoreError> {
    sql.first("SELECT * FROM nodes WHERE name = ? AND holds_name = 1", values![name], parse)
}

/// The node with this element, active or being removed.
pub(in crate::store) fn find_by_element(
    sql: Sql<'_>,
    manufacturer: &str,
    serial: &str,
) -> Result<Option<Node>, StoreError> {
    let query = "SELECT * FROM nodes WHERE element_manufacturer = ? AND element_serial = ?
                     AND status IN ('active', 'removing')";
    sql.first(query, values![manufacturer, serial], parse)
}

/// The node whose ceremony is to put it in the place of another.
pub(in crate::store) fn find_replacing(sql: Sql<'_>, old: AkmId) -> Result<Option<AkmId>, StoreError> {
    let query = "SELECT id FROM nodes WHERE replaces = ? AND status = 'provisioning'";
    sql.first(query, values![&old], |row| row.get("id"))
}

/// The nodes in force on a target, oldest first.
pub(in crate::store) fn at_target(sql: Sql<'_>, target: &TargetUrl) -> Result<Vec<Node>, StoreError> {
    let query = format!("SELECT * FROM nodes WHERE target = ? AND {IN_FORCE} ORDER BY sequence");
    sql.all(&query, values![target], parse)
}

/// The nodes in force, oldest first.
pub(in crate::store) fn in_force(sql: Sql<'_>) -> Result<Vec<Node>, StoreError> {
    sql.all(&format!("SELECT * FROM nodes WHERE {IN_FORCE} ORDER BY sequence"), &[], parse)
}

/// The others, oldest first.
#[cfg(test)]
pub(in crate::store) fn former(sql: Sql<'_>) -> Result<Vec<Node>, StoreError> {
    sql.all(&format!("SELECT * FROM nodes WHERE NOT {IN_FORCE} ORDER BY sequence"), &[], parse)
}

/// Whether there is such a node, and it is active.
pub(in crate::store) fn is_active(sql: Sql<'_>, id: AkmId) -> Result<bool, StoreError> {
    sql.any("SELECT 1 FROM nodes WHERE id = ? AND status = ?", values![&id, NodeStatus::Active])
}

/// Adds a node whose ceremony begins.
pub(in crate::store) fn insert(
    sql: Sql<'_>,
    node: &NewNode,
    relationship: RelationshipId,
    holds_name: bool,
) -> Result<(), StoreError> {
    sql.execute(
        "INSERT INTO nodes (id, name, holds_name, status, target, ssh_config, element_spec, listen,
             endpoint, stack, station, relationship, replaces, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values![
            &node.id,
            &node.name,
            holds_name,
            NodeStatus::Provisioning,
            &node.target,
            node.ssh_config.as_deref(),
            &node.element_spec,
            node.listen.as_ref(),
            node.endpoint.as_ref(),
            node.stack.as_deref(),
            node.station.as_deref(),
            &relationship,
            node.replaces.as_ref(),
            node.created_at,
        ],
    )?;
    Ok(())
}

/// Records where the stack listens and where the module reaches it.
pub(in crate::store) fn save_addresses(
    sql: Sql<'_>,
    id: AkmId,
    listen: Endpoint,
    endpoint: &NamedEndpoint,
) -> Result<(), StoreError> {
    update(sql, id, "listen = ?, endpoint = ?", values![&listen, endpoint])
}

/// Takes over those of these that are given.
pub(in crate::store) fn revise(
    sql: Sql<'_>,
    id: AkmId,
    listen: Option<Endpoint>,
    endpoint: Option<&NamedEndpoint>,
    stack: Option<&Path>,
) -> Result<(), StoreError> {
    update(
        sql,
        id,
        "listen = COALESCE(?, listen), endpoint = COALESCE(?, endpoint), stack = COALESCE(?, stack)",
        values![listen.as_ref(), endpoint, stack],
    )
}

/// Records where a node is that was begun without its target.
pub(in crate::store) fn settle(sql: Sql<'_>, id: AkmId, settled: &Settled) -> Result<(), StoreError> {
    update(
        sql,
        id,
        "target = ?, ssh_config = ?, element_spec = ?, listen = ?, endpoint = ?, stack = COALESCE(?, stack)",
        values![
            &settled.target,
            settled.ssh_config.as_deref(),
            &settled.element_spec,
            &settled.listen,
            &settled.endpoint,
            settled.stack.as_deref(),
        ],
    )
}

/// Records the stack that is installed.
pub(in crate::store) fn save_stack(
    sql: Sql<'_>,
    id: AkmId,
    stack: &Path,
    version: &str,
) -> Result<(), StoreError> {
    update(sql, id, "stack = ?, stack_version = ?", values![stack, version])
}

/// Records what the element says of itself.
pub(in crate::store) fn save_element(
    sql: Sql<'_>,
    id: AkmId,
    element: &Description,
) -> Result<(), StoreError> {
    update(
        sql,
        id,
        "element_kind = ?, element_manufacturer = ?, element_serial = ?, element_firmware = ?,
         element_protection = ?, element_sealed = ?, element_counter = ?",
        values![
            element.kind.as_str(),
            element.manufacturer.as_str(),
            element.serial.as_str(),
            element.firmware.as_str(),
            element.protection,
            element.sealed,
            element.counter,
        ],
    )
}

/// Records the integrity code that the node must show.
pub(in crate::store) fn save_integrity_code(
    sql: Sql<'_>,
    id: AkmId,
    code: &[u8; 32],
) -> Result<(), StoreError> {
    update(sql, id, "integrity_code = ?", values![code])
}

/// Records when the node was verified.
pub(in crate::store) fn mark_verified(sql: Sql<'_>, id: AkmId, at: Timestamp) -> Result<(), StoreError> {
    update(sql, id, "verified_at = ?", values![at])
}

/// The node is active: it holds its name, and nothing of it waits here any more.
pub(in crate::store) fn activate(sql: Sql<'_>, id: AkmId, at: Timestamp) -> Result<(), StoreError> {
    update(
        sql,
        id,
        "status = ?, holds_name = 1, station = NULL, verified_at = ?",
        values![NodeStatus::Active, at],
    )
}

/// The node is no longer in force: its name is free, and nothing of it waits here any more.
pub(in crate::store) fn retire(sql: Sql<'_>, id: AkmId, status: NodeStatus) -> Result<(), StoreError> {
    update(sql, id, "status = ?, holds_name = 0, station = NULL", values![status])
}

/// Tells where the node stands.
pub(in crate::store) fn set_status(sql: Sql<'_>, id: AkmId, status: NodeStatus) -> Result<(), StoreError> {
    update(sql, id, "status = ?", values![status])
}

/// The refusal of a node that is not there.
pub(in crate::store) fn unknown(id: AkmId) -> StoreError {
    StoreError::refused(Obstacle::NoNode { node: id })
}

fn update(sql: Sql<'_>, id: AkmId, columns: &str, values: &[Value<'_>]) -> Result<(), StoreError> {
    let mut values = values.to_vec();
    values.push(Value::from(&id));
    match sql.execute(&format!("UPDATE nodes SET {columns} WHERE id = ?"), &values)? {
        0 => Err(unknown(id)),
        _ => Ok(()),
    }
}

fn parse(row: &Row<'_>) -> Result<Node, StoreError> {
    Ok(Node {
        id: row.get("id")?,
        name: row.get("name")?,
        status: row.get("status")?,
        target: row.get("target")?,
        ssh_config: row.get("ssh_config")?,
        element_spec: row.get("element_spec")?,
        listen: row.get("listen")?,
        endpoint: row.get("endpoint")?,
        stack: row.get("stack")?,
        stack_version: row.get("stack_version")?,
        integrity_code: row.get("integrity_code")?,
        relationship: row.get("relationship")?,
        element: parse_element(row)?,
        station: row.get("station")?,
        replaces: row.get("replaces")?,
        created_at: row.get("created_at")?,
        verified_at: row.get("verified_at")?,
    })
}

fn parse_element(row: &Row<'_>) -> Result<Option<Description>, StoreError> {
    let Some(kind) = row.get("element_kind")? else { return Ok(None) };
    Ok(Some(Description {
        kind,
        manufacturer: row.get("element_manufacturer")?,
        serial: row.get("element_serial")?,
        firmware: row.get("element_firmware")?,
        protection: row.get("element_protection")?,
        sealed: row.get("element_sealed")?,
        counter: row.get("element_counter")?,
    }))
}

impl From<Protection> for Value<'_> {
    fn from(protection: Protection) -> Self {
        Value::from(match protection {
            Protection::Hardware => "hardware",
            Protection::Software => "software",
        })
    }
}

impl Column for Protection {
    fn read(value: Value<'_>) -> Option<Self> {
        match String::read(value)?.as_str() {
            "hardware" => Some(Self::Hardware),
            "software" => Some(Self::Software),
            _ => None,
        }
    }
}
