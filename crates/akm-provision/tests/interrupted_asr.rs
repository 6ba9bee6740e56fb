//! Relationships whose making is killed with SIGKILL, on either side, and stacks that are killed while
//! messages flow.
//!
//! The same command again, after the stack was started again where that was killed, ends with the
//! relationship active at all members, held by each element exactly once, and with messages that flow.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::plant::{Plant, akmd_program, bytes_of, run, signal, text_of, wait_until};
use support::strace::{DURABLE, Saboteur, calls_in, killed_after, killing, logging, under};
use support::whole::{Snapshot, check_store, query, roots};

/// The command whose interruption is looked at.
const CREATE: [&str; 5] = ["asr", "create", "line", "a", "b"];

/// How often a stack is killed under traffic.
const ROUNDS: usize = 10;

/// Two nodes whose stacks are quickly installed, and that are stopped.
fn two_nodes() -> Plant {
    let plant = Plant::new();
    let stack = Saboteur::new(plant.place(), &akmd_program()).stack();
    for name in ["a", "b"] {
        plant.akm(&["provision", &plant.target(name), "--name", name, "--stack", &stack]).expect(0);
        plant.akmd(name, &["stop"]).expect(0);
    }
    plant
}

/// The relationship is active at both nodes, in the store and in the elements, and messages flow in
/// both directions. Ends with the stacks stopped.
#[track_caller]
fn check_asr(plant: &Plant, asr: &str) {
    let shown = plant.akm(&["asr", "show", asr, "--json"]).expect(0).json();
    assert_eq!(shown["status"], "active", "{shown:#}");
    let members = shown["members"].as_array().expect("a list");
    let names: Vec<_> = members.iter().map(|member| member["node"].as_str().expect("a name")).collect();
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from(["a", "b"]));
    assert!(
        members.iter().all(|member| member["phase"] == "Established" && member["generation"] == 1),
        "{shown:#}"
    );
    for (from, to) in [("a", "b"), ("b", "a")] {
        let listener = plant.listen(to, asr, 1);
        plant.send(from, asr, "hello");
        assert_eq!(listener.texts(), ["hello"], "from {from} to {to}");
    }
    check_store(plant);
    assert_eq!(query::<i64>(plant, "SELECT count(*) FROM relationships WHERE kind = 2"), 1);
    for name in ["a", "b"] {
        let held: BTreeSet<String> = relationships(plant, name).into_keys().collect();
        assert_eq!(held.len(), 2, "{held:?}");
        plant.akmd(name, &["stop"]).expect(0);
        let mut expected: Vec<String> = held.iter().map(|id| format!("{id} version 1")).collect();
        expected.insert(0, "device".to_owned());
        assert_eq!(roots(plant, name), expected, "in the element of {name}");
        let left_over = leftovers(&plant.dir(name).join("state"));
        assert!(left_over.is_empty(), "{left_over:?}");
    }
}

/// The relationships of a node with their epochs.
fn relationships(plant: &Plant, name: &str) -> BTreeMap<String, Option<u64>> {
    let status = plant.status(name);
    let entries = status["relationships"].as_array().expect("a list");
    entries.iter().map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry["epoch"].as_u64())).collect()
}

/// Entries of a state directory that a cut-off write or erasure left.
fn leftovers(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') || name.ends_with(".new") || name.ends_with(".tmp") {
            found.push(entry.path().display().to_string());
        } else if entry.path().is_dir() {
            found.extend(leftovers(&entry.path()));
        }
    }
    found
}

#[test]
fn module_killed_after_each_durable_call_while_it_makes_an_asr() {
    let plant = two_nodes();
    let begin = Snapshot::take(&plant, &["a", "b"]);
    let log = plant.place().join("calls");
    let start = || {
        begin.restore(&plant);
        plant.start("a");
        plant.start("b");
    };
    // How many there are varies a little: threads that write at the same time stop only once.
    start();
    let mut options = logging(DURABLE, &log);
    options.push("-f".to_owned());
    run(&mut under(&options, &plant.akm_command(&CREATE))).expect(0);
    let main_thread = calls_in(&log).len();
    let mut kills = 0;
    for n in 1.. {
        start();
        let Some(killed) = killed_after(DURABLE, n, &plant.akm_command(&CREATE), &log) else { break };
        assert_eq!(killed.code, None, "not killed at {n}");
        kills += 1;
        let done = plant.akm(&CREATE);
        assert!(matches!(done.code, Some(0 | 3)), "after kill {n}: {done:#?}");
        check_asr(&plant, "line");
    }
    eprintln!("akm asr create: {kills} kills, {main_thread} calls of the main thread");
    assert!(kills >= main_thread, "{kills} kills, but {main_thread} calls of the main thread alone");
}

/// A stack in the foreground, under `strace`, once it answers or has ended.
fn start_under(plant: &Plant, name: &str, options: &[String]) -> Child {
    let mut command = Command::new(akmd_program());
    command.args(["run", "--dir"]).arg(plant.dir(name)).current_dir(plant.place());
    let log = fs::File::create(plant.place().join("stack.log")).unwrap();
    let mut child = under(options, &command)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("strace can be started");
    wait_until("the stack answers or is killed", || {
        child.try_wait().unwrap().is_some() || plant.akmd(name, &["status"]).code == Some(0)
    });
    child
}

#[test]
fn target_killed_at_each_durable_call_while_it_starts_installs_and_activates() {
    let plant = two_nodes();
    let begin = Snapshot::take(&plant, &["a", "b"]);
    let log = plant.place().join("calls");
    begin.restore(&plant);
    plant.start("b");
    let mut stack = start_under(&plant, "a", &logging(DURABLE, &log));
    plant.akm(&CREATE).expect(0);
    plant.akmd("a", &["stop"]).expect(0);
    stack.wait().unwrap();
    let mut calls = calls_in(&log);
    // What comes with the end of the stack is not part of it.
    let last = calls.iter().rposition(|call| call.kind.starts_with("fsync")).expect("a durable call");
    calls.truncate(last + 1);
    eprintln!("akmd run, install, activate: {} kills", calls.len());
    let (mut parked, mut unharmed) = (0, 0);
    for (n, call) in calls.iter().enumerate() {
        begin.restore(&plant);
        plant.start("b");
        let mut stack = start_under(&plant, "a", &killing(call));
        let cut_off = plant.akm(&CREATE);
        // At the last calls everything may have been answered already.
        assert!(matches!(cut_off.code, Some(0 | 6)), "{call:?}: {cut_off:#?}");
        if cut_off.code == Some(0) && stack.try_wait().unwrap().is_none() {
            // In the undisturbed run it followed the other member into one more epoch.
            plant.akmd("a", &["stop"]).expect(0);
            unharmed += 1;
        }
        stack.wait().unwrap();
        if query::<String>(&plant, "SELECT status FROM relationships WHERE kind = 2") == "creating" {
            parked += 1;
            assert_eq!(plant.relationship("b", "line")["phase"], "Staged", "not active before all have it");
            plant.akmd("b", &["send", "line", "too early"]).expect(1);
        }
        plant.start("a");
        let done = plant.akm(&CREATE);
        assert!(matches!(done.code, Some(0 | 3)), "after kill {n} at {call:?}: {done:#?}");
        check_asr(&plant, "line");
    }
    assert!(parked > 0 && unharmed <= 3, "{parked} parked, {unharmed} unharmed");
}

/// A command of `akmd` that goes on in the background and writes into a file.
struct Follower {
    child: Child,
    file: PathBuf,
}

impl Follower {
    /// Begins to follow; returns once the stack has taken the subscription.
    fn start(plant: &Plant, name: &str, what: &str) -> Self {
        let file = plant.place().join(format!("{what}-{name}"));
        let mut child = plant
            .akmd_command(name, &[what, "line", "--json"])
            .stdin(Stdio::null())
            .stdout(fs::File::create(&file).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .expect("akmd can be started");
        child.stderr.as_mut().unwrap().read_exact(&mut [0]).expect("a line that says it is listening");
        Self { child, file }
    }

    /// What has come so far.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.file).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The messages among it.
    fn messages(&self) -> Vec<String> {
        let lines = self.lines();
        lines.iter().filter(|line| line["data"].is_string()).map(text_of).collect()
    }

    /// Whether this message has come.
    fn has(&self, text: &str) -> bool {
        self.messages().iter().any(|message| message == text)
    }

    /// Ends it; what came can still be read.
    fn end(&mut self) {
        signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

/// All that was heard at either node, over all its starts.
#[derive(Default)]
struct Heard {
    messages: BTreeSet<String>,
    nonces: BTreeSet<(u64, u64, Vec<u8>, u64)>,
    newest: BTreeMap<u64, u64>,
    frames: Vec<Vec<u8>>,
}

impl Heard {
    /// No message is delivered twice; each bears its sender and a number of its own.
    fn messages(&mut self, texts: Vec<String>) {
        for text in texts {
            assert!(self.messages.insert(text.clone()), "delivered twice: {text}");
        }
    }

    /// No sender uses a nonce twice or goes back.
    fn frames(&mut self, lines: &[Value]) {
        for line in lines.iter().filter(|line| line["frame"].is_string()) {
            let (sender, epoch) = (line["sender"].as_u64().unwrap(), line["epoch"].as_u64().unwrap());
            let frame = bytes_of(&line["frame"]);
            let salt = frame[12..20].to_vec();
            let nonce = (sender, epoch, salt, line["counter"].as_u64().unwrap());
            assert!(self.nonces.insert(nonce), "a nonce is used twice: {line:#}");
            let newest = self.newest.entry(sender).or_default();
            assert!(epoch >= *newest, "member {sender} went back from epoch {newest} to {epoch}");
            *newest = epoch;
            self.frames.push(frame);
        }
    }
}

/// Sends numbered messages without a pause.
fn talk(plant: &Plant, name: &str, round: usize) -> [Child; 2] {
    let script = "i=0; while echo \"$0 $i\"; do i=$((i + 1)); [ $((i % 20)) != 0 ] || sleep 0.01; done";
    let mut lines = Command::new("sh")
        .args(["-c", script, &format!("{name} {round}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be started");
    let sender = plant
        .akmd_command(name, &["send", "line", "-", "--lines"])
        .stdin(lines.stdout.take().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("akmd can be started");
    [lines, sender]
}

#[test]
fn stack_killed_under_traffic_comes_back_by_itself_and_never_goes_back() {
    let plant = two_nodes();
    for name in ["a", "b"] {
        plant.start(name);
    }
    let policy = ["--rotate-frames", "25", "--advance-interval", "5ms"];
    plant.akm(&[&CREATE[..], &policy].concat()).expect(0);
    let mut random = u64::from(std::process::id());
    eprintln!("seed {random}");
    let mut heard = Heard::default();
    for round in 0..ROUNDS {
        // Each in turn is the one that is killed, while both talk.
        let (victim, witness) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let mut frames = Follower::start(&plant, witness, "watch");
        let mut at_witness = Follower::start(&plant, witness, "listen");
        let mut at_victim = Follower::start(&plant, victim, "listen");
        let talkers = [talk(&plant, victim, round), talk(&plant, witness, round)];
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let goal = 50 + (random >> 33) as usize % 400;
        wait_until("there was traffic", || {
            at_witness.messages().len() >= goal && !at_victim.messages().is_empty()
        });
        let before = plant.epoch(victim, "line");
        plant.kill(victim);
        at_victim.end();
        heard.messages(at_victim.messages());
        plant.start(victim);
        let after = plant.epoch(victim, "line");
        assert!(after > before, "{victim} went back from epoch {before:?} to {after:?}");
        let mut at_victim = Follower::start(&plant, victim, "listen");
        for mut talker in talkers.into_iter().flatten() {
            let _ = talker.kill();
            let _ = talker.wait();
        }

        // Nobody has to do anything: what either says reaches the other.
        for (from, at) in [(victim, &at_witness), (witness, &at_victim)] {
            let text = format!("{from} {round} after the kill");
            plant.send(from, "line", &text);
            wait_until("the members hear each other again", || at.has(&text));
        }
        for follower in [&mut frames, &mut at_witness, &mut at_victim] {
            follower.end();
        }
        heard.frames(&frames.lines());
        heard.messages(at_witness.messages());
        heard.messages(at_victim.messages());
    }
    eprintln!(
        "{ROUNDS} kills, {} messages, {} frames overheard, epochs {:?}",
        heard.messages.len(),
        heard.frames.len(),
        heard.newest
    );

    // What was overheard is delivered by nobody, after yet another start.
    for name in ["a", "b"] {
        plant.kill(name);
        plant.start(name);
        let mut messages = Follower::start(&plant, name, "listen");
        let rejected = || {
            let counts = plant.relationship(name, "line")["rejected"].clone();
            counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>()
        };
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = plant.address(name);
        let newest: Vec<_> = heard.frames.iter().rev().take(400).collect();
        for some in newest.chunks(40) {
            let goal = rejected() + some.len() as u64;
            for frame in some {
                stranger.send_to(frame, address).unwrap();
            }
            wait_until("the replays are refused", || rejected() >= goal);
        }
        messages.end();
        assert_eq!(messages.lines(), Vec::<Value>::new());
    }
    check_asr(&plant, "line");
}
