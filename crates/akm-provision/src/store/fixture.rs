//! A module with a store of its own, for tests.

use std::fs;

use akm_core::crypto::Suite;
use akm_core::element::{Description, Protection};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::{Generation, GenerationSecrets, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::secret::Secret;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Module, NewNode, Node, Store};
use crate::names::{Name, Timestamp};
use crate::vault::Vault;

pub(crate) const AT: Timestamp = at(1_000_000);
pub(crate) const LATER: Timestamp = at(2_000_000);

const fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

pub(crate) struct Fixture {
    // Before the directory, so that the file is closed before it is removed.
    pub(crate) store: Store,
    _home: TempDir,
}

pub(crate) fn element(serial: &str) -> Description {
    Description {
        kind: "software".to_owned(),
        manufacturer: "AKM".to_owned(),
        serial: serial.to_owned(),
        firmware: "1".to_owned(),
        protection: Protection::Software,
        sealed: false,
        counter: true,
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let vault = Vault::create_with_key_file(home.path()).unwrap();
        let module =
            Module { name: "root".parse().unwrap(), root: AkmId::from_random(random()), created_at: AT };
        let store = Store::create(home.path(), &vault, &module).unwrap();
        Self { store, _home: home }
    }

    /// The same store once more, with a vault that is opened anew.
    pub(crate) fn reopen(&self) -> Store {
        let vault = Vault::open(self.store.home(), || panic!("no passphrase")).unwrap();
        Store::open(self.store.home(), &vault).unwrap()
    }

    pub(crate) fn new_node(&self, name: &str) -> NewNode {
        NewNode {
            id: AkmId::from_random(random()),
            name: name.parse().unwrap(),
            target: format!("local:/srv/{name}").parse().unwrap(),
            ssh_config: None,
            element_spec: "software".parse().unwrap(),
            listen: Some("127.0.0.1:4711".parse().unwrap()),
            endpoint: None,
            stack: None,
            station: None,
            replaces: None,
            created_at: AT,
        }
    }

    pub(crate) fn generation(
        &self,
        kind: Kind,
        members: &[AkmId],
    ) -> (SynchronizedDataSet, GenerationSecrets) {
        let sds = SynchronizedDataSet::new(Generation {
            kind,
            relationship: RelationshipId::from_random(random()),
            generation: 1,
            element_version: 1,
            instance: random(),
            suite: Suite::Aes256Gcm,
            members: members.to_vec(),
            policy: vec![0xa0],
        })
        .unwrap();
        let secrets = ParameterDataVector::new(Secret::take(&mut random())).derive(&sds);
        (sds, secrets)
    }

    pub(crate) fn provisioning(&self, node: AkmId) -> (SynchronizedDataSet, GenerationSecrets) {
        self.generation(Kind::Provisioning, &[self.store.module().root, node])
    }

    pub(crate) fn prepared(&self, name: &str) -> (NewNode, SynchronizedDataSet, GenerationSecrets) {
        let node = self.new_node(name);
        let (sds, secrets) = self.provisioning(node.id);
        (node, sds, secrets)
    }

    pub(crate) fn create_node(&self, name: &str) -> Node {
        let (node, sds, secrets) = self.prepared(name);
        self.store.create_node(&node, &sds, &secrets).unwrap();
        self.store.node_by_id(node.id).unwrap().unwrap()
    }

    pub(crate) fn activate(&self, node: &Node) {
        self.store.complete_step(node.id, 3).unwrap();
        self.store.complete_step(node.id, 4).unwrap();
        self.store.activate_node(node.id, LATER).unwrap();
    }

    /// A node whose ceremony has come to its end; the serial number of its element is its name.
    pub(crate) fn active_node(&self, name: &str) -> Node {
        let node = self.create_node(name);
        self.store.save_element(node.id, &element(name)).unwrap();
        self.activate(&node);
        self.store.node_by_id(node.id).unwrap().unwrap()
    }

    pub(crate) fn create_asr(
        &self,
        name: &str,
        members: &[AkmId],
    ) -> (SynchronizedDataSet, GenerationSecrets) {
        let (sds, secrets) = self.generation(Kind::Communication, members);
        let name: Name = name.parse().unwrap();
        self.store.create_asr(&name, &sds, &secrets, AT).unwrap();
        (sds, secrets)
    }

    fn connection(&self) -> Connection {
        Connection::open(self.store.home().join("store.db")).unwrap()
    }

    /// Runs a statement behind the store's back.
    pub(crate) fn try_execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection().execute_batch(sql)
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.try_execute(sql).unwrap();
    }

    pub(crate) fn column(&self, sql: &str) -> Vec<u8> {
        self.connection().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        self.connection().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    /// Whether these bytes stand anywhere in the files of the store.
    pub(crate) fn files_contain(&self, bytes: &[u8]) -> bool {
        fs::read_dir(self.store.home()).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            path.is_file() && fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
        })
    }
}
