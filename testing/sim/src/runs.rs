//! Many runs with ever other seeds, on all cores.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::invariant::Violation;
use crate::random::Random;
use crate::run::run;
use crate::scenario::Scenario;
use crate::shrink::shrink;
use crate::tally::Tally;
use crate::trace::Trace;
use crate::world::World;

/// A run in which an invariant did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was run.
    pub trace: Trace,
    /// What did not hold.
    pub violation: Violation,
    /// The scenario that the trace is of.
    pub scenario: &'static str,
    /// Its seed.
    pub seed: u64,
}

impl Failure {
    /// Shrinks the trace, writes it to a file and says how to replay it.
    pub fn report(&self, file: &Path) -> String {
        let Self { trace, violation, scenario, seed } = self;
        let shrunk = shrink(trace, violation.invariant);
        let (_, result) = World::replay(&shrunk, false);
        let violation = result.err().unwrap_or_else(|| violation.clone());
        let told = format!("scenario {scenario} with seed {seed} breaks {violation}\n");
        match std::fs::write(file, format!("{shrunk}# breaks {violation}\n")) {
            Ok(()) => format!("{told}replay it: cargo run -p akm-sim -- replay {}", file.display()),
            Err(error) => format!(
                "{told}the trace cannot be written to {}: {error}\n\
                 print it: cargo run -p akm-sim -- trace {scenario} {seed}",
                file.display()
            ),
        }
    }
}

/// The seed of one of many runs.
pub fn seed_of(base: u64, run: u64) -> u64 {
    Random::new(base.wrapping_add(run.wrapping_mul(0x9e37_79b9_7f4a_7c15))).next()
}

/// Runs scenarios in turn with ever other seeds, on all cores, until `goes_on` says no to the number of
/// the next run. The first failure, by the order of the runs, ends it.
pub fn run_many(
    scenarios: &[&'static Scenario],
    base: u64,
    goes_on: impl Fn(u64) -> bool + Sync,
) -> Result<Tally, Box<Failure>> {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let results = Mutex::new((Tally::default(), None::<(u64, Failure)>));
    let work = || {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if failed.load(Ordering::Relaxed) || !goes_on(number) {
                break;
            }
            let scenario = scenarios[(number % scenarios.len() as u64) as usize];
            let seed = seed_of(base, number);
            let trace = scenario.trace(seed);
            match run(&trace) {
                Ok(one) => tally.add(&one),
                Err(violation) => {
                    failed.store(true, Ordering::Relaxed);
                    let failure = Failure { trace, violation, scenario: scenario.name, seed };
                    let mut results = results.lock().expect("nobody panics while holding it");
                    if results.1.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
                        results.1 = Some((number, failure));
                    }
                }
            }
        }
        results.lock().expect("nobody panics while holding it").0.add(&tally);
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (tally, failure) = results.into_inner().expect("nobody panicked while holding it");
    match failure {
        None => Ok(tally),
        Some((_, failure)) => Err(Box::new(failure)),
    }
}
