//! Changes of files that happen as a whole or not at all, and last.
//!
//! The order is always the same: the bytes go into a draft beside the file, `fsync`, the name, `fsync` of the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::DiskError;
use crate::private::FILE_MODE;

/// The name under which [`replace`] writes what a file is going to hold.
pub fn draft_of(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// Writes a file as a whole or not at all, with mode 0600. After an error it holds the old bytes or the new ones.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    put(path, &draft_of(path), bytes)?;
    sync_directory_of(path)
}

/// The first half of [`replace`], with a name for the draft: after an error the file holds the old bytes. Until
/// [`sync_directory_of`] has been called a loss of power may bring them back.
pub fn put(path: &Path, draft: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let written = write_draft(draft, bytes)
        .map_err(DiskError::system("cannot write", draft))
        .and_then(|()| fs::rename(draft, path).map_err(DiskError::system("cannot write", path)));
    if written.is_err() {
        // It failed already; what is left is overwritten by the next draft.
        let _ = fs::remove_file(draft);
    }
    written
}

/// Writes a file that is not there yet, with mode 0600. It appears whole or not at all, and replaces nothing.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let written = write_draft(&draft, bytes)
        .map_err(DiskError::system("cannot write", &draft))
        .and_then(|()| publish(&draft, path));
    // The draft is only another name of the same file, or of one that failed.
    let removed = fs::remove_file(&draft).map_err(DiskError::system("cannot remove", &draft));
    written.and(removed)?;
    sync_directory_of(path)
}

/// Gives a file or a directory another name, in place of what had that.
pub fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    fs::rename(from, to).map_err(DiskError::system("cannot rename", from))?;
    sync_directory_of(to)
}

/// Removes a file, and what a [`replace`] that was cut off left beside it. One that is not there changes nothing.
pub fn remove_file(path: &Path) -> Result<(), DiskError> {
    let _ = discard(&draft_of(path));
    removed(path, fs::remove_file(path))
}

/// Removes what counts for nothing, such as a draft; that need not last. One that is not there changes nothing.
pub fn discard(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(DiskError::system("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with all that is in it. One that is not there changes nothing.
pub fn remove_directory(path: &Path) -> Result<(), DiskError> {
    removed(path, fs::remove_dir_all(path))
}

fn removed(path: &Path, result: io::Result<()>) -> Result<(), DiskError> {
    match result {
        Ok(()) => sync_directory_of(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(DiskError::system("cannot remove", path)(source)),
    }
}

/// Makes durable what happened to the names in the directory of `path`.
pub fn sync_directory_of(path: &Path) -> Result<(), DiskError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(DiskError::system("cannot sync", directory))
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let make = || OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(draft);
    let mut file = match make() {
        // Left by a process that was killed. It goes first: it may have another mode, or be a link.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(draft)?;
            make()?
        }
        result => result?,
    };
    file.write_all(bytes)?;
    file.sync_all()
}

/// A hard link, unlike a rename, fails where the name is taken.
fn publish(draft: &Path, path: &Path) -> Result<(), DiskError> {
    fs::hard_link(draft, path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => DiskError::Exists { path: path.to_owned() },
        _ => DiskError::system("cannot write", path)(error),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("place");
        fs::write(&path, b"old, and longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), FILE_MODE);
        assert_eq!(names(home.path()), ["place"]);
    }

    #[test]
    fn what_a_crash_left_of_a_draft_is_overwritten_and_a_link_there_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (home.path().join("place"), home.path().join("elsewhere"));
        fs::write(&elsewhere, b"of somebody else").unwrap();
        for leave in [&|draft: &Path| fs::write(draft, b"half a pla").unwrap(), &|draft: &Path| {
            symlink(&elsewhere, draft).unwrap()
        }] as [&dyn Fn(&Path); 2]
        {
            leave(&draft_of(&path));
            replace(&path, b"new").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(mode(&path), FILE_MODE);
        }
        assert_eq!(fs::read(&elsewhere).unwrap(), b"of somebody else");
        assert_eq!(names(home.path()), ["elsewhere", "place"]);
    }

    #[test]
    fn a_replacement_that_fails_leaves_the_old_content_and_says_what_stands_in_its_way() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("place");
        fs::write(&path, b"old").unwrap();
        fs::create_dir(draft_of(&path)).unwrap();
        let error = replace(&path, b"new").unwrap_err();
        assert!(error.to_string().contains("/place.new: "), "{error}");
        assert!(error.to_string().ends_with("move that away"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");

        let directory = home.path().join("directory");
        fs::create_dir(&directory).unwrap();
        let error = replace(&directory, b"new").unwrap_err();
        assert!(error.to_string().contains("/directory: "), "{error}");
        assert_eq!(names(home.path()), ["directory", "place", "place.new"], "no draft is left");
    }

    #[test]
    fn a_file_that_is_there_is_not_created_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.key");
        create(&path, b"first").unwrap();
        assert_eq!(mode(&path), FILE_MODE);
        assert!(matches!(create(&path, b"second"), Err(DiskError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(home.path()), ["a.key"], "no draft is left");
    }

    #[test]
    fn removing_takes_the_draft_too_and_may_be_repeated() {
        let home = tempfile::tempdir().unwrap();
        let (path, directory) = (home.path().join("place"), home.path().join("directory"));
        fs::write(&path, b"old").unwrap();
        fs::write(draft_of(&path), b"half").unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("file"), b"").unwrap();
        for _ in 0..2 {
            remove_file(&path).unwrap();
            remove_directory(&directory).unwrap();
            assert!(names(home.path()).is_empty());
        }
    }

    #[test]
    fn a_name_without_a_directory_is_one_in_the_current_directory() {
        sync_directory_of(Path::new("place")).unwrap();
    }
}
