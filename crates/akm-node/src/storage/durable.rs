//! Atomic, durable changes of files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::NodeError;

/// Writes a file as a whole or not at all, and durably.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), NodeError> {
    let temporary = path.with_added_extension("new");
    let result = (|| {
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(source) = result {
        // The old content stands; a leftover would only be overwritten by the next write.
        let _ = fs::remove_file(&temporary);
        return Err(NodeError::File { action: "cannot write", path: path.to_owned(), source });
    }
    sync_parent(path)
}

/// Renames durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), NodeError> {
    fs::rename(from, to).map_err(NodeError::file("cannot rename", from))?;
    sync_parent(to)
}

/// Removes a file durably, and what a write that was cut off left beside it. One that is not there
/// changes nothing.
pub(super) fn remove_file(path: &Path) -> Result<(), NodeError> {
    let _ = fs::remove_file(path.with_added_extension("new"));
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(NodeError::File { action: "cannot remove", path: path.to_owned(), source }),
    }
}

/// Removes a directory with all that is in it. One that is not there changes nothing.
pub(super) fn remove_dir(path: &Path) -> Result<(), NodeError> {
    match fs::remove_dir_all(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(NodeError::File { action: "cannot remove", path: path.to_owned(), source }),
    }
}

/// Makes what happened to the names in a directory durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), NodeError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(NodeError::file("cannot sync", parent))
}
