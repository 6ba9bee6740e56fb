//! Each cause that `akm diagnose` names, produced for real; and what `akm serve` does and shows.

mod support {
    pub(crate) mod plant;
}

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::plant::{Plant, akmd_program, run, signal, wait_until};

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

/// The causes that are named for two nodes, with this exit code.
#[track_caller]
fn causes(plant: &Plant, arguments: &[&str], code: i32) -> Vec<String> {
    let done = plant.akm(&[&["diagnose", "--json"], arguments].concat()).expect(code);
    let found = done.json();
    let list = found["causes"].as_array().expect("a list");
    assert!(
        list.iter().all(|cause| cause["to_do"].as_str().is_some_and(|text| !text.is_empty())),
        "{found:#}"
    );
    list.iter().map(|cause| cause["cause"].as_str().expect("a name").to_owned()).collect()
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
    plant.akm(&["diagnose", "a", "nobody"]).expect(2);
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

#[test]
fn rolled_back() {
    let plant = plant(&["a", "b", "c"], &["a", "b", "c"]);
    talk(&plant);
    // The disk of an older start; the element has counted on.
    plant.akmd("b", &["stop"]).expect(0);
    let (nodes, image) = (plant.dir("b").join("state/nodes"), plant.place().join("image"));
    copy(&nodes, &image);
    for _ in 0..2 {
        plant.start("b");
        plant.akmd("b", &["stop"]).expect(0);
    }
    // The provisioning relationship is from the same image in truth: here the module shall still reach it.
    let own = plant.node("b")["provisioning_relationship_id"].as_str().unwrap().to_owned();
    let node = plant.node("b")["akm_id"].as_str().unwrap().to_owned();
    for entry in fs::read_dir(image.join(&node)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != own {
            fs::copy(
                image.join(&node).join(&name).join("g1.place"),
                nodes.join(&node).join(&name).join("g1.place"),
            )
            .unwrap();
        }
    }
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
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = plant.node("b")["listen"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(&config).unwrap().replace(&listen, &port.to_string());
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
fn version_mismatch() {
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
    let found = causes(&plant, &["a", "b"], 5);
    assert!(found.contains(&"version mismatch".to_owned()), "{found:?}");
}

/// An `akm serve` that ends with the test.
struct Serving(Child);

impl Serving {
    fn start(plant: &Plant, metrics: SocketAddr) -> Self {
        let address = metrics.to_string();
        let mut child = plant
            .akm_command(&["serve", "--every", "200ms", "--metrics", &address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("akm can be started");
        let mut first = [0; 1];
        child.stderr.as_mut().expect("a pipe").read_exact(&mut first).expect("a line that says it serves");
        Self(child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn get(address: SocketAddr, page: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    write!(stream, "GET {page} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
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
    let line: Value = plant.relationship("b", "line");
    assert_eq!(line["generation"], 2);
    signal(serving.0.id(), "TERM");
    assert!(serving.0.wait().unwrap().success());
    plant.akm(&["serve", "--metrics", "0.0.0.0:9464"]).expect(2);
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
