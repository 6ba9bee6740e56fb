//! What a module asks, and what the node answers.

use alloc::vec::Vec;

use akm_core::crypto::provider;
use akm_core::element::RootCheck;
use akm_core::id::AkmId;
use akm_core::management::{
    EraseRequest, IdentifyAnswer, IdentifyRequest, Level, NodeIdentity, Opaque, Operation, Outcome,
    ReportAnswer, ReportRequest, SetEndpoints, StatusAnswer, StatusRequest,
};
use akm_core::proof::Proof;
use akm_core::seal::HostPartSeal;
use akm_core::secret::Secret;

use super::fixture::*;
use super::routing::pair;
use crate::limits::REQUESTS_AT_ONCE;
use crate::{Event, Question, Refused, Stream, Wish};

#[test]
fn a_node_says_who_it_is_with_a_proof_of_its_element() {
    let (_, [mut a, _]) = pair();
    let response = a.manage(Operation::Identify, &IdentifyRequest { challenge: [4; 32] }.emit());
    let answer = IdentifyAnswer::parse(&response.body).unwrap();
    let identity = NodeIdentity::parse(&answer.identity).unwrap();
    assert_eq!((identity.node, identity.integrity), (node_id(0), [9; 32]));
    assert_eq!((identity.level, identity.holds_others), (Level::Factory, true));
    assert_ne!(answer.proof, [0; 32]);
}

#[test]
fn an_installed_generation_is_receipted_and_the_same_again_changes_nothing() {
    let (_, [mut a, _]) = pair();
    let other = issue(0x44, 1, 1, &[0, 1], None);
    for _ in 0..2 {
        let body = other.body(0, true);
        let response = a.manage(Operation::Install, &body);
        assert_eq!(response.outcome, Outcome::Done);
        let receipt = Opaque::parse(&response.body).unwrap().0;
        let expected = Proof::receipt(other.sds.digest(), &other.secrets().host.digest(), &body);
        assert!(expected.by_root(&other.root()).equals(&receipt));
    }
    assert_eq!(a.node.relationships().count(), 3);
    a.start();
    assert_eq!(a.node.relationships().count(), 3);
}

#[test]
fn what_cannot_be_written_is_not_installed_and_leaves_no_root() {
    let (_, [mut a, _]) = pair();
    let other = issue(0x44, 1, 1, &[0, 1], None);
    a.manage(Operation::Status, &StatusRequest { after: None, most: 1 }.emit());
    a.disk_is_full = true;
    assert_eq!(a.installs(&other, true), Outcome::Storage);
    assert!(!a.element.roots.contains_key(&other.name()));
    a.disk_is_full = false;
    assert_eq!(a.installs(&other, true), Outcome::Done);
}

#[test]
fn an_erased_relationship_is_gone_from_disk_and_element_and_wishes_that_wait_are_refused() {
    let (first, [mut a, _]) = pair();
    a.manage(Operation::Status, &StatusRequest { after: None, most: 1 }.emit());
    a.holds_answers = true;
    a.request(1, Operation::Erase, &EraseRequest::Relationship(relationship(ASR)).emit());
    while !matches!(a.asked[0].1, Question::Roots) {
        a.answer();
        a.pump();
    }
    a.says(b"too late");
    a.holds_answers = false;
    a.pump();
    let came = a.take_came();
    assert!(came.contains(&Came::Done(Wish(1), Err(Refused::NotHeld))), "{came:?}");
    assert!(came.contains(&Came::Event(Event::Erased)));
    assert!(a.disk.keys().all(|(id, _)| *id != relationship(ASR)));
    assert!(!a.element.roots.contains_key(&first.name()));
    assert_eq!(a.node.bytes_waiting(), 0);
}

#[test]
fn what_waited_for_a_write_is_refused_when_the_erasure_was_written_first() {
    let (_, [mut a, _]) = pair();
    a.manage(Operation::Status, &StatusRequest { after: None, most: 1 }.emit());
    a.holds_writes = true;
    a.now = a.now + core::time::Duration::from_secs(2);
    a.input(crate::Input::Advance { wish: Wish(9), relationship: relationship(ASR) });
    a.request(1, Operation::Erase, &EraseRequest::Relationship(relationship(ASR)).emit());
    assert_eq!(a.writes.len(), 2);
    let place = a.writes.pop_front();
    a.holds_writes = false;
    a.pump();
    assert!(a.take_came().contains(&Came::Done(Wish(9), Err(Refused::NotHeld))));
    a.writes.extend(place);
    a.pump();
    assert_eq!(a.take_came(), []);
}

#[test]
fn a_node_that_its_module_erases_still_answers_and_is_nobodys() {
    let (_, [mut a, _]) = pair();
    let only = EraseRequest::Relationship(relationship(0x80));
    assert_eq!(a.manage(Operation::Erase, &only.emit()).outcome, Outcome::Conflict, "nobody would have it");
    assert!(!a.node.is_disowned());
    let response = a.manage(Operation::Erase, &EraseRequest::Everything.emit());
    assert_eq!(response.outcome, Outcome::Done);
    assert!(a.disowned && a.node.is_disowned());
}

#[test]
fn another_host_part_or_root_under_what_is_held_is_a_conflict() {
    let (first, [mut a, _]) = pair();
    // The same public part, and other secrets.
    let mut other_part = first.install(0, true);
    let mut host = first.secrets().host;
    host.tree_root = Secret::take(&mut [1; 32]);
    let seal = HostPartSeal::by_root(&first.root(), &first.sds);
    other_part.host_part = seal.seal(provider(), 0, &[9; 16], &host).try_into().unwrap();
    let response = a.manage(Operation::Install, other_part.emit().expose());
    assert_eq!(response.outcome, Outcome::Conflict, "{}", response.reason);
    assert_eq!(a.installs(&first, true), Outcome::Done, "what is held is what it was");

    // Another root under the version that is held, in this generation and in the next.
    let same_version = [issue(ASR, 1, 1, &[0, 1], None), issue(ASR, 2, 1, &[0, 1], None)];
    let mut again = same_version[0].install(0, true);
    again.root_check = RootCheck([7; 4]);
    let response = a.manage(Operation::Install, again.emit().expose());
    assert_eq!(response.outcome, Outcome::Conflict, "{}", response.reason);
    assert_ne!(same_version[1].name(), first.name());
    assert_eq!(a.installs(&same_version[1], true), Outcome::Conflict);
    assert_eq!(a.element.roots.len(), 3, "the device key, and one for each relationship");
    assert_eq!(a.installs(&issue(ASR, 2, 2, &[0, 1], None), true), Outcome::Done, "and this is the way out");
}

#[test]
fn a_host_part_that_does_not_open_leaves_no_root_but_one_that_was_held() {
    let (first, [mut a, _]) = pair();
    let other = issue(0x44, 1, 1, &[0, 1], None);
    for damage in [0, 20, 115] {
        let mut install = other.install(0, true);
        install.host_part[damage] ^= 1;
        assert_eq!(a.manage(Operation::Install, install.emit().expose()).outcome, Outcome::Element);
        assert!(!a.element.roots.contains_key(&other.name()));
    }
    let for_the_other = other.install(1, true);
    assert_eq!(a.manage(Operation::Install, for_the_other.emit().expose()).outcome, Outcome::Element);
    let next = issue(ASR, 2, 1, &[0, 1], Some(&first));
    let mut install = next.install(0, true);
    install.host_part[40] ^= 1;
    assert_eq!(a.manage(Operation::Install, install.emit().expose()).outcome, Outcome::Element);
    assert!(a.element.roots.contains_key(&first.name()));
    assert_eq!(a.installs(&next, false), Outcome::Done);
}

#[test]
fn an_install_without_a_root_that_is_not_there_is_answered_not_held_whether_the_relationship_is_or_not() {
    let (_, [mut a, _]) = pair();
    assert_eq!(a.installs(&issue(0x44, 1, 1, &[0, 1], None), false), Outcome::NotHeld);
    assert_eq!(a.installs(&issue(ASR, 2, 2, &[0, 1], None), false), Outcome::NotHeld);
}

#[test]
fn what_a_later_module_asks_is_not_understood_or_passed_over_by_its_number() {
    let (_, [mut a, _]) = pair();
    let with = |key: u8| {
        let mut body = EraseRequest::Relationship(relationship(0x77)).emit();
        body[0] += 1;
        if key > 23 {
            body.push(0x18);
        }
        body.extend_from_slice(&[key, 1]);
        body
    };
    for key in [1, 23, 63] {
        let response = a.manage(Operation::Erase, &with(key));
        assert_eq!(response.outcome, Outcome::Unsupported);
        assert!(response.reason.contains(&alloc::format!("key {key} ")), "{}", response.reason);
    }
    for key in [64, 255] {
        assert_eq!(a.manage(Operation::Erase, &with(key)).outcome, Outcome::Done, "{key}");
    }
}

#[test]
fn endpoints_that_the_module_sets_are_durable_and_used() {
    let (asr, [mut a, _]) = pair();
    let entry = (1, "b".into(), "203.0.113.9:1".into());
    let set = SetEndpoints { relationship: relationship(ASR), entries: Vec::from([entry]) };
    assert_eq!(a.manage(Operation::SetEndpoints, &set.emit()).outcome, Outcome::Done);
    let there = "203.0.113.9:1".parse().ok();
    assert_eq!(a.disk[&(asr.sds.relationship(), 1)].endpoints[1], there);
    let request = ReportRequest { relationship: relationship(ASR), member: node_id(1) };
    let report = ReportAnswer::parse(&a.manage(Operation::Report, &request.emit()).body).unwrap();
    assert_eq!((&report.endpoint[..], report.is_member), ("203.0.113.9:1", true));
}

#[test]
fn pages_of_a_status_go_on_where_the_one_before_ended() {
    let mut a = Plant::enrolled(0);
    for number in 1..=5 {
        a.put(&issue(number, 1, 1, &[0, 1], None), true);
    }
    a.start();
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let response = a.manage(Operation::Status, &StatusRequest { after, most: 2 }.emit());
        let page = StatusAnswer::parse(&response.body).unwrap();
        all.extend(page.relationships.iter().map(|status| status.relationship));
        after = all.last().copied();
        if !page.more {
            break;
        }
    }
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted());
}

#[test]
fn requests_that_are_under_way_are_bounded_and_one_more_is_asked_again() {
    let (_, [mut a, _]) = pair();
    let status = StatusRequest { after: None, most: 1 }.emit();
    let most = REQUESTS_AT_ONCE as u64;
    for stream in 0..=most {
        a.request(stream, Operation::Status, &status);
        assert_eq!(a.responses().len(), 1);
    }
    a.holds_answers = true;
    let mut last = Vec::new();
    for stream in 0..=most {
        last = a.request(stream, Operation::Status, &status);
    }
    assert_eq!(a.take_came(), [Came::Handled(Stream(most))]);
    a.holds_answers = false;
    a.pump();
    assert_eq!(a.responses().len(), REQUESTS_AT_ONCE);
    a.says_over(most, &last);
    assert_eq!(a.responses().len(), 1);
}

#[test]
fn a_stranger_on_a_stream_is_handled_without_a_word() {
    let (_, [mut a, _]) = pair();
    a.input(crate::Input::StreamFrame { stream: Stream(3), frame: &[0; 64] });
    assert_eq!(a.take_came(), [Came::Handled(Stream(3))]);
    let _ = AkmId::from_bytes([MODULE; 16]);
}
