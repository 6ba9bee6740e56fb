//! Many commands of one module at once, and several modules at one device.
//!
//! Whatever runs beside whatever, each command comes to its end or says why not; what was killed in the
//! middle is gone on with; afterwards store, devices and elements hold exactly what belongs there.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;

use akm_counterparts::ports;
use support::plant::{Done, Plant, run, text_of, wait_until};
use support::whole::{check_store, query, roots};

/// Runs all commands at the same time; how each ended, in the same order.
fn at_once(commands: Vec<Command>) -> Vec<Done> {
    thread::scope(|scope| {
        let running: Vec<_> =
            commands.into_iter().map(|mut command| scope.spawn(move || run(&mut command))).collect();
        running.into_iter().map(|each| each.join().expect("no panic")).collect()
    })
}

/// Runs `akm` with all these arguments at the same time.
fn akm_at_once(plant: &Plant, all: &[Vec<&str>]) -> Vec<Done> {
    at_once(all.iter().map(|arguments| plant.akm_command(arguments)).collect())
}

fn provision<'a>(target: &'a str, name: &'a str) -> Vec<&'a str> {
    vec!["provision", target, "--name", name]
}

/// The node is active and proves it, its device and its element hold exactly its relationships, and nobody else
/// was given its address.
#[track_caller]
fn check_nodes(plant: &Plant, names: &[&str]) {
    let nodes = plant.nodes();
    let nodes: Vec<_> =
        nodes.as_array().expect("a list").iter().filter(|node| node["endpoint"].is_string()).collect();
    let found: BTreeSet<_> = nodes.iter().map(|node| node["name"].as_str().expect("a name")).collect();
    assert_eq!(found, names.iter().copied().collect());
    let endpoints: BTreeSet<_> = nodes.iter().map(|node| node["endpoint"].as_str()).collect();
    assert_eq!(endpoints.len(), nodes.len(), "two nodes have one address: {endpoints:?}");
    plant.akm(&["verify", "--all"]).expect(0);
    for name in names {
        let status = plant.status(name);
        let held = status["relationships"].as_array().expect("a list");
        let expected: BTreeSet<String> = held
            .iter()
            .map(|entry| format!("{} version 1", entry["id"].as_str().expect("an ID")))
            .chain(["device".to_owned()])
            .collect();
        assert_eq!(BTreeSet::from_iter(roots(plant, name)), expected, "in the element of {name}");
        assert_eq!(status["damaged"].as_object().map(serde_json::Map::len), Some(0));
    }
    check_store(plant);
}

/// One message from the first member reaches all others.
#[track_caller]
fn check_talks(plant: &Plant, asr: &str, members: &[&str]) {
    let (sender, others) = members.split_first().expect("members");
    let listeners: Vec<_> = others.iter().map(|other| plant.listen(other, asr, 1)).collect();
    plant.send(sender, asr, asr);
    for listener in listeners {
        assert_eq!(listener.texts(), [asr]);
    }
}

#[test]
fn commands_of_every_kind_on_one_store_do_not_hinder_each_other() {
    let plant = Plant::new();
    let names = ["a", "b", "c", "d", "e", "f"];
    let targets: Vec<String> = names.iter().map(|name| plant.target(name)).collect();
    let ceremonies: Vec<_> =
        targets.iter().zip(names).map(|(target, name)| provision(target, name)).collect();
    for done in akm_at_once(&plant, &ceremonies) {
        done.expect(0);
    }

    // Rings of ASRs through the same nodes, beside further ceremonies, a removal, and commands that only look.
    let asrs: Vec<(String, Vec<&str>)> = (0..18usize)
        .map(|number| {
            let at = |step| names[(number + step) % 5];
            let members = if number % 3 == 0 { vec![at(0), at(1), at(3)] } else { vec![at(0), at(2)] };
            (format!("line-{number}"), members)
        })
        .collect();
    let (g, h) = (plant.target("g"), plant.target("h"));
    let mut commands = vec![provision(&g, "g"), provision(&h, "h"), vec!["node", "remove", "f"]];
    commands
        .extend(asrs.iter().map(|(name, members)| [&["asr", "create", name], members.as_slice()].concat()));
    commands.extend([vec!["node", "list"], vec!["asr", "list"], vec!["node", "show", "a"]]);
    commands.extend([vec!["verify", "b"], vec!["verify", "c", "--json"], vec!["asr", "list", "--json"]]);
    for (arguments, done) in commands.iter().zip(akm_at_once(&plant, &commands)) {
        assert_eq!(done.code, Some(0), "akm {}: {done:#?}", arguments.join(" "));
    }

    let listed = plant.asrs();
    let active = listed.as_array().expect("a list").iter().filter(|asr| asr["status"] == "active").count();
    assert_eq!(active, asrs.len(), "{listed:#}");
    for (asr, members) in &asrs {
        wait_until("the members are in one epoch", || {
            members.iter().all(|member| plant.epoch(member, asr) == plant.epoch(members[0], asr))
        });
        check_talks(&plant, asr, members);
    }
    check_nodes(&plant, &["a", "b", "c", "d", "e", "g", "h"]);
}

#[test]
fn the_same_asr_made_by_several_at_once_is_made_once() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    let create = vec!["asr", "create", "line", "a", "b"];
    let done = akm_at_once(&plant, &[create.clone(), create.clone(), create]);
    let mut codes: Vec<_> = done.iter().map(|done| done.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(3), Some(3)], "{done:#?}");
    assert!(done.iter().all(|done| done.code == Some(0) || done.stderr.contains("ASR line exists already")));

    // The same name with other members: one of the two, whole.
    let [ab, bc] = [["a", "b"], ["b", "c"]].map(|[x, y]| vec!["asr", "create", "other", x, y]);
    let done = akm_at_once(&plant, &[ab, bc]);
    assert_eq!(done.iter().filter(|done| done.code == Some(0)).count(), 1, "{done:#?}");
    assert_eq!(done.iter().filter(|done| done.code == Some(9)).count(), 1, "{done:#?}");
    assert_eq!(query::<i64>(&plant, "SELECT count(*) FROM relationships WHERE kind = 2"), 2);
    check_talks(&plant, "line", &["a", "b"]);
    check_nodes(&plant, &["a", "b", "c"]);
}

#[test]
fn ceremonies_at_one_target_make_one_node() {
    let plant = Plant::new();
    let target = plant.target("a");
    let done =
        akm_at_once(&plant, &[provision(&target, "a"), provision(&target, "a"), provision(&target, "other")]);
    // Who waits too long is told who holds the target; who comes to his turn, that there is a node.
    let mut won = Vec::new();
    for (name, done) in ["a", "a", "other"].into_iter().zip(&done) {
        match done.code {
            Some(0) => won.push(name),
            Some(3 | 9) => assert!(done.stderr.contains("this target is node"), "{done:#?}"),
            Some(8) => assert!(done.stderr.contains("is held by another command (process "), "{done:#?}"),
            _ => panic!("{done:#?}"),
        }
    }
    let [won] = won[..] else { panic!("{done:#?}") };
    assert_eq!(plant.node(won)["status"], "active");
    assert_eq!(plant.nodes().as_array().map(Vec::len), Some(2), "the root and one node");
    plant.akm(&["verify", won]).expect(0);
}

#[test]
fn one_address_is_given_to_one_node() {
    let plant = Plant::new();
    let port = ports::port();
    let listen = format!("127.0.0.1:{port}");
    let names = ["a", "b", "c", "d"];
    let targets = names.map(|name| plant.target(name));
    let commands: Vec<_> = targets
        .iter()
        .zip(names)
        .map(|(target, name)| [provision(target, name), vec!["--listen", &listen]].concat())
        .collect();
    let done = akm_at_once(&plant, &commands);
    let won: Vec<_> = names.into_iter().zip(&done).filter(|(_, done)| done.code == Some(0)).collect();
    assert_eq!(won.len(), 1, "{done:#?}");
    for done in done.iter().filter(|done| done.code != Some(0)) {
        assert_eq!(done.code, Some(2), "{done:#?}");
        assert!(
            done.stderr.contains(&format!("{listen} is where node {} is reached", won[0].0)),
            "{done:#?}"
        );
    }
    check_nodes(&plant, &[won[0].0]);
}

#[test]
fn a_hundred_ceremonies_choose_an_address_and_none_is_refused_for_being_one_of_many() {
    let plant = Plant::new();
    let port = ports::port();
    let listen = format!("127.0.0.1:{port}");
    let names: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
    let targets: Vec<String> = names.iter().map(|name| plant.target(name)).collect();
    // All want the same one, so that all but one end when they have had their turn.
    let commands: Vec<_> = targets
        .iter()
        .zip(&names)
        .map(|(target, name)| [provision(target, name), vec!["--listen", &listen]].concat())
        .collect();
    let done = akm_at_once(&plant, &commands);
    let won: Vec<_> = names.iter().zip(&done).filter(|(_, done)| done.code == Some(0)).collect();
    assert_eq!(won.len(), 1, "{done:#?}");
    let taken = format!("{listen} is where node {} is reached", won[0].0);
    for done in done.iter().filter(|done| done.code != Some(0)) {
        assert_eq!(done.code, Some(2), "{done:#?}");
        assert!(done.stderr.contains(&taken), "{done:#?}");
    }
    check_nodes(&plant, &[won[0].0]);
}

#[test]
fn a_hundred_commands_at_one_node_have_their_turn() {
    let plant = Plant::with_nodes(&["a"]);
    for done in akm_at_once(&plant, &vec![vec!["verify", "a"]; 100]) {
        done.expect(0);
    }
    check_nodes(&plant, &["a"]);
}

/// Somebody who provisions a device: how its `akm` is called, and the name that it gives.
struct Party<'a> {
    home: &'a str,
    target: String,
    name: &'a str,
}

impl Party<'_> {
    fn akm(&self, plant: &Plant, arguments: &[&str]) -> Command {
        let mut command = plant.akm_command(arguments);
        command.env("AKM_HOME", plant.place().join(self.home));
        command
    }

    fn provision(&self, plant: &Plant) -> Command {
        self.akm(plant, &provision(&self.target, self.name))
    }

    fn resume(&self, plant: &Plant) -> Command {
        self.akm(plant, &["provision", "--resume", self.name])
    }
}

/// Two work at one device without knowing of each other. At most one is done at once; going on, exactly one comes to
/// have the node, and nothing that the other tries, or gives up, disturbs it.
fn check_one_device(plant: &Plant, parties: [Party<'_>; 2], refusal: &str) {
    let done = at_once(parties.iter().map(|party| party.provision(plant)).collect());
    assert!(done.iter().all(|done| matches!(done.code, Some(0..=7))), "{done:#?}");
    assert!(done.iter().filter(|done| done.code == Some(0)).count() <= 1, "{done:#?}");
    // One after the other: who has enrolled the device goes on, the other is told who has it.
    let mut holder = None;
    wait_until("one of the two has the device", || {
        for (at, party) in parties.iter().enumerate() {
            run(&mut party.resume(plant));
            if run(&mut party.akm(plant, &["verify", party.name])).code == Some(0) {
                holder = Some(at);
            }
        }
        holder.is_some()
    });
    let winner = &parties[holder.expect("one has it")];
    let loser = &parties[1 - holder.expect("one has it")];

    for command in [loser.resume(plant), loser.provision(plant)] {
        let mut command = command;
        let refused = run(&mut command);
        assert!(matches!(refused.code, Some(1 | 3..=6)), "{refused:#?}");
        assert!(refused.stderr.contains(refusal), "{refused:#?}");
        run(&mut winner.akm(plant, &["verify", winner.name])).expect(0);
    }
    let removed = run(&mut loser.akm(plant, &["node", "remove", loser.name, "--force"]));
    assert!(matches!(removed.code, Some(0 | 2)), "{removed:#?}");
    run(&mut winner.akm(plant, &["verify", winner.name])).expect(0);
}

#[test]
fn two_modules_at_one_device_leave_it_to_one_of_them() {
    let plant = Plant::new();
    let parties = [("home", "mine"), ("other-home", "theirs")].map(|(home, name)| Party {
        home,
        target: plant.target("device"),
        name,
    });
    run(&mut parties[1].akm(&plant, &["init", "--name", "other"])).expect(0);
    check_one_device(&plant, parties, "by another module");
}

#[test]
fn one_device_under_two_names_of_its_directory_becomes_one_node() {
    let plant = Plant::new();
    std::fs::create_dir(plant.dir("device")).expect("a directory");
    symlink(plant.dir("device"), plant.dir("link")).expect("a link");
    let parties = [("device", "first"), ("link", "second")].map(|(dir, name)| Party {
        home: "home",
        target: plant.target(dir),
        name,
    });
    check_one_device(&plant, parties, "belongs to node");
}

/// Starts a command and kills it with SIGKILL as soon as it has printed a line that begins so.
fn kill_after(mut command: Command, line: &str) -> Done {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command can be started");
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for next in lines.by_ref() {
        let next = next.expect("text");
        let found = next.starts_with(line);
        said.push_str(&next);
        if found {
            break;
        }
    }
    child.kill().expect("it can be killed");
    let status = child.wait().expect("it ends");
    Done { code: status.code(), stdout: said, stderr: String::new() }
}

#[test]
fn what_was_killed_among_many_is_gone_on_with_and_the_others_do_not_notice() {
    let plant = Plant::new();
    let steps = BTreeMap::from([
        ("a", "step 1"),
        ("b", "step 2"),
        ("c", "step 3"),
        ("d", "step 4"),
        ("e", "never"),
        ("f", "never"),
    ]);
    let names: Vec<&str> = steps.keys().copied().collect();
    thread::scope(|scope| {
        for (name, line) in &steps {
            let plant = &plant;
            scope.spawn(move || {
                let command = plant.akm_command(&provision(&plant.target(name), name));
                let done = kill_after(command, line);
                assert!(*line != "never" || done.stdout.contains("step 5"), "{name}: {done:#?}");
            });
        }
    });
    let unfinished: Vec<&str> =
        names.iter().copied().filter(|name| plant.node(name)["status"] != "active").collect();
    assert!(["a", "b", "c"].iter().all(|name| unfinished.contains(name)), "{unfinished:?}");
    let resumes: Vec<_> = unfinished.iter().map(|name| vec!["provision", "--resume", *name]).collect();
    for done in akm_at_once(&plant, &resumes) {
        done.expect(0);
    }
    check_nodes(&plant, &names);

    // Nine ASRs at once, of which each third is killed when its row is in the store.
    let asrs: Vec<(String, [&str; 2])> = (0..9usize)
        .map(|number| (format!("line-{number}"), [names[number % 6], names[(number + 1) % 6]]))
        .collect();
    thread::scope(|scope| {
        for (number, (asr, members)) in asrs.iter().enumerate() {
            let plant = &plant;
            scope.spawn(move || {
                let mut command = plant.akm_command(&[&["asr", "create", asr], members.as_slice()].concat());
                if number % 3 > 0 {
                    run(&mut command).expect(0);
                    return;
                }
                let mut child = command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("akm can be started");
                let row = format!("SELECT count(*) FROM relationships WHERE name = '{asr}'");
                wait_until("the ASR is in the store", || query::<i64>(plant, &row) == 1);
                child.kill().expect("it can be killed");
                child.wait().expect("it ends");
            });
        }
    });
    let again: Vec<Vec<&str>> =
        asrs.iter().map(|(asr, members)| [&["asr", "create", asr], members.as_slice()].concat()).collect();
    for done in akm_at_once(&plant, &again) {
        assert!(matches!(done.code, Some(0 | 3)), "{done:#?}");
    }
    for (asr, members) in &asrs {
        wait_until("the members are in one epoch", || {
            plant.epoch(members[0], asr) == plant.epoch(members[1], asr)
        });
        let listener = plant.listen(members[1], asr, 1);
        plant.send(members[0], asr, "whole");
        assert_eq!(listener.lines().iter().map(text_of).collect::<Vec<_>>(), ["whole"], "{asr}");
    }
    check_nodes(&plant, &names);
    assert_eq!(query::<i64>(&plant, "SELECT count(*) FROM relationships WHERE kind = 2"), 9);
}
