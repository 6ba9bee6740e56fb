//! Elements and disks that fail: nothing rests on what is not durable, and the same input goes on later.

use super::fixture::*;
use crate::element::ElementError;
use crate::policy::Policy;
use crate::session::{Input, Output, Phase, Record, Rejection, SessionError, Surroundings};
use crate::tree::NO_EPOCH;

fn unplugged() -> Result<(), SessionError> {
    Err(SessionError::Element(ElementError::Unavailable("unplugged".into())))
}

#[test]
fn the_place_is_durable_before_the_frame_goes_out_or_is_delivered() {
    let mut network = Network::of(2);
    let outcome = network.try_send(0, b"x");
    let sent = outcome.done.iter().position(|done| matches!(done, Done::Sent(_))).unwrap();
    assert_eq!((&outcome.done[0], sent > 0), (&Done::Wrote(0), true));
    let frame = outcome.frame();
    let outcome = network.hear(1, &frame);
    assert_eq!(outcome.done[0], Done::Wrote(0));
    assert!(matches!(outcome.done.last(), Some(Done::Delivered(_))));
}

#[test]
fn until_it_is_durable_the_same_record_is_handed_out_and_no_input_taken() {
    let mut network = Network::of(2);
    let now = network.now;
    let Party { session, element, random, .. } = &mut network.parties[0];
    let mut surroundings = Surroundings { now, element, random };
    session.handle(Input::Advance, &mut surroundings).unwrap();
    // Out of turn: nobody has seen the record yet.
    session.persisted();
    session.persist_failed();
    for _ in 0..3 {
        assert!(matches!(session.poll(), Output::Persist(Record::Place(_))));
    }
    assert_eq!(session.handle(Input::Timeout, &mut surroundings), Err(SessionError::OutputPending));
    assert_eq!(session.epoch(), NO_EPOCH);
    session.persisted();
    assert_eq!(session.epoch(), 0);
    assert_eq!(session.handle(Input::Timeout, &mut surroundings), Err(SessionError::OutputPending));
    while !matches!(session.poll(), Output::Idle) {}
    assert_eq!(session.handle(Input::Timeout, &mut surroundings), Ok(()));
}

#[test]
fn one_word_of_the_host_covers_one_record() {
    let mut network = Network::staged(2);
    let frame = network.craft_data(0, 3, 1, 0, b"x");
    let now = network.now;
    let Party { session, element, random, .. } = &mut network.parties[1];
    session.handle(Input::Frame(&frame), &mut Surroundings { now, element, random }).unwrap();
    assert!(matches!(session.poll(), Output::Persist(Record::Activated)));
    session.persisted();
    session.persisted();
    assert!(matches!(session.poll(), Output::Persist(Record::Place(_))));
    assert_eq!((session.phase(), session.epoch()), (Phase::Staged, NO_EPOCH));
}

#[test]
fn a_frame_whose_place_could_not_be_written_is_accepted_when_it_comes_again() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    let frame = network.send(2, b"in 1");
    network.parties[1].disk.writes_left = Some(0);
    let calls = network.calls(1);
    for _ in 0..50 {
        assert_eq!(network.hear(1, &frame).done, [Done::WriteFailed]);
        assert_eq!((network.epoch(1), network.phase(1)), (0, Phase::Established));
    }
    let still_open = network.send(0, b"in 0");
    assert!(network.accepts(1, &still_open));
    network.parties[1].disk.writes_left = None;
    assert_eq!(network.hear(1, &frame).payload(), Some(&b"in 1"[..]));
    assert_eq!(network.drops(1, &frame), Rejection::Duplicate);
    assert_eq!(network.calls(1), calls + 1, "a failing disk does not wear the element out");
}

#[test]
fn a_staged_member_whose_nth_write_fails_is_activated_when_the_frame_comes_again() {
    for writes in 0..2 {
        let mut network = Network::staged(2);
        let frame = network.craft_data(0, 3, 1, 0, b"x");
        network.parties[1].disk.writes_left = Some(writes);
        assert_eq!(network.hear(1, &frame).done.last(), Some(&Done::WriteFailed));
        assert_eq!((network.phase(1), network.epoch(1)), (Phase::Staged, NO_EPOCH));
        network.parties[1].disk.writes_left = None;
        assert_eq!(network.hear(1, &frame).payload(), Some(&b"x"[..]));
        assert_eq!((network.phase(1), network.epoch(1)), (Phase::Established, 3));
    }
}

#[test]
fn killed_after_the_nth_write_of_its_activation_a_member_starts_where_it_was() {
    for writes in 0..2 {
        let mut network = Network::staged(2);
        let frame = network.craft_data(0, 3, 1, 0, b"x");
        network.parties[1].disk.writes_left = Some(writes);
        network.hear(1, &frame);
        network.parties[1].disk.writes_left = None;
        network.restart(1);
        assert_eq!(network.phase(1), [Phase::Staged, Phase::Established][writes]);
        assert_eq!(network.hear(1, &frame).payload(), Some(&b"x"[..]));
    }
}

#[test]
fn an_activation_that_could_not_be_written_did_not_happen() {
    let mut network = Network::staged(2);
    network.parties[0].disk.writes_left = Some(0);
    assert_eq!(network.input(0, Input::Activate).done, [Done::WriteFailed]);
    assert_eq!(network.phase(0), Phase::Staged);
    network.parties[0].disk.writes_left = None;
    assert_eq!(network.input(0, Input::Activate).done[0], Done::Activated);
}

#[test]
fn an_epoch_that_could_not_be_written_is_not_spoken_in() {
    let mut network = Network::of(2);
    network.tell_all(0, b"in 0");
    network.wait(SECOND);
    network.parties[0].disk.writes_left = Some(0);
    assert_eq!(network.advance(0).done, [Done::WriteFailed]);
    assert_eq!(network.epoch(0), 0);
    let frame = network.send(0, b"still in 0");
    assert_eq!((header(&frame).epoch, header(&frame).counter), (0, 1));
    network.parties[0].disk.writes_left = None;
    assert_eq!(network.live(0, SECOND * 60).len(), 0, "the step was given up");
    assert_eq!(header(&network.advance(0).frame()).epoch, 1);
    assert_eq!(network.calls(0), 2);
}

#[test]
fn a_first_frame_that_could_not_be_written_for_is_not_sent() {
    let mut network = Network::of(2);
    network.parties[0].disk.writes_left = Some(0);
    assert_eq!(network.try_send(0, b"x").done, [Done::WriteFailed]);
    network.parties[0].disk.writes_left = None;
    let frame = network.send(0, b"x");
    assert_eq!((header(&frame).epoch, header(&frame).counter), (0, 0));
}

#[test]
fn with_a_failing_disk_the_timer_tries_once_a_second() {
    let mut network = Network::with(2, Policy { rotate_after: SECOND * 10, ..Policy::default() });
    network.send(0, b"x");
    network.parties[0].disk.writes_left = Some(0);
    network.now = network.parties[0].session.timeout().unwrap();
    assert_eq!(network.live(0, SECOND * 10).len(), 11);
    assert_eq!(network.calls(0), 2);
    network.parties[0].disk.writes_left = None;
    let outcomes = network.live(0, SECOND);
    assert_eq!(header(&outcomes[0].frames()[0]).epoch, 1);
}

#[test]
fn a_hello_at_start_waits_for_disk_and_element() {
    let mut network = Network::of(2);
    network.hello_at_start = true;
    network.restart(0);
    network.now = network.parties[0].session.timeout().unwrap();
    network.parties[0].disk.writes_left = Some(0);
    network.parties[0].element.fails = true;
    assert_eq!(network.live(0, SECOND * 3).len(), 4);
    network.parties[0].element.fails = false;
    assert_eq!(network.live(0, SECOND * 3).len(), 3);
    network.parties[0].disk.writes_left = None;
    assert_eq!(network.live(0, SECOND * 3).len(), 1);
    assert_eq!(network.epoch(0), 0);
}

#[test]
fn when_the_element_fails_nothing_is_sent_and_nothing_changes() {
    let mut network = Network::of(2);
    network.parties[0].element.fails = true;
    assert_eq!(network.try_send(0, b"x").result, unplugged());
    assert_eq!(network.input(0, Input::Advance).result, unplugged());
    network.parties[0].element.fails = false;
    assert_eq!(network.live(0, SECOND * 60).len(), 0, "what was refused is not made up for");
    assert_eq!(network.epoch(0), NO_EPOCH);
    network.tell_all(0, b"x");
}

#[test]
fn when_the_element_fails_a_frame_in_a_later_epoch_may_come_again() {
    let mut network = Network::of(3);
    network.tell_all(0, b"in 0");
    let frame = network.send(2, b"in 1");
    network.parties[1].element.fails = true;
    assert_eq!(network.input(1, Input::Frame(&frame)).result, unplugged());
    let open = network.send(0, b"open epochs need no element");
    assert!(network.accepts(1, &open));
    network.parties[1].element.fails = false;
    assert!(network.accepts(1, &frame));
}

#[test]
fn an_element_that_fails_is_asked_for_a_fifth_of_the_time_by_frames() {
    let mut network = Network::of(2);
    let frame = network.send(0, b"in 0");
    network.parties[1].element.fails = true;
    for _ in 0..1000 {
        let _ = network.input(1, Input::Frame(&frame));
    }
    assert_eq!(network.calls(1), 1 + 10, "once for the next epoch, and a second at once");
}

#[test]
fn when_the_element_fails_the_timer_tries_once_a_second() {
    let mut network = Network::with(2, Policy { rotate_after: SECOND * 10, ..Policy::default() });
    network.send(0, b"x");
    network.parties[0].element.fails = true;
    network.now = network.parties[0].session.timeout().unwrap();
    let outcomes = network.live(0, SECOND * 10);
    assert_eq!(outcomes.len(), 11);
    assert!(outcomes.iter().all(|outcome| outcome.result == unplugged()));
    network.parties[0].element.fails = false;
    assert_eq!(network.live(0, SECOND).len(), 1);
    assert_eq!(network.epoch(0), 1);
}

#[test]
fn an_element_that_fails_when_a_sender_is_behind_is_asked_once_a_second() {
    let mut network = Network::provisioning();
    let behind = network.send(0, b"in 0");
    network.place_at(1, 10);
    network.parties[1].element.fails = true;
    assert_eq!(network.input(1, Input::Frame(&behind)).result, unplugged());
    for _ in 0..100 {
        assert_eq!(network.drops(1, &behind), Rejection::EpochTooOld);
    }
    assert_eq!(network.calls(1), 1);
    network.parties[1].element.fails = false;
    network.wait(SECOND);
    assert_eq!(network.hear(1, &behind).frames().len(), 1);
}
