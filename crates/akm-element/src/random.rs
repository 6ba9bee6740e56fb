//! Random bytes of the system, which stand in where no element is asked.

use akm_core::session::RandomSource;

/// The random generator of the system.
#[derive(Debug)]
pub struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        // Without randomness no key is safe: going on would be worse than stopping.
        getrandom::fill(out).expect("the system's random generator answers");
    }
}

/// Random bytes of the system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom.fill(&mut bytes);
    bytes
}
