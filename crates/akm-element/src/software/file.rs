//! Files that nobody but their owner may read, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use akm_core::element::ElementError;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::envelope::checksum;
use crate::advice;

/// A file that is only ever replaced as a whole, and that knows what it last saw there.
pub(crate) struct DurableFile {
    path: PathBuf,
    temporary: PathBuf,
    directory: PathBuf,
    last_seen: Option<[u8; 32]>,
}

impl DurableFile {
    /// Names the file; touches nothing.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        Self {
            path: directory.join(name),
            temporary: directory.join(format!("{name}.tmp")),
            directory: directory.to_path_buf(),
            last_seen: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something stands under the name, of whatever kind.
    pub(crate) fn exists(&self) -> Result<bool, ElementError> {
        match fs::symlink_metadata(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(unavailable(&self.path, &error)),
        }
    }

    /// Reads the file, and removes what a crash may have left beside it: that could hold a root that
    /// has been erased since.
    pub(crate) fn load(&mut self, most: usize) -> Result<Zeroizing<Vec<u8>>, ElementError> {
        let bytes = read_private(&self.path, most, OFlags::NOFOLLOW)?;
        self.remove_temporary()?;
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
        let present = read_private(&self.path, most, OFlags::NOFOLLOW)?;
        if checksum(&present) != self.last_seen {
            let why = "was changed by another program; open it again";
            return Err(ElementError::Unavailable(format!("{} {why}", self.path.display())));
        }
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ElementError> {
        self.remove_temporary()?;
        let written =
            write_new(&self.temporary, bytes).and_then(|()| fs::rename(&self.temporary, &self.path));
        if let Err(error) = written {
            // It failed already; what is left is removed when the file is next read or written.
            let _ = fs::remove_file(&self.temporary);
            return Err(unavailable(&self.temporary, &error));
        }
        self.last_seen = checksum(bytes);
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| unavailable(&self.directory, &error))
    }

    /// Removes the file and what a crash may have left beside it. Repeating changes nothing.
    pub(crate) fn remove(&self) -> Result<(), ElementError> {
        self.remove_temporary()?;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unavailable(&self.path, &error));
            }
            _ => {}
        }
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| unavailable(&self.directory, &error))
    }

    fn remove_temporary(&self) -> Result<(), ElementError> {
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unavailable(&self.temporary, &error))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a passphrase: the content of a file, without the line end that editors put there.
pub(crate) fn read_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, ElementError> {
    const LENGTH_MAX: usize = 4096;
    let mut passphrase = read_private(path, LENGTH_MAX, OFlags::empty())?;
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
    flags: OFlags,
) -> Result<Zeroizing<Vec<u8>>, ElementError> {
    let file = OpenOptions::new()
        .read(true)
        // A pipe under this name must not hold the program up.
        .custom_flags((flags | OFlags::NONBLOCK).bits() as i32)
        .open(path)
        .map_err(|error| unavailable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unavailable(path, &error))?;
    if !metadata.is_file() {
        return Err(ElementError::Refused(format!(
            "{} is not a regular file: move away what is in its place",
            path.display()
        )));
    }
    check_private(metadata.mode(), metadata.uid(), rustix::process::geteuid().as_raw())
        .map_err(|why| ElementError::Refused(format!("{} {why}", path.display())))?;
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    // With room to spare the vector does not move, which would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.min(most) + 64));
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|error| unavailable(path, &error))?;
    if bytes.len() > most {
        return Err(ElementError::Refused(format!("{} is longer than {most} bytes", path.display())));
    }
    Ok(bytes)
}

fn check_private(mode: u32, owner: u32, user: u32) -> Result<(), String> {
    if owner != user {
        return Err(format!(
            "belongs to user {owner}, and this program runs as user {user}: use that user, or give it back (chown {user})"
        ));
    }
    let mode = mode & 0o7777;
    if mode & !0o600 != 0 {
        return Err(format!(
            "has mode {mode:04o}, which is wider than 0600: chmod 600 it, if nobody else had it"
        ));
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn unavailable(path: &Path, error: &io::Error) -> ElementError {
    if error.kind() == io::ErrorKind::NotFound {
        return ElementError::Unavailable(format!("{} is missing: put it back", path.display()));
    }
    ElementError::Unavailable(format!("{}: {error}{}", path.display(), advice(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_to_the_user_who_owns_it() {
        assert_eq!(check_private(0o100_600, 7, 7), Ok(()));
        assert_eq!(check_private(0o100_400, 0, 0), Ok(()));
        for mode in [0o640, 0o604, 0o620, 0o700, 0o660, 0o4600] {
            assert!(check_private(mode, 7, 7).unwrap_err().contains("wider than 0600"), "{mode:o}");
        }
        assert_eq!(
            check_private(0o600, 7, 0).unwrap_err(),
            "belongs to user 7, and this program runs as user 0: use that user, or give it back (chown 0)"
        );
    }
}
