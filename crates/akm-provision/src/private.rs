//! Files and directories that only their owner may read: all that the module keeps.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use akm_element::advice;
use zeroize::Zeroizing;

/// Mode of a private directory.
pub const DIRECTORY_MODE: u32 = 0o700;

/// Mode of a private file.
pub const FILE_MODE: u32 = 0o600;

/// Why a private file or directory was not made or not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// Others could read or write it, so what it holds cannot be trusted.
    #[error("{path} is open to others: run `chmod {mode} {path}`", path = .path.display(), mode = if *.directory { 700 } else { 600 })]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Whether it is a directory.
        directory: bool,
    },
    /// Another user owns it.
    #[error("{path} belongs to another user: run as its owner, or choose another AKM_HOME", path = .path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
    },
    /// It is there already and is not overwritten.
    #[error("{path} exists already", path = .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system did not let us.
    #[error("cannot use {path}: {source}{}", advice(source), path = .path.display())]
    Unavailable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PrivateError {
    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unavailable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Makes the module's home: a private directory, and those above it with the user's usual mode.
pub fn create_home(path: &Path) -> Result<(), PrivateError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|source| unavailable(parent, source))?;
    }
    create_directory(path)
}

/// Makes a directory of mode 0700 in one that is there.
///
/// One of that name is used if it is ours and closed to others; an empty one of ours is closed.
pub fn create_directory(path: &Path) -> Result<(), PrivateError> {
    let unavailable = |source| unavailable(path, source);
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_empty = fs::read_dir(path).map_err(unavailable)?.next().is_none();
            let metadata = fs::metadata(path).map_err(unavailable)?;
            match check(path, &metadata) {
                Err(PrivateError::Exposed { .. }) if is_empty => {
                    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)).map_err(unavailable)
                }
                other => other,
            }
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// Writes a new file of mode 0600 durably. It appears whole or not at all, and replaces nothing.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PrivateError> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let written = write_draft(&draft, bytes)
        .map_err(|source| unavailable(&draft, source))
        .and_then(|()| publish(&draft, path));
    // The draft is only another name of the same file, or of one that failed.
    let removed = fs::remove_file(&draft).map_err(|source| unavailable(&draft, source));
    written.and(removed)?;
    sync_directory_of(path)
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left over by a process that was killed and had the same number.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A hard link, unlike a rename, fails where the name is taken.
fn publish(draft: &Path, path: &Path) -> Result<(), PrivateError> {
    fs::hard_link(draft, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => PrivateError::Exists { path: path.to_owned() },
        _ => unavailable(path, error),
    })
}

/// Makes the names in the directory of `path` durable.
pub fn sync_directory_of(path: &Path) -> Result<(), PrivateError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|file| file.sync_all()).map_err(|source| unavailable(directory, source))
}

/// Reads a file, if it is ours and closed to others.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PrivateError> {
    let unavailable = |source| unavailable(path, source);
    let mut file = File::open(path).map_err(unavailable)?;
    let metadata = file.metadata().map_err(unavailable)?;
    check(path, &metadata)?;
    // With room for all of it from the start, reading leaves no smaller copies behind.
    let length = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.read_to_end(&mut bytes).map_err(unavailable)?;
    Ok(bytes)
}

/// Refuses what others may read or write, or own.
pub fn check(path: &Path, metadata: &Metadata) -> Result<(), PrivateError> {
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(PrivateError::Foreign { path: path.to_owned() });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(PrivateError::Exposed { path: path.to_owned(), directory: metadata.is_dir() });
    }
    Ok(())
}

fn unavailable(path: &Path, source: io::Error) -> PrivateError {
    PrivateError::Unavailable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_closed_to_others_and_replaces_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.key");
        write_new(&path, b"first").unwrap();
        assert_eq!(mode(&path), FILE_MODE);
        assert!(matches!(write_new(&path, b"second"), Err(PrivateError::Exists { .. })));
        assert_eq!(&read(&path).unwrap()[..], b"first");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_and_the_error_says_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.key");
        write_new(&path, b"secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, PrivateError::Exposed { .. }));
        assert!(error.to_string().ends_with(&format!("run `chmod 600 {}`", path.display())));
    }

    #[test]
    fn a_missing_file_is_told_apart() {
        let home = tempfile::tempdir().unwrap();
        assert!(read(&home.path().join("none")).unwrap_err().is_missing());
    }

    #[test]
    fn directories_are_made_closed_and_a_used_one_that_is_open_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let home = top.path().join("share/akm");
        create_home(&home).unwrap();
        assert_eq!(mode(&home), DIRECTORY_MODE);
        create_directory(&home).unwrap();

        fs::set_permissions(&home, Permissions::from_mode(0o755)).unwrap();
        create_directory(&home).unwrap();
        assert_eq!(mode(&home), DIRECTORY_MODE, "an empty one is closed");

        fs::write(home.join("a"), b"").unwrap();
        fs::set_permissions(&home, Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(create_directory(&home), Err(PrivateError::Exposed { directory: true, .. })));
        assert_eq!(mode(&home), 0o755, "a used one is left alone");
    }
}
