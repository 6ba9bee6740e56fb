//! Generations at a node: what is kept, handed on and erased.

use alloc::collections::BTreeSet;
use core::time::Duration;

use akm_core::management::{ActivateRequest, Operation, Outcome};

use super::fixture::*;
use super::routing::pair;
use crate::Verdict;

fn activate(plant: &mut Plant, generation: u32) -> Outcome {
    let body = ActivateRequest { relationship: relationship(ASR), generation, follow: false }.emit();
    plant.manage(Operation::Activate, &body).outcome
}

#[test]
fn the_one_before_is_open_for_its_overlap_and_then_erased_and_its_root_goes_on() {
    let (first, [mut a, mut b]) = pair();
    let second = issue(ASR, 2, 1, &[0, 1], Some(&first));
    assert_eq!(a.installs(&second, false), Outcome::Done);
    assert_eq!(a.generations(), BTreeSet::from([1, 2]));
    assert_eq!(activate(&mut a, 2), Outcome::Done);
    b.says(b"in flight");
    let frame = b.sent().remove(0);
    a.take_came();
    a.hears(1, &frame);
    assert_eq!(a.heard(), [b"in flight"]);
    a.live(Duration::from_secs(10));
    assert_eq!(a.generations(), BTreeSet::from([2]));
    assert!(!a.disk.contains_key(&(relationship(ASR), 1)));
    assert!(a.element.roots.contains_key(&second.name()));
    a.take_came();
    b.says(b"late");
    let frame = b.sent().remove(0);
    a.hears(1, &frame);
    assert!(a.take_came().contains(&Came::Seen(Verdict::OldGeneration)));
    a.live(Duration::ZERO);
    assert_eq!(a.sent().len(), 1, "it is told");
}

#[test]
fn where_the_element_version_rose_the_one_before_ends_at_once_with_its_root() {
    let (first, [mut a, _]) = pair();
    let second = issue(ASR, 2, 2, &[0, 1], Some(&first));
    a.installs(&second, true);
    assert_eq!(activate(&mut a, 2), Outcome::Done);
    assert_eq!(a.generations(), BTreeSet::from([2]));
    assert!(!a.element.roots.contains_key(&first.name()));
    assert!(a.element.roots.contains_key(&second.name()));
}

#[test]
fn where_members_were_heard_goes_on_to_the_generation_that_follows() {
    let (first, [mut a, mut b]) = pair();
    let second = issue(ASR, 2, 1, &[0, 1], Some(&first));
    a.installs(&second, false);
    b.says(b"from elsewhere");
    let frame = b.sent().remove(0);
    a.hears(77, &frame);
    activate(&mut a, 2);
    a.take_came();
    a.says(b"to where it is");
    let came = a.take_came();
    assert!(
        matches!(&came[..], [.., Came::Sent(to, _), Came::Done(..)] if to[..] == [endpoint(77)]),
        "{came:?}"
    );
}

#[test]
fn a_start_goes_on_where_an_erasure_was_cut_off() {
    let (first, [mut a, _]) = pair();
    let second = issue(ASR, 2, 2, &[0, 1], Some(&first));
    a.installs(&second, true);
    a.holds_writes = true;
    let body = ActivateRequest { relationship: relationship(ASR), generation: 2, follow: false }.emit();
    a.request(1, Operation::Activate, &body);
    a.written();
    a.holds_writes = false;
    a.start();
    assert_eq!(a.generations(), BTreeSet::from([2]));
    assert!(!a.disk.contains_key(&(relationship(ASR), 1)));
    assert!(!a.element.roots.contains_key(&first.name()));
}
