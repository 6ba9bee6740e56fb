//! Old and forged frames are refused, whoever sends them and whenever.
//!
//! A stranger on the network holds frames that members of an ASR have sealed, taken with `akmd watch`,
//! and sends them from a socket of its own.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use akm_counterparts::ports;
use support::plant::{Plant, text_of, wait_until};
use support::wire::{Stranger, accepted};

/// What a listener heard, each text once.
#[track_caller]
fn check_heard_once(heard: &[serde_json::Value], expected: &[&str]) {
    let texts: Vec<String> = heard.iter().map(text_of).collect();
    assert_eq!(texts, expected);
}

/// A message that a node accepted, as it was on the wire.
fn take_a_message(plant: &Plant, from: &str, at: &str, asr: &str, text: &str) -> Vec<u8> {
    let watch = plant.watch(at, asr, 1);
    plant.send(from, asr, text);
    let (frame, seen) = accepted(watch).remove(0);
    assert_eq!(seen["asr"], asr);
    frame
}

/// Moves an ASR on by so many epochs.
fn move_on(plant: &Plant, name: &str, asr: &str, epochs: usize) {
    for _ in 0..epochs {
        let before = plant.epoch(name, asr);
        plant.akmd(name, &["rotate", asr]).expect(0);
        wait_until("the epoch has moved on", || plant.epoch(name, asr) > before);
    }
}

#[test]
fn a_frame_is_accepted_once_and_in_no_later_epoch_again() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    plant.akm(&["asr", "create", "line", "a", "b", "--advance-interval", "50ms"]).expect(0);
    plant.akm(&["asr", "create", "other", "b", "c"]).expect(0);
    let stranger = Stranger::new();
    let listener = plant.listen_on("b", "line");
    let frame = take_a_message(&plant, "a", "b", "line", "first");

    // In its own epoch, also by the way of its true sender's address: the source counts for nothing.
    let replays = vec![frame.clone(); 20];
    assert_eq!(stranger.send(&plant, "b", &replays), vec!["duplicate"; 20]);

    // In the overlap it is still a duplicate; then its epoch is closed.
    move_on(&plant, "a", "line", 1);
    wait_until("the receiver has followed", || plant.epoch("b", "line") == plant.epoch("a", "line"));
    let mut verdicts = BTreeSet::new();
    wait_until("the overlap has passed", || {
        let verdict = stranger.send_one(&plant, "b", &frame);
        verdicts.insert(verdict.clone());
        verdict == "epoch-too-old"
    });
    assert!(
        verdicts.iter().all(|verdict| ["duplicate", "epoch-too-old"].contains(&verdict.as_str())),
        "{verdicts:?}"
    );

    // Also where so many epochs have come that the overlap could not hold them all.
    let frame = take_a_message(&plant, "a", "b", "line", "second");
    move_on(&plant, "b", "line", 6);
    assert_eq!(stranger.send_one(&plant, "b", &frame), "epoch-too-old");

    // A node that is no member does not know it; and frames of the other ASR are not of this one.
    assert_eq!(stranger.send_one(&plant, "c", &frame), "unknown-tag");
    let of_other = take_a_message(&plant, "b", "c", "other", "third");
    assert_eq!(stranger.send_one(&plant, "a", &of_other), "unknown-tag");
    // Its own frame, thrown back.
    assert_eq!(stranger.send_one(&plant, "b", &of_other), "own-frame");

    // Nobody was led to the stranger's address.
    for name in ["a", "b", "c"] {
        assert!(!plant.status(name).to_string().contains(&stranger.address()), "{name}");
    }
    plant.send("a", "line", "last");
    wait_until("the last message is counted", || {
        plant.relationship("b", "line")["accepted"].as_u64() >= Some(3)
    });
    check_heard_once(&listener.stop(), &["first", "second", "last"]);
}

#[test]
fn nothing_from_before_a_restart_is_accepted_after_it() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let stranger = Stranger::new();
    let frames: Vec<Vec<u8>> =
        ["one", "two", "three"].map(|text| take_a_message(&plant, "a", "b", "line", text)).to_vec();

    // Power loss, and a stop in good order.
    for how in ["kill", "stop"] {
        if how == "kill" {
            plant.kill("b");
        } else {
            plant.akmd("b", &["stop"]).expect(0);
        }
        plant.start("b");
        let listener = plant.listen_on("b", "line");
        assert_eq!(stranger.send(&plant, "b", &frames), vec!["epoch-too-old"; 3], "after {how}");
        wait_until("the sender is heard in the new epoch", || {
            plant.epoch("a", "line") == plant.epoch("b", "line")
        });
        let after = take_a_message(&plant, "a", "b", "line", how);
        assert_eq!(stranger.send_one(&plant, "b", &after), "duplicate");
        check_heard_once(&listener.stop(), &[how]);
    }

    // The sender starts again too: it never says the same under the same key.
    plant.kill("a");
    plant.start("a");
    wait_until("both are in one epoch", || plant.epoch("a", "line") == plant.epoch("b", "line"));
    let fresh = take_a_message(&plant, "a", "b", "line", "one");
    assert!(
        frames.iter().all(|frame| frame[8..24] != fresh[8..24]),
        "epoch, salt and counter are used twice"
    );
}

#[test]
fn a_forged_frame_is_refused_whichever_bit_is_changed() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    // Without a jump: what is held back from b while it is off it is to hear after its start.
    plant
        .akm(&["asr", "create", "line", "a", "b", "c", "--advance-interval", "50ms", "--jump", "0"])
        .expect(0);
    let stranger = Stranger::new();

    // A genuine frame that b has never seen: it was off, and c heard it.
    plant.kill("b");
    move_on(&plant, "a", "line", 2);
    let genuine = take_a_message(&plant, "a", "c", "line", "genuine");
    plant.start("b");
    wait_until("b hears a again", || {
        plant.send("a", "line", "are you there");
        plant.epoch("b", "line") == plant.epoch("a", "line")
    });
    let listener = plant.listen_on("b", "line");

    let mut forged = Vec::new();
    let mut regions = Vec::new();
    for at in 0..genuine.len() {
        for bit in 0..8 {
            let mut frame = genuine.clone();
            frame[at] ^= 1 << bit;
            forged.push(frame);
            regions.push(at);
        }
    }
    // Cut short, made longer, and nothing at all but the right header.
    for length in [1, 27, 28, 44, genuine.len() - 1] {
        forged.push(genuine[..length].to_vec());
        regions.push(usize::MAX);
    }
    forged.push([genuine.as_slice(), b"more"].concat());
    regions.push(usize::MAX);

    let verdicts = stranger.send(&plant, "b", &forged);
    for (at, verdict) in regions.iter().zip(&verdicts) {
        let reasons: &[&str] = match *at {
            // Version, class and the byte that is zero.
            0..2 => &["malformed"],
            // The sender: another member, this node itself, or nobody.
            2..4 => &["own-frame", "not-a-member", "not-authentic", "header-signature"],
            4..8 => &["unknown-tag"],
            8..12 => &["epoch-too-old", "header-signature"],
            12..20 => &["header-signature"],
            // The counter is below the salt's first one that was heard, or the content does not fit it.
            20..24 => &["not-authentic", "duplicate", "header-signature"],
            24..28 => &["not-authentic", "header-signature"],
            usize::MAX => &["malformed", "not-authentic"],
            _ => &["not-authentic"],
        };
        assert!(reasons.contains(&verdict.as_str()), "byte {at}: {verdict}");
    }

    // All that has not kept the genuine one from being heard, once.
    assert_eq!(stranger.send_one(&plant, "b", &genuine), "accepted");
    assert_eq!(stranger.send_one(&plant, "b", &genuine), "duplicate");
    check_heard_once(&listener.stop(), &["genuine"]);

    // It came by a detour: the next word of its true sender corrects the address.
    plant.send("a", "line", "here I am");
    wait_until("b answers the true sender", || {
        !plant.relationship("b", "line").to_string().contains(&stranger.address())
    });
    let counts = plant.relationship("b", "line")["rejected"].clone();
    for reason in ["not-authentic", "header-signature", "duplicate"] {
        assert!(counts[reason].as_u64() > Some(0), "{reason} is not counted: {counts}");
    }
}

#[test]
fn noise_does_not_keep_the_module_out() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let address = plant.address("a");

    // Garbage, a page of the web, lengths that no frame has, half a frame, and an empty connection.
    let longest = [&131_072u32.to_be_bytes()[..], &[7; 1000]].concat();
    let too_long = u32::MAX.to_be_bytes();
    let noise: [&[u8]; 8] = [
        &[0xff; 4096],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 64],
        &too_long,
        &longest,
        &[0, 0, 0, 50, 0x10],
        b"",
        &[0, 0],
    ];
    for bytes in noise {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(bytes).expect("the node takes what comes");
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "strangers get no answer");
    }
    // A well-formed frame with a tag that the node knows, and nothing right in it.
    let datagram = Stranger::new();
    for length in [0, 1, 27, 45, 1452, 1453, 60_000] {
        let verdict = datagram.send_one(&plant, "a", &vec![0x10; length]);
        assert_eq!(verdict, "malformed", "{length} bytes");
    }
    plant.akm(&["verify", "a"]).expect(0);

    // Forty that say nothing, and forty in the middle of a frame; then more than the node takes at once.
    let mut strangers: Vec<TcpStream> =
        (0..80).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    for stream in strangers.iter_mut().take(40) {
        stream.write_all(&[0, 0, 1, 0, 0x10]).expect("the node takes what comes");
    }
    plant.akm(&["verify", "a"]).expect(0);
    strangers.extend((0..220).map(|_| TcpStream::connect(address).expect("a connection")));
    plant.akm(&["verify", "a"]).expect(0);
    plant.akm(&["asr", "create", "second", "a", "b"]).expect(0);
    let listener = plant.listen("a", "second", 1);
    plant.send("b", "second", "through");
    assert_eq!(listener.texts(), ["through"]);
    drop(strangers);
}

#[test]
fn a_module_that_was_restored_from_a_backup_finds_its_nodes_again() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["verify", "--all"]).expect(0);
    let backup = plant.place().join("backup");
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.is_ok_and(|status| status.success()));
    };
    // A little behind, and far behind; its first frame is never one that the node could take for new.
    copy(&plant.home(), &backup);
    for commands in [1, 2, 8] {
        for _ in 0..commands {
            plant.akm(&["verify", "--all"]).expect(0);
        }
        std::fs::remove_dir_all(plant.home()).expect("the home");
        copy(&backup, &plant.home());
        plant.akm(&["verify", "--all"]).expect(0);
    }
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
}

/// Passes a node's connections on, and keeps what went towards the node.
fn eavesdrop(listener: TcpListener, node: SocketAddr) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut near, Ok(mut far)) = (stream.expect("a connection"), TcpStream::connect(node)) else {
                continue;
            };
            let mut back = (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back.0, &mut back.1);
                let _ = back.1.shutdown(Shutdown::Both);
            });
            let mut buffer = [0; 16_384];
            let mut said = Vec::new();
            while let Ok(length @ 1..) = near.read(&mut buffer) {
                said.extend_from_slice(&buffer[..length]);
                if far.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = far.shutdown(Shutdown::Both);
            keep.lock().expect("no panic").push(said);
        }
    });
    kept
}

#[test]
fn what_the_module_said_does_nothing_when_it_is_said_again() {
    let plant = Plant::new();
    plant.provision("b");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = listener.local_addr().expect("an address").to_string();
    let port = ports::port();
    let node: SocketAddr = ([127, 0, 0, 1], port).into();
    let kept = eavesdrop(listener, node);
    let (target, listen) = (plant.target("a"), node.to_string());
    plant.akm(&["provision", &target, "--name", "a", "--listen", &listen, "--endpoint", &endpoint]).expect(0);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    plant.akm(&["verify", "a"]).expect(0);
    wait_until("all conversations are over", || kept.lock().expect("no panic").len() >= 3);

    let conversations = kept.lock().expect("no panic").clone();
    let held = |plant: &Plant| {
        let status = plant.status("a");
        let list = status["relationships"].as_array().expect("a list").clone();
        list.iter().map(|each| (each["id"].clone(), each["phase"].clone())).collect::<Vec<_>>()
    };
    let before = held(&plant);
    // To a node that has heard it, and to one that has started again since.
    for again in [false, true] {
        if again {
            plant.kill("a");
            plant.start("a");
        }
        let accepted = |plant: &Plant| {
            let status = plant.status("a");
            let list = status["relationships"].as_array().expect("a list").clone();
            list.iter()
                .find(|each| each["kind"] == "provisioning")
                .and_then(|each| each["accepted"].as_u64())
                .expect("a number")
        };
        let heard = accepted(&plant);
        for said in &conversations {
            let mut stream = TcpStream::connect(node).expect("a connection");
            stream.write_all(said).expect("the node takes what comes");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        assert_eq!(accepted(&plant), heard, "a replayed request was accepted");
        assert_eq!(held(&plant), before);
    }
    plant.akm(&["verify", "--all"]).expect(0);
    let listener = plant.listen("b", "line", 1);
    wait_until("both are in one epoch", || plant.epoch("a", "line") == plant.epoch("b", "line"));
    plant.send("a", "line", "still here");
    assert_eq!(listener.texts(), ["still here"]);
}
