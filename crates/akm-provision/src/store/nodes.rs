//! The nodes of the module, from their first step to their removal.

use std::path::{Path, PathBuf};

use akm_core::element::{Description, Protection};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::{GenerationSecrets, Kind, SynchronizedDataSet};
use rusqlite::{Connection, Row, ToSql, Transaction, params};

use super::columns::{self, words};
use super::relationships::{self, MemberState, RelationshipStatus};
use super::{Store, StoreError, all, ceremonies, first};
use crate::names::{Name, Timestamp};

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
    /// The target, in normal form.
    pub target: String,
    /// Configuration for the operator's ssh.
    pub ssh_config: Option<PathBuf>,
    /// The element, in the words of the command line.
    pub element_spec: String,
    /// Where the stack listens.
    pub listen: Option<String>,
    /// Where the module reaches it.
    pub endpoint: Option<String>,
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
    /// The target, in normal form.
    pub target: String,
    /// Configuration for the operator's ssh.
    pub ssh_config: Option<PathBuf>,
    /// The element, in the words of the command line.
    pub element_spec: String,
    /// Where the stack listens, once chosen.
    pub listen: Option<String>,
    /// Where the module reaches it, once chosen.
    pub endpoint: Option<String>,
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
    /// The target, in normal form.
    pub target: String,
    /// Configuration for the operator's ssh.
    pub ssh_config: Option<PathBuf>,
    /// The element as it is called there.
    pub element_spec: String,
    /// Where the stack listens.
    pub listen: String,
    /// Where the module reaches it.
    pub endpoint: String,
    /// The stack, if the operator chose another.
    pub stack: Option<PathBuf>,
}

impl Store {
    /// Steps 1 and 2 of a ceremony: the node, its provisioning relationship with both members
    /// pending, and the ceremony itself.
    ///
    /// [`StoreError::Exists`] if the name is taken, unless by the node that this one replaces, or if
    /// that one is being replaced already.
    pub fn create_node(
        &self,
        node: &NewNode,
        sds: &SynchronizedDataSet,
        secrets: &GenerationSecrets,
    ) -> Result<(), StoreError> {
        if sds.kind() != Kind::Provisioning || sds.members() != [self.module().root, node.id] {
            let why = "a provisioning relationship binds the root of this module and the node";
            return Err(StoreError::refused(why));
        }
        self.write(|transaction| {
            if let Some(old) = node.replaces {
                check_replaceable(transaction, old)?;
            }
            let holder = find_by_name(transaction, &node.name)?.map(|holder| holder.id);
            if holder.is_some() && holder != node.replaces {
                return Err(StoreError::Exists { what: format!("node {}", node.name) });
            }
            relationships::insert(transaction, self.vault(), None, sds, secrets, node.created_at)?;
            insert(transaction, node, sds.relationship(), holder.is_none())?;
            ceremonies::begin(transaction, node.id, node.created_at)
        })
    }

    /// A node by its AKM ID, whatever its status.
    pub fn node_by_id(&self, id: AkmId) -> Result<Option<Node>, StoreError> {
        self.read(|connection| find(connection, id))
    }

    /// The node that holds a name: never one that was replaced or removed.
    pub fn node_by_name(&self, name: &Name) -> Result<Option<Node>, StoreError> {
        self.read(|connection| find_by_name(connection, name))
    }

    /// The nodes in force on a target, oldest first: two while one replaces the other.
    pub fn nodes_by_target(&self, target: &str) -> Result<Vec<Node>, StoreError> {
        self.select(
            "target = ? AND status IN ('provisioning', 'active', 'removing') ORDER BY sequence",
            &[&target],
        )
    }

    /// The node whose element has this identity, active or being removed. There is at most one.
    pub fn node_by_element_identity(
        &self,
        manufacturer: &str,
        serial: &str,
    ) -> Result<Option<Node>, StoreError> {
        self.read(|connection| find_by_element(connection, manufacturer, serial))
    }

    /// The nodes in force, in the order in which they were made.
    pub fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        self.select("status IN ('provisioning', 'active', 'removing') ORDER BY sequence", &[])
    }

    /// The nodes that were replaced or removed, in the order in which they were made.
    pub fn former_nodes(&self) -> Result<Vec<Node>, StoreError> {
        self.select("status IN ('replaced', 'removed') ORDER BY sequence", &[])
    }

    /// Records where the stack listens and where the module reaches it.
    pub fn save_addresses(&self, id: AkmId, listen: &str, endpoint: &str) -> Result<(), StoreError> {
        self.update(id, "listen = ?, endpoint = ?", &[&listen, &endpoint])
    }

    /// Takes over what the operator gave anew for a ceremony that goes on.
    pub fn revise_node(
        &self,
        id: AkmId,
        listen: Option<&str>,
        endpoint: Option<&str>,
        stack: Option<&Path>,
    ) -> Result<(), StoreError> {
        self.update(
            id,
            "listen = COALESCE(?, listen), endpoint = COALESCE(?, endpoint), stack = COALESCE(?, stack)",
            &[&listen, &endpoint, &stack.map(columns::path_bytes)],
        )
    }

    /// An element that was filled here has come into its target.
    ///
    /// Refused if the state of the node may be at another target already: after step 3.
    pub fn settle_node(&self, id: AkmId, settled: &Settled) -> Result<(), StoreError> {
        self.write(|transaction| {
            let node = require(transaction, id)?;
            if node.target != settled.target && ceremonies::is_at_target(transaction, id)? {
                return Err(StoreError::refused(format!("the state of node {id} is at {}", node.target)));
            }
            transaction.execute(
                "UPDATE nodes SET target = ?, ssh_config = ?, element_spec = ?, listen = ?, endpoint = ?,
                     stack = COALESCE(?, stack) WHERE id = ?",
                params![
                    settled.target,
                    settled.ssh_config.as_deref().map(columns::path_bytes),
                    settled.element_spec,
                    settled.listen,
                    settled.endpoint,
                    settled.stack.as_deref().map(columns::path_bytes),
                    id.as_bytes(),
                ],
            )?;
            Ok(())
        })
    }

    /// Records the stack that is installed.
    pub fn save_stack(&self, id: AkmId, stack: &Path, version: &str) -> Result<(), StoreError> {
        self.update(id, "stack = ?, stack_version = ?", &[&columns::path_bytes(stack), &version])
    }

    /// Records what the element says of itself.
    pub fn save_element(&self, id: AkmId, element: &Description) -> Result<(), StoreError> {
        self.update(
            id,
            "element_kind = ?, element_manufacturer = ?, element_serial = ?, element_firmware = ?,
             element_protection = ?, element_sealed = ?, element_counter = ?",
            &[
                &element.kind,
                &element.manufacturer,
                &element.serial,
                &element.firmware,
                &protection_word(element.protection),
                &element.sealed,
                &element.counter,
            ],
        )
    }

    /// Records the integrity code that the node must show.
    pub fn save_integrity_code(&self, id: AkmId, code: &[u8; 32]) -> Result<(), StoreError> {
        self.update(id, "integrity_code = ?", &[code])
    }

    /// Records that an active node was verified again.
    pub fn mark_verified(&self, id: AkmId, at: Timestamp) -> Result<(), StoreError> {
        self.update(id, "verified_at = ?", &[&at.as_unix_millis()])
    }

    /// Step 5 is complete: node and provisioning relationship are active and the ceremony ends.
    ///
    /// Refused before step 4, and if the node replaces one that is in force: then
    /// [`Store::replace_node`] does both. [`StoreError::Exists`] if another active node has the same
    /// element. Repeating it only notes that the node was verified.
    pub fn activate_node(&self, id: AkmId, at: Timestamp) -> Result<(), StoreError> {
        self.write(|transaction| {
            let node = require(transaction, id)?;
            let old = node.replaces.map(|old| require(transaction, old)).transpose()?;
            if let Some(old) = old.filter(|old| old.status.is_in_force()) {
                return Err(StoreError::refused(format!("node {id} has to replace node {}", old.id)));
            }
            activate(transaction, &node, at)
        })
    }

    /// Like [`Store::activate_node`], for a node that replaces `old`: that one becomes `replaced`,
    /// its provisioning relationship ends, and its name is free or passes over.
    ///
    /// Its ASRs stay as they are; the caller says what becomes of them.
    pub fn replace_node(&self, old: AkmId, new: AkmId, at: Timestamp) -> Result<(), StoreError> {
        self.write(|transaction| {
            let node = require(transaction, new)?;
            if node.replaces != Some(old) {
                return Err(StoreError::refused(format!("node {new} does not replace node {old}")));
            }
            let old = require(transaction, old)?;
            if old.status.is_in_force() {
                retire(transaction, &old, NodeStatus::Replaced, at)?;
            }
            activate(transaction, &node, at)
        })?;
        self.forget_log()
    }

    /// The removal of a node has begun; it takes part in nothing new. Repeating it changes nothing.
    ///
    /// Refused if the node is a member of an ASR, unless `as_member`.
    pub fn begin_removal(&self, id: AkmId, as_member: bool) -> Result<(), StoreError> {
        self.write(|transaction| {
            let node = require(transaction, id)?;
            match node.status {
                NodeStatus::Active if !as_member && relationships::is_in_asr(transaction, id)? => {
                    Err(StoreError::refused(format!("node {} became a member of an ASR", node.name)))
                }
                NodeStatus::Active | NodeStatus::Removing => {
                    set_status(transaction, id, NodeStatus::Removing)
                }
                status => Err(StoreError::refused(format!("node {} is {status}", node.name))),
            }
        })
    }

    /// Removes a node: its provisioning relationship ends, its secrets are erased, its name is free.
    /// Repeating it changes nothing. Its ASRs stay as they are.
    ///
    /// It is the module's side only; what the node itself still holds is for the caller to erase.
    pub fn remove_node(&self, id: AkmId, at: Timestamp) -> Result<(), StoreError> {
        self.write(|transaction| {
            let node = require(transaction, id)?;
            if node.status.is_in_force() {
                retire(transaction, &node, NodeStatus::Removed, at)?;
            }
            Ok(())
        })?;
        self.forget_log()
    }

    fn select(&self, condition: &str, parameters: &[&dyn ToSql]) -> Result<Vec<Node>, StoreError> {
        let sql = format!("SELECT * FROM nodes WHERE {condition}");
        self.read(|connection| all(connection, &sql, parameters, parse))
    }

    fn update(&self, id: AkmId, columns: &str, values: &[&dyn ToSql]) -> Result<(), StoreError> {
        let sql = format!("UPDATE nodes SET {columns} WHERE id = ?");
        let id_bytes = id.as_bytes();
        let mut parameters = values.to_vec();
        parameters.push(&id_bytes);
        self.write(|transaction| match transaction.execute(&sql, &parameters[..])? {
            0 => Err(unknown(id)),
            _ => Ok(()),
        })
    }
}

pub(super) fn require(connection: &Connection, id: AkmId) -> Result<Node, StoreError> {
    find(connection, id)?.ok_or_else(|| unknown(id))
}

pub(super) fn unknown(id: AkmId) -> StoreError {
    StoreError::refused(format!("this module knows no node {id}"))
}

fn check_replaceable(transaction: &Transaction<'_>, old: AkmId) -> Result<(), StoreError> {
    let old = require(transaction, old)?;
    if !old.status.is_in_force() {
        return Err(StoreError::refused(format!("node {} is {}", old.name, old.status)));
    }
    let sql = "SELECT id FROM nodes WHERE replaces = ? AND status = 'provisioning'";
    match first(transaction, sql, [old.id.as_bytes()], |row| columns::akm_id(row, "id"))? {
        Some(id) => Err(StoreError::Exists { what: format!("node {id}, which replaces {},", old.name) }),
        None => Ok(()),
    }
}

fn insert(
    transaction: &Transaction<'_>,
    node: &NewNode,
    relationship: RelationshipId,
    holds_name: bool,
) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO nodes (id, name, holds_name, status, target, ssh_config, element_spec, listen,
             endpoint, stack, station, relationship, replaces, created_at)
         VALUES (?, ?, ?, 'provisioning', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            node.id.as_bytes(),
            node.name.as_str(),
            holds_name,
            node.target,
            node.ssh_config.as_deref().map(columns::path_bytes),
            node.element_spec,
            node.listen,
            node.endpoint,
            node.stack.as_deref().map(columns::path_bytes),
            node.station.as_deref().map(columns::path_bytes),
            relationship.as_bytes(),
            node.replaces.as_ref().map(AkmId::as_bytes),
            node.created_at.as_unix_millis(),
        ],
    )?;
    Ok(())
}

fn activate(transaction: &Transaction<'_>, node: &Node, at: Timestamp) -> Result<(), StoreError> {
    if !matches!(node.status, NodeStatus::Provisioning | NodeStatus::Active) {
        return Err(StoreError::refused(format!("node {} is {}", node.name, node.status)));
    }
    if let Some(element) = &node.element {
        let twin = find_by_element(transaction, &element.manufacturer, &element.serial)?;
        if let Some(twin) = twin.filter(|twin| twin.id != node.id) {
            let what = format!("an active node with this element ({})", twin.name);
            return Err(StoreError::Exists { what });
        }
    }
    // A node that replaces another gets its name only here, and somebody may have been faster.
    if find_by_name(transaction, &node.name)?.is_some_and(|holder| holder.id != node.id) {
        return Err(StoreError::Exists { what: format!("node {}", node.name) });
    }
    ceremonies::finish(transaction, node.id, at)?;
    relationships::set_all_members(transaction, node.relationship, MemberState::Active)?;
    relationships::advance(transaction, node.relationship, RelationshipStatus::Active)?;
    transaction.execute(
        "UPDATE nodes SET status = 'active', holds_name = 1, station = NULL, verified_at = ? WHERE id = ?",
        params![at.as_unix_millis(), node.id.as_bytes()],
    )?;
    Ok(())
}

/// The node is no longer in force: its name is free and its provisioning relationship over.
fn retire(
    transaction: &Transaction<'_>,
    node: &Node,
    status: NodeStatus,
    at: Timestamp,
) -> Result<(), StoreError> {
    transaction
        .execute("UPDATE nodes SET holds_name = 0, station = NULL WHERE id = ?", [node.id.as_bytes()])?;
    set_status(transaction, node.id, status)?;
    relationships::set_all_members(transaction, node.relationship, MemberState::Erased)?;
    relationships::end(transaction, node.relationship, at)?;
    transaction.execute("DELETE FROM absences WHERE node = ?", [node.id.as_bytes()])?;
    ceremonies::abandon(transaction, node.id, at)
}

fn set_status(transaction: &Transaction<'_>, id: AkmId, status: NodeStatus) -> Result<(), StoreError> {
    transaction
        .execute("UPDATE nodes SET status = ? WHERE id = ?", params![status.as_str(), id.as_bytes()])?;
    Ok(())
}

fn find(connection: &Connection, id: AkmId) -> Result<Option<Node>, StoreError> {
    first(connection, "SELECT * FROM nodes WHERE id = ?", [id.as_bytes()], parse)
}

fn find_by_name(connection: &Connection, name: &Name) -> Result<Option<Node>, StoreError> {
    let sql = "SELECT * FROM nodes WHERE name = ? AND holds_name = 1";
    first(connection, sql, [name.as_str()], parse)
}

fn find_by_element(
    connection: &Connection,
    manufacturer: &str,
    serial: &str,
) -> Result<Option<Node>, StoreError> {
    let sql = "SELECT * FROM nodes WHERE element_manufacturer = ? AND element_serial = ?
                   AND status IN ('active', 'removing')";
    first(connection, sql, [manufacturer, serial], parse)
}

fn parse(row: &Row<'_>) -> Result<Node, StoreError> {
    Ok(Node {
        id: columns::akm_id(row, "id")?,
        name: columns::name(row, "name")?,
        status: NodeStatus::from_column(row, "status")?,
        target: row.get("target")?,
        ssh_config: columns::optional_path(row, "ssh_config")?,
        element_spec: row.get("element_spec")?,
        listen: row.get("listen")?,
        endpoint: row.get("endpoint")?,
        stack: columns::optional_path(row, "stack")?,
        stack_version: row.get("stack_version")?,
        integrity_code: row.get("integrity_code")?,
        relationship: columns::relationship_id(row, "relationship")?,
        element: parse_element(row)?,
        station: columns::optional_path(row, "station")?,
        replaces: columns::optional_akm_id(row, "replaces")?,
        created_at: columns::timestamp(row, "created_at")?,
        verified_at: columns::optional_timestamp(row, "verified_at")?,
    })
}

fn parse_element(row: &Row<'_>) -> Result<Option<Description>, StoreError> {
    let Some(kind) = row.get("element_kind")? else { return Ok(None) };
    let protection: String = row.get("element_protection")?;
    Ok(Some(Description {
        kind,
        manufacturer: row.get("element_manufacturer")?,
        serial: row.get("element_serial")?,
        firmware: row.get("element_firmware")?,
        protection: match protection.as_str() {
            "hardware" => Protection::Hardware,
            "software" => Protection::Software,
            _ => return Err(StoreError::damaged("element_protection")),
        },
        sealed: row.get("element_sealed")?,
        counter: row.get("element_counter")?,
    }))
}

fn protection_word(protection: Protection) -> &'static str {
    match protection {
        Protection::Hardware => "hardware",
        Protection::Software => "software",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{AT, Fixture, LATER, element};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_begins_with_steps_one_and_two_complete_and_reads_back_after_reopening() {
        let fixture = Fixture::new();
        let mut new = fixture.new_node("pump");
        new.ssh_config = Some("/etc/ssh/odd \u{e4}".into());
        new.stack = Some("/opt/stack".into());
        let (sds, secrets) = fixture.provisioning(new.id);
        fixture.store.create_node(&new, &sds, &secrets).unwrap();

        let store = fixture.reopen();
        let node = store.node_by_name(&name("pump")).unwrap().unwrap();
        assert_eq!(store.node_by_id(new.id).unwrap().as_ref(), Some(&node));
        assert_eq!(store.nodes().unwrap(), std::slice::from_ref(&node));
        let expected = Node {
            id: new.id,
            name: new.name,
            status: NodeStatus::Provisioning,
            target: new.target,
            ssh_config: new.ssh_config,
            element_spec: new.element_spec,
            listen: new.listen,
            endpoint: new.endpoint,
            stack: new.stack,
            stack_version: None,
            integrity_code: None,
            relationship: sds.relationship(),
            element: None,
            station: None,
            replaces: None,
            created_at: AT,
            verified_at: None,
        };
        assert_eq!(node, expected);
        let relationship = store.relationship(node.relationship).unwrap().unwrap();
        assert_eq!(relationship.status, RelationshipStatus::Creating);
        assert!(relationship.members.iter().all(|member| member.state == MemberState::Pending));
        assert_eq!(store.ceremony(node.id).unwrap().unwrap().completed, 2);
    }

    #[test]
    fn what_is_learnt_on_the_way_is_kept() {
        let fixture = Fixture::new();
        let id = fixture.create_node("a").id;
        let store = &fixture.store;
        store.save_addresses(id, "127.0.0.1:4711", "localhost:4711").unwrap();
        store.save_stack(id, Path::new("/opt/stack"), "0.1.0").unwrap();
        store.save_element(id, &element("7")).unwrap();
        store.save_integrity_code(id, &[3; 32]).unwrap();
        let node = store.node_by_id(id).unwrap().unwrap();
        assert_eq!(node.listen.as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(node.endpoint.as_deref(), Some("localhost:4711"));
        assert_eq!(node.stack.as_deref(), Some(Path::new("/opt/stack")));
        assert_eq!(node.stack_version.as_deref(), Some("0.1.0"));
        assert_eq!(node.element, Some(element("7")));
        assert_eq!(node.integrity_code, Some([3; 32]));
        let stranger = AkmId::from_random([9; 16]);
        assert!(matches!(store.save_integrity_code(stranger, &[3; 32]), Err(StoreError::Refused { .. })));
    }

    #[test]
    fn a_name_is_free_again_only_when_its_node_is_removed() {
        let fixture = Fixture::new();
        let first = fixture.create_node("a");
        let (new, sds, secrets) = fixture.prepared("a");
        let again = || fixture.store.create_node(&new, &sds, &secrets);
        assert_eq!(again().unwrap_err().to_string(), "node a exists already");
        assert_eq!(fixture.store.relationship(sds.relationship()).unwrap(), None);

        fixture.store.remove_node(first.id, LATER).unwrap();
        again().unwrap();
        assert_eq!(fixture.store.node_by_name(&name("a")).unwrap().unwrap().id, new.id);
        assert_eq!(fixture.store.former_nodes().unwrap()[0].id, first.id);
    }

    #[test]
    fn an_error_in_the_middle_of_creating_leaves_nothing() {
        let fixture = Fixture::new();
        let first = fixture.create_node("a");
        let mut new = fixture.new_node("b");
        new.id = first.id;
        let (sds, secrets) = fixture.provisioning(first.id);
        assert!(fixture.store.create_node(&new, &sds, &secrets).is_err(), "the AKM ID is used");
        assert_eq!(fixture.store.relationship(sds.relationship()).unwrap(), None);
        assert_eq!(fixture.count("relationship_members"), 2);
        assert_eq!(fixture.store.nodes().unwrap(), [first]);
    }

    #[test]
    fn a_relationship_of_another_kind_or_with_others_is_refused() {
        let fixture = Fixture::new();
        let new = fixture.new_node("a");
        let other = AkmId::from_random([9; 16]);
        let root = fixture.store.module().root;
        for (kind, members) in [
            (Kind::Communication, [root, new.id]),
            (Kind::Provisioning, [other, new.id]),
            (Kind::Provisioning, [root, other]),
        ] {
            let (sds, secrets) = fixture.generation(kind, &members);
            let outcome = fixture.store.create_node(&new, &sds, &secrets);
            assert!(matches!(outcome, Err(StoreError::Refused { .. })));
        }
    }

    #[test]
    fn a_node_becomes_active_with_its_relationship_and_not_before_step_four() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let node = fixture.create_node("a");
        assert!(matches!(store.activate_node(node.id, LATER), Err(StoreError::Refused { .. })));
        let relationship = || store.relationship(node.relationship).unwrap().unwrap();
        assert_eq!(relationship().members[1].state, MemberState::Pending);

        store.complete_step(node.id, 3).unwrap();
        store.complete_step(node.id, 4).unwrap();
        for _ in 0..2 {
            store.activate_node(node.id, LATER).unwrap();
        }
        let active = store.node_by_id(node.id).unwrap().unwrap();
        assert_eq!((active.status, active.verified_at), (NodeStatus::Active, Some(LATER)));
        assert_eq!(relationship().status, RelationshipStatus::Active);
        assert!(relationship().members.iter().all(|member| member.state == MemberState::Active));
        let ceremony = store.ceremony(node.id).unwrap().unwrap();
        assert_eq!((ceremony.completed, ceremony.ended_at), (5, Some(LATER)));
    }

    #[test]
    fn a_target_is_chosen_anew_until_the_node_may_be_there() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let id = fixture.create_node("a").id;
        let settle = |target: &str| {
            store.settle_node(
                id,
                &Settled {
                    target: target.to_owned(),
                    ssh_config: None,
                    element_spec: "card:any".to_owned(),
                    listen: "192.0.2.1:47100".to_owned(),
                    endpoint: "192.0.2.1:47100".to_owned(),
                    stack: None,
                },
            )
        };
        settle("local:/one").unwrap();
        settle("local:/two").unwrap();
        store.complete_step(id, 3).unwrap();
        assert!(matches!(settle("local:/one"), Err(StoreError::Refused { .. })));
        settle("local:/two").unwrap();
        assert_eq!(store.node_by_id(id).unwrap().unwrap().target, "local:/two");
    }

    #[test]
    fn one_element_is_one_active_node() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let (a, b) = (fixture.create_node("a"), fixture.create_node("b"));
        for node in [&a, &b] {
            store.save_element(node.id, &element("7")).unwrap();
        }
        assert_eq!(store.node_by_element_identity("AKM", "7").unwrap(), None);
        fixture.activate(&a);
        assert_eq!(store.node_by_element_identity("AKM", "7").unwrap().unwrap().id, a.id);
        assert_eq!(store.node_by_element_identity("AKM", "8").unwrap(), None);

        store.complete_step(b.id, 3).unwrap();
        store.complete_step(b.id, 4).unwrap();
        let error = store.activate_node(b.id, LATER).unwrap_err();
        assert_eq!(error.to_string(), "an active node with this element (a) exists already");
        assert_eq!(store.node_by_id(b.id).unwrap().unwrap().status, NodeStatus::Provisioning);
        store.remove_node(a.id, LATER).unwrap();
        store.activate_node(b.id, LATER).unwrap();
    }

    #[test]
    fn a_device_provisioned_again_and_again_is_one_node_of_one_name() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let mut old = fixture.active_node("a");
        for _ in 0..3 {
            let (mut new, sds, secrets) = fixture.prepared("a");
            new.replaces = Some(old.id);
            store.create_node(&new, &sds, &secrets).unwrap();
            assert_eq!(store.node_by_name(&name("a")).unwrap().unwrap().id, old.id, "until it is active");
            assert_eq!(store.nodes_by_target(&new.target).unwrap().len(), 2);
            let (mut third, sds, secrets) = fixture.prepared("a");
            third.replaces = Some(old.id);
            let doubled = store.create_node(&third, &sds, &secrets);
            assert!(matches!(doubled, Err(StoreError::Exists { .. })));

            store.save_element(new.id, &element("a")).unwrap();
            assert!(matches!(store.replace_node(old.id, new.id, LATER), Err(StoreError::Refused { .. })));
            assert_eq!(store.node_by_id(old.id).unwrap().unwrap().status, NodeStatus::Active);
            store.complete_step(new.id, 3).unwrap();
            store.complete_step(new.id, 4).unwrap();
            assert!(matches!(store.activate_node(new.id, LATER), Err(StoreError::Refused { .. })));
            for _ in 0..2 {
                store.replace_node(old.id, new.id, LATER).unwrap();
            }

            let replaced = store.node_by_id(old.id).unwrap().unwrap();
            assert_eq!(replaced.status, NodeStatus::Replaced);
            let ended = store.relationship(old.relationship).unwrap().unwrap();
            assert_eq!(ended.status, RelationshipStatus::Ended);
            let left = store.secrets(old.relationship).unwrap();
            assert!(left.element_root.is_none() && left.tree_root.is_none() && left.header.is_none());
            old = store.node_by_name(&name("a")).unwrap().unwrap();
            assert_eq!((old.id, old.status), (new.id, NodeStatus::Active));
        }
        assert_eq!(store.nodes().unwrap(), [old]);
        assert_eq!(store.former_nodes().unwrap().len(), 3);
        assert!(store.unfinished_ceremonies().unwrap().is_empty());
    }

    #[test]
    fn a_replacement_does_not_take_a_name_that_went_to_another_node_meanwhile() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let old = fixture.active_node("a");
        let (mut new, sds, secrets) = fixture.prepared("a");
        new.replaces = Some(old.id);
        store.create_node(&new, &sds, &secrets).unwrap();
        store.complete_step(new.id, 3).unwrap();
        store.complete_step(new.id, 4).unwrap();
        store.remove_node(old.id, LATER).unwrap();
        let other = fixture.create_node("a");
        for outcome in [store.activate_node(new.id, LATER), store.replace_node(old.id, new.id, LATER)] {
            assert!(matches!(outcome, Err(StoreError::Exists { .. })));
        }
        store.remove_node(other.id, LATER).unwrap();
        store.activate_node(new.id, LATER).unwrap();
        assert_eq!(store.node_by_name(&name("a")).unwrap().unwrap().id, new.id);
    }

    #[test]
    fn a_removed_node_leaves_no_secret_and_never_comes_back() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let node = fixture.active_node("a");
        store.save_place(node.relationship, 1, b"place").unwrap();
        for _ in 0..2 {
            store.begin_removal(node.id, false).unwrap();
        }
        assert_eq!(store.node_by_id(node.id).unwrap().unwrap().status, NodeStatus::Removing);
        for _ in 0..2 {
            store.remove_node(node.id, LATER).unwrap();
        }
        assert_eq!(store.node_by_id(node.id).unwrap().unwrap().status, NodeStatus::Removed);
        assert_eq!(store.node_by_name(&name("a")).unwrap(), None);
        assert!(store.secrets(node.relationship).unwrap().element_root.is_none());
        assert_eq!(store.load_place(node.relationship, 1).unwrap(), None);
        let late = store.save_place(node.relationship, 1, b"place");
        for refused in [store.activate_node(node.id, LATER), store.begin_removal(node.id, true), late] {
            assert!(matches!(refused, Err(StoreError::Refused { .. })));
        }
    }
}
