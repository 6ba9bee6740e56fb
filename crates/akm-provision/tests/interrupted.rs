//! Ceremonies that are killed with SIGKILL, at every place where it can matter, and gone on with.
//!
//! Whatever was killed, `akm provision --resume` or the same command again ends in exactly one node
//! with exactly one provisioning relationship, and in an element without orphans. On the module's side
//! `akm` is killed at each call that changes a disk or reaches others; on the target's side the scripts
//! of the installation at each of their programs, and `akmd` at each call that changes a disk.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use akm_core::enrolment::Preparation;
use support::plant::{Done, Plant, akmd_program, bytes_of, run};
use support::strace::{Call, DURABLE, OUTWARD, Saboteur, calls_in, killed_at, killing, logging, under};
use support::whole::{Snapshot, check_one_node, check_store, query, roots};

/// The node of all these ceremonies, and the directory of its target.
const NODE: &str = "node";

/// A module, and a stack that can be told when to die.
struct Scene {
    plant: Plant,
    saboteur: Saboteur,
}

impl Scene {
    fn new() -> Self {
        let plant = Plant::new();
        let saboteur = Saboteur::new(plant.place(), &akmd_program());
        Self { plant, saboteur }
    }

    fn ceremony(&self, more: &[&str]) -> Command {
        let (target, stack) = (self.plant.target(NODE), self.saboteur.stack());
        let mut arguments = vec!["provision", &target, "--name", NODE, "--stack", &stack];
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

    fn resume(&self) -> Done {
        self.plant.akm(&["provision", "--resume"])
    }

    /// Goes on after a kill, in one of the two ways, until there is a node.
    #[track_caller]
    fn go_on(&self, n: usize) {
        // The two ways take turns, so that both are tried in every step.
        let done = if n.is_multiple_of(2) { run(&mut self.ceremony(&[])) } else { self.resume() };
        let nodes = || query::<i64>(&self.plant, "SELECT count(*) FROM nodes");
        match done.code {
            Some(0) => {}
            // Nothing was saved, so there is nothing to resume.
            Some(3) if nodes() == 0 => drop(run(&mut self.ceremony(&[])).expect(0)),
            // It was over already.
            Some(3) => {}
            _ => panic!("after kill {n}: {done:#?}"),
        }
    }
}

/// A program that was to be killed was.
#[track_caller]
fn assert_killed(done: &Done, call: &Call) {
    assert_eq!(done.code, None, "not killed at {call:?}: {done:#?}");
}

/// The calls of `akm` between the ends of two steps of an undisturbed ceremony.
fn calls_of_steps(after: u8, until: u8) -> Vec<Call> {
    let scene = Scene::new();
    let log = scene.plant.place().join("calls");
    run(&mut under(&logging(&format!("{DURABLE},{OUTWARD},write"), &log), &scene.ceremony(&[]))).expect(0);
    let mut step = 0;
    let mut calls = calls_in(&log);
    calls.retain(|call| {
        if call.kind == "write" {
            let told = call.text.split_once("\"step ").and_then(|(_, rest)| rest[..1].parse().ok());
            step = told.unwrap_or(step);
            return false;
        }
        step >= after && (step < until || until == 5)
    });
    assert_eq!(step, 5, "all steps are told");
    calls
}

/// Kills `akm` at each of its calls between the ends of two steps.
fn kill_the_module(after: u8, until: u8, mut look: impl FnMut(&Scene)) {
    let calls = calls_of_steps(after, until);
    assert!(!calls.is_empty());
    eprintln!("akm between the ends of steps {after} and {until}: {} kills", calls.len());
    for (n, call) in calls.iter().enumerate() {
        let scene = Scene::new();
        assert_killed(&killed_at(call, &scene.ceremony(&[])), call);
        look(&scene);
        scene.go_on(n);
        check_one_node(&scene.plant, NODE);
    }
}

#[test]
fn module_killed_in_steps_1_and_2_create_and_save_has_nothing_or_everything() {
    let (mut nothing, mut everything) = (0, 0);
    kill_the_module(0, 2, |scene| {
        assert!(!scene.plant.dir(NODE).exists(), "the target is not touched before all is saved");
        let count = |sql: &str| query::<i64>(&scene.plant, &format!("SELECT count(*) FROM {sql}"));
        let nodes = count("nodes WHERE status = 'provisioning'");
        let secrets = "generations WHERE element_root NOT NULL AND tree_root NOT NULL AND header NOT NULL";
        assert_eq!(count(secrets), nodes);
        assert_eq!(count("relationship_members WHERE state = 'pending'"), 2 * nodes);
        assert_eq!(count("ceremonies WHERE completed = 2"), nodes);
        if nodes == 0 {
            nothing += 1;
        } else {
            everything += 1;
        }
    });
    assert!(nothing > 0 && everything > 0, "{nothing} and {everything}");
}

#[test]
fn module_killed_in_step_3_install() {
    kill_the_module(2, 3, |_| {});
}

#[test]
fn module_killed_in_step_4_store() {
    kill_the_module(3, 4, |_| {});
}

#[test]
fn module_killed_in_step_5_verify() {
    kill_the_module(4, 5, |_| {});
}

/// Programs in front of those that the scripts at the target run. The `n`-th one kills the script and
/// all that it started; `tar` only when half of the archive has come.
struct Tools {
    place: PathBuf,
}

impl Tools {
    const NAMES: [&str; 8] = ["sh", "rm", "mkdir", "tar", "chmod", "sync", "mv", "ln"];

    fn new(plant: &Plant) -> Self {
        let place = plant.place().join("tools");
        fs::create_dir(&place).unwrap();
        let script = format!(
            "#!/bin/sh\n\
             tool=${{0##*/}}\n\
             echo \"$tool\" >>'{place}/.calls'\n\
             count=0\n\
             while read -r _; do count=$((count + 1)); done <'{place}/.calls'\n\
             read -r when <'{place}/.when'\n\
             [ \"$tool\" = sh ] || PATH='{path}'\n\
             if [ \"$count\" = \"$when\" ]; then\n\
             case $tool in\n\
             sh) kill -KILL $$ ;;\n\
             tar) head -c 1500 | tar \"$@\" ;;\n\
             esac\n\
             kill -KILL 0\n\
             fi\n\
             [ \"$tool\" = sh ] && exec setsid /bin/sh \"$@\"\n\
             exec \"$tool\" \"$@\"\n",
            place = place.display(),
            path = std::env::var("PATH").unwrap(),
        );
        for name in Self::NAMES {
            fs::write(place.join(name), &script).unwrap();
            fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { place }
    }

    fn run(&self, command: &mut Command, kill_at: usize) -> Done {
        fs::write(self.place.join(".calls"), "").unwrap();
        fs::write(self.place.join(".when"), format!("{kill_at}\n")).unwrap();
        run(command.env("PATH", format!("{}:{}", self.place.display(), std::env::var("PATH").unwrap())))
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.place.join(".calls")).unwrap().lines().count()
    }
}

#[test]
fn target_killed_in_each_script_of_the_installation() {
    let scene = Scene::new();
    let tools = Tools::new(&scene.plant);
    let begin = Snapshot::take(&scene.plant, &[]);
    let mut steps = Vec::new();
    for n in 1.. {
        let killed = tools.run(&mut scene.ceremony(&[]), n);
        if killed.code == Some(0) {
            assert!(tools.calls() < n, "the kill at {n} was not noticed");
            eprintln!("scripts at the target: {} kills", n - 1);
            break;
        }
        // Before step 1 nothing is changed, so there is nothing to go on with.
        assert!(matches!(killed.code, Some(1 | 6)), "{killed:?}");
        steps.push(killed.stdout.lines().filter(|line| line.starts_with("step ")).count());
        scene.go_on(n);
        check_one_node(&scene.plant, NODE);
        begin.restore(&scene.plant);
        fs::remove_dir_all(scene.plant.dir(NODE)).unwrap();
    }
    for completed in [0, 2, 3, 4] {
        assert!(steps.contains(&completed), "none after step {completed}: {steps:?}");
    }
}

/// Kills a command of `akmd` at each of its durable calls within a ceremony that was cut off right
/// before.
fn kill_the_target(command: &str, options: &[&str]) {
    let scene = Scene::new();
    let with =
        |more: Vec<String>| options.iter().map(|option| (*option).to_owned()).chain(more).collect::<Vec<_>>();
    // Before it has done anything: the first file that it opens is a library.
    let at_begin = Call { kind: "openat".to_owned(), number: 1, text: String::new() };
    scene.saboteur.order(command, &killing(&at_begin));
    run(&mut scene.ceremony(&[])).expect(6);
    let begin = Snapshot::take(&scene.plant, &[NODE]);

    let log = scene.plant.place().join("calls");
    scene.saboteur.order(command, &with(logging(DURABLE, &log)));
    scene.resume().expect(0);
    let calls = calls_in(&log);
    check_one_node(&scene.plant, NODE);
    assert!(!calls.is_empty());
    eprintln!("akmd {command}: {} kills", calls.len());
    for (n, call) in calls.iter().enumerate() {
        begin.restore(&scene.plant);
        scene.saboteur.order(command, &with(killing(call)));
        let killed = scene.resume();
        // The module cannot know whether the node was killed or the network failed.
        assert!(matches!(killed.code, Some(6 | 7)), "{call:?}: {killed:#?}");
        assert!(!scene.saboteur.waits_for(command), "akmd {command} was run");
        scene.go_on(n);
        check_one_node(&scene.plant, NODE);
    }
}

#[test]
fn target_killed_in_step_4_store_while_it_prepares() {
    kill_the_target("prepare", &[]);
}

#[test]
fn target_killed_in_step_4_store_while_it_enrols() {
    kill_the_target("enroll", &[]);
}

#[test]
fn target_killed_in_step_5_verify_while_the_stack_starts_and_answers() {
    // The stack that goes on in the background is followed, and not waited for.
    kill_the_target("run", &["-f", "-D"]);
}

#[test]
fn target_killed_in_step_5_verify_before_the_stack_is_in_the_background() {
    let scene = Scene::new();
    // It asks whether a stack runs already, starts one, and asks again until that answers.
    let begin = Snapshot::take(&scene.plant, &[]);
    for number in 1..=2 {
        let call = Call { kind: "connect".to_owned(), number, text: String::new() };
        scene.saboteur.order("run", &killing(&call));
        run(&mut scene.ceremony(&[])).expect(6);
        scene.go_on(number);
        check_one_node(&scene.plant, NODE);
        begin.restore(&scene.plant);
        fs::remove_dir_all(scene.plant.dir(NODE)).unwrap();
    }
}

#[test]
fn target_killed_while_it_is_enrolled_again_is_the_old_node_or_the_new_one() {
    let scene = Scene::provisioned();
    let (old, _) = check_one_node_after_start(&scene.plant);
    let begin = Snapshot::take(&scene.plant, &[NODE]);
    let log = scene.plant.place().join("calls");
    scene.saboteur.order("enroll", &logging(DURABLE, &log));
    run(&mut scene.ceremony(&["--again"])).expect(0);
    let calls = calls_in(&log);
    eprintln!("akmd enroll for a device that is a node: {} kills", calls.len());
    let (mut was_old, mut was_new) = (0, 0);
    for (n, call) in calls.iter().enumerate() {
        begin.restore(&scene.plant);
        scene.saboteur.order("enroll", &killing(call));
        run(&mut scene.ceremony(&["--again"])).expect(6);

        scene.plant.start(NODE);
        let found = scene.plant.status(NODE)["akm_id"].as_str().unwrap().to_owned();
        if found == old {
            was_old += 1;
            // The name is the old node's until the new one is active.
            scene.plant.akm(&["verify", NODE]).expect(0);
        } else {
            was_new += 1;
        }
        scene.go_on(n);
        let (new, _) = check_one_node(&scene.plant, NODE);
        assert_ne!(new, old);
        assert!(found == old || found == new, "{found} is neither {old} nor {new}");
    }
    assert!(was_old > 0 && was_new > 0, "{was_old} and {was_new}");
}

#[test]
fn module_killed_while_it_makes_a_device_into_another_node() {
    let scene = Scene::provisioned();
    let old = query::<Vec<u8>>(&scene.plant, "SELECT id FROM nodes");
    let begin = Snapshot::take(&scene.plant, &[NODE]);
    let log = scene.plant.place().join("calls");
    scene.plant.start(NODE);
    run(&mut under(&logging(DURABLE, &log), &scene.ceremony(&["--again"]))).expect(0);
    let calls = calls_in(&log);
    eprintln!("akm provision --again: {} kills", calls.len());
    for call in &calls {
        begin.restore(&scene.plant);
        scene.plant.start(NODE);
        assert_killed(&killed_at(call, &scene.ceremony(&["--again"])), call);
        let done = scene.resume();
        let present = || query::<Vec<u8>>(&scene.plant, "SELECT id FROM nodes WHERE status = 'active'");
        if present() == old {
            // Nothing had been saved: the old node is untouched.
            assert_eq!(done.code, Some(3), "{done:#?}");
            scene.plant.akm(&["verify", NODE]).expect(0);
            run(&mut scene.ceremony(&["--again"])).expect(0);
        } else {
            assert!(matches!(done.code, Some(0 | 3)), "after the kill at {call:?}: {done:#?}");
        }
        assert_ne!(present(), old);
        check_one_node(&scene.plant, NODE);
    }
}

#[test]
fn module_killed_while_it_comes_to_be() {
    let log = Plant::bare();
    let log = log.place().join("calls");
    let init = ["init", "--name", "plant"];
    run(&mut under(&logging(DURABLE, &log), &Plant::bare().akm_command(&init))).expect(0);
    let calls = calls_in(&log);
    eprintln!("akm init: {} kills", calls.len());
    assert!(!calls.is_empty());
    for call in &calls {
        let plant = Plant::bare();
        assert_killed(&killed_at(call, &plant.akm_command(&init)), call);
        let again = plant.akm(&init);
        assert!(matches!(again.code, Some(0 | 3)), "after the kill at {call:?}: {again:#?}");
        assert_eq!(plant.nodes().as_array().map(Vec::len), Some(1), "the root");
        check_store(&plant);
    }
}

#[test]
fn module_killed_while_it_removes_a_node() {
    let scene = Scene::provisioned();
    let begin = Snapshot::take(&scene.plant, &[NODE]);
    let log = scene.plant.place().join("calls");
    let remove = scene.plant.akm_command(&["node", "remove", NODE]);
    scene.plant.start(NODE);
    run(&mut under(&logging(&format!("{DURABLE},{OUTWARD}"), &log), &remove)).expect(0);
    let calls = calls_in(&log);
    eprintln!("akm node remove: {} kills", calls.len());
    for call in &calls {
        begin.restore(&scene.plant);
        scene.plant.start(NODE);
        assert_killed(&killed_at(call, &remove), call);
        let again = scene.plant.akm(&["node", "remove", NODE]);
        // Usage: there is no such node any more.
        assert!(matches!(again.code, Some(0 | 2)), "after the kill at {call:?}: {again:#?}");
        assert_eq!(scene.plant.nodes().as_array().map(Vec::len), Some(1), "the root");
        check_store(&scene.plant);
        assert!(!scene.plant.dir(NODE).exists(), "after the kill at {call:?}");
    }
}

#[test]
fn device_killed_while_it_is_reset_is_the_node_or_nobodys() {
    let scene = Scene::provisioned();
    let begin = Snapshot::take(&scene.plant, &[NODE]);
    let log = scene.plant.place().join("calls");
    let reset = |options: &[String]| {
        let mut command = Command::new(akmd_program());
        command.args(["reset", "--force", "--dir"]).arg(scene.plant.dir(NODE));
        run(&mut under(options, &command))
    };
    reset(&logging(DURABLE, &log)).expect(0);
    let calls = calls_in(&log);
    eprintln!("akmd reset: {} kills", calls.len());
    let (mut node, mut nobodys) = (0, 0);
    for call in &calls {
        begin.restore(&scene.plant);
        assert_killed(&reset(&killing(call)), call);
        let said = scene.plant.akmd(NODE, &["enroll", "--prepare"]).expect(0).stdout;
        let said = said.trim_end().strip_prefix("akm-prepare:").expect("the tag").to_owned();
        let preparation = Preparation::parse(&bytes_of(&said.into())).expect("a preparation");
        assert_eq!(preparation.leftovers, [], "after the kill at {call:?}");
        match preparation.node {
            Some(_) => {
                node += 1;
                check_one_node_after_start(&scene.plant);
            }
            None => nobodys += 1,
        }
        reset(&logging(DURABLE, &log)).expect(0);
        assert!(roots(&scene.plant, NODE).iter().all(|root| root == "device"), "after the kill at {call:?}");
    }
    assert!(node > 0 && nobodys > 0, "{node} and {nobodys}");
}

/// Starts the stack, then looks at everything.
fn check_one_node_after_start(plant: &Plant) -> (String, String) {
    plant.start(NODE);
    check_one_node(plant, NODE)
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
        let (target, stack) = (scene.plant.target(NODE), scene.saboteur.stack());
        let other = ["provision", &target, "--name", second, "--stack", &stack];
        let done = at_once(vec![scene.ceremony(&[]), scene.plant.akm_command(&other)]);
        let mut codes: Vec<_> = done.iter().map(|done| done.code).collect();
        codes.sort_unstable();
        assert!(codes == [Some(0), Some(3)] || codes == [Some(0), Some(8)], "{done:#?}");
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
            (Some(0), Some(1 | 2)) => assert_eq!(plant.asrs().as_array().map(Vec::len), Some(0)),
            _ => panic!("{done:#?}"),
        }
        check_store(&plant);
    }
}
