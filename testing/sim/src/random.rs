//! Numbers that follow from a seed.

use akm_core::session::RandomSource;

/// A generator that gives the same numbers for the same seed (SplitMix64), so that a run can be
/// repeated. Nothing here needs numbers that nobody can predict.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    /// A generator that broke and gives the same bytes for ever.
    stuck: bool,
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, stuck: false }
    }

    /// A generator for one part of the world, so that what one part draws does not change what others
    /// draw.
    pub fn stream(seed: u64, part: Part, number: usize) -> Self {
        let mut mixed = Self::new(seed ^ (part as u64) << 56 ^ (number as u64) << 40);
        Self::new(mixed.next())
    }

    /// This generator, broken: the same bytes at each call.
    pub fn stuck(self) -> Self {
        Self { stuck: true, ..self }
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        let advanced = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        if !self.stuck {
            self.state = advanced;
        }
        let mut mixed = advanced;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True this often in a thousand times.
    pub fn chance(&mut self, in_a_thousand: u32) -> bool {
        self.next() % 1000 < u64::from(in_a_thousand)
    }

    /// One of the choices.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

impl RandomSource for Random {
    fn fill(&mut self, out: &mut [u8]) {
        for bytes in out.chunks_mut(8) {
            bytes.copy_from_slice(&self.next().to_be_bytes()[..bytes.len()]);
        }
    }
}

/// The parts of a world that draw numbers.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// The network.
    Network = 1,
    /// The intruder.
    Intruder,
    /// The system's generator of a node.
    System,
    /// The generator inside an element.
    Element,
    /// The secrets that the module makes.
    Module,
    /// When members speak while the world settles.
    Settling,
    /// What a scenario chooses.
    Scenario,
    /// The bad member.
    BadMember,
    /// The secrets of provisioning relationships.
    Provisioning,
    /// The module's end of them.
    Link,
}
