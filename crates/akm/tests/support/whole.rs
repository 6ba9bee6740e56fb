//! What must be true of a module and its node after everything that went wrong was mended.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::Path;

use akm_core::element::Root;
use akm_element::ElementSpec;
use rusqlite::{Connection, OpenFlags};

use super::plant::Plant;

/// The roots that the element of a node holds, as text; its stack must not run.
pub(crate) fn roots(plant: &Plant, name: &str) -> Vec<String> {
    let mut element = ElementSpec::Software { passphrase_file: None }
        .open(&plant.dir(name).join("state"))
        .expect("the element can be opened");
    let roots = element.roots().expect("the element tells its roots");
    roots
        .iter()
        .map(|root| match root {
            Root::Device => "device".to_owned(),
            Root::Relationship { id, version, .. } => format!("{id} version {version}"),
        })
        .collect()
}

/// Reads one value from the module's store.
#[track_caller]
pub(crate) fn query<T: rusqlite::types::FromSql>(plant: &Plant, sql: &str) -> T {
    let path = plant.home().join("store.db");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let store = Connection::open_with_flags(path, flags).expect("the store can be opened");
    store.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The store is sound, and all in it has come to its end.
#[track_caller]
pub(crate) fn check_store(plant: &Plant) {
    assert_eq!(query::<String>(plant, "PRAGMA integrity_check"), "ok");
    for (what, sql) in [
        ("broken references", "SELECT count(*) FROM pragma_foreign_key_check"),
        ("ceremonies that are not over", "SELECT count(*) FROM ceremonies WHERE ended_at IS NULL"),
        (
            "active nodes without all five steps in the journal",
            "SELECT count(*) FROM nodes WHERE status = 'active'
             AND (SELECT count(DISTINCT step) FROM journal WHERE node = nodes.id) <> 5",
        ),
        (
            "provisioning relationships in force that no node in force has",
            "SELECT count(*) FROM relationships WHERE kind = 1 AND status <> 'ended' AND id NOT IN
             (SELECT relationship FROM nodes WHERE status IN ('provisioning', 'active', 'removing'))",
        ),
        (
            "secrets that the module need not keep",
            "SELECT count(*) FROM generations g JOIN relationships r ON r.id = g.relationship
             WHERE g.tree_root IS NOT NULL
             OR (r.kind = 2 AND g.host_keys IS NOT NULL)
             OR (r.status = 'ended' AND coalesce(g.element_root, g.host_keys) IS NOT NULL)",
        ),
    ] {
        assert_eq!(query::<i64>(plant, sql), 0, "{what}");
    }
}

/// The module has exactly this one node, whatever its element: active at the target `dir`, where it proves who it is, with
/// one relationship.
///
/// Returns the AKM ID and the ID of the provisioning relationship.
#[track_caller]
pub(crate) fn check_proves_itself(plant: &Plant, name: &str, dir: &str) -> (String, String) {
    let list = plant.nodes();
    let list = list.as_array().expect("a list");
    assert_eq!(list.len(), 2, "the root and one node: {list:#?}");
    let node = &list[1];
    assert_eq!((node["name"].as_str(), node["status"].as_str()), (Some(name), Some("active")), "{node:#}");
    assert_eq!(node["target"], plant.target(dir), "{node:#}");
    let id = node["akm_id"].as_str().expect("an AKM ID").to_owned();
    let relationship = node["provisioning_relationship_id"].as_str().expect("an ID").to_owned();

    plant.akm(&["verify", name]).expect(0);
    let status = plant.status(dir);
    assert_eq!(status["akm_id"], *id);
    let held = status["relationships"].as_array().expect("a list");
    assert_eq!(held.len(), 1, "{status:#}");
    assert_eq!(held[0]["id"], *relationship);
    assert_eq!(status["damaged"].as_object().map(serde_json::Map::len), Some(0));
    (id, relationship)
}

/// The module has exactly this one node, it proves who it is, and device and store hold exactly what
/// belongs to it: one provisioning relationship, nothing left over. Ends with the stack stopped.
///
/// Returns the AKM ID and the ID of the provisioning relationship.
#[track_caller]
pub(crate) fn check_one_node(plant: &Plant, name: &str) -> (String, String) {
    let (id, relationship) = check_proves_itself(plant, name, name);
    plant.akmd(name, &["stop"]).expect(0);
    assert_eq!(roots(plant, name), ["device".to_owned(), format!("{relationship} version 1")]);
    let node_dir = format!("nodes/{id}");
    let held = format!("{node_dir}/{relationship}");
    check_names(plant, name, "", &["current", "releases", "run", "state"]);
    // What a script left that was killed; the next one writes over it.
    let _ = fs::remove_file(plant.dir(name).join("run/.said"));
    check_names(plant, name, "run", &["akmd.log"]);
    check_names(plant, name, "state", &["element", "identity", "lock", "nodes"]);
    check_names(plant, name, "state/nodes", &[&id]);
    check_names(plant, name, &format!("state/{node_dir}"), &[&relationship]);
    check_names(plant, name, &format!("state/{held}"), &["g1.active", "g1.copy", "g1.installed", "g1.place"]);
    let releases = names(&plant.dir(name).join("releases"));
    assert!(releases.iter().all(|release| !release.starts_with('.')), "left over: {releases:?}");
    check_store(plant);
    (id, relationship)
}

#[track_caller]
fn check_names(plant: &Plant, name: &str, directory: &str, expected: &[&str]) {
    assert_eq!(names(&plant.dir(name).join(directory)), expected, "in {name}/{directory}");
}

/// What is in a directory, hidden entries included.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"))
        .collect();
    names.sort();
    names
}

/// A copy of what a module and its targets have on their disks, to begin from again and again.
#[derive(Debug)]
pub(crate) struct Snapshot {
    names: Vec<String>,
}

impl Snapshot {
    /// Takes a copy of the module's home and of these targets; nothing may run.
    pub(crate) fn take(plant: &Plant, names: &[&str]) -> Self {
        let names: Vec<String> =
            std::iter::once(&"home").chain(names).map(|name| (*name).to_owned()).collect();
        for name in &names {
            copy(&plant.place().join(name), &plant.place().join("snapshot").join(name));
        }
        Self { names }
    }

    /// Puts everything back as it was; what runs is killed first.
    pub(crate) fn restore(&self, plant: &Plant) {
        for name in &self.names {
            plant.kill(name);
            let _ = fs::remove_dir_all(plant.place().join(name));
            copy(&plant.place().join("snapshot").join(name), &plant.place().join(name));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a parent")).expect("a directory for the copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp -a {} {}", from.display(), to.display());
}
