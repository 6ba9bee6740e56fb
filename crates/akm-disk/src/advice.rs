//! What a person can do about an error of the system on a file.

use std::io::{Error, ErrorKind};

use rustix::io::Errno;

/// What a person can do about an error of the system on a file, as the end of a sentence that names the file:
/// `; ` and the advice, or nothing where the error says it all.
pub fn advice(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "; make room on its disk, then try again"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "; make its file system writable (mount -o remount,rw), then try again"
        }
        ErrorKind::PermissionDenied => {
            "; use the user that it belongs to, or give it back to this one (chown, chmod u+rwX)"
        }
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::DirectoryNotEmpty => {
            "; something else is in its place: move that away"
        }
        _ if Errno::from_io_error(error) == Some(Errno::LOOP) => {
            "; a symbolic link is in its place: move that away"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_out_of_room_is_told_to_make_some() {
        for code in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(advice(&Error::from(code)).contains("make room"), "{code}");
        }
    }

    #[test]
    fn each_obstacle_has_its_own_advice_and_a_rare_one_none() {
        for (code, says) in [
            (Errno::ROFS, "writable"),
            (Errno::ACCESS, "chown"),
            (Errno::PERM, "chown"),
            (Errno::ISDIR, "move that away"),
            (Errno::NOTDIR, "move that away"),
            (Errno::LOOP, "symbolic link"),
        ] {
            let text = advice(&Error::from(code));
            assert!(text.starts_with("; ") && text.contains(says), "{code}: {text}");
        }
        assert_eq!(advice(&Error::from(Errno::IO)), "");
    }
}
