//! Directories that nobody but their owner may use, and that last.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::durable::sync_directory_of;
use crate::error::DiskError;
use crate::private::{DIRECTORY_MODE, Links, OWNER_ONLY, check};

/// Makes a directory of mode 0700 durably, and those above it that are missing.
///
/// One of that name is used if it is ours and closed to others; an empty one of ours is closed.
pub fn make_directory(path: &Path, links: Links) -> Result<(), DiskError> {
    let found = match links {
        Links::Followed => fs::metadata(path),
        Links::Refused => fs::symlink_metadata(path),
    };
    if let Ok(metadata) = found {
        return use_directory(path, &metadata);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
        .map_err(DiskError::system("cannot make", path))?;
    sync_directory_of(path)
}

/// Makes a directory of mode 0700 where a person has chosen the place: those above it get the user's usual mode.
pub fn make_home(path: &Path) -> Result<(), DiskError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(DiskError::system("cannot make", parent))?;
    }
    make_directory(path, Links::Followed)
}

fn use_directory(path: &Path, metadata: &Metadata) -> Result<(), DiskError> {
    if !metadata.is_dir() {
        return Err(DiskError::Misplaced { path: path.to_owned(), wanted: "directory" });
    }
    match check(path, metadata, OWNER_ONLY) {
        Err(DiskError::Exposed { .. }) if is_empty(path)? => {
            fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
                .map_err(DiskError::system("cannot use", path))
        }
        other => other,
    }
}

fn is_empty(path: &Path) -> Result<bool, DiskError> {
    Ok(fs::read_dir(path).map_err(DiskError::system("cannot use", path))?.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn directories_are_made_closed_and_a_used_one_that_is_open_is_refused() {
        let make_own: fn(&Path) -> Result<(), DiskError> = |path| make_directory(path, Links::Refused);
        for make in [make_home, make_own] {
            let top = tempfile::tempdir().unwrap();
            let home = top.path().join("share/akm");
            make(&home).unwrap();
            assert_eq!(mode(&home), DIRECTORY_MODE);
            make(&home).unwrap();

            set_mode(&home, 0o755);
            make(&home).unwrap();
            assert_eq!(mode(&home), DIRECTORY_MODE, "an empty one is closed");

            fs::write(home.join("a"), b"").unwrap();
            set_mode(&home, 0o755);
            assert!(matches!(make(&home), Err(DiskError::Exposed { is_directory: true, .. })));
            assert_eq!(mode(&home), 0o755, "a used one is left alone");
        }
    }

    #[test]
    fn those_above_a_directory_are_closed_and_those_above_a_home_are_not() {
        let top = tempfile::tempdir().unwrap();
        make_directory(&top.path().join("node/state"), Links::Refused).unwrap();
        assert_eq!(mode(&top.path().join("node")), DIRECTORY_MODE);
        make_home(&top.path().join("share/akm")).unwrap();
        fs::create_dir(top.path().join("usual")).unwrap();
        assert_eq!(mode(&top.path().join("share")), mode(&top.path().join("usual")));
    }

    #[test]
    fn a_link_leads_to_a_directory_only_where_that_was_asked_for() {
        let top = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (top.path().join("elsewhere"), top.path().join("link"));
        make_home(&elsewhere).unwrap();
        symlink(&elsewhere, &link).unwrap();
        make_home(&link).unwrap();
        make_directory(&link, Links::Followed).unwrap();
        let error = make_directory(&link, Links::Refused).unwrap_err();
        assert!(error.to_string().contains("is not a directory"), "{error}");
    }
}
