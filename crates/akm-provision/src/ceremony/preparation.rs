//! What the stack at a target says of itself: whose node the device is, and what its element needs.

use akm_core::cbor::Unreadable;
use akm_core::enrolment::Preparation;
use akm_target::{ProcessOutput, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;
use crate::error::ceremony::{AtElement, Device, Refusal};
use crate::store::Node;

/// The begin of the line in which a stack says what its element needs.
const PREPARE: &str = "akm-prepare:";

/// The target of a node.
pub(super) fn target_of(node: &Node) -> Target {
    Target::new(node.target.clone(), node.ssh_config.as_deref())
}

/// Asks a stack that is there already who it is; `None` if it does not even run. A device with state
/// whose stack runs, but does not say, may be anybody's: it is left alone.
pub(super) fn ask_whoever_is_there(target: &Target, has_state: bool) -> Result<Option<Preparation>, Error> {
    // What a removal that was cut off left behind may hold no program any more.
    let Some(output) = target.akmd_if_installed(&["enroll", "--prepare"], &[])? else { return Ok(None) };
    match output.code {
        Some(0) => read_preparation(&output.stdout).map(Some),
        Some(4) => Err(element_refused(target, &output)),
        // Step 3 puts a whole one there.
        Some(126 | 127) | None => Ok(None),
        Some(_) if !has_state => Ok(None),
        Some(_) => Err(stack_failed(target, "say whose node it is", &output)),
    }
}

/// What the stack at a target says before enrolment, out of all that was printed there.
pub fn read_preparation(stdout: &[u8]) -> Result<Preparation, Error> {
    let bytes = tagged_line(stdout, PREPARE)?;
    Preparation::parse(&bytes).map_err(|why| {
        let device = match why {
            Unreadable::Malformed => Device::Unreadable { tag: PREPARE },
            Unreadable::Unsupported { .. } | Unreadable::Format { .. } => Device::OtherVersion { why },
        };
        Refusal::from(device).into()
    })
}

/// The Base64 behind a tag at the begin of a line; a target's shell may print lines of its own.
pub(super) fn tagged_line(stdout: &[u8], tag: &'static str) -> Result<Vec<u8>, Error> {
    String::from_utf8_lossy(stdout)
        .lines()
        .find_map(|line| STANDARD.decode(line.strip_prefix(tag)?.trim()).ok())
        .ok_or_else(|| Refusal::from(Device::Unreadable { tag }).into())
}

/// Blames the element at a target, in its own words.
pub(super) fn element_refused(target: &Target, output: &ProcessOutput) -> Error {
    let (target, words) = (target.url().to_string(), output.last_words());
    Refusal::from(AtElement::Refused { target, words }).into()
}

/// Blames the stack at a target, in its own words.
pub(super) fn stack_failed(target: &Target, what: &'static str, output: &ProcessOutput) -> Error {
    let (target, words) = (target.url().to_string(), output.last_words());
    Refusal::from(Device::Stack { target, what, words }).into()
}
