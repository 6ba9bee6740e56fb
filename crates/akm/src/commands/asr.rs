//! `akm asr`: the relationships between nodes.

mod add;
mod create;
mod delete;
mod list;
mod policy;
mod remove;
mod renew;
mod show;
use akm_provision::relationship::{Change, Wish};

use super::name;
use crate::error::CommandError;
use crate::home::Options;
use crate::print::{self, tell};

/// AKM security relationships
#[derive(clap::Subcommand)]
#[command(
    after_help = "Examples:\n  akm asr create line pump valve\n  akm asr add line boiler\n  akm asr show line"
)]
pub(super) enum Command {
    Create(create::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Add(add::Arguments),
    Remove(remove::Arguments),
    Renew(renew::Arguments),
    Policy(policy::Arguments),
    Delete(delete::Arguments),
}

pub(super) fn carry_out(options: &Options, command: &Command) -> Result<u8, CommandError> {
    match command {
        Command::Create(arguments) => create::carry_out(options, arguments),
        Command::List(arguments) => list::carry_out(options, arguments),
        Command::Show(arguments) => show::carry_out(options, arguments),
        Command::Add(arguments) => add::carry_out(options, arguments),
        Command::Remove(arguments) => remove::carry_out(options, arguments),
        Command::Renew(arguments) => renew::carry_out(options, arguments),
        Command::Policy(arguments) => policy::carry_out(options, arguments),
        Command::Delete(arguments) => delete::carry_out(options, arguments),
    }
}

/// What to do about members that are away.
#[derive(clap::Args)]
struct Absent {
    /// Begin although members are away; they get the change when they are next reached, and hear nothing until then
    #[arg(long)]
    without_absent: bool,
}

/// An ASR, and nodes that join or leave it.
#[derive(clap::Args)]
struct Members {
    /// Name of the ASR
    name: String,
    /// Names of the nodes
    #[arg(required = true)]
    members: Vec<String>,
    #[command(flatten)]
    absent: Absent,
}

/// Changes an ASR, and shows what came of it.
fn change(options: &Options, asr: &str, wish: Wish, absent: &Absent) -> Result<u8, CommandError> {
    let asr = name(asr)?;
    let change = Change { wish, without_absent: absent.without_absent };
    let changed = options.open_module()?.change_asr(&asr, &change, &mut tell)?;
    print::members(&changed.refused_as(CommandError::from), options.json).map(|()| 0)
}
