//! The module wipes its secrets before it gives memory back: through ceremonies, ASRs and its vault.
//!
//! The library runs in this process; the nodes are real ones. PDVs cannot be looked for here, since
//! nobody but the module ever sees one: the core's own test does that.

#[path = "../../akm-core/tests/support/freed.rs"]
mod freed;
mod support;

use akm_core::id::RelationshipId;
use akm_core::keys::{EpochSecret, element_function};
use akm_core::policy::Policy;
use akm_core::secret::Secret;
use akm_core::tree::Place;
use akm_provision::ceremony::Order;
use akm_provision::fuzzing::{Store, Vault};
use akm_provision::module::Module;
use akm_provision::names::Name;
use freed::{check_wiped, record};
use support::plant::{Plant, akmd_program};

#[global_allocator]
static ALLOCATOR: freed::Keeping = freed::Keeping;

const PASSPHRASE: &[u8] = b"correct horse battery staple";

fn order(plant: &Plant, name: &str, is_again: bool) -> Order {
    Order {
        target: plant.target(name).parse().expect("a target"),
        name: Some(name.parse().expect("a name")),
        element: None,
        stack: Some(akmd_program()),
        listen: None,
        endpoint: None,
        ssh_config: None,
        again: is_again,
    }
}

fn open_module(plant: &Plant) -> Module {
    Module::open(&plant.home(), || panic!("a key file needs no passphrase")).expect("the module")
}

fn open_store(plant: &Plant) -> Store {
    let vault = Vault::open(&plant.home(), || panic!("a key file needs no passphrase")).expect("the vault");
    Store::open(&plant.home(), &vault).expect("the store")
}

/// What the store holds of a relationship, and the keys of its first epochs where they follow from it.
fn secrets_of(store: &Store, id: RelationshipId) -> Vec<(String, Vec<u8>)> {
    let held = store.secrets(id).expect("the secrets");
    let mut all = Vec::new();
    let mut add = |what: String, secret: &[u8]| all.push((what, secret.to_vec()));
    let digest = *store.relationship(id).expect("the store").expect("it is there").sds.digest();
    let element_root = held.element_root.as_ref().map(Secret::expose);
    if let Some(root) = element_root {
        add(format!("element root of {id}"), root);
    }
    if let Some(keys) = &held.keys {
        add(format!("header key of {id}"), keys.header_key.expose());
        add(format!("resync key of {id}"), keys.resync_key.expose());
    }
    if let (Some(root), Some(tree_root)) = (element_root, held.tree_root) {
        add(format!("tree root of {id}"), tree_root.expose());
        let place = Place::before_first(0, tree_root);
        for epoch in 0..8 {
            let context = [1u32.to_be_bytes(), u32::to_be_bytes(epoch)].concat();
            let factor = element_function(root, b"akm1 epoch", &context);
            let leaf = place.leaf(epoch).expect("ahead");
            let secret = EpochSecret::derive(leaf, &factor, &digest);
            add(format!("epoch secret {epoch} of {id}"), secret.expose());
        }
    }
    all
}

#[test]
fn the_recorder_finds_what_was_not_wiped() {
    freed::check_itself();
}

#[test]
fn a_vault_leaves_neither_its_key_nor_its_passphrase_in_freed_memory() {
    let plant = Plant::bare();
    let home = plant.home();
    let ((), freed) = record(|| {
        drop(Vault::create_with_key_file(&home).expect("a vault"));
        let vault = Vault::open(&home, || panic!("a key file needs no passphrase")).expect("it opens");
        let sealed = vault.seal("a row", b"a secret of a relationship").expect("sealed");
        vault.open_sealed("a row", &sealed).expect("opened");
    });
    let key = std::fs::read(home.join("vault.key")).expect("the key");
    let sealed = b"a secret of a relationship".to_vec();
    check_wiped(&freed, &[("the vault key".to_owned(), key), ("what it sealed".to_owned(), sealed)]);
    drop(freed);

    let other = plant.place().join("other");
    let ((), freed) = record(|| {
        drop(Vault::create_with_passphrase(&other, PASSPHRASE).expect("a vault"));
        let passphrase = || Ok(zeroize::Zeroizing::new(PASSPHRASE.to_vec()));
        drop(Vault::open(&other, passphrase).expect("it opens"));
        let wrong = || Ok(zeroize::Zeroizing::new(b"correct horse battery stable".to_vec()));
        Vault::open(&other, wrong).map(drop).expect_err("a wrong passphrase");
    });
    check_wiped(&freed, &[("the passphrase".to_owned(), PASSPHRASE.to_vec())]);
}

#[test]
fn ceremonies_and_asrs_leave_no_secret_in_freed_memory() {
    let plant = Plant::new();
    let vault_key =
        ("the vault key".to_owned(), std::fs::read(plant.home().join("vault.key")).expect("a key"));
    let store = open_store(&plant);
    for name in ["a", "b"] {
        let (node, freed) = record(|| {
            open_module(&plant).provision(&order(&plant, name, false), &mut |_| {}).expect("a node")
        });
        let secrets = secrets_of(&store, node.provisioning_relationship_id);
        assert_eq!(secrets.len(), 3, "what the module keeps: a root, a header key and a resync key");
        check_wiped(&freed, &[secrets, vec![vault_key.clone()]].concat());
    }

    // Parked first: as long as it is, the module holds all secrets of the ASR.
    let name: Name = "line".parse().expect("a name");
    let members = ["a", "b"].map(|name| name.parse().expect("a name"));
    let module = open_module(&plant);
    let create = || module.create_asr(&name, &members, Policy::default(), &mut |_| {});
    plant.kill("b");
    let (parked, freed) = record(create);
    parked.map(drop).expect_err("a member is away");
    let id = store.asrs().expect("the store")[0].id();
    let secrets = [secrets_of(&store, id), vec![vault_key]].concat();
    assert!(secrets.len() > 10);
    check_wiped(&freed, &secrets);
    drop(freed);

    plant.start("b");
    let (made, freed) = record(create);
    assert_eq!(made.expect("an ASR").members.len(), 2);
    check_wiped(&freed, &secrets);
    drop(freed);

    let (_, freed) = record(|| {
        let verified = module.verify(&members[0]).expect("it is asked").answer.result;
        verified.expect("it is who it should be");
        module.provision(&order(&plant, "b", true), &mut |_| {}).expect("a new node");
        module.remove(&members[0], true, &mut |_| {}).expect("removed")
    });
    check_wiped(&freed, &secrets);
}
