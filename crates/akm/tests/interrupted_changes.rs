//! Changes of an ASR that are disturbed at their durable calls, at the module and at a member: all of them, or, where a
//! name says so, those of the record or of the erasure, and all with `AKM_SWEEP=full`.
//!
//! The same command again, after a stack that had ended was started again, ends with the change active at all members,
//! each with one root and one generation, and with messages that flow.

mod support {
    pub(crate) mod faults;
    pub(crate) mod foreground;
    pub(crate) mod plant;
    pub(crate) mod whole;
}

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::faults::{Call, Counted, Order, Run, Sweep, everything};
use support::foreground::Stack;
use support::plant::{Done, Plant, run, wait_until};
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
    check_asr(plant, members);
    check_devices(plant, &NODES, members);
}

/// The module's record: the ASR is active between so many, who talk; nothing is parked, and no secret is left.
#[track_caller]
fn check_asr(plant: &Plant, members: &[&str]) {
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
    check_secrets(plant, 1);
}

/// The store is sound, and holds of ASRs that have come to an end nothing but so many element roots.
#[track_caller]
fn check_secrets(plant: &Plant, roots: i64) {
    check_store(plant);
    let of_asrs = "FROM generations g JOIN relationships r ON r.id = g.relationship WHERE r.kind = 2";
    let left = format!("SELECT count(*) {of_asrs} AND (g.tree_root IS NOT NULL OR g.host_keys IS NOT NULL)");
    assert_eq!(query::<i64>(plant, &left), 0);
    let left = format!("SELECT count(DISTINCT g.element_version) {of_asrs} AND g.element_root IS NOT NULL");
    assert_eq!(query::<i64>(plant, &left), roots);
}

/// Of these devices the members hold the ASR, and the others nothing of it. Stops their stacks.
#[track_caller]
fn check_devices(plant: &Plant, devices: &[&str], members: &[&str]) {
    for name in devices {
        let is_member = members.contains(name);
        let held = plant.status(name)["relationships"].as_array().expect("a list").len();
        assert_eq!(held, if is_member { 2 } else { 1 }, "at {name}");
        plant.akmd(name, &["stop"]).expect(0);
        let expected = if is_member { 3 } else { 2 };
        assert_eq!(roots(plant, name).len(), expected, "in the element of {name}: {:?}", roots(plant, name));
    }
}

/// Kills the module at each of its calls while it carries out a change.
fn kill_the_module(what: &'static str, before: &[&str], command: &[&str], members: &[&str]) {
    let plant = nodes(before);
    let again = |done: &Done| matches!(done.code, Some(0 | 3));
    kill_the_module_in(what, &plant, &NODES, command, |_, _| true, again, |plant| check(plant, members));
}

/// Kills the module at each of its calls that this accepts, in a plant that is stopped, of which these stacks run; the
/// same command again must end well.
fn kill_the_module_in(
    what: &'static str,
    plant: &Plant,
    running: &[&str],
    command: &[&str],
    accept: impl Fn(&[Call], &Call) -> bool,
    ends_well: impl Fn(&Done) -> bool,
    check: impl Fn(&Plant),
) {
    let devices: Vec<&str> =
        [&NODES[..], &["new"]].concat().into_iter().filter(|name| plant.dir(name).exists()).collect();
    let begin = Snapshot::take(plant, &devices);
    let start = || {
        begin.restore(plant);
        for name in running {
            plant.start(name);
        }
    };
    let undisturbed = std::iter::repeat_with(|| {
        start();
        let undisturbed = Run::undisturbed(plant.place(), Counted::FilesAndProcesses);
        run(undisturbed.on(&mut plant.akm_command(command))).expect(0);
        undisturbed.close();
        check(plant);
        undisturbed
    });
    let undisturbed = undisturbed.take(5).min_by_key(Run::counted).expect("runs");
    let sweep = Sweep::over(what, &undisturbed, Counted::FilesAndProcesses, &["store.db", "store.db-wal"]);
    let calls = sweep.calls().to_vec();
    sweep.only(|call| accept(&calls, call)).carry_out(&[Order::Die], &[], |point| {
        start();
        let disturbed = point.run(plant.place());
        let done = run(disturbed.on(&mut plant.akm_command(command)));
        assert!(matches!(done.code, None | Some(0 | 1 | 6)), "{point:?}: {done:#?}");
        // The stack of the device may have been killed in its place: what they do side by side is not in one order.
        if plant.dir("new/state/identity").exists() && plant.akmd("new", &["status"]).code == Some(7) {
            plant.start("new");
        }
        let again = plant.akm(command);
        assert!(ends_well(&again), "after {point:?}: {again:#?}");
        check(plant);
        disturbed.is_carried_out()
    });
}

/// Where the module makes its own record durable; all calls where everything is wanted.
fn records(_: &[Call], call: &Call) -> bool {
    everything()
        || call.program.starts_with("akm ") && call.kind == "sync" && call.path.contains("store.db-wal")
}

#[test]
fn module_killed_where_it_records_a_change_of_policy() {
    let command = ["asr", "policy", "line", "--rotate-frames", "7"];
    let again = |done: &Done| matches!(done.code, Some(0 | 3));
    kill_the_module_in("akm asr policy", &nodes(&NODES), &NODES, &command, records, again, |plant| {
        check(plant, &NODES);
    });
}

#[test]
fn module_killed_where_it_records_the_end_of_an_asr() {
    // The second time there may be no such ASR any more: what is left is done by whatever reaches the members.
    let again = |done: &Done| matches!(done.code, Some(0 | 10));
    kill_the_module_in(
        "akm asr delete",
        &nodes(&NODES),
        &NODES,
        &["asr", "delete", "line"],
        records,
        again,
        |plant| {
            plant.akm(&["verify", "--all"]).expect(0);
            assert_eq!(plant.akm(&["tasks"]).expect(0).stdout, "nothing is parked\n");
            assert_eq!(plant.asrs(), Value::Array(Vec::new()));
            check_secrets(plant, 0);
            check_devices(plant, &NODES, &[]);
        },
    );
}

/// The old device is dead: it keeps what it had, which opens nothing of the new generation.
#[test]
fn module_killed_where_it_records_that_a_device_takes_the_place_of_another() {
    let plant = nodes(&NODES);
    // Empty, so that it can be put back too.
    fs::create_dir(plant.dir("new")).unwrap();
    let (stack, target) = (plant.small_stack(), plant.target("new"));
    let command = ["node", "replace", "c", &target, "--stack", &stack];
    let again = |done: &Done| matches!(done.code, Some(0 | 3));
    let members = ["a", "b", "new"];
    // What comes before is the ceremony, which has sweeps of its own.
    let records = |calls: &[Call], call: &Call| {
        let adopted = calls.iter().rposition(|call| call.path.ends_with("/new/state/identity"));
        let is_after = calls[adopted.expect("it becomes a node")..].contains(call);
        records(calls, call) && call.program.starts_with("akm ") && is_after
    };
    kill_the_module_in("akm node replace", &plant, &["a", "b"], &command, records, again, |plant| {
        assert_eq!(plant.node("c")["target"], target.as_str());
        plant.akm(&["verify", "--all"]).expect(0);
        check_asr(plant, &members);
        check_devices(plant, &members, &members);
        let versions = |name| roots(plant, name).iter().filter(|root| root.ends_with("version 2")).count();
        assert_eq!([versions("a"), versions("b"), versions("new"), versions("c")], [1, 1, 1, 0]);
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

/// Disturbs the stack of `a` at each of its calls while the module carries out a change with it.
fn disturb_a_member(what: &'static str, before: &[&str], command: &[&str], members: &[&str]) {
    let files = ["/g2.installed", "/g2.copy", "/g2.place", "/g2.active"];
    disturb("a", what, before, command, members, &files, |_| true);
}

/// Disturbs the stack of a node at each of its calls that this accepts while the module carries out a change with it.
fn disturb(
    disturbed_node: &str,
    what: &'static str,
    before: &[&str],
    command: &[&str],
    members: &[&str],
    files: &[&str],
    accept: impl Fn(&Call) -> bool,
) {
    let plant = nodes(before);
    let begin = Snapshot::take(&plant, &NODES);
    let others = || {
        begin.restore(&plant);
        for name in NODES.into_iter().filter(|name| *name != disturbed_node) {
            plant.start(name);
        }
    };
    // Of some undisturbed runs the one with the fewest calls: an epoch more or less is a matter of time.
    let undisturbed = std::iter::repeat_with(|| {
        others();
        let undisturbed = Run::undisturbed(plant.place(), Counted::Files);
        let mut stack = Stack::start(&plant, disturbed_node, &undisturbed);
        plant.akm(command).expect(0);
        undisturbed.close();
        plant.akmd(disturbed_node, &["stop"]).expect(0);
        wait_until("the stack has ended", || stack.has_ended());
        undisturbed
    });
    let undisturbed = undisturbed.take(5).min_by_key(Run::counted).expect("runs");
    let sweep = Sweep::over(what, &undisturbed, Counted::Files, files).only(accept);
    sweep.carry_out(&[Order::Die, Order::Fail], &[], |point| {
        others();
        let disturbed = point.run(plant.place());
        let mut stack = Stack::start(&plant, disturbed_node, &disturbed);
        let cut_off = plant.akm(command);
        assert!(matches!(cut_off.code, Some(0 | 6)), "{point:?}: {cut_off:#?}");
        let reached = disturbed.soon_carried_out();
        disturbed.mend();
        if point.order.kills() && reached || stack.has_ended() {
            wait_until("the stack has ended", || stack.has_ended());
            let said = fs::read_to_string(disturbed.output()).unwrap();
            assert!(!said.contains("panicked"), "{point:?}: {said}");
            plant.start(disturbed_node);
        }
        let done = plant.akm(command);
        assert!(matches!(done.code, Some(0 | 3)), "after {point:?}: {done:#?}");
        check(&plant, members);
        assert_eq!(leftovers(&plant.dir(disturbed_node).join("state")), [""; 0], "{point:?}");
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

/// All have acknowledged, so the others begin, and the operator hears what is left to do, and that nothing waits for it.
#[test]
fn a_member_that_dies_before_it_begins_stops_nobody_and_is_told_of_once() {
    let plant = nodes(&NODES);
    let begin = Snapshot::take(&plant, &NODES);
    let start = |counted: &Run| {
        begin.restore(&plant);
        for name in ["a", "b"] {
            plant.start(name);
        }
        Stack::start(&plant, "c", counted)
    };
    let undisturbed = Run::undisturbed(plant.place(), Counted::Files);
    let stack = start(&undisturbed);
    plant.akm(&["asr", "renew", "line"]).expect(0);
    undisturbed.close();
    drop(stack);
    let begins = undisturbed.calls().into_iter().find(|call| call.path.contains("/g2.active"));
    let begins = begins.expect("it records that it begins").number;
    let sweep =
        Sweep::over("akmd begins", &undisturbed, Counted::Files, &[]).only(|call| call.number == begins);
    sweep.carry_out(&[Order::Die], &[], |point| {
        let disturbed = point.run(plant.place());
        let mut stack = start(&disturbed);
        let done = plant.akm(&["asr", "renew", "line"]);
        // When it says hello after its start is drawn, so another of its calls may have had this number.
        let is_begin = |call: &Call| call.number == begins && call.path.contains("/g2.active");
        let reached = disturbed.soon_carried_out() && disturbed.calls().iter().any(is_begin);
        if !reached || done.code != Some(6) {
            return false;
        }
        wait_until("the stack has ended", || stack.has_ended());
        for done in [done, plant.akm(&["asr", "renew", "line"]).expect(6)] {
            assert_eq!(
                done.stderr.matches("generation 2 of ASR line is active; c has it").count(),
                1,
                "{done:?}"
            );
            assert!(!done.stderr.contains("--without-absent"), "{done:?}");
        }
        assert_eq!(plant.relationship("a", "line")["phase"], "Established");
        let tasks = plant.akm(&["tasks", "--json"]).expect(0).json();
        assert_eq!(tasks.as_array().unwrap().len(), 1, "{tasks:#}");
        assert_eq!((&tasks[0]["node"], &tasks[0]["work"]), (&"c".into(), &"activate".into()));
        plant.start("c");
        plant.akm(&["verify", "c"]).expect(0);
        check(&plant, &NODES);
        true
    });
}

/// It dies, or a call of it fails, while it erases what it is no member of any more.
#[test]
fn removed_member_disturbed_at_each_call_while_it_erases() {
    let accept =
        |call: &Call| everything() || call.path.contains("/.erased") || call.path.contains("/element");
    disturb(
        "c",
        "akmd erase",
        &NODES,
        &["asr", "remove", "line", "c"],
        &["a", "b"],
        &["/.erased", "/element"],
        accept,
    );
}
