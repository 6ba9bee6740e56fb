//! What a session needs from the world, in memory: element, generators, disk.

use akm_core::crypto::hash::sha256;
use akm_core::element::{ElementError, Label, Root, SecureElement};
use akm_core::keys::element_function;
use akm_core::secret::Secret;
use akm_core::session::{RandomSource, Standing};
use akm_core::tree::{NO_EPOCH, Place};

/// An element that counts how often it was asked for an epoch, and fails when told to.
pub struct MemoryElement {
    pub root: Root,
    pub key: [u8; 32],
    pub calls: usize,
    pub fails: bool,
    pub random: Generator,
}

impl SecureElement for MemoryElement {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        self.calls += usize::from(label == Label::Epoch);
        if self.fails {
            return Err(ElementError::Unavailable(String::from("unplugged")));
        }
        assert_eq!(root, self.root, "a session asks for its own root only");
        Ok(element_function(&self.key, label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        self.random.fill(out);
        Ok(())
    }
}

/// A generator that makes the same bytes in every run; stuck, also in every call.
pub struct Generator {
    pub seed: u64,
    pub stuck: bool,
}

impl RandomSource for Generator {
    fn fill(&mut self, out: &mut [u8]) {
        self.seed += u64::from(!self.stuck);
        for (at, bytes) in out.chunks_mut(32).enumerate() {
            let block = sha256(&[&self.seed.to_be_bytes(), &at.to_be_bytes()]);
            bytes.copy_from_slice(&block[..bytes.len()]);
        }
    }
}

/// How a disk takes the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    Works,
    Fails,
    /// The process is killed before the write is durable.
    KillsBefore,
    /// The process is killed when the write is durable, before it learns of that.
    KillsAfter,
}

/// What a member keeps across restarts.
pub struct Disk {
    pub place: Option<Vec<u8>>,
    pub active: bool,
    pub writing: Writing,
}

impl Disk {
    /// Keeps an encoded place, or the mark that the relationship is active.
    pub fn write(&mut self, record: Option<Vec<u8>>) {
        match record {
            None => self.active = true,
            Some(place) => self.place = Some(place),
        }
    }

    pub fn epoch(&self) -> u32 {
        self.read().map_or(NO_EPOCH, |place| place.epoch())
    }

    pub fn standing(&self) -> Standing {
        match self.read() {
            None => Standing::WithoutPlace { active: self.active, run: 0 },
            Some(place) if self.active => Standing::Active(place),
            Some(place) => Standing::Staged(place),
        }
    }

    fn read(&self) -> Option<Place> {
        self.place.as_ref().map(|place| Place::parse(place).expect("what is emitted is read"))
    }
}
