//! Everything that a user can get wrong: one line that says what to do, the right exit code, and
//! nothing is changed.

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use akm_core::crypto::hash::sha256;
use akm_core::element::{ProvisionableElement, Root, RootCheck};
use akm_core::id::RelationshipId;
use akm_core::secret::Secret;
use akm_counterparts::ports;
use akm_element::software::{SoftwareElement, wrap_for_software};
use support::plant::{AKM, Done, Plant, akmd_program, run, run_with_input};
use support::untouched::{Picture, akm_refused, akmd_refused, refused, says_what_and_what_to_do};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of the test");
}

/// What a command line that cannot be read is answered with: the code, and how it should be.
#[track_caller]
fn usage(plant: &Plant, arguments: &[&str]) {
    let before = Picture::of(plant);
    let done = plant.akm(arguments).expect(2);
    assert!(done.stdout.is_empty() && done.stderr.starts_with("error: "), "{done:?}");
    assert!(done.stderr.contains("--help"), "{done:?}");
    assert_eq!(Picture::of(plant), before);
}

#[test]
fn without_a_module_every_command_says_how_to_make_one() {
    let plant = Plant::bare();
    let target = plant.target("a");
    for arguments in [
        &["node", "list"][..],
        &["node", "show", "a"],
        &["node", "remove", "a", "--force"],
        &["asr", "list"],
        &["asr", "show", "line"],
        &["asr", "create", "line", "a", "b"],
        &["verify", "--all"],
        &["provision", &target],
        &["provision", "--resume"],
    ] {
        akm_refused(&plant, arguments, 10, &["no module here", "akm init"]);
    }
    assert!(!plant.home().exists() && !plant.dir("a").exists());
    let error = plant.akm(&["node", "list", "--json"]).expect(10).json();
    assert_eq!(error["kind"], "no-module");
    assert!(error["hints"][0].as_str().is_some_and(|hint| hint.contains("akm init")), "{error}");

    // Half a module: cut off between vault and store, it is finished.
    plant.akm(&["init", "--name", "plant"]).expect(0);
    fs::remove_file(plant.home().join("store.db")).unwrap();
    akm_refused(&plant, &["node", "list"], 1, &["akm init"]);
    plant.akm(&["init", "--name", "plant"]).expect(0);
    akm_refused(&plant, &["init", "--name", "other"], 9, &["already", "plant"]);
    akm_refused(&plant, &["init"], 3, &["already"]);
}

#[test]
fn a_home_that_cannot_be_used_is_told_with_its_path() {
    let plant = Plant::bare();
    let init = |home: &Path| {
        let mut command = plant.akm_command(&["init", "--name", "plant"]);
        command.env("AKM_HOME", home);
        command
    };
    let file = plant.place().join("file");
    fs::write(&file, "").unwrap();
    for home in [file.clone(), file.join("home"), PathBuf::from("/proc/akm")] {
        refused(&plant, &mut init(&home), 1, &[text(&home).trim_end_matches("/home")]);
    }

    // Open to others, or somebody else's.
    let open = plant.place().join("open");
    fs::create_dir(&open).unwrap();
    fs::write(open.join("letter"), "dear").unwrap();
    set_mode(&open, 0o755);
    refused(&plant, &mut init(&open), 1, &["chmod 700", text(&open)]);
    plant.akm(&["init", "--name", "plant"]).expect(0);
    let locked = plant.home();
    if std::os::unix::fs::chown(&locked, Some(65_534), None).is_ok() {
        akm_refused(&plant, &["node", "list"], 1, &["belongs to user", text(&locked)]);
        std::os::unix::fs::chown(&locked, Some(0), None).unwrap();
    } else {
        set_mode(&locked, 0);
        akm_refused(&plant, &["node", "list"], 1, &["ermission denied", text(&locked)]);
        set_mode(&locked, 0o700);
    }
    for (name, mode) in [("vault.key", 0o644), ("store.db", 0o640)] {
        let path = plant.home().join(name);
        set_mode(&path, mode);
        akm_refused(&plant, &["node", "list"], 1, &["open to others", "chmod 600", text(&path)]);
        set_mode(&path, 0o600);
    }
    set_mode(&plant.home(), 0o750);
    akm_refused(&plant, &["node", "list"], 1, &["chmod 700", text(&plant.home())]);
    set_mode(&plant.home(), 0o700);
    plant.akm(&["node", "list"]).expect(0);
}

#[test]
fn a_store_that_is_not_ours_to_read_is_told() {
    let plant = Plant::new();
    let store = plant.home().join("store.db");
    let written = fs::read(&store).unwrap();

    let connection = rusqlite::Connection::open(&store).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    akm_refused(&plant, &["node", "list"], 1, &["schema 99", "later"]);

    fs::write(&store, "no database at all, but long enough to be looked at as one").unwrap();
    akm_refused(&plant, &["node", "list"], 1, &["damaged", "backup"]);
    fs::write(&store, &written[..written.len() / 2]).unwrap();
    let done = plant.akm(&["node", "list"]).expect(1);
    says_what_and_what_to_do(&done, &["store"]);
    fs::write(&store, &written).unwrap();
    plant.akm(&["node", "list"]).expect(0);

    let key = plant.home().join("vault.key");
    let right = fs::read(&key).unwrap();
    fs::write(&key, [7; 32]).unwrap();
    akm_refused(&plant, &["node", "list"], 1, &["vault key"]);
    fs::write(&key, [7; 31]).unwrap();
    akm_refused(&plant, &["node", "list"], 1, &["vault.key", "32 bytes"]);
    fs::write(&key, right).unwrap();
    plant.akm(&["node", "list"]).expect(0);
}

#[test]
fn a_vault_under_a_passphrase_opens_with_it_alone() {
    let plant = Plant::bare();
    let right = plant.place().join("right");
    let wrong = plant.place().join("wrong");
    let empty = plant.place().join("empty");
    fs::write(&right, "correct horse\n").unwrap();
    fs::write(&wrong, "correct hors\n").unwrap();
    fs::write(&empty, "\n").unwrap();
    let arguments = ["init", "--passphrase", "--passphrase-file", text(&right)];
    set_mode(&right, 0o644);
    akm_refused(&plant, &arguments, 1, &["open to others", "chmod 600", text(&right)]);
    for path in [&right, &wrong, &empty] {
        set_mode(path, 0o600);
    }
    let missing = plant.place().join("missing");
    akm_refused(&plant, &["init", "--passphrase", "--passphrase-file", text(&empty)], 1, &["passphrase"]);
    plant.akm(&["init", "--name", "plant", "--passphrase", "--passphrase-file", text(&right)]).expect(0);
    plant.akm(&["node", "list", "--passphrase-file", text(&right)]).expect(0);
    akm_refused(&plant, &["node", "list", "--passphrase-file", text(&wrong)], 1, &["wrong passphrase"]);
    akm_refused(&plant, &["node", "list", "--passphrase-file", text(&empty)], 1, &["passphrase"]);
    akm_refused(&plant, &["node", "list", "--passphrase-file", text(&missing)], 1, &[text(&missing)]);
    // Where there is no terminal to ask at.
    let mut alone = Command::new("setsid");
    alone.args(["--wait", AKM, "node", "list"]).env("AKM_HOME", plant.home());
    refused(&plant, &mut alone, 1, &["--passphrase-file"]);
    assert!(!plant.home().join("vault.key").exists());
}

#[test]
fn what_is_no_target_no_name_and_no_number_is_refused() {
    let plant = Plant::new();
    for target in [
        "",
        "x",
        "/srv/akm",
        "local:",
        "local:/",
        "local:a/../b",
        "local:~/a",
        "ssh://",
        "ssh:host",
        "ssh://host:0",
        "ssh://host:70000",
        "ssh://-oProxyCommand=touch$IFS/tmp/x",
        "http://host",
        "local:a\nb",
    ] {
        akm_refused(&plant, &["provision", target], 2, &["local:DIR"]);
    }
    let done = akm_refused(&plant, &["provision", "ssh://root:hunter2@host"], 2, &["password"]);
    assert!(!done.stderr.contains("hunter2"));
    let far = format!("local:/{}", "long/".repeat(30));
    akm_refused(&plant, &["provision", &far], 2, &["too long", "at most"]);

    let target = plant.target("a");
    let long = "n".repeat(64);
    for name in ["", "a b", "ü", "a/b", ".", "..", "_a", "a\n", "a;b", "$(id)", "a\u{1b}[2J", &long] {
        akm_refused(&plant, &["provision", &target, "--name", name], 2, &["1 to 63 characters"]);
        akm_refused(&plant, &["asr", "create", name, "a", "b"], 2, &["1 to 63 characters"]);
        akm_refused(&plant, &["asr", "show", name], 2, &["1 to 63 characters"]);
        akm_refused(&plant, &["verify", name], 2, &["1 to 63 characters"]);
        akm_refused(&plant, &["node", "remove", name], 2, &["1 to 63 characters"]);
    }
    for (option, value) in [
        ("--listen", "here"),
        ("--listen", "127.0.0.1"),
        ("--listen", "127.0.0.1:70000"),
        ("--listen", "127.0.0.1:0"),
        ("--endpoint", "host"),
        ("--endpoint", "host:0"),
        ("--endpoint", ":47100"),
        ("--endpoint", "a host:1"),
        ("--element", "tpm:device"),
        ("--element", "softwar"),
        ("--element", "software:passphrase-file=relative"),
    ] {
        akm_refused(&plant, &["provision", &target, option, value], 2, &[]);
    }
    for (option, value) in [
        ("--rotate-after", "10"),
        ("--rotate-after", "0s"),
        ("--rotate-after", "1 h"),
        ("--advance-interval", "-1s"),
        ("--advance-interval", "99999999999999999999s"),
    ] {
        let value = format!("{option}={value}");
        akm_refused(&plant, &["asr", "create", "line", "a", "b", &value], 2, &[option]);
    }
    akm_refused(&plant, &["provision"], 2, &["local:DIR"]);
    akm_refused(&plant, &["verify"], 2, &["--all"]);

    for arguments in [
        &["foo"][..],
        &[],
        &["node"],
        &["node", "list", "a"],
        &["asr", "create", "line"],
        &["asr", "create", "line", "a", "b", "--rotate-frames", "x"],
        &["provision", &target, "--color"],
        &["provision", "--resume", "--again"],
        &["verify", "a", "--all"],
        &["init", "--name"],
    ] {
        if arguments.len() < 2 && arguments != ["foo"] {
            plant.akm(arguments).expect(2);
        } else {
            usage(&plant, arguments);
        }
    }
    assert!(!plant.dir("a").exists());
    for arguments in [&["--help"][..], &["provision", "--help"], &["--version"], &["asr", "create", "--help"]]
    {
        plant.akm(arguments).expect(0);
    }
}

#[test]
fn an_asr_needs_two_different_active_nodes_and_a_free_name() {
    let plant = Plant::new();
    let create = |members: &[&str], code, says: &[&str]| {
        akm_refused(&plant, &[&["asr", "create", "line"], members].concat(), code, says);
    };
    // Before there are nodes there is no ASR.
    create(&["a", "b"], 10, &["no node a", "akm node list"]);
    akm_refused(&plant, &["verify", "--all"], 3, &["no active node"]);
    akm_refused(&plant, &["provision", "--resume"], 3, &["nothing to resume"]);
    akm_refused(&plant, &["provision", "--resume", "a"], 10, &["no node a"]);
    plant.provision("a");
    create(&["a"], 2, &["at least two"]);
    create(&["a", "a"], 2, &["twice"]);
    create(&["a", "b"], 10, &["no node b"]);
    create(&["a", "plant"], 2, &["the module itself"]);
    akm_refused(&plant, &["provision", "--resume", "a"], 3, &["over"]);

    // One whose ceremony was cut off is not active: its stack cannot start while somebody has its port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let target = plant.target("b");
    let done = plant.akm(&["provision", &target, "--name", "b", "--listen", &listen]).expect(6);
    says_what_and_what_to_do(&done, &["cannot listen", "--resume b"]);
    assert_eq!(plant.node("b")["status"], "provisioning");
    create(&["a", "b"], 2, &["b is not active", "--resume b"]);
    akm_refused(&plant, &["verify", "b"], 2, &["not active", "--resume b"]);
    let other = plant.target("other");
    akm_refused(&plant, &["provision", &other, "--name", "b"], 9, &["b is taken", "--name"]);
    akm_refused(
        &plant,
        &["provision", &target, "--name", "c"],
        9,
        &["cut off", "--resume b", "akm node remove b"],
    );
    drop(taken);
    plant.akm(&["provision", "--resume"]).expect(0);

    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    create(&["a", "b"], 3, &["exists already"]);
    create(&["b", "a"], 3, &["exists already"]);
    akm_refused(&plant, &["provision", &other, "--name", "a"], 9, &["a is taken"]);
    akm_refused(&plant, &["provision", &other, "--name", "plant"], 9, &["the module itself", "--name"]);
    let (listen, third) = (plant.address("a").to_string(), plant.target("third"));
    akm_refused(&plant, &["provision", &third, "--listen", &listen], 2, &["node a", "--listen"]);
    akm_refused(&plant, &["asr", "show", "lime"], 10, &["no ASR lime", "akm asr list"]);
    akm_refused(&plant, &["node", "show", "x"], 10, &["no node x"]);
    akm_refused(&plant, &["verify", "x"], 10, &["no node x"]);
    akm_refused(&plant, &["node", "remove", "x"], 10, &["no node x"]);
    akm_refused(&plant, &["node", "remove", "plant"], 10, &["plant"]);
    akm_refused(&plant, &["node", "remove", "a"], 1, &["member of line", "--force"]);
    plant.akm(&["verify", "--all"]).expect(0);
    assert!(!plant.dir("other").exists() && !plant.dir("third").exists());

    let error = plant.akm(&["asr", "create", "line", "a", "b", "--json"]).expect(3).json();
    assert_eq!(error["kind"], "exists");
    let others = ["asr", "create", "line", "a", "b", "--rotate-after", "5m", "--json"];
    assert_eq!(plant.akm(&others).expect(9).json()["kind"], "other-policy");
    assert!(error["error"].as_str().is_some_and(|error| error.contains("line")), "{error}");

    // By force it goes, and the other stays.
    let done = plant.akm(&["node", "remove", "a", "--force"]).expect(0);
    assert!(done.stderr.contains("line"), "{}", done.stderr);
    assert!(!plant.dir("a").exists());
    assert_eq!(plant.nodes().as_array().unwrap().len(), 2);
    plant.akm(&["verify", "--all"]).expect(0);
}

#[test]
fn a_text_that_is_too_long_is_refused_with_the_most_that_fits() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    // 1,452 bytes a datagram, less header, kind and tag.
    let most = 1452 - 45;
    let fits = "x".repeat(most);
    let too_long = "x".repeat(most + 1);
    let sent = || plant.relationship("a", "line")["sent"].clone();
    let before = sent();
    let says = ["too long", "at most 1407 bytes"];
    akmd_refused(&plant, "a", &["send", "line", &too_long], 2, &says);
    let umlauts = "ü".repeat(most / 2 + 1);
    akmd_refused(&plant, "a", &["send", "line", &umlauts], 2, &says);
    let from_input = |input: &[u8], options: &[&str]| {
        run_with_input(&mut plant.akmd_command("a", &[&["send", "line", "-"], options].concat()), input)
    };
    says_what_and_what_to_do(&from_input(too_long.as_bytes(), &[]).expect(2), &says);
    says_what_and_what_to_do(&from_input(&vec![b'x'; 1 << 20], &[]).expect(2), &says);
    assert_eq!(sent(), before);

    let listener = plant.listen("b", "line", 3);
    from_input(format!("one\n{too_long}\nthree").as_bytes(), &["--lines"]).expect(2);
    plant.send("a", "line", &fits);
    plant.send("a", "line", "");
    assert_eq!(listener.texts(), ["one", &fits, ""]);

    akmd_refused(&plant, "a", &["send", "lime", "text"], 2, &["no relationship lime", "akmd status"]);
    akmd_refused(&plant, "a", &["listen", "lime"], 2, &["no relationship lime"]);
    akmd_refused(&plant, "a", &["watch", "lime"], 2, &["no relationship lime"]);
    akmd_refused(&plant, "a", &["rotate", "lime"], 2, &["no relationship lime"]);
    let name = plant.relationship("a", "provisioning by plant")["name"].clone();
    akmd_refused(&plant, "a", &["send", name.as_str().unwrap(), "text"], 2, &["no relationship"]);
    let error = plant.akmd("a", &["send", "lime", "text", "--json"]).expect(2).json();
    assert_eq!(error["exit_code"], 2);
}

#[test]
fn the_stack_itself_refuses_what_would_harm_it() {
    let plant = Plant::with_nodes(&["a"]);
    let run_again = |arguments: &[&str], code, says: &[&str]| {
        akmd_refused(&plant, "a", arguments, code, says);
    };
    run_again(&["run", "--detach"], 3, &["runs", "already"]);
    run_again(&["run"], 1, &["another akmd", "akmd stop"]);
    run_again(&["reset", "--force"], 1, &["akmd stop"]);
    plant.akmd("a", &["reset"]).expect(2);
    plant.akmd("a", &["frobnicate"]).expect(2);
    let garbage = run_with_input(&mut plant.akmd_command("a", &["enroll"]), b"garbage");
    says_what_and_what_to_do(&garbage.expect(2), &["envelope"]);
    plant.akm(&["verify", "a"]).expect(0);

    plant.akmd("a", &["stop"]).expect(0);
    for arguments in [&["status"][..], &["identify"], &["send", "line", "text"], &["listen", "line"]] {
        run_again(arguments, 7, &["no stack runs", "--detach"]);
    }
    plant.akmd("a", &["stop"]).expect(0);

    // Nothing there at all.
    let nowhere = plant.dir("nowhere");
    for (arguments, code) in
        [(&["status"][..], 7), (&["run"], 1), (&["run", "--detach"], 1), (&["enroll"], 2)]
    {
        let mut command = Command::new(akmd_program());
        command.args(arguments).arg("--dir").arg(&nowhere);
        let done = run(&mut command).expect(code);
        says_what_and_what_to_do(&done, &[]);
        let _ = fs::remove_dir_all(&nowhere);
    }

    // An installation that is nobody's node.
    plant.akmd("a", &["reset", "--force"]).expect(0);
    says_what_and_what_to_do(&plant.akmd("a", &["run", "--detach"]).expect(1), &["akm provision"]);
    let done = plant.akm(&["verify", "a"]).expect(7);
    says_what_and_what_to_do(&done, &["does not answer"]);
    let target = plant.target("a");
    plant.akm(&["provision", &target, "--again"]).expect(0);
    plant.akm(&["verify", "a"]).expect(0);
}

#[test]
fn a_stack_that_cannot_run_there_is_refused_before_anything_is_sent() {
    let plant = Plant::new();
    let target = plant.target("a");
    let stack = |name: &str, bytes: &[u8]| {
        let path = plant.place().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut foreign = fs::read(akmd_program()).unwrap();
    // `e_machine` of a MIPS.
    foreign[18] = 8;
    foreign[19] = 0;
    let foreign = stack("foreign", &foreign);
    let refuse = |stack: &Path, says: &[&str]| {
        akm_refused(&plant, &["provision", &target, "--stack", text(stack)], 1, says);
        assert!(!plant.dir("a").exists());
    };
    refuse(&foreign, &["built for", "--stack"]);
    refuse(&stack("letter", b"dear"), &["not a program", "akmd"]);
    refuse(&plant.place().join("missing"), &["cannot read", "missing"]);
    refuse(plant.place(), &["cannot read"]);

    // Somebody else's directory, a file where a directory should be, and one above it.
    fs::create_dir(plant.dir("foreign-dir")).unwrap();
    fs::write(plant.dir("foreign-dir").join("letter"), "dear").unwrap();
    fs::write(plant.dir("blocked"), "").unwrap();
    for (name, says) in [("foreign-dir", "not ours"), ("blocked", "blocked"), ("blocked/below", "blocked")] {
        akm_refused(&plant, &["provision", &plant.target(name)], 1, &[says]);
        akm_refused(&plant, &["provision", &plant.target(name), "--again"], 1, &[says]);
    }
}

#[test]
fn a_device_that_is_a_node_already_is_left_alone() {
    let plant = Plant::with_nodes(&["a"]);
    let target = plant.target("a");
    akm_refused(&plant, &["provision", &target], 3, &["node a already", "--again", "akm verify a"]);
    akm_refused(&plant, &["provision", &target, "--name", "b"], 9, &["--again"]);
    let error = plant.akm(&["provision", &target, "--json"]).expect(3).json();
    assert_eq!(error["kind"], "exists");

    // Another module, whether the stack runs or not.
    let other = |arguments: &[&str]| {
        let mut command = plant.akm_command(arguments);
        command.env("AKM_HOME", plant.place().join("other-home"));
        command
    };
    run(&mut other(&["init", "--name", "other"])).expect(0);
    for running in [true, false] {
        if !running {
            plant.akmd("a", &["stop"]).expect(0);
        }
        let says = ["another module", "akmd reset --force"];
        refused(&plant, &mut other(&["provision", &target]), 1, &says);
        refused(&plant, &mut other(&["provision", &target, "--again"]), 1, &says);
        assert_eq!(
            run(&mut other(&["node", "list", "--json"])).expect(0).json().as_array().unwrap().len(),
            1
        );
    }
    plant.start("a");
    plant.akm(&["verify", "a"]).expect(0);
}

#[test]
fn an_element_that_is_not_ours_is_refused() {
    let plant = Plant::with_nodes(&["a"]);

    // A copy of the device, while the original runs and while it does not.
    let copy = plant.dir("copy");
    assert!(Command::new("cp").arg("-a").args([plant.dir("a"), copy.clone()]).status().unwrap().success());
    let _ = fs::remove_file(copy.join("run/akmd.sock"));
    let target = plant.target("copy");
    let says = ["belongs to node a", "must not be copied"];
    for again in [&[][..], &["--again"], &["--name", "b"], &["--name", "b", "--again"]] {
        akm_refused(&plant, &[&["provision", &target], again].concat(), 4, &says);
    }
    plant.akmd("a", &["stop"]).expect(0);
    akm_refused(&plant, &["provision", &target, "--again"], 4, &says);
    plant.start("a");
    plant.akm(&["verify", "a"]).expect(0);

    // The same device by another name of its directory is not made into a second node.
    std::os::unix::fs::symlink(plant.dir("a"), plant.dir("alias")).unwrap();
    let alias = plant.target("alias");
    akm_refused(&plant, &["provision", &alias], 4, &["belongs to node a"]);
    akm_refused(&plant, &["provision", &alias, "--again"], 4, &["belongs to node a"]);
    plant.akm(&["verify", "a"]).expect(0);
    fs::remove_file(plant.dir("alias")).unwrap();

    // A stack that is nobody's node, with an element that holds a root of a stranger's relationship.
    let current = fs::canonicalize(copy.join("current")).unwrap();
    run(Command::new(current.join("akmd")).args(["reset", "--force", "--dir"]).arg(&copy)).expect(0);
    fs::remove_file(copy.join("state/element")).unwrap();
    let mut element = SoftwareElement::create(&copy.join("state"), None).unwrap();
    let stranger = RelationshipId::from_random([0x5a; 16]);
    let root = Root::Relationship { id: stranger, version: 1, check: RootCheck([0; 4]) };
    element.install(root, wrap_for_software(&Secret::take(&mut [9; 32])).expose()).unwrap();
    let says = [&stranger.to_string(), "akmd reset --force"];
    akm_refused(&plant, &["provision", &target, "--name", "b"], 4, &says);
    akm_refused(&plant, &["provision", &target, "--name", "b", "--again"], 4, &says);
    assert_eq!(SoftwareElement::open(&copy.join("state"), None).unwrap().roots().unwrap(), [root]);

    // A damaged element, and one that is sealed.
    let bytes = fs::read(copy.join("state/element")).unwrap();
    fs::write(copy.join("state/element"), &bytes[..bytes.len() - 1]).unwrap();
    akm_refused(&plant, &["provision", &target, "--name", "b"], 4, &["damaged"]);
    fs::write(copy.join("state/element"), &bytes).unwrap();
    let passphrase = plant.place().join("passphrase");
    fs::write(&passphrase, "secret").unwrap();
    set_mode(&passphrase, 0o600);
    fs::remove_file(copy.join("state/element")).unwrap();
    drop(SoftwareElement::create(&copy.join("state"), Some(&passphrase)).unwrap());
    akm_refused(&plant, &["provision", &target, "--name", "b"], 4, &["sealed"]);

    // As the operator was told.
    fs::write(copy.join("state/element"), &bytes).unwrap();
    run(Command::new(current.join("akmd")).args(["reset", "--force", "--dir"]).arg(&copy)).expect(0);
    plant.akm(&["provision", &target, "--name", "b"]).expect(0);
    plant.akm(&["verify", "--all"]).expect(0);
}

#[test]
fn a_stack_that_was_tampered_with_does_not_verify() {
    let plant = Plant::with_nodes(&["a"]);
    let current = plant.dir("a").join("current");
    let tampered = |what: &str| {
        let done = plant.akm(&["verify", "a"]).expect(5);
        says_what_and_what_to_do(&done, &["integrity code", "provision it again"]);
        let listed = plant.akm(&["verify", "--all", "--json"]).expect(5).json();
        assert_eq!(listed[0]["verified"], false, "{what}");
        assert_eq!(listed[0]["kind"], "not-as-installed");
    };
    for name in ["akmd.toml", "akmd.service", "manifest", "akmd"] {
        let path = current.join(name);
        let (bytes, mode) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().permissions().mode());
        let replace = |bytes: &[u8], mode: u32| {
            // A program that runs cannot be written to, only replaced.
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            set_mode(&path, mode);
        };
        let mut changed = bytes.clone();
        // In a comment of the configuration; in what no program looks at.
        let at = if name == "akmd" { changed.len() - 1 } else { 3 };
        changed[at] ^= 1;
        replace(&changed, mode);
        tampered(name);
        replace(&bytes, mode | 0o002);
        tampered(name);
        fs::remove_file(&path).unwrap();
        tampered(name);
        fs::write(plant.place().join(name), &bytes).unwrap();
        std::os::unix::fs::symlink(plant.place().join(name), &path).unwrap();
        tampered(name);
        replace(&bytes, mode);
        plant.akm(&["verify", "a"]).expect(0);
    }
    fs::write(current.join("plugin.so"), "").unwrap();
    tampered("a file more");
    fs::remove_file(current.join("plugin.so")).unwrap();
    fs::create_dir(current.join("more")).unwrap();
    tampered("a directory more");
    fs::remove_dir(current.join("more")).unwrap();
    std::os::unix::fs::symlink("nowhere", current.join("link")).unwrap();
    tampered("a link to nowhere");
    fs::remove_file(current.join("link")).unwrap();

    // A configuration that says something else, in force after a restart, and mended by a new ceremony.
    let toml = current.join("akmd.toml");
    let text = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, text.replace("127.0.0.1", "0.0.0.0")).unwrap();
    plant.kill("a");
    plant.start("a");
    tampered("listens everywhere");
    plant.akm(&["provision", &plant.target("a"), "--again"]).expect(0);
    plant.akm(&["verify", "a"]).expect(0);
    assert_eq!(fs::read_to_string(&toml).unwrap(), text);
}

#[test]
fn a_node_that_is_off_or_somebody_in_its_place_is_told() {
    let plant = Plant::with_nodes(&["a", "b"]);
    let address = plant.address("a");
    plant.akmd("a", &["stop"]).expect(0);
    akm_refused(&plant, &["verify", "a"], 7, &["node a does not answer", "akmd status"]);
    let done = plant.akm(&["verify", "--all", "--json"]).expect(7);
    let listed = done.json();
    let of =
        |name: &str| listed.as_array().unwrap().iter().find(|each| each["node"] == name).unwrap().clone();
    assert_eq!((of("a")["verified"].as_bool(), of("b")["verified"].as_bool()), (Some(false), Some(true)));

    // Somebody who says nothing, somebody who talks of something else, and somebody who hangs up.
    let silent = TcpListener::bind(address).unwrap();
    let done = plant.akm(&["verify", "a"]).expect(5);
    says_what_and_what_to_do(&done, &["does not prove to be node a"]);
    drop(silent);
    let babbling = TcpListener::bind(address).unwrap();
    let babbler = std::thread::spawn(move || {
        let (mut stream, _) = babbling.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let done = plant.akm(&["verify", "a"]);
    assert!(matches!(done.code, Some(5 | 7)), "{done:?}");
    says_what_and_what_to_do(&done, &["node a"]);
    babbler.join().unwrap();

    // The stack of another node.
    let toml = plant.dir("b").join("current/akmd.toml");
    let right = fs::read_to_string(&toml).unwrap();
    let own = plant.address("b").to_string();
    plant.akmd("b", &["stop"]).expect(0);
    fs::write(&toml, right.replace(&own, &address.to_string())).unwrap();
    plant.start("b");
    let done = plant.akm(&["verify", "a"]);
    assert!(matches!(done.code, Some(5 | 7)), "{done:?}");
    says_what_and_what_to_do(&done, &["node a"]);
    plant.akmd("b", &["stop"]).expect(0);
    fs::write(&toml, right).unwrap();

    plant.start("a");
    plant.start("b");
    plant.akm(&["verify", "--all"]).expect(0);
}

#[test]
fn what_another_command_holds_is_waited_for_and_then_told() {
    let plant = Plant::with_nodes(&["a", "b"]);
    let locks = plant.home().join("locks");
    let hold = |name: &str| {
        let file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(locks.join(name)).unwrap();
        file.lock().unwrap();
        file
    };
    let id = plant.node("a")["akm_id"].as_str().unwrap().to_owned();
    let held = hold(&format!("node-{id}.lock"));
    akm_refused(&plant, &["verify", "a"], 8, &["held by another command", "try again"]);
    drop(held);

    let held = hold("asr-line.lock");
    akm_refused(&plant, &["asr", "create", "line", "a", "b"], 8, &["ASR line is held"]);
    drop(held);

    let target = plant.target("a");
    let hex: String = sha256(&[target.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    let held = hold(&format!("target-{hex}.lock"));
    akm_refused(&plant, &["provision", &target, "--again"], 8, &["held by another command"]);
    akm_refused(&plant, &["node", "remove", "a"], 8, &["held by another command"]);
    drop(held);

    // The store, by a transaction that does not end.
    let connection = rusqlite::Connection::open(plant.home().join("store.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    akm_refused(&plant, &["asr", "create", "line", "a", "b"], 8, &["held by another command"]);
    connection.execute_batch("ROLLBACK").unwrap();
    drop(connection);

    // One that lets go in time is waited for.
    let held = hold(&format!("node-{id}.lock"));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| plant.akm(&["verify", "a"]));
        while !waiting.is_finished() && started.elapsed() < Duration::from_secs(1) {
            std::thread::yield_now();
        }
        drop(held);
        waiting.join().unwrap().expect(0);
    });
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
}

#[test]
fn with_a_member_away_nothing_becomes_active_and_the_same_command_goes_on() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    plant.kill("b");
    let create = &["asr", "create", "line", "a", "b", "c"];
    let nodes = plant.nodes();
    for _ in 0..2 {
        let done = plant.akm(create).expect(6);
        assert!(
            done.stderr.contains("parked until b") && done.stderr.contains("the same command again"),
            "{done:?}"
        );
        for name in ["a", "c"] {
            let relationship = plant.relationship(name, "line");
            assert_eq!((&relationship["phase"], &relationship["sent"]), (&"Staged".into(), &0.into()));
            akmd_refused(&plant, name, &["send", "line", "early"], 1, &["not active", "akm tasks"]);
        }
        assert_ne!(plant.asrs()[0]["status"], "active");
        assert_eq!(plant.nodes(), nodes);
    }
    akm_refused(&plant, &["asr", "create", "line", "a", "c"], 9, &["parked with other members"]);
    let other_policy = [&create[..], &["--rotate-after", "5m"]].concat();
    akm_refused(&plant, &other_policy, 9, &["parked with other members or another policy"]);
    let error = plant.akm(&[&create[..], &["--json"]].concat()).expect(6).json();
    assert_eq!(error["kind"], "parked");

    // What was parked survives a restart of those who have it.
    plant.kill("a");
    plant.start("a");
    assert_eq!(plant.relationship("a", "line")["phase"], "Staged");
    plant.start("b");
    plant.akm(create).expect(0);
    akm_refused(&plant, create, 3, &["exists already"]);
    assert_eq!(plant.asrs()[0]["status"], "active");
    for name in ["a", "b", "c"] {
        assert_eq!(plant.relationship(name, "line")["phase"], "Established");
    }
    let listeners = ["a", "c"].map(|name| plant.listen(name, "line", 1));
    plant.send("b", "line", "all here");
    for listener in listeners {
        assert_eq!(listener.texts(), ["all here"]);
    }
}

#[test]
fn a_host_that_cannot_be_reached_changes_nothing() {
    let plant = Plant::new();
    let closed = ports::port();
    let config = plant.place().join("ssh_config");
    fs::write(&config, "").unwrap();
    let target = format!("ssh://root@127.0.0.1:{closed}/opt/akm");
    let refuse = |target: &str, says: &[&str]| -> Done {
        akm_refused(&plant, &["provision", target, "--ssh-config", text(&config)], 7, says)
    };
    refuse(&target, &["Connection refused", "is the ssh server running"]);
    refuse("ssh://name.invalid", &["Could not resolve hostname", "spelling"]);
    let missing = plant.place().join("no_config");
    akm_refused(&plant, &["provision", &target, "--ssh-config", text(&missing)], 7, &["configuration file"]);
}

#[test]
fn an_element_without_its_passphrase_parks_the_ceremony() {
    let plant = Plant::new();
    let passphrase = plant.place().join("passphrase");
    let target = plant.target("a");
    let element = format!("software:passphrase-file={}", text(&passphrase));
    let done = plant.akm(&["provision", &target, "--name", "a", "--element", &element]).expect(4);
    says_what_and_what_to_do(&done, &["passphrase", "--resume a"]);
    akm_refused(&plant, &["asr", "create", "line", "a", "b"], 2, &["not active"]);
    fs::write(&passphrase, "secret").unwrap();
    set_mode(&passphrase, 0o644);
    says_what_and_what_to_do(&plant.akm(&["provision", "--resume", "a"]).expect(4), &["passphrase"]);
    set_mode(&passphrase, 0o600);
    plant.akm(&["provision", "--resume", "a"]).expect(0);
    plant.akm(&["verify", "a"]).expect(0);

    // Given up, it leaves nothing.
    let target = plant.target("b");
    let element = format!("software:passphrase-file={}", text(&plant.place().join("missing")));
    plant.akm(&["provision", &target, "--name", "b", "--element", &element]).expect(4);
    plant.akm(&["node", "remove", "b"]).expect(0);
    assert!(!plant.dir("b").exists());
    assert_eq!(plant.nodes().as_array().unwrap().len(), 2);
}

#[test]
fn a_local_target_is_given_a_port_of_those_that_the_environment_names() {
    let plant = Plant::new();
    let targets = ["a", "b"].map(|name| plant.target(name));
    let provision =
        |target: &str, ports: &str| run(plant.akm_command(&["provision", target]).env("AKM_PORTS", ports));
    for malformed in ["", "30000", "30099-30000", "0-10", "many"] {
        says_what_and_what_to_do(&provision(&targets[0], malformed).expect(2), &["AKM_PORTS", "30000-30099"]);
    }
    let port = ports::port();
    let one = format!("{port}-{port}");
    provision(&targets[0], &one).expect(0);
    assert_eq!(plant.node("a")["listen"], format!("127.0.0.1:{port}"));
    // It is that of the first node, also while nobody listens there.
    plant.akmd("a", &["stop"]).expect(0);
    says_what_and_what_to_do(&provision(&targets[1], &one).expect(1), &["cannot find a free port"]);
}
