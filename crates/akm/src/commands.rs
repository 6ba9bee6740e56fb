//! The command line of `akm`: reads what is asked, calls the library, prints what came of it.
//!
//! Each verb is a file, with its arguments beside what it does.

mod asr;
mod demo;
mod diagnose;
mod element;
mod init;
mod node;
mod provision;
mod serve;
mod tasks;
mod verify;

use crate::error::{CommandError, exit_code};
use akm_provision::error::Kind;
use akm_provision::names::{Name, parse_duration};
use clap::{Parser, Subcommand};

use crate::home::Options;
use crate::print;

#[derive(Parser)]
#[command(
    name = "akm",
    version,
    about = "The AKM provisioning module: makes devices into nodes, and relationships between nodes",
    after_help = "Examples:\n  akm init --name plant\n  akm provision local:./n1 --name pump\n  akm provision ssh://root@10.0.0.7 --name valve\n  \
                  akm asr create line pump valve\n  akm verify --all\n\n\
                  Exit codes:\n  0  done\n  1  failed\n  2  usage\n  3  exists already, or nothing to do\n  \
                  4  the element refused, or is not ours\n  5  verification failed\n  \
                  6  parked or interrupted: run the same command again\n  7  not reachable\n  \
                  8  held by another command\n  9  something else is there under this name or at this target\n  \
                  10 no such node, ASR or module"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Provision(provision::Arguments),
    Verify(verify::Arguments),
    #[command(subcommand)]
    Node(node::Command),
    #[command(subcommand)]
    Asr(asr::Command),
    Diagnose(diagnose::Arguments),
    Serve(serve::Arguments),
    Tasks(tasks::Arguments),
    #[command(subcommand)]
    Element(element::Command),
    Demo(demo::Arguments),
}

/// Runs the command line; returns the exit code.
pub fn main() -> u8 {
    let memory = akm_process::protect();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for; everything else is a usage error.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return code;
        }
    };
    // Who stays running tells what happens in its log.
    let stays = matches!(arguments.command, Command::Serve(_));
    akm_process::start_log(arguments.options.verbose.saturating_add(u8::from(stays)));
    tracing::debug!("{memory}");
    match carry_out(&arguments) {
        Ok(code) => code,
        Err(error) => {
            if arguments.options.json {
                print::refusal(&error);
            }
            print::trouble(&error);
            error.exit_code()
        }
    }
}

/// Returns the exit code; what an error would say has been said where that is not 0.
fn carry_out(Arguments { command, options }: &Arguments) -> Result<u8, CommandError> {
    match command {
        Command::Init(arguments) => init::carry_out(options, arguments),
        Command::Provision(arguments) => provision::carry_out(options, arguments),
        Command::Verify(arguments) => verify::carry_out(options, arguments),
        Command::Node(command) => node::carry_out(options, command),
        Command::Asr(command) => asr::carry_out(options, command),
        Command::Diagnose(arguments) => diagnose::carry_out(options, arguments),
        Command::Serve(arguments) => serve::carry_out(options, arguments),
        Command::Tasks(arguments) => tasks::carry_out(options, arguments),
        Command::Element(command) => element::carry_out(options, command),
        Command::Demo(arguments) => demo::carry_out(options, arguments),
    }
}

fn name(text: &str) -> Result<Name, CommandError> {
    text.parse().map_err(|error| CommandError::usage(format!("{text:?}: {error}")))
}

fn names(texts: &[String]) -> Result<Vec<Name>, CommandError> {
    texts.iter().map(|text| name(text)).collect()
}

fn duration(option: &str, text: &str) -> Result<std::time::Duration, CommandError> {
    let duration =
        parse_duration(text).map_err(|error| CommandError::usage(format!("--{option} {text}: {error}")))?;
    if duration.as_millis() == 0 {
        return Err(CommandError::usage(format!("--{option} {text}: at least 1ms")));
    }
    Ok(duration)
}

/// The exit code that tells for several nodes: who is not what it should be counts more than who cannot be
/// reached.
fn worst(codes: impl Iterator<Item = u8>) -> u8 {
    let mut failed: Vec<u8> = codes.filter(|code| *code != 0).collect();
    let verification = exit_code(Kind::NotAsInstalled);
    failed.sort_by_key(|code| *code != verification);
    failed.first().copied().unwrap_or(0)
}
