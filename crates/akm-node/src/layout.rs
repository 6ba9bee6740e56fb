//! Where everything is in an installation.

use std::path::{Path, PathBuf};

use akm_core::crypto::hash::sha256;
use akm_core::enrolment::{StackFile, integrity_code};
use akm_disk::private::{Links, make_directory};

use crate::error::NodeError;

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
        self.run().join("akmd.sock")
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
            let content = if metadata.is_file() {
                std::fs::read(&path).map_err(NodeError::file("cannot read", &path))?
            } else {
                Vec::new()
            };
            files.push(StackFile {
                path: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                mode: metadata.permissions().mode() & 0o7777,
                sha256: sha256(&[&content]),
            });
        }
        Ok(files)
    }

    /// The integrity code of the stack and the element with this identity.
    pub fn integrity(&self, element_identity: &[u8]) -> Result<[u8; 32], NodeError> {
        Ok(integrity_code(&self.stack_files()?, element_identity))
    }
}
