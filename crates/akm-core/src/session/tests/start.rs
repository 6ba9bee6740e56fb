//! Starts and restarts: nothing is accepted twice, no key is used twice.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::fixture::*;
use crate::frame::FrameKind;
use crate::secret::SecretBytes;
use crate::session::{Cause, Event, Input, Phase, Rejection, SessionError};
use crate::tree::{LAST_EPOCH, NO_EPOCH};

#[test]
fn the_first_frame_of_all_is_in_epoch_0() {
    let mut network = Network::of(2);
    let frame = network.send(0, b"first");
    assert_eq!((header(&frame).epoch, header(&frame).counter), (0, 0));
    let next = network.send(0, b"second");
    assert_eq!((header(&next).epoch, header(&next).counter), (0, 1));
}

#[test]
fn the_first_frame_after_a_start_is_one_epoch_above_the_highest_known() {
    let mut network = Network::of(2);
    network.tell_all(0, b"in 0");
    network.restart(0);
    let outcome = network.try_send(0, b"in 1");
    assert!(outcome.tells(Event::EpochBegan { epoch: 1, cause: Cause::Start }));
    let frame = outcome.frame();
    assert_eq!((header(&frame).epoch, header(&frame).counter), (1, 0));
    assert!(network.accepts(1, &frame));
}

#[test]
fn who_was_taken_into_epoch_5_by_hearing_begins_6_for_its_first_own_frame() {
    let mut network = Network::of(3);
    network.place_at(0, 4);
    network.tell_all(0, b"in 5");
    assert_eq!([network.epoch(1), network.epoch(2)], [5, 5]);
    let frame = network.tell_all(1, b"in 6");
    assert_eq!(header(&frame).epoch, 6);
    let frame = network.send(0, b"has had an epoch of its own since its start");
    assert_eq!(header(&frame).epoch, 6);
}

#[test]
fn after_a_restart_nothing_from_before_is_accepted_again() {
    let mut network = Network::of(3);
    let mut before = Vec::new();
    for round in 0..3 {
        before.push(network.tell_all(0, b"from the one"));
        before.push(network.tell_all(2, b"from the other"));
        network.wait(SECOND);
        if round < 2 {
            let hello = network.advance(0).frame();
            network.hear(1, &hello);
            network.hear(2, &hello);
        }
    }
    network.restart(1);
    for frame in &before {
        assert_eq!(network.drops(1, frame), Rejection::EpochTooOld);
    }
    // Nor what was never heard but lies in an epoch up to the place.
    let unheard = network.send(0, b"unheard");
    assert_eq!(network.drops(1, &unheard), Rejection::EpochTooOld);
}

#[test]
fn salts_differ_between_starts_and_between_epochs() {
    let mut network = Network::of(2);
    let mut salts = BTreeSet::new();
    for _ in 0..10 {
        salts.insert(header(&network.send(0, b"x")).salt);
        assert_eq!(header(&network.send(0, b"same epoch, same salt")).counter, 1);
        network.wait(SECOND);
        salts.insert(header(&network.advance(0).frame()).salt);
        network.restart(0);
    }
    assert_eq!(salts.len(), 20);
}

#[test]
fn salts_differ_between_starts_although_the_system_generator_is_stuck() {
    let mut network = Network::of(2);
    network.parties[0].random.stuck = true;
    let image = network.parties[0].disk.clone();
    let salts: BTreeSet<u64> = (0..5)
        .map(|_| {
            network.restart_from(0, image.clone());
            header(&network.send(0, b"x")).salt
        })
        .collect();
    assert_eq!(salts.len(), 5);
}

#[test]
fn starts_from_an_older_place_use_another_salt_in_the_same_epoch() {
    let mut network = Network::of(2);
    let image = network.parties[0].disk.clone();
    // The network checks each frame made: no salt and counter twice.
    for start in 0..5 {
        for _ in 0..3 {
            assert_eq!(header(&network.send(0, b"again")).epoch, 0, "start {start}");
        }
        network.restart_from(0, image.clone());
    }
}

#[test]
fn a_hello_at_start_where_the_host_wants_one() {
    let mut network = Network::of(2);
    network.hello_at_start = true;
    network.restart(0);
    let due = network.parties[0].session.timeout().unwrap();
    assert!(network.now <= due && due <= network.now + MILLISECOND * 2, "{due:?}");
    network.now = due;
    let hello = network.tick(0).frame();
    let heard = network.hear(1, &hello).heard().cloned().unwrap();
    assert_eq!((heard.kind, heard.from, heard.payload.len()), (FrameKind::Hello, network.member(0), 0));
    assert_eq!(network.parties[0].session.timeout(), None);
}

#[test]
fn a_frame_of_ones_own_is_as_good_as_the_hello_at_start() {
    let mut network = Network::of(2);
    network.hello_at_start = true;
    network.restart(0);
    network.send(0, b"here I am");
    assert_eq!(network.tick(0).done, []);
}

#[test]
fn what_others_say_does_not_spare_the_hello_at_start() {
    let mut network = Network::of(2);
    network.hello_at_start = true;
    network.restart(0);
    let frame = network.send(1, b"in 0");
    network.hear(0, &frame);
    network.wait(MILLISECOND * 2);
    assert_eq!(header(&network.tick(0).frame()).epoch, 1);
}

#[test]
fn staged_sends_nothing_and_says_so() {
    let mut network = Network::staged(2);
    let refused = Err(SessionError::NotActive(Phase::Staged));
    assert_eq!(network.try_send(0, b"x").result, refused);
    assert_eq!(network.input(0, Input::Advance).result, refused);
    assert_eq!(network.parties[0].session.timeout(), None);
    network.wait(SECOND * 100_000);
    assert_eq!(network.tick(0).done, []);
    assert_eq!(network.epoch(0), NO_EPOCH);
}

#[test]
fn the_modules_word_makes_active_once() {
    let mut network = Network::staged(2);
    let outcome = network.input(0, Input::Activate);
    assert_eq!(outcome.done, [Done::Activated, Done::Told(Event::Activated)]);
    assert_eq!(network.phase(0), Phase::Established);
    assert_eq!(network.input(0, Input::Activate).done, []);
    network.restart(0);
    assert_eq!(network.phase(0), Phase::Established);
    assert_eq!(header(&network.send(0, b"x")).epoch, 0);
}

#[test]
fn the_first_authentic_frame_makes_active_and_is_delivered() {
    let mut network = Network::staged(2);
    network.input(0, Input::Activate);
    let frame = network.send(0, b"x");
    let outcome = network.hear(1, &frame);
    assert_eq!(outcome.done[..2], [Done::Activated, Done::Wrote(0)]);
    assert!(outcome.tells(Event::Activated));
    assert_eq!(outcome.payload(), Some(&b"x"[..]));
    assert_eq!(network.phase(1), Phase::Established);
    assert_eq!(network.input(1, Input::Activate).done, []);
}

#[test]
fn a_forged_frame_does_not_make_active() {
    let mut network = Network::staged(2);
    let forged = network.forge(0, 3, 1, 0);
    assert_eq!(network.drops(1, &forged), Rejection::NotAuthentic);
    assert_eq!(network.drops(1, &unsigned(forged)), Rejection::HeaderSignature);
    assert_eq!(network.phase(1), Phase::Staged);
}

#[test]
fn who_becomes_active_says_hello_where_the_host_wants_one() {
    let mut network = Network::staged(2);
    network.hello_at_start = true;
    network.restart(0);
    network.restart(1);
    assert_eq!(network.parties[0].session.timeout(), None);
    network.input(0, Input::Activate);
    network.wait(MILLISECOND * 2);
    let hello = network.tick(0).frame();
    network.hear(1, &hello);
    network.wait(MILLISECOND * 2);
    assert_eq!(header(&network.tick(1).frame()).epoch, 1);
}

#[test]
fn without_a_place_everything_is_dropped_and_nothing_sent() {
    for (rolled_back, phase) in [(false, Phase::WithoutPlace), (true, Phase::RolledBack)] {
        let mut network = Network::of(2);
        network.find_back = false;
        network.parties[1].disk.place = None;
        network.parties[1].disk.rolled_back = rolled_back;
        network.restart(1);
        assert_eq!(network.phase(1), phase);
        let frame = network.send(0, b"x");
        assert_eq!(network.drops(1, &frame), Rejection::NoPlace);
        let refused = Err(SessionError::NotActive(phase));
        assert_eq!(network.try_send(1, b"x").result, refused);
        assert_eq!(network.input(1, Input::Advance).result, refused);
        assert_eq!(network.input(1, Input::Activate).done, []);
        assert_eq!(network.tick(1).done, []);
        assert_eq!((network.phase(1), network.epoch(1)), (phase, NO_EPOCH));
        assert_eq!(network.parties[1].session.timeout(), None);
    }
}

#[test]
fn a_start_at_the_last_epoch_finds_its_epochs_used_up() {
    let mut network = Network::of(2);
    network.place_at(0, LAST_EPOCH);
    assert_eq!(network.phase(0), Phase::UsedUp);
    assert_eq!(network.try_send(0, b"x").result, Err(SessionError::EpochsUsedUp));
    assert_eq!(network.input(0, Input::Advance).result, Err(SessionError::EpochsUsedUp));
    let late = network.craft_data(1, LAST_EPOCH, 1, 0, b"from before");
    assert_eq!(network.drops(0, &late), Rejection::EpochTooOld);
    assert_eq!(network.parties[0].session.timeout(), None);
}

#[test]
fn the_secrets_of_what_was_passed_are_erased() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    for epoch in 1..=3 {
        let forged = network.forge(0, epoch, 1, 0);
        network.drops(1, &forged);
    }
    let ahead = network.craft_data(2, 5, 1, 0, b"x");
    assert!(network.accepts(1, &ahead));
    network.live(1, SECOND * 60);
    let session = &network.parties[1].session;
    assert_eq!((session.epochs.cached(), session.epochs.closed()), (0, 0));
    assert!((0..=5).all(|epoch| session.stage.place().unwrap().leaf(epoch).is_none()));
}

#[test]
fn debug_texts_show_no_bytes_of_bodies_or_places() {
    use crate::session::{Delivery, Record};
    use alloc::format;
    let secret = [0xab; 4];
    let record = Record::Place(SecretBytes::copy_from(&secret));
    let from = Network::of(2).member(0);
    let delivery =
        Delivery { from, index: 0, epoch: 0, kind: FrameKind::Management, newest: true, payload: &secret };
    for text in [
        format!("{:?}", Input::Send(FrameKind::Management, &secret)),
        format!("{:?}", Input::Frame(&secret)),
        format!("{record:?}"),
        format!("{delivery:?}"),
        format!("{:?}", Network::of(2).parties[0].session),
    ] {
        assert!(!text.contains("171") && !text.to_lowercase().contains("ab, "), "{text}");
    }
}
