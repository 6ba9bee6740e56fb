//! How far each ceremony has come, and the journal of its attempts.

use akm_core::id::AkmId;

use super::nodes::require;
use super::obstacle::ObstacleNode;
use super::rows::{ceremony, journal, node};
use super::{Ceremony, JournalEntry, Node, STEPS, Store, StoreError};

impl Store {
    /// The ceremony of a node.
    pub fn ceremony(&self, node: AkmId) -> Result<Option<Ceremony>, StoreError> {
        self.read(|sql| ceremony::find(sql, node))
    }

    /// The ceremonies that have not come to their end, each with its node, oldest first.
    pub fn unfinished_ceremonies(&self) -> Result<Vec<(Node, Ceremony)>, StoreError> {
        self.read(|sql| {
            let unfinished = ceremony::unfinished(sql)?.into_iter();
            unfinished.map(|ceremony| Ok((require(sql, ceremony.node)?, ceremony))).collect()
        })
    }

    /// A step is complete. No step can be left out; completing one again changes nothing.
    ///
    /// Step 5 is completed by [`Store::activate_node`] or [`Store::replace_node`].
    pub fn complete_step(&self, id: AkmId, step: u8) -> Result<(), StoreError> {
        self.write(|sql| {
            let ceremony = ceremony::find(sql, id)?.ok_or_else(|| node::unknown(id))?;
            if step == 0 || step >= STEPS || step > ceremony.completed + 1 {
                let completed = ceremony.completed;
                return Err(StoreError::refused(ObstacleNode::Step { node: id, step, completed }));
            }
            ceremony::complete(sql, id, step)
        })
    }

    /// The attempt at the next step failed. `error` is for the operator and holds no secret.
    pub fn fail_step(&self, node: AkmId, error: &str) -> Result<(), StoreError> {
        self.write(|sql| ceremony::fail(sql, node, error))
    }

    /// Adds an entry to the journal, which is never rewritten.
    pub fn journal(&self, entry: &JournalEntry) -> Result<(), StoreError> {
        self.write(|sql| {
            require(sql, entry.node)?;
            journal::add(sql, entry)
        })
    }

    /// The journal of a node, in the order in which it was written.
    pub fn journal_of(&self, node: AkmId) -> Result<Vec<JournalEntry>, StoreError> {
        self.read(|sql| journal::of_node(sql, node))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::fixture::{AT, Fixture, LATER};

    #[test]
    fn steps_are_completed_in_order_and_repeating_changes_nothing() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a").id;
        let store = &fixture.store;
        assert_eq!(store.ceremony(node).unwrap().unwrap().completed, 2);
        for step in [0, 4, 5] {
            assert!(matches!(store.complete_step(node, step), Err(StoreError::Refused(_))), "{step}");
        }
        for step in [3, 3, 4, 3] {
            store.complete_step(node, step).unwrap();
        }
        assert!(matches!(store.complete_step(node, 5), Err(StoreError::Refused(_))));
        assert_eq!(store.ceremony(node).unwrap().unwrap().completed, 4);
    }

    #[test]
    fn the_last_error_stays_until_the_step_is_complete() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a").id;
        let last_error = || fixture.store.ceremony(node).unwrap().unwrap().last_error;
        fixture.store.fail_step(node, "no route to host").unwrap();
        assert_eq!(last_error().as_deref(), Some("no route to host"));
        fixture.store.complete_step(node, 3).unwrap();
        assert_eq!(last_error(), None);
    }

    #[test]
    fn ceremonies_are_unfinished_until_their_node_is_active_or_given_up() {
        let fixture = Fixture::new();
        let nodes = ["a", "b", "c"].map(|name| fixture.create_node(name));
        fixture.activate(&nodes[0]);
        fixture.store.remove_node(nodes[1].id, LATER).unwrap();
        let unfinished = fixture.reopen().unfinished_ceremonies().unwrap();
        assert_eq!(unfinished.len(), 1);
        assert_eq!(unfinished[0].0, nodes[2]);
        assert_eq!(unfinished[0].1.started_at, AT);
        let given_up = fixture.store.ceremony(nodes[1].id).unwrap().unwrap();
        assert_eq!((given_up.completed, given_up.ended_at), (2, Some(LATER)));
    }

    #[test]
    fn the_journal_keeps_every_attempt_in_order_and_is_not_rewritten() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a").id;
        let entry = |outcome: &str| JournalEntry {
            node,
            step: 3,
            name: "install".to_owned(),
            started_at: AT,
            duration: Duration::from_millis(1_234),
            outcome: outcome.to_owned(),
        };
        fixture.store.journal(&entry("no route to host")).unwrap();
        fixture.store.journal(&entry("done")).unwrap();
        assert_eq!(fixture.store.journal_of(node).unwrap(), [entry("no route to host"), entry("done")]);
        assert!(fixture.try_execute("UPDATE journal SET outcome = 'done'").is_err());
        assert!(fixture.try_execute("DELETE FROM journal").is_err());
        let stranger = AkmId::from_random([9; 16]);
        let refused = fixture.store.journal(&JournalEntry { node: stranger, ..entry("done") });
        assert!(matches!(refused, Err(StoreError::Refused(_))));
    }
}
