//! What the provisioning module knows, durably: `$AKM_HOME/store.db` (SQLite).
//!
//! ```text
//!   module ---- nodes ---- ceremonies ---- journal          who, where, how far
//!                 |
//!          relationships ---- generations ---- members      what binds them; secrets sealed
//!                                  |
//!                               places                      where the module itself stands
//! ```
//!
//! What it promises: each call is one transaction that is on the disk when the call returns, so a
//! command that is killed leaves all of a call or nothing. Secrets are sealed under the
//! [`Vault`] and bound to their row; what is erased is overwritten. Several
//! threads and several commands can use the store at once.
//!
//! `rows` holds statements and parsing, one file for each kind of row; what is secret is in `rows/secret.rs` alone. Above
//! them stand the lives of a node (`lifecycle`) and of a relationship (`change`), and how far ceremonies have come
//! (`journal`), with a transaction for each call.
//!
//! What it does not do: read a clock, or decide when a secret may go; it only refuses what would
//! make a relationship useless.

mod change;
mod error;
mod file;
mod journal;
mod lifecycle;
mod nodes;
mod obstacle;
mod provisioning;
mod relationships;
mod rows;
mod schema;
mod sql;

#[cfg(test)]
mod earlier;
#[cfg(test)]
pub(crate) mod fixture;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use akm_disk::directory;

use crate::lock::{Lock, LockError, LockKey};
use crate::vault::Vault;
use file::File;
use rows::{module, secret};
use sql::Sql;

pub use error::StoreError;
pub(crate) use file::FILE;
pub use obstacle::{Obstacle, ObstacleNode, ObstacleRelationship, Occupied};
pub use relationships::Relationship;
pub use rows::absence::Absence;
pub use rows::ceremony::{Ceremony, STEPS};
pub use rows::generation::RelationshipState;
pub use rows::journal::JournalEntry;
pub use rows::member::{Leftover, Member, MemberState};
pub use rows::module::Module;
pub use rows::node::{NewNode, Node, NodeStatus, Settled};
pub use rows::secret::RelationshipSecrets;

/// Sealed in the store, so that another vault key is noticed when the store is opened.
const VAULT_CHECK: &[u8] = b"akm store";
const VAULT_CHECK_CONTEXT: &str = "module/vault_check";

/// The open store of a module.
pub struct Store {
    file: File,
    vault: Vault,
    home: PathBuf,
    module: Module,
}

impl Store {
    /// Makes the store of a module. Cut off half-way, it can be called again.
    pub fn create(home: &Path, vault: &Vault, module: &Module) -> Result<Self, StoreError> {
        directory::make_home(home)?;
        let vault_check = secret::seal(vault, VAULT_CHECK_CONTEXT, VAULT_CHECK)?;
        if !File::create(home, module, &vault_check)? {
            return Err(Occupied::Module { home: home.to_owned() }.into());
        }
        Self::open(home, vault)
    }

    /// Whether there is a store, of whatever form.
    pub fn exists(home: &Path) -> bool {
        home.join(file::FILE).exists()
    }

    /// Opens the store, and brings its form up to date if an earlier version wrote it.
    pub fn open(home: &Path, vault: &Vault) -> Result<Self, StoreError> {
        Self::open_with(home, vault, file::PATIENCE)
    }

    fn open_with(home: &Path, vault: &Vault, patience: Duration) -> Result<Self, StoreError> {
        let file = File::open(home, patience)?;
        let (module, vault_check) =
            file.read(module::find)?.ok_or_else(|| StoreError::NoModule { home: home.to_owned() })?;
        match vault.open_sealed(VAULT_CHECK_CONTEXT, &vault_check) {
            Ok(plain) if &plain[..] == VAULT_CHECK => {}
            _ => return Err(StoreError::WrongVault { home: home.to_owned() }),
        }
        file.accept_log()?;
        Ok(Self { file, vault: vault.clone(), home: home.to_owned(), module })
    }

    /// The module that this store belongs to.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The directory that holds the store, the vault and the locks.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The vault under which the store is sealed.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Takes a lock of this module, after all that came before; see `Lock` for how long it is waited for.
    pub fn lock(&self, key: LockKey) -> Result<Lock, LockError> {
        let patience = key.patience();
        Lock::acquire(&self.home, key, patience)
    }

    /// Takes a lock of this module if it is free and nobody waits for it.
    pub fn lock_if_free(&self, key: LockKey) -> Result<Option<Lock>, LockError> {
        match Lock::acquire(&self.home, key, Duration::ZERO) {
            Ok(lock) => Ok(Some(lock)),
            Err(LockError::Held { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads from one state of the store, whatever others write meanwhile.
    fn read<T>(&self, statements: impl FnOnce(Sql<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.file.read(statements)
    }

    /// Writes all or nothing.
    fn write<T>(&self, statements: impl FnOnce(Sql<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.file.write(statements)
    }

    /// Takes what was erased out of what is not yet part of the file, as far as others let it.
    fn forget_log(&self) -> Result<(), StoreError> {
        self.file.forget_log()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("home", &self.home).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::thread;

    use akm_disk::durable;

    use super::file::FILE;
    use super::fixture::Fixture;
    use super::*;

    #[test]
    fn without_a_store_the_error_says_that_there_is_no_module() {
        let top = tempfile::tempdir().unwrap();
        let vault = Vault::create_with_key_file(&top.path().join("akm")).unwrap();
        for home in [top.path().join("none"), top.path().join("akm")] {
            let error = Store::open(&home, &vault).unwrap_err();
            assert!(error.to_string().starts_with("no module here"), "{error}");
        }
    }

    #[test]
    fn a_module_is_made_once_and_reads_back() {
        let fixture = Fixture::new();
        let module = fixture.store.module();
        let other = Module { name: "other".parse().unwrap(), ..module.clone() };
        let again = Store::create(fixture.store.home(), fixture.store.vault(), &other);
        assert!(matches!(again, Err(StoreError::Exists(_))));
        assert_eq!(fixture.reopen().module(), module);
    }

    #[test]
    fn a_store_that_nobody_finished_making_is_no_module_and_can_be_finished() {
        let fixture = Fixture::new();
        fixture.execute("DELETE FROM module");
        let (home, vault) = (fixture.store.home(), fixture.store.vault());
        assert!(matches!(Store::open(home, vault), Err(StoreError::NoModule { .. })));
        Store::create(home, vault, fixture.store.module()).unwrap();
    }

    #[test]
    fn another_vault_key_is_noticed_when_the_store_is_opened() {
        let fixture = Fixture::new();
        let other = Fixture::new();
        let opened = Store::open(fixture.store.home(), other.store.vault());
        assert!(matches!(opened, Err(StoreError::WrongVault { .. })));
    }

    #[test]
    fn a_store_of_a_later_version_is_left_alone() {
        let fixture = Fixture::new();
        fixture.execute(&format!("PRAGMA user_version = {}", schema::VERSION + 1));
        let error = Store::open(fixture.store.home(), fixture.store.vault()).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { .. }));
        assert!(error.to_string().contains(&format!("schema {}", schema::VERSION + 1)));
    }

    #[test]
    fn what_is_not_a_store_is_damage() {
        let fixture = Fixture::new();
        let vault = fixture.store.vault().clone();
        let top = tempfile::tempdir().unwrap();
        let home = top.path().join("akm");
        directory::make_home(&home).unwrap();
        durable::create(&home.join(FILE), &[0x5a; 4096]).unwrap();
        let opened = Store::open(&home, &vault);
        assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{opened:?}");
    }

    #[test]
    fn all_files_are_closed_to_others_and_open_ones_are_refused() {
        let fixture = Fixture::new();
        fixture.create_node("a");
        let home = fixture.store.home();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(home), 0o700);
        for file in ["store.db", "store.db-wal", "store.db-shm", "vault.key", "locks/schema.lock"] {
            assert_eq!(mode(&home.join(file)), 0o600, "{file}");
        }
        for (path, open) in [(home.join(FILE), 0o644), (home.to_owned(), 0o755)] {
            let closed = mode(&path);
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            let error = Store::open(home, fixture.store.vault()).unwrap_err();
            assert!(error.to_string().contains("chmod"), "{error}");
            fs::set_permissions(&path, Permissions::from_mode(closed)).unwrap();
        }
    }

    #[test]
    fn a_writer_that_does_not_finish_is_told_as_held_and_readers_go_on() {
        let fixture = Fixture::new();
        let node = fixture.create_node("a");
        let (home, vault) = (fixture.store.home(), fixture.store.vault());
        let second = Store::open_with(home, vault, Duration::ZERO).unwrap();
        fixture
            .store
            .write(|_| {
                assert!(matches!(second.save_integrity_code(node.id, &[1; 32]), Err(StoreError::Held)));
                assert_eq!(second.nodes().unwrap().len(), 1);
                Ok(())
            })
            .unwrap();
        second.save_integrity_code(node.id, &[1; 32]).unwrap();
    }

    #[test]
    fn threads_and_connections_write_side_by_side() {
        let fixture = Fixture::new();
        let second = fixture.reopen();
        thread::scope(|scope| {
            let stores = [&fixture.store, &second, &fixture.store, &second];
            for (index, store) in stores.into_iter().enumerate() {
                let prepared: Vec<_> =
                    (0..5).map(|turn| fixture.prepared(&format!("node-{index}-{turn}"))).collect();
                scope.spawn(move || {
                    for (node, sds, secrets) in prepared {
                        store.create_node(&node, &sds, &secrets).unwrap();
                    }
                });
            }
        });
        assert_eq!(second.nodes().unwrap().len(), 20);
    }

    #[test]
    fn debug_text_shows_where_the_store_is_and_nothing_in_it() {
        let fixture = Fixture::new();
        let text = format!("{:?}", fixture.store);
        assert_eq!(text, format!("Store {{ home: {:?}, .. }}", fixture.store.home()));
    }
}
