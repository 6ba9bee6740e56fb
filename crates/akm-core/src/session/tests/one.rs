//! Messages for one member: sealed once, under the key that all members have.

use super::fixture::*;
use crate::frame::FrameKind;
use crate::policy::Policy;
use crate::session::{Cause, Event, Input, SessionError};
use core::time::Duration;

#[test]
fn a_message_for_one_member_goes_out_once_and_for_that_member() {
    let mut network = Network::of(3);
    network.tell_all(0, b"to all");
    let outcome = network.send_to(0, 2, b"to one");
    assert_eq!(outcome.done.len(), 1, "{outcome:?}");
    let (to, frame) = outcome.sent_to().remove(0);
    assert_eq!(to, 2);
    assert_eq!(network.hear(2, &frame).payload(), Some(&b"to one"[..]));
    let next = network.send(0, b"to all again");
    assert_eq!((header(&frame).counter, header(&next).counter), (1, 2), "one key counts both");
}

#[test]
fn another_member_that_hears_it_can_read_it() {
    let mut network = Network::of(3);
    let (_, frame) = network.send_to(0, 2, b"to one").sent_to().remove(0);
    assert_eq!(network.hear(1, &frame).payload(), Some(&b"to one"[..]));
}

#[test]
fn others_hear_by_a_hello_of_an_epoch_that_a_message_for_one_begins() {
    let mut network = Network::of(3);
    let outcome = network.send_to(0, 2, b"to one");
    assert!(outcome.tells(Event::EpochBegan { epoch: 0, cause: Cause::Start }));
    let (to, frame) = outcome.sent_to().remove(0);
    let hello = outcome.frame();
    assert_eq!((to, header(&frame).counter, header(&hello).counter), (2, 0, 1));
    assert_eq!(network.hear(1, &hello).heard().map(|heard| heard.kind), Some(FrameKind::Hello));
    assert_eq!(network.hear(2, &frame).payload(), Some(&b"to one"[..]));
    assert!(network.accepts(2, &hello), "a transport that reaches all hands it to that member too");
    assert_eq!([0, 1, 2].map(|at| network.epoch(at)), [0; 3]);
}

#[test]
fn of_two_members_there_is_nobody_else_to_hear_of_it() {
    let mut network = Network::of(2);
    let outcome = network.send_to(0, 1, b"to one");
    assert_eq!((outcome.sent_to().len(), outcome.frames().len()), (1, 0));
}

#[test]
fn only_a_frame_that_all_hear_spares_the_hello_that_is_due() {
    for (members, spared) in [(2, true), (3, false)] {
        let mut network = Network::of(members);
        network.hello_at_start = true;
        network.restart(0);
        network.live(0, SECOND);
        network.wait(SECOND);
        let old = network.craft_data(1, 0, 1, 0, b"late");
        network.place_at(0, 4);
        network.live(0, SECOND);
        network.hear(0, &old);
        let due = network.parties[0].session.timeout();
        assert!(due.is_some(), "a sender that is behind is to be told");
        network.send_to(0, 1, b"to one");
        assert_eq!(network.parties[0].session.timeout().is_none(), spared, "{members} members");
    }
}

#[test]
fn a_message_for_one_member_rotates_as_one_for_all_does() {
    let policy = Policy {
        rotate_after: Duration::ZERO,
        rotate_frames: 2,
        advance_interval: Duration::ZERO,
        ..Policy::default()
    };
    let mut network = Network::with(3, policy);
    let epochs = (0..5).map(|_| {
        network.send_to(0, 1, b"x");
        network.epoch(0)
    });
    // The hello that follows the first frame of an epoch counts too, and does not end it by itself.
    assert_eq!(epochs.collect::<alloc::vec::Vec<_>>(), [0, 0, 1, 1, 2]);
}

#[test]
fn there_is_no_message_to_oneself_and_none_to_a_stranger() {
    let mut network = Network::of(3);
    for index in [0, 3, u16::MAX] {
        let outcome = network.input(0, Input::SendTo(index, FrameKind::Data, b"x"));
        assert_eq!(outcome.result, Err(SessionError::NoSuchMember { index }));
    }
    assert_eq!(network.calls(0), 0);
}
