//! Files and directories that nobody but their owner may use: their modes, and how they are read.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

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
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::durable;

    const MOST: usize = 64;

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
}
