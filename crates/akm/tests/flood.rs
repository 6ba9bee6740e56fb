//! Forged frames and connections of every kind at full speed, on loopback, while honest members talk.
//!
//! What a flood costs is measured and printed: honest messages lost at the node that is flooded, with and without,
//! and what the kernel had no room for. What reached the stack it must not lose, whatever comes between: that is
//! what the tests insist on.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use support::flood::{Arena, Insider, Noise, Outcome, alter, random_bytes, resident, stack_process};
use support::plant::{Plant, wait_until};
use support::wire::accepted;

/// Forged frames of each kind; `AKM_FLOOD_FRAMES` asks for another number.
const FRAMES: u64 = 100_000;

/// What a node may grow by under all floods together, in KiB: buffers of its own, and nothing for each frame.
const GROWTH_MAX: u64 = 16 * 1024;

/// Element calls for unproven epochs in any second.
const CALLS_PER_SECOND: u64 = 10;

/// What is there at once: a second in calls that count as 20 ms at least, and two epochs that are not counted.
const CALLS_AT_ONCE: u64 = 50 + 2;

fn frames() -> u64 {
    match std::env::var("AKM_FLOOD_FRAMES") {
        Ok(text) => text.parse().expect("AKM_FLOOD_FRAMES is a number"),
        Err(_) => FRAMES,
    }
}

/// A table for people, and a line of JSON.
fn report(outcomes: &[Outcome]) {
    let heads = ["forged", "a second", "honest", "lost", "elsewhere", "kernel"];
    println!("{:<24}{}", "flood", heads.map(|head| format!("{head:>11}")).concat());
    for outcome in outcomes {
        let figures = [
            outcome.forged,
            outcome.forged_per_second,
            outcome.honest as u64,
            outcome.honest_lost as u64,
            outcome.honest_lost_elsewhere as u64,
            outcome.kernel_drops,
        ];
        println!("{:<24}{}", outcome.flood, figures.map(|figure| format!("{figure:>11}")).concat());
    }
    println!("{}", serde_json::to_string(outcomes).expect("numbers and text are JSON"));
}

#[test]
fn no_flood_of_datagrams_costs_a_message_that_reached_the_stack() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    plant.akm(&["asr", "create", "line", "a", "b", "c", "--advance-interval", "50ms"]).expect(0);
    let in_one_epoch = || {
        let epochs = ["a", "b", "c"].map(|name| plant.epoch(name, "line"));
        epochs.iter().all(|epoch| *epoch == epochs[0])
    };
    // So many epochs that the first is closed at all members.
    for _ in 0..6 {
        let before = plant.epoch("a", "line");
        plant.akmd("a", &["rotate", "line"]).expect(0);
        wait_until("all have moved on", || plant.epoch("a", "line") > before && in_one_epoch());
    }
    let insider = Insider::of(&plant, "b", "line");
    let watch = plant.watch("b", "line", 32);
    for number in 0..32 {
        plant.send("a", "line", &format!("recorded {number}"));
    }
    let recorded: Vec<Vec<u8>> = accepted(watch).into_iter().map(|(frame, _)| frame).collect();
    assert!(recorded.len() > 16, "{}", recorded.len());
    let members = plant.relationship("b", "line")["members"].as_array().expect("a list").clone();
    let others: Vec<u16> = (0..3).filter(|index| members[usize::from(*index)]["this"] == false).collect();
    let epoch = plant.epoch("b", "line").expect("an epoch") as u32;
    let (process, memory) = (stack_process(&plant, "b"), resident(&plant, "b"));
    let sender = |number: u64| others[number as usize % others.len()];
    let record = |number: u64| &recorded[number as usize % recorded.len()][..];
    let mut noise = Noise::new(0x5eed);

    let mut arena = Arena::new(&plant, "line");
    let mut outcomes = vec![arena.phase("none", 0, |_, _| {})];
    outcomes.push(arena.phase("random bytes", frames(), |_, frame| random_bytes(&mut noise, frame)));
    outcomes.push(arena.phase("right tag", frames(), |_, frame| insider.tagged(&mut noise, frame)));
    outcomes.push(arena.phase("recorded", frames(), |number, frame| {
        frame.clear();
        frame.extend_from_slice(record(number));
    }));
    outcomes.push(arena.phase("recorded and altered", frames(), |number, frame| {
        alter(record(number), number as usize, &mut noise, frame);
    }));
    let old = arena.phase("signed, old epoch", frames(), |number, frame| {
        insider.sign(sender(number), 0, &mut noise, frame);
    });
    // Somebody who may be behind is told so once a second, however often he asks.
    assert!(old.drawn as f64 <= old.seconds + 2.0, "{old:?}");
    assert_eq!(old.not_authentic, 0, "the epoch is still open: {old:?}");
    outcomes.push(old);
    outcomes.push(arena.phase("signed, this epoch", frames(), |number, frame| {
        insider.sign(sender(number), epoch, &mut noise, frame);
    }));
    let one = arena.phase("signed, one later epoch", frames(), |number, frame| {
        insider.sign(sender(number), epoch + 7, &mut noise, frame);
    });
    assert_eq!(one.over_budget, 0, "its secret is kept: {one:?}");
    outcomes.push(one);
    let later = arena.phase("signed, new epochs", frames(), |number, frame| {
        insider.sign(sender(number), epoch + 100 + number as u32, &mut noise, frame);
    });
    // Each frame that came so far as its AEAD has cost the element a call, since no epoch is named twice.
    let calls_max = CALLS_AT_ONCE + CALLS_PER_SECOND * (later.seconds as u64 + 1);
    assert!((1..=calls_max).contains(&later.not_authentic), "{later:?}");
    assert!(later.over_budget > 0, "{later:?}");
    outcomes.push(later);
    outcomes.push(arena.phase("none again", 0, |_, _| {}));
    assert_eq!(plant.epoch("b", "line"), Some(u64::from(epoch)), "nobody was led into another epoch");
    // The account of the element's time is for all who know the header key. The next epoch is not counted: honest members
    // are followed into it.
    let followed = arena.phase("new epochs, a moves on", frames(), |number, frame| {
        if number == frames() / 10 {
            plant.akmd("a", &["rotate", "line"]).expect(0);
        }
        insider.sign(sender(number), epoch + 500_000 + number as u32, &mut noise, frame);
    });
    report(&[outcomes.as_slice(), std::slice::from_ref(&followed)].concat());
    wait_until("all are in the later epoch", || {
        plant.epoch("b", "line") > Some(u64::from(epoch)) && in_one_epoch()
    });
    assert_eq!(followed.honest_lost_elsewhere, 0, "{followed:?}");

    for outcome in &outcomes {
        assert!(outcome.honest_lost as u64 <= outcome.kernel_drops, "lost in the stack: {outcome:?}");
        assert!(outcome.honest_lost_elsewhere == 0, "lost where there is no flood: {outcome:?}");
        assert!(outcome.honest_lost < outcome.honest, "nothing came through: {outcome:?}");
    }
    assert_eq!(stack_process(&plant, "b"), process, "the stack has died");
    let grown = resident(&plant, "b").saturating_sub(memory);
    assert!(grown < GROWTH_MAX, "grown by {grown} KiB");
    plant.akm(&["verify", "b"]).expect(0);
}

/// How strangers behave who have a connection, in turn.
fn annoy(stream: &mut TcpStream, number: u64, noise: &mut Noise) {
    let well_formed = {
        let mut frame = vec![0; 100];
        for byte in &mut frame {
            *byte = noise.next() as u8;
        }
        frame[..2].copy_from_slice(&[0x10, 0]);
        [&100u32.to_be_bytes()[..], &frame].concat()
    };
    let bytes = match number % 5 {
        // Says nothing.
        0 => Vec::new(),
        // The begin of a frame, and no more.
        1 => [&131_072u32.to_be_bytes()[..], &[7; 1000]].concat(),
        // A length that no frame has.
        2 => u32::MAX.to_be_bytes().to_vec(),
        3 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        _ => well_formed.repeat(100),
    };
    // It may be closed already.
    let _ = stream.write_all(&bytes);
}

#[test]
fn a_flood_of_connections_does_not_keep_the_module_out() {
    /// Strangers at work, and how many connections each holds before it lets go of the oldest.
    const STRANGERS: u64 = 4;
    const HELD: usize = 150;

    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let address = plant.address("a");
    let process = stack_process(&plant, "a");
    let memory = resident(&plant, "a");
    let flooding = AtomicBool::new(true);
    let made = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..STRANGERS {
            let (flooding, made) = (&flooding, &made);
            scope.spawn(move || {
                let mut noise = Noise::new(seed + 1);
                let mut held = std::collections::VecDeque::new();
                while flooding.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
                        continue;
                    };
                    let number = made.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
                    annoy(&mut stream, number, &mut noise);
                    held.push_back(stream);
                    if held.len() > HELD {
                        held.pop_front();
                    }
                }
                for mut stream in held {
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
                    let mut answer = [0; 1];
                    assert!(!matches!(stream.read(&mut answer), Ok(1..)), "strangers get no answer");
                }
            });
        }
        let enough = STRANGERS * HELD as u64;
        wait_until("more have come than the node takes at once", || made.load(Ordering::Relaxed) > enough);
        let started = std::time::Instant::now();
        let results: Vec<_> = (0..5)
            .map(|number| {
                let name = format!("made-under-flood-{number}");
                [plant.akm(&["verify", "a"]), plant.akm(&["asr", "create", &name, "a", "b"])]
            })
            .collect();
        println!("ten commands took {:?} meanwhile", started.elapsed());
        flooding.store(false, Ordering::Relaxed);
        for done in results.into_iter().flatten() {
            done.expect(0);
        }
    });
    println!("{} connections of strangers", made.load(Ordering::Relaxed));
    assert_eq!(stack_process(&plant, "a"), process, "the stack has died");
    let grown = resident(&plant, "a").saturating_sub(memory);
    assert!(grown < GROWTH_MAX, "grown by {grown} KiB");
    let listener = plant.listen("b", "made-under-flood-4", 1);
    wait_until("both are in one epoch", || {
        plant.epoch("a", "made-under-flood-4") == plant.epoch("b", "made-under-flood-4")
    });
    plant.send("a", "made-under-flood-4", "through");
    assert_eq!(listener.texts(), ["through"]);
}
