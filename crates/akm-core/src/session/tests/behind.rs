//! Telling a sender that is behind.

use core::time::Duration;

use super::fixture::*;
use crate::session::{Event, Rejection};
use crate::tree::LAST_EPOCH;

/// All are in an epoch of member 0 that opened after `behind` was made and closed.
fn moved_on(members: usize) -> (Network, alloc::vec::Vec<u8>) {
    let mut network = Network::of(members);
    let behind = network.tell_all(members - 1, b"in 0");
    for at in 0..members {
        network.tell_all(at, b"an epoch of its own");
    }
    network.wait(SECOND * 10);
    for at in 0..members {
        network.tick(at);
    }
    (network, behind)
}

#[test]
fn a_sender_that_is_behind_hears_a_hello_within_a_second() {
    let (mut network, behind) = moved_on(3);
    let asked = network.now;
    assert_eq!(network.drops(0, &behind), Rejection::EpochTooOld);
    let due = network.parties[0].session.timeout().unwrap();
    assert!(asked <= due && due <= asked + SECOND);
    network.now = due;
    let hello = network.tick(0).frame();
    assert_eq!(header(&hello).epoch, network.epoch(0));
    assert!(network.accepts(2, &hello));
    assert_eq!(network.parties[0].session.timeout(), None);
}

#[test]
fn the_delay_differs() {
    let delays: alloc::collections::BTreeSet<_> = (0..10)
        .map(|seed| {
            let (mut network, behind) = moved_on(2);
            network.parties[0].random.seed += seed;
            network.drops(0, &behind);
            network.parties[0].session.timeout()
        })
        .collect();
    assert!(delays.len() > 5, "{delays:?}");
}

#[test]
fn whoever_is_behind_learns_of_it_and_follows() {
    let mut network = Network::of(2);
    network.place_at(0, 41);
    network.send(0, b"unheard by the other");
    let behind = network.send(1, b"in 0");
    network.drops(0, &behind);
    let hello = network.live(0, SECOND).pop().unwrap().frame();
    assert!(network.accepts(1, &hello));
    assert_eq!(network.epoch(1), 42);
    let caught_up = network.send(1, b"in 42");
    assert!(network.accepts(0, &caught_up));
}

#[test]
fn whoever_has_not_spoken_since_its_start_answers_in_an_epoch_of_its_own() {
    let (mut network, behind) = moved_on(2);
    let before = network.epoch(0);
    network.restart(0);
    network.drops(0, &behind);
    let hello = network.live(0, SECOND).pop().unwrap().frame();
    assert_eq!(header(&hello).epoch, before + 1);
}

#[test]
fn a_flood_of_old_frames_is_answered_once_a_second() {
    let (mut network, behind) = moved_on(2);
    let mut times = alloc::vec::Vec::new();
    for _ in 0..10_000 {
        network.drops(0, &behind);
        for hello in network.live(0, MILLISECOND) {
            hello.frame();
            times.push(network.now.0);
        }
    }
    assert!((3..=10).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= SECOND - MILLISECOND), "{times:?}");
}

#[test]
fn a_hello_that_the_host_is_late_with_is_not_put_off_again() {
    let (mut network, behind) = moved_on(2);
    network.drops(0, &behind);
    for _ in 0..100 {
        network.wait(SECOND);
        network.drops(0, &behind);
    }
    assert!(network.parties[0].session.timeout().unwrap() < network.now);
    assert_eq!(network.tick(0).frames().len(), 1);
}

#[test]
fn no_hello_if_another_current_frame_was_heard_meanwhile() {
    let (mut network, behind) = moved_on(3);
    network.drops(0, &behind);
    let current = network.send(1, b"in the current epoch");
    assert!(network.accepts(0, &current));
    assert_eq!(network.live(0, SECOND * 10).len(), 0);
}

#[test]
fn no_hello_if_another_brought_a_later_epoch_meanwhile() {
    let (mut network, behind) = moved_on(3);
    network.drops(0, &behind);
    let later = network.advance(1).frame();
    assert!(network.accepts(0, &later));
    let hellos: usize = network.live(0, SECOND * 10).iter().map(|outcome| outcome.frames().len()).sum();
    assert_eq!(hellos, 0);
}

#[test]
fn no_hello_if_a_current_frame_was_heard_by_one_that_has_not_spoken_since_its_start() {
    let (mut network, behind) = moved_on(3);
    network.restart(0);
    let current = network.craft_data(1, network.epoch(0) + 1, 1, 0, b"current");
    assert!(network.accepts(0, &current));
    network.drops(0, &behind);
    let current = network.craft_data(1, network.epoch(0), 1, 1, b"current");
    assert!(network.accepts(0, &current));
    assert_eq!(network.live(0, SECOND * 10).iter().map(|outcome| outcome.frames().len()).sum::<usize>(), 0);
}

#[test]
fn no_hello_if_this_member_spoke_meanwhile() {
    let (mut network, behind) = moved_on(2);
    network.drops(0, &behind);
    network.send(0, b"in the current epoch");
    assert_eq!(network.live(0, SECOND * 10).len(), 0);
}

#[test]
fn a_frame_in_a_closed_epoch_or_one_not_authentic_does_not_spare_the_hello() {
    let (mut network, behind) = moved_on(3);
    let stray = network.send(1, b"soon closed");
    network.wait(SECOND);
    let hello = network.advance(2).frame();
    network.hear(0, &hello);
    network.drops(0, &behind);
    assert!(network.accepts(0, &stray));
    let forged = network.forge(1, network.epoch(0), 3, 0);
    network.drops(0, &forged);
    assert_eq!(network.drops(0, &hello), Rejection::Duplicate);
    let hellos: usize = network.live(0, SECOND).iter().map(|outcome| outcome.frames().len()).sum();
    assert_eq!(hellos, 1);
}

#[test]
fn with_a_wrong_header_signature_nobody_answers() {
    let (mut network, behind) = moved_on(2);
    assert_eq!(network.drops(0, &unsigned(behind)), Rejection::EpochTooOld);
    assert_eq!(network.parties[0].session.timeout(), None);
    assert_eq!(network.live(0, SECOND * 10).len(), 0);
}

#[test]
fn in_a_provisioning_relationship_the_answer_comes_at_once() {
    let mut network = Network::provisioning();
    network.place_at(1, 10);
    network.send(1, b"unheard");
    let behind = network.send(0, b"in 0");
    let outcome = network.hear(1, &behind);
    assert_eq!(outcome.rejection(), Some(Rejection::EpochTooOld));
    let hello = outcome.frame();
    assert!(network.accepts(0, &hello));
    assert_eq!(network.epoch(0), 11);
    // At most one a second, here too.
    assert_eq!(network.hear(1, &behind).frames().len(), 0);
    network.wait(SECOND);
    assert_eq!(network.hear(1, &behind).frames().len(), 1);
}

#[test]
fn in_a_provisioning_relationship_a_hello_still_due_delays_no_answer() {
    let mut network = Network::provisioning();
    let behind = network.send(0, b"in 0");
    network.hello_at_start = true;
    network.place_at(1, 10);
    assert_eq!(network.hear(1, &behind).frames().len(), 1);
    assert_eq!(network.tick(1).done, []);
}

#[test]
fn an_old_frame_is_no_error_when_epochs_are_used_up() {
    let mut network = Network::provisioning();
    network.place_at(1, LAST_EPOCH - 1);
    network.send(1, b"in the last");
    let behind = network.send(0, b"in 0");
    assert_eq!(network.hear(1, &behind).frames().len(), 1);
    network.restart(1);
    let outcome = network.hear(1, &behind);
    assert_eq!(outcome.events(), [Event::Rejected { reason: Rejection::EpochTooOld, sender: Some(0) }]);
    assert_eq!(network.live(1, Duration::from_secs(100)).len(), 0);
}
