//! Each cause that `akm diagnose` names, produced for real; and what `akm serve` does and shows.

mod support {
    pub(crate) mod plant;
    pub(crate) mod serving;
}

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use akm_core::crypto::provider;
use akm_core::start::{SealedPlace, Start};
use akm_core::tree::LAST_EPOCH;
use akm_counterparts::swtpm::Swtpm;
use akm_element::ElementSpec;
use akm_provision::fuzzing::{Store, Vault};
use serde_json::Value;
use support::plant::{Plant, akmd_program, bytes_of, run, signal, wait_until};
use support::serving::{Serving, Silent, free_address, get, get_as};

fn plant(names: &[&str], members: &[&str]) -> Plant {
    let plant = Plant::in_memory();
    plant.akm(&["init", "--name", "plant"]).expect(0);
    let stack = plant.small_stack();
    for name in names {
        plant.akm(&["provision", &plant.target(name), "--name", name, "--stack", &stack]).expect(0);
    }
    if !members.is_empty() {
        plant.akm(&[&["asr", "create", "line"], members].concat()).expect(0);
    }
    plant
}

/// The causes that are named for two nodes, with this exit code. The text names them too, and what to do.
#[track_caller]
fn causes(plant: &Plant, arguments: &[&str], code: i32) -> Vec<String> {
    let done = plant.akm(&[&["diagnose", "--json"], arguments].concat()).expect(code);
    let text = plant.akm(&[&["diagnose"], arguments].concat()).expect(code).stdout;
    let found = done.json();
    let list = found["causes"].as_array().expect("a list");
    let named = list.iter().map(|cause| {
        let [name, to_do] = [&cause["cause"], &cause["to_do"]].map(|value| value.as_str().expect("text"));
        assert!(!to_do.is_empty(), "{found:#}");
        assert!(
            text.contains(&format!("{name}: ")) && text.contains(&format!("  to do: {to_do}\n")),
            "{text}"
        );
        name.to_owned()
    });
    named.collect()
}

/// Messages went in both directions, so both know of each other.
fn talk(plant: &Plant) {
    for (from, to) in [("a", "b"), ("b", "a")] {
        let listener = plant.listen(to, "line", 1);
        plant.send(from, "line", "hello");
        assert_eq!(listener.texts(), ["hello"]);
    }
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).expect(0);
}

#[test]
fn nothing_is_found_where_all_is_well() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant);
    assert_eq!(causes(&plant, &["a", "b"], 0), [""; 0]);
    let done = plant.akm(&["diagnose", "a", "b"]).expect(0);
    assert_eq!(done.stdout, "no cause found: as far as both tell, a and b reach each other\n");
    plant.akm(&["diagnose", "a", "a"]).expect(2);
    plant.akm(&["diagnose", "a", "nobody"]).expect(10);
}

/// Anybody can send a node its own frames back: that tells of no clone.
#[test]
fn a_reflected_frame_is_no_cause() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant);
    let watch = plant.watch("b", "line", 1);
    plant.send("a", "line", "mirror");
    let frame = bytes_of(&watch.lines()[0]["frame"]);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&frame, plant.address("a")).unwrap();
    wait_until("it came back", || plant.relationship("a", "line")["rejected"]["own-frame"] == 1);
    assert_eq!(causes(&plant, &["a", "b"], 0), [""; 0]);
}

#[test]
fn no_common_relationship_and_not_a_member() {
    let plant = plant(&["a", "b", "c"], &["a", "b"]);
    assert_eq!(causes(&plant, &["a", "c"], 5), ["no common relationship"]);
    assert_eq!(causes(&plant, &["a", "c", "--asr", "line"], 5), ["not a member"]);
}

#[test]
fn not_running() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    plant.akmd("b", &["stop"]).expect(0);
    assert_eq!(causes(&plant, &["a", "b"], 7), ["not running"]);
}

/// A TPM that goes while the stack runs: it is told at the node and by the module, and all goes on when it is back.
#[test]
fn element_gone_while_the_stack_runs() {
    let mut swtpm = Swtpm::start();
    let plant = plant(&["a"], &[]);
    let stack = plant.small_stack();
    let spec = swtpm.spec();
    plant
        .akm(&["provision", &plant.target("b"), "--name", "b", "--stack", &stack, "--element", &spec])
        .expect(0);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    talk(&plant);
    assert_eq!(plant.status("b")["element_trouble"], Value::Null);

    swtpm.kill();
    // The module begins an epoch, and the node cannot follow.
    assert_eq!(causes(&plant, &["a", "b"], 5), ["element gone"]);
    let trouble = plant.status("b")["element_trouble"].clone();
    assert!(trouble.as_str().is_some_and(|why| why.contains("element")), "{trouble}");
    assert!(plant.akmd("b", &["status"]).expect(0).stdout.contains(trouble.as_str().unwrap()));

    // Nobody has to turn to the node for it to see that.
    swtpm.restart();
    wait_until("the node has its element again", || plant.status("b")["element_trouble"].is_null());
    assert_eq!(causes(&plant, &["a", "b"], 0), [""; 0]);
    talk(&plant);
}

#[test]
fn element_gone() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    plant.akmd("b", &["stop"]).expect(0);
    fs::remove_file(plant.dir("b").join("state/element")).unwrap();
    assert_eq!(causes(&plant, &["a", "b"], 5), ["element gone"]);
}

#[test]
fn generation_parked() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant);
    plant.akmd("b", &["stop"]).expect(0);
    plant.akm(&["asr", "renew", "line", "--without-absent"]).expect(0);
    plant.start("b");
    let found = causes(&plant, &["a", "b"], 5);
    assert_eq!(found[0], "generation parked", "{found:?}");
}

/// Where a change waits for somebody else, the two still reach each other.
#[test]
fn a_change_that_is_parked_for_a_third_is_no_cause() {
    let plant = plant(&["a", "b", "c"], &["a", "b", "c"]);
    talk(&plant);
    plant.akmd("c", &["stop"]).expect(0);
    plant.akm(&["asr", "renew", "line"]).expect(6);
    talk(&plant);
    assert_eq!(causes(&plant, &["a", "b"], 0), [""; 0]);
    assert_eq!(causes(&plant, &["a", "c"], 7), ["not running", "generation parked"]);
}

/// Both lost their places, and the third, who has one, is away: there is neither fallback nor failsafe.
#[test]
fn without_place() {
    let plant = plant(&["a", "b", "c"], &["a", "b", "c"]);
    plant.akmd("c", &["stop"]).expect(0);
    for name in ["a", "b"] {
        let place = plant.place_file(name, "line");
        plant.akmd(name, &["stop"]).expect(0);
        fs::remove_file(place).unwrap();
    }
    for name in ["a", "b"] {
        plant.start(name);
    }
    assert_eq!(causes(&plant, &["a", "b"], 5), ["without place", "without place"]);
    plant.akm(&["asr", "renew", "line", "--without-absent"]).expect(0);
    talk(&plant);
    assert_eq!(causes(&plant, &["a", "b"], 0), [""; 0]);
}

/// No policy and no clock get to the last of 2^32 - 1 epochs, and nobody follows a member that goes there at once. So both
/// are taken there here, with the code of the product on their own disks and elements.
#[test]
fn epochs_used_up() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant);
    let vault = Vault::open(&plant.home(), || panic!("a key file needs no passphrase")).unwrap();
    let sds = Store::open(&plant.home(), &vault).unwrap().asrs().unwrap().remove(0).sds;
    // Further than a stock of epochs reaches nobody follows: both have come far.
    for name in ["a", "b"] {
        let path = plant.place_file(name, "line");
        plant.akmd(name, &["stop"]).expect(0);
        let spec = ElementSpec::Software { passphrase_file: None };
        let mut element = spec.open(&plant.dir(name).join("state")).unwrap();
        let start = Start::begin(&mut *element).unwrap();
        let sealed = fs::read(&path).unwrap();
        let SealedPlace::Good(place) = start.examine(provider(), &sds, Some(&sealed)) else {
            panic!("the place of a stack that was stopped is good")
        };
        let place = place.at(LAST_EPOCH - 1).unwrap().emit();
        let sealed = start.seal().seal(provider(), sds.suite(), sds.digest(), &[6; 16], place.expose());
        fs::write(&path, sealed).unwrap();
    }
    for name in ["a", "b"] {
        plant.start(name);
    }
    wait_until("both are at the end", || {
        ["a", "b"].iter().all(|name| plant.epoch(name, "line") == Some(LAST_EPOCH.into()))
    });
    assert_eq!(causes(&plant, &["a", "b"], 5), ["epochs used up", "epochs used up"]);
    plant.akm(&["asr", "renew", "line"]).expect(0);
    talk(&plant);
    assert_eq!(causes(&plant, &["a", "b"], 0), [""; 0]);
}

#[test]
fn rolled_back() {
    let plant = plant(&["a", "b", "c"], &["a", "b", "c"]);
    talk(&plant);
    // The place of an older start; the element has counted on.
    let (place, image) = (plant.place_file("b", "line"), plant.place().join("image"));
    plant.akmd("b", &["stop"]).expect(0);
    copy(&place, &image);
    for _ in 0..2 {
        plant.start("b");
        plant.akmd("b", &["stop"]).expect(0);
    }
    fs::rename(&image, &place).unwrap();
    plant.start("b");
    let found = causes(&plant, &["a", "b"], 5);
    assert!(found.contains(&"rolled back".to_owned()), "{found:?}");
}

#[test]
fn possible_clone() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant);
    // A copy of the device, as it was: it runs beside the original.
    plant.akmd("b", &["stop"]).expect(0);
    copy(&plant.dir("b"), &plant.dir("copy"));
    let config = plant.dir("copy").join("current/akmd.toml");
    let address = free_address();
    let listen = plant.node("b")["listen"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(&config).unwrap().replace(&listen, &address.to_string());
    fs::write(&config, text).unwrap();
    plant.start("b");
    plant.start("copy");
    wait_until("two devices spoke in the name of one", || {
        for name in ["a", "b", "copy"] {
            plant.send(name, "line", "me too");
        }
        plant.relationship("a", "line")["rejected"]["possible-clone"].as_u64().is_some()
    });
    let found = causes(&plant, &["a", "b"], 5);
    assert!(found.contains(&"possible clone".to_owned()), "{found:?}");
}

#[test]
fn nothing_sent() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant);
    wait_until("b was heard", || plant.relationship("a", "line")["accepted"].as_u64().unwrap() > 0);
    // Since its start a has heard nothing, as b had nothing to say.
    std::thread::sleep(std::time::Duration::from_secs(2));
    plant.akmd("a", &["stop"]).expect(0);
    plant.start("a");
    wait_until("the cause is named", || {
        let done = plant.akm(&["diagnose", "a", "b", "--json"]);
        done.json()["causes"].as_array().unwrap().iter().any(|cause| cause["cause"] == "nothing sent")
    });
}

#[test]
fn two_stacks_that_call_themselves_differently_are_no_cause() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    // The stack of another version: the same program, that calls itself otherwise.
    let mut program = fs::read(akmd_program()).unwrap();
    // The first four characters: a program may hold the rest apart from them.
    let own = &env!("CARGO_PKG_VERSION").as_bytes()[..4];
    let mut other = own.to_vec();
    other[2] = b'9';
    let mut at = 0;
    while let Some(found) = program[at..].windows(own.len()).position(|bytes| bytes == own) {
        program[at + found..at + found + own.len()].copy_from_slice(&other);
        at += found + own.len();
    }
    let path = plant.place().join("later");
    fs::write(&path, program).unwrap();
    run(Command::new("chmod").arg("755").arg(&path)).expect(0);
    plant.akmd("b", &["stop"]).expect(0);
    run(Command::new(&path).args(["run", "--detach", "--dir"]).arg(plant.dir("b"))).expect(0);
    let verified = plant.akm(&["verify", "b", "--json"]).json();
    assert_eq!(verified[0]["kind"], "not-as-installed", "{verified:#}");
    talk(&plant);
    assert_eq!(causes(&plant, &["a", "b"], 0), [""; 0]);
}

#[test]
fn serve_carries_parked_work_on_and_shows_health_and_metrics() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    plant.akmd("b", &["stop"]).expect(0);
    plant.akm(&["asr", "renew", "line"]).expect(6);
    let metrics = free_address();
    let mut serving = Serving::start(&plant, metrics);
    wait_until("it tells of the node that is away", || {
        let health = get(metrics, "/health");
        health.starts_with("HTTP/1.1 503") && health.contains("node b does not answer")
    });
    wait_until("the work is shown as parked", || get(metrics, "/metrics").contains("\nakm_parked_tasks 2\n"));
    plant.start("b");
    wait_until("the work is done", || get(metrics, "/metrics").contains("\nakm_parked_tasks 0\n"));
    wait_until("all is well", || get(metrics, "/health").starts_with("HTTP/1.1 200"));
    assert!(get(metrics, "/metrics").contains("akm_node_reached{node=\"b\"} 1"));
    assert!(get(metrics, "/other").starts_with("HTTP/1.1 404"));
    assert!(get_as(metrics, "evil.example", "/metrics").starts_with("HTTP/1.1 421"));
    let silent = Silent::at(metrics);
    assert!(get(metrics, "/health").starts_with("HTTP/1.1 200"));
    silent.check_was_not_waited_for();
    let line: Value = plant.relationship("b", "line");
    assert_eq!(line["generation"], 2);
    signal(serving.0.id(), "TERM");
    assert!(serving.0.wait().unwrap().success());
    plant.akm(&["serve", "--metrics", "0.0.0.0:9464"]).expect(2);
}

/// What is done by two at once is done once, also where one is killed; who begins a request and does not end it keeps
/// nobody else from the pages for long.
#[test]
fn serve_goes_on_after_it_was_killed_and_beside_another() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    plant.akmd("b", &["stop"]).expect(0);
    plant.akm(&["asr", "renew", "line"]).expect(6);
    let [one, other] = [free_address(), free_address()];
    let mut killed = Serving::start(&plant, one);
    let mut beside = Serving::start(&plant, other);
    wait_until("both tell of what is parked", || {
        [one, other].iter().all(|at| get(*at, "/metrics").contains("\nakm_parked_tasks 2\n"))
    });
    let taken = plant.akm(&["serve", "--metrics", &one.to_string()]).expect(2);
    assert!(taken.stderr.contains(&format!("cannot show metrics at {one}")), "{taken:?}");
    signal(killed.0.id(), "KILL");
    killed.0.wait().unwrap();
    let mut again = Serving::start(&plant, one);
    let _idle = TcpStream::connect(one).unwrap();
    plant.start("b");
    wait_until("both see that it is done", || {
        [one, other].iter().all(|at| {
            get(*at, "/metrics").contains("\nakm_parked_tasks 0\n")
                && get(*at, "/health").starts_with("HTTP/1.1 200")
        })
    });
    assert_eq!(plant.relationship("b", "line")["generation"], 2);
    assert_eq!(plant.akm(&["tasks"]).expect(0).stdout, "nothing is parked\n");
    for serving in [&mut again, &mut beside] {
        signal(serving.0.id(), "TERM");
        assert!(serving.0.wait().unwrap().success());
    }
}

/// Others that wait for the same change are there all the time: that is no reason to try who is away.
#[test]
fn serve_tries_who_is_away_when_its_back_off_is_over_and_not_in_between() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    plant.akmd("b", &["stop"]).expect(0);
    plant.akm(&["asr", "renew", "line"]).expect(6);
    let metrics = free_address();
    let _serving = Serving::start(&plant, metrics);
    wait_until("there were ten rounds", || {
        let shown = get(metrics, "/metrics");
        let rounds = shown.lines().find_map(|line| line.strip_prefix("akm_rounds_total "));
        rounds.is_some_and(|rounds| rounds.parse::<u64>().unwrap() >= 10)
    });
    let tasks = plant.akm(&["tasks", "--json"]).expect(0).json();
    let of = |node| tasks.as_array().unwrap().iter().find(|task| task["node"] == node).unwrap();
    // The command, and at most one more on a machine so slow that the first back-off of half a minute was over.
    assert!(of("b")["tries"].as_u64().unwrap() <= 2, "{tasks:#}");
    let text = plant.akm(&["tasks"]).expect(0).stdout;
    let line = text.lines().find(|line| line.starts_with("a ")).unwrap();
    assert!(line.ends_with("when all have it"), "{text}");
}

/// What nobody can carry on is not tried, and who sees it is told what to do.
#[test]
fn a_change_that_waits_for_one_that_is_no_node_any_more_says_so_until_it_is_taken_out() {
    let plant = plant(&["a", "b", "c"], &["a", "b", "c"]);
    plant.akmd("c", &["stop"]).expect(0);
    plant.akm(&["asr", "renew", "line"]).expect(6);
    plant.akm(&["node", "remove", "c", "--force"]).expect(0);
    let text = plant.akm(&["tasks"]).expect(0).stdout;
    assert!(text.contains("never, it is no node any more: akm asr remove line c"), "{text}");
    plant.akm(&["asr", "remove", "line", "c"]).expect(0);
    assert_eq!(plant.akm(&["tasks"]).expect(0).stdout, "nothing is parked\n");
    talk(&plant);
}

/// A stack in the foreground that says all in its log, and shows metrics; it ends with the value.
struct Talkative {
    child: Child,
    log: PathBuf,
    metrics: SocketAddr,
}

impl Talkative {
    fn start(plant: &Plant, name: &str) -> Self {
        let (log, metrics) = (plant.place().join("log"), free_address());
        let mut command = plant.akmd_command(name, &["run", "-v", "--metrics", &metrics.to_string()]);
        let child = command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        wait_until("the stack runs", || plant.akmd(name, &["status"]).code == Some(0));
        Self { child, log, metrics }
    }

    /// A line of the log holds all of this.
    #[track_caller]
    fn check_told(&self, parts: &[&str]) {
        let log = fs::read_to_string(&self.log).unwrap();
        assert!(log.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}: {log}");
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn rejections_and_finding_back_bear_one_name_in_log_status_and_metrics() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant);
    plant.akmd("a", &["stop"]).expect(0);
    let a = Talkative::start(&plant, "a");
    let watch = plant.watch("a", "line", 1);
    plant.send("b", "line", "once");
    let frame = bytes_of(&watch.lines()[0]["frame"]);
    let mut forged = frame.clone();
    *forged.last_mut().unwrap() ^= 1;
    let wire = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = plant.address("a");
    for frame in [&frame, &forged] {
        wire.send_to(frame, address).unwrap();
    }
    let rejected = || plant.relationship("a", "line")["rejected"].as_object().unwrap().clone();
    wait_until("a frame that came twice is dropped", || rejected().contains_key("duplicate"));
    let id = plant.relationship("a", "line")["id"].as_str().unwrap().to_owned();
    let silent = Silent::at(a.metrics);
    assert!(get_as(a.metrics, "evil.example:80", "/metrics").starts_with("HTTP/1.1 421"));
    let shown = get(a.metrics, "/metrics");
    silent.check_was_not_waited_for();
    for (reason, count) in rejected() {
        a.check_told(&["frame dropped", "label=\"line\"", &format!("reason=\"{reason}\"")]);
        let sample = format!(
            "akmd_dropped_frames_total{{relationship=\"line\",id=\"{id}\",reason=\"{reason}\"}} {count}\n"
        );
        assert!(shown.contains(&sample), "{sample}: {shown}");
    }

    let place = plant.place_file("a", "line");
    plant.akmd("a", &["stop"]).expect(0);
    drop(a);
    fs::remove_file(place).unwrap();
    let a = Talkative::start(&plant, "a");
    wait_until("it has found back", || plant.relationship("a", "line")["found_back"] == 1);
    let way = plant.relationship("a", "line")["last_found_back"]["way"].as_str().unwrap().to_owned();
    a.check_told(&["found back", "label=\"line\"", &format!("way=\"{way}\"")]);
    let sample = format!("akmd_found_back_total{{relationship=\"line\",id=\"{id}\"}} 1\n");
    assert!(get(a.metrics, "/metrics").contains(&sample));
    // The module hears of it under that name too.
    let mut serving = Serving::start(&plant, free_address());
    wait_until("the ASR is renewed", || plant.relationship("a", "line")["generation"] == 2);
    signal(serving.0.id(), "TERM");
    assert!(serving.0.wait().unwrap().success());
    let mut log = String::new();
    serving.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let line =
        log.lines().find(|line| line.contains("found back relationship=")).unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains(&format!("relationship={id} label=line")) && line.contains("found_back=1"),
        "{line}"
    );
}

#[test]
fn a_stack_shows_health_and_metrics_where_it_is_asked_to() {
    let plant = plant(&["a", "b"], &["a", "b"]);
    talk(&plant);
    plant.akmd("a", &["stop"]).expect(0);
    let metrics = free_address();
    plant.akmd("a", &["run", "--detach", "--metrics", &metrics.to_string()]).expect(0);
    assert!(get(metrics, "/health").starts_with("HTTP/1.1 200"));
    let shown = get(metrics, "/metrics");
    for expected in [
        "akmd_generation{relationship=\"line\"",
        "akmd_established{relationship=\"line\"",
        "# TYPE akmd_epoch gauge",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    plant.akmd("b", &["stop"]).expect(0);
    plant.akmd("b", &["run", "--metrics", "192.0.2.1:9"]).expect(2);
}
