//! Sealing and opening on other threads, and what waits for them.

use alloc::vec::Vec;
use core::time::Duration;

use akm_core::frame::FrameKind;
use akm_core::session::Opened;

use super::fixture::*;
use super::routing::pair;
use crate::{Input, Wish};

#[test]
fn what_applications_say_waits_while_sealing_is_lent_and_keeps_its_order() {
    let (_, [mut a, mut b]) = pair();
    a.says(b"so that it has begun");
    a.take_came();
    let mut sealer = a.node.lend_sealing(relationship(ASR)).expect("nothing waits");
    assert!(a.node.lend_sealing(relationship(ASR)).is_none());
    let mut frames = Vec::new();
    let mut frame = Vec::new();
    sealer.seal(FrameKind::Data, b"one", &mut frame).unwrap();
    frames.push(frame);
    a.says(b"two");
    a.says(b"three");
    assert_eq!(a.take_came(), []);
    a.takes_back_sealing(sealer);
    frames.extend(a.sent());
    for frame in &frames {
        b.hears(0, frame);
    }
    assert_eq!(b.heard(), [&b"one"[..], b"two", b"three"]);
    assert_eq!(a.node.bytes_waiting(), 0);
}

#[test]
fn a_sealer_that_is_lost_costs_an_epoch_and_no_message() {
    let (_, [mut a, mut b]) = pair();
    a.says(b"so that it has begun");
    a.take_came();
    let before = a.epoch();
    let sealer = a.node.lend_sealing(relationship(ASR)).expect("nothing waits");
    a.says(b"whatever becomes of it");
    drop(sealer);
    a.live(Duration::from_secs(2));
    for frame in a.sent() {
        b.hears(0, &frame);
    }
    assert_eq!((a.epoch(), b.heard()), (before + 1, alloc::vec![b"whatever becomes of it".to_vec()]));
}

#[test]
fn a_frame_that_an_opener_would_open_waits_until_it_is_back_and_others_do_not() {
    let (_, [mut a, mut b]) = pair();
    a.says(b"known here");
    let known = a.sent().remove(0);
    b.hears(0, &known);
    b.take_came();
    a.says(b"by the opener");
    let first = a.sent().remove(0);
    a.says(b"by the node");
    let second = a.sent().remove(0);
    let mut opener = b.node.lend_opening(relationship(ASR)).expect("somebody was heard");
    assert!(matches!(opener.open(&first), Opened::Delivered(_)));
    b.hears(0, &second);
    assert_eq!(b.heard(), [b""; 0]);
    a.now = a.now + Duration::from_secs(2);
    a.input(Input::Advance { wish: Wish(9), relationship: relationship(ASR) });
    b.takes_back_opening(opener);
    assert_eq!(b.heard(), [b"by the node"]);
}
