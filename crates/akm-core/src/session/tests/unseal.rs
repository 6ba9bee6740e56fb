//! The keys that a host keeps sealed: opened once a start, by whatever comes first.

use alloc::vec::Vec;

use super::fixture::*;
use crate::session::{Phase, Rejection, SessionError};

/// Two members whose hosts keep their keys sealed, just started.
fn sealed(members: usize) -> Network {
    let mut network = Network::of(members);
    network.seals_keys = true;
    for at in 0..members {
        network.restart(at);
        network.parties[at].element.all_calls = 0;
    }
    network
}

#[test]
fn the_first_frame_made_or_heard_opens_them_and_no_later_one() {
    let mut network = sealed(2);
    assert!((0..2).all(|at| network.parties[at].session.is_sealed()));
    network.tell_all(0, b"the first");
    for at in 0..2 {
        let party = &network.parties[at];
        assert_eq!(party.element.all_calls, 2, "one to open them, one for the epoch");
        assert!(!party.session.is_sealed());
    }
    network.tell_all(0, b"the second");
    network.tell_all(1, b"an answer");
    assert_eq!(network.parties[0].element.all_calls, 3, "for the epoch that the other began");
}

#[test]
fn what_bears_another_tag_or_another_sender_does_not_open_them() {
    let mut network = sealed(2);
    let frame = network.send(0, b"x");
    let mut of_nobody = frame.clone();
    of_nobody[4] ^= 1;
    assert_eq!(network.drops(1, &of_nobody), Rejection::UnknownTag);
    let mut of_no_member = frame.clone();
    of_no_member[3] = 7;
    assert_eq!(network.drops(1, &of_no_member), Rejection::NotAMember);
    assert_eq!(network.parties[1].element.all_calls, 0);
    assert_eq!(network.drops(1, &unsigned(frame)), Rejection::HeaderSignature);
    assert_eq!(network.parties[1].element.all_calls, 1, "and a stranger who knows the tag does it once");
}

#[test]
fn strangers_do_not_wear_an_element_out_that_fails() {
    let mut network = sealed(2);
    let frame = network.send(0, b"x");
    network.parties[1].element.fails = true;
    let stranger = unsigned(frame.clone());
    let outcomes: Vec<_> =
        (0..100).map(|_| network.input(1, crate::session::Input::Frame(&stranger))).collect();
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    assert_eq!((failed, network.parties[1].element.all_calls), (11, 11), "once, and for a second at once");
    assert_eq!(outcomes[99].rejection(), Some(Rejection::Budget));
    network.parties[1].element.fails = false;
    network.wait(SECOND);
    assert_eq!(network.hear(1, &frame).payload(), Some(&b"x"[..]));
}

#[test]
fn under_another_device_key_they_are_lost_and_the_element_is_asked_once() {
    for sends in [true, false] {
        let mut network = sealed(2);
        let frame = network.send(0, b"x");
        network.parties[1].element.device_key = [8; 32];
        let first = match sends {
            true => network.try_send(1, b"y"),
            false => network.input(1, crate::session::Input::Frame(&frame)),
        };
        assert_eq!(first.result, Err(SessionError::KeysLost));
        assert_eq!(network.phase(1), Phase::WithoutPlace);
        assert_eq!(network.drops(1, &frame), Rejection::NoPlace);
        assert_eq!(network.try_send(1, b"y").result, Err(SessionError::NotActive(Phase::WithoutPlace)));
        assert_eq!(network.parties[1].element.all_calls, 1);
        assert_eq!(network.parties[1].session.timeout(), None, "without them nobody can be asked");
    }
}

#[test]
fn who_has_lost_its_place_opens_them_to_ask_and_who_is_asked_to_answer() {
    let mut network = sealed(3);
    network.tell_all(0, b"x");
    for at in 0..3 {
        network.restart(at);
    }
    network.wipe(1);
    let before = network.parties[1].element.all_calls;
    network.together(&[0, 1, 2], SECOND * 3);
    assert_eq!((network.phase(1), network.epoch(1)), (Phase::Established, network.epoch(0) + 1024));
    assert!(network.parties[1].element.all_calls > before);
    network.tell_all(1, b"after its jump");
    network.tell_all(0, b"and on");
}

#[test]
fn in_a_later_run_they_are_opened_for_finding_back_alone() {
    let mut network = sealed(2);
    for at in 0..2 {
        network.wipe(at);
    }
    network.together(&[0, 1], SECOND * 300);
    assert!((0..2).all(|at| network.phase(at) == Phase::Established));
    assert_ne!(network.parties[0].session.run(), 0);
    for at in 0..2 {
        network.restart(at);
        network.parties[at].element.all_calls = 0;
    }
    network.tell_all(0, b"in the run that they began together");
    assert!(
        (0..2).all(|at| network.parties[at].session.is_sealed()),
        "header key and tag are those of the run"
    );
    network.wipe(1);
    network.together(&[0, 1], SECOND * 3);
    assert!(!network.parties[0].session.is_sealed() && network.phase(1) == Phase::Established);
}
