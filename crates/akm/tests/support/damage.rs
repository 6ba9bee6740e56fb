//! What can happen to a file or directory, and how it is done to one.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use akm_core::crypto::hash::sha256;

/// A kind of damage. Another owner, a full disk and a read-only one have tests of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// It is not there.
    Missing,
    /// It has no byte.
    Empty,
    /// Its second half is gone.
    Half,
    /// Its last byte is gone.
    MinusOne,
    /// One bit of its first byte is another.
    FlippedFirst,
    /// One bit in its middle is another.
    FlippedMiddle,
    /// One bit of its last byte is another.
    FlippedLast,
    /// Something else stands in it.
    Garbage,
    /// It is as it was some time ago.
    Older,
    /// It is the one of another node, module or relationship.
    Foreign,
    /// A directory is in the place of a file.
    Directory,
    /// A file is in the place of a directory.
    File,
    /// A symbolic link to it is in its place.
    Link,
    /// Everybody may read it.
    Readable,
    /// Everybody may write it.
    Writable,
    /// Nobody may read it.
    Unreadable,
}

/// What can happen to a file.
pub(crate) const OF_A_FILE: [Damage; 15] = [
    Damage::Missing,
    Damage::Empty,
    Damage::Half,
    Damage::MinusOne,
    Damage::FlippedFirst,
    Damage::FlippedMiddle,
    Damage::FlippedLast,
    Damage::Garbage,
    Damage::Older,
    Damage::Foreign,
    Damage::Directory,
    Damage::Link,
    Damage::Readable,
    Damage::Writable,
    Damage::Unreadable,
];

/// What can happen to a directory.
pub(crate) const OF_A_DIRECTORY: [Damage; 6] =
    [Damage::Missing, Damage::File, Damage::Link, Damage::Readable, Damage::Writable, Damage::Unreadable];

/// Longer than every header, and unlike each.
const GARBAGE: &[u8] =
    b"This is not what anybody expects to find in here, and whoever reads it should say so at once, please.";

impl Damage {
    /// Does it to a file or directory. `older` and `foreign` are what stands there in those cases; what a link
    /// points to is kept in `elsewhere`.
    pub(crate) fn happen(self, path: &Path, older: Option<&Path>, foreign: Option<&Path>, elsewhere: &Path) {
        let is_dir = path.is_dir();
        match self {
            Self::Missing => remove(path),
            Self::Empty => change(path, Vec::clear),
            Self::Half => change(path, |bytes| bytes.truncate(bytes.len() / 2)),
            Self::MinusOne => change(path, |bytes| bytes.truncate(bytes.len().saturating_sub(1))),
            Self::FlippedFirst => flip(path, |_| 0),
            Self::FlippedMiddle => flip(path, |length| length / 2),
            Self::FlippedLast => flip(path, |length| length - 1),
            Self::Garbage => change(path, |bytes| *bytes = GARBAGE.to_vec()),
            Self::Older => replace(path, older),
            Self::Foreign => replace(path, foreign),
            Self::Directory => {
                remove(path);
                fs::DirBuilder::new().mode(0o700).create(path).expect("a directory in its place");
            }
            Self::File => {
                remove(path);
                fs::write(path, GARBAGE).expect("a file in its place");
                set_mode(path, 0o600);
            }
            Self::Link => {
                let target = elsewhere.join("linked");
                remove(&target);
                fs::rename(path, &target).expect("it can be moved away");
                symlink(&target, path).expect("a link in its place");
            }
            Self::Readable => set_mode(path, if is_dir { 0o755 } else { 0o644 }),
            Self::Writable => set_mode(path, if is_dir { 0o777 } else { 0o666 }),
            Self::Unreadable => set_mode(path, 0),
        }
    }
}

fn change(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the file can be read");
    edit(&mut bytes);
    // The same file with the same mode, as a disk that goes bad leaves it.
    fs::write(path, bytes).expect("the file can be written");
}

fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    change(path, |bytes| {
        if !bytes.is_empty() {
            let at = at(bytes.len());
            bytes[at] ^= 1;
        }
    });
}

fn replace(path: &Path, other: Option<&Path>) {
    if let Some(other) = other {
        remove(path);
        copy(other, path);
    }
}

/// Removes whatever stands there.
pub(crate) fn remove(path: &Path) {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            // Also what nobody may read.
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                remove(&entry.path());
            }
            set_mode(path, 0o700);
            fs::remove_dir_all(path)
        }
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Copies a file, a link or a whole directory, with their modes.
pub(crate) fn copy(from: &Path, to: &Path) {
    let metadata = from.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    if metadata.is_symlink() {
        symlink(fs::read_link(from).expect("a link"), to).expect("a link can be made");
    } else if metadata.is_dir() {
        fs::create_dir_all(to).expect("a directory can be made");
        for entry in fs::read_dir(from).expect("a directory") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
        set_mode(to, metadata.mode() & 0o7777);
    } else if metadata.is_file() {
        fs::copy(from, to).expect("a file can be copied");
    }
}

/// Sets the permission bits.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the mode can be set");
}

/// A command that permissions bind, also where the tests run as root.
pub(crate) fn bound_by_permissions(command: &Command) -> Command {
    if !rustix::process::geteuid().is_root() {
        return again(command.get_program(), command);
    }
    let mut bound = Command::new("setpriv");
    bound.arg("--bounding-set=-dac_override,-dac_read_search").arg(command.get_program());
    with_surroundings(&mut bound, command);
    bound
}

fn again(program: &std::ffi::OsStr, command: &Command) -> Command {
    let mut same = Command::new(program);
    with_surroundings(&mut same, command);
    same
}

fn with_surroundings(to: &mut Command, from: &Command) {
    to.args(from.get_args());
    to.envs(from.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = from.get_current_dir() {
        to.current_dir(dir);
    }
}

/// All that is below a directory, by its path in it: mode and content. Left out is what `is_left_out` names.
pub(crate) fn inventory(root: &Path, is_left_out: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if !is_left_out(&relative) {
            let kind = metadata.file_type();
            let content = if kind.is_symlink() {
                fs::read_link(&path).expect("a link").display().to_string()
            } else if kind.is_file() {
                format!("{:02x?}", sha256(&[&fs::read(&path).unwrap_or_default()]))
            } else if kind.is_socket() {
                "socket".to_owned()
            } else {
                "directory".to_owned()
            };
            found.insert(relative, format!("{:o} {} {content}", metadata.mode(), metadata.uid()));
        }
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    found
}

/// What is in `after` and not the same in `before`, or the other way round.
pub(crate) fn differences(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("{name}: {:?} became {:?}", before.get(name), after.get(name)))
        .collect()
}

/// The paths below a directory, the directory itself as an empty one.
pub(crate) fn listing(root: &Path) -> Vec<PathBuf> {
    inventory(root, |_| false).into_keys().map(PathBuf::from).collect()
}
