//! Stores that earlier versions of this program made, as dumps of SQL: each of them opens, and nothing in it is lost.

use std::fs;
use std::time::Duration;

use akm_disk::{directory, durable};
use rusqlite::Connection;
use tempfile::TempDir;

use super::fixture::{AT, Fixture, LATER};
use super::*;
use crate::names::{Name, Timestamp};

/// A store of form 3, with nodes and ASRs in every state in which a command can leave them.
const FORM_3: &str = include_str!("earlier/schema_3.sql");

/// The vault key that it is sealed under.
const VAULT_KEY: [u8; 32] = [
    0xfc, 0x30, 0x59, 0xc5, 0x5d, 0xca, 0xd4, 0x3c, 0xe7, 0xa1, 0x7b, 0xae, 0x12, 0x45, 0x13, 0x1c, 0xe7,
    0xce, 0xec, 0xad, 0x27, 0xb2, 0x80, 0xc5, 0xf4, 0xf5, 0x74, 0x4f, 0xd9, 0x3b, 0x3e, 0xf2,
];

fn open(sql: &str) -> (TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    directory::make_home(home.path()).unwrap();
    durable::create(&home.path().join("vault.key"), &VAULT_KEY).unwrap();
    let path = home.path().join("store.db");
    let connection = Connection::open(&path).unwrap();
    // A dump has its tables in the order of their names.
    connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let vault = Vault::open(home.path(), || panic!("no passphrase")).unwrap();
    let store = Store::open(home.path(), &vault).unwrap();
    (home, store)
}

fn node(store: &Store, name: &str) -> Node {
    store.node_by_name(&name.parse().unwrap()).unwrap().unwrap()
}

fn asr(store: &Store, name: &str) -> Relationship {
    store.asr_by_name(&name.parse().unwrap()).unwrap().unwrap()
}

#[test]
fn nodes_and_their_ceremonies_read_back() {
    let (_home, store) = open(FORM_3);
    assert_eq!((store.module().name.as_str(), store.module().created_at), ("root", AT));

    let pump = node(&store, "pump");
    assert_eq!((pump.status, pump.created_at), (NodeStatus::Active, AT));
    assert_eq!(pump.verified_at, Some(Timestamp::from_unix_millis(3_000_000)));
    assert_eq!(
        (pump.target.to_string(), pump.element_spec.to_string()),
        ("local:/srv/pump".into(), "software".into())
    );
    assert_eq!(
        (pump.stack.as_deref(), pump.stack_version.as_deref()),
        (Some(Path::new("/opt/akmd")), Some("akmd 0.1.0"))
    );
    assert_eq!(pump.integrity_code, Some([7; 32]));
    assert_eq!(pump.element, Some(fixture::element("pump")));
    let valve = node(&store, "valve");
    assert_eq!(valve.listen.map(|listen| listen.to_string()).as_deref(), Some("192.0.2.7:47100"));
    assert_eq!(valve.endpoint.map(|endpoint| endpoint.to_string()).as_deref(), Some("valve.example:47100"));

    let cut_off = node(&store, "cut-off");
    assert_eq!(cut_off.target.to_string(), "ssh://root@gate:2222");
    assert_eq!(cut_off.ssh_config.as_deref(), Some(Path::new("/etc/akm/ssh config")));
    let ceremony = store.ceremony(cut_off.id).unwrap().unwrap();
    assert_eq!((ceremony.completed, ceremony.last_error.as_deref()), (3, Some("no route to host")));
    let journal = store.journal_of(cut_off.id).unwrap();
    assert_eq!(journal.iter().map(|entry| entry.step).collect::<Vec<_>>(), [1, 2, 3, 3]);
    assert_eq!((journal[3].duration, journal[3].outcome.as_str()), (Duration::from_millis(1_234), "done"));
    assert!(store.card_keys(&cut_off.element.unwrap()).unwrap().is_some());

    let waits = node(&store, "waits");
    assert_eq!(waits.station.as_deref(), Some(Path::new("/var/lib/akm/attached/1")));
    assert!(waits.listen.is_none() && waits.element.is_some());
    assert_eq!(node(&store, "going").status, NodeStatus::Removing);
    assert_eq!(node(&store, "meter").status, NodeStatus::Active, "the one that took the place of another");
    let former = store.former_nodes().unwrap();
    let former: Vec<_> = former.iter().map(|node| (node.name.as_str(), node.status)).collect();
    assert_eq!(former, [("meter", NodeStatus::Replaced), ("gone", NodeStatus::Removed)]);
    assert_eq!(store.unfinished_ceremonies().unwrap().len(), 3);
}

#[test]
fn relationships_and_their_secrets_read_back() {
    let (_home, store) = open(FORM_3);
    let (pump, valve) = (node(&store, "pump"), node(&store, "valve"));
    for node in [&pump, &valve] {
        let place = store.load_place(node.relationship, 1).unwrap();
        assert_eq!(place, Some(format!("place at {}", node.name).into_bytes()));
        let secrets = store.secrets(node.relationship).unwrap();
        assert!(secrets.element_root.is_some() && secrets.keys.is_none() && secrets.tree_root.is_none());
    }

    let line = asr(&store, "line");
    assert_eq!((line.sds.generation(), line.standing(), line.released), (2, "changing", true));
    let state = |id| line.members.iter().find(|member| member.node == id).map(|member| member.state);
    assert_eq!(state(pump.id), Some(MemberState::Installed));
    assert_eq!(state(valve.id), Some(MemberState::Pending));
    let secrets = store.secrets(line.id()).unwrap();
    assert!(secrets.tree_root.is_some() && secrets.keys.is_none(), "there was no resync key");
    assert!(store.element_root(line.id(), 1).unwrap().is_some());
    assert_eq!(asr(&store, "parked").status, RelationshipState::Creating);
    assert_eq!(store.asr_by_name(&"ended".parse().unwrap()).unwrap(), None);
    let leftovers = store.leftovers().unwrap();
    assert_eq!(leftovers.len(), 1);
    assert_eq!((leftovers[0].node, leftovers[0].name.as_str()), (valve.id, "ended"));
    let absences = store.absences().unwrap();
    assert_eq!((absences[0].node, absences[0].since, absences[0].tries), (valve.id, AT, 2));
}

#[test]
fn what_was_under_way_comes_to_its_end() {
    let (_home, store) = open(FORM_3);
    let cut_off = node(&store, "cut-off");
    store.complete_step(cut_off.id, 4).unwrap();
    store.activate_node(cut_off.id, LATER).unwrap();
    let valve = node(&store, "valve");
    let next = store.unfinished_ceremonies().unwrap();
    let (new, _) = next.into_iter().find(|(node, _)| node.replaces == Some(valve.id)).unwrap();
    store.complete_step(new.id, 3).unwrap();
    store.complete_step(new.id, 4).unwrap();
    store.replace_node(valve.id, new.id, LATER).unwrap();
    assert_eq!(node(&store, "valve").id, new.id);
    let line = asr(&store, "line");
    store.end_relationship(line.id()).unwrap();
    assert!(store.secrets(line.id()).unwrap().element_root.is_none());
    store.remove_node(node(&store, "going").id, LATER).unwrap();
}

#[test]
fn every_earlier_form_is_brought_up_to_date() {
    let module = FORM_3.lines().find(|line| line.starts_with("INSERT INTO \"module\"")).unwrap();
    for form in 1..schema::VERSION {
        let sql = format!("{}\n{module}\nPRAGMA user_version = {form};", schema::up_to(form));
        let (home, store) = open(&sql);
        assert_eq!(store.module().name, "root".parse::<Name>().unwrap());
        assert_eq!(store.nodes().unwrap(), []);
        drop(store);
        let connection = Connection::open(home.path().join("store.db")).unwrap();
        assert_eq!(schema::version_of(&connection).unwrap(), schema::VERSION);
    }
}

/// What stands in the dump is what this program makes: the form that it brings an empty file to.
#[test]
fn the_dump_has_the_form_that_is_made_here() {
    let (home, store) = open(FORM_3);
    let fixture = Fixture::new();
    let form = |home: &Path| -> Vec<(String, String)> {
        let connection = Connection::open(home.join("store.db")).unwrap();
        let mut statement = connection
            .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(form(home.path()), form(fixture.store.home()));
    drop(store);
}
