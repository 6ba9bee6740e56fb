//! An element that is filled at the station and works in its target (`--attach`), cut off on either way and gone on with:
//! one node, never a state that could run at two places, and nothing left at the station or in the element.
//!
//! By default some of the calls that matter are tried, each with one order; with `AKM_SWEEP=full` all of them, with all.

mod support;

use std::cell::Cell;
use std::fs;
use std::ops::Deref;
use std::process::Command;

use support::elements::Real;
use support::faults::{Call, Counted, Order, Point, Run, Sweep, everything};
use support::plant::run;
use support::scene::{NODE, Scene};
use support::whole::{check_proves_itself, check_store, query};

/// Two targets that the element could come to.
const TARGETS: [&str; 2] = ["one", "two"];

/// A node that is made here and works at one of two targets.
struct Attached(Scene);

impl Deref for Attached {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.0
    }
}

impl Attached {
    /// What is made once, such as locks, is there already.
    fn new(real: Real) -> Self {
        let scene = Self(Scene::new(real));
        run(&mut scene.attach()).expect(6);
        run(&mut scene.arrive(TARGETS[0])).expect(0);
        scene.plant.akm(&["node", "remove", NODE]).expect(0);
        scene
    }

    fn attach(&self) -> Command {
        self.with_keys(&["provision", "--attach", &self.real.spec(), "--name", NODE, "--stack", &self.stack])
    }

    fn arrive(&self, target: &str) -> Command {
        self.plant.akm_command(&["provision", &self.plant.target(target), "--resume", NODE])
    }

    /// Runs a command that is disturbed; whatever it started at a target is over then.
    #[track_caller]
    fn disturbed(&self, point: &Point, command: &mut Command, codes: &[i32]) -> bool {
        let disturbed = point.run(self.plant.place());
        let done = run(disturbed.on(command));
        for place in ["home/attached", TARGETS[0], TARGETS[1]] {
            self.plant.kill(place);
        }
        disturbed.mend();
        match done.code {
            None => assert!(point.order.kills(), "{point:?}: {done:?}"),
            Some(1 | 4 | 6 | 7) => {}
            Some(code) => assert!(codes.contains(&code), "{point:?}: {done:?}"),
        }
        disturbed.is_carried_out()
    }

    /// The targets at which something of the node's state is, whole or not.
    fn places_of_the_state(&self) -> Vec<&'static str> {
        let is_there = |target: &&str| {
            let dir = self.plant.dir(target);
            ["state/identity", "state/nodes", "run/.arriving"].iter().any(|path| dir.join(path).exists())
        };
        TARGETS.into_iter().filter(is_there).collect()
    }

    /// The ceremony is where nothing but another target may be chosen. Tried with one that was not.
    #[track_caller]
    fn check_no_other_target_gets_it(&self, own: &str, when: &dyn std::fmt::Debug) {
        let other = TARGETS.into_iter().find(|target| *target != own).unwrap();
        let refused = run(&mut self.arrive(other));
        assert!(matches!(refused.code, Some(3 | 9)), "after {when:?}: {refused:?}");
        assert!(!self.plant.dir(other).exists(), "after {when:?}");
    }

    /// One active node at a target, which proves who it is, with its one relationship; then no node, and an element in
    /// which nothing is left.
    #[track_caller]
    fn check_one_node_and_remove_it(&self, target: &str) {
        check_proves_itself(&self.plant, NODE, target);
        check_store(&self.plant);
        assert_eq!(self.places_of_the_state(), [target]);
        self.check_station_is_empty();
        self.plant.akm(&["node", "remove", NODE]).expect(0);
        self.check_nothing_is_left();
    }

    #[track_caller]
    fn check_station_is_empty(&self) {
        let left: Vec<_> = fs::read_dir(self.plant.home().join("attached")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[track_caller]
    fn check_nothing_is_left(&self) {
        self.check_station_is_empty();
        assert_eq!(query::<i64>(&self.plant, "SELECT count(*) FROM card_keys"), 0);
        check_store(&self.plant);
        self.real.check_is_empty();
    }
}

/// What a cut must not tear apart: the state, at the station and at the target, and what the store says of it.
fn matters(call: &Call) -> bool {
    let is_of_the_state =
        ["/state", "/.arriving", "home/attached"].iter().any(|part| call.path.contains(part));
    is_of_the_state || (call.path.ends_with("store.db-wal") && call.kind == "sync")
}

/// The orders that take turns: a program ends at a call, or all do, or the call fails. Each can be carried out at every
/// call that changes a file: the store grows from one attempt to the next, so the number of a call is not always its own.
const ORDERS: [Order; 3] = [Order::Die, Order::AllDie, Order::Fail];

/// One in `every` of the calls that matter, from the first; and all of the run where everything is wanted.
fn some_of(sweep: Sweep, every: usize) -> Sweep {
    let before = Cell::new(0);
    sweep.only(|call| {
        let turn = before.replace(before.get() + usize::from(matters(call)));
        everything() || (matters(call) && turn.is_multiple_of(every))
    })
}

/// Fills the element, cut off; then goes on or gives it up.
fn filling_cut_off(real: Real, every: usize) {
    let scene = Attached::new(real);
    let undisturbed = scene.undisturbed(&mut scene.attach(), 6);
    scene.plant.akm(&["node", "remove", NODE]).expect(0);
    scene.check_nothing_is_left();
    let files = ["state/identity", "/g1.installed", "/g1.copy", "/g1.place", "home/store.db-wal"];
    let sweep = some_of(Sweep::over("attach", &undisturbed, Counted::Files, &files), every);
    let (mut went_on, mut given_up, mut turn) = (0, 0, 0);
    sweep.carry_out(&[], &ORDERS, |point| {
        let carried_out = scene.disturbed(point, &mut scene.attach(), &[6]);
        let begun =
            query::<i64>(&scene.plant, "SELECT count(*) FROM nodes WHERE status = 'provisioning'") == 1;
        turn += 1;
        if begun && turn % 4 == 0 {
            scene.plant.akm(&["node", "remove", NODE]).expect(0);
            scene.check_nothing_is_left();
            given_up += 1;
            return carried_out;
        }
        let again = if begun && turn % 2 == 0 { scene.resume() } else { run(&mut scene.attach()) };
        again.expect(6);
        run(&mut scene.arrive(TARGETS[0])).expect(0);
        scene.check_one_node_and_remove_it(TARGETS[0]);
        went_on += 1;
        carried_out
    });
    assert!(went_on > 0 && given_up > 0, "{went_on} and {given_up}");
}

/// Brings a filled element into its target, cut off; then goes on there, or elsewhere as long as that may be.
fn arrival_cut_off(real: Real, every: usize) {
    let scene = Attached::new(real);
    run(&mut scene.attach()).expect(6);
    let undisturbed = scene.undisturbed(&mut scene.arrive(TARGETS[0]), 0);
    scene.check_one_node_and_remove_it(TARGETS[0]);
    let files = ["/.arriving/identity", "one/state", "home/attached", "home/store.db-wal"];
    let sweep = some_of(Sweep::over("arrival", &undisturbed, Counted::Files, &files), every);
    let (mut here, mut elsewhere, mut given_up, mut turn) = (0, 0, 0, 0);
    sweep.carry_out(&[], &ORDERS, |point| {
        run(&mut scene.attach()).expect(6);
        let carried_out = scene.disturbed(point, &mut scene.arrive(TARGETS[0]), &[0]);
        let completed = query::<i64>(
            &scene.plant,
            "SELECT max(completed) FROM ceremonies WHERE started_at =
            (SELECT max(started_at) FROM ceremonies)",
        );
        let [own, other] = TARGETS;
        turn += 1;
        if turn % 4 == 0 {
            scene.plant.akm(&["node", "remove", NODE]).expect(0);
            scene.check_nothing_is_left();
            given_up += 1;
            return carried_out;
        }
        let mut target = own;
        if completed >= 3 || !scene.places_of_the_state().is_empty() {
            scene.check_no_other_target_gets_it(own, point);
        } else if turn % 2 == 1 {
            target = other;
        }
        let settled = query::<i64>(
            &scene.plant,
            "SELECT count(*) FROM nodes WHERE target LIKE '%/one'
            AND status = 'provisioning'",
        ) == 1;
        let done = if target == own && settled && turn % 4 == 2 {
            scene.resume()
        } else {
            run(&mut scene.arrive(target))
        };
        match done.code {
            Some(0) => {}
            // It was over already; nobody restarts a local stack after the power was gone.
            Some(3) if completed == 5 => {
                let stack = scene.plant.akmd(own, &["run", "--detach"]);
                assert!(matches!(stack.code, Some(0 | 3)), "after {point:?}: {stack:?}");
            }
            _ => panic!("after {point:?}: {done:?}"),
        }
        *(if target == own { &mut here } else { &mut elsewhere }) += 1;
        scene.check_one_node_and_remove_it(target);
        for target in TARGETS {
            scene.plant.kill(target);
            let _ = fs::remove_dir_all(scene.plant.dir(target));
        }
        carried_out
    });
    eprintln!("{here} went on, {elsewhere} at another target, {given_up} were given up");
    assert!(here > 0 && elsewhere > 0 && given_up > 0);
}

#[test]
fn a_card_whose_filling_is_cut_off_at_some_calls_ends_in_one_node_or_is_given_up() {
    filling_cut_off(Real::card(), 5);
}

#[test]
fn a_card_whose_arrival_is_cut_off_at_some_calls_ends_in_one_node_at_one_target() {
    arrival_cut_off(Real::card(), 5);
}

#[test]
fn a_tpm_whose_filling_is_cut_off_at_some_calls_ends_in_one_node_or_is_given_up() {
    filling_cut_off(Real::tpm(), 7);
}

#[test]
fn a_tpm_whose_arrival_is_cut_off_at_some_calls_ends_in_one_node_at_one_target() {
    arrival_cut_off(Real::tpm(), 7);
}

#[test]
fn a_token_whose_filling_is_cut_off_at_some_calls_ends_in_one_node_or_is_given_up() {
    filling_cut_off(Real::token(), 20);
}

#[test]
fn a_token_whose_arrival_is_cut_off_at_some_calls_ends_in_one_node_at_one_target() {
    arrival_cut_off(Real::token(), 24);
}

/// The call that brings the state to its target: it is there, and nobody has said so yet.
fn delivery(undisturbed: &Run) -> u64 {
    let calls = undisturbed.calls();
    let delivery = calls.iter().find(|call| call.kind == "rename" && call.path.ends_with("one/state"));
    delivery.expect("the state comes into its place").number
}

#[test]
fn a_state_that_is_sent_to_one_target_goes_to_no_other() {
    let scene = Attached::new(Real::card());
    run(&mut scene.attach()).expect(6);
    let undisturbed = scene.undisturbed(&mut scene.arrive(TARGETS[0]), 0);
    scene.check_one_node_and_remove_it(TARGETS[0]);
    let delivery = delivery(&undisturbed);
    let sweep = Sweep::over("sent", &undisturbed, Counted::Files, &["/.arriving/identity"])
        .only(|call| (delivery - 1..delivery + 6).contains(&call.number));
    sweep.carry_out(&[Order::AllDie], &[], |point| {
        run(&mut scene.attach()).expect(6);
        let carried_out = scene.disturbed(point, &mut scene.arrive(TARGETS[0]), &[]);
        assert_eq!(scene.places_of_the_state(), [TARGETS[0]], "{point:?}");
        scene.check_no_other_target_gets_it(TARGETS[0], point);
        run(&mut scene.arrive(TARGETS[0])).expect(0);
        scene.check_one_node_and_remove_it(TARGETS[0]);
        carried_out
    });
}

/// Kills the removal of a node that its ceremony has brought `thus` far.
fn removal_killed(scene: &Attached, thus: impl Fn()) {
    let remove = || scene.plant.akm_command(&["node", "remove", NODE]);
    thus();
    let undisturbed = scene.undisturbed(&mut remove(), 0);
    scene.check_nothing_is_left();
    let files = ["home/attached", "home/store.db-wal"];
    let sweep = Sweep::over("removal", &undisturbed, Counted::Files, &files)
        .only(|call| everything() || call.program.starts_with("akm "));
    let sweep = some_of(sweep, 2);
    sweep.carry_out(&[Order::Die], &[], |point| {
        thus();
        let carried_out = scene.disturbed(point, &mut remove(), &[0]);
        let again = run(&mut remove());
        // There may be no such node any more.
        assert!(matches!(again.code, Some(0 | 10)), "after {point:?}: {again:?}");
        scene.check_nothing_is_left();
        carried_out
    });
}

#[test]
fn a_node_that_waits_and_whose_removal_is_killed_leaves_nothing_here() {
    let scene = Attached::new(Real::card());
    removal_killed(&scene, || drop(run(&mut scene.attach()).expect(6)));
}

#[test]
fn a_node_that_has_just_arrived_and_whose_removal_is_killed_leaves_nothing_here() {
    let scene = Attached::new(Real::card());
    run(&mut scene.attach()).expect(6);
    let undisturbed = scene.undisturbed(&mut scene.arrive(TARGETS[0]), 0);
    scene.check_one_node_and_remove_it(TARGETS[0]);
    let after_delivery = delivery(&undisturbed) + 1;
    let sweep = Sweep::over("delivered", &undisturbed, Counted::Files, &[])
        .only(|call| call.number == after_delivery);
    sweep.carry_out(&[Order::AllDie], &[], |point| {
        removal_killed(&scene, || {
            run(&mut scene.attach()).expect(6);
            assert!(scene.disturbed(point, &mut scene.arrive(TARGETS[0]), &[]));
            assert_eq!(scene.places_of_the_state(), [TARGETS[0]]);
        });
        true
    });
}
