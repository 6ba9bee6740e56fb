//! Runs and replays simulated worlds; see `docs/simulation.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use akm_sim::{Scenario, Trace, World, run_many};
use clap::{Parser, Subcommand};

/// Many shipped nodes on a virtual network with a virtual clock.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many worlds with random seeds; the first that breaks a promise is shrunk and written down.
    Run {
        /// How many.
        #[arg(long, default_value_t = 10_000, conflicts_with = "minutes")]
        runs: u64,
        /// Run for this long instead.
        #[arg(long)]
        minutes: Option<u64>,
        /// The seed of all seeds; without it the time is.
        #[arg(long)]
        seed: Option<u64>,
        /// Only this scenario; without it all in turn.
        #[arg(long, value_parser = scenario)]
        scenario: Option<&'static Scenario>,
        /// Where a failing trace is written.
        #[arg(long, default_value = "akm-sim-failure.trace")]
        failure: PathBuf,
    },
    /// Replay a trace, and print what happens.
    Replay {
        /// The trace.
        file: PathBuf,
    },
    /// Print the trace of a scenario with a seed.
    Trace {
        /// Which.
        #[arg(value_parser = scenario)]
        scenario: &'static Scenario,
        /// The seed.
        seed: u64,
    },
    /// List the scenarios.
    Scenarios,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    Scenario::named(name).ok_or_else(|| "no such scenario; `akm-sim scenarios` lists them".to_owned())
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { runs, minutes, seed, scenario, failure } => {
            many(runs, minutes, seed.unwrap_or_else(clock_seed), scenario, &failure)
        }
        Command::Replay { file } => replay(&file),
        Command::Trace { scenario, seed } => {
            print!("{}", scenario.trace(seed));
            ExitCode::SUCCESS
        }
        Command::Scenarios => {
            for Scenario { name, about, .. } in &Scenario::ALL {
                println!("{name:28}{about}");
            }
            ExitCode::SUCCESS
        }
    }
}

fn many(
    runs: u64,
    minutes: Option<u64>,
    seed: u64,
    scenario: Option<&'static Scenario>,
    file: &Path,
) -> ExitCode {
    let all: Vec<&'static Scenario> = Scenario::ALL.iter().collect();
    let scenarios = scenario.map_or(all, |one| vec![one]);
    println!("seed {seed}");
    let end = minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let goes_on = |number| end.map_or(number < runs, |end| Instant::now() < end);
    match run_many(&scenarios, seed, goes_on) {
        Ok(tally) => {
            println!("{tally}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{}", failure.report(file));
            ExitCode::FAILURE
        }
    }
}

fn replay(file: &Path) -> ExitCode {
    let read = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let trace = match read.and_then(|text| Trace::parse(&text).map_err(|error| error.to_string())) {
        Ok(trace) => trace,
        Err(error) => {
            eprintln!(
                "cannot replay {}: {error}\ngive a file that `akm-sim run` or `akm-sim trace` wrote",
                file.display()
            );
            return ExitCode::from(2);
        }
    };
    let (world, result) = World::replay(&trace, true);
    print!("{}", world.log());
    match result {
        Ok(()) => {
            println!("every invariant holds\n{}", world.tally());
            ExitCode::SUCCESS
        }
        Err(violation) => {
            eprintln!("breaks {violation}");
            ExitCode::FAILURE
        }
    }
}

fn clock_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
