//! Changes of an ASR that are disturbed at every durable call, at the module and at a member.
//!
//! The same command again, after a stack that had ended was started again, ends with the change active at all members,
//! each with one root and one generation, and with messages that flow.

mod support {
    pub(crate) mod faults;
    pub(crate) mod plant;
    pub(crate) mod whole;
}

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::faults::{Counted, Order, Run, Sweep};
use support::plant::{Plant, akmd_program, run, wait_until};
use support::whole::{Snapshot, check_store, query, roots};

const NODES: [&str; 3] = ["a", "b", "c"];

/// Three nodes that are stopped, with an ASR between these.
fn nodes(members: &[&str]) -> Plant {
    let plant = Plant::in_memory();
    plant.akm(&["init", "--name", "plant"]).expect(0);
    let stack = plant.small_stack();
    for name in NODES {
        plant.akm(&["provision", &plant.target(name), "--name", name, "--stack", &stack]).expect(0);
    }
    plant.akm(&[&["asr", "create", "line"], members].concat()).expect(0);
    for name in NODES {
        plant.akmd(name, &["stop"]).expect(0);
    }
    plant
}

/// These nodes, and no other, hold the ASR, at one generation, in the elements too. Ends with the stacks stopped.
#[track_caller]
fn check(plant: &Plant, members: &[&str]) {
    plant.akm(&["verify", "--all"]).expect(0);
    assert_eq!(plant.akm(&["tasks"]).expect(0).stdout, "nothing is parked\n");
    let shown = plant.akm(&["asr", "show", "line", "--json"]).expect(0).json();
    assert_eq!(shown["status"], "active", "{shown:#}");
    let of_members = shown["members"].as_array().expect("a list");
    assert_eq!(of_members.len(), members.len(), "{shown:#}");
    let generation = &of_members[0]["generation"];
    assert!(
        of_members.iter().all(|one| one["phase"] == "Established" && one["generation"] == *generation),
        "{shown:#}"
    );
    assert!(generation.as_u64().unwrap() > 1, "{shown:#}");
    let listener = plant.listen(members[1], "line", 1);
    plant.send(members[0], "line", "hello");
    assert_eq!(listener.texts(), ["hello"]);
    check_store(plant);
    let left = "SELECT count(*) FROM generations g JOIN relationships r ON r.id = g.relationship
                WHERE r.kind = 2 AND (g.tree_root IS NOT NULL OR g.header IS NOT NULL)";
    assert_eq!(query::<i64>(plant, left), 0);
    for name in NODES {
        plant.akmd(name, &["stop"]).expect(0);
        let expected = if members.contains(&name) { 3 } else { 2 };
        assert_eq!(roots(plant, name).len(), expected, "in the element of {name}: {:?}", roots(plant, name));
    }
}

/// Kills the module at each of its calls while it carries out a change.
fn kill_the_module(what: &'static str, before: &[&str], command: &[&str], members: &[&str]) {
    let plant = nodes(before);
    let begin = Snapshot::take(&plant, &NODES);
    let start = || {
        begin.restore(&plant);
        for name in NODES {
            plant.start(name);
        }
    };
    let undisturbed = std::iter::repeat_with(|| {
        start();
        let undisturbed = Run::undisturbed(plant.place(), Counted::FilesAndProcesses);
        run(undisturbed.on(&mut plant.akm_command(command))).expect(0);
        check(&plant, members);
        undisturbed
    });
    let undisturbed = undisturbed.take(5).min_by_key(Run::counted).expect("runs");
    let sweep = Sweep::over(what, &undisturbed, Counted::FilesAndProcesses, &["store.db", "store.db-wal"]);
    sweep.carry_out(&[Order::Die], &[], |point| {
        start();
        let disturbed = point.run(plant.place());
        let done = run(disturbed.on(&mut plant.akm_command(command)));
        assert!(matches!(done.code, None | Some(0 | 1 | 6)), "{point:?}: {done:#?}");
        let again = plant.akm(command);
        assert!(matches!(again.code, Some(0 | 3)), "after {point:?}: {again:#?}");
        check(&plant, members);
        disturbed.is_carried_out()
    });
}

#[test]
fn module_killed_at_each_call_while_it_renews_with_suspicion() {
    kill_the_module(
        "akm asr renew",
        &["a", "b", "c"],
        &["asr", "renew", "line", "--suspect"],
        &["a", "b", "c"],
    );
}

#[test]
fn module_killed_at_each_call_while_it_adds_a_member() {
    kill_the_module("akm asr add", &["a", "b"], &["asr", "add", "line", "c"], &["a", "b", "c"]);
}

#[test]
fn module_killed_at_each_call_while_it_removes_a_member() {
    kill_the_module("akm asr remove", &["a", "b", "c"], &["asr", "remove", "line", "c"], &["a", "b"]);
}

/// A stack in the foreground that takes part in a run; ended when dropped.
struct Stack(Child);

impl Stack {
    fn start(plant: &Plant, name: &str, counted: &Run) -> Self {
        let mut command = Command::new(akmd_program());
        command.args(["run", "--dir"]).arg(plant.dir(name)).current_dir(plant.place());
        let log = fs::File::create(counted.output()).unwrap();
        let child = counted.on(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut stack = Self(child.expect("akmd can be started"));
        wait_until("the stack answers or has ended", || {
            stack.has_ended() || plant.akmd(name, &["status"]).code == Some(0)
        });
        stack
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("akmd can be waited for").is_some()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Disturbs the stack of `a` at each of its calls while the module carries out a change with it.
fn disturb_a_member(what: &'static str, before: &[&str], command: &[&str], members: &[&str]) {
    let plant = nodes(before);
    let begin = Snapshot::take(&plant, &NODES);
    let others = || {
        begin.restore(&plant);
        for name in ["b", "c"] {
            plant.start(name);
        }
    };
    // Of some undisturbed runs the one with the fewest calls: an epoch more or less is a matter of time.
    let undisturbed = std::iter::repeat_with(|| {
        others();
        let undisturbed = Run::undisturbed(plant.place(), Counted::Files);
        let mut stack = Stack::start(&plant, "a", &undisturbed);
        plant.akm(command).expect(0);
        undisturbed.close();
        plant.akmd("a", &["stop"]).expect(0);
        wait_until("the stack has ended", || stack.has_ended());
        undisturbed
    });
    let undisturbed = undisturbed.take(5).min_by_key(Run::counted).expect("runs");
    let files = ["/g2.installed", "/g2.copy", "/g2.place", "/g2.active"];
    let sweep = Sweep::over(what, &undisturbed, Counted::Files, &files);
    sweep.carry_out(&[Order::Die, Order::Fail], &[], |point| {
        others();
        let disturbed = point.run(plant.place());
        let mut stack = Stack::start(&plant, "a", &disturbed);
        let cut_off = plant.akm(command);
        assert!(matches!(cut_off.code, Some(0 | 6)), "{point:?}: {cut_off:#?}");
        let reached = disturbed.soon_carried_out();
        disturbed.mend();
        if point.order.kills() && reached || stack.has_ended() {
            wait_until("the stack has ended", || stack.has_ended());
            let said = fs::read_to_string(disturbed.output()).unwrap();
            assert!(!said.contains("panicked"), "{point:?}: {said}");
            plant.start("a");
        }
        let done = plant.akm(command);
        assert!(matches!(done.code, Some(0 | 3)), "after {point:?}: {done:#?}");
        check(&plant, members);
        assert_eq!(leftovers(&plant.dir("a").join("state")), [""; 0], "{point:?}");
        reached
    });
}

/// Entries of a state directory that a cut-off write or erasure left.
fn leftovers(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') || name.ends_with(".new") || name.ends_with(".tmp") {
            found.push(entry.path().display().to_string());
        } else if entry.path().is_dir() {
            found.extend(leftovers(&entry.path()));
        }
    }
    found
}

#[test]
fn member_disturbed_at_each_call_while_it_gets_a_new_root() {
    disturb_a_member(
        "akmd renew",
        &["a", "b", "c"],
        &["asr", "renew", "line", "--suspect"],
        &["a", "b", "c"],
    );
}

#[test]
fn member_disturbed_at_each_call_while_another_joins() {
    disturb_a_member("akmd add", &["a", "b"], &["asr", "add", "line", "c"], &["a", "b", "c"]);
}
