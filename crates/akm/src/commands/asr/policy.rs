//! `akm asr policy`.
use akm_provision::relationship::{PolicyChange, Wish};

use super::{Absent, change};
use crate::commands::duration;
use crate::error::CommandError;
use crate::home::Options;

/// Change when the members of an ASR move on; what is not named stays
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm asr policy line --rotate-after 10m")]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
    #[command(flatten)]
    policy: Named,
    #[command(flatten)]
    absent: Absent,
}

#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Named {
    /// Leave an epoch when it is this old
    #[arg(long, value_name = "TIME")]
    rotate_after: Option<String>,
    /// Leave an epoch after this many frames of one member; 0: only at the limit of the cipher
    #[arg(long, value_name = "N")]
    rotate_frames: Option<u32>,
    /// A member moves on by itself at most once in this time
    #[arg(long, value_name = "TIME")]
    advance_interval: Option<String>,
    /// How long frames of an epoch, or of a generation, that was left are still taken in
    #[arg(long, value_name = "TIME")]
    overlap: Option<String>,
    /// A member whose disk may have gone back moves on by this many epochs; 0: for members that only listen
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=1024))]
    jump: Option<u16>,
}

impl Named {
    fn change(&self) -> Result<PolicyChange, CommandError> {
        let time = |option: &str, text: &Option<String>| {
            text.as_deref().map(|text| duration(option, text)).transpose()
        };
        Ok(PolicyChange {
            rotate_after: time("rotate-after", &self.rotate_after)?,
            rotate_frames: self.rotate_frames,
            advance_interval: time("advance-interval", &self.advance_interval)?,
            overlap: time("overlap", &self.overlap)?,
            jump: self.jump,
        })
    }
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    change(options, &arguments.name, Wish::Policy(arguments.policy.change()?), &arguments.absent)
}
