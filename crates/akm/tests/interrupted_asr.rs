//! Relationships whose making is disturbed at every durable call, on either side, and stacks that are
//! disturbed or killed while messages flow.
//!
//! The same command again, after the stack was started again where that had ended, ends with the
//! relationship active at all members, held by each element exactly once, and with messages that flow. A
//! stack whose call failed goes on by itself. No epoch in which a node has sent comes again.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use akm_counterparts::ports;
use akm_element::ElementSpec;
use serde_json::Value;
use support::faults::{Counted, Order, Point, Run, Sweep};
use support::plant::{Done, Plant, akmd_program, bytes_of, run, signal, text_of, wait_until};
use support::whole::{Snapshot, check_store, query, roots};

/// The command whose interruption is looked at.
const CREATE: [&str; 5] = ["asr", "create", "line", "a", "b"];

/// How often a stack is killed under traffic.
const ROUNDS: usize = 10;

/// Nodes whose stacks are quickly installed, and that are stopped. Node `b` is known at another address than
/// the one it sends from to whoever has not asked it yet, so others learn its endpoint from its frames.
fn nodes(names: &[&str]) -> Plant {
    let plant = Plant::in_memory();
    plant.akm(&["init", "--name", "plant"]).expect(0);
    let stack = plant.small_stack();
    for name in names {
        let target = plant.target(name);
        let port = ports::port();
        let (listen, endpoint) = (format!("0.0.0.0:{port}"), format!("127.0.0.2:{port}"));
        let mut command = vec!["provision", &target, "--name", name, "--stack", &stack];
        if *name == "b" {
            command.extend(["--listen", &listen, "--endpoint", &endpoint]);
        }
        plant.akm(&command).expect(0);
        plant.akmd(name, &["stop"]).expect(0);
    }
    plant
}

fn two_nodes() -> Plant {
    nodes(&["a", "b"])
}

/// The relationship is active at both nodes, in the store and in the elements, and messages flow in
/// both directions. Ends with the stacks stopped.
#[track_caller]
fn check_asr(plant: &Plant, asr: &str, [one, other]: [&str; 2]) {
    let shown = plant.akm(&["asr", "show", asr, "--json"]).expect(0).json();
    assert_eq!(shown["status"], "active", "{shown:#}");
    let members = shown["members"].as_array().expect("a list");
    let names: Vec<_> = members.iter().map(|member| member["node"].as_str().expect("a name")).collect();
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from([one, other]));
    assert!(
        members.iter().all(|member| member["phase"] == "Established" && member["generation"] == 1),
        "{shown:#}"
    );
    for (from, to) in [(one, other), (other, one)] {
        let listener = plant.listen(to, asr, 1);
        plant.send(from, asr, "hello");
        assert_eq!(listener.texts(), ["hello"], "from {from} to {to}");
    }
    check_store(plant);
    let in_force = "SELECT count(*) FROM relationships WHERE kind = 2 AND status <> 'ended'";
    assert_eq!(query::<i64>(plant, in_force), 1);
    for name in [one, other] {
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

/// The counter of a node's element; the stack must not run.
fn counter(plant: &Plant, name: &str) -> u64 {
    let spec = ElementSpec::Software { passphrase_file: None };
    let mut element = spec.open(&plant.dir(name).join("state")).expect("the element can be opened");
    element.counter().expect("a counter").value().expect("its value")
}

/// Of some undisturbed runs the one with the fewest calls: where programs work side by side some make calls
/// that others do without.
fn fewest_calls(run: impl FnMut() -> Run) -> Run {
    let runs = std::iter::repeat_with(run).take(5);
    runs.min_by_key(Run::counted).expect("runs")
}

/// Disturbs the module at each of its calls while it makes an ASR.
fn disturb_the_module(always: &[Order], in_turn: &[Order], counted: Counted) {
    let plant = two_nodes();
    let begin = Snapshot::take(&plant, &["a", "b"]);
    let start = || {
        begin.restore(&plant);
        plant.start("a");
        plant.start("b");
    };
    let undisturbed = fewest_calls(|| {
        start();
        let undisturbed = Run::undisturbed(plant.place(), counted);
        run(undisturbed.on(&mut plant.akm_command(&CREATE))).expect(0);
        undisturbed
    });
    let sweep = Sweep::over("akm asr create", &undisturbed, counted, &["store.db", "store.db-wal"]);
    sweep.carry_out(always, in_turn, |point| {
        start();
        let disturbed = point.run(plant.place());
        let done = run(disturbed.on(&mut plant.akm_command(&CREATE)));
        assert!(matches!(done.code, None | Some(0 | 1 | 6)), "{point:?}: {done:#?}");
        assert!(done.code.is_some() || point.order.kills(), "{point:?}: {done:#?}");
        let again = plant.akm(&CREATE);
        assert!(matches!(again.code, Some(0 | 3)), "after {point:?}: {again:#?}");
        check_asr(&plant, "line", ["a", "b"]);
        disturbed.is_carried_out()
    });
}

#[test]
fn module_killed_at_each_call_while_it_makes_an_asr() {
    disturb_the_module(&[Order::Die], &[], Counted::FilesAndProcesses);
}

#[test]
fn module_whose_calls_fail_or_are_cut_short_while_it_makes_an_asr() {
    disturb_the_module(&[], &[Order::Fail, Order::Tear, Order::Full, Order::FailOtherwise], Counted::Files);
}

/// A stack in the foreground that takes part in a run; ended when dropped.
struct Stack(Child);

impl Stack {
    /// Returns once it answers or has ended.
    fn start(plant: &Plant, name: &str, counted: &Run) -> Self {
        let mut command = Command::new(akmd_program());
        command.args(["run", "--dir"]).arg(plant.dir(name)).current_dir(plant.place());
        // Where a service's log goes is not the stack's own disk.
        let log = fs::File::create(counted.output()).unwrap();
        let child = counted
            .on(&mut command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("akmd can be started");
        let mut stack = Self(child);
        wait_until("the stack answers or has ended", || {
            stack.has_ended() || plant.akmd(name, &["status"]).code == Some(0)
        });
        stack
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("akmd can be waited for").is_some()
    }

    /// How it ended, if it did: killed, or told why in its last line, with the code for it.
    #[track_caller]
    fn check_end(&mut self, plant: &Plant, point: &Point, counted: &Run) {
        let Some(status) = self.0.try_wait().expect("akmd can be waited for") else { return };
        let said = fs::read_to_string(counted.output()).unwrap();
        assert!(!said.contains("panicked"), "{point:?}: {said}");
        match status.code() {
            None => assert!(point.order.kills(), "{point:?}: {said}"),
            Some(1 | 4) => {
                let last = said.lines().last().unwrap_or_default();
                let place = plant.place().to_str().expect("a path in UTF-8");
                assert!(last.starts_with("akmd: ") && last.contains(place), "{point:?}: {said}");
            }
            Some(code) => panic!("{point:?}: code {code}: {said}"),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Disturbs the stack of `a` at each of its calls while the module makes an ASR with another node.
fn disturb_a_member(what: &'static str, plant: &Plant, create: [&str; 5], files: &[&str]) {
    let (one, other) = (create[3], create[4]);
    let begin = Snapshot::take(plant, &[one, other]);
    let before = counter(plant, one);
    let undisturbed = fewest_calls(|| {
        begin.restore(plant);
        plant.start(other);
        let undisturbed = Run::undisturbed(plant.place(), Counted::Files);
        let mut stack = Stack::start(plant, one, &undisturbed);
        plant.akm(&create).expect(0);
        // What comes with the end of the stack is not part of it.
        undisturbed.close();
        plant.akmd(one, &["stop"]).expect(0);
        wait_until("the stack has ended", || stack.has_ended());
        undisturbed
    });
    let sweep = Sweep::over(what, &undisturbed, Counted::Files, files);
    let (mut parked, mut went_on) = (0, 0);
    sweep.carry_out(&[Order::Die, Order::Fail], &[Order::FailOtherwise, Order::Tear, Order::Full], |point| {
        begin.restore(plant);
        plant.start(other);
        let disturbed = point.run(plant.place());
        let mut stack = Stack::start(plant, one, &disturbed);
        let cut_off = plant.akm(&create);
        // At the last calls everything may have been answered already.
        assert!(matches!(cut_off.code, Some(0 | 6)), "{point:?}: {cut_off:#?}");
        let created = "SELECT count(*) FROM relationships WHERE kind = 2 AND status = 'creating'";
        if query::<i64>(plant, created) == 1 {
            parked += 1;
            assert_eq!(plant.relationship(other, "line")["phase"], "Staged", "not active before all have it");
            plant.akmd(other, &["send", "line", "too early"]).expect(1);
        }
        let reached = disturbed.soon_carried_out();
        disturbed.mend();
        if point.order.kills() && reached || stack.has_ended() {
            wait_until("the stack has ended", || stack.has_ended());
            stack.check_end(plant, point, &disturbed);
            plant.start(one);
        } else {
            went_on += 1;
        }
        let done = plant.akm(&create);
        assert!(matches!(done.code, Some(0 | 3)), "after {point:?}: {done:#?}");
        check_asr(plant, "line", [one, other]);
        assert!(counter(plant, one) > before, "{point:?}: the element's counter went back");
        reached
    });
    assert!(parked > 0 && went_on > 0, "{parked} parked, {went_on} went on");
}

#[test]
fn member_disturbed_at_each_call_while_it_starts_installs_and_activates() {
    let files = ["state/element", "/g1.installed", "/g1.copy", "/g1.place", "/g1.active", "run/akmd.sock"];
    disturb_a_member("akmd run, install, activate", &two_nodes(), CREATE, &files);
}

#[test]
fn member_disturbed_at_each_call_while_it_erases_one_asr_and_installs_the_next() {
    let plant = nodes(&["a", "b", "c"]);
    for name in ["a", "b"] {
        plant.start(name);
    }
    plant.akm(&CREATE).expect(0);
    // The ASR has lost a member: the next of that name takes its place.
    plant.akm(&["node", "remove", "b", "--force"]).expect(0);
    plant.akmd("a", &["stop"]).expect(0);
    let files = ["/.erased-", "state/element", "/g1.installed"];
    disturb_a_member("akmd erase, install", &plant, ["asr", "create", "line", "a", "c"], &files);
}

/// Two nodes with an ASR that moves on quickly, both in the same epoch, stopped. Node `a` has yet to learn
/// where `b` sends from.
fn two_members() -> Plant {
    let plant = two_nodes();
    for name in ["a", "b"] {
        plant.start(name);
    }
    plant.akm(&[&CREATE[..], &["--advance-interval", "1ms"]].concat()).expect(0);
    wait_until("both are in one epoch", || plant.epoch("a", "line") == plant.epoch("b", "line"));
    for name in ["a", "b"] {
        plant.akmd(name, &["stop"]).expect(0);
    }
    // None if `a` spoke first: then the answer came from where it had asked.
    for learnt in find(&plant.dir("a"), "endpoints") {
        fs::remove_file(learnt).unwrap();
    }
    plant
}

/// The files of this name below a directory.
fn find(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(find(&entry.path(), name));
        } else if entry.file_name() == name {
            found.push(entry.path());
        }
    }
    found
}

/// What node `a` does in each trial: it sends, moves on twice, and hears the other, who was started again by
/// `start_other` and speaks first, from another address than the one where `a` knows it. Goes on as far as it can;
/// while it waits, `make_room` is called.
fn talk_and_move_on(
    plant: &Plant,
    stack: &mut Stack,
    make_room: impl Fn(),
    start_other: impl FnOnce(),
) -> Vec<Done> {
    let mut done = vec![plant.akmd("a", &["send", "line", "first"])];
    for _ in 0..2 {
        if stack.has_ended() {
            return done;
        }
        let before = epoch_if_running(plant);
        let asked = plant.akmd("a", &["rotate", "line"]);
        wait_until("it has moved on, could not, or has ended", || {
            make_room();
            asked.code != Some(0) || stack.has_ended() || epoch_if_running(plant) > before
        });
        done.push(asked);
    }
    if !stack.has_ended() {
        let heard = accepted(plant);
        plant.akmd("b", &["stop"]).expect(0);
        start_other();
        plant.send("b", "line", "to a");
        wait_until("it has heard the other, or has ended", || {
            make_room();
            if stack.has_ended() || accepted(plant) > heard {
                return true;
            }
            // What came while its epoch could not be recorded is lost.
            plant.send("b", "line", "to a");
            false
        });
    }
    done
}

fn epoch_if_running(plant: &Plant) -> Option<u64> {
    line_if_running(plant)?["epoch"].as_u64()
}

fn accepted(plant: &Plant) -> Option<u64> {
    line_if_running(plant)?["accepted"].as_u64()
}

/// The ASR as node `a` sees it; nothing if its stack has ended.
fn line_if_running(plant: &Plant) -> Option<Value> {
    let status = plant.akmd("a", &["status", "--json"]);
    (status.code == Some(0)).then(|| {
        let status = status.json();
        let all = status["relationships"].as_array().expect("a list");
        all.iter().find(|entry| entry["name"] == "line").cloned().unwrap_or_default()
    })
}

#[test]
fn stack_disturbed_at_each_call_while_it_moves_on_never_goes_back() {
    let plant = two_members();
    let begin = Snapshot::take(&plant, &["a", "b"]);
    let before = counter(&plant, "a");
    begin.restore(&plant);
    let undisturbed = Run::undisturbed(plant.place(), Counted::Files);
    plant.start("b");
    let mut stack = Stack::start(&plant, "a", &undisturbed);
    for done in talk_and_move_on(&plant, &mut stack, || {}, || plant.start("b")) {
        done.expect(0);
    }
    wait_until("it remembers where the other is", || {
        undisturbed.calls().iter().any(|call| call.kind == "rename" && call.path.contains("/endpoints"))
    });
    undisturbed.close();
    drop(stack);
    let sweep = Sweep::over(
        "akmd run, send, rotate",
        &undisturbed,
        Counted::Files,
        &["state/element", "/g1.place", "/endpoints"],
    );
    let mut went_on = 0;
    let orders = [Order::Die, Order::Fail, Order::FailOtherwise, Order::Tear, Order::Full];
    sweep.carry_out(&orders, &[], |point| {
        begin.restore(&plant);
        plant.start("b");
        let mut frames = Follower::start(&plant, "b", "watch");
        let mut messages = Follower::start(&plant, "b", "listen");
        let mut heard = Heard::default();
        let disturbed = point.run(plant.place());
        let mut stack = Stack::start(&plant, "a", &disturbed);
        let make_room = || {
            if disturbed.is_carried_out() {
                disturbed.mend();
            }
        };
        let start_other = || {
            for follower in [&mut frames, &mut messages] {
                follower.end();
            }
            heard.frames(&frames.lines());
            plant.start("b");
            frames = Follower::start(&plant, "b", "watch");
            messages = Follower::start(&plant, "b", "listen");
        };
        for done in talk_and_move_on(&plant, &mut stack, make_room, start_other) {
            assert!(matches!(done.code, Some(0 | 1 | 2 | 7)), "{point:?}: {done:#?}");
            assert!(!done.stderr.contains("panicked"), "{point:?}: {done:#?}");
        }
        let reached = disturbed.soon_carried_out();
        disturbed.mend();
        let sent = line_if_running(&plant).and_then(|line| line["epoch"].as_u64());
        if point.order.kills() && reached || stack.has_ended() {
            wait_until("the stack has ended", || stack.has_ended());
            stack.check_end(&plant, point, &disturbed);
            plant.start("a");
        } else {
            went_on += 1;
        }
        assert!(plant.epoch("a", "line") >= sent, "{point:?}");
        // It goes on by itself, and what it says is heard.
        plant.send("a", "line", "last");
        wait_until("the other hears it", || messages.has("last"));
        for follower in [&mut frames, &mut messages] {
            follower.end();
        }
        heard.frames(&frames.lines());
        check_asr(&plant, "line", ["a", "b"]);
        assert!(counter(&plant, "a") > before, "{point:?}: the element's counter went back");
        reached
    });
    assert!(went_on > 0, "no stack went on");
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
    let policy = ["--rotate-frames", "25", "--advance-interval", "600ms"];
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
    check_asr(&plant, "line", ["a", "b"]);
}
