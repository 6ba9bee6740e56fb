//! What a refusal must leave as it was.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use akm_core::crypto::hash::sha256;
use serde_json::Value;

use super::plant::{Done, Plant, run};

/// Everything that a plant consists of, to be compared with what it is later.
///
/// Left out is what moves by itself: the module's and the nodes' own places, the log of a stack, and
/// the files of SQLite, whose content the lists show.
#[derive(Debug, PartialEq)]
pub(crate) struct Picture {
    nodes: Option<Value>,
    asrs: Option<Value>,
    files: BTreeMap<PathBuf, String>,
}

impl Picture {
    /// Takes one.
    pub(crate) fn of(plant: &Plant) -> Self {
        let list = |what: &str| {
            let done = plant.akm(&[what, "list", "--json"]);
            (done.code == Some(0)).then(|| done.json())
        };
        let (nodes, asrs) = (list("node"), list("asr"));
        let mut files = BTreeMap::new();
        collect(plant.place(), plant.place(), &mut files);
        Self { nodes, asrs, files }
    }
}

fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).expect("a directory of the test") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let moves =
            name.starts_with("store.db") || name.ends_with(".place") || name == "akmd.log" || name == "locks";
        if moves {
            continue;
        }
        let metadata = path.symlink_metadata().expect("an entry of the test");
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(&path).expect("a link").display().to_string()
        } else if kind.is_file() {
            sha256(&[&fs::read(&path).expect("a file")]).iter().map(|byte| format!("{byte:02x}")).collect()
        } else if kind.is_socket() {
            "socket".to_owned()
        } else {
            collect(root, &path, files);
            "directory".to_owned()
        };
        let relative = path.strip_prefix(root).expect("below the root").to_owned();
        files.insert(relative, format!("{:o} {content}", metadata.permissions().mode()));
    }
}

/// The command fails with this code and one line and its hints that say all of this, and changes nothing.
#[track_caller]
pub(crate) fn refused(plant: &Plant, command: &mut Command, code: i32, says: &[&str]) -> Done {
    let before = Picture::of(plant);
    let done = run(command).expect(code);
    says_what_and_what_to_do(&done, says);
    let after = Picture::of(plant);
    assert!(before == after, "something has changed:\n{before:#?}\n{after:#?}");
    done
}

/// The same for an `akm` command by its arguments.
#[track_caller]
pub(crate) fn akm_refused(plant: &Plant, arguments: &[&str], code: i32, says: &[&str]) -> Done {
    refused(plant, &mut plant.akm_command(arguments), code, says)
}

/// The same for a command of an installed `akmd`.
#[track_caller]
pub(crate) fn akmd_refused(plant: &Plant, name: &str, arguments: &[&str], code: i32, says: &[&str]) -> Done {
    refused(plant, &mut plant.akmd_command(name, arguments), code, says)
}

/// Standard error is one line of what happened, then a line for each way out, and they say all of this.
#[track_caller]
pub(crate) fn says_what_and_what_to_do(done: &Done, says: &[&str]) {
    let mut lines = done.stderr.lines();
    let first = lines.next().unwrap_or_default();
    assert!(
        first.starts_with("error: ") || first.starts_with("akmd: "),
        "no line of ours: {:?}",
        done.stderr
    );
    assert!(lines.all(|line| line.starts_with("  hint: ")), "not one line and hints: {:?}", done.stderr);
    for word in says {
        assert!(done.stderr.contains(word), "it does not say {word:?}: {}", done.stderr);
    }
}
