//! While the element takes its time: what flows, what waits, and in which order it goes on.

use alloc::vec::Vec;
use core::time::Duration;

use akm_core::management::{Operation, Outcome, PrepareRequest, StatusRequest};

use super::fixture::*;
use super::routing::pair;
use crate::limits::FRAMES_WAITING;
use crate::{Event, Input, Question, Verdict, Wish};

/// The frames of messages that a node says, after it has begun another epoch.
fn in_a_later_epoch(plant: &mut Plant, bodies: &[&[u8]]) -> Vec<Vec<u8>> {
    plant.now = plant.now + Duration::from_secs(2);
    plant.input(Input::Advance { wish: Wish(9), relationship: relationship(ASR) });
    plant.take_came();
    for body in bodies {
        plant.says(body);
    }
    plant.sent()
}

#[test]
fn frames_of_open_epochs_and_the_module_go_on_while_the_element_takes_its_time() {
    let (_, [mut a, mut b]) = pair();
    a.says(b"in the open epoch");
    let open = a.sent().remove(0);
    let later = in_a_later_epoch(&mut a, &[b"in a later one"]);
    b.holds_answers = true;
    b.hears(0, &later[0]);
    assert_eq!((b.take_came(), b.asked.len()), (Vec::new(), 1));
    b.hears(0, &open);
    assert_eq!(b.heard(), [b"in the open epoch"]);
    b.says(b"it also speaks");
    assert_eq!(b.sent().len(), 1);
    b.answer();
    b.pump();
    assert_eq!(b.heard(), [b"in a later one"]);
}

#[test]
fn a_status_is_answered_while_a_prepare_takes_a_minute() {
    let (_, [mut a, _]) = pair();
    // So that the first request begins no epoch while nothing is answered.
    a.manage(Operation::Status, &StatusRequest { after: None, most: 10 }.emit());
    a.opens(2);
    a.holds_answers = true;
    let prepare = PrepareRequest { relationship: relationship(ASR), element_version: 1 }.emit();
    let is_prepare = |(_, question): &(_, Question)| matches!(question, Question::Prepare);
    a.request(1, Operation::Prepare, &prepare);
    while !a.asked.iter().any(is_prepare) {
        a.answer();
    }
    a.request(2, Operation::Status, &StatusRequest { after: None, most: 10 }.emit());
    let prepare = a.asked.pop_front().expect("the element is asked");
    assert!(is_prepare(&prepare));
    while !a.asked.is_empty() {
        a.answer();
    }
    assert_eq!(a.responses().len(), 1, "the status");
    a.asked.push_back(prepare);
    a.holds_answers = false;
    a.pump();
    let second = a.responses();
    assert_eq!((second.len(), second[0].outcome), (1, Outcome::Done));
}

#[test]
fn frames_of_one_epoch_cost_one_question_and_keep_their_order() {
    let (_, [mut a, mut b]) = pair();
    let frames = in_a_later_epoch(&mut a, &[b"one", b"two", b"three"]);
    b.holds_answers = true;
    for frame in &frames {
        b.hears(0, frame);
    }
    assert_eq!(b.asked.len(), 1);
    b.holds_writes = true;
    b.answer();
    assert_eq!((b.heard(), b.writes.len()), (Vec::new(), 1));
    b.written();
    assert_eq!(b.heard(), [&b"one"[..], b"two", b"three"]);
    assert_eq!(b.node.bytes_waiting(), 0);
}

#[test]
fn what_applications_say_keeps_its_order_through_an_epoch_that_begins_late() {
    let (_, [mut a, mut b]) = pair();
    a.now = a.now + Duration::from_secs(2);
    a.holds_answers = true;
    a.input(Input::Advance { wish: Wish(9), relationship: relationship(ASR) });
    for body in [&b"one"[..], b"two"] {
        a.says(body);
    }
    assert_eq!((a.take_came(), a.asked.len()), (Vec::new(), 1));
    a.holds_answers = false;
    a.pump();
    let frames = a.sent();
    for frame in &frames {
        b.hears(0, frame);
    }
    assert_eq!(b.heard(), [&b"one"[..], b"two"]);
}

#[test]
fn what_waits_is_bounded_and_forged_frames_of_other_epochs_cost_ten_questions_at_most() {
    let (_, [mut a, mut b]) = pair();
    let bodies = [&b"again and again"[..]; 2 * FRAMES_WAITING];
    let frames = in_a_later_epoch(&mut a, &bodies);
    b.holds_answers = true;
    for frame in &frames {
        b.hears(0, frame);
    }
    let not_taken = Came::Seen(Verdict::NotTaken);
    let refused = frames.len() - FRAMES_WAITING;
    assert_eq!(b.take_came().iter().filter(|came| **came == not_taken).count(), refused);
    assert_eq!(b.node.dropped(relationship(ASR)), [("not-taken".into(), refused as u64)]);
    assert!(b.node.bytes_waiting() <= FRAMES_WAITING * frames[0].len());
    b.holds_answers = false;
    b.pump();
    assert_eq!(b.heard().len(), FRAMES_WAITING);
}

#[test]
fn an_element_that_goes_is_told_once_and_asked_each_second_until_it_is_back() {
    let (_, [mut a, mut b]) = pair();
    let frames = in_a_later_epoch(&mut a, &[b"lost"]);
    b.element.silent = true;
    for _ in 0..2 {
        b.hears(0, &frames[0]);
    }
    let gone = |came: &Came| matches!(came, Came::Event(Event::ElementGone(_)));
    assert_eq!(b.take_came().iter().filter(|came| gone(came)).count(), 1);
    assert!(b.node.element_trouble().is_some());
    b.live(Duration::from_secs(3));
    b.element.silent = false;
    b.live(Duration::from_secs(1));
    assert!(b.take_came().contains(&Came::Event(Event::ElementBack)));
    assert_eq!(b.node.element_trouble(), None);
    b.hears(0, &frames[0]);
    assert_eq!(b.heard(), [b"lost"]);
}
