//! What the module decides before any node is asked.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use akm_core::policy::Policy;
use zeroize::Zeroizing;

use super::*;
use crate::error::Kind;
use crate::relationship::PolicyChange;
use crate::store::fixture::Fixture;
use crate::vault::Vault;

const PASSPHRASE: &[u8] = b"correct horse";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn founding(name: &str, custody: Custody) -> Founding {
    Founding { name: Some(name.parse().unwrap()), custody }
}

fn found(home: &Path, founding: &Founding) -> Result<Module, Error> {
    Module::init(home, founding, |_| panic!("a key file needs no passphrase"), &mut |_| {})
}

fn open(home: &Path) -> Result<Module, Error> {
    Module::open(home, || panic!("a key file needs no passphrase"))
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> Kind {
    result.unwrap_err().kind()
}

#[test]
fn a_home_holds_one_module_and_another_name_is_another_order() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(kind(open(home.path())), Kind::NoModule);
    let made = found(home.path(), &founding("plant", Custody::KeyFile)).unwrap().view();
    assert_eq!((made.module.as_str(), made.vault), ("plant", "key file"));
    assert_eq!(open(home.path()).unwrap().view(), made);

    assert_eq!(kind(found(home.path(), &founding("plant", Custody::KeyFile))), Kind::Exists);
    assert_eq!(kind(found(home.path(), &founding("other", Custody::KeyFile))), Kind::OtherName);
    let any = Founding { name: None, custody: Custody::KeyFile };
    assert_eq!(kind(found(home.path(), &any)), Kind::Exists);
    assert_eq!(open(home.path()).unwrap().view(), made);
}

#[test]
fn what_was_cut_off_between_vault_and_store_goes_on_with_the_vault_that_is_there() {
    let home = tempfile::tempdir().unwrap();
    Vault::create_with_key_file(home.path()).unwrap();
    let key = fs::read(home.path().join("vault.key")).unwrap();
    let refused = open(home.path()).unwrap_err();
    assert_eq!(refused.kind(), Kind::ModuleDamaged);
    assert!(refused.to_string().ends_with("is missing or empty, and the vault is there"), "{refused}");
    found(home.path(), &founding("plant", Custody::Passphrase)).unwrap();
    assert_eq!(open(home.path()).unwrap().view().module, name("plant"));
    assert_eq!(fs::read(home.path().join("vault.key")).unwrap(), key);
}

#[test]
fn a_module_whose_vault_is_gone_is_neither_opened_nor_made_anew() {
    let home = tempfile::tempdir().unwrap();
    found(home.path(), &founding("plant", Custody::KeyFile)).unwrap();
    fs::remove_file(home.path().join("vault.key")).unwrap();
    for refused in [open(home.path()), found(home.path(), &founding("plant", Custody::KeyFile))] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), Kind::ModuleDamaged);
        assert!(refused.to_string().ends_with("but its vault is gone"), "{refused}");
    }
    assert!(!home.path().join("vault.key").exists());
}

#[test]
fn a_passphrase_is_asked_for_what_it_is_wanted_for_and_its_refusal_comes_back() {
    #[derive(Debug, PartialEq)]
    enum Refused {
        Asking,
        Module(Kind),
    }
    impl From<Error> for Refused {
        fn from(error: Error) -> Self {
            Self::Module(error.kind())
        }
    }
    impl std::fmt::Display for Refused {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("nobody is there to ask")
        }
    }
    let home = tempfile::tempdir().unwrap();
    let founding = founding("plant", Custody::Passphrase);
    let mut wanted = Vec::new();
    let mut init = |answer: Option<&[u8]>| {
        let ask = |what| {
            wanted.push(what);
            answer.map(|text| Zeroizing::new(text.to_vec())).ok_or(Refused::Asking)
        };
        Module::init(home.path(), &founding, ask, &mut |_| {}).map(|module| module.view().vault)
    };
    assert_eq!(init(None), Err(Refused::Asking));
    assert_eq!(init(Some(PASSPHRASE)), Ok("passphrase"));
    fs::remove_file(home.path().join("store.db")).unwrap();
    assert_eq!(init(None), Err(Refused::Module(Kind::VaultClosed)));
    assert_eq!(init(Some(PASSPHRASE)), Ok("passphrase"));
    assert_eq!(wanted, [Wanted::ToSeal, Wanted::ToSeal, Wanted::ToOpen, Wanted::ToOpen]);

    let nobody = Module::open(home.path(), || Err(io::Error::other("nobody is there to ask")));
    assert_eq!(kind(nobody), Kind::VaultClosed);
    Module::open(home.path(), || Ok(Zeroizing::new(PASSPHRASE.to_vec()))).unwrap();
}

/// A module with the store of a fixture.
fn module_of(fixture: &Fixture) -> Module {
    open(fixture.store.home()).unwrap()
}

#[test]
fn a_node_that_is_being_made_is_shown_and_not_asked() {
    let fixture = Fixture::new();
    fixture.create_node("a");
    let module = module_of(&fixture);
    let Asked { answer, reached } = module.node(&name("a")).unwrap();
    assert!(answer.at_node.is_none() && reached.nodes.is_empty());
    assert_eq!(kind(module.node(&name("b"))), Kind::NoNode);
    assert_eq!(kind(module.asr(&name("line"), &mut |_| {})), Kind::NoAsr);
    assert_eq!(kind(module.diagnose([&name("a"), &name("b")], None)), Kind::NoNode);
}

#[test]
fn all_means_the_nodes_that_are_active_and_none_of_them_is_nothing_to_do() {
    let fixture = Fixture::new();
    fixture.create_node("a");
    let module = module_of(&fixture);
    assert_eq!(kind(module.verify_all()), Kind::NothingToDo);

    let active = fixture.active_node("b");
    let Asked { answer, reached } = module.verify_all().unwrap();
    let [of_b] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!((&of_b.node, of_b.verified), (&active.name, false));
    assert!(reached.nodes.is_empty() && reached.heard.is_empty());
}

#[test]
fn a_change_of_a_policy_leaves_what_it_does_not_name() {
    let present = Policy { rotate_frames: 7, ..Policy::default() };
    assert_eq!(PolicyChange::default().of(present).emit(), present.emit());
    let hour = Duration::from_secs(3600);
    let change = PolicyChange { overlap: Some(hour), ..PolicyChange::default() };
    let changed = change.of(present);
    assert_eq!((changed.overlap, changed.rotate_frames), (hour, 7));
    assert_eq!(changed.advance_interval, present.advance_interval);
}
