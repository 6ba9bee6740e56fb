//! The PKCS#11 element wipes its PIN, and what it derives, before it gives memory back.
#![cfg(feature = "pkcs11")]

#[path = "../../akm-core/tests/support/freed.rs"]
mod freed;

use akm_core::element::{Label, Root, RootCheck};
use akm_core::id::RelationshipId;
use akm_core::secret::Secret;
use akm_counterparts::softhsm::{PIN, SoftHsm};
use akm_element::{ElementSpec, WrapKeys, wrap};
use freed::{check_wiped, record};

#[global_allocator]
static ALLOCATOR: freed::Keeping = freed::Keeping;

const KEY: [u8; 32] = *b"root of this test, nobody else's";

#[test]
fn an_element_leaves_neither_pin_nor_root_nor_value_in_freed_memory() {
    let Some(store) = SoftHsm::of_this_process() else {
        let store = SoftHsm::new();
        store.token("akm");
        let test = "an_element_leaves_neither_pin_nor_root_nor_value_in_freed_memory";
        let output = store.again(test).output().expect("the test again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    };
    let root =
        Root::Relationship { id: RelationshipId::from_random([1; 16]), version: 1, check: RootCheck([0; 4]) };
    let spec: ElementSpec = store.spec("akm").parse().expect("a spec");
    let (derived, freed) = record(|| {
        let mut element = spec.create(store.directory()).expect("an element");
        let material = element.prepare().expect("prepared");
        let key = Secret::take(&mut { KEY });
        let wrapped =
            wrap(root, &key, &element.description(), &material, &WrapKeys::default()).expect("wrapped");
        element.install(root, wrapped.expose()).expect("installed");
        element.derive(root, Label::Epoch, b"which").expect("a value")
    });
    check_wiped(
        &freed,
        &[
            ("the PIN".to_owned(), PIN.as_bytes().to_vec()),
            ("the root".to_owned(), KEY.to_vec()),
            ("the value".to_owned(), derived.expose().to_vec()),
        ],
    );
}
