//! What is secret stays where it belongs: not in logs, outputs, arguments, environments, core dumps or
//! files that others may read.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use akm_core::secret::Secret;
use akm_provision::store::Store;
use akm_provision::vault::Vault;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use support::plant::{Done, Plant, akmd_program, processes_naming, run};

const PASSPHRASE: &str = "tr0ub4dor-and-a-long-tail";
const MESSAGE: &str = "the-words-of-an-application";

/// Secrets with a name each, to be searched for in whatever form they might be printed.
#[derive(Default)]
struct Secrets {
    by_form: BTreeMap<Vec<u8>, String>,
}

impl Secrets {
    fn add(&mut self, what: &str, secret: &[u8]) {
        assert!(secret.len() >= 4, "{what} is too short to be searched for");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let list: Vec<String> = secret.iter().map(u8::to_string).collect();
        // Base64 has three forms, by where the secret stands in what is encoded; what depends on the
        // neighbours is cut off.
        let base64 = (0..3).flat_map(|shift| {
            let shifted = [vec![0; shift], secret.to_vec()].concat();
            [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)].map(|text| {
                let begin = [0, 2, 3][shift];
                let end = shifted.len() / 3 * 4;
                text.get(begin..end).unwrap_or_default().to_owned()
            })
        });
        let texts = [hex.clone(), hex.to_uppercase(), list.join(", "), list.join(",")];
        for form in texts.into_iter().chain(base64).map(String::into_bytes).chain([secret.to_vec()]) {
            if form.len() >= 4 {
                self.by_form.insert(form, what.to_owned());
            }
        }
    }

    /// The secrets that stand in these bytes.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let contains =
            |form: &[u8]| bytes.len() >= form.len() && bytes.windows(form.len()).any(|part| part == form);
        self.by_form.iter().filter(|(form, _)| contains(form)).map(|(_, what)| what.as_str()).collect()
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
        if let Some((key, _)) = &secrets.header {
            self.add(&format!("header key of {id}"), key.expose());
            count += 1;
        }
        count
    }
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

    /// Looks at all processes of a test, again and again, until it is over.
    fn look_at_processes(&self, plant: &Plant, over: &AtomicBool) {
        let mut seen = BTreeSet::new();
        while !over.load(Ordering::Relaxed) {
            for pid in processes_naming(plant.place()) {
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
        assert_eq!(secrets.add_relationship(&store, &asr), 3, "two roots and a header key");
        let nodes = plant.nodes();
        for node in nodes.as_array().unwrap() {
            if let Some(id) = node["provisioning_relationship_id"].as_str() {
                assert!(secrets.add_relationship(&store, id) >= 2, "a root and a header key");
            }
        }
        drop(store);
        akmd("b", &["run", "--detach"]).expect(0);
        akm(&["asr", "create", "line", "a", "b", "sealed", "--rotate-after", "200ms"]).expect(0);

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

        // Running stacks leave no core dump behind.
        for name in ["a", "sealed"] {
            let pid = processes_naming(&plant.dir(name))[0];
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
        }
        akm(&["node", "remove", "b", "--force"]).expect(0);
    });

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
        if !metadata.is_file() || path == passphrase_file || name == "akmd" {
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

#[test]
fn a_program_that_is_killed_hard_leaves_no_core() {
    let plant = Plant::with_nodes(&["a"]);
    // Where the system keeps cores in the working directory, it would be this one.
    let place = plant.place().join("cores");
    fs::create_dir(&place).unwrap();
    plant.akmd("a", &["stop"]).expect(0);
    let mut stack = Command::new("sh")
        .args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$@\"", "sh"])
        .arg(akmd_program())
        .args(["run", "--dir"])
        .arg(plant.dir("a"))
        .current_dir(&place)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    support::plant::wait_until("it answers", || plant.akmd("a", &["status"]).code == Some(0));
    support::plant::signal(stack.id(), "ABRT");
    let status = stack.wait().unwrap();
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&status), "{status}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}
