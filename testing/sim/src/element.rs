//! A secure element in memory.

use std::collections::BTreeMap;

use akm_core::element::{
    Description, ElementError, Label, MonotonicCounter, Protection, ProvisionableElement, Root, SecureElement,
};
use akm_core::keys::element_function;
use akm_core::secret::Secret;
use akm_core::session::RandomSource;

use crate::random::Random;

/// An element in memory: real roots, the real element function, a counter if it has one. It can fall
/// silent, and counts how often it is called.
#[derive(Debug)]
pub struct Element {
    roots: BTreeMap<Root, Secret<32>>,
    counter: Option<Counter>,
    random: Random,
    silent: bool,
    calls: u64,
}

#[derive(Clone, Debug)]
struct Counter {
    value: u64,
    silent: bool,
}

impl Element {
    /// An element with a device key.
    pub fn new(counter: bool, mut random: Random) -> Self {
        let device_key = Secret::fill(|key| random.fill(key));
        Self {
            roots: BTreeMap::from([(Root::Device, device_key)]),
            counter: counter.then_some(Counter { value: 0, silent: false }),
            random,
            silent: false,
            calls: 0,
        }
    }

    /// A copy with everything inside, as only a software element allows it.
    pub fn copy(&self, random: Random) -> Self {
        let roots = self.roots.iter().map(|(root, key)| (*root, key.duplicate())).collect();
        Self { roots, counter: self.counter.clone(), random, silent: self.silent, calls: 0 }
    }

    /// From here on it does not answer, or answers again.
    pub fn fall_silent(&mut self, silent: bool) {
        self.silent = silent;
        if let Some(counter) = &mut self.counter {
            counter.silent = silent;
        }
    }

    /// From here on its generator gives the same bytes for ever.
    pub fn break_generator(&mut self) {
        self.random = self.random.clone().stuck();
    }

    /// What the counter shows, for whoever watches the world.
    pub fn count(&self) -> Option<u64> {
        self.counter.as_ref().map(|counter| counter.value)
    }

    /// How often it was called.
    pub fn calls(&self) -> u64 {
        self.calls
    }
}

impl SecureElement for Element {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        self.calls += 1;
        if self.silent {
            return Err(silence());
        }
        let key = self.roots.get(&root).ok_or(ElementError::NoSuchRoot)?;
        Ok(element_function(key.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        self.calls += 1;
        if self.silent {
            return Err(silence());
        }
        self.random.fill(out);
        Ok(())
    }
}

impl ProvisionableElement for Element {
    fn description(&self) -> Description {
        Description {
            kind: String::from("virtual"),
            manufacturer: String::from("akm-sim"),
            serial: String::new(),
            firmware: String::new(),
            // One that counts is taken for a device of its own: a disk that goes back does not take its counter along.
            protection: if self.counter.is_some() { Protection::Hardware } else { Protection::Software },
            sealed: false,
            counter: self.counter.is_some(),
        }
    }

    fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
        Ok(Vec::new())
    }

    fn make_device_key(&mut self) -> Result<(), ElementError> {
        Ok(())
    }

    fn install(&mut self, root: Root, wrapped: &[u8]) -> Result<(), ElementError> {
        self.calls += 1;
        if self.silent {
            return Err(silence());
        }
        let key = Secret::copy_from(wrapped)
            .ok_or_else(|| ElementError::Refused(String::from("a root has 32 bytes")))?;
        match self.roots.get(&root) {
            Some(held) if !held.equals(wrapped) => {
                Err(ElementError::Refused(String::from("another root is held")))
            }
            Some(_) => Ok(()),
            None => {
                self.roots.insert(root, key);
                Ok(())
            }
        }
    }

    fn erase(&mut self, root: Root) -> Result<(), ElementError> {
        self.calls += 1;
        if self.silent {
            return Err(silence());
        }
        self.roots.remove(&root);
        Ok(())
    }

    fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
        self.calls += 1;
        if self.silent {
            return Err(silence());
        }
        Ok(self.roots.keys().copied().collect())
    }

    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        self.counter.as_mut().map(|counter| counter as &mut dyn MonotonicCounter)
    }
}

impl MonotonicCounter for Counter {
    fn value(&mut self) -> Result<u64, ElementError> {
        if self.silent { Err(silence()) } else { Ok(self.value) }
    }

    fn count_up(&mut self) -> Result<u64, ElementError> {
        if self.silent {
            return Err(silence());
        }
        self.value += 1;
        Ok(self.value)
    }
}

fn silence() -> ElementError {
    ElementError::Unavailable(String::from("it does not answer"))
}
