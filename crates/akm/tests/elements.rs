//! Nodes, and a module, whose keys are in real elements: the whole main job on each, filling an element before it is in
//! its target, and what an operator meets when an element is not as it should be.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use akm_counterparts::vpcd::{READERS, wait_for_card, wait_until_empty};
use support::elements::Real;
use support::plant::{Done, Plant, text_of, wait_until};
use support::untouched::says_what_and_what_to_do;
use support::whole::{check_store, query};

/// A module, and the element of a test.
fn plant_with(real: &Real) -> Plant {
    let plant = Plant::bare().in_environment(real.environment());
    plant.akm(&["init", "--name", "plant"]).expect(0);
    plant
}

/// Provisions a local target with this element.
fn provision(plant: &Plant, real: &Real, name: &str, more: &[&str]) -> Done {
    let (target, spec, keys) = (plant.target(name), real.spec(), real.keys());
    let mut arguments = vec!["provision", &target, "--name", name, "--element", &spec];
    arguments.extend(keys.iter().map(String::as_str));
    arguments.extend(more);
    plant.akm(&arguments)
}

/// The element is free again, and does all that AKM asks of one.
fn check_is_free(plant: &Plant, real: &Real) {
    let (spec, keys) = (real.spec(), real.keys());
    let mut arguments = vec!["element", "test", &spec];
    arguments.extend(keys.iter().map(String::as_str));
    let tested = plant.akm(&arguments).expect(0);
    assert_eq!(tested.stdout.lines().filter(|line| line.ends_with(" ok")).count(), 10, "{tested:?}");
}

/// Messages get through in both directions. Who has just started is behind until it is heard, so the first may be lost.
fn both_hear_each_other(plant: &Plant, asr: &str, names: [&str; 2]) {
    for [from, to] in [names, [names[1], names[0]]] {
        let listener = plant.listen_on(to, asr);
        let accepted = || plant.relationship(to, asr)["accepted"].as_u64();
        let before = accepted();
        wait_until("a message has arrived", || {
            plant.send(from, asr, "under keys of an element");
            accepted() > before.map(|before| before + 1)
        });
        let texts: Vec<String> = listener.stop().iter().map(text_of).collect();
        assert!(
            !texts.is_empty() && texts.iter().all(|text| text == "under keys of an element"),
            "{texts:?}"
        );
    }
}

/// The files below a directory that hold these bytes. Not the program: the keys of the test's cards are plain patterns,
/// which tables of ciphers hold too.
fn files_with(directory: &Path, wanted: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if path.ends_with("akmd") {
            continue;
        } else if kind.is_file() && fs::read(&path).unwrap().windows(wanted.len()).any(|part| part == wanted)
        {
            found.push(path);
        }
    }
    found
}

/// From nothing to messages, over a restart, to a new node of the same device and to nothing again.
fn the_main_job(real: &Real) {
    let plant = plant_with(real);
    check_is_free(&plant, real);
    let shown = plant.akm(&["element", "show", &real.spec(), "--json"]).expect(0).json();
    assert_eq!(shown["kind"], real.kind());
    assert_eq!(shown["protection"], "software", "what stands for an element in a test says so");
    assert_eq!(shown["counter"], real.counts());

    let done = provision(&plant, real, "a", &["--json"]).expect(0).json();
    let notes = done["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("is software")), "{notes:?}");
    plant.provision("b");
    plant.akm(&["asr", "create", "line", "a", "b", "--rotate-frames", "20"]).expect(0);
    both_hear_each_other(&plant, "line", ["a", "b"]);

    // It is named alike by the module, by the node over the network and at the device.
    let node = plant.akm(&["node", "show", "a", "--json"]).expect(0).json();
    let status = plant.status("a");
    let identity = plant.akmd("a", &["identify", "--json"]).expect(0).json();
    assert_eq!(node["element_description"]["serial"], shown["serial"]);
    for said in [&status, &identity] {
        assert_eq!(said["element_description"]["kind"], real.kind(), "{said:#}");
        assert_eq!(said["element_description"]["serial"], shown["serial"]);
        assert!(said["element_warning"].as_str().unwrap().starts_with("software"));
    }
    let no_counter = status["element_warning"].as_str().unwrap().contains("no counter");
    assert_eq!(no_counter, !real.counts(), "{status:#}");

    // While a node uses it, it is not for anybody else.
    let used = plant.akm(&["element", "test", &real.spec()]);
    assert_eq!(used.code, Some(4), "{used:?}");
    let second = provision(&plant, real, "c", &[]);
    assert_eq!(second.code, Some(4), "{second:?}");
    // A TPM that is a program serves one at a time, so nobody gets so far.
    let words = if matches!(real, Real::Tpm(_)) { "another one may use it" } else { "belongs to node a" };
    assert!(second.stderr.contains(words), "{second:?}");
    let force: &[&str] = if matches!(real, Real::Tpm(_)) { &["--force"] } else { &[] };
    plant.akm(&[&["node", "remove", "c"], force].concat()).expect(0);
    plant.akm(&["verify", "a"]).expect(0);

    for _ in 0..2 {
        plant.kill("a");
        plant.start("a");
        plant.akm(&["verify", "a"]).expect(0);
        both_hear_each_other(&plant, "line", ["a", "b"]);
    }

    for secret in real.secrets() {
        let found = files_with(plant.place(), &secret);
        assert!(found.is_empty(), "a PIN or a static key stands in {found:?}");
    }

    let old = plant.node("a")["akm_id"].clone();
    plant.akm(&["provision", &plant.target("a"), "--again"]).expect(0);
    assert_ne!(plant.node("a")["akm_id"], old);
    plant.akm(&["asr", "create", "next", "a", "b"]).expect(0);
    both_hear_each_other(&plant, "next", ["a", "b"]);

    plant.akm(&["node", "remove", "a", "--force"]).expect(0);
    check_store(&plant);
    check_is_free(&plant, real);
}

#[test]
fn the_main_job_on_a_pkcs11_token() {
    the_main_job(&Real::token());
}

#[test]
fn the_main_job_on_a_tpm() {
    the_main_job(&Real::tpm());
}

#[test]
fn the_main_job_on_a_card() {
    the_main_job(&Real::card());
}

/// Filled at the station, moved, and at work in its target; `at_target` is what it is called there.
fn filled_before_it_is_in_its_target(mut real: Real, move_it: impl FnOnce(&mut Real) -> Option<String>) {
    let plant = plant_with(&real);
    let (spec, keys) = (real.spec(), real.keys());
    let attach = || {
        let mut arguments = vec!["provision", "--attach", &spec, "--name", "a"];
        arguments.extend(keys.iter().map(String::as_str));
        plant.akm(&arguments)
    };
    let waiting = attach();
    assert_eq!(waiting.code, Some(6), "{waiting:?}");
    assert!(waiting.stderr.contains("akm provision TARGET --resume a"), "{waiting:?}");
    let steps: Vec<&str> = waiting.stdout.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(steps, ["1", "2", "4"]);
    assert_eq!(plant.node("a")["status"], "provisioning");
    // Again changes nothing, and nobody takes the name or the element meanwhile.
    for again in [attach(), plant.akm(&["provision", "--resume", "a"])] {
        assert_eq!(again.code, Some(6), "{again:?}");
    }
    let twice = plant.akm(&["provision", "--attach", &spec, "--name", "other"]);
    assert!(matches!(twice.code, Some(3 | 4)), "{twice:?}");

    let element = move_it(&mut real);
    let mut arguments =
        vec!["provision".to_owned(), plant.target("a"), "--resume".to_owned(), "a".to_owned()];
    arguments.extend(element.into_iter().flat_map(|element| ["--element".to_owned(), element]));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let arrived = plant.akm(&arguments).expect(0);
    let steps: Vec<&str> = arrived.stdout.lines().filter_map(|line| line.strip_prefix("step ")).collect();
    assert_eq!(steps.len(), 3, "{arrived:?}");
    assert!(!fs::exists(plant.home().join("attached")).unwrap() || is_empty(&plant, "home/attached"));
    plant.provision("b");
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    both_hear_each_other(&plant, "line", ["a", "b"]);
    plant.kill("a");
    plant.start("a");
    both_hear_each_other(&plant, "line", ["a", "b"]);
    check_store(&plant);
    plant.akm(&["node", "remove", "a", "--force"]).expect(0);
}

fn is_empty(plant: &Plant, path: &str) -> bool {
    fs::read_dir(plant.place().join(path)).unwrap().next().is_none()
}

#[test]
fn a_token_is_filled_here_and_works_in_its_target() {
    filled_before_it_is_in_its_target(Real::token(), |_| None);
}

#[test]
fn a_card_is_filled_in_one_reader_and_works_in_another() {
    filled_before_it_is_in_its_target(Real::card(), |real| {
        let Real::Card(card, _) = real else { unreachable!("a card") };
        card.remove();
        wait_until_empty(0);
        card.insert(1);
        wait_for_card(1);
        Some(format!("card:{}", READERS[1]))
    });
}

#[test]
fn a_card_with_other_keys_is_told_and_the_ceremony_goes_on_with_the_file_that_holds_them() {
    let real = Real::card();
    let plant = plant_with(&real);
    let others = plant.place().join("other-keys");
    let key = "ab".repeat(16);
    fs::write(&others, format!("* 30 {key} {key} {key}\n")).expect("a file of keys");
    fs::set_permissions(&others, fs::Permissions::from_mode(0o600)).expect("it is closed to others");
    let (target, spec, others) = (plant.target("a"), real.spec(), others.to_string_lossy().into_owned());
    let refused =
        plant.akm(&["provision", &target, "--name", "a", "--element", &spec, "--card-keys", &others]);
    says_what_and_what_to_do(
        &refused.expect(4),
        &["other keys than this card", "--card-keys names the file", "--resume a"],
    );
    let keys = real.keys();
    let mut resume = vec!["provision", "--resume", "a"];
    resume.extend(keys.iter().map(String::as_str));
    plant.akm(&resume).expect(0);
    plant.akm(&["verify", "a"]).expect(0);
    check_store(&plant);
}

#[test]
fn the_static_keys_of_a_card_are_kept_as_long_as_a_node_has_it() {
    let real = Real::card();
    let plant = plant_with(&real);
    let kept = || query::<i64>(&plant, "SELECT count(*) FROM card_keys");
    provision(&plant, &real, "a", &[]).expect(0);
    assert_eq!(kept(), 1);
    plant.akm(&["provision", &plant.target("a"), "--again"]).expect(0);
    assert_eq!(kept(), 1, "the new node has the same card");
    plant.akm(&["node", "replace", "a", &plant.target("b")]).expect(0);
    assert_eq!(kept(), 0, "the one in its place has another element");
    check_store(&plant);
}

#[test]
fn a_node_that_waits_for_its_target_can_be_given_up() {
    let real = Real::token();
    let plant = plant_with(&real);
    plant.akm(&["provision", "--attach", &real.spec(), "--name", "a"]).expect(6);
    plant.akm(&["node", "remove", "a"]).expect(0);
    assert!(is_empty(&plant, "home/attached"));
    check_store(&plant);
    check_is_free(&plant, &real);
}

/// The vault key is made by an element, and the home alone opens nothing.
fn a_vault_in_an_element(mut real: Real, take_away: impl FnOnce(&mut Real)) {
    let plant = Plant::bare().in_environment(real.environment());
    let made = plant.akm(&["init", "--name", "plant", "--vault", &real.spec()]).expect(0);
    assert!(made.stderr.contains("it is software"), "{made:?}");
    plant.provision("a");
    plant.provision("b");
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    plant.akm(&["verify", "--all"]).expect(0);
    // Again: it is there. And no node takes it.
    plant.akm(&["init", "--vault", &real.spec()]).expect(3);
    if !matches!(real, Real::Tpm(_)) {
        let node = provision(&plant, &real, "n", &[]);
        assert_eq!(node.code, Some(4), "{node:?}");
        assert!(node.stderr.contains("makes the vault key"), "{node:?}");
        plant.akm(&["node", "remove", "n"]).expect(0);
        plant.akm(&["verify", "--all"]).expect(0);
    }
    let names: Vec<String> = fs::read_dir(plant.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("vault"))
        .collect();
    assert_eq!(names, ["vault.element"]);
    take_away(&mut real);
    let closed = plant.akm(&["node", "list"]);
    assert_eq!(closed.code, Some(4), "{closed:?}");
    assert!(closed.stderr.starts_with("error: the vault: "), "{closed:?}");
}

#[test]
fn a_vault_in_a_token_opens_with_that_token_only() {
    a_vault_in_an_element(Real::token(), |real| {
        let Real::Token(store) = real else { unreachable!("a token") };
        fs::remove_dir_all(store.tokens()).unwrap();
    });
}

#[test]
fn a_vault_in_a_tpm_opens_with_that_tpm_only() {
    a_vault_in_an_element(Real::tpm(), |real| {
        let Real::Tpm(swtpm) = real else { unreachable!("a TPM") };
        swtpm.kill();
    });
}

#[test]
fn a_vault_in_a_card_opens_with_that_card_only() {
    a_vault_in_an_element(Real::card(), |real| {
        let Real::Card(card, service) = real else { unreachable!("a card") };
        // Another one of the same maker, with the same keys.
        *card = service.card("0002");
        wait_until_empty(0);
        card.insert(0);
        assert_eq!(wait_for_card(0), "0002");
    });
}

#[test]
fn a_token_with_another_pin_or_none_at_all_is_told_and_goes_on_with_the_right_one() {
    let real = Real::token();
    let Real::Token(store) = &real else { unreachable!("a token") };
    let plant = plant_with(&real);
    let refused = |arguments: &[&str], words: &[&str]| {
        let done = plant.akm(arguments);
        assert_eq!(done.code, Some(4), "{done:?}");
        says_what_and_what_to_do(&done, words);
    };
    let elsewhere = store.spec("akm").replace("/usr/lib/softhsm", "/usr/lib/nowhere");
    for (spec, words) in [
        (&store.spec("another"), ["no such token", "akm"]),
        (&elsewhere, ["/usr/lib/nowhere", "libsofthsm2"]),
    ] {
        refused(&["element", "show", spec], &words);
        refused(&["provision", "--attach", spec, "--name", "n"], &words);
    }
    assert_eq!(plant.nodes().as_array().map(Vec::len), Some(1), "the root alone");
    // What it is, a token says to anybody. The PIN counts when it is used.
    let spec = store.spec("akm");
    let pin = fs::read(store.pin_file()).unwrap();
    fs::write(store.pin_file(), "0000").unwrap();
    plant.akm(&["element", "show", &spec]).expect(0);
    refused(&["element", "test", &spec], &["wrong PIN"]);
    refused(&["provision", "--attach", &spec, "--name", "n"], &["wrong PIN", "akm provision --resume n"]);
    fs::remove_file(store.pin_file()).unwrap();
    refused(&["provision", "--resume", "n"], &["pin", "missing"]);
    fs::write(store.pin_file(), pin).unwrap();
    fs::set_permissions(store.pin_file(), fs::Permissions::from_mode(0o600)).unwrap();
    plant.akm(&["provision", "--resume", "n"]).expect(6);
    plant.akm(&["provision", &plant.target("n"), "--resume", "n"]).expect(0);
    check_store(&plant);
}
