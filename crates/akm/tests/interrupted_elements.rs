//! Step 4 with real elements, cut off at durable calls of the stack, and gone on with: one node, one relationship, and an
//! element in which nothing else is left.
//!
//! The power is lost at a call, or the stack alone is killed there, or the call fails. By default some calls are tried, each
//! with one of these; with `AKM_SWEEP=full` all of them, with all.
//!
//! What is lost inside an element, at each of its commands or writes, is tried where the element is (`akm-element`, `akm-card`).

mod support;

use std::cell::Cell;
use std::process::Command;

use akm_counterparts::vpcd::{wait_for_card, wait_until_empty};
use support::elements::{MortalTpm, Real};
use support::faults::{Counted, Order, Point, Sweep, everything};
use support::plant::{Done, run};
use support::scene::{NODE, Scene};
use support::untouched::says_what_and_what_to_do;
use support::whole::{check_proves_itself, check_store, query};

fn ceremony(scene: &Scene) -> Command {
    let (target, spec) = (scene.plant.target(NODE), scene.real.spec());
    scene.with_keys(&["provision", &target, "--name", NODE, "--stack", &scene.stack, "--element", &spec])
}

/// Goes on after a fault, in one of the two ways, until there is a node.
#[track_caller]
fn go_on(scene: &Scene, point: &Point, turn: usize) {
    let done = if turn.is_multiple_of(2) { scene.resume() } else { run(&mut ceremony(scene)) };
    match done.code {
        Some(0) => {}
        // It was over already; nobody restarts a local stack after the power was gone.
        Some(3) => scene.plant.start(NODE),
        _ => panic!("after {point:?}: {done:?}"),
    }
}

#[track_caller]
fn check_one_node(scene: &Scene) {
    check_proves_itself(&scene.plant, NODE, NODE);
    check_store(&scene.plant);
}

/// Removes the node; neither roots nor keys nor counters are left in the element, also of those that were cut off.
#[track_caller]
fn remove(scene: &Scene) {
    scene.plant.akm(&["node", "remove", NODE]).expect(0);
    scene.real.check_is_empty();
}

/// At one in `every` calls of the stack in steps 3 and 4; at all of them where everything is wanted.
fn step_4_cut_off(real: Real, every: usize) {
    let scene = Scene::new(real);
    // What is made once, such as locks, is there from here on.
    run(&mut ceremony(&scene)).expect(0);
    remove(&scene);
    let undisturbed = scene.undisturbed(&mut ceremony(&scene), 0);
    let mut files = vec!["state/identity", "/g1.installed", "/g1.copy", "/g1.place"];
    if matches!(scene.real, Real::Tpm(_)) {
        files.push("state/element.tpm");
    }
    let before = Cell::new(0_usize);
    let sweep = Sweep::over("step 4", &undisturbed, Counted::Files, &files)
        .only(|call| call.program.starts_with("akmd enroll"))
        .only(|_| everything() || before.replace(before.get() + 1).is_multiple_of(every));
    assert!(sweep.calls().len() >= 30 / every, "{:?}", sweep.calls());
    remove(&scene);
    let mut turn = 0;
    sweep.carry_out(&[], &[Order::AllDie, Order::Die, Order::Fail], |point| {
        let disturbed = point.run(scene.plant.place());
        let done = run(disturbed.on(&mut ceremony(&scene)));
        scene.plant.kill(NODE);
        disturbed.mend();
        match (point.order, done.code) {
            (Order::AllDie, None) | (_, Some(0)) => {}
            // The module is told that the stack was killed, or what failed there.
            (Order::Die | Order::Fail, Some(1 | 4 | 6)) => {
                assert!(done.stderr.contains("--resume node"), "{point:?}: {done:?}");
            }
            _ => panic!("{point:?}: {done:?}"),
        }
        go_on(&scene, point, turn);
        turn += 1;
        check_one_node(&scene);
        remove(&scene);
        disturbed.is_carried_out()
    });
    run(&mut scene.with_keys(&["element", "test", &scene.real.spec()])).expect(0);
}

#[test]
fn step_4_with_a_tpm_cut_off_at_some_calls_ends_in_one_node() {
    step_4_cut_off(Real::tpm(), 2);
}

#[test]
fn step_4_with_a_card_cut_off_at_each_call_ends_in_one_node() {
    step_4_cut_off(Real::card(), 1);
}

#[test]
fn step_4_with_a_token_cut_off_at_some_calls_ends_in_one_node() {
    step_4_cut_off(Real::token(), 6);
}

/// The operator is told in one line what is the matter and how to go on, the ceremony is in step 4, and going on ends
/// in one node.
#[track_caller]
fn check_told_and_goes_on(scene: &Scene, when: &str, done: &Done, words: &[&str]) {
    assert_eq!(done.code, Some(4), "{when}: {done:?}");
    says_what_and_what_to_do(done, &[words, &["akm provision --resume node"]].concat());
    let completed = query::<i64>(&scene.plant, "SELECT completed FROM ceremonies WHERE ended_at IS NULL");
    assert_eq!(completed, 3, "{when}: {done:?}");
    assert_eq!(scene.plant.node(NODE)["status"], "provisioning");
    scene.resume().expect(0);
    check_one_node(scene);
    remove(scene);
}

#[test]
fn a_tpm_that_is_killed_in_step_4_is_told_and_a_resume_ends_in_one_node() {
    let mut scene = Scene::new(Real::Mortal(MortalTpm::start()));
    // While it makes what it needs, and while it takes the root.
    for at in [3, 14, 40] {
        let mut ceremony = ceremony(&scene);
        let Real::Mortal(tpm) = &mut scene.real else { unreachable!("a TPM") };
        let done = tpm.killed_at(at, &mut ceremony);
        check_told_and_goes_on(&scene, &format!("killed at command {at}"), &done, &["swtpm"]);
    }
}

#[test]
fn a_card_that_loses_power_in_step_4_is_told_and_a_resume_ends_in_one_node() {
    let mut scene = Scene::new(Real::card());
    for at in ["1", "2", "3"] {
        put_in_again(&mut scene.real, &["--lose-power-at-write", at]);
        let done = run(&mut ceremony(&scene));
        let Real::Card(card, _) = &mut scene.real else { unreachable!("a card") };
        assert_eq!(card.end().and_then(|status| status.code()), Some(3), "power was lost");
        put_in_again(&mut scene.real, &[]);
        check_told_and_goes_on(&scene, &format!("power lost at write {at}"), &done, &["card"]);
    }
}

/// Takes the card out, and puts it in with these arguments of its program.
fn put_in_again(real: &mut Real, arguments: &[&str]) {
    let Real::Card(card, _) = real else { unreachable!("a card") };
    card.remove();
    wait_until_empty(0);
    card.set_arguments(arguments);
    card.insert(0);
    wait_for_card(0);
}
