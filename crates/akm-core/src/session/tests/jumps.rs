//! Members that may have been set back, and move on before they accept or send anything.

use alloc::vec::Vec;

use super::fixture::*;
use crate::frame::FrameKind;
use crate::policy::{JUMP_MAX, Policy};
use crate::session::{Phase, Rejection};
use crate::tree::{LAST_EPOCH, NO_EPOCH};

const JUMP: u32 = JUMP_MAX as u32;

/// Members of a relationship with such a jump, which say hello at their start and are not moved on by age.
fn members_that_jump(members: usize, jump: u16) -> Network {
    let policy = Policy { rotate_after: core::time::Duration::ZERO, jump, ..Policy::default() };
    let mut network = Network::with(members, policy);
    network.hello_at_start = true;
    network
}

#[test]
fn attack_9_a_restored_image_accepts_none_of_the_recorded_frames() {
    let mut network = members_that_jump(2, JUMP_MAX);
    network.tell_all(0, b"before the image");
    let image = network.parties[1].disk.clone();
    let mut recorded = Vec::new();
    for _ in 0..3 {
        network.wait(SECOND);
        let hello = network.advance(0).frame();
        network.hear(1, &hello);
        recorded.push(hello);
        recorded.push(network.tell_all(0, b"after the image"));
    }
    network.restart_with_jump(1, image);
    for frame in &recorded {
        assert_eq!(network.drops(1, frame), Rejection::EpochTooOld);
    }
    let hello = network.live(1, MILLISECOND * 2).pop().unwrap().frame();
    assert_eq!(header(&hello).epoch, JUMP + 1, "it was in epoch 0");
    assert!(network.accepts(0, &hello), "and is followed");
    network.tell_all(1, b"and heard");
    network.tell_all(0, b"and hears");
}

#[test]
fn attack_9_without_the_jump_they_are_accepted_once_more() {
    let mut network = members_that_jump(2, 0);
    network.tell_all(0, b"before the image");
    let image = network.parties[1].disk.clone();
    network.wait(SECOND);
    let hello = network.advance(0).frame();
    network.hear(1, &hello);
    network.restart_with_jump(1, image);
    assert!(network.accepts(1, &hello), "what a policy without it allows");
}

#[test]
fn attack_9_after_a_fallback_to_one_that_is_behind_a_member_is_heard_and_hears_nothing_twice() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    network.wait(SECOND);
    // Member 2 has not heard of epoch 1.
    let frame = network.send(1, b"in 1");
    assert!(network.accepts(0, &frame));
    network.wipe(1);
    network.parties[1].disk.active = true;
    network.together(&[1, 2], SECOND * 30);
    assert_eq!((network.phase(1), network.epoch(1)), (Phase::Established, JUMP));
    assert_eq!(network.drops(1, &frame), Rejection::OwnFrame);
    let of_0 = network.craft_data(0, 1, 7, 0, b"that it had heard before");
    assert_eq!(network.drops(1, &of_0), Rejection::EpochTooOld);
    let frame = network.send(1, b"after the jump");
    assert!(network.accepts(0, &frame) && network.accepts(2, &frame));
}

/// When a member that has jumped says hello, in milliseconds after its start.
fn hellos(network: &mut Network, at: usize, from: core::time::Duration) -> Vec<u128> {
    let mut times = Vec::new();
    while let Some(due) = network.parties[at].session.timeout() {
        network.now = network.now.max(due);
        let said = !network.tick(at).frames().is_empty();
        times.extend(said.then(|| (network.now.0 - from).as_millis()));
        assert!(times.len() < 10, "{times:?}");
    }
    times
}

#[test]
fn a_member_that_jumped_says_hello_again_until_it_is_known() {
    let mut network = members_that_jump(2, JUMP_MAX);
    network.tell_all(1, b"in 0");
    let image = network.parties[1].disk.clone();
    network.restart_with_jump(1, image.clone());
    let from = network.now.0;
    let times = hellos(&mut network, 1, from);
    assert_eq!(times.len(), 4);
    for (time, after) in times.iter().zip([0, 1000, 4000, 16_000]) {
        assert!((after..=after + 2).contains(time), "{times:?}");
    }

    network.restart_with_jump(1, image);
    let hello = network.live(1, SECOND * 2).remove(0).frame();
    assert!(network.accepts(0, &hello));
    let answer = network.send(0, b"in its epoch or above");
    assert!(network.accepts(1, &answer));
    let from = network.now.0;
    assert_eq!(hellos(&mut network, 1, from), []);
}

#[test]
fn a_start_from_a_place_that_is_trusted_says_hello_once() {
    let mut network = members_that_jump(2, JUMP_MAX);
    network.restart(1);
    let from = network.now.0;
    assert_eq!(hellos(&mut network, 1, from).len(), 1);
}

#[test]
fn a_jump_counts_from_minus_one_and_ends_at_the_last_epoch() {
    for (from, to) in [(NO_EPOCH, JUMP - 1), (0, JUMP), (LAST_EPOCH - 5, LAST_EPOCH)] {
        let mut network = members_that_jump(2, JUMP_MAX);
        if from != NO_EPOCH {
            network.place_at(1, from);
        }
        let image = network.parties[1].disk.clone();
        network.restart_with_jump(1, image);
        assert_eq!(network.epoch(1), to);
        let used_up = to == LAST_EPOCH;
        assert_eq!(network.phase(1) == Phase::UsedUp, used_up);
        assert_eq!(network.parties[1].session.timeout().is_none(), used_up);
    }
}

#[test]
fn in_a_provisioning_relationship_nobody_jumps() {
    let mut network = Network::provisioning();
    let image = network.parties[1].disk.clone();
    network.restart_with_jump(1, image);
    assert_eq!(network.epoch(1), NO_EPOCH);
    let frame = network.craft(0, 0, 1, 0, &[FrameKind::Hello as u8]);
    assert!(network.accepts(1, &frame));
}
