//! Files and directories that nobody but their owner may use.

use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::durable::sync_directory_of;
use crate::error::DiskError;

/// Mode of a private directory.
pub const DIRECTORY_MODE: u32 = 0o700;

/// Mode of a private file.
pub const FILE_MODE: u32 = 0o600;

/// All that an owner may do, and nothing that others may: for what came from elsewhere with a mode of its own.
pub const OWNER_ONLY: u32 = 0o7700;

/// Whether a symbolic link may lead to a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It may: a person has chosen the place.
    Followed,
    /// It may not: the place is the program's own.
    Refused,
}

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

/// Reads a regular file of at most `most` bytes that is ours and has no mode but those bits.
pub fn read(path: &Path, most: usize, mode: u32, links: Links) -> Result<Zeroizing<Vec<u8>>, DiskError> {
    let unusable = |error| DiskError::system("cannot use", path)(error);
    let flags = match links {
        Links::Followed => OFlags::empty(),
        Links::Refused => OFlags::NOFOLLOW,
    };
    let file = OpenOptions::new()
        .read(true)
        // A pipe under this name must not hold the program up.
        .custom_flags((flags | OFlags::NONBLOCK).bits() as i32)
        .open(path)
        .map_err(unusable)?;
    let metadata = file.metadata().map_err(unusable)?;
    if !metadata.is_file() {
        return Err(DiskError::Misplaced { path: path.to_owned(), wanted: "regular file" });
    }
    check(path, &metadata, mode)?;
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    // With room to spare the vector does not move, which would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.min(most) + 64));
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(unusable)?;
    if bytes.len() > most {
        return Err(DiskError::TooLong { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// Refuses what another user owns, or what has other bits in its mode than these.
pub fn check(path: &Path, metadata: &Metadata, mode: u32) -> Result<(), DiskError> {
    check_owner_and_mode(
        path,
        (metadata.uid(), metadata.mode()),
        rustix::process::geteuid().as_raw(),
        mode,
        metadata.is_dir(),
    )
}

fn check_owner_and_mode(
    path: &Path,
    (owner, found): (u32, u32),
    user: u32,
    mode: u32,
    is_directory: bool,
) -> Result<(), DiskError> {
    let found = found & 0o7777;
    if owner != user {
        return Err(DiskError::Foreign { path: path.to_owned(), owner, user });
    }
    if found & !mode != 0 {
        return Err(DiskError::Exposed { path: path.to_owned(), mode: found, is_directory });
    }
    Ok(())
}

/// Whether something stands under the name, of whatever kind.
pub fn is_there(path: &Path) -> Result<bool, DiskError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DiskError::system("cannot use", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::durable;

    const MOST: usize = 64;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_private_to_the_user_who_owns_it() {
        let check = |mode, owner, user| {
            check_owner_and_mode(Path::new("element"), (owner, mode), user, FILE_MODE, false)
        };
        check(0o100_600, 7, 7).unwrap();
        check(0o100_400, 0, 0).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o700, 0o660, 0o4600] {
            assert!(
                matches!(check(mode, 7, 7), Err(DiskError::Exposed { mode: found, .. }) if found == mode)
            );
        }
        assert_eq!(
            check(0o600, 7, 0).unwrap_err().to_string(),
            "element belongs to user 7, and this program runs as user 0: use that user, or give it back (chown 0)"
        );
    }

    #[test]
    fn what_the_owner_may_do_beside_can_be_allowed_and_what_others_may_do_cannot() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.key");
        durable::create(&path, b"secret").unwrap();
        set_mode(&path, 0o700);
        assert_eq!(&read(&path, MOST, OWNER_ONLY, Links::Followed).unwrap()[..], b"secret");
        assert!(matches!(read(&path, MOST, FILE_MODE, Links::Followed), Err(DiskError::Exposed { .. })));
        set_mode(&path, 0o640);
        let error = read(&path, MOST, OWNER_ONLY, Links::Followed).unwrap_err();
        assert!(error.to_string().ends_with(&format!("run `chmod 600 {}`", path.display())), "{error}");
    }

    #[test]
    fn a_missing_file_is_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("none");
        assert!(read(&path, MOST, FILE_MODE, Links::Followed).unwrap_err().is_missing());
        assert!(!is_there(&path).unwrap());
    }

    #[test]
    fn a_link_is_followed_only_where_that_was_asked_for() {
        let home = tempfile::tempdir().unwrap();
        let (path, link) = (home.path().join("a.key"), home.path().join("link"));
        durable::create(&path, b"secret").unwrap();
        symlink(&path, &link).unwrap();
        assert_eq!(&read(&link, MOST, FILE_MODE, Links::Followed).unwrap()[..], b"secret");
        let error = read(&link, MOST, FILE_MODE, Links::Refused).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn what_is_no_regular_file_or_too_long_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.key");
        assert!(matches!(
            read(home.path(), MOST, OWNER_ONLY, Links::Followed),
            Err(DiskError::Misplaced { wanted: "regular file", .. })
        ));
        durable::replace(&path, &[1; MOST]).unwrap();
        assert_eq!(read(&path, MOST, FILE_MODE, Links::Refused).unwrap().len(), MOST);
        durable::replace(&path, &[1; MOST + 1]).unwrap();
        assert!(matches!(
            read(&path, MOST, FILE_MODE, Links::Refused),
            Err(DiskError::TooLong { most: MOST, .. })
        ));
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
