//! `akm demo` as a user runs it: what it says at the end, and that nothing is left of it.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use support::plant::{AKM, Plant, processes_naming, run, signal};

/// The stages in their order, and what each counts.
const STAGES: [(&str, u64); 9] = [
    ("module", 1),
    ("provision", 20),
    ("verify", 4),
    ("asrs", 3),
    ("messages", 16),
    ("rotation", 20),
    ("restart", 1),
    ("refusals", 106),
    ("end", 4),
];

/// The demonstration with a directory of its own for what it throws away.
fn demo(plant: &Plant, arguments: &[&str]) -> Command {
    fs::create_dir(plant.place().join("tmp")).unwrap();
    let mut command = plant.akm_command(&["demo"]);
    command.args(arguments).env("TMPDIR", plant.place().join("tmp"));
    command
}

/// Nothing of a demonstration is left, and it never touched the user's own module.
fn assert_nothing_is_left(plant: &Plant) {
    assert_eq!(fs::read_dir(plant.place().join("tmp")).unwrap().count(), 0);
    assert_eq!(processes_naming(plant.place()), Vec::<u32>::new());
    assert!(!plant.home().exists());
}

#[test]
fn the_demonstration_shows_all_it_should_and_leaves_nothing() {
    let plant = Plant::bare();
    let done = run(&mut demo(&plant, &["--json"])).expect(0);
    let said = done.json();
    assert_eq!(said["ok"], true);
    let stages = said["stages"].as_array().expect("a list");
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().expect("a name")).collect();
    assert_eq!(names, STAGES.map(|(name, _)| name));
    for (stage, (name, count)) in stages.iter().zip(STAGES) {
        assert_eq!(stage["ok"], true, "{stage:#}");
        let counted = stage["count"].as_u64().expect("a number");
        // The epochs are those that had passed when somebody looked.
        assert!(if name == "rotation" { counted >= count } else { counted == count }, "{stage:#}");
    }

    let rotation = &stages[5];
    assert!(rotation["epochs"]["to"].as_u64() >= Some(20), "{rotation:#}");
    let members = rotation["members"].as_array().expect("a list");
    let sum = |of: &str| members.iter().map(|member| member[of].as_u64().expect("a number")).sum::<u64>();
    assert_eq!(members.len(), 4);
    assert_eq!(sum("heard"), rotation["arrived"].as_u64().expect("a number"));
    assert_eq!(sum("heard") + sum("lost"), rotation["sent"].as_u64().expect("a number"));
    let epochs = &stages[6]["epochs"];
    assert!(epochs["restarted"].as_u64() >= epochs["killed"].as_u64(), "{epochs:#}");
    assert!(epochs["back"].as_u64() > epochs["others"].as_u64(), "{epochs:#}");
    assert_nothing_is_left(&plant);
}

#[test]
fn an_interrupted_demonstration_clears_away_what_it_began() {
    // In the middle of a ceremony, and under traffic.
    for (begun, name) in [("step 4 store", "INT"), ("6 rotation", "TERM")] {
        let plant = Plant::bare();
        let mut child = demo(&plant, &["--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("akm runs");
        let mut told = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.trim_start().starts_with(begun) {
            line.clear();
            assert_ne!(told.read_line(&mut line).expect("text"), 0, "it ended before {begun:?}");
        }
        signal(child.id(), name);
        let mut rest = String::new();
        told.read_to_string(&mut rest).expect("text");
        assert_eq!(child.wait().expect("an end").code(), Some(1), "{rest}");
        assert!(rest.contains("the demonstration was interrupted; everything of it was removed"), "{rest}");
        assert_nothing_is_left(&plant);
    }
}

#[test]
fn without_an_akmd_beside_it_the_demonstration_says_what_to_do_and_begins_nothing() {
    let plant = Plant::bare();
    let alone = plant.place().join("akm");
    fs::copy(AKM, &alone).unwrap();
    fs::create_dir(plant.place().join("tmp")).unwrap();
    let done = run(Command::new(&alone).arg("demo").env("TMPDIR", plant.place().join("tmp"))).expect(1);
    assert!(done.stderr.contains("there is no akmd beside this program"), "{}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 2, "{}", done.stderr);
    assert_eq!(done.stdout, "");
    assert_nothing_is_left(&plant);
}
