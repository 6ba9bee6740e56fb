//! A node may be in as many ASRs as memory holds.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use support::flood::resident;
use support::plant::{Plant, text_of, wait_until};

const ASRS: usize = 200;

/// Relationships of one node that is in very many.
const VERY_MANY: usize = 1000;

/// All the ways to choose two or more of four nodes, one after the other.
fn members_of(number: usize) -> Vec<&'static str> {
    let choices: Vec<Vec<&str>> = (0..16u8)
        .map(|bits| {
            let chosen = ["a", "b", "c", "d"].into_iter().enumerate();
            chosen.filter(|(at, _)| bits >> at & 1 == 1).map(|(_, name)| name).collect()
        })
        .filter(|chosen: &Vec<&str>| chosen.len() >= 2)
        .collect();
    choices[number % choices.len()].clone()
}

#[test]
fn two_hundred_asrs_on_four_nodes_survive_a_restart_of_all() {
    let nodes = ["a", "b", "c", "d"];
    let plant = Plant::with_nodes(&nodes);
    let name = |number: usize| format!("asr-{number}");
    for number in 0..ASRS {
        plant.akm(&[&["asr", "create", &name(number)], members_of(number).as_slice()].concat()).expect(0);
    }
    assert_eq!(plant.asrs().as_array().unwrap().len(), ASRS);

    for node in nodes {
        plant.kill(node);
    }
    for node in nodes {
        plant.start(node);
    }
    for node in nodes {
        let mine: Vec<usize> = (0..ASRS).filter(|number| members_of(*number).contains(&node)).collect();
        let status = plant.status(node);
        let held = status["relationships"].as_array().unwrap();
        assert_eq!(held.len(), mine.len() + 1, "its ASRs and its provisioning relationship");
        for number in mine {
            let entry = held.iter().find(|entry| entry["name"] == *name(number));
            let entry = entry.unwrap_or_else(|| panic!("{node} lost {}", name(number)));
            assert_eq!((&entry["phase"], &entry["kind"]), (&"Established".into(), &"communication".into()));
        }
        assert_eq!(status["damaged"].as_object().unwrap().len(), 0);
    }
    plant.akm(&["verify", "--all"]).expect(0);

    for number in [0, ASRS / 2, ASRS - 1] {
        let (asr, members) = (name(number), members_of(number));
        let (sender, others) = members.split_first().unwrap();
        wait_until("the members are in one epoch", || {
            others.iter().all(|other| plant.epoch(other, &asr) == plant.epoch(sender, &asr))
        });
        let listeners: Vec<_> = others.iter().map(|other| plant.listen(other, &asr, 1)).collect();
        plant.send(sender, &asr, &asr);
        for listener in listeners {
            assert_eq!(listener.texts(), [asr.as_str()]);
        }
    }
    let shown = plant.akm(&["asr", "show", &name(ASRS - 1), "--json"]).expect(0).json();
    assert!(shown["members"].as_array().unwrap().iter().all(|member| member["phase"] == "Established"));
}

/// A connection to a node's stack, as an application has it.
struct Application {
    lines: BufReader<UnixStream>,
}

impl Application {
    fn connect(plant: &Plant, name: &str) -> Self {
        let socket = UnixStream::connect(plant.dir(name).join("run/akmd.sock")).expect("the stack runs");
        Self { lines: BufReader::new(socket) }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    fn ask(&mut self, request: &Value) {
        writeln!(self.lines.get_mut(), "{request}").expect("the stack reads");
        let reply = self.next();
        assert_eq!(reply["reply"], "done", "{request}: {reply}");
    }
}

/// The ASRs of a node by name, with phase and epoch.
fn asrs_of(plant: &Plant, name: &str) -> BTreeMap<String, (String, Option<u64>)> {
    let status = plant.status(name);
    assert_eq!(status["damaged"].as_object().map(serde_json::Map::len), Some(0));
    let entries = status["relationships"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    entries
        .iter()
        .filter(|entry| entry["kind"] == "communication")
        .map(|entry| (text(&entry["name"]), (text(&entry["phase"]), entry["epoch"].as_u64())))
        .collect()
}

#[test]
fn a_node_with_a_thousand_relationships_starts_again_with_all_of_them_and_all_of_them_talk() {
    /// Commands at once.
    const AT_ONCE: usize = 4;

    let plant = Plant::with_nodes(&["a", "b"]);
    let name = |number: usize| format!("asr-{number:04}");
    let memory = resident(&plant, "b");
    thread::scope(|scope| {
        for first in 0..AT_ONCE {
            let plant = &plant;
            scope.spawn(move || {
                for number in (first..VERY_MANY).step_by(AT_ONCE) {
                    plant.akm(&["asr", "create", &name(number), "a", "b"]).expect(0);
                }
            });
        }
    });
    let names: BTreeSet<String> = (0..VERY_MANY).map(name).collect();
    assert_eq!(plant.asrs().as_array().map(Vec::len), Some(VERY_MANY));

    // Power loss of both; they find each other again in every one.
    plant.kill("a");
    plant.kill("b");
    let started = Instant::now();
    plant.start("b");
    let answers = started.elapsed();
    plant.start("a");
    wait_until("the two are in one epoch everywhere", || {
        let [at_a, at_b] = ["a", "b"].map(|node| asrs_of(&plant, node));
        assert!(at_a.keys().eq(&names) && at_b.keys().eq(&names), "an ASR is lost");
        assert!(at_b.values().all(|(phase, _)| phase == "Established"));
        at_a == at_b
    });
    let grown = resident(&plant, "b").saturating_sub(memory);
    println!(
        "{VERY_MANY} relationships: the stack answered {answers:?} after its start; {:.1} KiB each",
        grown as f64 / VERY_MANY as f64
    );

    let mut sender = Application::connect(&plant, "a");
    let mut listener = Application::connect(&plant, "b");
    for asr in &names {
        listener.ask(&json!({ "op": "listen", "asr": asr }));
    }
    for asr in &names {
        use base64::Engine;
        let data = base64::engine::general_purpose::STANDARD.encode(asr);
        sender.ask(&json!({ "op": "send", "asr": asr, "data": data }));
        let message = listener.next();
        assert_eq!(message["asr"], **asr, "{message}");
        assert_eq!(text_of(&message), *asr);
    }
    plant.akm(&["verify", "--all"]).expect(0);
    plant.akm(&["asr", "create", "one-more", "a", "b"]).expect(0);
}
