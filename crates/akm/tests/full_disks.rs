//! Full and read-only disks, and files of another user: what is told, what is not sent, and how all goes on.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;

use support::damage::{differences, inventory, set_mode};
use support::disk::{Disk, give_away, in_own_mounts, take_back};
use support::plant::{Done, Plant, run, wait_until};
use support::serving::{Serving, free_address, get};
use support::untouched::says_what_and_what_to_do;
use support::whole::check_store;

/// Room for the home of a small module, in KiB.
const HOME: u64 = 2048;

/// Room for the state of a node, in KiB.
const STATE: u64 = 1024;

/// It ended with this exit code and one line with these words.
#[track_caller]
fn told(done: Done, code: i32, says: &[&str]) -> Done {
    let done = done.expect(code);
    says_what_and_what_to_do(&done, says);
    done
}

/// What a command that met a full disk may have ended with; what it says names the file and what to do.
#[track_caller]
fn full(done: &Done, free: u64) -> bool {
    if done.code == Some(0) {
        return false;
    }
    assert!(matches!(done.code, Some(1 | 6)), "{free} KiB free: {done:?}");
    says_what_and_what_to_do(done, &["home/", "make room"]);
    true
}

#[test]
fn a_module_on_a_full_disk_says_so_and_goes_on_where_it_was_when_there_is_room() {
    in_own_mounts("a_module_on_a_full_disk_says_so_and_goes_on_where_it_was_when_there_is_room", || {
        let plant = Plant::bare();
        let disk = Disk::mount(&plant.home(), HOME);
        // Whatever was made before the disk was full is of use when there is room.
        let mut met = 0;
        for free in [0, 4, 8, 16, 32, 64] {
            disk.fill_but(free);
            met += u32::from(full(&plant.akm(&["init", "--name", "plant"]), free));
            disk.make_room();
            let done = plant.akm(&["init", "--name", "plant"]);
            assert!(matches!(done.code, Some(0 | 3)), "{free} KiB free: {done:?}");
            plant.akm(&["node", "list"]).expect(0);
            for entry in fs::read_dir(plant.home()).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
        }
        assert!(met >= 3, "the disk was full only {met} times");
        plant.akm(&["init", "--name", "plant"]).expect(0);
        plant.provision("b");

        // The ceremony, with room for more and more of it.
        let mut met = 0;
        for free in [0, 4, 12, 20, 28, 40, 56, 80, 120] {
            disk.fill_but(free);
            let target = plant.target("a");
            let done = plant.akm(&["provision", &target, "--name", "a"]);
            met += u32::from(full(&done, free));
            disk.make_room();
            if done.code == Some(6) {
                plant.akm(&["provision", "--resume", "a"]).expect(0);
            } else if done.code == Some(1) {
                plant.akm(&["provision", &target, "--name", "a"]).expect(0);
            }
            plant.akm(&["verify", "--all"]).expect(0);
            assert_eq!(plant.nodes().as_array().unwrap().len(), 3, "{free} KiB free: the root and two nodes");
            check_store(&plant);
            plant.akm(&["node", "remove", "a"]).expect(0);
        }
        assert!(met >= 3, "the disk was full only {met} times");

        // An ASR.
        plant.provision("a");
        let mut met = 0;
        for (number, free) in [0, 4, 12, 20, 28, 40, 56, 80].into_iter().enumerate() {
            let name = format!("line-{number}");
            disk.fill_but(free);
            met += u32::from(full(&plant.akm(&["asr", "create", &name, "a", "b"]), free));
            disk.make_room();
            let done = plant.akm(&["asr", "create", &name, "a", "b"]);
            assert!(matches!(done.code, Some(0 | 3)), "{free} KiB free: {done:?}");
            plant.akm(&["asr", "show", &name]).expect(0);
            let listener = plant.listen("b", &name, 1);
            plant.send("a", &name, "there is room");
            assert_eq!(listener.texts(), ["there is room"]);
        }
        assert!(met >= 3, "the disk was full only {met} times");
        check_store(&plant);
        assert_eq!(plant.asrs().as_array().unwrap().len(), 8);
    });
}

#[test]
fn a_module_on_a_read_only_disk_says_so_and_changes_nothing() {
    in_own_mounts("a_module_on_a_read_only_disk_says_so_and_changes_nothing", || {
        let plant = Plant::bare();
        let disk = Disk::mount(&plant.home(), HOME);
        disk.set_read_only(true);
        told(plant.akm(&["init", "--name", "plant"]), 1, &["/home", "writable"]);
        disk.set_read_only(false);
        plant.akm(&["init", "--name", "plant"]).expect(0);
        plant.provision("a");
        plant.provision("b");
        plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
        disk.set_read_only(true);
        let before = inventory(plant.place(), |path| path.ends_with("akmd.log") || path.ends_with(".place"));
        let target = plant.target("c");
        for arguments in [
            &["node", "list"][..],
            &["verify", "--all"],
            &["asr", "create", "other", "a", "b"],
            &["asr", "show", "line"],
            &["provision", &target, "--name", "c"],
            &["node", "remove", "a", "--force"],
        ] {
            told(plant.akm(arguments), 1, &["/home", "writable"]);
        }
        let after = inventory(plant.place(), |path| path.ends_with("akmd.log") || path.ends_with(".place"));
        let changed = differences(&before, &after);
        assert!(changed.is_empty(), "{changed:#?}");
        disk.set_read_only(false);
        plant.akm(&["verify", "--all"]).expect(0);
    });
}

/// Two nodes that share two ASRs; the state of `a` is on a disk of its own.
fn with_small_state(plant: &Plant) -> Disk {
    plant.akm(&["init", "--name", "plant"]).expect(0);
    fs::create_dir_all(plant.dir("a")).unwrap();
    plant.provision("b");
    // The ceremony takes a directory of ours with a state in it for ours.
    for name in ["releases", "run"] {
        fs::create_dir_all(plant.dir("a").join(name)).unwrap();
    }
    let disk = Disk::mount(&plant.dir("a").join("state"), STATE);
    plant.provision("a");
    for asr in ["line", "spare"] {
        plant.akm(&["asr", "create", asr, "a", "b", "--advance-interval", "1ms"]).expect(0);
    }
    talk(plant, "line");
    talk(plant, "spare");
    disk
}

#[track_caller]
fn talk(plant: &Plant, asr: &str) {
    for (from, to) in [("b", "a"), ("a", "b")] {
        let listener = plant.listen(to, asr, 1);
        plant.send(from, asr, "hello");
        assert_eq!(listener.texts(), ["hello"]);
    }
}

/// How often the log of a node says this.
fn said(plant: &Plant, name: &str, what: &str) -> usize {
    fs::read_to_string(plant.dir(name).join("run/akmd.log")).unwrap().matches(what).count()
}

#[test]
fn a_node_on_a_full_disk_sends_nothing_that_it_cannot_record_and_goes_on_by_itself() {
    in_own_mounts("a_node_on_a_full_disk_sends_nothing_that_it_cannot_record_and_goes_on_by_itself", || {
        let plant = Plant::bare();
        let disk = with_small_state(&plant);
        disk.fill_but(0);
        // What rests on nothing new goes on.
        talk(&plant, "line");
        let (epoch, at_b) = (plant.epoch("a", "line"), plant.epoch("b", "line"));
        let heard = plant.relationship("b", "line")["accepted"].clone();
        let refused = plant.akmd("a", &["rotate", "line"]);
        told(refused, 1, &["g1.place", "No space left", "make room"]);
        // The epoch of another is not followed either; its frames are not delivered.
        let mut watch = plant.watch_all("a");
        plant.akmd("b", &["rotate", "line"]).expect(0);
        wait_until("b has moved on", || plant.epoch("b", "line") > at_b);
        let seen = watch.next();
        assert_eq!(seen["verdict"], "not-recorded", "{seen:#}");
        watch.stop();
        for _ in 0..3 {
            plant.akmd("a", &["rotate", "line"]).expect(1);
        }
        assert_eq!(plant.epoch("a", "line"), epoch);
        assert_eq!(plant.relationship("b", "line")["accepted"], heard, "something was sent");
        let trouble = plant.relationship("a", "line")["trouble"].clone();
        assert!(trouble.as_str().unwrap().contains("make room"), "{trouble}");
        assert!(plant.akmd("a", &["status"]).expect(0).stdout.contains("No space left"));
        assert_eq!(said(&plant, "a", "it is tried again by itself"), 1, "it is told once");

        // Nothing new can be installed; the module says why, and the same command goes on.
        let parked = plant.akm(&["asr", "create", "new", "a", "b"]);
        told(parked, 6, &["ASR new", "node a", "akmd status on the device", "same command again"]);

        disk.make_room();
        plant.send("b", "line", "there is room");
        wait_until("a has followed", || plant.epoch("a", "line") > epoch);
        talk(&plant, "line");
        assert!(plant.relationship("a", "line")["trouble"].is_null());
        assert_eq!(said(&plant, "a", "can be written again"), 1);
        plant.akm(&["asr", "create", "new", "a", "b"]).expect(0);
        talk(&plant, "new");
        talk(&plant, "spare");
    });
}

#[test]
fn a_node_that_starts_on_a_full_or_read_only_disk_ends_and_has_lost_nothing_when_that_is_mended() {
    in_own_mounts(
        "a_node_that_starts_on_a_full_or_read_only_disk_ends_and_has_lost_nothing_when_that_is_mended",
        || {
            let plant = Plant::bare();
            let disk = with_small_state(&plant);
            let state = plant.dir("a").join("state");
            plant.akmd("a", &["stop"]).expect(0);
            let mut before = inventory(&state, |_| false);
            for _ in 0..3 {
                disk.fill_but(0);
                told(plant.akmd("a", &["run"]), 1, &["g1.place", "make room"]);
                disk.make_room();
                let changed = differences(&before, &inventory(&state, |_| false));
                assert!(changed.is_empty(), "{changed:#?}");
            }
            plant.start("a");
            talk(&plant, "line");
            talk(&plant, "spare");
            plant.akm(&["verify", "a"]).expect(0);

            plant.akmd("a", &["stop"]).expect(0);
            before = inventory(&state, |_| false);
            disk.set_read_only(true);
            for _ in 0..3 {
                told(plant.akmd("a", &["run"]), 1, &["state/lock", "writable"]);
            }
            disk.set_read_only(false);
            let changed = differences(&before, &inventory(&state, |_| false));
            assert!(changed.is_empty(), "{changed:#?}");
            plant.start("a");
            talk(&plant, "line");
            talk(&plant, "spare");
        },
    );
}

/// Takes what a file may still grow by on a full disk.
fn fill_last_page(path: &Path) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    while file.write_all(b"\n").is_ok() {}
}

#[test]
fn a_stack_whose_log_is_on_a_full_disk_runs_on_and_one_that_cannot_start_says_so() {
    in_own_mounts("a_stack_whose_log_is_on_a_full_disk_runs_on_and_one_that_cannot_start_says_so", || {
        let plant = Plant::with_nodes(&["a", "b"]);
        plant.akm(&["asr", "create", "line", "a", "b", "--advance-interval", "1ms"]).expect(0);
        plant.akmd("a", &["stop"]).expect(0);
        let disk = Disk::mount(&plant.dir("a").join("run"), 64);
        let log = plant.dir("a").join("run/akmd.log");
        let mut command = plant.akmd_command("a", &["run", "--detach", "-v", "-v"]);
        run(&mut command).expect(0);
        // With all that it says, down to each frame.
        disk.fill_but(0);
        fill_last_page(&log);
        for _ in 0..5 {
            talk(&plant, "line");
            plant.akmd("a", &["rotate", "line"]).expect(0);
        }
        plant.akmd("a", &["status"]).expect(0);
        plant.akmd("a", &["stop"]).expect(0);
        fill_last_page(&log);
        told(plant.akmd("a", &["run", "--detach"]), 1, &["akmd.log", "make room"]);
        disk.make_room();
        plant.start("a");
        talk(&plant, "line");
    });
}

#[test]
fn a_target_without_room_is_refused_and_becomes_one_node_when_there_is_room() {
    in_own_mounts("a_target_without_room_is_refused_and_becomes_one_node_when_there_is_room", || {
        let plant = Plant::new();
        let disk = Disk::mount(&plant.dir("disk"), 256 * 1024);
        let target = plant.target("disk/a");
        let provision = || plant.akm(&["provision", &target, "--name", "a"]);
        disk.fill_but(1024);
        told(provision(), 1, &["disk/a", "not enough space"]);
        assert_eq!(plant.nodes().as_array().unwrap().len(), 1, "nothing was begun");
        disk.make_room();
        disk.set_read_only(true);
        told(provision(), 6, &["disk/a", "read-only", "akm provision --resume a"]);
        disk.set_read_only(false);
        plant.akm(&["provision", "--resume", "a"]).expect(0);
        plant.akm(&["verify", "a"]).expect(0);
        assert_eq!(plant.nodes().as_array().unwrap().len(), 2, "the root and one node");
        check_store(&plant);
    });
}

/// The command is refused as long as this is another user's, and works before and after.
#[track_caller]
fn is_ours_alone(path: &Path, code: i32, attempt: &dyn Fn() -> Done) {
    give_away(path);
    let done = told(attempt(), code, &["belongs to", &path.to_string_lossy()]);
    assert!(done.stderr.contains("user"), "{done:?}");
    take_back(path);
    let done = attempt();
    assert_ne!(done.code, Some(code), "{}: {done:?}", path.display());
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    in_own_mounts("what_belongs_to_another_user_is_refused", || {
        let plant = Plant::new();
        let (home, state) = (plant.home(), plant.dir("a").join("state"));
        plant.provision("a");
        for path in [home.clone(), home.join("vault.key"), home.join("store.db"), home.join("locks")] {
            is_ours_alone(&path, 1, &|| plant.akm(&["verify", "a"]));
        }
        plant.akmd("a", &["stop"]).expect(0);
        // What stands below them is nobody else's to reach.
        for (path, code) in [
            (state.clone(), 1),
            (state.join("nodes"), 1),
            (plant.dir("a").join("run"), 1),
            (state.join("element"), 4),
        ] {
            is_ours_alone(&path, code, &|| {
                let done = plant.akmd("a", &["run", "--detach"]);
                if done.code == Some(0) {
                    plant.akmd("a", &["stop"]).expect(0);
                    return done;
                }
                plant.akmd("a", &["run"])
            });
        }
        let passphrase = plant.place().join("passphrase");
        fs::write(&passphrase, "correct horse\n").unwrap();
        set_mode(&passphrase, 0o600);
        let other = plant.place().join("other");
        let arguments =
            ["--home", other.to_str().unwrap(), "--passphrase-file", passphrase.to_str().unwrap()];
        plant.akm(&[&["init"], &arguments[..]].concat()).expect(0);
        is_ours_alone(&passphrase, 1, &|| plant.akm(&[&["node", "list"], &arguments[..]].concat()));
        is_ours_alone(&other.join("vault.json"), 1, &|| {
            plant.akm(&[&["node", "list"], &arguments[..]].concat())
        });
    });
}

#[test]
fn serve_on_a_full_disk_says_so_and_does_what_is_parked_when_there_is_room() {
    in_own_mounts("serve_on_a_full_disk_says_so_and_does_what_is_parked_when_there_is_room", || {
        let plant = Plant::bare();
        let disk = Disk::mount(&plant.home(), HOME);
        plant.akm(&["init", "--name", "plant"]).expect(0);
        for name in ["a", "b"] {
            plant.provision(name);
        }
        plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
        plant.akmd("b", &["stop"]).expect(0);
        plant.akm(&["asr", "renew", "line"]).expect(6);
        let metrics = free_address();
        let _serving = Serving::start(&plant, metrics);
        wait_until("it tells of the node that is away", || {
            get(metrics, "/health").contains("node b does not")
        });
        disk.fill_but(0);
        plant.start("b");
        wait_until("it tells of the disk", || {
            let health = get(metrics, "/health");
            health.starts_with("HTTP/1.1 503") && health.contains("make room")
        });
        disk.make_room();
        wait_until("all is done and well", || {
            get(metrics, "/metrics").contains("\nakm_parked_tasks 0\n")
                && get(metrics, "/health").starts_with("HTTP/1.1 200")
        });
        assert_eq!(plant.relationship("b", "line")["generation"], 2);
        check_store(&plant);
    });
}
