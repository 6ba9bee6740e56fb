//! `akm asr create`.
use akm_core::policy::{JUMP_MAX, Policy};

use crate::commands::{duration, name, names};
use crate::error::CommandError;
use crate::home::Options;
use crate::print::{self, tell};

/// Make an ASR between two or more active nodes; the same command again goes on with a parked one
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm asr create line pump valve --rotate-after 10m")]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
    /// Names of the members
    #[arg(required = true)]
    members: Vec<String>,
    /// Leave an epoch when it is this old
    #[arg(long, value_name = "TIME", default_value = "1h")]
    rotate_after: String,
    /// Leave an epoch after this many frames of one member; 0: only at the limit of the cipher
    #[arg(long, value_name = "N", default_value_t = 0)]
    rotate_frames: u32,
    /// A member moves on by itself at most once in this time
    #[arg(long, value_name = "TIME", default_value = "1s")]
    advance_interval: String,
    /// A member whose disk may have gone back moves on by this many epochs; 0: for members that only listen
    #[arg(long, value_name = "N", default_value_t = JUMP_MAX, value_parser = clap::value_parser!(u16).range(..=1024))]
    jump: u16,
}

impl Arguments {
    fn policy(&self) -> Result<Policy, CommandError> {
        Ok(Policy {
            rotate_after: duration("rotate-after", &self.rotate_after)?,
            rotate_frames: self.rotate_frames,
            advance_interval: duration("advance-interval", &self.advance_interval)?,
            jump: self.jump,
            ..Policy::default()
        })
    }
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let asr = name(&arguments.name)?;
    let members = names(&arguments.members)?;
    let policy = arguments.policy()?;
    let made = options.open_module()?.create_asr(&asr, &members, policy, &mut tell)?;
    print::members(&made.refused_as(CommandError::from), options.json).map(|()| 0)
}
