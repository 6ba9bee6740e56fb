//! A start on an element that does not tell an old disk from the latest.

use core::time::Duration;

use akm_core::tree::NO_EPOCH;

use super::fixture::*;
use super::routing::pair;
use crate::{Input, Wish};

#[test]
fn attack_9_a_node_restored_from_an_image_accepts_nothing_once_more_and_is_heard() {
    let (_, [mut a, mut b]) = pair();
    b.element.goes_back = true;
    let of_image = |plant: &Plant| plant.disk[&(relationship(ASR), 1)].place.clone();
    let (image, count) = (of_image(&b), b.element.count);
    a.now = a.now + Duration::from_secs(2);
    a.input(Input::Advance { wish: Wish(9), relationship: relationship(ASR) });
    a.says(b"recorded");
    let recorded = a.sent();
    for frame in &recorded {
        b.hears(0, frame);
    }
    assert_eq!(b.heard(), [b"recorded"]);
    let before = b.epoch();
    b.disk.get_mut(&(relationship(ASR), 1)).unwrap().place = image;
    b.element.count = count;
    b.start();
    assert!(b.epoch() >= before + 1000, "it has moved on");
    for frame in &recorded {
        b.hears(0, frame);
    }
    assert_eq!(b.heard().len(), 0);
    b.live(Duration::from_millis(2));
    for frame in b.sent() {
        a.hears(1, &frame);
    }
    assert_eq!(a.epoch(), b.epoch());
    b.says(b"and heard");
    for frame in b.sent() {
        a.hears(1, &frame);
    }
    assert_eq!(a.heard(), [b"and heard"]);
}

#[test]
fn the_place_that_a_node_jumps_to_is_durable_before_it_is_used() {
    let (_, [_, mut b]) = pair();
    b.element.goes_back = true;
    b.start();
    let first = b.epoch();
    b.start();
    assert_eq!(b.epoch(), first + 1024, "the next start goes on from there");
    b.disk_is_full = true;
    b.start();
    assert!(!b.node.is_running());
    b.disk_is_full = false;
    b.start();
    assert_eq!(b.epoch(), first + 2 * 1024);
}

#[test]
fn who_has_nobody_to_send_to_and_what_is_staged_stay_where_they_are() {
    let (_, [_, mut b]) = pair();
    b.element.goes_back = true;
    let of = (relationship(ASR), 1);
    let before = b.epoch();
    b.disk.get_mut(&of).unwrap().endpoints = alloc::vec![None; 2];
    b.start();
    assert_eq!(b.epoch(), before);

    let asr = issue(0x44, 1, 1, &[0, 1], None);
    let mut staged = Plant::enrolled(0);
    staged.element.goes_back = true;
    staged.put(&asr, false);
    staged.start();
    let lineage = staged.node.lineage(relationship(0x44)).unwrap();
    assert_eq!(lineage.in_force().unwrap().0.epoch(), NO_EPOCH);
}

#[test]
fn a_counter_that_no_disk_takes_back_needs_no_jump() {
    let (_, [_, mut b]) = pair();
    let before = b.epoch();
    b.start();
    assert_eq!(b.epoch(), before);
}
