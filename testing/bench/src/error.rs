//! Why a measurement did not come about.

use std::path::{Path, PathBuf};

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A program that is to be measured did not do what it should.
    #[error("{what}\n  try it by hand: {hint}")]
    Program {
        /// What happened.
        what: String,
        /// The command.
        hint: String,
    },
    /// A program or library that an element needs is not installed.
    #[error("{program} is missing\n  install it: apt-get install -y {packages}")]
    Missing {
        /// Its name or path.
        program: String,
        /// The packages that hold it.
        packages: &'static str,
    },
    /// A file or directory of the benchmark.
    #[error("cannot use {}: {source}\n  choose another place with --scratch DIR", .path.display())]
    Scratch {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part of AKM failed under the benchmark.
    #[error("{0}\n  run the tests first: make test")]
    Product(String),
}

impl BenchError {
    /// For `map_err` after something was done with this path.
    pub(crate) fn scratch(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Scratch { path, source }
    }

    /// For `map_err` after a call into AKM.
    pub(crate) fn product(error: impl std::fmt::Display) -> Self {
        Self::Product(error.to_string())
    }
}
