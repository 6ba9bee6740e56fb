//! Changes of an ASR with real stacks: members join and leave, keys are renewed, members are away meanwhile, and the
//! module is restored from an old backup.

mod support {
    pub(crate) mod plant;
    pub(crate) mod whole;
}

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use akm_core::frame::Header;
use support::plant::{Plant, bytes_of, run, text_of, wait_until};
use support::whole::{query, roots};

/// Nodes of these names with an ASR `line` between the first ones.
fn plant(names: &[&str], members: &[&str]) -> Plant {
    let plant = Plant::in_memory();
    plant.akm(&["init", "--name", "plant"]).expect(0);
    let stack = plant.small_stack();
    for name in names {
        plant.akm(&["provision", &plant.target(name), "--name", name, "--stack", &stack]).expect(0);
    }
    plant.akm(&[&["asr", "create", "line"], members].concat()).expect(0);
    plant
}

fn generation(plant: &Plant, node: &str) -> u64 {
    plant.relationship(node, "line")["generation"].as_u64().expect("a number")
}

fn holds(plant: &Plant, node: &str) -> bool {
    let status = plant.status(node);
    status["relationships"].as_array().expect("a list").iter().any(|entry| entry["name"] == "line")
}

/// Messages of one reach another, in both directions.
#[track_caller]
fn talk(plant: &Plant, one: &str, other: &str) {
    for (from, to) in [(one, other), (other, one)] {
        let listener = plant.listen(to, "line", 1);
        plant.send(from, "line", "hello");
        assert_eq!(listener.texts(), ["hello"], "from {from} to {to}");
    }
}

/// The files of generations that a node holds.
fn generation_files(plant: &Plant, node: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![plant.dir(node).join("state/nodes")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else if name.ends_with(".installed") {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

/// Sends numbered messages while something is done, and checks that each arrived once, in any order.
fn lose_nothing(plant: &Plant, from: &str, to: &str, done: impl FnOnce()) {
    const COUNT: usize = 400;
    let listener = plant.listen(to, "line", COUNT as u32);
    let mut sender = plant
        .akmd_command(from, &["send", "line", "-", "--lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("akmd can be started");
    let mut input = sender.stdin.take().expect("a pipe");
    let feeder = std::thread::spawn(move || {
        for number in 0..COUNT {
            use std::io::Write;
            writeln!(input, "{number}").expect("the sender reads");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    done();
    feeder.join().expect("all was sent");
    assert!(sender.wait().expect("the sender ends").success());
    let mut heard: Vec<usize> = listener.texts().iter().map(|text| text.parse().expect("a number")).collect();
    heard.sort_unstable();
    assert_eq!(heard, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn renewing_and_adding_lose_no_message_between_members_that_stay() {
    let plant = plant(&["a", "b", "c"], &["a", "b"]);
    lose_nothing(&plant, "a", "b", || {
        plant.akm(&["asr", "renew", "line"]).expect(0);
        plant.akm(&["asr", "add", "line", "c"]).expect(0);
    });
    for node in ["a", "b", "c"] {
        assert_eq!(generation(&plant, node), 3, "{node}");
    }
    talk(&plant, "a", "c");
    talk(&plant, "b", "c");
    wait_until("the old generations are erased", || {
        generation_files(&plant, "a") == ["g1.installed", "g3.installed"]
    });
    let shown = plant.akm(&["asr", "show", "line", "--json"]).expect(0).json();
    assert_eq!(shown["status"], "active");
    let held = "SELECT count(*) FROM generations g JOIN relationships r ON r.id = g.relationship
                WHERE r.kind = 2 AND (g.tree_root IS NOT NULL OR g.host_keys IS NOT NULL)";
    assert_eq!(query::<i64>(&plant, held), 0, "every member has acknowledged");
}

#[test]
fn a_policy_changes_with_a_generation_and_only_where_it_is_another() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    plant.akm(&["asr", "policy", "line", "--rotate-frames", "3"]).expect(0);
    assert_eq!(generation(&plant, "a"), 2);
    plant.akm(&["asr", "policy", "line", "--rotate-frames", "3"]).expect(3);
    plant.akm(&["asr", "policy", "line"]).expect(2);
    talk(&plant, "a", "b");
}

#[test]
fn a_removed_member_that_keeps_element_disk_and_a_recording_opens_nothing_sent_after_the_change() {
    let plant = plant(&["a", "b", "c"], &["a", "b", "c"]);
    talk(&plant, "a", "c");
    // The whole of the removed member, as it was.
    plant.akmd("c", &["stop"]).expect(0);
    let kept = plant.place().join("kept");
    copy(&plant.dir("c"), &kept);
    plant.start("c");
    let done = plant.akm(&["asr", "remove", "line", "c"]).expect(0);
    assert_eq!(done.stderr, "");
    assert!(!holds(&plant, "c"), "it was told to erase");
    assert_eq!(generation(&plant, "a"), 2);
    talk(&plant, "a", "b");

    // It comes back as it was, and whoever records the wire plays it everything.
    let address = plant.address("c");
    plant.kill("c");
    fs::remove_dir_all(plant.dir("c")).unwrap();
    copy(&kept, &plant.dir("c"));
    plant.start("c");
    assert!(holds(&plant, "c"));
    let watch = plant.watch("b", "line", 20);
    let listener = plant.listen_on("c", "line");
    for number in 0..20 {
        plant.send("a", "line", &format!("secret {number}"));
    }
    let wire = UdpSocket::bind("127.0.0.1:0").unwrap();
    let recorded: Vec<Vec<u8>> = watch.lines().iter().map(|line| bytes_of(&line["frame"])).collect();
    for frame in &recorded {
        // As it is, and as one of the relationship that the removed member knows.
        wire.send_to(frame, address).unwrap();
        assert!(Header::parse(frame).is_ok());
    }
    wait_until("it has seen them all", || {
        let status = plant.status("c");
        status["unknown_frames"].as_u64().unwrap() >= recorded.len() as u64
    });
    assert_eq!(listener.stop().iter().map(text_of).collect::<Vec<_>>(), [""; 0]);
    // Nor does anybody take in what it sends.
    let listener = plant.listen_on("a", "line");
    plant.send("c", "line", "let me in");
    wait_until("its frame is counted", || {
        plant.relationship("a", "line")["rejected"]["old-generation"].as_u64().is_some()
            || plant.status("a")["unknown_frames"].as_u64().unwrap() > 0
    });
    assert_eq!(listener.stop().len(), 0);
}

#[test]
fn who_is_away_gets_the_change_when_any_command_reaches_it() {
    let plant = plant(&["a", "b", "c"], &["a", "b", "c"]);
    plant.akmd("c", &["stop"]).expect(0);
    let parked = plant.akm(&["asr", "renew", "line"]).expect(6);
    assert!(
        parked.stderr.contains("generation 2 of ASR line is parked until c can be reached"),
        "{parked:?}"
    );
    for node in ["a", "b"] {
        let line = plant.relationship(node, "line");
        assert_eq!((&line["generation"], &line["staged_generation"]), (&1.into(), &2.into()));
    }
    talk(&plant, "a", "b");
    let tasks = plant.akm(&["tasks", "--json"]).expect(0).json();
    let of_c: Vec<_> = tasks.as_array().unwrap().iter().filter(|task| task["node"] == "c").collect();
    assert_eq!(of_c.len(), 1, "{tasks:#}");
    assert_eq!((&of_c[0]["work"], &of_c[0]["generation"]), (&"install".into(), &2.into()));
    assert!(of_c[0]["away_since"].is_string() && of_c[0]["next_try"].is_string());

    plant.start("c");
    let done = plant.akm(&["verify", "c"]).expect(0);
    assert!(done.stderr.contains("generation 2 of ASR line, which was parked, is active"), "{done:?}");
    for node in ["a", "b", "c"] {
        assert_eq!(generation(&plant, node), 2, "{node}");
    }
    assert_eq!(plant.akm(&["tasks"]).expect(0).stdout, "nothing is parked\n");
    talk(&plant, "a", "c");
}

#[test]
fn the_operator_can_begin_without_those_that_are_away() {
    let plant = plant(&["a", "b", "c", "d"], &["a", "b", "c", "d"]);
    plant.akmd("c", &["stop"]).expect(0);
    plant.akmd("d", &["stop"]).expect(0);
    plant.akm(&["asr", "remove", "line", "d"]).expect(6);
    assert_eq!(generation(&plant, "a"), 1);
    let done = plant.akm(&["asr", "remove", "line", "d", "--without-absent"]).expect(0);
    assert!(done.stdout.contains("not reached"), "{done:?}");
    assert_eq!(generation(&plant, "a"), 2);
    talk(&plant, "a", "b");
    // The secrets stay until the last member has them.
    plant.start("c");
    plant.akm(&["asr", "show", "line"]).expect(0);
    assert_eq!(generation(&plant, "c"), 2);
    talk(&plant, "b", "c");
    plant.start("d");
    let done = plant.akm(&["node", "show", "d"]).expect(0);
    assert!(done.stderr.contains("d was reached, and erased"), "{done:?}");
    assert!(!holds(&plant, "d"));
    assert_eq!(plant.akm(&["tasks"]).expect(0).stdout, "nothing is parked\n");
}

#[test]
fn an_asr_that_is_deleted_is_erased_also_at_members_that_were_away() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    plant.akmd("b", &["stop"]).expect(0);
    let done = plant.akm(&["asr", "delete", "line"]).expect(0);
    assert!(done.stderr.contains("what b holds of ASR line is erased when it is next reached"), "{done:?}");
    assert!(!holds(&plant, "a"));
    plant.start("b");
    plant.akm(&["verify", "b"]).expect(0);
    assert!(!holds(&plant, "b"));
    plant.akmd("b", &["stop"]).expect(0);
    assert_eq!(roots(&plant, "b").len(), 2, "the device key, and the root of the provisioning relationship");
    plant.akm(&["asr", "delete", "line"]).expect(10);
}

#[test]
fn a_module_restored_from_an_old_backup_goes_above_all_that_it_hears() {
    let plant = plant(&["a", "b", "c"], &["a", "b"]);
    let backup = plant.place().join("backup");
    copy(&plant.home(), &backup);
    plant.akm(&["asr", "renew", "line", "--suspect"]).expect(0);
    plant.akm(&["asr", "add", "line", "c"]).expect(0);
    assert_eq!(generation(&plant, "a"), 3);
    fs::remove_dir_all(plant.home()).unwrap();
    copy(&backup, &plant.home());
    plant.akm(&["asr", "renew", "line"]).expect(0);
    for node in ["a", "b"] {
        assert_eq!(generation(&plant, node), 4, "{node}");
    }
    talk(&plant, "a", "b");
    plant.akmd("a", &["stop"]).expect(0);
    let root = roots(&plant, "a");
    assert!(root.iter().any(|root| root.ends_with("version 3")), "{root:?}");
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let plant = plant(&["a", "b", "c"], &["a", "b"]);
    for (command, code, why) in [
        (&["asr", "add", "line", "a"][..], 3, "members of ASR line already"),
        (&["asr", "add", "line", "nobody"], 10, "there is no node nobody"),
        (&["asr", "add", "line", "plant"], 2, "the module itself"),
        (&["asr", "remove", "line", "c"], 3, "none of them is a member"),
        (&["asr", "remove", "line", "nobody"], 2, "has no member nobody"),
        (&["asr", "remove", "line", "a"], 2, "akm asr delete line"),
        (&["asr", "renew", "nothing"], 10, "there is no ASR nothing"),
        (&["asr", "policy", "line", "--overlap", "0s"], 2, "at least 1ms"),
    ] {
        let done = plant.akm(command).expect(code);
        assert!(done.stderr.contains(why), "{command:?}: {done:?}");
    }
    assert_eq!(generation(&plant, "a"), 1);
    assert_eq!(plant.akm(&["tasks"]).expect(0).stdout, "nothing is parked\n");
}

#[test]
fn a_new_device_takes_the_place_of_a_dead_one_in_every_asr() {
    let plant = plant(&["a", "b", "c"], &["a", "b"]);
    plant.akm(&["asr", "create", "other", "a", "b", "c"]).expect(0);
    plant.akmd("b", &["stop"]).expect(0);
    // One that shares an ASR with it is away too: that change is parked.
    plant.akmd("c", &["stop"]).expect(0);
    let stack = plant.small_stack();
    let target = plant.target("b2");
    let command = ["node", "replace", "b", &target, "--stack", &stack];
    let done = plant.akm(&command).expect(6);
    assert!(done.stdout.contains("ASR line has it, and has shut the old one out"), "{done:?}");
    assert!(done.stderr.contains("generation 2 of ASR other is parked until c can be reached"), "{done:?}");
    let done = plant.akm(&command).expect(6);
    assert!(done.stderr.contains("generation 2 of ASR other is parked until c can be reached"), "{done:?}");
    plant.start("c");
    let done = plant.akm(&command).expect(0);
    assert!(done.stdout.contains("ASR other has it, and has shut the old one out"), "{done:?}");
    plant.akm(&["verify", "--all"]).expect(0);
    for asr in ["line", "other"] {
        let shown = plant.akm(&["asr", "show", asr, "--json"]).expect(0).json();
        assert_eq!(shown["status"], "active", "{shown:#}");
        assert!(
            shown["members"].as_array().unwrap().iter().all(|member| member["generation"] == 2),
            "{shown:#}"
        );
    }
    talk(&plant, "a", "b2");
    assert_eq!(plant.node("b")["target"], target.as_str());
    // The old one is shut out, even if it was not dead.
    plant.start("b");
    let listener = plant.listen_on("b", "line");
    plant.send("a", "line", "among us");
    plant.send("b", "line", "let me in");
    wait_until("its frame came", || {
        plant.relationship("a", "line")["rejected"]["old-generation"].as_u64().is_some()
            || plant.status("a")["unknown_frames"].as_u64().unwrap() > 0
    });
    assert_eq!(listener.stop().len(), 0);
    plant.akm(&["node", "replace", "nobody", &target]).expect(10);
}

/// Stops a node and takes its place of the ASR, as a disk that was re-imaged would.
fn stop_and_lose_place(plant: &Plant, node: &str) {
    let place = plant.place_file(node, "line");
    plant.akmd(node, &["stop"]).expect(0);
    fs::remove_file(place).unwrap();
}

#[test]
fn a_member_without_place_finds_back_and_the_module_renews_the_asr() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant, "a", "b");
    stop_and_lose_place(&plant, "b");
    plant.start("b");
    wait_until("it has found back", || plant.relationship("b", "line")["found_back"] == 1);
    let line = plant.relationship("b", "line");
    assert_eq!(line["last_found_back"]["way"], "fallback", "{line:#}");
    assert_eq!(line["phase"], "Established", "{line:#}");
    assert!(line["trouble"].is_null(), "{line:#}");
    talk(&plant, "a", "b");
    // The trace outlives the stack.
    plant.akmd("b", &["stop"]).expect(0);
    plant.start("b");
    let done = plant.akm(&["verify", "--all"]).expect(0);
    assert!(done.stderr.contains("ASR line is renewed"), "{done:?}");
    for node in ["a", "b"] {
        assert_eq!(generation(&plant, node), 2, "{node}");
    }
    talk(&plant, "a", "b");
    assert_eq!(plant.akm(&["verify", "--all"]).expect(0).stderr, "");
}

/// A generation that was begun without an absent member is followed by another where somebody finds back in it.
#[test]
fn who_finds_back_while_another_is_away_gets_a_new_generation_all_the_same() {
    let plant = plant(&["a", "b", "c"], &["a", "b", "c"]);
    plant.akmd("c", &["stop"]).expect(0);
    plant.akm(&["asr", "renew", "line", "--without-absent"]).expect(0);
    talk(&plant, "a", "b");
    stop_and_lose_place(&plant, "b");
    plant.start("b");
    wait_until("it has found back", || plant.relationship("b", "line")["found_back"] == 1);
    let done = plant.akm(&["verify", "b"]).expect(0);
    assert!(done.stderr.contains("generation 3 of ASR line is parked until c"), "{done:?}");
    assert!(!done.stderr.contains("is renewed\n"), "{done:?}");
    plant.start("c");
    plant.akm(&["verify", "--all"]).expect(0);
    for node in ["a", "b", "c"] {
        assert_eq!(generation(&plant, node), 3, "{node}");
    }
    assert_eq!(plant.akm(&["verify", "--all"]).expect(0).stderr, "");
}

#[test]
fn a_group_that_lost_all_its_places_finds_back_together_from_its_elements_alone() {
    let names = ["a", "b", "c"];
    let plant = plant(&names, &names);
    talk(&plant, "a", "b");
    for node in names {
        stop_and_lose_place(&plant, node);
    }
    for node in names {
        plant.start(node);
    }
    wait_until("all are in one run", || {
        let lines = names.map(|node| plant.relationship(node, "line"));
        let run = lines[0]["run"].as_u64().expect("a number");
        run >> 16 == 1 && lines.iter().all(|line| line["run"] == run && line["phase"] == "Established")
    });
    assert_eq!(plant.relationship("a", "line")["last_found_back"]["way"], "failsafe");
    talk(&plant, "a", "b");
    talk(&plant, "b", "c");
}

#[test]
fn a_damaged_record_of_a_member_is_mended_by_a_new_generation() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    plant.akmd("b", &["stop"]).expect(0);
    let mut directories = vec![plant.dir("b").join("state/nodes")];
    let own = query::<String>(&plant, "SELECT lower(hex(relationship)) FROM nodes WHERE name = 'b'");
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name.replace('-', "") != own {
                directories.push(path);
            } else if name == "g1.installed" || name == "g1.copy" {
                fs::write(path, b"damage").unwrap();
            }
        }
    }
    plant.start("b");
    assert!(!holds(&plant, "b"));
    plant.akm(&["asr", "show", "line"]).expect(5);
    plant.akm(&["asr", "renew", "line"]).expect(0);
    assert_eq!(generation(&plant, "b"), 2);
    talk(&plant, "a", "b");
    plant.akmd("b", &["stop"]).expect(0);
    plant.start("b");
    assert_eq!(generation_files(&plant, "b"), ["g1.installed", "g2.installed"], "provisioning, and the ASR");
}

#[test]
fn a_member_that_lost_all_of_an_asr_gets_it_anew_with_the_next_change() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant, "a", "b");
    let place = plant.place_file("b", "line");
    plant.akmd("b", &["stop"]).expect(0);
    fs::remove_dir_all(place.parent().unwrap()).unwrap();
    plant.start("b");
    assert!(!holds(&plant, "b"));
    // The element version stays, so the module does not send the root before the member says that it has none.
    plant.akm(&["asr", "renew", "line"]).expect(0);
    assert_eq!((generation(&plant, "a"), generation(&plant, "b")), (2, 2));
    talk(&plant, "a", "b");
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).expect(0);
}
