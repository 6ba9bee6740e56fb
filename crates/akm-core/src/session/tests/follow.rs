//! How far and how fast a member follows, and what the element is asked for meanwhile.

use alloc::vec::Vec;
use core::time::Duration;

use super::fixture::*;
use crate::policy::{JUMP_MAX, Policy};
use crate::session::{Event, Phase, Rejection};
use crate::tree::LAST_EPOCH;

const HOUR: Duration = Duration::from_secs(3600);

/// How far ahead a member of two follows at once: the stock, full.
const STOCK: u32 = (1 << 20) + 2 * 2048;

/// What comes back to it in an hour.
const REFILL: u32 = (1 << 16) + 2 * 256;

/// How many places were made durable in what came of these frames.
fn written(network: &mut Network, at: usize, frames: impl IntoIterator<Item = Vec<u8>>) -> usize {
    let wrote = |done: &&Done| matches!(done, Done::Wrote(_));
    frames.into_iter().map(|frame| network.hear(at, &frame).done.iter().filter(wrote).count()).sum()
}

fn far_told(outcome: &Outcome) -> Option<u32> {
    outcome.events().iter().find_map(|event| match event {
        Event::Far { distance, .. } => Some(*distance),
        _ => None,
    })
}

#[test]
fn attack_5_a_member_makes_the_others_call_and_write_at_most_four_times_a_second() {
    let mut network = Network::of(2);
    let each_an_epoch_on =
        (0..1000).map(|epoch| network.craft_data(1, epoch, 1, 0, b"x")).collect::<Vec<_>>();
    let calls = network.calls(0);
    assert_eq!(written(&mut network, 0, each_an_epoch_on.clone()), 8);
    assert_eq!(network.calls(0) - calls, 8);
    let mut later = 0;
    for _ in 0..40 {
        network.wait(MILLISECOND * 250);
        later += written(&mut network, 0, each_an_epoch_on.clone());
    }
    assert_eq!(later, 40, "in ten seconds");
}

#[test]
fn attack_5_one_frame_does_not_use_the_generation_up() {
    let mut network = Network::of(2);
    let calls = network.calls(0);
    let last = network.craft_data(1, LAST_EPOCH, 1, 0, b"the end");
    let outcome = network.hear(0, &last);
    assert_eq!((outcome.rejection(), far_told(&outcome)), (Some(Rejection::Far), Some(LAST_EPOCH + 1)));
    assert_eq!((network.calls(0), network.phase(0)), (calls, Phase::Established));
    for _ in 0..1000 {
        assert_eq!(far_told(&network.hear(0, &last)), None, "told once");
    }
    network.wait(HOUR);
    assert!(far_told(&network.hear(0, &last)).is_some(), "and after an hour again");
}

#[test]
fn attack_7_who_has_a_header_key_does_not_keep_the_next_honest_epoch_out() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    for epoch in 10..200 {
        let forged = network.forge(0, epoch, 1, 0);
        network.drops(1, &forged);
    }
    let far = network.forge(0, 500, 1, 0);
    assert_eq!(network.drops(1, &far), Rejection::Budget, "the element was asked enough");
    let next = network.craft_data(2, 1, 1, 0, b"in 1");
    assert!(network.accepts(1, &next));
}

#[test]
fn attack_7_who_has_jumped_is_heard_although_the_element_was_asked_enough() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    for epoch in 10..200 {
        let forged = network.forge(0, epoch, 1, 0);
        network.drops(1, &forged);
    }
    let jumped = network.craft_data(2, u32::from(JUMP_MAX) + 1, 1, 0, b"jumped");
    assert!(network.accepts(1, &jumped));
}

#[test]
fn attack_7_the_next_epoch_costs_one_call_however_often_it_is_named() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    let calls = network.calls(1);
    for round in 0..100 {
        for epoch in [1, u32::from(JUMP_MAX) + 1] {
            let forged = network.forge(0, epoch, round, 0);
            assert_eq!(network.drops(1, &forged), Rejection::NotAuthentic);
        }
        let other = network.forge(0, 10 + round as u32, 1, 0);
        network.drops(1, &other);
    }
    assert_eq!(network.calls(1) - calls, 2 + 10, "one each, and what the account allows");
    assert!(network.parties[1].session.footprint().unproven <= 6);
}

#[test]
fn an_element_that_fails_for_the_next_epoch_is_spared_too() {
    let mut network = Network::of(2);
    network.tell_all(0, b"in 0");
    network.parties[1].element.fails = true;
    let calls = network.calls(1);
    for salt in 0..100 {
        let forged = network.forge(0, 1, salt, 0);
        let _ = network.input(1, crate::session::Input::Frame(&forged));
    }
    assert_eq!(network.calls(1) - calls, 1 + 10);
}

#[test]
fn a_frame_that_authenticates_gives_its_time_back() {
    let mut network = Network::of(2);
    for epoch in 0..40 {
        let far = network.craft_data(1, epoch * 10 + 5, 1, 0, b"honest");
        assert!(network.accepts(0, &far), "epoch {epoch}");
        network.wait(MILLISECOND * 250);
    }
    let unproven: Vec<_> = (0..20).map(|epoch| network.forge(1, 1000 + epoch, 1, 0)).collect();
    let asked = unproven.iter().filter(|frame| network.drops(0, frame) == Rejection::NotAuthentic).count();
    assert_eq!(asked, 10, "a second of calls that take 100 ms each");
}

#[test]
fn the_stock_is_spent_by_following_and_comes_back_evenly() {
    let mut network = Network::of(2);
    let first = network.craft_data(1, STOCK, 1, 0, b"one further than the stock reaches");
    assert_eq!(network.drops(0, &first), Rejection::Far);
    let first = network.craft_data(1, STOCK - 1, 1, 0, b"as far as it reaches");
    assert!(network.accepts(0, &first));
    let next = network.craft_data(1, STOCK, 1, 0, b"the very next");
    assert_eq!(network.drops(0, &next), Rejection::Far);
    network.wait(HOUR);
    let beyond = network.craft_data(1, STOCK + REFILL, 1, 0, b"further");
    assert_eq!(network.drops(0, &beyond), Rejection::Far);
    let within = network.craft_data(1, STOCK - 1 + REFILL, 1, 0, b"what an hour gives");
    assert!(network.accepts(0, &within));
}

#[test]
fn the_modules_word_fills_the_stock() {
    let mut network = Network::of(2);
    let first = network.craft_data(1, STOCK - 1, 1, 0, b"as far as it reaches");
    assert!(network.accepts(0, &first));
    let again = network.craft_data(1, 2 * STOCK - 1, 1, 0, b"and as far again");
    assert_eq!(network.drops(0, &again), Rejection::Far);
    let now = network.now;
    network.parties[0].session.fill_stock(now);
    assert!(network.accepts(0, &again));
}

#[test]
fn what_a_member_does_by_itself_takes_nothing_from_the_stock() {
    let mut network = Network::with(2, Policy { advance_interval: Duration::ZERO, ..Policy::default() });
    for _ in 0..100 {
        network.advance(0);
    }
    let far = network.craft_data(1, 99 + STOCK, 1, 0, b"all of it");
    assert!(network.accepts(0, &far));
}

#[test]
fn a_frame_that_comes_too_early_is_kept_by_whoever_can() {
    let mut network = Network::of(2);
    for epoch in 0..8 {
        let ahead = network.craft_data(1, epoch, 1, 0, b"x");
        assert!(network.accepts(0, &ahead));
    }
    let next = network.craft_data(1, 8, 1, 0, b"x");
    let waits = |network: &Network, frame: &[u8]| network.parties[0].session.waits_until(frame, network.now);
    let (epoch, until) = waits(&network, &next).unwrap();
    assert_eq!((epoch, until), (8, network.now + MILLISECOND * 250));
    assert_eq!(network.drops(0, &next), Rejection::Budget, "handed in all the same");
    for frame in [
        unsigned(next.clone()),
        network.craft_data(1, LAST_EPOCH, 1, 0, b"far"),
        network.craft_data(1, 7, 1, 1, b"of an open epoch"),
        network.craft_data(0, 8, 1, 1, b"its own"),
        Vec::from([0; 99]),
    ] {
        assert_eq!(waits(&network, &frame), None);
    }
    network.now = until;
    assert_eq!(waits(&network, &next), None);
    assert!(network.accepts(0, &next));
}

#[test]
fn a_provisioning_relationship_follows_sixty_four_at_once_and_no_further_than_its_stock() {
    let mut network = Network::provisioning();
    let frames: Vec<_> = (0..100).map(|epoch| network.craft(0, epoch, 1, 0, &[0])).collect();
    assert_eq!(written(&mut network, 1, frames), 64);
    let last = network.craft(0, LAST_EPOCH, 1, 0, &[0]);
    assert_eq!(network.drops(1, &last), Rejection::Far);
}
