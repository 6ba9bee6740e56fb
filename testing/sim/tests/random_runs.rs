//! Thousands of random runs of all scenarios: with seeds that are the same each time, so that a
//! change shows, and with others each time, so that something new may show. The seeds are printed.
//!
//! `AKM_SIM_SEED` repeats the seeds of a run.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use akm_core::session::Rejection;
use akm_sim::{Scenario, Tally, run_many};

const RUNS_WITH_THE_SAME_SEEDS: u64 = 25_000;
const RUNS_WITH_OTHER_SEEDS: u64 = 7_500;
const SEED: u64 = 20_260_101;

/// What frames are dropped for in these worlds.
const REASONS: [Rejection; 13] = [
    Rejection::Malformed,
    Rejection::NotAMember,
    Rejection::OwnFrame,
    Rejection::NoPlace,
    Rejection::EpochTooOld,
    Rejection::HeaderSignature,
    Rejection::Budget,
    Rejection::Duplicate,
    Rejection::CounterTooOld,
    Rejection::UnexpectedKind,
    Rejection::NotAuthentic,
    Rejection::UnknownTag,
    Rejection::NotAsked,
];

fn main() -> ExitCode {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let other = since.map_or(1, |since| since.as_nanos() as u64);
    let given =
        std::env::var("AKM_SIM_SEED").ok().map(|seed| seed.parse().expect("AKM_SIM_SEED is a number"));
    let parts = match given {
        Some(seed) => vec![(seed, RUNS_WITH_THE_SAME_SEEDS)],
        None => vec![(SEED, RUNS_WITH_THE_SAME_SEEDS), (other, RUNS_WITH_OTHER_SEEDS)],
    };
    let scenarios: Vec<&'static Scenario> = Scenario::ALL.iter().collect();
    for (seed, runs) in parts {
        println!("{runs} random runs with AKM_SIM_SEED={seed}");
        match run_many(&scenarios, seed, |number| number < runs) {
            Ok(tally) => {
                println!("{tally}");
                reaches_what_it_is_to_test(&tally, runs);
            }
            Err(failure) => {
                let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("akm-sim-failure.trace");
                eprintln!("{}", failure.report(&file));
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn reaches_what_it_is_to_test(tally: &Tally, runs: u64) {
    assert_eq!(tally.runs, runs);
    for reason in REASONS {
        assert!(tally.rejected(reason) > 0, "nothing was dropped as {}", reason.name());
    }
    for (times, what) in [
        (tally.delivered, "message accepted"),
        (tally.epochs, "epoch begun"),
        (tally.died_at_start, "death during a start"),
        (tally.died - tally.died_at_start, "death between two outputs"),
        (tally.not_written, "failed write"),
        (tally.refused, "refusal"),
        (tally.rolled_back, "old image recognised"),
        (tally.clones, "possible clone"),
        (tally.fallbacks, "fallback"),
        (tally.failsafes, "failsafe"),
        (tally.failsafes_missed, "failsafe that lacked a member"),
        (tally.changes, "change of generation"),
        (tally.activated, "activation"),
        (tally.erased, "generation erased"),
        (tally.betrayals, "thing that a bad member sent"),
        (tally.betrayed, "generation spoilt by a bad member"),
    ] {
        assert!(times > 0, "no {what}");
    }
    assert!(tally.settled >= runs, "some world did not settle");
}
