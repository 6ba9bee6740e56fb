//! `akm asr policy`.

use crate::error::CommandError;
use akm_core::policy::Policy;
use akm_provision::relationship::Wish;

use super::{Absent, change};
use crate::commands::{asr_named, duration, name};
use crate::home::Options;

/// Change when the members of an ASR move on; what is not named stays
#[derive(clap::Args)]
#[command(after_help = "Example:\n  akm asr policy line --rotate-after 10m")]
pub(crate) struct Arguments {
    /// Name of the ASR
    name: String,
    #[command(flatten)]
    policy: PolicyChange,
    #[command(flatten)]
    absent: Absent,
}

#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct PolicyChange {
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
}

impl PolicyChange {
    /// The policy with what was named changed.
    fn change(&self, mut policy: Policy) -> Result<Policy, CommandError> {
        if let Some(text) = &self.rotate_after {
            policy.rotate_after = duration("rotate-after", text)?;
        }
        if let Some(frames) = self.rotate_frames {
            policy.rotate_frames = frames;
        }
        if let Some(text) = &self.advance_interval {
            policy.advance_interval = duration("advance-interval", text)?;
        }
        if let Some(text) = &self.overlap {
            policy.overlap = duration("overlap", text)?;
        }
        Ok(policy)
    }
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let asr = &arguments.name;
    let found = asr_named(&options.open_store()?, &name(asr)?)?;
    let present = Policy::parse(found.sds.policy())
        .map_err(|_| CommandError::failed(format!("the policy of ASR {asr} is of a later akm")))?;
    change(options, asr, Wish::Policy(arguments.policy.change(present)?), &arguments.absent)
}
