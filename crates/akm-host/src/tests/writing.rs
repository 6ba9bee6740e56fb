//! The barrier: what rests on a record, and what does not wait for it.

use alloc::vec::Vec;
use core::time::Duration;

use super::fixture::*;
use super::routing::pair;
use crate::{Event, Input, Refused, StartFailed, Verdict, Wish, Write, WriteFailed};

fn advance(plant: &mut Plant) {
    plant.now = plant.now + Duration::from_secs(2);
    plant.input(Input::Advance { wish: Wish(9), relationship: relationship(ASR) });
}

#[test]
fn nothing_of_an_epoch_comes_out_before_its_place_is_durable() {
    let (_, [mut a, mut b]) = pair();
    a.holds_writes = true;
    advance(&mut a);
    a.says(b"one");
    assert_eq!(a.take_came(), []);
    assert!(matches!(a.writes[0].1, Write::Place { epoch, .. } if epoch == a.epoch() + 1));
    a.written();
    let frames = a.sent();
    assert_eq!(frames.len(), 2, "a hello and the message");
    for frame in &frames {
        b.hears(0, frame);
    }
    assert_eq!(b.heard(), [b"one"]);
}

#[test]
fn other_relationships_go_on_while_a_record_is_written() {
    let mut a = Plant::enrolled(0);
    for number in [ASR, 0x11] {
        a.put(&issue(number, 1, 1, &[0, 1], None), true);
    }
    a.start();
    a.live(Duration::from_millis(1));
    a.take_came();
    a.holds_writes = true;
    advance(&mut a);
    a.input(Input::Send { wish: Wish(2), relationship: relationship(0x11), to: None, body: b"meanwhile" });
    assert_eq!(a.sent().len(), 1);
    assert_eq!(a.writes.len(), 1);
}

#[test]
fn a_record_that_cannot_be_written_is_told_once_and_takes_back_what_rests_on_it() {
    let (_, [mut a, mut b]) = pair();
    a.disk_is_full = true;
    let before = a.epoch();
    for _ in 0..2 {
        advance(&mut a);
    }
    let came = a.take_came();
    let failed = WriteFailed { of_the_disk: true, why: "no space left".into() };
    let told = Came::Event(Event::NotRecorded("no space left".into()));
    assert_eq!(came.iter().filter(|came| **came == told).count(), 1);
    assert!(came.contains(&Came::Done(Wish(9), Err(Refused::NotRecorded(failed)))));
    assert!(!came.iter().any(|came| matches!(came, Came::Sent(..))));
    assert_eq!(a.epoch(), before);
    a.disk_is_full = false;
    advance(&mut a);
    assert!(a.take_came().contains(&Came::Event(Event::RecordedAgain)));
    b.disk_is_full = true;
    a.says(b"in the next");
    for frame in a.sent() {
        b.hears(0, &frame);
    }
    assert!(b.take_came().contains(&Came::Seen(Verdict::NotRecorded)));
}

#[test]
fn a_start_writes_all_places_before_it_counts_and_uses_none_before() {
    let asr = issue(ASR, 1, 1, &[0, 1], None);
    let mut a = Plant::enrolled(0);
    a.put(&asr, true);
    a.holds_writes = true;
    a.start();
    assert_eq!((a.writes.len(), a.element.count, a.take_came()), (2, 0, Vec::new()));
    a.hears(1, b"whatever");
    a.written();
    assert_eq!(a.element.count, 0);
    a.written();
    a.pump();
    assert_eq!((a.element.count, a.node.is_running()), (1, true));
}

#[test]
fn a_start_on_a_disk_that_takes_nothing_counts_nothing() {
    let mut a = Plant::enrolled(0);
    a.disk_is_full = true;
    a.start();
    let failed = WriteFailed { of_the_disk: true, why: "no space left".into() };
    let why = alloc::string::ToString::to_string(&StartFailed::Disk(failed));
    assert_eq!(a.take_came(), [Came::NotStarted(why)]);
    assert_eq!((a.element.count, a.node.is_running()), (0, false));
    a.disk_is_full = false;
    a.start();
    assert!(a.node.is_running());
}
