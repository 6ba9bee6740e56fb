//! Nothing secret where it does not belong: not in arguments, environment, output, logs or core dumps.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use akm_core::id::RelationshipId;
use akm_core::secret::Secret;
use akm_provision::store::Store;
use akm_provision::vault::Vault;
use base64::Engine;
use support::plant::{Plant, processes_naming, run};

/// The secrets of a run that can be known from outside: roots and header keys out of the store, vault
/// key and passphrases out of their files.
fn secrets_of(plant: &Plant) -> Vec<Vec<u8>> {
    let vault = Vault::open(&plant.home(), || unreachable!("a key file needs no passphrase")).unwrap();
    let store = Store::open(&plant.home(), &vault).unwrap();
    let mut secrets = vec![fs::read(plant.home().join("vault.key")).unwrap()];
    for node in store.nodes().unwrap() {
        let id: RelationshipId = node.relationship;
        let held = store.secrets(id).unwrap();
        secrets.push(held.element_root.unwrap().expose().to_vec());
        let (header_key, _) = held.header.unwrap();
        secrets.push(header_key.expose().to_vec());
    }
    secrets
}

/// Whether text or memory holds a secret, as it is, in hexadecimal or in Base64.
fn holds(haystack: &[u8], secret: &[u8]) -> bool {
    let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = base64::engine::general_purpose::STANDARD.encode(secret);
    let forms = [secret, hexadecimal.as_bytes(), base64.trim_end_matches('=').as_bytes()];
    forms.iter().any(|form| haystack.windows(form.len()).any(|window| window == *form))
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let secret = Secret::<32>::fill(|bytes| bytes.copy_from_slice(&[0xa7; 32]));
    assert!(holds(&[&[1, 2][..], secret.expose()].concat(), secret.expose()));
    assert!(holds("x".repeat(3).as_bytes(), b"xxx"));
    assert!(holds("a7".repeat(40).as_bytes(), secret.expose()));
    assert!(!holds(b"nothing here", secret.expose()));
}

#[test]
fn no_secret_is_seen_from_outside() {
    let plant = Plant::new();
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    let mut collect = |what: String, done: support::plant::Done| {
        seen.push((format!("standard output of {what}"), done.stdout.into_bytes()));
        seen.push((format!("standard error of {what}"), done.stderr.into_bytes()));
    };
    for name in ["a", "b"] {
        let target = plant.target(name);
        let done = plant.akm(&["-vvv", "provision", &target, "--name", name, "--json"]).expect(0);
        collect(format!("akm provision {name}"), done);
    }
    // The stacks once more, saying all that they can say.
    for name in ["a", "b"] {
        plant.akmd(name, &["stop"]).expect(0);
        plant.akmd(name, &["-vv", "run", "--detach"]).expect(0);
    }
    for arguments in [
        &["-vvv", "asr", "create", "line", "a", "b"][..],
        &["-vvv", "verify", "--all", "--json"],
        &["-vvv", "node", "show", "a", "--json"],
        &["-vvv", "asr", "show", "line", "--json"],
        &["-vvv", "node", "list", "--json"],
    ] {
        collect(arguments.join(" "), plant.akm(arguments).expect(0));
    }
    for arguments in
        [&["-vv", "status", "--json"][..], &["-vv", "identify", "--json"], &["-vv", "send", "line", "hello"]]
    {
        collect(format!("akmd {}", arguments.join(" ")), plant.akmd("a", arguments).expect(0));
    }
    let processes = processes_naming(plant.place());
    assert!(processes.len() >= 2, "both stacks run");
    for pid in processes {
        for what in ["cmdline", "environ"] {
            match fs::read(format!("/proc/{pid}/{what}")) {
                Ok(content) => seen.push((format!("{what} of process {pid}"), content)),
                // Only root may look into a process that is not dumpable.
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
            }
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    for name in ["a", "b"] {
        seen.push((format!("log of {name}"), fs::read(plant.dir(name).join("run/akmd.log")).unwrap()));
    }
    assert!(seen.iter().any(|(_, content)| content.len() > 1000), "there is something to search");
    for secret in secrets_of(&plant) {
        assert!(secret.len() >= 16);
        for (what, content) in &seen {
            assert!(!holds(content, &secret), "a secret in {what}");
        }
    }
}

#[test]
fn a_stack_cannot_be_looked_into_by_its_own_user() {
    let plant = Plant::with_nodes(&["a"]);
    let pid = processes_naming(&plant.dir("a"))[0];
    // The memory of a process that is not dumpable belongs to root, whoever runs it.
    let metadata = fs::metadata(format!("/proc/{pid}/mem")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), 0);
    if let Ok(id) = String::from_utf8(run(std::process::Command::new("id").arg("-u")).stdout.into_bytes())
        && id.trim() != "0"
    {
        assert!(fs::read(format!("/proc/{pid}/environ")).is_err());
    }
}

fn check_closed(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_symlink() {
        return;
    }
    assert_eq!(metadata.permissions().mode() & 0o077, 0, "{} is open to others", path.display());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            check_closed(&entry.unwrap().path());
        }
    }
}

#[test]
fn what_is_kept_is_closed_to_others() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    check_closed(&plant.home());
    for name in ["a", "b"] {
        check_closed(&plant.dir(name).join("state"));
        check_closed(&plant.dir(name).join("run"));
    }
}

#[test]
fn a_disk_of_the_module_shows_no_secret_beside_its_key_file() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let secrets = secrets_of(&plant);
    for file in ["store.db", "store.db-wal"] {
        let content = fs::read(plant.home().join(file)).unwrap_or_default();
        for secret in &secrets {
            assert!(!holds(&content, secret), "a secret in clear in {file}");
        }
    }
}
