//! The life of a node, from its first step to its end: each change is one transaction over all that hangs on it.

use akm_core::id::AkmId;
use akm_core::sds::{GenerationSecrets, Kind, SynchronizedDataSet};

use super::nodes::require;
use super::obstacle::{Obstacle, ObstacleNode, Occupied};
use super::rows::{absence, ceremony, member, node};
use super::sql::Sql;
use super::{
    MemberState, NewNode, Node, NodeStatus, RelationshipState, STEPS, Settled, Store, StoreError,
    relationships,
};
use crate::names::Timestamp;

/// The steps that are complete when a node and its relationship are saved.
const BEGUN: u8 = 2;

/// The step that brings a node to its target.
const INSTALL: u8 = 3;

impl Store {
    /// Steps 1 and 2 of a ceremony: the node, its provisioning relationship with both members
    /// pending, and the ceremony itself.
    ///
    /// [`StoreError::Exists`] if the name is taken, unless by the node that this one replaces, or if
    /// that one is being replaced already.
    pub fn create_node(
        &self,
        new: &NewNode,
        sds: &SynchronizedDataSet,
        secrets: &GenerationSecrets,
    ) -> Result<(), StoreError> {
        if sds.kind() != Kind::Provisioning || sds.members() != [self.module().root, new.id] {
            return Err(StoreError::refused(Obstacle::OtherMembers));
        }
        self.write(|sql| {
            if let Some(old) = new.replaces {
                check_replaceable(sql, old)?;
            }
            let holder = node::find_by_name(sql, &new.name)?.map(|holder| holder.id);
            if holder.is_some() && holder != new.replaces {
                return Err(Occupied::Node { name: new.name.clone() }.into());
            }
            relationships::insert(sql, self.vault(), None, sds, secrets, new.created_at)?;
            node::insert(sql, new, sds.relationship(), holder.is_none())?;
            ceremony::insert(sql, new.id, BEGUN, new.created_at)
        })
    }

    /// An element that was filled here has come into its target.
    ///
    /// Refused if the state of the node may be at another target already: after step 3.
    pub fn settle_node(&self, id: AkmId, settled: &Settled) -> Result<(), StoreError> {
        self.write(|sql| {
            let node = require(sql, id)?;
            if node.target != settled.target && is_at_target(sql, id)? {
                return Err(StoreError::refused(ObstacleNode::IsAt { node: id, target: node.target }));
            }
            node::settle(sql, id, settled)
        })
    }

    /// Step 5 is complete: node and provisioning relationship are active and the ceremony ends.
    ///
    /// Refused before step 4, and if the node replaces one that is in force: then
    /// [`Store::replace_node`] does both. [`StoreError::Exists`] if another active node has the same
    /// element. Repeating it only notes that the node was verified.
    pub fn activate_node(&self, id: AkmId, at: Timestamp) -> Result<(), StoreError> {
        self.write(|sql| {
            let node = require(sql, id)?;
            let old = node.replaces.map(|old| require(sql, old)).transpose()?;
            if let Some(old) = old.filter(|old| old.status.is_in_force()) {
                return Err(StoreError::refused(ObstacleNode::Replaces { node: id, old: old.id }));
            }
            activate(sql, &node, at)
        })
    }

    /// Like [`Store::activate_node`], for a node that replaces `old`: that one becomes `replaced`,
    /// its provisioning relationship ends, and its name is free or passes over.
    ///
    /// Its ASRs stay as they are; the caller says what becomes of them.
    pub fn replace_node(&self, old: AkmId, new: AkmId, at: Timestamp) -> Result<(), StoreError> {
        self.write(|sql| {
            let node = require(sql, new)?;
            if node.replaces != Some(old) {
                return Err(StoreError::refused(ObstacleNode::ReplacesNot { node: new, old }));
            }
            let old = require(sql, old)?;
            if old.status.is_in_force() {
                retire(sql, &old, NodeStatus::Replaced, at)?;
            }
            activate(sql, &node, at)
        })?;
        self.forget_log()
    }

    /// The removal of a node has begun; it takes part in nothing new. Repeating it changes nothing.
    ///
    /// Refused if the node is a member of an ASR, unless `as_member`.
    pub fn begin_removal(&self, id: AkmId, as_member: bool) -> Result<(), StoreError> {
        self.write(|sql| {
            let node = require(sql, id)?;
            match node.status {
                NodeStatus::Active if !as_member && member::is_in_asr(sql, id)? => {
                    Err(StoreError::refused(ObstacleNode::IsMember { name: node.name }))
                }
                NodeStatus::Active | NodeStatus::Removing => node::set_status(sql, id, NodeStatus::Removing),
                status => {
                    Err(StoreError::refused(ObstacleNode::Is { name: node.name, status: status.as_str() }))
                }
            }
        })
    }

    /// Removes a node: its provisioning relationship ends, its secrets are erased, its name is free.
    /// Repeating it changes nothing. Its ASRs stay as they are.
    ///
    /// It is the module's side only; what the node itself still holds is for the caller to erase.
    pub fn remove_node(&self, id: AkmId, at: Timestamp) -> Result<(), StoreError> {
        self.write(|sql| {
            let node = require(sql, id)?;
            if node.status.is_in_force() {
                retire(sql, &node, NodeStatus::Removed, at)?;
            }
            Ok(())
        })?;
        self.forget_log()
    }
}

fn check_replaceable(sql: Sql<'_>, old: AkmId) -> Result<(), StoreError> {
    let old = require(sql, old)?;
    if !old.status.is_in_force() {
        return Err(StoreError::refused(ObstacleNode::Is { name: old.name, status: old.status.as_str() }));
    }
    match node::find_replacing(sql, old.id)? {
        Some(node) => Err(Occupied::Replacing { node, old: old.name }.into()),
        None => Ok(()),
    }
}

fn activate(sql: Sql<'_>, node: &Node, at: Timestamp) -> Result<(), StoreError> {
    if !matches!(node.status, NodeStatus::Provisioning | NodeStatus::Active) {
        return Err(StoreError::refused(ObstacleNode::Is {
            name: node.name.clone(),
            status: node.status.as_str(),
        }));
    }
    if let Some(element) = &node.element {
        let twin = node::find_by_element(sql, &element.manufacturer, &element.serial)?;
        if let Some(twin) = twin.filter(|twin| twin.id != node.id) {
            return Err(Occupied::Element { holder: twin.name }.into());
        }
    }
    // A node that replaces another gets its name only here, and somebody may have been faster.
    if node::find_by_name(sql, &node.name)?.is_some_and(|holder| holder.id != node.id) {
        return Err(Occupied::Node { name: node.name.clone() }.into());
    }
    finish(sql, node.id, at)?;
    member::set_all(sql, node.relationship, MemberState::Active)?;
    relationships::advance(sql, node.relationship, RelationshipState::Active)?;
    node::activate(sql, node.id, at)
}

/// The node is no longer in force: its name is free and its provisioning relationship over.
fn retire(sql: Sql<'_>, node: &Node, status: NodeStatus, at: Timestamp) -> Result<(), StoreError> {
    node::retire(sql, node.id, status)?;
    member::set_all(sql, node.relationship, MemberState::Erased)?;
    relationships::end(sql, node.relationship, at)?;
    absence::forget(sql, node.id)?;
    ceremony::abandon(sql, node.id, at)
}

/// The node is verified, which completes the last step. Refused before the one before it.
fn finish(sql: Sql<'_>, node: AkmId, at: Timestamp) -> Result<(), StoreError> {
    let ceremony = ceremony::find(sql, node)?.ok_or_else(|| node::unknown(node))?;
    if ceremony.completed + 1 < STEPS {
        let (step, completed) = (STEPS, ceremony.completed);
        return Err(StoreError::refused(ObstacleNode::Step { node, step, completed }));
    }
    ceremony::finish(sql, node, at)
}

/// Whether the step is complete that brings a node to its target.
fn is_at_target(sql: Sql<'_>, node: AkmId) -> Result<bool, StoreError> {
    Ok(ceremony::find(sql, node)?.is_some_and(|ceremony| ceremony.completed >= INSTALL))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::names::Name;
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
        assert_eq!(relationship.status, RelationshipState::Creating);
        assert!(relationship.members.iter().all(|member| member.state == MemberState::Pending));
        assert_eq!(store.ceremony(node.id).unwrap().unwrap().completed, 2);
    }

    #[test]
    fn what_is_learnt_on_the_way_is_kept() {
        let fixture = Fixture::new();
        let id = fixture.create_node("a").id;
        let store = &fixture.store;
        let (listen, endpoint) = ("127.0.0.1:4711".parse().unwrap(), "localhost:4711".parse().unwrap());
        store.save_addresses(id, listen, &endpoint).unwrap();
        store.save_stack(id, Path::new("/opt/stack"), "0.1.0").unwrap();
        store.save_element(id, &element("7")).unwrap();
        store.save_integrity_code(id, &[3; 32]).unwrap();
        let node = store.node_by_id(id).unwrap().unwrap();
        assert_eq!(node.listen, Some(listen));
        assert_eq!(node.endpoint, Some(endpoint));
        assert_eq!(node.stack.as_deref(), Some(Path::new("/opt/stack")));
        assert_eq!(node.stack_version.as_deref(), Some("0.1.0"));
        assert_eq!(node.element, Some(element("7")));
        assert_eq!(node.integrity_code, Some([3; 32]));
        let stranger = AkmId::from_random([9; 16]);
        assert!(matches!(store.save_integrity_code(stranger, &[3; 32]), Err(StoreError::Refused(_))));
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
            assert!(matches!(outcome, Err(StoreError::Refused(_))));
        }
    }

    #[test]
    fn a_node_becomes_active_with_its_relationship_and_not_before_step_four() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let node = fixture.create_node("a");
        assert!(matches!(store.activate_node(node.id, LATER), Err(StoreError::Refused(_))));
        let relationship = || store.relationship(node.relationship).unwrap().unwrap();
        assert_eq!(relationship().members[1].state, MemberState::Pending);

        store.complete_step(node.id, 3).unwrap();
        store.complete_step(node.id, 4).unwrap();
        for _ in 0..2 {
            store.activate_node(node.id, LATER).unwrap();
        }
        let active = store.node_by_id(node.id).unwrap().unwrap();
        assert_eq!((active.status, active.verified_at), (NodeStatus::Active, Some(LATER)));
        assert_eq!(relationship().status, RelationshipState::Active);
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
                    target: target.parse().unwrap(),
                    ssh_config: None,
                    element_spec: "card:any".parse().unwrap(),
                    listen: "192.0.2.1:47100".parse().unwrap(),
                    endpoint: "192.0.2.1:47100".parse().unwrap(),
                    stack: None,
                },
            )
        };
        settle("local:/one").unwrap();
        settle("local:/two").unwrap();
        store.complete_step(id, 3).unwrap();
        assert!(matches!(settle("local:/one"), Err(StoreError::Refused(_))));
        settle("local:/two").unwrap();
        assert_eq!(store.node_by_id(id).unwrap().unwrap().target.to_string(), "local:/two");
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
            assert!(matches!(doubled, Err(StoreError::Exists(_))));

            store.save_element(new.id, &element("a")).unwrap();
            assert!(matches!(store.replace_node(old.id, new.id, LATER), Err(StoreError::Refused(_))));
            assert_eq!(store.node_by_id(old.id).unwrap().unwrap().status, NodeStatus::Active);
            store.complete_step(new.id, 3).unwrap();
            store.complete_step(new.id, 4).unwrap();
            assert!(matches!(store.activate_node(new.id, LATER), Err(StoreError::Refused(_))));
            for _ in 0..2 {
                store.replace_node(old.id, new.id, LATER).unwrap();
            }

            let replaced = store.node_by_id(old.id).unwrap().unwrap();
            assert_eq!(replaced.status, NodeStatus::Replaced);
            let ended = store.relationship(old.relationship).unwrap().unwrap();
            assert_eq!(ended.status, RelationshipState::Ended);
            let left = store.secrets(old.relationship).unwrap();
            assert!(left.element_root.is_none() && left.tree_root.is_none() && left.keys.is_none());
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
            assert!(matches!(outcome, Err(StoreError::Exists(_))));
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
            assert!(matches!(refused, Err(StoreError::Refused(_))));
        }
    }
}
