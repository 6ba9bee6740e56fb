//! The software element: one file. It protects nothing from root on the same machine.
//!
//! It is for targets that have no element of their own, and for trying things out. Who can read the
//! file (and the passphrase, where it is sealed) has everything that it holds; what is erased is no
//! longer in the file, though the disk may keep old blocks for a while.
//!
//! It cannot unwrap: a root comes as its 32 plain bytes, so the host sees it. `identify` tells by
//! [`Protection::Software`].

mod content;
mod envelope;
pub(crate) mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use akm_core::element::{
    Description, ElementError, Label, MonotonicCounter, Protection, ProvisionableElement, Root, SecureElement,
};
use akm_core::keys::{CONTEXT_LENGTH, element_function};
use akm_core::secret::{Secret, SecretBytes};
use akm_core::text::hexadecimal;

use content::Content;
use envelope::{Cost, Envelope, InvalidEnvelope, Seal};
use file::DurableFile;
#[cfg(feature = "pkcs11")]
pub(crate) use file::read_passphrase;
#[cfg(feature = "card")]
pub(crate) use file::read_private;

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "element";

/// Longest file that is read or written, enough for about 290,000 roots.
const FILE_LENGTH_MAX: usize = 16 * 1024 * 1024;

/// A secure element that is a file.
///
/// Every change is on the disk before it shows; when a write fails the element goes on as if it had
/// not been asked. A file that another program has changed meanwhile is never overwritten; whoever
/// opens it sees to it that there is no other.
pub struct SoftwareElement {
    file: DurableFile,
    seal: Option<Seal>,
    content: Content,
}

/// Wraps a root for a software element: the plain bytes, as it has no key to unwrap with.
pub fn wrap_for_software(root: &Secret<32>) -> SecretBytes {
    SecretBytes::copy_from(root.expose())
}

impl SoftwareElement {
    /// Opens the element in this directory, which must exist. A passphrase file is needed exactly if
    /// the element is sealed; it is read here and not again.
    pub fn open(state_dir: &Path, passphrase_file: Option<&Path>) -> Result<Self, ElementError> {
        let mut file = DurableFile::new(state_dir, FILE_NAME);
        let bytes = file.load(FILE_LENGTH_MAX)?;
        let path = file.path().display();
        let damaged = || ElementError::Damaged(format!("{path} fails its own checks"));
        let refused = |why: String| Err(ElementError::Refused(why));
        let envelope = match Envelope::parse(&bytes) {
            Ok(envelope) => envelope,
            Err(InvalidEnvelope::Damaged) => return Err(damaged()),
            Err(InvalidEnvelope::Format(format)) => {
                return refused(match format {
                    1 => {
                        format!("{path} is of revision 1 of the protocol, which this version does not speak")
                    }
                    _ => format!("{path} has format {format}, which this version does not know"),
                });
            }
        };
        let (content, seal) = match (envelope, passphrase_file) {
            (Envelope::Plain(content), None) => (Content::parse(content), None),
            (Envelope::Sealed(sealed), Some(passphrase_file)) => {
                let passphrase = file::read_passphrase(passphrase_file)?;
                let seal = Seal::derive(&passphrase, sealed.salt, sealed.cost).map_err(no_memory)?;
                let Some(content) = sealed.open(&seal) else {
                    let passphrase_file = passphrase_file.display();
                    return refused(format!("wrong passphrase in {passphrase_file}, or {path} is damaged"));
                };
                (Content::parse(&content), Some(seal))
            }
            (Envelope::Sealed(_), None) => {
                return refused(format!(
                    "{path} is sealed: set the element to software:passphrase-file=/path/to/its/passphrase"
                ));
            }
            (Envelope::Plain(_), Some(_)) => {
                return refused(format!("{path} is not sealed: set the element to software"));
            }
        };
        let content = content.map_err(|_| damaged())?;
        Ok(Self { file, seal, content })
    }

    /// Opens the element in this directory, and makes it first if there is none: sealed if a
    /// passphrase file is given. The directory must exist.
    pub fn create(state_dir: &Path, passphrase_file: Option<&Path>) -> Result<Self, ElementError> {
        Self::create_at_cost(state_dir, passphrase_file, Cost::DEFAULT)
    }

    fn create_at_cost(
        state_dir: &Path,
        passphrase_file: Option<&Path>,
        cost: Cost,
    ) -> Result<Self, ElementError> {
        let mut file = DurableFile::new(state_dir, FILE_NAME);
        if file.exists()? {
            return Self::open(state_dir, passphrase_file);
        }
        let seal = match passphrase_file {
            None => None,
            Some(path) => {
                let passphrase = file::read_passphrase(path)?;
                Some(Seal::derive(&passphrase, random_bytes()?, cost).map_err(no_memory)?)
            }
        };
        let content = Content::new(random_bytes()?);
        file.create(&envelope::emit(&content.emit(), seal.as_ref(), random_bytes()?))?;
        Ok(Self { file, seal, content })
    }

    /// Removes the file of an element that cannot be opened any more. Repeating changes nothing.
    pub fn discard(state_dir: &Path) -> Result<(), ElementError> {
        DurableFile::new(state_dir, FILE_NAME).remove()
    }

    /// Keeps many roots with one write, all of them or none: for whoever restores or makes ready a node with
    /// many relationships, since each write is of the whole file. Otherwise like
    /// [`ProvisionableElement::install`].
    pub fn install_all(&mut self, roots: BTreeMap<Root, Secret<32>>) -> Result<(), ElementError> {
        for (root, key) in &roots {
            self.check_installable(*root, key.expose())?;
        }
        self.change(|content| content.roots.extend(roots))
    }

    /// Refuses the device key, and another key for a root that is held.
    fn check_installable(&self, root: Root, key: &[u8; 32]) -> Result<(), ElementError> {
        let refused = |why: &str| Err(ElementError::Refused(why.into()));
        if root == Root::Device {
            return refused("the device key is made inside the element, never installed");
        }
        if self.content.roots.get(&root).is_some_and(|held| !held.equals(key)) {
            return refused("it holds another root under this relationship and version");
        }
        Ok(())
    }

    /// Makes a change on a copy, and the copy the content once it is durable.
    fn change(&mut self, edit: impl FnOnce(&mut Content)) -> Result<(), ElementError> {
        let mut next = self.content.duplicate();
        edit(&mut next);
        let bytes = envelope::emit(&next.emit(), self.seal.as_ref(), random_bytes()?);
        if bytes.len() > FILE_LENGTH_MAX {
            return Err(ElementError::Full);
        }
        self.file.replace(&bytes, FILE_LENGTH_MAX)?;
        self.content = next;
        Ok(())
    }
}

impl SecureElement for SoftwareElement {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        if context.len() > CONTEXT_LENGTH {
            return Err(ElementError::Refused(format!("a context has at most {CONTEXT_LENGTH} bytes")));
        }
        let key = self.content.roots.get(&root).ok_or(ElementError::NoSuchRoot)?;
        Ok(element_function(key.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        getrandom::fill(out).map_err(|error| no_randomness(&error))
    }
}

impl ProvisionableElement for SoftwareElement {
    fn description(&self) -> Description {
        Description {
            kind: "software".into(),
            manufacturer: "AKM".into(),
            serial: hexadecimal(&self.content.serial),
            firmware: env!("CARGO_PKG_VERSION").into(),
            protection: Protection::Software,
            sealed: self.seal.is_some(),
            counter: true,
        }
    }

    /// Nothing: wrapping for this element needs no more than its description, which travels beside.
    fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
        Ok(Vec::new())
    }

    fn make_device_key(&mut self) -> Result<(), ElementError> {
        if self.content.roots.contains_key(&Root::Device) {
            return Ok(());
        }
        let key = Secret::try_fill(|out| getrandom::fill(out)).map_err(|error| no_randomness(&error))?;
        self.change(|content| {
            content.roots.insert(Root::Device, key);
        })
    }

    /// Keeps a root. `wrapped` is what [`wrap_for_software`] makes: the host has seen it.
    fn install(&mut self, root: Root, wrapped: &[u8]) -> Result<(), ElementError> {
        let Some(key) = Secret::copy_from(wrapped) else {
            return Err(ElementError::Refused("a root for a software element has 32 bytes".into()));
        };
        self.check_installable(root, key.expose())?;
        if self.content.roots.contains_key(&root) {
            return Ok(());
        }
        self.change(|content| {
            content.roots.insert(root, key);
        })
    }

    fn erase(&mut self, root: Root) -> Result<(), ElementError> {
        if !self.content.roots.contains_key(&root) {
            return Ok(());
        }
        self.change(|content| {
            content.roots.remove(&root);
        })
    }

    fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
        Ok(self.content.roots.keys().copied().collect())
    }

    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        Some(self)
    }
}

impl MonotonicCounter for SoftwareElement {
    fn value(&mut self) -> Result<u64, ElementError> {
        Ok(self.content.counter)
    }

    fn count_up(&mut self) -> Result<u64, ElementError> {
        let Some(next) = self.content.counter.checked_add(1) else {
            return Err(ElementError::Refused("the counter is used up".into()));
        };
        self.change(|content| content.counter = next)?;
        Ok(next)
    }
}

impl fmt::Debug for SoftwareElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwareElement")
            .field("path", &self.file.path())
            .field("sealed", &self.seal.is_some())
            .field("counter", &self.content.counter)
            .field("roots", &self.content.roots)
            .finish_non_exhaustive()
    }
}

fn random_bytes<const N: usize>() -> Result<[u8; N], ElementError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| no_randomness(&error))?;
    Ok(bytes)
}

fn no_randomness(error: &getrandom::Error) -> ElementError {
    ElementError::Unavailable(format!("the system gives no random bytes: {error}"))
}

fn no_memory(_: envelope::OutOfMemory) -> ElementError {
    ElementError::Unavailable("not enough memory to find the key of its passphrase".into())
}

#[cfg(test)]
mod tests;
