//! The same device provisioned again and again: always exactly one relationship in its element.

mod support;

use std::collections::BTreeSet;

use akm_core::enrolment::Preparation;
use akm_counterparts::ports;
use support::plant::{Plant, bytes_of};
use support::whole::{check_one_node, query, roots};

/// What the device says that it is and holds, as the installer asks it.
fn prepared(plant: &Plant, name: &str) -> Preparation {
    let done = plant.akmd(name, &["enroll", "--prepare"]).expect(0);
    let text = done.stdout.trim().strip_prefix("akm-prepare:").expect("a preparation").to_owned();
    Preparation::parse(&bytes_of(&text.into())).expect("a preparation")
}

#[test]
fn twenty_times_and_there_is_one_node_with_one_relationship() {
    let plant = Plant::with_nodes(&["a"]);
    let target = plant.target("a");
    let first = plant.node("a");
    let mut ids = BTreeSet::from([first["akm_id"].to_string()]);
    let mut relationships = BTreeSet::from([first["provisioning_relationship_id"].to_string()]);
    for round in 1..=20 {
        // From all that the device can be: running, killed, stopped, and nobody's.
        match round % 4 {
            1 => {}
            2 => plant.kill("a"),
            3 => {
                plant.akmd("a", &["stop"]).expect(0);
            }
            _ => {
                plant.akmd("a", &["stop"]).expect(0);
                plant.akmd("a", &["reset", "--force"]).expect(0);
            }
        }
        let node = plant.akm(&["provision", &target, "--again", "--json"]).expect(0).json()["node"].clone();
        assert_eq!((&node["name"], &node["status"]), (&"a".into(), &"active".into()));
        assert_eq!(node["endpoint"], first["endpoint"], "ports are chosen once");
        assert!(ids.insert(node["akm_id"].to_string()), "an AKM ID is never used again");
        assert!(relationships.insert(node["provisioning_relationship_id"].to_string()));
        let replaced: i64 = query(&plant, "SELECT count(*) FROM nodes WHERE status = 'replaced'");
        assert_eq!(replaced, round);

        // Proves itself; stack stopped, one root in the element, and nothing left over anywhere.
        let (id, relationship) = check_one_node(&plant, "a");
        assert_eq!(node["akm_id"], *id);
        let said = prepared(&plant, "a");
        let existing = said.node.expect("a node");
        assert_eq!((existing.node.to_string(), existing.relationship.to_string()), (id, relationship));
        assert!(said.leftovers.is_empty());
        plant.start("a");
    }
    plant.akm(&["verify", "a"]).expect(0);
}

#[test]
fn a_device_that_takes_part_in_asrs_leaves_them_when_it_becomes_a_new_node() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    plant.akm(&["asr", "create", "second", "a", "b"]).expect(0);
    let done = plant.akm(&["provision", &plant.target("a"), "--again"]).expect(0);
    assert!(done.stderr.contains("line, second"), "{}", done.stderr);
    assert_eq!(plant.status("a")["relationships"].as_array().unwrap().len(), 1);
    let done = plant.akmd("a", &["send", "line", "I am gone"]).expect(2);
    assert!(done.stderr.contains("no relationship line"), "{}", done.stderr);
    plant.akmd("a", &["stop"]).expect(0);
    assert_eq!(roots(&plant, "a").len(), 2, "its device key and one relationship");
    plant.start("a");
    // The old ASR has one member left and serves nobody: the same command makes it anew, with the new node.
    let old = plant.relationship("b", "line")["id"].clone();
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    assert_ne!(plant.relationship("b", "line")["id"], old);
    let listener = plant.listen("b", "line", 1);
    plant.send("a", "line", "new here");
    assert_eq!(listener.texts(), ["new here"]);
}

#[test]
fn again_under_another_name_with_other_settings() {
    let plant = Plant::with_nodes(&["a"]);
    let target = plant.target("a");
    let port = ports::port();
    let listen = format!("127.0.0.1:{port}");
    plant.akm(&["provision", &target, "--again", "--name", "pump", "--listen", &listen]).expect(0);
    let node = plant.node("pump");
    assert_eq!((&node["listen"], &node["endpoint"]), (&listen.as_str().into(), &listen.as_str().into()));
    assert_eq!(plant.nodes().as_array().unwrap().len(), 2);
    plant.akm(&["verify", "pump"]).expect(0);
    plant.akm(&["verify", "a"]).expect(10);
    // The name that became free can be given to another device.
    plant.akm(&["provision", &plant.target("b"), "--name", "a"]).expect(0);
    plant.akm(&["verify", "--all"]).expect(0);
    // On a device that never was a node it is an ordinary ceremony.
    plant.akm(&["provision", &plant.target("c"), "--again"]).expect(0);
    plant.akm(&["verify", "c"]).expect(0);
}

#[test]
fn a_node_that_was_removed_is_gone_from_device_and_module() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);

    // Its directory is elsewhere while it is removed: only force forgets it.
    plant.akmd("a", &["stop"]).expect(0);
    let elsewhere = plant.dir("elsewhere");
    std::fs::rename(plant.dir("a"), &elsewhere).unwrap();
    plant.akm(&["node", "remove", "a"]).expect(1);
    let removed = plant.akm(&["node", "remove", "a", "--force", "--json"]).expect(0).json();
    assert_eq!(removed["erased"], false);
    assert_eq!(plant.nodes().as_array().unwrap().len(), 2);
    std::fs::rename(&elsewhere, plant.dir("a")).unwrap();

    // It is back as it was: a device of this module, but nobody's node in its books.
    let target = plant.target("a");
    plant.akm(&["provision", &target]).expect(3);
    plant.akm(&["provision", &target, "--again"]).expect(0);
    plant.akm(&["verify", "--all"]).expect(0);
    assert_eq!(plant.status("a")["relationships"].as_array().unwrap().len(), 1);

    // Another module takes the device over; the first one does not touch what is not its own.
    plant.akmd("a", &["stop"]).expect(0);
    plant.akmd("a", &["reset", "--force"]).expect(0);
    let other = |arguments: &[&str]| {
        let mut command = plant.akm_command(arguments);
        command.env("AKM_HOME", plant.place().join("other-home"));
        support::plant::run(&mut command)
    };
    other(&["init", "--name", "other"]).expect(0);
    other(&["provision", &target, "--name", "theirs"]).expect(0);
    plant.akm(&["node", "remove", "a", "--force"]).expect(0);
    other(&["verify", "theirs"]).expect(0);
    plant.akm(&["node", "remove", "b", "--force"]).expect(0);
    assert_eq!(plant.nodes().as_array().unwrap().len(), 1);
    assert!(plant.dir("a").exists() && !plant.dir("b").exists());
}
