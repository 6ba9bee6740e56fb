//! Another generation of a provisioning relationship that is disturbed at its durable calls, at the module and at the node.
//!
//! The same command again, after a stack that had ended was started again, ends with one generation that both sides hold,
//! with one root in the element, and with nothing of those before it.

mod support {
    pub(crate) mod faults;
    pub(crate) mod foreground;
    pub(crate) mod plant;
    pub(crate) mod whole;
}

use std::collections::BTreeSet;
use std::fs;

use support::faults::{Counted, Order, Run, Sweep, everything};
use support::foreground::Stack;
use support::plant::{Plant, run, wait_until};
use support::whole::{Snapshot, check_store, query, roots};

const RENEW: [&str; 3] = ["node", "renew", "a"];

/// A node that is stopped.
fn node() -> Plant {
    let plant = Plant::in_memory();
    plant.akm(&["init", "--name", "plant"]).expect(0);
    let stack = plant.small_stack();
    plant.akm(&["provision", &plant.target("a"), "--name", "a", "--stack", &stack]).expect(0);
    plant.akmd("a", &["stop"]).expect(0);
    plant
}

/// Both sides hold one generation, above the first, and nothing else. Ends with the stack stopped.
#[track_caller]
fn check(plant: &Plant) {
    plant.akm(&["verify", "a"]).expect(0);
    let held = plant.status("a")["relationships"][0].clone();
    assert_eq!(held["phase"], "Established", "{held:#}");
    plant.akmd("a", &["stop"]).expect(0);
    let (id, generation) = (held["id"].as_str().unwrap(), held["generation"].as_u64().unwrap());
    assert!(generation > 1, "{held:#}");

    let of_element = roots(plant, "a");
    assert_eq!((of_element.len(), of_element[0].as_str()), (2, "device"), "{of_element:?}");
    assert!(of_element[1].starts_with(&format!("{id} version ")), "{of_element:?}");
    let node = plant.node("a")["akm_id"].as_str().unwrap().to_owned();
    let directory = plant.dir("a").join("state/nodes").join(node).join(id);
    let files: BTreeSet<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = ["active", "copy", "installed", "place"].map(|what| format!("g{generation}.{what}"));
    assert_eq!(files, BTreeSet::from(expected));

    check_store(plant);
    let of_it = "FROM generations g JOIN relationships r ON r.id = g.relationship WHERE r.kind = 1";
    let kept =
        format!("SELECT count(*) {of_it} AND coalesce(g.host_keys, g.element_root, g.tree_root) IS NOT NULL");
    assert_eq!(query::<i64>(plant, &kept), 1);
    let present =
        format!("SELECT g.generation {of_it} AND g.host_keys IS NOT NULL AND g.generation = r.generation");
    assert_eq!(query::<i64>(plant, &present), generation as i64);
    assert_eq!(query::<i64>(plant, "SELECT count(*) FROM places"), 1);
}

#[test]
fn module_killed_at_each_record_while_it_renews_a_provisioning_relationship() {
    let plant = node();
    let begin = Snapshot::take(&plant, &["a"]);
    let start = || {
        begin.restore(&plant);
        plant.start("a");
    };
    let undisturbed = std::iter::repeat_with(|| {
        start();
        let undisturbed = Run::undisturbed(plant.place(), Counted::FilesAndProcesses);
        run(undisturbed.on(&mut plant.akm_command(&RENEW))).expect(0);
        undisturbed.close();
        check(&plant);
        undisturbed
    });
    let undisturbed = undisturbed.take(3).min_by_key(Run::counted).expect("runs");
    let files = ["store.db", "store.db-wal"];
    let sweep = Sweep::over("akm node renew", &undisturbed, Counted::FilesAndProcesses, &files);
    let records =
        sweep.only(|call| everything() || call.kind == "sync" && call.path.contains("store.db-wal"));
    records.carry_out(&[Order::Die], &[], |point| {
        start();
        let disturbed = point.run(plant.place());
        let done = run(disturbed.on(&mut plant.akm_command(&RENEW)));
        assert!(matches!(done.code, None | Some(0 | 1)), "{point:?}: {done:#?}");
        let again = plant.akm(&RENEW);
        assert_eq!(again.code, Some(0), "after {point:?}: {again:#?}");
        check(&plant);
        disturbed.is_carried_out()
    });
}

#[test]
fn node_disturbed_at_each_call_while_its_provisioning_relationship_is_renewed() {
    let plant = node();
    let begin = Snapshot::take(&plant, &["a"]);
    let undisturbed = std::iter::repeat_with(|| {
        begin.restore(&plant);
        let undisturbed = Run::undisturbed(plant.place(), Counted::Files);
        let mut stack = Stack::start(&plant, "a", &undisturbed);
        plant.akm(&RENEW).expect(0);
        undisturbed.close();
        plant.akmd("a", &["stop"]).expect(0);
        wait_until("the stack has ended", || stack.has_ended());
        undisturbed
    });
    let undisturbed = undisturbed.take(3).min_by_key(Run::counted).expect("runs");
    let files = ["/g2.installed", "/g2.copy", "/g2.place", "/g2.active", "/element"];
    let sweep = Sweep::over("akmd node renew", &undisturbed, Counted::Files, &files);
    let accept = |path: &str| everything() || path.contains("/g2.") || path.contains("/g1.");
    sweep.only(|call| accept(&call.path)).carry_out(&[Order::Die, Order::Fail], &[], |point| {
        begin.restore(&plant);
        let disturbed = point.run(plant.place());
        let mut stack = Stack::start(&plant, "a", &disturbed);
        let cut_off = plant.akm(&RENEW);
        assert!(matches!(cut_off.code, Some(0 | 1 | 5 | 7)), "{point:?}: {cut_off:#?}");
        let reached = disturbed.soon_carried_out();
        disturbed.mend();
        if point.order.kills() && reached || stack.has_ended() {
            wait_until("the stack has ended", || stack.has_ended());
            let said = fs::read_to_string(disturbed.output()).unwrap();
            assert!(!said.contains("panicked"), "{point:?}: {said}");
            plant.start("a");
        }
        let again = plant.akm(&RENEW);
        assert_eq!(again.code, Some(0), "after {point:?}: {again:#?}");
        check(&plant);
        reached
    });
}
