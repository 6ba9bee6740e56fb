//! What is secret stays where it belongs: not in logs, outputs, arguments, environments, core dumps or
//! files that others may read.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use akm_core::element::MonotonicCounter;
use akm_core::frame::Header;
use akm_core::id::RelationshipId;
use akm_core::keys::{EpochSecret, PlaceSeal, element_function};
use akm_core::secret::Secret;
use akm_core::tree::Place;
use akm_element::software::SoftwareElement;
use akm_provision::fuzzing::{Store, Vault};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use support::plant::{Done, Plant, bytes_of, processes_naming, run};

const PASSPHRASE: &str = "tr0ub4dor-and-a-long-tail";
const VAULT_PASSPHRASE: &str = "correct-horse-battery-staple";
const MESSAGE: &str = "the-words-of-an-application";

/// How many bytes of a form decide where to look closer.
const PREFIX: usize = 4;

/// Secrets with a name each, to be searched for in whatever form they might be printed.
#[derive(Default)]
struct Secrets {
    /// The forms by their first bytes: what comes after these, and what it is.
    by_prefix: HashMap<[u8; PREFIX], Vec<(Vec<u8>, String)>>,
}

impl Secrets {
    fn add(&mut self, what: &str, secret: &[u8]) {
        assert!(secret.len() >= 8, "{what} is too short to be searched for");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let list: Vec<String> = secret.iter().map(u8::to_string).collect();
        // Base64 has three forms, by where the secret stands in what is encoded; what depends on the
        // neighbours is cut off, and with it any padding.
        let base64 = (0..3).flat_map(|shift| {
            let shifted = [vec![0; shift], secret.to_vec()].concat();
            [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)].map(|text| {
                let begin = [0, 2, 3][shift];
                let end = shifted.len() / 3 * 4;
                text[begin..end].to_owned()
            })
        });
        let texts = [hex.clone(), hex.to_uppercase(), list.join(", "), list.join(",")];
        for form in texts.into_iter().chain(base64).map(String::into_bytes).chain([secret.to_vec()]) {
            let (prefix, rest) = form.split_first_chunk().expect("no form is that short");
            self.by_prefix.entry(*prefix).or_default().push((rest.to_vec(), what.to_owned()));
        }
    }

    fn add_all(&mut self, secrets: Vec<(String, Vec<u8>)>) {
        for (what, secret) in secrets {
            self.add(&what, &secret);
        }
    }

    /// The secrets that stand in these bytes.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for at in 0..bytes.len().saturating_sub(PREFIX - 1) {
            let prefix: &[u8; PREFIX] = bytes[at..at + PREFIX].try_into().expect("so many bytes");
            for (rest, what) in self.by_prefix.get(prefix).into_iter().flatten() {
                if bytes[at + PREFIX..].starts_with(rest) {
                    found.insert(what.as_str());
                }
            }
        }
        found
    }

    #[track_caller]
    fn check_absent(&self, place: &str, bytes: &[u8]) {
        let found = self.found_in(bytes);
        assert!(found.is_empty(), "{place} holds {found:?}");
    }

    /// All keys in an element file that is not sealed: CBOR byte strings of 32 bytes.
    fn add_element(&mut self, what: &str, file: &Path) {
        let bytes = fs::read(file).expect("the element");
        let keys = bytes.windows(34).filter(|part| part[..2] == [0x58, 0x20]);
        let mut count = 0;
        for key in keys {
            self.add(&format!("{what}, key {count}"), &key[2..]);
            count += 1;
        }
        assert!(count >= 2, "a device key and a root");
    }

    /// What the module holds of a relationship.
    fn add_relationship(&mut self, store: &Store, id: &str) -> usize {
        let secrets = store.secrets(id.parse().expect("an ID")).expect("the store");
        let mut count = 0;
        let mut add = |what: &str, secret: Option<&Secret<32>>| {
            if let Some(secret) = secret {
                self.add(&format!("{what} of {id}"), secret.expose());
                count += 1;
            }
        };
        add("element root", secrets.element_root.as_ref());
        add("tree root", secrets.tree_root.as_ref());
        if let Some(keys) = &secrets.keys {
            self.add(&format!("header key of {id}"), keys.header_key.expose());
            self.add(&format!("resync key of {id}"), keys.resync_key.expose());
            count += 2;
        }
        count
    }
}

/// The roots of an ASR, as long as the module has them.
struct ParkedAsr {
    digest: [u8; 32],
    element_root: Secret<32>,
    tree_root: Secret<32>,
}

impl ParkedAsr {
    fn of(store: &Store, id: RelationshipId) -> Self {
        let held = store.secrets(id).expect("the store");
        let sds = store.relationship(id).expect("the store").expect("the ASR").sds;
        let both = held.element_root.zip(held.tree_root);
        let (element_root, tree_root) = both.expect("a parked ASR has its roots");
        Self { digest: *sds.digest(), element_root, tree_root }
    }
}

/// What follows from the roots of an ASR, up to the keys under which these frames were sealed.
fn session_secrets(asr: ParkedAsr, frames: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let ParkedAsr { digest, element_root: root, tree_root } = asr;
    let mut place = Place::before_first(0, tree_root);
    let headers: Vec<Header> = frames.iter().filter_map(|frame| Header::parse(frame).ok()).collect();
    let last = headers.iter().map(|header| header.epoch).max().expect("frames were seen");
    let mut all = Vec::new();
    for epoch in 0..=last {
        let leaf = place.leaf(epoch).expect("ahead");
        let context = [1u32.to_be_bytes(), epoch.to_be_bytes()].concat();
        let factor = element_function(root.expose(), b"akm1 epoch", &context);
        all.push((format!("leaf of epoch {epoch}"), leaf.expose().to_vec()));
        all.push((format!("factor of epoch {epoch}"), factor.expose().to_vec()));
        let secret = EpochSecret::derive(leaf, &factor, &digest);
        all.push((format!("secret of epoch {epoch}"), secret.expose().to_vec()));
        for header in headers.iter().filter(|header| header.epoch == epoch) {
            let key = secret.sender_key(header.sender, header.salt);
            all.push((format!("key of sender {} in epoch {epoch}", header.sender), key.expose().to_vec()));
        }
        place = place.at(epoch).expect("ahead");
    }
    all
}

/// The tree nodes in the places that a node has stored; its element is not sealed, its stack does not run.
fn stored_places(plant: &Plant, name: &str) -> Vec<(String, Vec<u8>)> {
    let store = open_store(plant);
    let state = plant.dir(name).join("state");
    let mut element = SoftwareElement::open(&state, None).expect("the element");
    let start = element.value().expect("its counter");
    let seal = PlaceSeal::derive(&mut element, start).expect("the seal of this start");
    let mut all = Vec::new();
    for (path, _) in files_below(&state.join("nodes")) {
        if path.extension().is_none_or(|extension| extension != "place") {
            continue;
        }
        let sealed = fs::read(&path).expect("a place");
        let id = path.parent().and_then(Path::file_name).expect("a directory").to_string_lossy();
        let id = id.parse().expect("the ID of a relationship");
        let sds = store.relationship(id).expect("the store").expect("it knows it").sds;
        let place =
            seal.open(akm_core::crypto::provider(), sds.suite(), sds.digest(), &sealed).expect("it opens");
        for (at, node) in place.expose()[8..].chunks_exact(32).enumerate() {
            all.push((format!("tree node {at} in {}", path.display()), node.to_vec()));
        }
    }
    assert!(!all.is_empty(), "{name} has places");
    all
}

fn open_store(plant: &Plant) -> Store {
    let home = plant.home();
    let vault = Vault::open(&home, || panic!("a key file needs no passphrase")).expect("the vault");
    Store::open(&home, &vault).expect("the store")
}

/// Whatever the commands of a test said and were told, and whatever could be seen of their processes.
#[derive(Default)]
struct Record {
    said: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Record {
    fn keep(&self, what: &str, bytes: impl Into<Vec<u8>>) {
        self.said.lock().unwrap().push((what.to_owned(), bytes.into()));
    }

    fn run(&self, command: &mut Command) -> Done {
        let done = run(command);
        let what = format!("{command:?}");
        self.keep(&format!("standard output of {what}"), done.stdout.as_bytes());
        self.keep(&format!("standard error of {what}"), done.stderr.as_bytes());
        done
    }

    /// Looks at all processes of a test, again and again, until it is over: those that name its place,
    /// and all that this one started.
    fn look_at_processes(&self, plant: &Plant, over: &AtomicBool) {
        let mut seen = BTreeSet::new();
        while !over.load(Ordering::Relaxed) {
            for pid in processes_naming(plant.place()).into_iter().chain(descendants()) {
                for what in ["cmdline", "environ"] {
                    // The environment of another user's process, or of one that is gone, cannot be read.
                    let Ok(bytes) = fs::read(format!("/proc/{pid}/{what}")) else { continue };
                    if seen.insert((pid, what, bytes.clone())) {
                        self.keep(&format!("{what} of process {pid}"), bytes);
                    }
                }
            }
            std::thread::yield_now();
        }
        assert!(
            seen.iter().any(|(.., bytes)| bytes.windows(7).any(|part| part == b"enroll\0")),
            "a ceremony was seen"
        );
    }
}

/// The processes that this one started, and those that they started.
fn descendants() -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = fs::read_dir("/proc").expect("/proc");
    let all = entries.filter_map(|entry| entry.ok()?.file_name().to_string_lossy().parse::<u32>().ok());
    let parents: HashMap<u32, u32> = all.filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let is_ours = |pid: &u32| {
        let line = std::iter::successors(parents.get(pid), |parent| parents.get(parent));
        line.take(parents.len()).any(|parent| *parent == std::process::id())
    };
    parents.keys().copied().filter(is_ours).collect()
}

/// Files below a directory, with their mode.
fn files_below(directory: &Path) -> Vec<(std::path::PathBuf, fs::Metadata)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("an entry");
        if metadata.is_dir() {
            found.extend(files_below(&path));
        }
        found.push((path, metadata));
    }
    found
}

#[track_caller]
fn check_private(directory: &Path) {
    let own = fs::metadata(directory).expect("a directory").permissions().mode();
    assert_eq!(own & 0o077, 0, "{} is open to others", directory.display());
    for (path, metadata) in files_below(directory) {
        let mode = metadata.permissions().mode();
        assert!(metadata.is_symlink() || mode & 0o077 == 0, "{} has mode {mode:o}", path.display());
    }
}

#[test]
fn a_secret_is_found_in_every_form_and_at_every_place() {
    let secret: Vec<u8> = (200..232).collect();
    let mut secrets = Secrets::default();
    secrets.add("it", &secret);
    for before in 0..4 {
        let bytes = [&vec![b'x'; before][..], &secret, b"after"].concat();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let texts =
            [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes), hex, format!("{bytes:?}")];
        for form in texts.iter().map(String::as_bytes).chain([&bytes[..]]) {
            assert_eq!(secrets.found_in(form), BTreeSet::from(["it"]), "{}", String::from_utf8_lossy(form));
        }
    }
    assert!(secrets.found_in(&secret[1..]).is_empty());
}

#[test]
fn no_secret_leaves_its_place() {
    let plant = Plant::bare();
    let passphrase_file = plant.place().join("passphrase");
    fs::write(&passphrase_file, PASSPHRASE).unwrap();
    fs::set_permissions(&passphrase_file, fs::Permissions::from_mode(0o600)).unwrap();
    let element = format!("software:passphrase-file={}", passphrase_file.display());
    let record = Record::default();
    let over = AtomicBool::new(false);
    let mut secrets = Secrets::default();
    secrets.add("the passphrase", PASSPHRASE.as_bytes());
    secrets.add("the passphrase of a vault", VAULT_PASSPHRASE.as_bytes());
    let vault_passphrase_file = plant.place().join("vault-passphrase");
    fs::write(&vault_passphrase_file, VAULT_PASSPHRASE).unwrap();
    fs::set_permissions(&vault_passphrase_file, fs::Permissions::from_mode(0o600)).unwrap();

    std::thread::scope(|scope| {
        let _ends = when_dropped(&over);
        scope.spawn(|| record.look_at_processes(&plant, &over));
        let akm = |arguments: &[&str]| {
            let json = record.run(&mut plant.akm_command(&[arguments, &["-vvv", "--json"]].concat()));
            assert!(!json.stdout.is_empty());
            json
        };
        let akmd = |name: &str, arguments: &[&str]| {
            record.run(&mut plant.akmd_command(name, &[arguments, &["-vvv"]].concat()))
        };
        akm(&["init", "--name", "plant"]).expect(0);
        for name in ["a", "b"] {
            akm(&["provision", &plant.target(name), "--name", name]).expect(0);
        }
        akm(&["provision", &plant.target("sealed"), "--name", "sealed", "--element", &element]).expect(0);
        // Another module, whose vault is under a passphrase.
        let (other, file) = (plant.place().join("other"), vault_passphrase_file.display().to_string());
        let of_other = ["--home", other.to_str().unwrap(), "--passphrase-file", &file];
        for what in [&["init", "--name", "other"][..], &["node", "list"], &["provision", &plant.target("a")]]
        {
            akm(&[what, &of_other].concat());
        }

        // From here on the stacks log everything.
        for name in ["a", "b", "sealed"] {
            plant.kill(name);
            akmd(name, &["run", "--detach"]).expect(0);
        }

        // Parked, so that the module still holds all that an ASR is made of.
        plant.kill("b");
        akm(&["asr", "create", "line", "a", "b", "sealed", "--rotate-after", "200ms"]).expect(6);
        let store = open_store(&plant);
        let asr = plant.asrs()[0]["relationship_id"].as_str().unwrap().to_owned();
        assert_eq!(secrets.add_relationship(&store, &asr), 4, "two roots, a header key and a resync key");
        let parked = ParkedAsr::of(&store, asr.parse().unwrap());
        let nodes = plant.nodes();
        for node in nodes.as_array().unwrap() {
            if let Some(id) = node["provisioning_relationship_id"].as_str() {
                assert!(secrets.add_relationship(&store, id) >= 3, "a root, a header key and a resync key");
            }
        }
        drop(store);
        akmd("b", &["run", "--detach"]).expect(0);
        akm(&["asr", "create", "line", "a", "b", "sealed", "--rotate-after", "200ms"]).expect(0);

        let watching = plant.watch_all("b");
        let listener = plant.listen("b", "line", 1);
        let mut send = plant.akmd_command("a", &["send", "line", "-", "-vvv"]);
        record_sent(&record, &mut send);
        assert_eq!(listener.texts(), [MESSAGE]);
        for name in ["a", "b", "sealed"] {
            for what in [
                &["status"][..],
                &["identify"],
                &["status", "--json"],
                &["identify", "--json"],
                &["rotate", "line"],
            ] {
                akmd(name, what).expect(0);
            }
        }
        let frames: Vec<Vec<u8>> = watching.stop().iter().map(|seen| bytes_of(&seen["frame"])).collect();
        secrets.add_all(session_secrets(parked, &frames));
        for what in [
            &["verify", "--all"][..],
            &["node", "list"],
            &["node", "show", "a"],
            &["asr", "list"],
            &["asr", "show", "line"],
            &["provision", &plant.target("a")],
            &["provision", &plant.target("b"), "--again"],
        ] {
            akm(what);
            record.run(&mut plant.akm_command(&[what, &["-vvv"]].concat()));
        }
        secrets.add_element("element of a", &plant.dir("a").join("state/element"));
        secrets.add_element("element of b", &plant.dir("b").join("state/element"));
        secrets.add("the vault key", &fs::read(plant.home().join("vault.key")).unwrap());

        akm(&["node", "remove", "b", "--force"]).expect(0);
    });

    plant.kill("a");
    secrets.add_all(stored_places(&plant, "a"));
    for name in ["a", "sealed"] {
        let log = fs::read(plant.dir(name).join("run/akmd.log")).unwrap();
        assert!(log.windows(5).any(|part| part == b"TRACE" || part == b"DEBUG"), "the log says everything");
        record.keep(&format!("log of {name}"), log);
    }
    let said = record.said.lock().unwrap();
    assert!(said.len() > 100);
    for (place, bytes) in said.iter() {
        secrets.check_absent(place, bytes);
    }
    // What applications say is not for logs either.
    let mut of_applications = Secrets::default();
    of_applications.add("a message", MESSAGE.as_bytes());
    for (place, bytes) in said.iter().filter(|(place, _)| !place.contains("listen")) {
        of_applications.check_absent(place, bytes);
    }

    // On the disk each is where it belongs, and nowhere else.
    check_private(&plant.home());
    for name in ["a", "sealed"] {
        check_private(&plant.dir(name).join("state"));
        check_private(&plant.dir(name).join("run"));
    }
    for (path, metadata) in files_below(plant.place()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // The program is the same at every node, and long.
        if !metadata.is_file() || name.ends_with("passphrase") || name == "akmd" {
            continue;
        }
        let kept = secrets.found_in(&fs::read(&path).unwrap());
        let belongs = |what: &str| match name.as_str() {
            "vault.key" => what == "the vault key",
            "element" => what.starts_with("element"),
            "g1.installed" | "g1.copy" => what.starts_with("header key"),
            _ => false,
        };
        assert!(kept.iter().all(|what| belongs(what)), "{} holds {kept:?}", path.display());
    }
    let sealed = secrets.found_in(&fs::read(plant.dir("sealed").join("state/element")).unwrap());
    assert!(sealed.is_empty(), "a sealed element shows {sealed:?}");
}

/// Ends the looking when the story ends, however it does.
fn when_dropped(over: &AtomicBool) -> impl Drop + '_ {
    struct Guard<'a>(&'a AtomicBool);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    Guard(over)
}

fn record_sent(record: &Record, command: &mut Command) {
    let done = support::plant::run_with_input(command, MESSAGE.as_bytes()).expect(0);
    record.keep("standard output of send", done.stdout);
    record.keep("standard error of send", done.stderr);
}

#[test]
fn a_careless_umask_opens_nothing() {
    let plant = Plant::bare();
    let careless = |command: &Command| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "umask 000; exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell
    };
    let akm = |arguments: &[&str]| run(&mut careless(&plant.akm_command(arguments)));
    akm(&["init", "--name", "plant"]).expect(0);
    for name in ["a", "b"] {
        akm(&["provision", &plant.target(name), "--name", name]).expect(0);
    }
    plant.kill("a");
    run(&mut careless(&plant.akmd_command("a", &["run", "--detach"]))).expect(0);
    akm(&["asr", "create", "line", "a", "b"]).expect(0);
    akm(&["verify", "--all"]).expect(0);
    check_private(&plant.home());
    for name in ["a", "b"] {
        let dir = plant.dir(name);
        check_private(&dir.join("state"));
        check_private(&dir.join("run"));
        // Nobody else may put another program there.
        for (path, metadata) in files_below(&dir) {
            let mode = metadata.permissions().mode();
            assert!(metadata.is_symlink() || mode & 0o022 == 0, "{} has mode {mode:o}", path.display());
        }
    }
    let socket = plant.dir("a").join("run/akmd.sock").symlink_metadata().unwrap();
    assert!(socket.file_type().is_socket());
}
