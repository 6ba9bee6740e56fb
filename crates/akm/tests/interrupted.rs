//! Ceremonies that are disturbed at every durable call, and gone on with.
//!
//! Each call that changes a file, whoever makes it (the module, the scripts at the target, their tools,
//! `akmd`), fails, is cut short or is the last one; the module is also killed wherever it reaches another
//! process, and each program at the target before it begins. Then `akm provision --resume` or the same
//! command again ends in exactly one node with exactly one provisioning relationship, and in an element
//! without orphans.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use akm_core::enrolment::Preparation;
use support::faults::{Counted, Order, Point, Run, Sweep};
use support::plant::{Done, Plant, akmd_program, bytes_of, run};
use support::whole::{Snapshot, check_one_node, check_store, query, roots};

/// The node of all these ceremonies, and the directory of its target.
const NODE: &str = "node";

/// What a node keeps, by parts of their paths.
const RECORDS: [&str; 8] = [
    "home/store.db",
    "home/store.db-wal",
    "state/element",
    "state/identity",
    "/g1.installed",
    "/g1.copy",
    "/g1.place",
    "/g1.active",
];

/// A module, and a stack that is quickly installed.
struct Scene {
    plant: Plant,
    stack: String,
}

impl Scene {
    fn new() -> Self {
        let plant = Plant::in_memory();
        plant.akm(&["init", "--name", "plant"]).expect(0);
        let stack = plant.small_stack();
        Self { plant, stack }
    }

    fn ceremony(&self, more: &[&str]) -> Command {
        let target = self.plant.target(NODE);
        let mut arguments = vec!["provision", &target, "--name", NODE, "--stack", &self.stack];
        arguments.extend(more);
        self.plant.akm_command(&arguments)
    }

    /// A ceremony that ends well, with the stack stopped.
    fn provisioned() -> Self {
        let scene = Self::new();
        run(&mut scene.ceremony(&[])).expect(0);
        scene.plant.akmd(NODE, &["stop"]).expect(0);
        scene
    }

    fn undisturbed(&self, counted: Counted, command: &mut Command) -> Run {
        let undisturbed = Run::undisturbed(self.plant.place(), counted);
        run(undisturbed.on(command)).expect(0);
        undisturbed
    }

    /// Runs a command that is disturbed, and sees to it that it says what it should.
    #[track_caller]
    fn disturbed(&self, point: &Point, command: &mut Command) -> (Done, Run) {
        let disturbed = point.run(self.plant.place());
        let done = run(disturbed.on(command));
        if matches!(point.order, Order::AllDie | Order::Tear) {
            self.plant.kill(NODE);
        }
        disturbed.mend();
        check_told(&self.plant, point, &done);
        (done, disturbed)
    }

    fn resume(&self) -> Done {
        self.plant.akm(&["provision", "--resume"])
    }

    /// Goes on after a fault, in one of the two ways, until there is a node.
    #[track_caller]
    fn go_on(&self, point: &Point) {
        // The two ways take turns, so that both are tried in every step.
        let done =
            if point.call.number.is_multiple_of(2) { run(&mut self.ceremony(&[])) } else { self.resume() };
        let nodes = || query::<i64>(&self.plant, "SELECT count(*) FROM nodes");
        match done.code {
            Some(0) => {}
            // Nothing was saved, so there is nothing to resume.
            Some(3) if nodes() == 0 => drop(run(&mut self.ceremony(&[])).expect(0)),
            // It was over already; nobody restarts a local stack after the power was gone.
            Some(3) => {
                let stack = self.plant.akmd(NODE, &["run", "--detach"]);
                assert!(matches!(stack.code, Some(0 | 3)), "after {point:?}: {stack:#?}");
            }
            _ => panic!("after {point:?}: {done:#?}"),
        }
    }
}

/// A command that was not killed itself ends with a code of its own and one line that names what failed, with its hints.
#[track_caller]
fn check_told(plant: &Plant, point: &Point, done: &Done) {
    match done.code {
        None => assert!(point.order.kills(), "killed by {point:?}: {done:#?}"),
        Some(0) => {}
        Some(1 | 4 | 6 | 7) => {
            let place = plant.place().to_str().expect("a path in UTF-8");
            // As `akm` begins its line, or the program of the stack.
            let told = ["error: ", "akmd: "].into_iter().find_map(|begin| done.stderr.rsplit_once(begin));
            let (_, told) = told.unwrap_or_else(|| panic!("{point:?}: {done:#?}"));
            let names = told.contains(place) || told.contains("the store");
            let hints = told.lines().skip(1).all(|line| line.starts_with("  hint: "));
            assert!(names && hints, "names no file at {point:?}: {done:#?}");
        }
        Some(_) => panic!("{point:?}: {done:#?}"),
    }
    let log = fs::read_to_string(plant.dir(NODE).join("run/akmd.log")).unwrap_or_default();
    assert!(!done.stderr.contains("panicked") && !log.contains("panicked"), "{point:?}: {done:#?}\n{log}");
}

/// Disturbs a whole ceremony at each of its calls.
fn disturb_a_ceremony(always: &[Order], in_turn: &[Order], counted: Counted) {
    let scene = Scene::new();
    let begin = Snapshot::take(&scene.plant, &[]);
    let undisturbed = scene.undisturbed(counted, &mut scene.ceremony(&[]));
    let sweep = Sweep::over("akm provision", &undisturbed, counted, &RECORDS);
    for program in ["akm provision", "akmd enroll", "akmd run", "tar", "mv", "ln"] {
        assert!(sweep.calls().iter().any(|call| call.program == program), "{program} is counted");
    }
    sweep.carry_out(always, in_turn, |point| {
        scene.plant.kill(NODE);
        begin.restore(&scene.plant);
        let _ = fs::remove_dir_all(scene.plant.dir(NODE));
        let (done, disturbed) = scene.disturbed(point, &mut scene.ceremony(&[]));
        check_steps_1_and_2(&scene.plant, point);
        if done.code != Some(0) {
            scene.go_on(point);
        }
        check_one_node(&scene.plant, NODE);
        disturbed.is_carried_out()
    });
}

/// Create and save leave all or nothing, and the target is not touched before all is saved.
#[track_caller]
fn check_steps_1_and_2(plant: &Plant, point: &Point) {
    let count = |sql: &str| query::<i64>(plant, &format!("SELECT count(*) FROM {sql}"));
    let nodes = count("nodes");
    assert!(nodes == 1 || !plant.dir(NODE).exists(), "{point:?}");
    assert_eq!(count("ceremonies WHERE completed >= 2"), nodes, "{point:?}");
    if count("ceremonies WHERE completed = 2") == 1 {
        let secrets = "generations WHERE element_root NOT NULL AND tree_root NOT NULL AND host_keys NOT NULL";
        assert_eq!(count(secrets), 1, "{point:?}");
        assert_eq!(count("relationship_members WHERE state = 'pending'"), 2, "{point:?}");
    }
}

#[test]
fn ceremony_killed_at_each_call_ends_in_one_node() {
    disturb_a_ceremony(&[Order::Die], &[], Counted::FilesAndProcesses);
}

#[test]
fn ceremony_whose_calls_fail_one_by_one_ends_in_one_node() {
    disturb_a_ceremony(&[], &[Order::Fail, Order::FailOtherwise], Counted::Files);
}

#[test]
fn ceremony_whose_writes_are_cut_short_ends_in_one_node() {
    disturb_a_ceremony(&[], &[Order::Tear, Order::Full], Counted::Files);
}

#[test]
fn ceremony_in_which_every_write_is_short_does_not_notice() {
    let scene = Scene::new();
    let undisturbed = scene.undisturbed(Counted::Files, &mut scene.ceremony(&[]));
    let sweep = Sweep::over("every write short", &undisturbed, Counted::Files, &RECORDS);
    let first = sweep.calls().iter().find(|call| call.bytes > 1).expect("a write").number;
    let begin = Scene::new();
    sweep.only(|call| call.number == first).carry_out(&[Order::Short], &[], |point| {
        let (done, disturbed) = begin.disturbed(point, &mut begin.ceremony(&[]));
        done.expect(0);
        check_one_node(&begin.plant, NODE);
        disturbed.is_carried_out()
    });
}

#[test]
fn device_made_into_another_node_is_the_old_one_or_the_new_one() {
    let scene = Scene::provisioned();
    let (old, _) = check_one_node_after_start(&scene.plant);
    let begin = Snapshot::take(&scene.plant, &[NODE]);
    scene.plant.start(NODE);
    let counted = Counted::FilesAndProcesses;
    let undisturbed = scene.undisturbed(counted, &mut scene.ceremony(&["--again"]));
    let sweep = Sweep::over("akm provision --again", &undisturbed, counted, &RECORDS);
    let (mut was_old, mut was_new) = (0, 0);
    let in_turn = [Order::Fail, Order::Die, Order::Tear, Order::AllDie, Order::Full, Order::FailOtherwise];
    sweep.carry_out(&[], &in_turn, |point| {
        begin.restore(&scene.plant);
        scene.plant.start(NODE);
        let (done, disturbed) = scene.disturbed(point, &mut scene.ceremony(&["--again"]));
        if done.code != Some(0) {
            scene.plant.akmd(NODE, &["stop"]).expect(0);
            scene.plant.start(NODE);
            let found = scene.plant.status(NODE)["akm_id"].as_str().unwrap().to_owned();
            if found == old {
                was_old += 1;
                // The name is the old node's until the new one is active.
                scene.plant.akm(&["verify", NODE]).expect(0);
            } else {
                was_new += 1;
            }
            if scene.resume().code == Some(3) && found == old {
                // Nothing had been saved.
                run(&mut scene.ceremony(&["--again"])).expect(0);
            }
        }
        let (new, _) = check_one_node(&scene.plant, NODE);
        assert_ne!(new, old, "{point:?}");
        disturbed.is_carried_out()
    });
    assert!(was_old > 0 && was_new > 0, "{was_old} and {was_new}");
}

/// Starts the stack, then looks at everything.
fn check_one_node_after_start(plant: &Plant) -> (String, String) {
    plant.start(NODE);
    check_one_node(plant, NODE)
}

#[test]
fn module_that_comes_to_be_is_whole_or_can_be_made() {
    let plant = Plant::in_memory();
    let init = ["init", "--name", "plant"];
    let undisturbed = Run::undisturbed(plant.place(), Counted::FilesAndProcesses);
    run(undisturbed.on(&mut plant.akm_command(&init))).expect(0);
    let files = ["home/vault.key", "home/locks/schema.lock", "home/store.db", "home/store.db-wal"];
    let sweep = Sweep::over("akm init", &undisturbed, Counted::FilesAndProcesses, &files);
    let orders = [Order::Die, Order::Fail, Order::FailOtherwise, Order::Tear, Order::Full];
    sweep.carry_out(&orders, &[], |point| {
        let _ = fs::remove_dir_all(plant.home());
        let disturbed = point.run(plant.place());
        let done = run(disturbed.on(&mut plant.akm_command(&init)));
        check_told(&plant, point, &done);
        let again = plant.akm(&init);
        assert!(matches!(again.code, Some(0 | 3)), "after {point:?}: {again:#?}");
        assert_eq!(plant.nodes().as_array().map(Vec::len), Some(1), "the root");
        check_store(&plant);
        disturbed.is_carried_out()
    });
}

#[test]
fn node_that_is_removed_is_gone_or_can_be_removed() {
    let scene = Scene::provisioned();
    let begin = Snapshot::take(&scene.plant, &[NODE]);
    let remove = || scene.plant.akm_command(&["node", "remove", NODE]);
    let counted = Counted::FilesAndProcesses;
    let undisturbed = Run::undisturbed(scene.plant.place(), counted);
    scene.plant.start(NODE);
    run(undisturbed.on(&mut remove())).expect(0);
    let sweep = Sweep::over("akm node remove", &undisturbed, counted, &["home/store.db-wal", "node/state"]);
    sweep.carry_out(&[Order::Die], &[Order::Fail, Order::Tear, Order::Full], |point| {
        begin.restore(&scene.plant);
        scene.plant.start(NODE);
        let (done, disturbed) = scene.disturbed(point, &mut remove());
        if done.code != Some(0) {
            let again = run(&mut remove());
            // There may be no such node any more.
            assert!(matches!(again.code, Some(0 | 10)), "after {point:?}: {again:#?}");
        }
        assert_eq!(scene.plant.nodes().as_array().map(Vec::len), Some(1), "the root");
        check_store(&scene.plant);
        if scene.plant.dir(NODE).exists() {
            // Gone is what counts; what is left of the stack is told, and in nobody's way.
            let is_told = done.stderr.contains("could not be taken off");
            let is_empty = fs::read_dir(scene.plant.dir(NODE)).unwrap().next().is_none();
            assert!(done.code == Some(0) && (is_told || is_empty), "after {point:?}: {done:#?}");
            scene.plant.kill(NODE);
            run(&mut scene.ceremony(&[])).expect(0);
            check_one_node(&scene.plant, NODE);
        }
        disturbed.is_carried_out()
    });
}

#[test]
fn device_that_is_reset_is_the_node_or_nobodys() {
    let scene = Scene::provisioned();
    let begin = Snapshot::take(&scene.plant, &[NODE]);
    let reset = || {
        let mut command = Command::new(akmd_program());
        command.args(["reset", "--force", "--dir"]).arg(scene.plant.dir(NODE));
        command
    };
    let undisturbed = scene.undisturbed(Counted::Files, &mut reset());
    let files = ["state/disowned", "state/identity", "state/element", "/g1.place"];
    let sweep = Sweep::over("akmd reset", &undisturbed, Counted::Files, &files);
    let (mut node, mut nobodys) = (0, 0);
    let orders = [Order::Die, Order::Fail, Order::FailOtherwise, Order::Tear, Order::Full];
    sweep.carry_out(&orders, &[], |point| {
        begin.restore(&scene.plant);
        let (_, disturbed) = scene.disturbed(point, &mut reset());
        let said = scene.plant.akmd(NODE, &["enroll", "--prepare"]).expect(0).stdout;
        let said = said.trim_end().strip_prefix("akm-prepare:").expect("the tag").to_owned();
        let preparation = Preparation::parse(&bytes_of(&said.into())).expect("a preparation");
        assert_eq!(preparation.leftovers, [], "after {point:?}");
        match preparation.node {
            Some(_) => {
                node += 1;
                check_one_node_after_start(&scene.plant);
            }
            None => nobodys += 1,
        }
        run(&mut reset()).expect(0);
        assert!(roots(&scene.plant, NODE).iter().all(|root| root == "device"), "after {point:?}");
        disturbed.is_carried_out()
    });
    assert!(node > 0 && nobodys > 0, "{node} and {nobodys}");
}

/// Starts several commands at once and waits for all.
fn at_once(commands: Vec<Command>) -> Vec<Done> {
    let running: Vec<_> = commands
        .into_iter()
        .map(|mut command| {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("akm can be started")
        })
        .collect();
    running
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("akm can be waited for");
            Done {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        })
        .collect()
}

#[test]
fn two_ceremonies_at_one_target_at_the_same_time_make_one_node() {
    for second in [NODE, "other"] {
        let scene = Scene::new();
        let target = scene.plant.target(NODE);
        let other = ["provision", &target, "--name", second, "--stack", &scene.stack];
        let done = at_once(vec![scene.ceremony(&[]), scene.plant.akm_command(&other)]);
        let mut codes: Vec<_> = done.iter().map(|done| done.code).collect();
        codes.sort_unstable();
        // Who asks for another name finds something else there.
        let there = if second == NODE { 3 } else { 9 };
        assert!(codes == [Some(0), Some(there)] || codes == [Some(0), Some(8)], "{done:#?}");
        let name = query::<String>(&scene.plant, "SELECT name FROM nodes");
        assert!(name == NODE || name == second);
        plant_has_one(&scene.plant, &name);
    }
}

/// Like [`check_one_node`] for a node whose directory is not called like it.
fn plant_has_one(plant: &Plant, name: &str) {
    assert_eq!(query::<i64>(plant, "SELECT count(*) FROM nodes"), 1);
    plant.akm(&["verify", name]).expect(0);
    check_store(plant);
    if name == NODE {
        check_one_node(plant, NODE);
    }
}

#[test]
fn different_commands_on_the_same_nodes_at_the_same_time_wait_or_are_refused() {
    let plant = Plant::with_nodes(&["a", "b"]);
    for _ in 0..3 {
        let commands: &[&[&str]] = &[
            &["verify", "a"],
            &["asr", "create", "one", "a", "b"],
            &["verify", "--all"],
            &["asr", "create", "two", "b", "a"],
            &["asr", "create", "one", "a", "b"],
            &["node", "show", "a"],
        ];
        let done = at_once(commands.iter().map(|arguments| plant.akm_command(arguments)).collect());
        for (arguments, done) in commands.iter().zip(&done) {
            assert!(matches!(done.code, Some(0 | 3 | 8)), "{arguments:?}: {done:#?}");
        }
        assert!(done.iter().any(|done| done.code == Some(0)));
    }
    for asr in ["one", "two"] {
        let code = plant.akm(&["asr", "create", asr, "a", "b"]).code;
        assert!(matches!(code, Some(0 | 3)), "{code:?}");
        let listener = plant.listen("b", asr, 1);
        plant.send("a", asr, "hello");
        assert_eq!(listener.texts(), ["hello"]);
    }
    plant.akm(&["verify", "--all"]).expect(0);
    check_store(&plant);
    assert_eq!(query::<i64>(&plant, "SELECT count(*) FROM relationships WHERE kind = 2"), 2);
}

#[test]
fn a_node_that_is_removed_while_it_becomes_a_member_is_one_or_the_other() {
    for _ in 0..3 {
        let plant = Plant::with_nodes(&["a", "b"]);
        let commands: [&[&str]; 2] = [&["node", "remove", "a"], &["asr", "create", "line", "a", "b"]];
        let done = at_once(commands.iter().map(|arguments| plant.akm_command(arguments)).collect());
        match (done[0].code, done[1].code) {
            // It was a member already.
            (Some(1), Some(0)) => drop(plant.akm(&["asr", "show", "line"]).expect(0)),
            // It was removed, or was about to be.
            (Some(0), Some(1 | 2 | 10)) => assert_eq!(plant.asrs().as_array().map(Vec::len), Some(0)),
            _ => panic!("{done:#?}"),
        }
        check_store(&plant);
    }
}
