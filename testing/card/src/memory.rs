//! The card's memory: a file, written in place, from which power can be taken at any write.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Where power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which write, counted from 1 for the next.
    pub write: u64,
    /// When in that write.
    pub moment: Moment,
}

/// When in a write power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it is written.
    Before,
    /// The first half is written. A single byte is written whole or not at all: not.
    Torn,
    /// All is written, and nothing happens after.
    After,
}

/// Power was lost: nothing works until the card is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerLost;

/// Why a memory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The system's word on the file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not of this length.
    #[error("the file has {found} bytes, and a card's memory has {expected}")]
    Length {
        /// Bytes in the file.
        found: usize,
        /// Bytes of a memory.
        expected: usize,
    },
}

/// Bytes that outlive power.
#[derive(Debug)]
pub struct Memory {
    bytes: Vec<u8>,
    file: Option<File>,
    fault: Option<Fault>,
    is_lost: bool,
    writes: u64,
}

impl Memory {
    /// A memory that is only in this process.
    pub fn volatile(bytes: Vec<u8>) -> Self {
        Self { bytes, file: None, fault: None, is_lost: false, writes: 0 }
    }

    /// Opens the memory in a file, which is made first, whole or not at all, with what `first` gives.
    pub fn open(path: &Path, length: usize, first: impl FnOnce() -> Vec<u8>) -> Result<Self, MemoryError> {
        if !path.try_exists()? {
            let temporary = path.with_extension("new");
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all_at(&first(), 0)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
        }
        let bytes = fs::read(path)?;
        if bytes.len() != length {
            return Err(MemoryError::Length { found: bytes.len(), expected: length });
        }
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self { bytes, file: Some(file), fault: None, is_lost: false, writes: 0 })
    }

    /// Arms the loss of power at a write to come.
    pub fn lose_power_at(&mut self, fault: Fault) {
        self.fault = Some(Fault { write: fault.write + self.writes, ..fault });
    }

    /// How many writes there have been.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// All bytes, as the next power-up would find them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether power is lost.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Writes some bytes. One byte is atomic, more are not.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), PowerLost> {
        if self.is_lost {
            return Err(PowerLost);
        }
        self.writes += 1;
        let moment = self.fault.filter(|fault| fault.write == self.writes).map(|fault| fault.moment);
        let length = match moment {
            None | Some(Moment::After) => bytes.len(),
            Some(Moment::Torn) => bytes.len() / 2,
            Some(Moment::Before) => 0,
        };
        self.bytes[at..at + length].copy_from_slice(&bytes[..length]);
        let kept = match &self.file {
            Some(file) => file.write_all_at(&bytes[..length], at as u64).and_then(|()| file.sync_data()),
            None => Ok(()),
        };
        if moment.is_some() || kept.is_err() {
            self.is_lost = true;
            return Err(PowerLost);
        }
        Ok(())
    }
}
