//! One run.

use crate::invariant::Violation;
use crate::tally::Tally;
use crate::trace::Trace;
use crate::world::World;

/// Runs a trace to its end, or to the first violation.
pub fn run(trace: &Trace) -> Result<Tally, Violation> {
    let (world, result) = World::replay(trace, false);
    result.map(|()| world.tally())
}
