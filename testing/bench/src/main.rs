//! `akm-bench`: measures what AKM costs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use akm_bench::allocations::Counting;
use akm_bench::parts::{PARTS, Part};
use akm_bench::{BenchError, Effort, Machine, Report, time_functions};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
#[command(
    name = "akm-bench",
    version,
    about = "What AKM costs, as ratios measured in one run",
    after_help = "Examples:\n  akm-bench\n  akm-bench seal open --seconds 30\n  akm-bench --json bench.json\n\n\
                  Exit codes: 0 measured, whether or not a goal was met; 1 failed; 2 usage"
)]
struct Arguments {
    /// What to measure; without: everything
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(PARTS.map(|part| part.name)))]
    parts: Vec<String>,
    /// About how long all rounds together may take; making ready what is measured comes on top
    #[arg(long, default_value_t = 300, value_name = "N")]
    seconds: u64,
    /// Smallest sizes and one round: shows that it works, measures nothing
    #[arg(long)]
    brief: bool,
    /// Write the report to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A directory on the file system that is to be measured
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// Ask an element for F so many times, and print how many nanoseconds that took: what this program runs for itself
    #[arg(long, hide = true, exclusive = true, num_args = 3, value_names = ["SPEC", "STATE_DIR", "COUNT"])]
    functions: Option<Vec<String>>,
    /// List what can be measured
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for part in PARTS {
            println!("{:<10} {}", part.name, part.about);
        }
        return ExitCode::SUCCESS;
    }
    let done = match &arguments.functions {
        Some(functions) => print_functions(functions),
        None => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("akm-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_functions(arguments: &[String]) -> Result<(), BenchError> {
    let [spec, state_dir, count] = arguments else { unreachable!("three values, as is declared above") };
    let count = count
        .parse()
        .map_err(|_| BenchError::Product(format!("{count:?} is no number of times to ask for F")))?;
    println!("{}", time_functions(spec, Path::new(state_dir), count)?.as_nanos());
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<(), BenchError> {
    let wanted =
        |part: &&Part| arguments.parts.is_empty() || arguments.parts.iter().any(|name| name == part.name);
    let parts: Vec<&Part> = PARTS.iter().filter(wanted).collect();
    let weights: u32 = parts.iter().map(|part| part.weight).sum();
    // Elements keep their own files in the directory for temporary files: they are measured too.
    if let Err(other) = tempfile::env::override_temp_dir(&arguments.scratch) {
        unreachable!("temporary files go to {} already", other.display());
    }
    let mut rows = Vec::new();
    for part in parts {
        eprintln!("{}: {}", part.name, part.about);
        let length = Duration::from_secs(arguments.seconds) * part.weight / weights;
        rows.extend(part.run(Effort { length, brief: arguments.brief }, &arguments.scratch)?);
    }
    let report = Report {
        machine: Machine::here(&arguments.scratch),
        arguments: std::env::args().skip(1).collect(),
        rows,
    };
    print!("{}", report.table());
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json())
            .map_err(|source| BenchError::Scratch { path: path.clone(), source })?;
    }
    Ok(())
}
