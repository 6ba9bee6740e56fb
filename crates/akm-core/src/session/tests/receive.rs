//! Receiving: each reason to drop a frame, and what such a frame leaves unchanged.

use alloc::vec::Vec;
use core::time::Duration;

use super::fixture::*;
use crate::frame::{FrameKind, HEADER_LENGTH, OVERHEAD, STREAM_MAX};
use crate::policy::Policy;
use crate::replay::WIDTH;
use crate::session::{Cause, Event, Input, Rejection, SessionError};
use crate::tree::{LAST_EPOCH, NO_EPOCH};

#[test]
fn one_frame_reaches_every_member() {
    let mut network = Network::of(5);
    for sender in 0..5 {
        network.tell_all(sender, b"to all");
        network.tell_all(sender, b"and once more");
    }
    for at in 0..5 {
        assert_eq!(network.parties[at].session.transmitted(), 2);
        assert_eq!(network.parties[at].session.delivered(), 8);
    }
}

#[test]
fn a_replay_in_the_same_epoch_is_a_duplicate() {
    let mut network = Network::of(3);
    let frames: Vec<_> = (0..5).map(|_| network.tell_all(0, b"once")).collect();
    for frame in &frames {
        assert_eq!(network.drops(1, frame), Rejection::Duplicate);
    }
    assert_eq!(network.parties[1].session.rejected(Rejection::Duplicate), 5);
}

#[test]
fn reordered_frames_are_accepted_once_and_only_the_highest_is_newest() {
    let mut network = Network::of(2);
    let frames: Vec<_> = (0..3u8).map(|at| network.send(0, &[at])).collect();
    for (at, newest) in [(1, true), (0, false), (2, true)] {
        assert_eq!(network.hear(1, &frames[at]).heard().unwrap().newest, newest);
        assert_eq!(network.drops(1, &frames[at]), Rejection::Duplicate);
    }
}

#[test]
fn what_lies_behind_the_window_is_too_old() {
    let mut network = Network::of(2);
    let frames: Vec<_> = (0..=WIDTH).map(|_| network.send(0, b"x")).collect();
    assert!(network.accepts(1, &frames[WIDTH as usize]));
    assert_eq!(network.drops(1, &frames[0]), Rejection::CounterTooOld);
    assert!(network.accepts(1, &frames[1]));
}

#[test]
fn failed_authentication_does_not_move_the_window() {
    let mut network = Network::of(2);
    let frames: Vec<_> = (0..3).map(|_| network.send(0, b"x")).collect();
    assert!(network.accepts(1, &frames[0]));
    let salt = header(&frames[0]).salt;
    let far_ahead = network.forge(0, 0, salt, u32::MAX);
    assert_eq!(network.drops(1, &far_ahead), Rejection::NotAuthentic);
    let mut damaged = frames[1].clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(network.drops(1, &damaged), Rejection::NotAuthentic);
    assert!(network.accepts(1, &frames[1]));
    assert!(network.accepts(1, &frames[2]));
}

#[test]
fn within_overlap_a_closed_epoch_receives_and_after_it_no_more() {
    let mut network = Network::of(2);
    let overlap = Policy::default().overlap;
    network.tell_all(0, b"in 0");
    let [early, late] = [network.send(0, b"early"), network.send(0, b"late")];
    network.wait(SECOND);
    let hello = network.advance(0).frame();
    network.hear(1, &hello);
    network.wait(overlap - MILLISECOND);
    let heard = network.hear(1, &early).heard().cloned().unwrap();
    assert!(!heard.newest);
    assert_eq!(network.drops(1, &early), Rejection::Duplicate);
    network.wait(MILLISECOND);
    assert_eq!(network.drops(1, &late), Rejection::EpochTooOld);
    assert_eq!(network.drops(1, &early), Rejection::EpochTooOld);
}

#[test]
fn the_timer_closes_what_is_over() {
    let mut network = Network::of(2);
    network.send(0, b"in 0");
    network.wait(SECOND);
    let (closes, _) = (network.now + Policy::default().overlap, network.advance(0));
    assert_eq!(network.parties[0].session.timeout(), Some(closes));
    network.live(0, SECOND * 60);
    assert_eq!(network.parties[0].session.timeout(), None);
}

#[test]
fn at_most_four_closed_epochs_stay_open() {
    let mut network = Network::with(
        2,
        Policy { advance_interval: MILLISECOND, rotate_after: Duration::ZERO, ..Policy::default() },
    );
    let mut held_back = Vec::new();
    for _ in 0..6 {
        let hello = network.advance(0).frame();
        network.hear(1, &hello);
        held_back.push(network.send(0, b"held back"));
        network.wait(MILLISECOND);
    }
    let accepted: Vec<_> = held_back.iter().map(|frame| network.accepts(1, frame)).collect();
    assert_eq!(accepted, [false, true, true, true, true, true]);
    assert_eq!(network.parties[1].session.rejected(Rejection::EpochTooOld), 1);
}

/// Each other member is heard in one epoch, and then that is over.
#[test]
fn keys_of_an_epoch_that_is_over_are_wiped_few_at_a_time_and_soon_all() {
    const MEMBERS: usize = 200;
    let policy = Policy { advance_interval: MILLISECOND, rotate_after: Duration::ZERO, ..Policy::default() };
    let mut network = Network::with(MEMBERS, policy);
    for sender in 1..MEMBERS {
        let frame = network.send(sender, b"here");
        assert!(network.accepts(0, &frame));
    }
    let held = |network: &Network| {
        let footprint = network.parties[0].session.footprint();
        (footprint.senders, footprint.over)
    };
    assert_eq!(held(&network), (MEMBERS - 1, 0));
    network.wait(policy.overlap);
    let hello = network.advance(1).frame();
    network.hear(0, &hello);
    assert_eq!(held(&network), (MEMBERS, 0), "within the overlap");

    // By itself, after the overlap: a session acts when it asked to be called, and no later.
    let began = network.now;
    let mut turns = 0;
    network.wait(policy.overlap);
    while let Some(due) = network.parties[0].session.timeout().filter(|due| *due <= network.now) {
        assert!(due >= began + policy.overlap);
        network.tick(0);
        turns += 1;
        let (senders, over) = held(&network);
        assert!(senders == 1 && over < MEMBERS - 1, "{over}");
        assert!(turns < 10, "it comes to an end");
    }
    assert_eq!(held(&network), (1, 0));
    assert!(turns > 1, "not all of them at once");
}

#[test]
fn keys_of_two_epochs_that_are_over_are_never_held_at_once() {
    const MEMBERS: usize = 20;
    let policy = Policy {
        advance_interval: MILLISECOND,
        rotate_after: Duration::ZERO,
        overlap: SECOND * 1000,
        ..Policy::default()
    };
    let mut network = Network::with(MEMBERS, policy);
    let mut most = 0;
    for round in 0..12 {
        // All at first, so that each has begun; then others in each round, but for the one that moves on.
        let speak = match round {
            0 => 2..MEMBERS,
            _ if round % 2 == 0 => 2..MEMBERS / 2,
            _ => MEMBERS / 2..MEMBERS,
        };
        for sender in speak.chain([1]) {
            network.wait(MILLISECOND * 250);
            let frame = network.send(sender, b"here");
            assert!(network.accepts(0, &frame));
        }
        network.wait(MILLISECOND * 250);
        let hello = network.advance(1).frame();
        for member in (0..MEMBERS).filter(|member| *member != 1) {
            network.hear(member, &hello);
        }
        // Five epochs are open; from the seventh on what is over is of one in which half of them spoke.
        if round > 5 {
            most = most.max(network.parties[0].session.footprint().over);
        }
    }
    assert!((1..=MEMBERS / 2 + 1).contains(&most), "{most}");
}

#[test]
fn an_epoch_that_was_never_open_here_is_too_old_once_passed() {
    let mut network = Network::of(2);
    let skipped = network.send(0, b"in 0");
    network.wait(SECOND);
    let hello = network.advance(0).frame();
    assert!(network.accepts(1, &hello));
    assert_eq!(network.drops(1, &skipped), Rejection::EpochTooOld);
}

#[test]
fn who_missed_a_million_epochs_follows_from_the_first_frame() {
    let mut network = Network::of(3);
    network.tell_all(0, b"before");
    let calls = network.calls(1);
    network.place_at(0, 1_000_000);
    let frame = network.send(0, b"much later");
    let outcome = network.hear(1, &frame);
    assert_eq!(outcome.done[0], Done::Wrote(1_000_001));
    assert!(outcome.tells(Event::EpochBegan { epoch: 1_000_001, cause: Cause::Followed }));
    assert_eq!(outcome.payload(), Some(&b"much later"[..]));
    assert_eq!(network.calls(1), calls + 1);
    assert!(network.accepts(2, &frame));
}

#[test]
fn two_that_advance_at_once_meet() {
    let mut network = Network::of(3);
    network.tell_all(0, b"x");
    network.tell_all(1, b"y");
    network.wait(SECOND);
    let [one, other] = [network.advance(0).frame(), network.advance(1).frame()];
    assert_eq!(header(&one).epoch, header(&other).epoch);
    assert!(network.accepts(0, &other) && network.accepts(1, &one));
    assert!(network.accepts(2, &one) && network.accepts(2, &other));
    assert_eq!(network.tell_all(0, b"x")[8..12], network.tell_all(1, b"y")[8..12]);
}

#[test]
fn the_halves_of_a_split_network_meet_at_the_higher_epoch() {
    let mut network = Network::of(4);
    for at in 0..4 {
        network.tell_all(at, b"whole");
    }
    let whole = network.epoch(0);
    for (half, other, steps) in [(0, 1, 3), (2, 3, 7)] {
        for _ in 0..steps {
            network.wait(SECOND);
            let hello = network.advance(half).frame();
            assert!(network.accepts(other, &hello));
        }
    }
    assert_eq!([0, 1, 2, 3].map(|at| network.epoch(at) - whole), [3, 3, 7, 7]);
    network.tell_all(2, b"whole again");
    network.tell_all(0, b"indeed");
    assert_eq!([0, 1, 2, 3].map(|at| network.epoch(at) - whole), [7; 4]);
}

#[test]
fn a_second_salt_of_a_sender_in_an_epoch_tells_of_a_clone() {
    let mut network = Network::of(3);
    let image = network.parties[0].disk.clone();
    network.tell_all(0, b"the one");
    network.restart_from(0, image);
    let clone = network.send(0, b"the clone");
    assert_eq!(header(&clone).epoch, 0);
    assert_eq!(network.drops(1, &unsigned(clone.clone())), Rejection::HeaderSignature);
    let forged = network.forge(0, 0, 77, 0);
    assert_eq!(network.drops(1, &forged), Rejection::NotAuthentic);
    let mut damaged = clone.clone();
    damaged[HEADER_LENGTH] ^= 1;
    assert_eq!(network.drops(1, &damaged), Rejection::NotAuthentic);
    let outcome = network.hear(1, &clone);
    assert_eq!(outcome.payload(), Some(&b"the clone"[..]));
    assert!(outcome.tells(Event::PossibleClone { sender: 0 }));
    assert_eq!(network.drops(1, &clone), Rejection::Duplicate);
    let more = network.send(0, b"the clone again");
    assert_eq!(network.hear(1, &more).events(), [], "told once");
}

/// How often a possible clone is told in what came of these frames.
fn clones_told(network: &mut Network, at: usize, frames: &[Vec<u8>]) -> usize {
    let told = |event: &&Event| matches!(event, Event::PossibleClone { .. });
    frames.iter().map(|frame| network.hear(at, frame).events().iter().filter(told).count()).sum()
}

#[test]
fn attack_6_a_member_in_whose_name_somebody_speaks_under_other_salts_is_heard() {
    let mut network = Network::of(3);
    for salt in 0..3 {
        let lie = network.craft_data(0, 0, salt, 0, b"a lie");
        assert!(network.accepts(1, &lie));
        assert!(network.accepts(2, &lie));
    }
    for counter in 0..100 {
        let honest = network.craft_data(0, 0, 99, counter, b"honest");
        assert!(network.accepts(1, &honest), "muted at {counter}");
    }
}

#[test]
fn attack_6_who_is_muted_by_four_salts_is_heard_in_an_epoch_that_begins_for_it() {
    let mut network = Network::of(3);
    network.tell_all(1, b"in 0");
    for salt in 0..4 {
        let lie = network.craft_data(0, 0, salt, 0, b"a lie");
        assert!(network.accepts(1, &lie));
    }
    let honest = network.craft_data(0, 0, 99, 0, b"honest");
    let asked = network.now;
    assert_eq!(network.drops(1, &honest), Rejection::PossibleClone);
    let due = network.parties[1].session.timeout().unwrap();
    assert!(asked <= due && due <= asked + SECOND * 10, "{due:?}");
    for _ in 0..100 {
        assert_eq!(network.drops(1, &honest), Rejection::PossibleClone);
        assert_eq!(network.parties[1].session.timeout(), Some(due), "it is not put off");
    }
    let outcomes = network.live(1, SECOND * 10);
    assert!(outcomes[0].tells(Event::EpochBegan { epoch: 1, cause: Cause::Salts }));
    let honest = network.craft_data(0, 1, 99, 0, b"honest");
    assert!(network.accepts(1, &honest));
    // Whoever does it again gets another epoch after a minute.
    for salt in 0..4 {
        let lie = network.craft_data(0, 1, salt, 0, b"a lie");
        network.hear(1, &lie);
    }
    network.live(1, SECOND * 40);
    assert_eq!(network.epoch(1), 1, "not yet");
    network.wait(SECOND * 20);
    let lie = network.craft_data(0, 1, 4, 0, b"a lie");
    assert_eq!(network.drops(1, &lie), Rejection::PossibleClone);
    network.live(1, SECOND * 10);
    assert_eq!(network.epoch(1), 2);
}

#[test]
fn attack_10_a_possible_clone_is_told_at_most_four_times_for_each_sender_and_epoch() {
    let mut network = Network::of(3);
    let of_clones: Vec<_> = (0..20).map(|salt| network.craft_data(0, 0, salt, 0, b"a clone")).collect();
    network.tell_all(2, b"opens epoch 0");
    let all: Vec<_> = (0..50).flat_map(|_| of_clones.clone()).collect();
    assert_eq!(clones_told(&mut network, 1, &all), 4, "three that are accepted, and once for all beyond");
    let of_another: Vec<_> = (0..5).map(|salt| network.craft_data(2, 0, 100 + salt, 0, b"x")).collect();
    assert_eq!(clones_told(&mut network, 1, &of_another), 4);
}

#[test]
fn in_an_epoch_few_salts_are_kept_beyond_one_for_each_member() {
    const MEMBERS: u16 = 40;
    let mut network = Network::of(MEMBERS.into());
    for sender in 1..MEMBERS {
        for salt in 0..5 {
            let frame = network.craft_data(sender, 0, salt, 0, b"x");
            network.hear(0, &frame);
        }
    }
    // One of each other member, and n + 64 further ones.
    assert_eq!(network.parties[0].session.footprint().senders, 39 + 40 + 64);
}

#[test]
fn a_clone_is_told_of_whatever_kind_its_frame_claims() {
    let mut network = Network::of(2);
    network.tell_all(0, b"the one");
    let clone = network.craft(0, 0, 77, 0, &[9, 1, 2]);
    let outcome = network.hear(1, &clone);
    assert!(outcome.tells(Event::PossibleClone { sender: 0 }));
    assert_eq!(outcome.rejection(), Some(Rejection::UnexpectedKind));
}

#[test]
fn a_salt_that_did_not_authenticate_is_forgotten() {
    let mut network = Network::of(3);
    network.tell_all(2, b"opens epoch 0");
    let forged = network.forge(0, 0, 77, 0);
    assert_eq!(network.drops(1, &forged), Rejection::NotAuthentic);
    let honest = network.craft_data(0, 0, 78, 0, b"honest");
    assert!(network.accepts(1, &honest));
}

#[test]
fn strangers_get_no_further_than_the_header() {
    let mut network = Network::of(2);
    let frame = network.send(0, b"x");
    let with = |at: usize, byte: u8| {
        let mut frame = frame.clone();
        frame[at] = byte;
        frame
    };
    for (frame, reason) in [
        (frame[..OVERHEAD - 1].to_vec(), Rejection::Malformed),
        (Vec::new(), Rejection::Malformed),
        ([&frame[..], &[0; 1452]].concat(), Rejection::Malformed),
        (with(0, 0x20), Rejection::Malformed),
        (with(0, 0x11), Rejection::Malformed),
        (with(0, 0x12), Rejection::Malformed),
        (with(1, 1), Rejection::Malformed),
        (with(4, frame[4] ^ 1), Rejection::UnknownTag),
        (with(3, 2), Rejection::NotAMember),
        (with(3, 1), Rejection::OwnFrame),
        (unsigned(frame.clone()), Rejection::HeaderSignature),
        (with(11, 9), Rejection::HeaderSignature),
    ] {
        assert_eq!(network.drops(1, &frame), reason);
    }
    assert_eq!(network.calls(1), 0);
    assert!(network.accepts(1, &frame));
}

#[test]
fn the_reserved_number_is_no_epoch_to_follow() {
    let mut network = Network::of(2);
    let frame = network.forge(0, NO_EPOCH, 1, 0);
    assert_eq!(network.drops(1, &frame), Rejection::EpochTooOld);
    network.tell_all(0, b"x");
    assert_eq!(network.drops(1, &frame), Rejection::EpochTooOld);
    assert_eq!(network.calls(1), 1);
}

#[test]
fn an_authentic_frame_of_no_use_is_dropped_but_its_epoch_followed() {
    for plaintext in [&[2, 1][..], &[3, 1], &[255], &[0, 1]] {
        let mut network = Network::of(2);
        let frame = network.craft(0, 7, 1, 0, plaintext);
        assert_eq!(network.drops(1, &frame), Rejection::UnexpectedKind, "{plaintext:?}");
        assert_eq!(network.epoch(1), 7);
        assert_eq!(network.drops(1, &frame), Rejection::Duplicate);
        let next = network.craft(0, 7, 1, 1, plaintext);
        assert_eq!(network.drops(1, &next), Rejection::UnexpectedKind);
        assert_eq!(network.drops(1, &next), Rejection::Duplicate);
    }
}

#[test]
fn management_is_carried_only_where_it_belongs() {
    let mut network = Network::of(2);
    let wrong = Err(SessionError::WrongKind);
    assert_eq!(network.input(0, Input::Send(FrameKind::Management, b"x")).result, wrong);
    let mut network = Network::provisioning();
    assert_eq!(network.input(0, Input::Send(FrameKind::Data, b"x")).result, wrong);
    network.tell_all(0, b"request");
    network.tell_all(1, b"response");
    let data = network.craft_data(0, 5, 1, 0, b"data");
    assert_eq!(network.drops(1, &data), Rejection::UnexpectedKind);
}

#[test]
fn a_hello_has_no_body() {
    let mut network = Network::of(2);
    let outcome = network.input(0, Input::Send(FrameKind::Hello, b"x"));
    assert_eq!(outcome.result, Err(SessionError::WrongKind));
    let hello = network.input(0, Input::Send(FrameKind::Hello, b"")).frame();
    assert_eq!(hello.len(), OVERHEAD);
    assert!(network.accepts(1, &hello));
}

#[test]
fn a_body_that_is_too_long_is_refused_with_the_most() {
    for (mut network, frame_max) in [(Network::of(2), 1452), (Network::provisioning(), STREAM_MAX)] {
        let most = frame_max - OVERHEAD;
        assert_eq!(network.parties[0].session.body_max(), most);
        let outcome = network.try_send(0, &alloc::vec![7; most + 1]);
        assert_eq!(outcome.result, Err(SessionError::TooLong { most }));
        let longest = alloc::vec![7; most];
        assert_eq!(network.tell_all(0, &longest).len(), frame_max);
        network.tell_all(0, b"");
    }
}

#[test]
fn newest_follows_a_member_across_epochs() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    network.tell_all(2, b"in 1");
    // Member 0 has not heard of epoch 1 when it says this, as far as the others can tell.
    let salt = 5;
    let slow = network.craft_data(0, 1, salt, 0, b"in 1");
    assert!(network.hear(1, &slow).heard().unwrap().newest);
    network.wait(SECOND);
    let hello = network.advance(2).frame();
    network.hear(1, &hello);
    let still_slow = network.craft_data(0, 1, salt, 1, b"still in 1");
    assert!(network.hear(1, &still_slow).heard().unwrap().newest);
    let ahead = network.craft_data(0, 2, salt, 0, b"in 2");
    assert!(network.hear(1, &ahead).heard().unwrap().newest);
    let stray = network.craft_data(0, 1, salt, 2, b"a stray of 1");
    assert!(!network.hear(1, &stray).heard().unwrap().newest);
}

#[test]
fn the_last_epoch_can_be_followed_and_heard_but_not_answered() {
    let mut network = Network::of(3);
    network.place_at(1, LAST_EPOCH - 1);
    let last = network.craft_data(0, LAST_EPOCH, 1, 0, b"the end");
    let outcome = network.hear(1, &last);
    assert_eq!(outcome.payload(), Some(&b"the end"[..]));
    assert!(outcome.tells(Event::EpochsUsedUp));
    let more = network.craft_data(0, LAST_EPOCH, 1, 1, b"and more");
    assert!(network.accepts(1, &more));
    assert_eq!(network.drops(1, &more), Rejection::Duplicate);
    assert_eq!(network.try_send(1, b"x").result, Err(SessionError::EpochsUsedUp));
    assert_eq!(network.parties[1].session.timeout(), None);
}
