//! A module with its own home and local targets, run as real processes.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use akm_counterparts::ports::Ports;
use serde_json::Value;
use tempfile::TempDir;

/// How many ports a plant has for its nodes.
const PORTS: u16 = 56;

/// The `akm` of this build.
pub(crate) const AKM: &str = env!("CARGO_BIN_EXE_akm");

/// The `akmd` of this build.
pub(crate) fn akmd_program() -> PathBuf {
    let akmd = Path::new(AKM).with_file_name("akmd");
    assert!(akmd.is_file(), "{} is missing: run cargo build --workspace --bins first", akmd.display());
    akmd
}

/// Writes a shell script that can be run.
fn write_program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("the script can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its mode can be set");
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The command must have ended with this exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// What stood on standard output, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("no JSON ({error})\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr)
        })
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Done {
    Done::of(command.stdin(Stdio::null()).output().expect("the command can be started"))
}

/// A module and the directories of its local targets; all its processes end when this is dropped.
#[derive(Debug)]
pub(crate) struct Plant {
    place: TempDir,
    /// What all programs of this plant find in their environment: where the tokens or the cards of this test are.
    environment: Vec<(&'static str, PathBuf)>,
    /// From which its nodes are given theirs.
    ports: Ports,
}

impl Plant {
    /// A directory without a module.
    pub(crate) fn bare() -> Self {
        akmd_program();
        Self::at(tempfile::tempdir().expect("a directory for the test"))
    }

    /// Like [`Plant::bare`], in memory where this machine has a directory there that programs may run in:
    /// what is looked at is what programs ask of a disk, not how long that takes.
    pub(crate) fn in_memory() -> Self {
        akmd_program();
        let runs_programs = |place: &TempDir| {
            let script = place.path().join("script");
            write_program(&script, "exit 7");
            let ran = Command::new(&script).status();
            let _ = std::fs::remove_file(&script);
            ran.is_ok_and(|status| status.code() == Some(7))
        };
        match tempfile::tempdir_in("/dev/shm") {
            Ok(place) if runs_programs(&place) => Self::at(place),
            _ => Self::bare(),
        }
    }

    fn at(place: TempDir) -> Self {
        Self { place, environment: Vec::new(), ports: Ports::reserve(PORTS) }
    }

    /// A module called `plant`.
    pub(crate) fn new() -> Self {
        let plant = Self::bare();
        plant.akm(&["init", "--name", "plant"]).expect(0);
        plant
    }

    /// A module with active nodes of these names, each in a directory of its name.
    pub(crate) fn with_nodes(names: &[&str]) -> Self {
        let plant = Self::new();
        for name in names {
            plant.provision(name);
        }
        plant
    }

    /// The same, with this in the environment of all its programs.
    pub(crate) fn in_environment(mut self, environment: Vec<(&'static str, PathBuf)>) -> Self {
        self.environment = environment;
        self
    }

    /// A stack that is quickly installed: a script that goes on as the `akmd` of this build.
    pub(crate) fn small_stack(&self) -> String {
        let place = self.place().join("stack");
        std::fs::create_dir_all(&place).expect("a directory for the stack");
        let stack = place.join("akmd");
        write_program(&stack, &format!("exec '{}' \"$@\"", akmd_program().display()));
        stack.to_str().expect("a path in UTF-8").to_owned()
    }

    /// What tells an `akm` from which ports its nodes are given theirs.
    pub(crate) fn ports(&self) -> (&'static str, String) {
        self.ports.environment()
    }

    /// Where everything of this test is.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    /// The module's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.place().join("home")
    }

    /// The directory of a local target.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.place().join(name)
    }

    /// The target URL of that directory.
    pub(crate) fn target(&self, name: &str) -> String {
        format!("local:{}", self.dir(name).display())
    }

    /// An `akm` that is not started yet.
    pub(crate) fn akm_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(AKM);
        command.args(arguments).env("AKM_HOME", self.home()).current_dir(self.place());
        command.envs([self.ports()]);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Runs `akm`.
    pub(crate) fn akm(&self, arguments: &[&str]) -> Done {
        run(&mut self.akm_command(arguments))
    }

    /// An installed `akmd` that is not started yet.
    pub(crate) fn akmd_command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.dir(name).join("current/akmd"));
        command.args(arguments).arg("--dir").arg(self.dir(name)).current_dir(self.place());
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Runs the installed `akmd` of a target.
    pub(crate) fn akmd(&self, name: &str, arguments: &[&str]) -> Done {
        run(&mut self.akmd_command(name, arguments))
    }

    /// Makes a local target into an active node.
    pub(crate) fn provision(&self, name: &str) {
        self.akm(&["provision", &self.target(name), "--name", name]).expect(0);
    }

    /// What `akmd status` says.
    pub(crate) fn status(&self, name: &str) -> Value {
        self.akmd(name, &["status", "--json"]).expect(0).json()
    }

    /// One relationship as a node sees it.
    pub(crate) fn relationship(&self, name: &str, relationship: &str) -> Value {
        let status = self.status(name);
        let all = status["relationships"].as_array().expect("a list").clone();
        all.into_iter()
            .find(|entry| entry["name"] == relationship)
            .unwrap_or_else(|| panic!("{name} has no relationship {relationship}: {status:#}"))
    }

    /// Listens at a node in the background, for at most half a minute of silence.
    pub(crate) fn listen(&self, name: &str, asr: &str, count: u32) -> Listener {
        self.follow(name, &["listen", asr, "--count", &count.to_string(), "--patience", "30", "--json"])
    }

    /// Watches the frames of an ASR at a node in the background.
    pub(crate) fn watch(&self, name: &str, asr: &str, count: u32) -> Listener {
        self.follow(name, &["watch", asr, "--count", &count.to_string(), "--patience", "30", "--json"])
    }

    /// Watches all frames that come to a node in the background, also those of nobody, until stopped.
    pub(crate) fn watch_all(&self, name: &str) -> Listener {
        self.follow(name, &["watch", "--patience", "30", "--json"])
    }

    /// Listens at a node in the background until stopped.
    pub(crate) fn listen_on(&self, name: &str, asr: &str) -> Listener {
        self.follow(name, &["listen", asr, "--json"])
    }

    fn follow(&self, name: &str, arguments: &[&str]) -> Listener {
        follow(&mut self.akmd_command(name, arguments))
    }

    /// Sends a message.
    pub(crate) fn send(&self, name: &str, asr: &str, text: &str) {
        self.akmd(name, &["send", asr, text]).expect(0);
    }

    /// Where a running node listens, UDP and TCP.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.status(name)["listen"].as_str().expect("text").parse().expect("an address")
    }

    /// The epoch of a relationship at a node; before the first: none.
    pub(crate) fn epoch(&self, name: &str, relationship: &str) -> Option<u64> {
        self.relationship(name, relationship)["epoch"].as_u64()
    }

    /// All nodes as the module lists them.
    pub(crate) fn nodes(&self) -> Value {
        self.akm(&["node", "list", "--json"]).expect(0).json()
    }

    /// All ASRs as the module lists them.
    pub(crate) fn asrs(&self) -> Value {
        self.akm(&["asr", "list", "--json"]).expect(0).json()
    }

    /// A node as the module lists it.
    pub(crate) fn node(&self, name: &str) -> Value {
        let nodes = self.nodes();
        let all = nodes.as_array().expect("a list");
        all.iter()
            .find(|node| node["name"] == name)
            .unwrap_or_else(|| panic!("there is no node {name}: {nodes:#}"))
            .clone()
    }

    /// The file with the place of a relationship, in the generation in force, at a node that runs.
    pub(crate) fn place_file(&self, name: &str, relationship: &str) -> PathBuf {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let (node, held) = (self.status(name), self.relationship(name, relationship));
        let directory =
            self.dir(name).join("state/nodes").join(text(&node["akm_id"])).join(text(&held["id"]));
        let place = directory.join(format!("g{}.place", held["generation"]));
        assert!(place.is_file(), "{}", place.display());
        place
    }

    /// Kills a node's stack at once.
    pub(crate) fn kill(&self, name: &str) {
        let processes = processes_naming(&self.dir(name));
        for pid in &processes {
            signal(*pid, "KILL");
        }
        wait_until("the stack is gone", || !processes.iter().any(|pid| holds_files(*pid)));
        wait_until("nobody works there", || processes_naming(&self.dir(name)).is_empty());
    }

    /// Starts a node's stack.
    pub(crate) fn start(&self, name: &str) {
        self.akmd(name, &["run", "--detach"]).expect(0);
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        for pid in processes_naming(self.place()) {
            signal(pid, "KILL");
        }
    }
}

/// Starts a command of `akmd` that prints what arrives.
pub(crate) fn follow(command: &mut Command) -> Listener {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("akmd can be started");
    // The command says so when the stack has taken the subscription.
    let stderr = child.stderr.as_mut().expect("a pipe");
    let mut first = [0; 1];
    std::io::Read::read_exact(stderr, &mut first).expect("a line that says it is listening");
    Listener { child }
}

/// A command of `akmd` that prints what arrives.
#[derive(Debug)]
pub(crate) struct Listener {
    child: Child,
}

impl Listener {
    /// Everything that arrived, one JSON value a line; it must have ended well.
    #[track_caller]
    pub(crate) fn lines(self) -> Vec<Value> {
        let done = Done::of(self.child.wait_with_output().expect("the listener can be waited for")).expect(0);
        done.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The messages as text.
    #[track_caller]
    pub(crate) fn texts(self) -> Vec<String> {
        self.lines().iter().map(text_of).collect()
    }

    /// The next thing that arrives, as JSON.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        let stdout = self.child.stdout.as_mut().expect("a pipe");
        let mut line = Vec::new();
        // Byte by byte: what follows the line is left for the next call.
        for byte in std::io::Read::bytes(stdout) {
            match byte.expect("the listener can be read") {
                b'\n' => return serde_json::from_slice(&line).expect("a line of JSON"),
                byte => line.push(byte),
            }
        }
        panic!("the listener ended: {:?}", self.child.wait());
    }

    /// Ends it and returns what had arrived.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        signal(self.child.id(), "TERM");
        let mut out = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            let _ = std::io::Read::read_to_string(&mut stdout, &mut out);
        }
        let _ = self.child.wait();
        out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// The text of a message.
pub(crate) fn text_of(message: &Value) -> String {
    String::from_utf8(bytes_of(&message["data"])).expect("text")
}

/// The bytes of a Base64 value.
pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(value.as_str().expect("Base64 text")).expect("Base64")
}

/// Processes that name this path in their arguments, this one aside.
pub(crate) fn processes_naming(path: &Path) -> Vec<u32> {
    let wanted = path.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).any(|argument| {
                let argument = String::from_utf8_lossy(argument);
                argument == wanted || argument.starts_with(&format!("{wanted}/"))
            })
        })
        .collect()
}

/// Whether a process may still hold sockets and locks: its arguments are gone before they are, and its first thread before
/// the others.
fn holds_files(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    })
}

/// Sends a signal by its name.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Waits for something that other processes bring about; fails after a minute.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited a minute until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command with this standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command can be started");
    // A command may refuse before it has read all.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    Done::of(child.wait_with_output().expect("the command can be waited for"))
}
