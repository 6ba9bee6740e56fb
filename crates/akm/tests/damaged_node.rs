//! Each file of a device, damaged in each way: it is told by its name, mended, or does not matter; the other
//! relationships of the node go on.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use akm_counterparts::ports;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::damage::{
    Damage, OF_A_DIRECTORY, OF_A_FILE, bound_by_permissions, copy, differences, inventory, listing, remove,
};
use support::plant::{AKM, Plant, run, wait_until};

/// What becomes of a node with a damaged file.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// All goes on.
    Works,
    /// All goes on, and the file is again what it was.
    Mended,
    /// The stack ends with this exit code and one line with these words, and has changed nothing.
    Refused(i32, &'static [&'static str]),
    /// The same, after a directory that was missing was made, or the start was counted.
    RefusedLate(i32, &'static [&'static str]),
    /// The relationship rests in this phase, or is set aside (`damaged`); the status says these words.
    Rests(&'static str, &'static [&'static str]),
    /// The relationship is not there any more.
    Gone,
    /// All relationships rest in this phase.
    AllRest(&'static str, &'static [&'static str]),
    /// The node runs and talks; the module tells that it is not what was installed.
    Unverified,
    /// Refused with exit code 1 and these words, or not what was installed.
    RefusedOrUnverified(&'static [&'static str]),
    /// No program that runs, or not the one that was installed.
    NoProgram,
}

use Outcome::{
    AllRest, Gone, Mended, NoProgram, Refused, RefusedLate, RefusedOrUnverified, Rests, Unverified, Works,
};

/// What the files of a device are called here; the last six are there for each relationship.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Device,
    Current,
    Releases,
    Release,
    Program,
    Unit,
    Config,
    Manifest,
    Run,
    Log,
    Socket,
    State,
    Lock,
    Element,
    Identity,
    Nodes,
    Node,
    Relationship,
    Installed,
    Copy,
    Place,
    Active,
    Endpoints,
}

impl Row {
    /// Those of the device itself.
    const OF_DEVICE: [Self; 17] = [
        Self::Device,
        Self::Current,
        Self::Releases,
        Self::Release,
        Self::Program,
        Self::Unit,
        Self::Config,
        Self::Manifest,
        Self::Run,
        Self::Log,
        Self::Socket,
        Self::State,
        Self::Lock,
        Self::Element,
        Self::Identity,
        Self::Nodes,
        Self::Node,
    ];

    /// Those of a relationship.
    const OF_RELATIONSHIP: [Self; 6] =
        [Self::Relationship, Self::Installed, Self::Copy, Self::Place, Self::Active, Self::Endpoints];

    /// The row of a path in the device; `None` if nobody thought of it.
    fn of(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.to_str()?.split('/').collect();
        Some(match parts.as_slice() {
            [""] => Self::Device,
            ["current"] => Self::Current,
            ["releases"] => Self::Releases,
            ["releases", _] => Self::Release,
            ["releases", _, "akmd"] => Self::Program,
            ["releases", _, "akmd.service"] => Self::Unit,
            ["releases", _, "akmd.toml"] => Self::Config,
            ["releases", _, "manifest"] => Self::Manifest,
            ["run"] => Self::Run,
            ["run", "akmd.log"] => Self::Log,
            ["run", "akmd.sock"] => Self::Socket,
            ["state"] => Self::State,
            ["state", "lock"] => Self::Lock,
            ["state", "element"] => Self::Element,
            ["state", "identity"] => Self::Identity,
            ["state", "nodes"] => Self::Nodes,
            ["state", "nodes", _] => Self::Node,
            ["state", "nodes", _, _] => Self::Relationship,
            ["state", "nodes", _, _, "g1.installed"] => Self::Installed,
            ["state", "nodes", _, _, "g1.copy"] => Self::Copy,
            ["state", "nodes", _, _, "g1.place"] => Self::Place,
            ["state", "nodes", _, _, "g1.active"] => Self::Active,
            ["state", "nodes", _, _, "endpoints"] => Self::Endpoints,
            _ => return None,
        })
    }

    fn kinds(self) -> Vec<Damage> {
        match self {
            // Where it stands and who may enter it is the concern of whoever made it; what is in it has rows.
            Self::Device => Vec::new(),
            // A link, with no content and no mode of its own.
            Self::Current => vec![Damage::Missing, Damage::Directory],
            // Without content.
            Self::Socket => vec![Damage::Missing, Damage::Garbage, Damage::Directory, Damage::Link],
            Self::Releases | Self::Release | Self::Run | Self::State | Self::Nodes | Self::Node => {
                OF_A_DIRECTORY.to_vec()
            }
            Self::Relationship => [&OF_A_DIRECTORY[..], &[Damage::Foreign]].concat(),
            _ => OF_A_FILE.to_vec(),
        }
    }

    /// What is to be expected, for every kind of damage.
    fn outcome(self, damage: Damage) -> Outcome {
        match self {
            Self::Current | Self::Releases | Self::Release | Self::Program => of_program(damage, self),
            Self::Unit | Self::Manifest => of_what_only_the_module_looks_at(damage),
            Self::Config => of_config(damage),
            Self::Run | Self::Log | Self::Socket => of_run(damage, self),
            Self::State | Self::Nodes | Self::Node => of_state(damage, self),
            Self::Lock => of_lock(damage),
            Self::Element => of_element(damage),
            Self::Identity => of_identity(damage),
            Self::Relationship => of_relationship(damage),
            Self::Installed | Self::Copy => of_copies(damage),
            Self::Place => of_place(damage),
            // Who is active learns it again from the others; who is where, too, and was installed besides.
            Self::Active | Self::Endpoints => Works,
            Self::Device => unreachable!("no damage is done to the device as a whole"),
        }
    }
}

fn of_program(damage: Damage, row: Row) -> Outcome {
    match (row, damage) {
        // It runs, and is no file of the release.
        (Row::Program, Damage::Link) => Unverified,
        (Row::Program, Damage::Older) => Works,
        (Row::Releases | Row::Release, Damage::Link | Damage::Readable | Damage::Writable) => Works,
        _ => NoProgram,
    }
}

fn of_what_only_the_module_looks_at(damage: Damage) -> Outcome {
    match damage {
        // As it was installed.
        Damage::Older | Damage::Readable => Works,
        _ => Unverified,
    }
}

fn of_config(damage: Damage) -> Outcome {
    match damage {
        Damage::Missing => Refused(1, &["akmd.toml", "missing", "put back", "akm provision TARGET --again"]),
        Damage::Empty | Damage::Half | Damage::Garbage | Damage::FlippedFirst | Damage::FlippedLast => {
            Refused(1, &["akmd.toml", "put back", "akm provision TARGET --again"])
        }
        // Another port may stand there.
        Damage::FlippedMiddle => RefusedOrUnverified(&["akmd.toml"]),
        // The port of the other node is taken.
        Damage::Foreign => RefusedLate(1, &["cannot listen", "akmd.toml"]),
        Damage::Directory => Refused(1, &["akmd.toml", "move that away"]),
        Damage::Unreadable => Refused(1, &["akmd.toml", "chown"]),
        Damage::Older | Damage::Readable => Works,
        Damage::MinusOne | Damage::Link | Damage::Writable => Unverified,
        Damage::File => unreachable!("it is a file"),
    }
}

fn of_run(damage: Damage, row: Row) -> Outcome {
    match (row, damage) {
        (Row::Run, Damage::File | Damage::Link) => Refused(1, &["/run", "not a directory", "move away"]),
        (Row::Run, Damage::Readable | Damage::Writable) => Refused(1, &["chmod 700", "/run"]),
        (Row::Run, Damage::Unreadable) => RefusedLate(1, &["run/akmd.sock", "chown"]),
        (Row::Log, Damage::Directory) => Refused(1, &["run/akmd.log", "move that away"]),
        (Row::Log, Damage::Unreadable) => Refused(1, &["run/akmd.log", "chown"]),
        (Row::Socket, Damage::Directory) => RefusedLate(1, &["run/akmd.sock", "move that away"]),
        // Made again or written on.
        _ => Works,
    }
}

fn of_state(damage: Damage, row: Row) -> Outcome {
    match (row, damage) {
        (Row::State, Damage::Missing) => {
            RefusedLate(3, &["state/identity", "not an AKM node", "akm provision"])
        }
        (Row::State | Row::Nodes, Damage::File | Damage::Link) => {
            Refused(1, &["/state", "not a directory", "move away"])
        }
        (Row::State | Row::Nodes, Damage::Readable | Damage::Writable) => {
            Refused(1, &["chmod 700", "/state"])
        }
        (Row::Nodes, Damage::Missing) => RefusedLate(1, &["state/identity", "holds no relationship"]),
        (Row::Node, Damage::Missing) => Refused(1, &["state/identity", "holds no relationship"]),
        (Row::Node, Damage::File) => Refused(1, &["state/nodes/", "move that away"]),
        (_, Damage::Unreadable) => Refused(1, &["/state/", "chown"]),
        // Nobody comes that far but the owner.
        _ => Works,
    }
}

fn of_lock(damage: Damage) -> Outcome {
    match damage {
        Damage::Directory => Refused(1, &["state/lock", "move that away"]),
        Damage::Link => Refused(1, &["state/lock", "symbolic link"]),
        Damage::Unreadable => Refused(1, &["state/lock", "chown"]),
        _ => Works,
    }
}

fn of_element(damage: Damage) -> Outcome {
    match damage {
        Damage::Missing => Refused(1, &["state/element", "missing", "put it back"]),
        Damage::Older => AllRest("RolledBack", &["g1.place", "element", "older image"]),
        Damage::Foreign => Refused(4, &["/state", "not that of node", "akmd reset --force"]),
        Damage::Directory => Refused(4, &["state/element", "not a regular file"]),
        Damage::Link => Refused(1, &["state/element", "symbolic link"]),
        Damage::Readable | Damage::Writable => Refused(4, &["state/element", "chmod 600"]),
        Damage::Unreadable => Refused(1, &["state/element", "chown"]),
        _ => Refused(4, &["state/element", "damaged", "akmd reset --force", "akm provision TARGET --again"]),
    }
}

fn of_identity(damage: Damage) -> Outcome {
    match damage {
        Damage::Missing => Refused(3, &["state/identity", "missing", "akm provision"]),
        Damage::Older | Damage::Foreign => {
            Refused(1, &["state/identity", "holds no relationship", "akmd reset"])
        }
        Damage::Directory => Refused(1, &["state/identity", "move that away"]),
        Damage::Unreadable => Refused(1, &["state/identity", "chown"]),
        Damage::Link | Damage::Readable | Damage::Writable => Works,
        _ => Refused(1, &["state/identity", "damaged", "akmd reset --force", "akm provision TARGET --again"]),
    }
}

fn of_relationship(damage: Damage) -> Outcome {
    match damage {
        Damage::Missing => Gone,
        Damage::File => Rests("damaged", &["state/nodes/", "move that away"]),
        Damage::Unreadable => Rests("damaged", &["state/nodes/", "chown"]),
        Damage::Foreign => {
            Rests("damaged", &["state/nodes/", "g1.installed is that of relationship", "g1.copy"])
        }
        _ => Works,
    }
}

fn of_copies(damage: Damage) -> Outcome {
    match damage {
        // It cannot be replaced, and the other serves; or it is whole.
        Damage::Directory | Damage::Link | Damage::Older | Damage::Readable | Damage::Writable => Works,
        _ => Mended,
    }
}

fn of_place(damage: Damage) -> Outcome {
    match damage {
        Damage::Missing => Rests("WithoutPlace", &["g1.place is missing"]),
        // In its first bytes stands the start that it is from.
        Damage::Older | Damage::FlippedFirst | Damage::Garbage => {
            Rests("RolledBack", &["g1.place", "older image"])
        }
        Damage::Directory => Rests("WithoutPlace", &["g1.place", "move that away"]),
        Damage::Unreadable => Rests("WithoutPlace", &["g1.place", "chown"]),
        Damage::Link | Damage::Readable | Damage::Writable => Works,
        _ => Rests("WithoutPlace", &["g1.place is damaged"]),
    }
}

/// A connection to a running stack.
struct Connection(BufReader<UnixStream>);

impl Connection {
    /// `None` if nobody is there.
    fn open(plant: &Plant, name: &str) -> Option<Self> {
        let stream = UnixStream::connect(plant.dir(name).join("run/akmd.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Some(Self(BufReader::new(stream)))
    }

    fn ask(&mut self, request: &Value) -> Option<Value> {
        writeln!(self.0.get_mut(), "{request}").ok()?;
        self.next()
    }

    /// The next line; `None` if there is none within a minute.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

/// How the stack of the damaged device was brought up.
enum Started {
    Up(Option<Child>),
    Ended(i32, String),
}

/// A node `a` that is damaged, a node `b` that hears what comes of it, and two ASRs between them, `line` and `spare`.
struct Ground {
    plant: Plant,
    line: String,
    provisioning: String,
}

impl Ground {
    fn new() -> Self {
        let plant = Plant::with_nodes(&["a"]);
        let images = plant.place().join("images");
        fs::create_dir_all(&images).unwrap();
        copy(&plant.dir("a").join("state"), &images.join("earlier node"));
        plant.akm(&["provision", &plant.target("a"), "--name", "a", "--again"]).expect(0);
        // Known where it is reached, and heard from elsewhere: what a hears of that it keeps in a file of its own.
        let port = ports::port();
        let (listen, endpoint) = (format!("0.0.0.0:{port}"), format!("127.0.0.2:{port}"));
        let target = plant.target("b");
        plant
            .akm(&["provision", &target, "--name", "b", "--listen", &listen, "--endpoint", &endpoint])
            .expect(0);
        for asr in ["line", "spare"] {
            plant.akm(&["asr", "create", asr, "a", "b", "--advance-interval", "1ms"]).expect(0);
        }
        // An answer leaves from the address at which it was asked for. Started again it speaks before it is asked.
        plant.akmd("b", &["stop"]).expect(0);
        plant.start("b");
        let [line, provisioning] = [
            plant.relationship("a", "line")["id"].as_str().unwrap().to_owned(),
            plant.status("a")["provisioning_relationship_id"].as_str().unwrap().to_owned(),
        ];
        let ground = Self { plant, line, provisioning };
        ground.talk("line");
        ground.talk("spare");
        ground.plant.akmd("a", &["stop"]).expect(0);
        copy(&ground.plant.dir("a").join("state"), &images.join("older"));
        // A place is good for the start that wrote it and the next one.
        for _ in 0..2 {
            ground.plant.start("a");
            ground.talk("line");
            ground.talk("spare");
            ground.plant.akmd("a", &["stop"]).expect(0);
        }
        copy(&ground.plant.dir("a").join("state"), &images.join("state"));
        copy(&ground.plant.dir("a").join("run"), &images.join("run"));
        ground
    }

    fn a(&self) -> PathBuf {
        self.plant.dir("a")
    }

    fn image(&self, name: &str) -> PathBuf {
        self.plant.place().join("images").join(name)
    }

    /// One message of each to the other, in an epoch that no earlier life of a was heard in: else b would rightly
    /// take what a sends after its disk was put back for what a clone sends.
    #[track_caller]
    fn talk(&self, asr: &str) {
        let epoch = || {
            let status = self.ask("b", &json!({ "op": "status" }));
            let all = status["relationships"].as_array().unwrap().clone();
            all.iter().find(|entry| entry["name"] == asr).unwrap()["epoch"].as_u64()
        };
        let before = epoch();
        assert_eq!(self.ask("b", &json!({ "op": "rotate", "asr": asr }))["reply"], "done");
        wait_until("the next epoch", || epoch() > before);
        for (from, to) in [("b", "a"), ("a", "b")] {
            let mut listener = Connection::open(&self.plant, to).expect("a stack");
            let done = listener.ask(&json!({ "op": "listen", "asr": asr }));
            assert_eq!(done.unwrap()["reply"], "done", "{to} listens on {asr}");
            let data = STANDARD.encode(format!("from {from}"));
            let sent = self.ask(from, &json!({ "op": "send", "asr": asr, "data": data }));
            assert_eq!(sent["reply"], "done", "{from} sends on {asr}: {sent}");
            let message = listener.next().unwrap_or_else(|| panic!("{to} hears nothing on {asr}"));
            assert_eq!(message["data"], data);
        }
    }

    fn ask(&self, name: &str, request: &Value) -> Value {
        Connection::open(&self.plant, name).and_then(|mut stack| stack.ask(request)).expect("an answer")
    }

    /// What b has heard of `line` so far, wanted or not.
    fn heard_on_line(&self) -> Value {
        let status = self.ask("b", &json!({ "op": "status" }));
        let all = status["relationships"].as_array().unwrap();
        let line = all.iter().find(|entry| entry["name"] == "line").unwrap();
        json!([line["accepted"], line["rejected"]])
    }

    fn restore(&self) {
        for name in ["state", "run"] {
            remove(&self.a().join(name));
            copy(&self.image(name), &self.a().join(name));
        }
    }

    fn start(&self, damage: Damage, row: Row) -> Started {
        let said = self.plant.place().join("said");
        let mut command = self.plant.akmd_command("a", &["run"]);
        if row == Row::Log {
            command.arg("--detach");
        }
        if damage == Damage::Unreadable {
            command = bound_by_permissions(&command);
        }
        let output = File::create(&said).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Started::Ended(127, error.to_string()),
        };
        let started = Instant::now();
        loop {
            if row != Row::Log
                && let Some(mut stack) = Connection::open(&self.plant, "a")
                && stack.ask(&json!({ "op": "status" })).is_some()
            {
                return Started::Up(Some(child));
            }
            match child.try_wait().unwrap() {
                Some(status) if status.success() => return Started::Up(None),
                Some(status) => {
                    let said = fs::read(&said).unwrap();
                    return Started::Ended(
                        status.code().unwrap_or(-1),
                        String::from_utf8_lossy(&said).into_owned(),
                    );
                }
                None => {}
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{damage:?} {row:?}: neither up nor down");
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// What there is of the device; the program itself is looked at only where it is what is damaged.
    fn everything(&self) -> std::collections::BTreeMap<String, String> {
        inventory(&self.a(), |path| path.ends_with("/akmd"))
    }

    /// One cell of the table.
    fn check(&self, row: Row, path: &Path, damage: Damage) {
        let cell = format!("{damage:?} {row:?}");
        let outcome = row.outcome(damage);
        let [elsewhere, kept] = ["elsewhere", "kept"].map(|name| self.plant.place().join(name));
        fs::create_dir_all(&elsewhere).unwrap();
        let is_of_stack = path.starts_with(self.a().join("releases")) || path == self.a().join("current");
        if is_of_stack {
            remove(&kept);
            copy(path, &kept);
        } else if row == Row::Socket {
            // One that a killed stack left would not be copied.
            fs::write(path, b"").unwrap();
        }
        let right = fs::read(path).unwrap_or_default();
        let present = |path: PathBuf| Some(path).filter(|path| path.exists());
        let older = self.older(row, path).and_then(present);
        let foreign = self.foreign(row, path).and_then(present);
        damage.happen(path, older.as_deref(), foreign.as_deref(), &elsewhere);
        let before = self.everything();
        let heard = self.heard_on_line();
        let is_provisioning = path.to_string_lossy().contains(&self.provisioning);
        let started = self.start(damage, row);
        match (outcome, &started) {
            (Works | Mended, Started::Up(_)) => {
                self.talk("spare");
                self.talk("line");
                if let Mended = outcome {
                    assert!(fs::read(path).unwrap() == right, "{cell}: it is not what it was");
                }
            }
            (Refused(code, says) | RefusedLate(code, says), Started::Ended(ended, said)) => {
                assert_eq!(*ended, code, "{cell}: {said}");
                assert_last_line(&cell, said, says);
                if let Refused(..) = outcome {
                    let changed = differences(&before, &self.everything());
                    assert!(changed.is_empty(), "{cell}: {said} changed {changed:#?}");
                }
            }
            (RefusedOrUnverified(says), Started::Ended(ended, said)) => {
                assert_eq!(*ended, 1, "{cell}: {said}");
                assert_last_line(&cell, said, says);
            }
            // What it is given cannot be recorded there, so it is not used.
            (Rests(phase, says), Started::Up(_))
                if !is_provisioning && phase != "damaged" && says.contains(&"move that away") =>
            {
                let status = self.ask("a", &json!({ "op": "status" }));
                let all = status["relationships"].as_array().unwrap();
                let entry = all.iter().find(|entry| entry["id"] == *self.line).unwrap();
                assert_ne!(entry["phase"], "Established", "{cell}: {entry:#}");
                assert_eq!(entry["found_back"], 0, "{cell}: {entry:#}");
                assert!(
                    entry["trouble"].as_str().is_some_and(|told| told.contains("g1.place")),
                    "{cell}: {entry:#}"
                );
                let refused = self.ask("a", &json!({ "op": "send", "asr": self.line, "data": "" }));
                assert_eq!(refused["reply"], "failed", "{cell}: {refused}");
                self.talk("spare");
            }
            // The other member has a place, and gives it.
            (Rests(phase, _), Started::Up(_)) if !is_provisioning && phase != "damaged" => {
                self.check_found_back(&cell);
                self.talk("spare");
            }
            (Rests(phase, says), Started::Up(_)) => {
                self.check_rest(&cell, is_provisioning, phase, says);
                self.talk("spare");
                if is_provisioning {
                    self.talk("line");
                } else {
                    assert_eq!(self.heard_on_line(), heard, "{cell}: something was sent");
                }
            }
            (Gone, Started::Up(_)) => {
                self.talk("spare");
                if is_provisioning {
                    self.check_rest(&cell, true, "damaged", &["missing"]);
                    self.talk("line");
                } else {
                    let refused = self.ask("a", &json!({ "op": "send", "asr": "line", "data": "" }));
                    assert_eq!(refused["exit_code"], 2, "{cell}: {refused}");
                }
            }
            (AllRest(phase, says), Started::Up(_)) => {
                self.check_rest(&cell, true, phase, says);
                self.check_found_back(&cell);
            }
            (Unverified, Started::Up(_)) => {
                self.talk("spare");
                self.assert_unverified(&cell);
            }
            (RefusedOrUnverified(_) | NoProgram, Started::Up(_)) => self.assert_unverified(&cell),
            (NoProgram, Started::Ended(..)) => {}
            (_, Started::Ended(code, said)) => panic!("{cell}: it ended with {code}: {said}"),
            (_, Started::Up(_)) => panic!("{cell}: it runs"),
        }
        match started {
            Started::Up(Some(mut child)) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            Started::Up(None) => self.plant.kill("a"),
            Started::Ended(..) => {}
        }
        if is_of_stack {
            remove(path);
            copy(&kept, path);
        }
        self.restore();
    }

    fn older(&self, row: Row, path: &Path) -> Option<PathBuf> {
        let relative = path.strip_prefix(self.a().join("state")).ok()?;
        // A node keeps one identity as long as it is that node.
        let image = if row == Row::Identity { "earlier node" } else { "older" };
        Some(self.image(image).join(relative))
    }

    fn foreign(&self, row: Row, path: &Path) -> Option<PathBuf> {
        let b = self.plant.dir("b");
        Some(match row {
            Row::Program => PathBuf::from(AKM),
            Row::Unit | Row::Config | Row::Manifest => b.join("current").join(path.file_name()?),
            Row::Log | Row::Lock | Row::Element | Row::Identity => b.join(path.strip_prefix(self.a()).ok()?),
            // That of another relationship of the same node.
            _ => {
                let text = path.to_string_lossy();
                let spare =
                    self.ask("b", &json!({ "op": "status" }))["relationships"].as_array()?.iter().find_map(
                        |entry| (entry["name"] == "spare").then(|| entry["id"].as_str().unwrap().to_owned()),
                    )?;
                PathBuf::from(text.replace(&self.line, &spare).replace(&self.provisioning, &spare))
            }
        })
    }

    /// The ASR has found its place at the other member, and says so.
    fn check_found_back(&self, cell: &str) {
        let mut entry = serde_json::Value::Null;
        wait_until(&format!("{cell}: it has found back"), || {
            let status = self.ask("a", &json!({ "op": "status" }));
            let all = status["relationships"].as_array().expect("a list");
            entry = all.iter().find(|entry| entry["id"] == *self.line).cloned().unwrap_or_default();
            entry["found_back"].as_u64() == Some(1)
        });
        assert_eq!(entry["phase"], "Established", "{cell}: {entry:#}");
        assert_eq!(entry["last_found_back"]["way"], "fallback", "{cell}: {entry:#}");
        assert!(entry["trouble"].is_null(), "{cell}: {entry:#}");
        self.talk("line");
    }

    /// The relationship sends nothing, and the status says which file is why and what to do.
    fn check_rest(&self, cell: &str, is_provisioning: bool, phase: &str, says: &[&str]) {
        let (id, cure) = if is_provisioning {
            (&self.provisioning, "akm provision TARGET --again")
        } else {
            (&self.line, "akm asr renew")
        };
        let status = self.ask("a", &json!({ "op": "status" }));
        let told = if phase == "damaged" {
            status["damaged"][id].clone()
        } else {
            let all = status["relationships"].as_array().unwrap();
            let entry =
                all.iter().find(|entry| entry["id"] == **id).unwrap_or_else(|| panic!("{cell}: {status:#}"));
            assert_eq!(entry["phase"], phase, "{cell}: {entry:#}");
            entry["trouble"].clone()
        };
        let told = told.as_str().unwrap_or_else(|| panic!("{cell}: nothing is told: {status:#}"));
        for word in says.iter().chain(&[cure]) {
            assert!(told.contains(word), "{cell}: it does not say {word:?}: {told}");
        }
        if !is_provisioning {
            let refused = self.ask("a", &json!({ "op": "send", "asr": self.line, "data": "" }));
            assert_eq!(refused["reply"], "failed", "{cell}: {refused}");
        }
    }

    fn assert_unverified(&self, cell: &str) {
        let done = run(&mut self.plant.akm_command(&["verify", "a"]));
        assert!(matches!(done.code, Some(1 | 5 | 7)), "{cell}: {done:?}");
        assert!(done.stderr.contains("node a"), "{cell}: {done:?}");
    }

    /// All kinds of damage to all files of a running device that have one of these rows.
    fn check_all(&self, rows: &[Row], is_wanted: impl Fn(&str) -> bool) {
        self.plant.start("a");
        let mut running = listing(&self.a());
        self.plant.akmd("a", &["stop"]).expect(0);
        self.restore();
        // The draft of a write that was under way.
        running.retain(|relative| relative.extension().is_none_or(|extension| extension != "new"));
        let mut found = BTreeSet::new();
        for relative in running {
            let row = Row::of(&relative).unwrap_or_else(|| panic!("no row for {}", relative.display()));
            // Another release was kept; the one in use stands for both.
            let in_use = fs::read_link(self.a().join("current")).unwrap();
            let is_other_release = relative.starts_with("releases")
                && relative.components().count() > 1
                && !relative.starts_with(&in_use);
            if is_other_release || !rows.contains(&row) || !is_wanted(&relative.to_string_lossy()) {
                continue;
            }
            found.insert(row);
            for damage in row.kinds() {
                self.check(row, &self.a().join(&relative), damage);
            }
        }
        assert_eq!(found.into_iter().collect::<Vec<_>>(), rows, "rows that no file stands behind");
    }
}

fn assert_last_line(cell: &str, said: &str, says: &[&str]) {
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("akmd: "), "{cell}: {said}");
    for word in says {
        assert!(last.contains(word), "{cell}: it does not say {word:?}: {last}");
    }
}

#[test]
fn each_file_of_a_device_damaged_in_each_way_is_told_or_does_not_matter() {
    Ground::new().check_all(&Row::OF_DEVICE, |_| true);
}

#[test]
fn each_file_of_an_asr_damaged_in_each_way_stops_that_asr_alone() {
    let ground = Ground::new();
    let line = ground.line.clone();
    ground.check_all(&Row::OF_RELATIONSHIP, |path| path.contains(&line));
}

#[test]
fn each_file_of_the_provisioning_relationship_damaged_in_each_way_leaves_the_asrs_alone() {
    let ground = Ground::new();
    let provisioning = ground.provisioning.clone();
    // Nobody moves there: the module calls.
    ground.check_all(&Row::OF_RELATIONSHIP[..5], |path| path.contains(&provisioning));
}

/// What the module is told of a node's relationship that rests there.
#[track_caller]
fn module_tells(plant: &Plant, phase: &str) {
    let shown = plant.akm(&["asr", "show", "line"]).expect(5);
    assert!(
        shown.stderr.contains("node a rests in this ASR") && shown.stderr.contains("akm asr renew"),
        "{shown:?}"
    );
    let shown = plant.akm(&["asr", "show", "line", "--json"]).expect(5).json();
    let member = shown["members"].as_array().unwrap().iter().find(|member| member["node"] == "a").unwrap();
    assert_eq!(member["phase"], phase, "{member:#}");
    assert!(member["rests"].is_string());

    // The node is who it is all the same.
    let verified = plant.akm(&["verify", "a"]).expect(0);
    assert!(verified.stderr.contains("node a rests in line"), "{verified:?}");
    assert_eq!(plant.akm(&["verify", "a", "--json"]).expect(0).json()[0]["resting"], 1);
    let shown = plant.akm(&["node", "show", "a"]).expect(0);
    assert!(
        shown.stdout.contains("HELD BY THE NODE") && shown.stderr.contains("node a rests in line"),
        "{shown:?}"
    );
    let shown = plant.akm(&["node", "show", "a", "--json"]).expect(0).json();
    let held = shown["at_node"]["relationships"].as_array().unwrap();
    let line = held.iter().find(|held| held["name"] == "line").unwrap();
    assert_eq!(line["phase"], phase, "{line:#}");
    assert!(
        held.iter().filter(|held| held["name"] != "line").all(|held| held["rests"].is_null()),
        "{held:#?}"
    );
    plant.akm(&["asr", "show", "spare"]).expect(0);
}

#[test]
fn the_module_is_told_of_what_rests_at_a_node_and_a_new_generation_puts_it_right() {
    let ground = Ground::new();
    let plant = &ground.plant;
    let image = ground.image("state");
    let id = fs::read_dir(image.join("nodes")).unwrap().next().unwrap().unwrap().file_name();
    let line = ground.a().join("state/nodes").join(id).join(&ground.line);
    for file in ["g1.installed", "g1.copy"] {
        Damage::FlippedMiddle.happen(&line.join(file), None, None, plant.place());
    }
    plant.start("a");
    module_tells(plant, "WithoutPlace");
    // What it advises.
    plant.akm(&["asr", "renew", "line"]).expect(0);
    plant.akm(&["asr", "show", "line"]).expect(0);

    // A member that cannot be asked is not passed over.
    plant.akmd("a", &["stop"]).expect(0);
    let shown = plant.akm(&["asr", "show", "line"]).expect(7);
    assert!(
        shown.stdout.contains("not reached") && shown.stderr.contains("node a does not answer"),
        "{shown:?}"
    );
    let shown = plant.akm(&["node", "show", "a"]).expect(0);
    assert!(shown.stdout.contains("what it holds is not known: node a does not answer"), "{shown:?}");
}

/// The device becomes a node again by what the messages advise, and talks.
#[track_caller]
fn becomes_a_node_again(plant: &Plant, asr: &str) {
    plant.akm(&["provision", &plant.target("a"), "--name", "a", "--again"]).expect(0);
    plant.akm(&["verify", "a"]).expect(0);
    plant.akm(&["asr", "create", asr, "a", "b"]).expect(0);
    let listener = plant.listen("b", asr, 1);
    plant.send("a", asr, "here again");
    assert_eq!(listener.texts(), ["here again"]);
}

#[test]
fn a_device_whose_stack_or_node_is_lost_is_put_right_by_what_the_messages_advise() {
    let plant = Plant::with_nodes(&["a", "b"]);
    let a = plant.dir("a");
    let restart_fails = |code: i32, advice: &str| {
        let done = plant.akmd("a", &["run"]).expect(code);
        assert!(done.stderr.contains(advice), "{done:?}");
    };
    // The configuration, the program, the link to the release.
    for file in ["akmd.toml", "akmd", "manifest"] {
        plant.kill("a");
        Damage::Garbage.happen(&a.join("current").join(file), None, None, plant.place());
        if file == "akmd.toml" {
            restart_fails(1, "akm provision TARGET --again");
        }
        becomes_a_node_again(&plant, &format!("after-{file}"));
    }
    plant.kill("a");
    remove(&a.join("current"));
    becomes_a_node_again(&plant, "after-current");
    // The place of the provisioning relationship: nobody can talk to the node any more, but its channel is there.
    plant.kill("a");
    let status = plant.node("a");
    let of_provisioning = a
        .join("state/nodes")
        .join(status["akm_id"].as_str().unwrap())
        .join(status["provisioning_relationship_id"].as_str().unwrap());
    Damage::Empty.happen(&of_provisioning.join("g1.place"), None, None, plant.place());
    plant.start("a");
    assert!(plant.akmd("a", &["status"]).expect(0).stdout.contains("akm provision TARGET --again"));
    becomes_a_node_again(&plant, "after-place");
    // The identity is missing.
    plant.kill("a");
    remove(&a.join("state/identity"));
    restart_fails(3, "akm provision");
    becomes_a_node_again(&plant, "after-identity");
    // Identity or element are damaged: the device has to give up first what it was.
    for file in ["identity", "element"] {
        plant.kill("a");
        Damage::FlippedMiddle.happen(&a.join("state").join(file), None, None, plant.place());
        restart_fails(if file == "element" { 4 } else { 1 }, "akmd reset --force");
        plant.akmd("a", &["reset", "--force"]).expect(0);
        becomes_a_node_again(&plant, &format!("after-{file}-reset"));
    }
}
