//! Moving on: triggers, the advance interval, the limits of a key, the last epoch.

use alloc::vec::Vec;
use core::time::Duration;

use super::fixture::*;
use crate::frame::{FrameKind, OVERHEAD};
use crate::policy::Policy;
use crate::session::epochs::Sending;
use crate::session::{Cause, Event, Input, Instant, Phase, SessionError};
use crate::tree::LAST_EPOCH;

fn began(outcome: &Outcome) -> Option<(u32, Cause)> {
    outcome.events().iter().find_map(|event| match event {
        Event::EpochBegan { epoch, cause } => Some((*epoch, *cause)),
        _ => None,
    })
}

fn causes(outcomes: &[Outcome]) -> Vec<Cause> {
    outcomes.iter().filter_map(|outcome| began(outcome).map(|(_, cause)| cause)).collect()
}

#[test]
fn age_makes_a_member_move_on_and_say_hello_at_once() {
    let policy = Policy { rotate_after: SECOND * 10, ..Policy::default() };
    let mut network = Network::with(2, policy);
    network.tell_all(0, b"in 0");
    let due = network.parties[0].session.timeout().unwrap();
    let old = network.now + policy.rotate_after;
    assert!(old <= due && due <= old + policy.rotate_after / 8, "{due:?}");
    network.now = Instant(due.0 - MILLISECOND);
    assert_eq!(network.tick(0).done, []);
    network.now = due;
    let outcome = network.tick(0);
    assert_eq!(began(&outcome), Some((1, Cause::Age)));
    let hello = outcome.frame();
    assert_eq!(hello.len(), OVERHEAD);
    assert_eq!(network.hear(1, &hello).heard().unwrap().kind, FrameKind::Hello);
}

#[test]
fn the_age_of_an_epoch_counts_from_hearing_of_it() {
    let mut network = Network::with(2, Policy { rotate_after: SECOND * 10, ..Policy::default() });
    network.tell_all(0, b"in 0");
    network.wait(SECOND * 6);
    let hello = network.advance(0).frame();
    network.hear(1, &hello);
    let old = network.now + SECOND * 10;
    network.wait(SECOND * 5);
    let closing = network.tick(1);
    assert_eq!(closing.done, []);
    let due = network.parties[1].session.timeout().unwrap();
    assert!(old <= due && due <= old + SECOND * 10 / 8, "{due:?}");
}

#[test]
fn how_late_a_member_acts_on_age_differs_from_member_to_member_and_from_epoch_to_epoch() {
    let policy = Policy { rotate_after: SECOND * 10, ..Policy::default() };
    let mut network = Network::with(4, policy);
    let mut delays = Vec::new();
    for _ in 0..5 {
        let hello = network.advance(0).frames().pop();
        if let Some(hello) = hello {
            for other in 1..4 {
                network.hear(other, &hello);
            }
        }
        delays.extend((0..4).map(|at| network.parties[at].session.trigger_due().unwrap().0 - network.now.0));
        network.wait(SECOND);
    }
    assert!(delays.iter().all(|delay| (SECOND * 10..=SECOND * 90 / 8).contains(delay)), "{delays:?}");
    delays.sort();
    delays.dedup();
    assert_eq!(delays.len(), 20);
}

#[test]
fn an_age_that_no_clock_reaches_is_no_overflow() {
    let policy = Policy { rotate_after: Duration::from_millis(u64::MAX), ..Policy::default() };
    let mut network = Network::with(2, policy);
    network.send(0, b"x");
    assert!(network.parties[0].session.timeout().unwrap() > network.now + SECOND * 1_000_000);
}

#[test]
fn a_frame_sent_when_the_epoch_is_too_old_begins_the_next_without_a_hello() {
    let mut network = Network::with(2, Policy { rotate_after: SECOND * 10, ..Policy::default() });
    network.send(0, b"in 0");
    network.wait(SECOND * 90 / 8);
    let outcome = network.try_send(0, b"in 1");
    assert_eq!(began(&outcome), Some((1, Cause::Age)));
    assert_eq!(outcome.frames().len(), 1);
    assert_eq!(network.tick(0).frames().len(), 0);
}

#[test]
fn without_age_in_the_policy_time_changes_nothing() {
    let mut network = Network::of(2);
    network.send(0, b"x");
    assert_eq!(network.live(0, Duration::from_secs(1 << 40)).len(), 0);
    assert_eq!(network.epoch(0), 0);
}

#[test]
fn frames_make_a_member_move_on() {
    let policy = Policy { rotate_frames: 3, rotate_after: Duration::ZERO, ..Policy::default() };
    let mut network = Network::with(2, policy);
    for _ in 0..3 {
        assert_eq!(header(&network.send(0, b"x")).epoch, 0);
    }
    network.wait(policy.advance_interval);
    let outcome = network.try_send(0, b"x");
    assert_eq!(began(&outcome), Some((1, Cause::Frames)));
    assert_eq!(header(&outcome.frame()).counter, 0);
}

#[test]
fn after_the_last_frame_of_an_epoch_a_hello_begins_the_next_if_nothing_is_to_be_said() {
    let policy = Policy { rotate_frames: 3, rotate_after: Duration::ZERO, ..Policy::default() };
    let mut network = Network::with(2, policy);
    for _ in 0..3 {
        network.tell_all(0, b"x");
    }
    let outcomes = network.live(0, SECOND * 60);
    assert_eq!(causes(&outcomes), [Cause::Frames]);
}

fn sending(network: &mut Network) -> &mut Sending {
    network.parties[0].session.epochs.current.as_mut().unwrap().sending.as_mut().unwrap()
}

#[test]
fn a_key_that_is_used_up_makes_a_member_move_on_whatever_the_policy_says() {
    let mut network = Network::of(2);
    network.tell_all(0, b"x");
    sending(&mut network).counter = (1 << 28) - 1;
    network.tell_all(0, b"the last frame under this key");
    let frame = network.tell_all(0, b"the first under the next");
    assert_eq!((header(&frame).epoch, header(&frame).counter), (1, 0));
    sending(&mut network).bytes = (1 << 38) - OVERHEAD as u64 - 1;
    assert_eq!(header(&network.tell_all(0, b"1")).epoch, 1);
    assert_eq!(header(&network.tell_all(0, b"")).epoch, 2);
}

#[test]
fn when_the_element_fails_a_key_that_is_used_up_is_not_used_on() {
    let mut network = Network::of(2);
    network.tell_all(0, b"x");
    sending(&mut network).counter = 1 << 28;
    network.parties[0].element.fails = true;
    assert!(matches!(network.try_send(0, b"x").result, Err(SessionError::Element(_))));
}

#[test]
fn a_hello_of_its_own_never_makes_a_member_move_on() {
    let policy = Policy {
        rotate_frames: 1,
        rotate_after: Duration::ZERO,
        advance_interval: Duration::ZERO,
        ..Policy::default()
    };
    let mut network = Network::with(2, policy);
    network.send(0, b"x");
    assert_eq!(causes(&network.live(0, SECOND * 60)), [Cause::Frames]);
    network.send(0, b"y");
    assert_eq!(causes(&network.live(0, SECOND * 60)), [Cause::Frames]);
}

#[test]
fn whoever_asks_gets_the_next_epoch_with_a_hello() {
    let mut network = Network::of(2);
    network.send(0, b"in 0");
    network.wait(SECOND);
    let outcome = network.advance(0);
    assert_eq!(outcome.done[0], Done::Wrote(1));
    assert_eq!(began(&outcome), Some((1, Cause::Asked)));
    assert_eq!(outcome.frame().len(), OVERHEAD);
}

#[test]
fn a_member_moves_on_by_itself_at_most_once_in_the_interval() {
    let policy = Policy {
        rotate_frames: 2,
        rotate_after: MILLISECOND * 10,
        advance_interval: MILLISECOND * 500,
        ..Policy::default()
    };
    let mut network = Network::with(2, policy);
    let mut times = Vec::new();
    for _ in 0..300 {
        let mut outcomes = network.live(0, MILLISECOND * 17);
        outcomes.push(network.try_send(0, b"x"));
        outcomes.push(network.advance(0));
        times.extend(causes(&outcomes).iter().map(|_| network.now.0));
    }
    // The times are those after each step of 17 ms.
    assert!(times.len() >= 9, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] > MILLISECOND * (500 - 2 * 17)), "{times:?}");
    assert!(times.len() <= 11, "{times:?}");
}

#[test]
fn a_step_asked_for_too_early_comes_when_it_may() {
    let mut network = Network::of(2);
    network.send(0, b"in 0");
    let allowed = network.now + Policy::default().advance_interval;
    assert_eq!(network.advance(0).done, []);
    assert_eq!(network.parties[0].session.timeout(), Some(allowed));
    network.wait(MILLISECOND * 999);
    assert_eq!(network.tick(0).done, []);
    assert_eq!(header(&network.send(0, b"still in 0")).epoch, 0);
    network.wait(MILLISECOND);
    assert_eq!(began(&network.tick(0)), Some((1, Cause::Asked)));
    assert_eq!(network.tick(0).done, []);
}

#[test]
fn following_another_is_the_step_that_was_asked_for() {
    let mut network = Network::of(2);
    network.tell_all(0, b"in 0");
    let frame = network.send(1, b"in 1");
    assert_eq!(network.advance(0).done, []);
    network.hear(0, &frame);
    assert_eq!(causes(&network.live(0, SECOND * 60)), []);
}

#[test]
fn following_does_not_wait_for_the_interval() {
    let mut network = Network::of(2);
    network.tell_all(0, b"in 0");
    for epoch in 1..8 {
        let ahead = network.craft_data(1, epoch, 1, 0, b"x");
        assert!(network.accepts(0, &ahead));
    }
    assert_eq!(network.epoch(0), 7);
}

#[test]
fn a_timeout_too_early_or_twice_has_no_effect() {
    let mut network = Network::with(2, Policy { rotate_after: SECOND * 10, ..Policy::default() });
    for _ in 0..3 {
        assert_eq!(network.tick(0).done, []);
    }
    network.send(0, b"x");
    assert_eq!(network.tick(0).done, []);
    network.wait(SECOND * 90 / 8);
    assert_eq!(network.tick(0).frames().len(), 1);
    assert_eq!(network.tick(0).done, []);
    assert_eq!(network.calls(0), 2);
}

#[test]
fn the_warning_that_epochs_run_low_comes_once() {
    let mut network = Network::of(2);
    let half = LAST_EPOCH - (1 << 31);
    network.place_at(0, half - 2);
    let mut warnings = Vec::new();
    for _ in 0..4 {
        let outcome = network.advance(0);
        warnings.push((network.epoch(0), outcome.tells(Event::EpochsRunningLow)));
        network.wait(SECOND);
    }
    assert_eq!(warnings, [(half - 1, false), (half, true), (half + 1, false), (half + 2, false)]);
}

#[test]
fn at_the_last_epoch_a_member_speaks_until_it_would_have_to_move_on() {
    let mut network = Network::of(2);
    network.place_at(0, LAST_EPOCH - 1);
    let outcome = network.try_send(0, b"in the last");
    assert!(outcome.tells(Event::EpochsUsedUp));
    assert_eq!((network.epoch(0), network.phase(0)), (LAST_EPOCH, Phase::Established));
    network.send(0, b"more in the last");
    network.wait(SECOND);
    assert_eq!(network.input(0, Input::Advance).result, Err(SessionError::EpochsUsedUp));
    assert_eq!(network.phase(0), Phase::UsedUp);
    assert_eq!(network.try_send(0, b"x").result, Err(SessionError::EpochsUsedUp));
    assert_eq!(network.parties[0].session.timeout(), None);
}

#[test]
fn age_at_the_last_epoch_is_no_error_and_does_not_spin() {
    let mut network = Network::with(2, Policy { rotate_after: SECOND, ..Policy::default() });
    network.place_at(0, LAST_EPOCH - 1);
    network.send(0, b"in the last");
    let outcomes = network.live(0, SECOND * 100);
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert_eq!(network.phase(0), Phase::UsedUp);
}
