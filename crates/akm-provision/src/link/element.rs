//! The module's own element: its half of each provisioning relationship, out of store and vault.

use std::collections::BTreeMap;
use std::fmt;

use akm_core::element::{ElementError, Label, Root, RootCheck, SecureElement};
use akm_core::keys::{CONTEXT_LENGTH, element_function};
use akm_core::secret::Secret;

use crate::store::{Store, StoreError};

/// The module's side of the element function.
///
/// Element roots are looked up in the store, opened, and kept until this is dropped, which wipes
/// them: one command asks for the same root many times. It does not see what another command
/// changes meanwhile, so make it after the lock of the relationship is taken.
pub struct VaultElement<'a> {
    store: &'a Store,
    opened: BTreeMap<Root, Secret<32>>,
}

impl<'a> VaultElement<'a> {
    /// Makes the element of the module that this store belongs to.
    pub fn new(store: &'a Store) -> Self {
        Self { store, opened: BTreeMap::new() }
    }

    fn opened(&mut self, root: Root) -> Result<&Secret<32>, ElementError> {
        let Root::Relationship { id, version, check } = root else {
            return Ok(self.store.vault().device_key());
        };
        if !self.opened.contains_key(&root) {
            let key = self.store.element_root(id, version).map_err(blame)?;
            let key = key.filter(|key| RootCheck::of(key) == check).ok_or(ElementError::NoSuchRoot)?;
            self.opened.insert(root, key);
        }
        Ok(&self.opened[&root])
    }
}

impl SecureElement for VaultElement<'_> {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        if context.len() > CONTEXT_LENGTH {
            return Err(ElementError::Refused("the context is longer than 32 bytes".to_owned()));
        }
        Ok(element_function(self.opened(root)?.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        getrandom::fill(out).map_err(|error| ElementError::Unavailable(error.to_string()))
    }
}

impl fmt::Debug for VaultElement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultElement").field("opened", &self.opened.len()).finish_non_exhaustive()
    }
}

fn blame(error: StoreError) -> ElementError {
    match error {
        StoreError::Damaged { .. } => ElementError::Damaged(error.to_string()),
        other => ElementError::Unavailable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::Fixture;

    #[test]
    fn it_computes_the_element_function_under_the_root_in_the_store() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a");
        let key = fixture.store.element_root(node.relationship, 1).unwrap().unwrap();
        let expected = element_function(key.expose(), b"akm1 identify", b"context");
        let root = Root::Relationship { id: node.relationship, version: 1, check: RootCheck::of(&key) };
        let mut element = VaultElement::new(&fixture.store);
        for _ in 0..2 {
            assert!(element.derive(root, Label::Identify, b"context").unwrap().equals(expected.expose()));
        }
        assert_eq!(format!("{element:?}"), "VaultElement { opened: 1, .. }");
    }

    #[test]
    fn a_root_that_the_store_does_not_hold_is_no_such_root() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a");
        let key = fixture.store.element_root(node.relationship, 1).unwrap().unwrap();
        let mut element = VaultElement::new(&fixture.store);
        for (version, check) in [(2, RootCheck::of(&key)), (1, RootCheck([0; 4]))] {
            let root = Root::Relationship { id: node.relationship, version, check };
            assert_eq!(element.derive(root, Label::Epoch, &[]).unwrap_err(), ElementError::NoSuchRoot);
        }
    }

    #[test]
    fn the_device_key_is_the_same_after_reopening_and_another_in_another_module() {
        let derive = |store: &Store| {
            VaultElement::new(store).derive(Root::Device, Label::Seal, &0u64.to_be_bytes()).unwrap()
        };
        let fixture = Fixture::new();
        let first = derive(&fixture.store);
        assert!(derive(&fixture.reopen()).equals(first.expose()));
        assert!(!derive(&Fixture::new().store).equals(first.expose()));
    }

    #[test]
    fn a_context_that_is_too_long_is_refused() {
        let fixture = Fixture::new();
        let derived = VaultElement::new(&fixture.store).derive(Root::Device, Label::Seal, &[0; 33]);
        assert!(matches!(derived, Err(ElementError::Refused(_))));
    }
}
