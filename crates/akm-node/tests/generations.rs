//! A change of an ASR at its nodes: generations beside each other, as told to two stations and seen on the wire.

mod support;

use std::time::Duration;

use akm_core::frame::Header;
use akm_core::management::Outcome;
use support::{Recorded, Relationship, Station, exchange, two_stations, two_stations_that_rotate_after};

/// What this station says to the other and nobody has heard yet.
fn in_flight(station: &mut Station, text: &[u8]) -> Vec<u8> {
    station.send("pair", text);
    let (_, frame) = station.network.datagrams.pop().expect("it was sent");
    assert!(station.network.datagrams.is_empty(), "nothing else is under way");
    frame
}

/// Files of the generations that are kept, by number.
fn kept(station: &Station, asr: &Relationship) -> Vec<u32> {
    let dir = station.device.relationship_dir(station.id(), asr.id());
    let entries = std::fs::read_dir(dir).expect("its records");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a text"));
    let number = |name: String| name.strip_prefix('g')?.strip_suffix(".installed")?.parse().ok();
    let mut kept: Vec<u32> = names.filter_map(number).collect();
    kept.sort_unstable();
    kept
}

#[test]
fn what_is_in_flight_when_the_generation_changes_is_heard_for_the_overlap() {
    let ([mut here, mut there], first) = two_stations();
    let second = first.followed_by(1);
    let third = second.followed_by(1);
    for next in [&second, &third] {
        for station in [&mut here, &mut there] {
            assert_eq!(station.install(next), Outcome::Done);
        }
    }
    let mut frames = vec![in_flight(&mut there, b"in the first")];
    for (next, text) in [(&second, &b"in the second"[..]), (&third, b"in the third")] {
        assert_eq!(there.activate(next), Outcome::Done);
        frames.push(in_flight(&mut there, text));
        assert_eq!(here.activate(next), Outcome::Done);
    }
    assert_eq!(here.report(&first).generation, 3);
    for frame in &frames {
        assert_eq!(here.take(frame, there.address), "accepted");
    }
    assert_eq!(here.delivered(), ["in the first", "in the second", "in the third"]);
    assert_eq!(kept(&here, &first), [1, 2, 3]);

    // A start in the midst of it ends it.
    here.restart();
    assert_eq!((here.report(&first).generation, kept(&here, &first)), (3, vec![3]));
    assert_eq!(here.device.roots().len(), 2, "its own and that of the ASR");
}

#[test]
fn where_the_element_version_rose_nothing_of_the_one_before_is_heard_and_its_sender_is_told() {
    let ([mut here, mut there], first) = two_stations();
    // What was never opened here is not recognised once it is gone.
    here.send("pair", b"by the old root");
    let second = first.followed_by(2);
    assert_eq!(here.install(&second), Outcome::Done);
    assert_eq!(there.install(&second), Outcome::Done);
    assert_eq!(here.activate(&second), Outcome::Done);
    assert_eq!(kept(&here, &first), [2]);
    here.fire();
    here.network.datagrams.clear();

    // The other has missed the word and the first hello.
    let frame = in_flight(&mut there, b"by the old root");
    assert_eq!(here.take(&frame, there.address), "old-generation");
    assert!(here.delivered().is_empty());
    assert_eq!(here.report(&first).rejected["old-generation"], 1);
    here.fire();
    let mut stations = [here, there];
    exchange(&mut stations);
    let [mut here, mut there] = stations;
    assert_eq!((there.report(&first).generation, kept(&there, &first)), (2, vec![2]));
    there.send("pair", b"by the new one");
    let mut stations = [here, there];
    exchange(&mut stations);
    [here, there] = stations;
    assert_eq!(here.delivered(), ["by the new one"]);
    for station in [&here, &there] {
        assert_eq!(station.device.roots().len(), 2, "its own and the new one");
    }
}

#[test]
fn whoever_has_a_later_one_staged_still_follows_to_the_one_below() {
    let ([mut here, mut there], first) = two_stations();
    let second = first.followed_by(1);
    let third = second.followed_by(2);
    for next in [&second, &third] {
        assert_eq!(here.install(next), Outcome::Done);
    }
    assert_eq!(here.report(&first).staged_generation, Some(3));
    // The third has not come to the other, and the word for the second has.
    there.make_member(&second);
    let frame = in_flight(&mut there, b"in the second");
    assert_eq!(here.take(&frame, there.address), "accepted");
    assert_eq!(here.delivered(), ["in the second"]);
    let report = here.report(&first);
    assert_eq!((report.generation, report.staged_generation), (2, Some(3)));

    // A restart keeps what is in force and what is staged.
    here.restart();
    assert_eq!(kept(&here, &first), [2, 3]);
    let report = here.report(&first);
    assert_eq!((report.generation, report.staged_generation), (2, Some(3)));
}

#[test]
fn what_is_not_above_all_that_is_held_is_refused() {
    let (mut station, asrs) = Station::with_asrs(1);
    let second = asrs[0].followed_by(2);
    station.make_member(&second);
    let fourth = second.followed_by(2).followed_by(2);
    assert_eq!(station.install(&fourth), Outcome::Done);
    let refused = [
        // The number is held with another content, or passed.
        asrs[0].followed_by(2),
        second.followed_by(2),
        second.again_as(4),
        // Whoever was shut out would be let in again.
        asrs[0].again_as(5),
    ];
    for generation in &refused {
        assert_eq!(station.install(generation), Outcome::Conflict, "{:?}", generation.sds.generation());
    }
    assert_eq!(station.install(&fourth), Outcome::Done, "what is held is no conflict");
    assert_eq!(kept(&station, &second), [2, 4]);
    let report = station.report(&second);
    assert_eq!((report.generation, report.staged_generation), (2, Some(4)));
}

#[test]
fn a_generation_that_another_follows_only_receives() {
    let ([mut here, mut there], first) = two_stations_that_rotate_after(Duration::from_millis(20));
    let second = first.followed_by(1);
    let frame = in_flight(&mut there, b"in the first");
    here.make_member(&second);
    assert_eq!(here.take(&frame, there.address), "accepted");
    here.network = Recorded::default();
    let began = here.report(&first).epoch;
    // It moves on by age a few times; the one before, whose age has come too, stays silent.
    while here.report(&first).epoch < Some(began.unwrap_or(0) + 3) {
        here.fire();
    }
    assert_eq!(kept(&here, &first), [1, 2], "within the overlap");
    let tags = here.network.datagrams.iter().map(|(_, frame)| Header::parse(frame).expect("a frame").tag);
    let tags: Vec<_> = tags.collect();
    assert!(tags.len() >= 3 && tags.iter().all(|tag| *tag == second.secrets.host.keys.tag), "{tags:?}");
}
