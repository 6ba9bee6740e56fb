//! An element in memory and a random source that repeats, for tests of the core.
#![allow(dead_code, reason = "each test program uses a part of it")]

use akm_core::element::{ElementError, Label, Root, RootCheck, SecureElement};
use akm_core::keys::element_function;
use akm_core::sds::{ElementRoot, SynchronizedDataSet};
use akm_core::secret::Secret;
use akm_core::session::RandomSource;

pub struct MemoryElement {
    root: Root,
    key: Secret<32>,
}

impl MemoryElement {
    pub fn holding(sds: &SynchronizedDataSet, root: ElementRoot) -> Self {
        Self { root: sds.root(RootCheck::of(&root)), key: root }
    }

    pub fn with_device_key(mut key: [u8; 32]) -> Self {
        Self { root: Root::Device, key: Secret::take(&mut key) }
    }

    pub fn root(&self) -> Root {
        self.root
    }
}

impl SecureElement for MemoryElement {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        if root != self.root {
            return Err(ElementError::NoSuchRoot);
        }
        Ok(element_function(self.key.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        out.fill(0x5a);
        Ok(())
    }
}

/// Counts: no two draws are the same, and every run of a test is.
#[derive(Default)]
pub struct CountingRandom(u64);

impl RandomSource for CountingRandom {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = self.0.to_be_bytes()[at % 8];
        }
    }
}
