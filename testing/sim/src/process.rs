//! What a process does step by step, each of which may be its last, and what came of them.

use akm_core::crypto;
use akm_core::keys::PlaceSeal;
use akm_core::sds::SynchronizedDataSet;
use akm_core::session::RandomSource;

use crate::happening::Happening;
use crate::random::Random;

/// What came of something that was done to a node.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// What happened, in order.
    pub happenings: Vec<Happening>,
    /// Frames for all other members of an issue, or for the one of this index.
    pub frames: Vec<(usize, Option<u16>, Vec<u8>)>,
}

/// The process is no more.
pub(crate) struct Died;

/// One more step of a process; it may be its last.
pub(crate) fn step(dies_after: &mut Option<u32>) -> Result<(), Died> {
    match dies_after {
        Some(0) => Err(Died),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

/// Seals an encoded place under a key of its own.
pub(crate) fn seal_place(
    seal: &PlaceSeal,
    system: &mut Random,
    sds: &SynchronizedDataSet,
    place: &[u8],
) -> Vec<u8> {
    let mut random = [0; 16];
    system.fill(&mut random);
    seal.seal(crypto::provider(), sds.suite(), sds.digest(), &random, place)
}
