//! What an operator meets who restores a module or a node from a copy that is behind.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::plant::{Plant, wait_until};

#[track_caller]
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp -a {} {}", from.display(), to.display());
}

/// Copies what `docs/operating.md` says a backup of a module is: its vault and its store.
fn back_up(plant: &Plant) {
    let backup = plant.place().join("backup");
    fs::create_dir(&backup).expect("a directory");
    for name in ["vault.key", "store.db"] {
        copy(&plant.home().join(name), &backup.join(name));
    }
    let left: Vec<_> = fs::read_dir(plant.home())
        .expect("the home")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| !["vault.key", "store.db", "locks"].contains(&name.as_str()))
        .collect();
    assert!(left.is_empty(), "a backup between commands misses {left:?}");
}

fn restore(plant: &Plant) {
    fs::remove_dir_all(plant.home()).expect("the home is lost");
    copy(&plant.place().join("backup"), &plant.home());
    fs::set_permissions(plant.home(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("its mode");
}

#[test]
fn a_node_made_after_the_backup_is_unknown_until_it_is_provisioned_again() {
    let plant = Plant::with_nodes(&["a"]);
    back_up(&plant);
    plant.provision("b");
    let lost = plant.node("b")["akm_id"].as_str().expect("an ID").to_owned();
    restore(&plant);

    plant.akm(&["verify", "--all"]).expect(0);
    plant.akm(&["verify", "b"]).expect(10);
    let refused = plant.akm(&["provision", &plant.target("b"), "--name", "b"]).expect(3);
    assert!(refused.stderr.contains(&lost) && refused.stderr.contains("--again"), "{}", refused.stderr);
    plant.akm(&["provision", &plant.target("b"), "--name", "b", "--again"]).expect(0);
    assert_ne!(plant.node("b")["akm_id"], *lost);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
}

#[test]
fn an_asr_made_after_the_backup_goes_on_at_its_members_and_the_module_does_not_know_it() {
    let plant = Plant::with_nodes(&["a", "b"]);
    back_up(&plant);
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let lost = plant.asrs()[0]["relationship_id"].as_str().expect("an ID").to_owned();
    restore(&plant);

    assert_eq!(plant.asrs().as_array().map(Vec::len), Some(0));
    plant.akm(&["asr", "show", "line"]).expect(10);
    let listener = plant.listen("b", "line", 1);
    plant.send("a", "line", "still here");
    assert_eq!(listener.texts(), ["still here"]);

    // Another of the same name is another relationship: from there on members name them by ID.
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let made = plant.asrs()[0]["relationship_id"].as_str().expect("an ID").to_owned();
    let refused = plant.akmd("a", &["send", "line", "to whom?"]).expect(2);
    assert!(refused.stderr.contains("by its ID"), "{}", refused.stderr);
    for id in [&lost, &made] {
        let listener = plant.listen("b", id, 1);
        plant.send("a", id, "by its ID");
        assert_eq!(listener.texts(), ["by its ID"]);
    }
}

#[test]
fn an_asr_that_was_parked_in_the_backup_and_is_active_by_now_is_found_so() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.kill("b");
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(6);
    back_up(&plant);
    plant.start("b");
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let listener = plant.listen("b", "line", 1);
    plant.send("a", "line", "one");
    assert_eq!(listener.texts(), ["one"]);
    restore(&plant);

    // The same command goes on and gives away nothing anew: the members hold it and say so.
    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    let listener = plant.listen("a", "line", 1);
    plant.send("b", "line", "two");
    assert_eq!(listener.texts(), ["two"]);
}

#[test]
fn a_node_removed_after_the_backup_is_listed_again_and_can_be_forgotten() {
    let plant = Plant::with_nodes(&["a", "b"]);
    back_up(&plant);
    plant.akm(&["node", "remove", "b"]).expect(0);
    restore(&plant);

    assert_eq!(plant.node("b")["status"], "active");
    plant.akm(&["verify", "b"]).expect(7);
    plant.akm(&["node", "remove", "b", "--force"]).expect(0);
    plant.akm(&["verify", "--all"]).expect(0);
}

#[test]
fn a_node_made_anew_after_the_backup_does_not_pass_for_the_old_one() {
    let plant = Plant::with_nodes(&["a"]);
    back_up(&plant);
    plant.akm(&["provision", &plant.target("a"), "--again"]).expect(0);
    restore(&plant);

    plant.akm(&["verify", "a"]).expect(5);
    plant.akm(&["provision", &plant.target("a"), "--again"]).expect(0);
    plant.akm(&["verify", "a"]).expect(0);
}

#[test]
fn a_node_restored_from_an_older_image_catches_up_with_the_others() {
    let plant = Plant::with_nodes(&["a", "b"]);
    plant.akm(&["asr", "create", "line", "a", "b", "--advance-interval", "1ms"]).expect(0);
    plant.akmd("a", &["stop"]).expect(0);
    let image = plant.place().join("image");
    copy(&plant.dir("a"), &image);
    plant.start("a");
    // Life goes on: epochs, and starts of the stack.
    for _ in 0..10 {
        let before = plant.epoch("b", "line");
        plant.akmd("b", &["rotate", "line"]).expect(0);
        wait_until("b has moved on", || plant.epoch("b", "line") > before);
    }
    plant.akm(&["verify", "--all"]).expect(0);
    plant.akmd("a", &["stop"]).expect(0);
    fs::remove_dir_all(plant.dir("a")).expect("the disk is lost");
    copy(&image, &plant.dir("a"));
    plant.start("a");

    plant.akm(&["verify", "--all"]).expect(0);
    assert_eq!(plant.relationship("a", "line")["phase"], "Established");
    wait_until("a is where b is", || plant.epoch("a", "line") >= plant.epoch("b", "line"));
    let listener = plant.listen("b", "line", 1);
    plant.send("a", "line", "back again");
    assert_eq!(listener.texts(), ["back again"]);
    let listener = plant.listen("a", "line", 1);
    plant.send("b", "line", "welcome");
    assert_eq!(listener.texts(), ["welcome"]);
}
