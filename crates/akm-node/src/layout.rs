//! Where everything is in an installation.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use akm_core::enrolment::{StackFile, integrity_code};
use akm_disk::directory::make_directory;
use akm_disk::private::Links;
use sha2::{Digest, Sha256};

use crate::error::NodeError;

/// Bytes of a file of the stack that are in memory at once.
const PIECE: usize = 64 * 1024;

/// The directory of one node: stack, state and socket.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The installation in this directory.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The stack in use: program, configuration, unit, manifest.
    pub fn stack(&self) -> PathBuf {
        self.dir.join("current")
    }

    /// The configuration in use.
    pub fn config(&self) -> PathBuf {
        self.stack().join("akmd.toml")
    }

    /// Credentials and places; mode 0700.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Socket and log; mode 0700.
    pub fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Makes the directory of socket and log, closed to others, or checks that it is. Repeating changes nothing.
    pub fn make_run(&self) -> Result<(), NodeError> {
        Ok(make_directory(&self.run(), Links::Refused)?)
    }

    /// The socket for applications.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(akm_client::SOCKET)
    }

    /// The log of a stack that was started in the background.
    pub fn log(&self) -> PathBuf {
        self.run().join("akmd.log")
    }

    /// The files of the stack as they are on the disk at this moment. What is no regular file counts as an
    /// empty one: no stack is installed with such a thing in it, so it shows in the integrity code.
    pub fn stack_files(&self) -> Result<Vec<StackFile>, NodeError> {
        use std::os::unix::fs::PermissionsExt;
        let stack = self.stack();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&stack).map_err(NodeError::file("cannot read", &stack))? {
            let path = entry.map_err(NodeError::file("cannot read", &stack))?.path();
            let metadata = path.symlink_metadata().map_err(NodeError::file("cannot read", &path))?;
            let sha256 = if metadata.is_file() {
                sha256_of(&path).map_err(NodeError::file("cannot read", &path))?
            } else {
                Sha256::digest([]).into()
            };
            files.push(StackFile {
                path: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                mode: metadata.permissions().mode() & 0o7777,
                sha256,
            });
        }
        Ok(files)
    }

    /// The integrity code of the stack and the element with this identity.
    pub fn integrity(&self, element_identity: &[u8]) -> Result<[u8; 32], NodeError> {
        Ok(integrity_code(&self.stack_files()?, element_identity))
    }
}

/// The SHA-256 of a file, read piece by piece: the program alone has megabytes.
fn sha256_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(length) => hash.update(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_same_hash_in_however_many_pieces_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("akmd");
        for length in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 7] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            std::fs::write(&path, &content).unwrap();
            assert_eq!(sha256_of(&path).unwrap(), akm_core::crypto::hash::sha256(&[&content]), "{length}");
        }
    }
}
