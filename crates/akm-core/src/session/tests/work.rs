//! What strangers and members make a session do: calls of the element above all.

use core::time::Duration;

use super::fixture::*;
use crate::session::Rejection;

#[test]
fn the_element_is_asked_once_for_an_epoch_and_never_for_a_frame() {
    let mut network = Network::of(3);
    for epochs in 1..=5 {
        for at in [0, 0, 0] {
            network.tell_all(at, b"x");
        }
        assert_eq!([0, 1, 2].map(|at| network.calls(at)), [epochs; 3]);
        network.wait(SECOND);
        let hello = network.advance(0).frame();
        network.hear(1, &hello);
        network.hear(2, &hello);
    }
}

#[test]
fn forged_frames_in_new_epochs_take_at_most_a_fifth_of_the_elements_time() {
    let mut network = Network::of(2);
    let mut calls = alloc::vec::Vec::new();
    for step in 0..5000 {
        let forged = network.forge(0, 1 + step, 1, 0);
        let before = network.calls(1);
        let reason = network.drops(1, &forged);
        if network.calls(1) > before {
            assert_eq!(reason, Rejection::NotAuthentic);
            calls.push(network.now.0);
        } else {
            assert_eq!(reason, Rejection::Budget);
        }
        network.wait(MILLISECOND);
    }
    // A second at once, a fifth of five seconds, each call of 100 ms; and the epoch in which a member begins that has jumped.
    assert_eq!(calls.len(), 10 + 10 + 1);
    let in_a_second_after =
        |first: &Duration| calls.iter().filter(|call| *call > first && **call < *first + SECOND).count();
    assert!(calls[10..].iter().all(|first| in_a_second_after(first) <= 3));
}

#[test]
fn frames_with_a_wrong_header_signature_cost_no_call() {
    let mut network = Network::of(2);
    for epoch in 0..100 {
        let forged = unsigned(network.forge(0, epoch, 1, 0));
        assert_eq!(network.drops(1, &forged), Rejection::HeaderSignature);
    }
    assert_eq!(network.calls(1), 0);
}

#[test]
fn the_last_four_unproven_epochs_are_cached() {
    let mut network = Network::of(2);
    let forged: alloc::vec::Vec<_> = (1..=5).map(|epoch| network.forge(0, epoch, 1, 0)).collect();
    let cost = |network: &mut Network, at: usize| {
        let before = network.calls(1);
        network.drops(1, &forged[at]);
        network.calls(1) - before
    };
    for at in 0..4 {
        assert_eq!(cost(&mut network, at), 1);
    }
    for at in [0, 1, 2, 3].repeat(100) {
        assert_eq!(cost(&mut network, at), 0);
    }
    assert_eq!(cost(&mut network, 4), 1);
    assert_eq!(cost(&mut network, 1), 0);
    assert_eq!(cost(&mut network, 0), 1);
}

#[test]
fn an_authentic_frame_gives_its_call_back() {
    let mut network = Network::of(2);
    for epoch in 0..50 {
        let honest = network.craft_data(0, 2 * epoch + 1, 1, 0, b"x");
        assert!(network.accepts(1, &honest), "{epoch}");
        network.wait(MILLISECOND * 250);
    }
    for epoch in 101..111 {
        let forged = network.forge(0, epoch, 1, 0);
        assert_eq!(network.drops(1, &forged), Rejection::NotAuthentic);
    }
    let honest = network.craft_data(0, 112, 1, 0, b"x");
    assert_eq!(network.drops(1, &honest), Rejection::Budget);
    // The epoch of a forged frame is known: the honest frame of it costs nothing and gives back.
    let honest = network.craft_data(0, 110, 1, 0, b"x");
    assert!(network.accepts(1, &honest));
    let honest = network.craft_data(0, 112, 1, 0, b"x");
    assert!(network.accepts(1, &honest));
}

#[test]
fn honest_frames_of_open_epochs_flow_through_a_flood() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    network.tell_all(2, b"in 1");
    for round in 0..500u32 {
        for step in 0..20 {
            let forged = network.forge(0, 1000 + round * 20 + step, 1, 0);
            network.drops(1, &forged);
        }
        let before = network.calls(1);
        let honest = network.send(2, &round.to_be_bytes());
        assert!(network.accepts(1, &honest));
        assert_eq!(network.calls(1), before);
        network.wait(MILLISECOND);
    }
    // A second at once, a fifth of half a second, and the epoch in which a member begins that has jumped.
    assert_eq!(network.calls(1), 2 + 10 + 1 + 1);
    network.wait(SECOND);
    let hello = network.advance(2).frame();
    assert!(network.accepts(1, &hello), "a second later there is budget again");
}

#[test]
fn an_epoch_asked_for_on_a_strangers_word_is_not_asked_for_again() {
    let mut network = Network::of(2);
    let forged = network.forge(0, 0, 1, 0);
    network.drops(1, &forged);
    assert_eq!(network.calls(1), 1);
    network.send(1, b"begins epoch 0 itself");
    assert_eq!(network.calls(1), 1);
}
