//! What a disk says, as an element says it, and the file that an element keeps.

use std::path::{Path, PathBuf};

use akm_core::element::ElementError;
use akm_disk::private::{self, FILE_MODE, Links};
use akm_disk::{DiskError, advice, durable};
use zeroize::Zeroizing;

use super::envelope::checksum;

/// A file that is only ever replaced as a whole, and that knows what it last saw there.
pub(crate) struct DurableFile {
    path: PathBuf,
    draft: PathBuf,
    last_seen: Option<[u8; 32]>,
}

impl DurableFile {
    /// Names the file; touches nothing.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name), draft: directory.join(format!("{name}.tmp")), last_seen: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something stands under the name, of whatever kind.
    pub(crate) fn exists(&self) -> Result<bool, ElementError> {
        private::is_there(&self.path).map_err(of_element)
    }

    /// Reads the file, and removes what a crash may have left beside it: that could hold a root that
    /// has been erased since.
    pub(crate) fn load(&mut self, most: usize) -> Result<Zeroizing<Vec<u8>>, ElementError> {
        let bytes = read_private(&self.path, most, Links::Refused)?;
        durable::discard(&self.draft).map_err(of_element)?;
        self.last_seen = checksum(&bytes);
        Ok(bytes)
    }

    /// Makes the file, which must not exist.
    pub(crate) fn create(&mut self, bytes: &[u8]) -> Result<(), ElementError> {
        self.write(bytes)
    }

    /// Puts other bytes in the place of those last seen, durably. After an error the file holds the
    /// old bytes or the new ones, whole. Bytes that another program has put there are left alone.
    pub(crate) fn replace(&mut self, bytes: &[u8], most: usize) -> Result<(), ElementError> {
        let present = read_private(&self.path, most, Links::Refused)?;
        if checksum(&present) != self.last_seen {
            let why = "was changed by another program; open it again";
            return Err(ElementError::Unavailable(format!("{} {why}", self.path.display())));
        }
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ElementError> {
        durable::put(&self.path, &self.draft, bytes).map_err(of_element)?;
        self.last_seen = checksum(bytes);
        durable::sync_directory_of(&self.path).map_err(of_element)
    }

    /// Removes the file and what a crash may have left beside it. Repeating changes nothing.
    pub(crate) fn remove(&self) -> Result<(), ElementError> {
        durable::discard(&self.draft).and_then(|()| durable::remove_file(&self.path)).map_err(of_element)
    }
}

/// Reads a passphrase: the content of a file, without the line end that editors put there.
pub(crate) fn read_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, ElementError> {
    const LENGTH_MAX: usize = 4096;
    let mut passphrase = read_private(path, LENGTH_MAX, Links::Followed)?;
    if passphrase.last() == Some(&b'\n') {
        passphrase.pop();
        if passphrase.last() == Some(&b'\r') {
            passphrase.pop();
        }
    }
    if passphrase.is_empty() {
        return Err(ElementError::Refused(format!("{} holds no passphrase", path.display())));
    }
    Ok(passphrase)
}

/// Reads a regular file of at most `most` bytes that belongs to this user and to nobody else.
pub(crate) fn read_private(
    path: &Path,
    most: usize,
    links: Links,
) -> Result<Zeroizing<Vec<u8>>, ElementError> {
    private::read(path, most, FILE_MODE, links).map_err(of_element)
}

/// What the system did not let us do may go well another time; all else is for a person to put right.
fn of_element(error: DiskError) -> ElementError {
    let is_missing = error.is_missing();
    match error {
        DiskError::System { path, .. } if is_missing => {
            ElementError::Unavailable(format!("{} is missing: put it back", path.display()))
        }
        DiskError::System { path, source, .. } => {
            ElementError::Unavailable(format!("{}: {source}{}", path.display(), advice(&source)))
        }
        DiskError::Exposed { path, mode, .. } => ElementError::Refused(format!(
            "{} has mode {mode:04o}, which is wider than 0600: chmod 600 it, if nobody else had it",
            path.display()
        )),
        other => ElementError::Refused(other.to_string()),
    }
}
