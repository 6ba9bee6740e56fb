//! The main job from nothing to messages, for real, on this machine.

use crate::error::CommandError;

/// Runs the demonstration; `keep` leaves its files behind.
pub fn run(keep: bool, as_json: bool) -> Result<(), CommandError> {
    let _ = (keep, as_json);
    Err(CommandError::Failed("to come".to_owned()))
}
