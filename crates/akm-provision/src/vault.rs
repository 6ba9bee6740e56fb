//! The module's vault: one key under which the secrets in its store are sealed.
//!
//! ```text
//!   $AKM_HOME/vault.key        32 random bytes, mode 0600              }
//!   $AKM_HOME/vault.json       the same, sealed under a passphrase     } one of the three
//!   $AKM_HOME/vault.element    made by a secure element each time      }
//!        |
//!   vault key --- "akm vault seal"   --- sealing key: secret columns of the store
//!            \--- "akm vault device" --- device key: the module's own places
//! ```
//!
//! `vault.json` holds salt and cost of Argon2id (RFC 9106) beside the sealed key, so that the cost
//! can rise without a migration, and a commitment to the passphrase: it opens under one, and whoever may write it and sees
//! whether it opens tries one at a time. What is sealed is bound to a context, the place where it stands:
//! moved to another row it does not open.
//!
//! The vault keeps secrets from whoever has the disk and not the key. It keeps nothing from somebody who controls this
//! machine while a command runs, wherever the key comes from.

mod in_element;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akm_core::crypto::hash::{expand, extract};
use akm_core::element::ElementError;
use akm_core::secret::Secret;
use akm_disk::private::Links;
use akm_disk::{DiskError, directory, durable, private};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use tracing::warn;
use zeroize::Zeroizing;

const KEY_FILE: &str = "vault.key";
const PASSPHRASE_FILE: &str = "vault.json";
const ELEMENT_FILE: &str = "vault.element";
const KEY_LENGTH: usize = 32;
const SALT_LENGTH: usize = 16;
const NONCE_LENGTH: usize = 24;
const TAG_LENGTH: usize = 16;
const COMMITMENT_LENGTH: usize = 32;

/// The first byte of whatever is sealed: which way of sealing it is.
const FORM: u8 = 1;

/// Above these a `vault.json` is not believed: it would only exhaust the machine.
const MEMORY_KIB_MAX: u32 = 4 * 1024 * 1024;
const PASSES_MAX: u32 = 100;
const LANES_MAX: u32 = 16;

/// Longest file of the vault that is read.
const FILE_LENGTH_MAX: usize = 64 * 1024;

/// The module's vault key, ready for use.
///
/// Clones are handles to the same keys, which are wiped when the last handle is dropped.
#[derive(Clone)]
pub struct Vault(Arc<Keys>);

struct Keys {
    sealing: Secret<KEY_LENGTH>,
    device: Secret<KEY_LENGTH>,
}

/// How the vault key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Custody {
    /// In a file that only its owner may read.
    KeyFile,
    /// Sealed under a passphrase.
    Passphrase,
    /// Made by a secure element.
    Element,
}

/// Why a vault was not made or opened, or something sealed was not.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no vault key.
    #[error("no module here ({home} has neither vault.key nor vault.json nor vault.element)", home = .home.display())]
    Missing {
        /// The module's home.
        home: PathBuf,
    },
    /// There is a vault already; its key is never replaced.
    #[error("{path} exists already: this module has its vault key", path = .path.display())]
    Exists {
        /// The file that holds the key.
        path: PathBuf,
    },
    /// The passphrase does not open the vault key, or what is sealed under it was altered: both look alike.
    #[error("wrong passphrase, or {path} is damaged: then put it back from a backup", path = .path.display())]
    WrongPassphrase {
        /// The file that the passphrase should open.
        path: PathBuf,
    },
    /// There is no passphrase, or an empty one.
    #[error("a passphrase is needed to open the vault")]
    NoPassphrase(#[source] io::Error),
    /// What stands in the file is not a vault key.
    #[error("{path} is damaged: {why}; put it back from a backup", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Sealed under another vault key or in another place, or altered.
    #[error("a sealed value does not open: it was altered or moved, or sealed under another vault key")]
    NotAuthentic,
    /// The element that makes the vault key does not.
    #[error("the vault: {0}")]
    Element(#[source] ElementError),
    /// Another element is plugged in.
    #[error("the vault key is in element {expected}, and this is {found}: plug in the right one")]
    AnotherElement {
        /// Manufacturer and serial number of the right one.
        expected: String,
        /// Those of the one that is there.
        found: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness(#[source] io::Error),
    /// A file of the vault cannot be used.
    #[error(transparent)]
    File(#[from] DiskError),
}

impl Vault {
    /// Draws a vault key and keeps it in `vault.key`. Makes the module's home if need be.
    ///
    /// Whether an earlier command was cut off after this is told by [`Vault::custody`].
    pub fn create_with_key_file(home: &Path) -> Result<Self, VaultError> {
        prepare_home(home)?;
        let key = random_secret()?;
        write_new(&home.join(KEY_FILE), key.expose())?;
        Ok(Self::from_key(&key))
    }

    /// Draws a vault key and keeps it in `vault.json`, sealed under the passphrase.
    pub fn create_with_passphrase(home: &Path, passphrase: &[u8]) -> Result<Self, VaultError> {
        Self::create_with_cost(home, passphrase, Cost::DEFAULT)
    }

    fn create_with_cost(home: &Path, passphrase: &[u8], cost: Cost) -> Result<Self, VaultError> {
        check_passphrase(passphrase)?;
        prepare_home(home)?;
        let key = random_secret()?;
        let file = PassphraseFile::seal(&key, passphrase, cost)?;
        write_new(&home.join(PASSPHRASE_FILE), &file.emit())?;
        Ok(Self::from_key(&key))
    }

    /// Opens the vault. `passphrase` is asked only if the key is kept under one, and once.
    pub fn open(
        home: &Path,
        passphrase: impl FnOnce() -> io::Result<Zeroizing<Vec<u8>>>,
    ) -> Result<Self, VaultError> {
        match Self::custody(home)? {
            None => Err(VaultError::Missing { home: home.to_owned() }),
            Some(Custody::Element) => Self::open_in_element(home),
            Some(Custody::KeyFile) => {
                let path = home.join(KEY_FILE);
                let key = Secret::copy_from(&read_private(&path)?)
                    .ok_or(VaultError::Damaged { path, why: "it does not have 32 bytes" })?;
                Ok(Self::from_key(&key))
            }
            Some(Custody::Passphrase) => {
                let path = home.join(PASSPHRASE_FILE);
                let file: PassphraseFile = serde_json::from_slice(&read_private(&path)?)
                    .map_err(|_| VaultError::Damaged { path: path.clone(), why: "it is not a vault file" })?;
                let passphrase = passphrase().map_err(VaultError::NoPassphrase)?;
                check_passphrase(&passphrase)?;
                let key = file.open(&path, &passphrase)?;
                if file.version == PassphraseFile::FIRST {
                    file.commit(&path, &key, &passphrase)?;
                }
                Ok(Self::from_key(&key))
            }
        }
    }

    /// How the vault key of this module is kept; `None` if it has none.
    pub fn custody(home: &Path) -> Result<Option<Custody>, VaultError> {
        let there = |name: &str| {
            let path = home.join(name);
            path.try_exists().map_err(DiskError::system("cannot use", &path))
        };
        let kinds = [
            (KEY_FILE, Custody::KeyFile),
            (PASSPHRASE_FILE, Custody::Passphrase),
            (ELEMENT_FILE, Custody::Element),
        ];
        let mut found = None;
        for (name, custody) in kinds {
            if there(name)? && found.replace(custody).is_some() {
                return Err(VaultError::Damaged {
                    path: home.join(name),
                    why: "there is another vault key beside it; put the one aside that does not belong to this store",
                });
            }
        }
        Ok(found)
    }

    fn from_key(key: &Secret<KEY_LENGTH>) -> Self {
        let key = extract(&[], key.expose());
        Self(Arc::new(Keys {
            sealing: expand(&key, &[b"akm vault seal"]),
            device: expand(&key, &[b"akm vault device"]),
        }))
    }

    /// Seals bytes for one place: `u8 1 || nonce (24) || XChaCha20-Poly1305`, with the context as
    /// associated data.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        seal_under(&self.0.sealing, context, plain)
    }

    /// Opens what [`Vault::seal`] made with the same context.
    pub fn open_sealed(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        open_under(&self.0.sealing, context, sealed)
    }

    /// The module's own device key (protocol, section 6), under which it seals its places.
    pub(crate) fn device_key(&self) -> &Secret<KEY_LENGTH> {
        &self.0.device
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

/// What it costs to try a passphrase (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
}

/// The content of `vault.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PassphraseFile {
    version: u32,
    derivation: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    sealed_key: String,
    /// Not in a file of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commitment: Option<String>,
}

/// What can be known of a `vault.json` without a passphrase.
struct Known {
    salt: Vec<u8>,
    sealed: Vec<u8>,
    cost: Cost,
    commitment: Option<Vec<u8>>,
}

impl PassphraseFile {
    const VERSION: u32 = 2;
    /// Without a commitment.
    const FIRST: u32 = 1;
    const DERIVATION: &str = "argon2id";
    const CONTEXT: &str = "vault key";

    fn seal(key: &Secret<KEY_LENGTH>, passphrase: &[u8], cost: Cost) -> Result<Self, VaultError> {
        let mut salt = [0; SALT_LENGTH];
        fill_random(&mut salt)?;
        let (under, commitment) =
            derive(passphrase, &salt, cost).expect("the cost is one that this program chose");
        Ok(Self {
            version: Self::VERSION,
            derivation: Self::DERIVATION.to_owned(),
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            lanes: cost.lanes,
            salt: BASE64.encode(salt),
            sealed_key: BASE64.encode(seal_under(&under, Self::CONTEXT, key.expose())?),
            commitment: Some(BASE64.encode(commitment)),
        })
    }

    /// Checks all that can be checked without a passphrase.
    fn check(&self, path: &Path) -> Result<Known, VaultError> {
        let damaged = |why| VaultError::Damaged { path: path.to_owned(), why };
        if self.version > Self::VERSION || self.derivation != Self::DERIVATION {
            return Err(damaged("it was written by a later version of this program"));
        }
        if (self.version == Self::FIRST) != self.commitment.is_none() {
            return Err(damaged("its version and its content do not fit together"));
        }
        if self.memory_kib > MEMORY_KIB_MAX || self.passes > PASSES_MAX || self.lanes > LANES_MAX {
            return Err(damaged("its cost is beyond all reason"));
        }
        let salt = BASE64.decode(&self.salt).map_err(|_| damaged("its salt is not Base64"))?;
        let sealed = BASE64.decode(&self.sealed_key).map_err(|_| damaged("its key is not Base64"))?;
        if sealed.len() != 1 + NONCE_LENGTH + KEY_LENGTH + TAG_LENGTH {
            return Err(damaged("its key has the wrong length"));
        }
        let commitment = self.commitment.as_ref().map(|text| BASE64.decode(text)).transpose();
        let commitment = commitment.map_err(|_| damaged("its commitment is not Base64"))?;
        let cost = Cost { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes };
        Ok(Known { salt, sealed, cost, commitment })
    }

    fn open(&self, path: &Path, passphrase: &[u8]) -> Result<Secret<KEY_LENGTH>, VaultError> {
        let damaged = |why| VaultError::Damaged { path: path.to_owned(), why };
        let wrong = || VaultError::WrongPassphrase { path: path.to_owned() };
        let Known { salt, sealed, cost, commitment } = self.check(path)?;
        let invalid = || damaged("its cost or salt is invalid");
        let under = match commitment {
            None => derive_alone(passphrase, &salt, cost).ok_or_else(invalid)?,
            Some(commitment) => {
                let (under, own) = derive(passphrase, &salt, cost).ok_or_else(invalid)?;
                // It stands there in clear.
                if own[..] != commitment {
                    return Err(wrong());
                }
                under
            }
        };
        let key = open_under(&under, Self::CONTEXT, &sealed).map_err(|_| wrong())?;
        Secret::copy_from(&key).ok_or_else(|| damaged("its key has the wrong length"))
    }

    /// Writes a file of version 1 anew, so that it commits to its passphrase from then on. On a disk that takes nothing it
    /// stays as it is.
    fn commit(&self, path: &Path, key: &Secret<KEY_LENGTH>, passphrase: &[u8]) -> Result<(), VaultError> {
        let again = Self::seal(key, passphrase, self.check(path)?.cost)?;
        if let Err(error) = durable::replace(path, &again.emit()) {
            warn!(%error, "the file of the vault commits to no passphrase yet");
        }
        Ok(())
    }

    fn emit(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("numbers and text are always JSON")
    }
}

/// Reads a `vault.json`, checks what can be checked without a passphrase, and emits it again, with the memory in
/// KiB that it would take to open it. `None` if it is refused.
#[cfg(feature = "fuzzing")]
pub fn reread_vault_file(bytes: &[u8]) -> Option<(Vec<u8>, u32)> {
    let file: PassphraseFile = serde_json::from_slice(bytes).ok()?;
    let known = file.check(Path::new(PASSPHRASE_FILE)).ok()?;
    Some((file.emit(), known.cost.memory_kib))
}

/// Key and commitment of a passphrase, by Argon2id. `None` if cost or salt are outside of what it allows.
fn derive(
    passphrase: &[u8],
    salt: &[u8],
    cost: Cost,
) -> Option<(Secret<KEY_LENGTH>, [u8; COMMITMENT_LENGTH])> {
    let both: Secret<{ KEY_LENGTH + COMMITMENT_LENGTH }> = hash(passphrase, salt, cost)?;
    let (key, commitment) = both.expose().split_at(KEY_LENGTH);
    Some((Secret::copy_from(key)?, commitment.try_into().ok()?))
}

/// The key of a passphrase in a file that commits to none.
fn derive_alone(passphrase: &[u8], salt: &[u8], cost: Cost) -> Option<Secret<KEY_LENGTH>> {
    hash(passphrase, salt, cost)
}

fn hash<const N: usize>(passphrase: &[u8], salt: &[u8], cost: Cost) -> Option<Secret<N>> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(N)).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Secret::try_fill(|out| argon2.hash_password_into(passphrase, salt, out)).ok()
}

fn seal_under(key: &Secret<KEY_LENGTH>, context: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
    let mut nonce = [0; NONCE_LENGTH];
    fill_random(&mut nonce)?;
    let mut sealed = Vec::with_capacity(1 + NONCE_LENGTH + plain.len() + TAG_LENGTH);
    sealed.push(FORM);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain);
    let tag = XChaCha20Poly1305::new(key.expose().into())
        .encrypt_inout_detached(
            &XNonce::from(nonce),
            &associated(context),
            (&mut sealed[1 + NONCE_LENGTH..]).into(),
        )
        .expect("a column is far below the length limit of the AEAD");
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

fn open_under(
    key: &Secret<KEY_LENGTH>,
    context: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let (form, rest) = sealed.split_first().ok_or(VaultError::NotAuthentic)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LENGTH>().ok_or(VaultError::NotAuthentic)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_LENGTH>().ok_or(VaultError::NotAuthentic)?;
    if *form != FORM {
        return Err(VaultError::NotAuthentic);
    }
    let mut plain = Zeroizing::new(ciphertext.to_vec());
    XChaCha20Poly1305::new(key.expose().into())
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            &associated(context),
            plain.as_mut_slice().into(),
            &(*tag).into(),
        )
        .map_err(|_| VaultError::NotAuthentic)?;
    Ok(plain)
}

fn associated(context: &str) -> Vec<u8> {
    [b"akm vault\0", context.as_bytes()].concat()
}

fn check_passphrase(passphrase: &[u8]) -> Result<(), VaultError> {
    if passphrase.is_empty() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "the passphrase is empty");
        return Err(VaultError::NoPassphrase(error));
    }
    Ok(())
}

fn prepare_home(home: &Path) -> Result<(), VaultError> {
    directory::make_home(home)?;
    match Vault::custody(home)? {
        None => Ok(()),
        Some(Custody::KeyFile) => Err(VaultError::Exists { path: home.join(KEY_FILE) }),
        Some(Custody::Passphrase) => Err(VaultError::Exists { path: home.join(PASSPHRASE_FILE) }),
        Some(Custody::Element) => Err(VaultError::Exists { path: home.join(ELEMENT_FILE) }),
    }
}

/// Reads a file of the vault, if it is ours and closed to others.
fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, DiskError> {
    private::read(path, FILE_LENGTH_MAX, private::OWNER_ONLY, Links::Followed)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), VaultError> {
    durable::create(path, bytes).map_err(|error| match error {
        DiskError::Exists { path } => VaultError::Exists { path },
        other => other.into(),
    })
}

fn random_secret<const N: usize>() -> Result<Secret<N>, VaultError> {
    Secret::try_fill(|out| fill_random(out))
}

fn fill_random(out: &mut [u8]) -> Result<(), VaultError> {
    getrandom::fill(out).map_err(|error| VaultError::NoRandomness(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn no_passphrase() -> io::Result<Zeroizing<Vec<u8>>> {
        panic!("a key file needs no passphrase")
    }

    fn passphrase(text: &str) -> impl FnOnce() -> io::Result<Zeroizing<Vec<u8>>> {
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        move || Ok(bytes)
    }

    #[test]
    fn a_vault_with_a_key_file_opens_again_without_a_passphrase() {
        let top = tempfile::tempdir().unwrap();
        let home = top.path().join("akm");
        assert_eq!(Vault::custody(&home).unwrap(), None);
        let sealed = Vault::create_with_key_file(&home).unwrap().seal("a", b"secret").unwrap();
        assert_eq!(Vault::custody(&home).unwrap(), Some(Custody::KeyFile));
        let vault = Vault::open(&home, no_passphrase).unwrap();
        assert_eq!(&vault.open_sealed("a", &sealed).unwrap()[..], b"secret");
    }

    #[test]
    fn a_vault_with_a_passphrase_opens_with_it_alone() {
        let home = tempfile::tempdir().unwrap();
        let vault = Vault::create_with_cost(home.path(), b"correct horse", CHEAP).unwrap();
        let sealed = vault.seal("a", b"secret").unwrap();
        assert_eq!(Vault::custody(home.path()).unwrap(), Some(Custody::Passphrase));
        let vault = Vault::open(home.path(), passphrase("correct horse")).unwrap();
        assert_eq!(&vault.open_sealed("a", &sealed).unwrap()[..], b"secret");

        let open = |text| Vault::open(home.path(), passphrase(text)).unwrap_err();
        assert!(matches!(open("correct hors"), VaultError::WrongPassphrase { .. }));
        assert!(matches!(open(""), VaultError::NoPassphrase(_)));
        let asking_failed = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(matches!(Vault::open(home.path(), asking_failed), Err(VaultError::NoPassphrase(_))));
    }

    #[test]
    fn a_passphrase_costs_64_mib_and_three_passes_to_try() {
        let home = tempfile::tempdir().unwrap();
        Vault::create_with_passphrase(home.path(), b"correct horse").unwrap();
        let text = fs::read_to_string(home.path().join(PASSPHRASE_FILE)).unwrap();
        for cost in ["\"memory_kib\": 65536,", "\"passes\": 3,", "\"lanes\": 1,"] {
            assert!(text.contains(cost), "{cost}");
        }
        Vault::open(home.path(), passphrase("correct horse")).unwrap();
    }

    #[test]
    fn a_file_that_commits_to_no_passphrase_opens_once_and_commits_from_then_on() {
        let home = tempfile::tempdir().unwrap();
        let vault = Vault::create_with_cost(home.path(), b"p", CHEAP).unwrap();
        let sealed = vault.seal("a", b"secret").unwrap();
        let path = home.path().join(PASSPHRASE_FILE);
        let read = || serde_json::from_slice::<PassphraseFile>(&fs::read(&path).unwrap()).unwrap();
        let key = read().open(&path, b"p").unwrap();
        let salt = [7; SALT_LENGTH];
        let under = derive_alone(b"p", &salt, CHEAP).unwrap();
        let first = PassphraseFile {
            version: PassphraseFile::FIRST,
            salt: BASE64.encode(salt),
            sealed_key: BASE64.encode(seal_under(&under, PassphraseFile::CONTEXT, key.expose()).unwrap()),
            commitment: None,
            ..read()
        };
        fs::write(&path, first.emit()).unwrap();

        let refused = Vault::open(home.path(), passphrase("q")).unwrap_err();
        assert!(matches!(refused, VaultError::WrongPassphrase { .. }));
        assert_eq!(read().version, PassphraseFile::FIRST);
        for _ in 0..2 {
            let vault = Vault::open(home.path(), passphrase("p")).unwrap();
            assert_eq!(&vault.open_sealed("a", &sealed).unwrap()[..], b"secret");
            assert_eq!(read().version, PassphraseFile::VERSION);
        }
    }

    #[test]
    fn a_file_that_opens_under_another_passphrase_than_it_commits_to_does_not_open() {
        let home = tempfile::tempdir().unwrap();
        Vault::create_with_cost(home.path(), b"one", CHEAP).unwrap();
        let path = home.path().join(PASSPHRASE_FILE);
        let file: PassphraseFile = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let salt = BASE64.decode(&file.salt).unwrap();
        let (under, _) = derive(b"other", &salt, CHEAP).unwrap();
        let sealed_key =
            BASE64.encode(seal_under(&under, PassphraseFile::CONTEXT, &[7; KEY_LENGTH]).unwrap());
        fs::write(&path, PassphraseFile { sealed_key, ..file }.emit()).unwrap();
        for tried in ["one", "other"] {
            let refused = Vault::open(home.path(), passphrase(tried)).unwrap_err();
            assert!(matches!(refused, VaultError::WrongPassphrase { .. }), "{tried}");
        }
    }

    #[test]
    fn cost_and_salt_stand_in_the_file_and_a_changed_cost_does_not_open() {
        let home = tempfile::tempdir().unwrap();
        Vault::create_with_cost(home.path(), b"p", CHEAP).unwrap();
        let path = home.path().join(PASSPHRASE_FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"memory_kib\": 8,"));

        let replace = |from: &str, to: &str| {
            assert!(text.contains(from));
            fs::write(&path, text.replace(from, to)).unwrap();
            Vault::open(home.path(), passphrase("p")).unwrap_err()
        };
        assert!(matches!(replace("\"passes\": 1", "\"passes\": 2"), VaultError::WrongPassphrase { .. }));
        for (from, to) in [
            ("\"memory_kib\": 8", "\"memory_kib\": 4294967295"),
            ("\"lanes\": 1", "\"lanes\": 0"),
            ("\"version\": 2", "\"version\": 3"),
            ("\"version\": 2", "\"version\": 1"),
            ("\"commitment\": \"", "\"commitment\": \"!"),
            ("argon2id", "scrypt"),
            ("\"salt\": \"", "\"salt\": \"!"),
            ("\"sealed_key\": \"", "\"sealed_key\": \"AAAA"),
            ("\"version\"", "\"verzion\""),
        ] {
            assert!(matches!(replace(from, to), VaultError::Damaged { .. }), "{to}");
        }
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused_and_the_error_names_it() {
        let home = tempfile::tempdir().unwrap();
        Vault::create_with_key_file(home.path()).unwrap();
        let path = home.path().join(KEY_FILE);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Vault::open(home.path(), no_passphrase).unwrap_err();
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [0; 31]).unwrap();
        assert!(matches!(Vault::open(home.path(), no_passphrase), Err(VaultError::Damaged { .. })));
    }

    #[test]
    fn a_vault_key_is_never_replaced_and_two_are_not_guessed_between() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(Vault::open(home.path(), no_passphrase), Err(VaultError::Missing { .. })));
        Vault::create_with_key_file(home.path()).unwrap();
        let key = fs::read(home.path().join(KEY_FILE)).unwrap();
        assert!(matches!(Vault::create_with_key_file(home.path()), Err(VaultError::Exists { .. })));
        let other = Vault::create_with_cost(home.path(), b"p", CHEAP);
        assert!(matches!(other, Err(VaultError::Exists { .. })));
        assert_eq!(fs::read(home.path().join(KEY_FILE)).unwrap(), key);

        fs::write(home.path().join(PASSPHRASE_FILE), "{}").unwrap();
        assert!(matches!(Vault::open(home.path(), no_passphrase), Err(VaultError::Damaged { .. })));
    }

    #[test]
    fn what_is_sealed_opens_only_unaltered_in_its_own_context_and_vault() {
        let top = tempfile::tempdir().unwrap();
        let vault = Vault::create_with_key_file(&top.path().join("a")).unwrap();
        let other = Vault::create_with_key_file(&top.path().join("b")).unwrap();
        let sealed = vault.seal("row 1", b"secret").unwrap();
        assert_ne!(vault.seal("row 1", b"secret").unwrap(), sealed);
        assert_eq!(&vault.open_sealed("row 1", &sealed).unwrap()[..], b"secret");

        let refused = |vault: &Vault, context: &str, sealed: &[u8]| {
            assert!(matches!(vault.open_sealed(context, sealed), Err(VaultError::NotAuthentic)));
        };
        refused(&vault, "row 2", &sealed);
        refused(&other, "row 1", &sealed);
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            refused(&vault, "row 1", &altered);
            refused(&vault, "row 1", &sealed[..index]);
        }
    }

    #[test]
    fn debug_text_of_a_vault_shows_no_key() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(format!("{:?}", Vault::create_with_key_file(home.path()).unwrap()), "Vault");
    }
}
