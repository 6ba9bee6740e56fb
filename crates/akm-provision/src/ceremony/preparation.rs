//! What the stack at a target says of itself: whose node the device is, and what its element needs.

use akm_core::enrolment::Preparation;
use akm_target::Target;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::CommandError;
use crate::store::Node;

/// The target of a node.
pub(super) fn target_of(node: &Node) -> Target {
    Target::new(node.target.clone(), node.ssh_config.as_deref())
}

/// Asks a stack that is there already who it is; `None` if it does not even run. A device with state
/// whose stack runs, but does not say, may be anybody's: it is left alone.
pub(super) fn ask_whoever_is_there(
    target: &Target,
    has_state: bool,
) -> Result<Option<Preparation>, CommandError> {
    // What a removal that was cut off left behind may hold no program any more.
    let Some(output) = target.akmd_if_installed(&["enroll", "--prepare"], &[])? else { return Ok(None) };
    match output.code {
        Some(0) => read_preparation(&output.stdout).map(Some),
        Some(4) => Err(CommandError::Element(format!(
            "the element at {} refused: {}",
            target.url(),
            output.last_words()
        ))),
        // Step 3 puts a whole one there.
        Some(126 | 127) | None => Ok(None),
        Some(_) if !has_state => Ok(None),
        Some(_) => Err(CommandError::Failed(format!(
            "the stack that is at {} already does not say whose node it is: {}",
            target.url(),
            output.last_words()
        ))),
    }
}

/// What the stack at a target says before enrolment, out of all that was printed there.
pub fn read_preparation(stdout: &[u8]) -> Result<Preparation, CommandError> {
    let bytes = tagged_line(stdout, "akm-prepare:")?;
    Preparation::parse(&bytes).map_err(|_| {
        CommandError::Failed("the stack at the target and this akm do not fit together".to_owned())
    })
}

/// The Base64 behind a tag at the begin of a line; a target's shell may print lines of its own.
pub(super) fn tagged_line(stdout: &[u8], tag: &str) -> Result<Vec<u8>, CommandError> {
    String::from_utf8_lossy(stdout)
        .lines()
        .find_map(|line| STANDARD.decode(line.strip_prefix(tag)?.trim()).ok())
        .ok_or_else(|| CommandError::Failed(format!("the stack at the target did not say {tag}")))
}
