//! The main job as a user does it: from nothing to messages in all directions.

/// The example of the client, run as it stands there.
#[allow(dead_code, reason = "its `main` is for whoever starts it by itself")]
#[path = "../../akm-client/examples/ask.rs"]
mod ask;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use support::plant::{Done, Plant, run, run_with_input, wait_until};

#[test]
fn from_nothing_to_messages_in_all_directions() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    plant.akm(&["verify", "--all"]).expect(0);
    let nodes = plant.nodes();
    let nodes = nodes.as_array().unwrap();
    assert_eq!((&nodes[0]["name"], &nodes[0]["status"]), (&"plant".into(), &"root".into()));
    let relationships: Vec<bool> =
        nodes.iter().map(|node| node["provisioning_relationship_id"].is_string()).collect();
    assert_eq!(relationships, [false, true, true, true], "the root alone has none");
    plant.akm(&["asr", "create", "line", "a", "b", "c"]).expect(0);
    wait_until("all have heard all", || {
        ["a", "b", "c"].iter().all(|name| {
            let relationship = plant.relationship(name, "line");
            let members = relationship["members"].as_array().unwrap().clone();
            members.iter().all(|member| member["this"] == true || !member["heard_seconds_ago"].is_null())
        })
    });
    for sender in ["a", "b", "c"] {
        let others: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .filter(|name| *name != sender)
            .map(|name| plant.listen(name, "line", 1))
            .collect();
        plant.send(sender, "line", "hello");
        for listener in others {
            let lines = listener.lines();
            assert_eq!(lines[0]["from_name"], sender);
        }
    }
}

/// What a person sees who gives this command at a terminal of this kind.
fn at_a_terminal(command: &Command, kind: &str) -> Done {
    let program = command.get_program();
    let words = std::iter::once(program).chain(command.get_args()).map(|word| word.to_str().unwrap());
    let line = shlex::try_join(words).unwrap();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", kind);
    run(&mut terminal)
}

#[test]
fn on_a_terminal_the_step_that_goes_on_is_seen_and_nowhere_else() {
    const ESCAPE: char = '\u{1b}';
    let plant = Plant::new();
    let provision = |name: &str, more: &[&str]| {
        let target = plant.target(name);
        plant.akm_command(&[&["provision", &target, "--name", name], more].concat())
    };
    let steps = |text: &str| text.lines().filter(|line| line.starts_with("step ")).count();

    let seen = at_a_terminal(&provision("a", &[]), "xterm").expect(0).stdout;
    assert!(seen.contains(ESCAPE), "{seen:?}");
    for step in ["step 3 install 0s", "step 4 store 0s", "step 5 verify 0s"] {
        assert!(seen.contains(step), "{step} is missing: {seen:?}");
    }
    // Where it has cleared its line, the line of the step that ended stands.
    assert!(seen.contains("step 5 verify   "), "{seen:?}");

    let plain = at_a_terminal(&provision("b", &[]), "dumb").expect(0).stdout;
    let piped = run(&mut provision("c", &[])).expect(0);
    let as_json = at_a_terminal(&provision("d", &["--json"]), "xterm").expect(0).stdout;
    assert_eq!([&plain, &piped.stdout].map(|text| steps(text)), [5, 5]);
    for text in [plain, piped.stdout, piped.stderr, as_json] {
        assert!(!text.contains(ESCAPE), "{text:?}");
    }
}

#[test]
fn a_message_to_one_member_is_heard_there_alone() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    plant.akm(&["asr", "create", "line", "a", "b", "c"]).expect(0);
    let listeners = ["b", "c"].map(|name| plant.listen(name, "line", 2));
    let members = plant.relationship("b", "line")["members"].clone();
    let c = members.as_array().unwrap().iter().find(|member| member["name"] == "c").unwrap();
    plant.akmd("a", &["send", "line", "--to", "b", "to b alone"]).expect(0);
    plant
        .akmd("a", &["send", "line", "--to", c["akm_id"].as_str().unwrap(), "to c, by its AKM ID"])
        .expect(0);
    plant.send("a", "line", "to both");
    let heard = listeners.map(support::plant::Listener::texts);
    assert_eq!(heard, [["to b alone", "to both"], ["to c, by its AKM ID", "to both"]]);

    let refused = plant.akmd("a", &["send", "line", "--to", "d", "to nobody", "--json"]).expect(2);
    assert!(refused.stderr.contains("line has no member d; the others are b, c"), "{}", refused.stderr);
    let refused = plant.akmd("a", &["send", "line", "--to", "a", "to myself"]).expect(2);
    assert!(refused.stderr.contains("a is this node itself"), "{}", refused.stderr);
}

#[test]
fn several_asrs_with_the_same_members_do_not_mix() {
    let plant = Plant::with_nodes(&["a", "b"]);
    let names = ["first", "second", "third"];
    for name in names {
        plant.akm(&["asr", "create", name, "a", "b"]).expect(0);
    }
    let ids: std::collections::BTreeSet<String> =
        names.iter().map(|name| plant.relationship("a", name)["id"].to_string()).collect();
    assert_eq!(ids.len(), names.len());
    let listeners = names.map(|name| plant.listen_on("b", name));
    for round in 0..3 {
        for name in names {
            plant.send("a", name, &format!("{name} {round}"));
        }
    }
    wait_until("all has arrived", || {
        names.iter().all(|name| plant.relationship("b", name)["accepted"].as_u64() >= Some(3))
    });
    for (name, listener) in names.iter().zip(listeners) {
        let texts: Vec<String> = listener.stop().iter().map(support::plant::text_of).collect();
        let expected: Vec<String> = (0..3).map(|round| format!("{name} {round}")).collect();
        assert_eq!(texts, expected);
    }
    // By its ID as well, and the tables name all of them.
    let id = plant.relationship("a", "second")["id"].clone();
    let listener = plant.listen("b", "second", 1);
    plant.send("a", id.as_str().unwrap(), "by its ID");
    assert_eq!(listener.texts(), ["by its ID"]);
    assert_eq!(plant.asrs().as_array().unwrap().len(), 3);
    let shown = plant.akm(&["asr", "show", "third", "--json"]).expect(0).json();
    assert!(shown["members"].as_array().unwrap().iter().all(|member| member["phase"] == "Established"));
}

/// Sends so many messages from each of two nodes in turn, and checks that the third hears each of them,
/// in the order of its sender.
fn nothing_is_lost(plant: &Plant, asr: &str, count: u64) {
    let listener = plant.listen("c", asr, u32::try_from(2 * count).unwrap());
    for number in 0..count {
        plant.send("a", asr, &format!("a {number}"));
        plant.send("b", asr, &format!("b {number}"));
    }
    let heard = listener.texts();
    for sender in ["a", "b"] {
        let of_sender: Vec<&String> = heard.iter().filter(|text| text.starts_with(sender)).collect();
        let expected: Vec<String> = (0..count).map(|number| format!("{sender} {number}")).collect();
        assert!(of_sender.iter().copied().eq(expected.iter()), "{of_sender:?}");
    }
}

#[test]
fn epochs_move_on_by_age_and_by_frames_and_nothing_is_lost() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    let create = |name: &str, policy: &[&str]| {
        plant.akm(&[&["asr", "create", name, "a", "b", "c"], policy].concat()).expect(0);
    };
    create("by-age", &["--rotate-after", "400ms", "--advance-interval", "100ms"]);
    create("by-frames", &["--rotate-after", "1h", "--rotate-frames", "10", "--advance-interval", "600ms"]);
    create("at-rest", &[]);
    nothing_is_lost(&plant, "at-rest", 1);

    nothing_is_lost(&plant, "by-frames", 60);
    // Every member has made its first frame by then, in an epoch of its own.
    let at_rest = plant.epoch("a", "at-rest");
    wait_until("epochs have moved on by frames", || {
        nothing_is_lost(&plant, "by-frames", 12);
        plant.epoch("a", "by-frames") > Some(5)
    });
    wait_until("epochs have moved on by age, without a message", || plant.epoch("a", "by-age") > Some(5));
    nothing_is_lost(&plant, "by-age", 60);
    assert_eq!(plant.epoch("a", "at-rest"), at_rest, "nothing moves without a reason");

    // A member that is off for many epochs comes back by itself, is heard and hears.
    plant.kill("c");
    let left = plant.epoch("a", "by-age").unwrap();
    wait_until("many epochs have passed", || plant.epoch("a", "by-age") > Some(left + 20));
    for _ in 0..30 {
        plant.send("a", "by-frames", "nobody but b hears this");
    }
    plant.start("c");
    for asr in ["by-age", "by-frames", "at-rest"] {
        wait_until("they have found each other", || {
            plant.send("a", asr, "are you there");
            let [a, b, c] = ["a", "b", "c"].map(|name| plant.epoch(name, asr));
            a == c && b == c
        });
        nothing_is_lost(&plant, asr, 10);
        let listeners = ["a", "b"].map(|name| plant.listen(name, asr, 1));
        plant.send("c", asr, "I am back");
        for listener in listeners {
            assert_eq!(listener.texts(), ["I am back"]);
        }
    }
}

#[test]
fn a_member_that_was_off_is_brought_up_to_date_by_what_it_says_itself() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b", "--advance-interval", "20ms"]).expect(0);
    plant.kill("b");
    for _ in 0..8 {
        let before = plant.epoch("a", "line");
        plant.akmd("a", &["rotate", "line"]).expect(0);
        wait_until("the epoch has moved on", || plant.epoch("a", "line") > before);
    }
    // Nobody sends: its own first hello tells it where the others are.
    plant.start("b");
    wait_until("it has found the other", || plant.epoch("b", "line") >= plant.epoch("a", "line"));
    let listener = plant.listen("a", "line", 1);
    plant.send("b", "line", "I am back");
    assert_eq!(listener.texts(), ["I am back"]);
}

#[test]
fn commands_at_the_same_time_do_not_disturb_each_other() {
    let plant = Plant::new();
    let at_once = |commands: &[Vec<&str>]| -> Vec<Option<i32>> {
        std::thread::scope(|scope| {
            let running: Vec<_> = commands.iter().map(|command| scope.spawn(|| plant.akm(command))).collect();
            running.into_iter().map(|command| command.join().unwrap().code).collect()
        })
    };
    // Different targets, and one of them twice.
    let names = ["a", "b", "c", "c"];
    let targets = names.map(|name| plant.target(name));
    let provision: Vec<Vec<&str>> =
        names.iter().zip(&targets).map(|(name, target)| vec!["provision", target, "--name", name]).collect();
    let codes = at_once(&provision);
    assert_eq!(codes[..2], [Some(0), Some(0)]);
    assert!(codes[2..].contains(&Some(0)), "{codes:?}");
    assert!(codes[2..].iter().any(|code| matches!(code, Some(3 | 8))), "{codes:?}");
    assert_eq!(plant.nodes().as_array().unwrap().len(), 4);

    // Different ASRs of the same nodes, one of them twice, while all are verified.
    let mut commands: Vec<Vec<&str>> = ["one", "two", "three", "three"]
        .iter()
        .zip([["a", "b"], ["b", "a"], ["b", "c"], ["b", "c"]])
        .map(|(name, members)| [&["asr", "create", name][..], &members].concat())
        .collect();
    commands.extend([
        vec!["verify", "--all"],
        vec!["verify", "b"],
        vec!["asr", "list"],
        vec!["node", "list"],
    ]);
    let codes = at_once(&commands);
    assert_eq!(codes[..2], [Some(0), Some(0)], "{codes:?}");
    assert!(codes[2..4].contains(&Some(0)), "{codes:?}");
    assert!(codes[2..4].iter().any(|code| matches!(code, Some(3 | 8))), "{codes:?}");
    assert_eq!(codes[4..], [Some(0); 4]);
    for name in ["one", "two", "three"] {
        let listener = plant.listen("b", name, 1);
        plant.send(if name == "three" { "c" } else { "a" }, name, name);
        assert_eq!(listener.texts(), [name]);
    }
    plant.akm(&["verify", "--all"]).expect(0);
}

#[test]
fn the_name_of_an_asr_without_members_is_free_again() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    plant.akm(&["node", "remove", "a", "--force"]).expect(0);
    // One member is left: it forgets the old relationship and gets the new one.
    plant.provision("c");
    let old = plant.relationship("b", "line")["id"].clone();
    plant.akm(&["asr", "create", "line", "b", "c"]).expect(0);
    assert_ne!(plant.relationship("b", "line")["id"], old);
    let listener = plant.listen("c", "line", 1);
    plant.send("b", "line", "hello");
    assert_eq!(listener.texts(), ["hello"]);
    plant.akm(&["asr", "create", "line", "b", "c"]).expect(3);
}

#[test]
fn messages_come_from_standard_input_as_a_whole_or_by_line() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let listener = plant.listen("b", "line", 6);
    let send = |options: &[&str], input: &[u8]| {
        run_with_input(&mut plant.akmd_command("a", &[&["send", "line", "-"], options].concat()), input)
            .expect(0)
    };
    send(&[], b"two\nlines\n");
    send(&[], b"");
    send(&[], &[0, 0xff, b'\n', 0xfe]);
    let sent = send(&["--lines", "--json"], "eins\nzw\u{f6}lf\n\u{1f4a1}".as_bytes()).json();
    assert_eq!(sent["sent"], 3);
    let heard: Vec<Vec<u8>> =
        listener.lines().iter().map(|line| support::plant::bytes_of(&line["data"])).collect();
    let expected: [&[u8]; 6] = [
        b"two\nlines\n",
        b"",
        &[0, 0xff, b'\n', 0xfe],
        b"eins",
        "zw\u{f6}lf".as_bytes(),
        "\u{1f4a1}".as_bytes(),
    ];
    assert_eq!(heard, expected);
}

#[test]
fn a_program_sends_and_listens_by_the_client() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let listener = plant.listen("b", "line", 1);
    let answer = thread::scope(|scope| {
        let asking = scope.spawn(|| ask::ask(&plant.dir("a"), "line", "how are you?"));
        assert_eq!(listener.texts(), ["how are you?"]);
        plant.send("b", "line", "well");
        asking.join().unwrap().unwrap()
    });
    assert_eq!((answer.asr.as_str(), answer.from_name.as_str()), ("line", "b"));
    assert_eq!(answer.data, b"well");

    let refused = akm_client::Stack::connect(&plant.dir("a")).unwrap().send("other", b"").unwrap_err();
    assert!(matches!(refused, akm_client::StackError::Refused { exit_code: 2, .. }), "{refused:?}");
}

#[test]
fn vault_and_element_can_be_sealed_under_passphrases() {
    let plant = Plant::bare();
    let file = |name: &str, content: &str| {
        let path = plant.place().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (of_vault, of_element) = (file("of-vault", "open sesame\n"), file("of-element", "correct horse\n"));
    let akm = |arguments: &[&str]| plant.akm(&[arguments, &["--passphrase-file", &of_vault]].concat());
    let made = akm(&["init", "--name", "plant", "--passphrase", "--json"]).expect(0).json();
    assert_eq!(made["vault"], "passphrase");
    let element = format!("software:passphrase-file={of_element}");
    akm(&["provision", &plant.target("a"), "--name", "a", "--element", &element]).expect(0);
    akm(&["provision", &plant.target("b"), "--name", "b"]).expect(0);
    akm(&["verify", "--all"]).expect(0);
    akm(&["asr", "create", "line", "a", "b"]).expect(0);

    let says = |name: &str| plant.status(name)["element_warning"].as_str().unwrap().to_owned();
    assert!(says("a").contains("while it runs") && !says("b").contains("while it runs"));
    let listener = plant.listen("b", "line", 1);
    plant.send("a", "line", "sealed at both ends");
    assert_eq!(listener.texts(), ["sealed at both ends"]);

    // It starts again with the passphrase, and not without.
    plant.kill("a");
    let hidden = plant.place().join("hidden");
    fs::rename(&of_element, &hidden).unwrap();
    let done = plant.akmd("a", &["run", "--detach"]);
    assert!(matches!(done.code, Some(1 | 4)) && done.stderr.contains("of-element"), "{done:?}");
    // What may be there soon is worth another start, what was refused is not.
    plant.akmd("a", &["run"]).expect(1);
    fs::rename(&hidden, &of_element).unwrap();
    fs::set_permissions(&of_element, fs::Permissions::from_mode(0o644)).unwrap();
    plant.akmd("a", &["run"]).expect(4);
    fs::set_permissions(&of_element, fs::Permissions::from_mode(0o600)).unwrap();
    plant.start("a");
    akm(&["verify", "a"]).expect(0);
    akm(&["provision", &plant.target("a"), "--again", "--element", &element]).expect(0);
    akm(&["verify", "--all"]).expect(0);
}
