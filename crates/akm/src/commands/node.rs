//! `akm node`: the nodes of the module.

mod list;
mod remove;
mod renew;
mod replace;
mod show;

use crate::error::CommandError;

use crate::home::Options;

/// Nodes
#[derive(clap::Subcommand)]
#[command(after_help = "Examples:\n  akm node list\n  akm node remove pump")]
pub(super) enum Command {
    List(list::Arguments),
    Show(show::Arguments),
    Replace(replace::Arguments),
    Renew(renew::Arguments),
    Remove(remove::Arguments),
}

pub(super) fn carry_out(options: &Options, command: &Command) -> Result<u8, CommandError> {
    match command {
        Command::List(arguments) => list::carry_out(options, arguments),
        Command::Show(arguments) => show::carry_out(options, arguments),
        Command::Replace(arguments) => replace::carry_out(options, arguments),
        Command::Renew(arguments) => renew::carry_out(options, arguments),
        Command::Remove(arguments) => remove::carry_out(options, arguments),
    }
}
