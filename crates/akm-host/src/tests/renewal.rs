//! Another generation of the provisioning relationship itself.

use akm_core::element::RootCheck;
use akm_core::management::{
    ActivateRequest, EraseRequest, Opaque, Operation, Outcome, PrepareRequest, StatusAnswer, StatusRequest,
};
use akm_core::proof::Proof;

use super::fixture::*;
use super::routing::pair;
use crate::{Input, Stream};

const OWN: u8 = 0x80;

fn status() -> alloc::vec::Vec<u8> {
    StatusRequest { after: None, most: 9 }.emit()
}

/// The generations of its provisioning relationship that a node holds on its disk.
fn held(plant: &Plant) -> alloc::vec::Vec<u32> {
    plant.disk.keys().filter(|(id, _)| *id == relationship(OWN)).map(|(_, generation)| *generation).collect()
}

#[test]
fn it_is_staged_until_the_first_frame_in_it_and_then_the_one_before_is_erased_with_its_streams() {
    let (_, [mut a, _]) = pair();
    let next = provisioning_in(0, 2, 2);
    let body = next.body(0, true);
    for _ in 0..2 {
        let response = a.manage(Operation::Install, &body);
        assert_eq!(response.outcome, Outcome::Done, "{}", response.reason);
        let receipt = Opaque::parse(&response.body).unwrap().0;
        let expected = Proof::receipt(next.sds.digest(), &next.secrets().host.digest(), &body);
        assert!(expected.by_root(&next.root()).equals(&receipt));
    }
    // The module goes on in the one before for as long as it likes, also after a start.
    assert_eq!(held(&a), [1, 2]);
    assert_eq!(a.manage(Operation::Status, &status()).outcome, Outcome::Done);
    a.start();
    a.module.streams.clear();
    let response = a.manage(Operation::Status, &status());
    let page = StatusAnswer::parse(&response.body).unwrap();
    let own = page.relationships.iter().find(|status| status.relationship == relationship(OWN)).unwrap();
    assert_eq!((own.generation, own.highest, own.element_version), (1, 2, 2));

    let before = core::mem::replace(&mut a.module, Module::of_generation(next.clone()));
    a.opens(1);
    assert_eq!(a.manage(Operation::Status, &status()).outcome, Outcome::Done, "on the same connection");
    assert_eq!(held(&a), [2]);
    assert!(!a.element.roots.contains_key(&provisioning(0).name()));
    assert!(a.element.roots.contains_key(&next.name()));

    a.module = before;
    let first = a.module.begin(7);
    a.says_over(7, &first);
    assert!(a.responses().is_empty(), "nobody is there any more");
    a.module = Module::of_generation(next);
    a.start();
    assert_eq!(held(&a), [2]);
}

#[test]
fn what_does_not_follow_the_one_that_is_held_is_refused() {
    let (_, [mut a, _]) = pair();
    let changed = |generation, version, at: u8| {
        let mut made = provisioning_in(at, generation, version);
        if at != 0 {
            made = provisioning_in(0, generation, version);
            made.sds = provisioning_with_other_members(generation, version);
        }
        made.install(0, true)
    };
    for (generation, version, outcome) in
        [(1, 2, Outcome::Conflict), (2, 1, Outcome::Conflict), (2, 2, Outcome::Done)]
    {
        let install = changed(generation, version, 0);
        let response = a.manage(Operation::Install, install.emit().expose());
        assert_eq!(response.outcome, outcome, "{generation} {version}: {}", response.reason);
    }
    let install = changed(3, 3, 1);
    assert_eq!(a.manage(Operation::Install, install.emit().expose()).outcome, Outcome::Conflict, "members");
    let mut without = provisioning_in(0, 4, 4).install(0, false);
    assert_eq!(a.manage(Operation::Install, without.emit().expose()).outcome, Outcome::NotHeld);
    without.root_check = RootCheck([1; 4]);
    assert_eq!(a.manage(Operation::Install, without.emit().expose()).outcome, Outcome::NotHeld);
    assert_eq!(held(&a), [1, 2]);
    // Another relationship of this kind, and one of another kind under this name.
    assert_eq!(a.installs(&other_provisioning(0), true), Outcome::Unsupported);
    assert_eq!(a.installs(&issue(OWN, 9, 9, &[0, 1], None), true), Outcome::Conflict);
    // Nothing but a frame begins it.
    let activate = ActivateRequest { relationship: relationship(OWN), generation: 2, follow: false };
    assert_eq!(a.manage(Operation::Activate, &activate.emit()).outcome, Outcome::Unsupported);
    let only = EraseRequest::Relationship(relationship(OWN));
    assert_eq!(a.manage(Operation::Erase, &only.emit()).outcome, Outcome::Conflict);
    let prepare = PrepareRequest { relationship: relationship(OWN), element_version: 5 };
    assert_eq!(a.manage(Operation::Prepare, &prepare.emit()).outcome, Outcome::Done);
}

#[test]
fn a_stack_that_ends_before_the_one_before_is_erased_goes_on_with_it() {
    let (_, [mut a, _]) = pair();
    let next = provisioning_in(0, 2, 2);
    assert_eq!(a.installs(&next, true), Outcome::Done);
    let first = {
        a.module = Module::of_generation(next.clone());
        a.module.begin(1)
    };
    a.holds_writes = true;
    a.says_over(1, &first);
    // Its place, and that it is active; then the process ends.
    a.written();
    a.written();
    a.holds_writes = false;
    a.start();
    assert_eq!(held(&a), [2]);
    assert!(!a.element.roots.contains_key(&provisioning(0).name()));
    a.input(Input::StreamClosed { stream: Stream(1) });
    a.request(2, Operation::Status, &status());
    assert_eq!(a.responses()[0].outcome, Outcome::Done);
}
