//! Messages in all directions of each relationship, each heard by every other member and nobody else.

use akm_core::frame::OVERHEAD;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::installation::{Installation, settle};
use super::report::Stage;
use super::scratch::Scratch;
use super::talk::{Line, Subscription};
use super::{ALL, ASRS};
use crate::error::CommandError;

/// Lets each member of each ASR say something to all others.
///
/// Returns the frame of A's message in the ASR of all four, as a stranger on C's network recorded it.
pub(super) fn in_all_directions(
    stage: &mut Stage,
    scratch: &Scratch,
    nodes: &[Installation<'_>],
) -> Result<Vec<u8>, CommandError> {
    let mut delivered = 0;
    let mut recorded = Vec::new();
    for (asr, members) in ASRS {
        let members: Vec<&Installation<'_>> = members.iter().map(|at| &nodes[*at]).collect();
        let epoch = settle(scratch, asr, &members)?;
        stage.tell(&format!("{asr}: all members have met in epoch {epoch}"));
        let ears: Vec<Subscription> = members
            .iter()
            .map(|member| Subscription::listen(scratch, member, asr))
            .collect::<Result<_, _>>()?;
        let watch = (asr == ALL).then(|| Subscription::watch(scratch, &nodes[2])).transpose()?;
        for sender in &members {
            let text = format!("{} greets {asr}", sender.name);
            sender.send(asr, &text)?;
            let mut heard_by = Vec::new();
            for (member, ear) in members.iter().zip(&ears).filter(|(member, _)| member.name != sender.name) {
                let heard = ear.message(scratch)?;
                if heard != (sender.name.to_owned(), text.clone()) {
                    let what = format!("{} heard {heard:?} instead of {text:?}", member.name);
                    return Err(CommandError::failed(what));
                }
                heard_by.push(member.name);
                delivered += 1;
            }
            stage.tell(&format!("{asr}: {} said {text:?}, heard by {}", sender.name, heard_by.join(", ")));
            if let Some(watch) = watch.as_ref().filter(|_| recorded.is_empty()) {
                recorded = accepted_frame(scratch, watch, OVERHEAD + text.len())?;
            }
        }
        let more: usize = ears.iter().map(|ear| Ok(ear.drain()?.len())).sum::<Result<_, CommandError>>()?;
        stage.check(
            more == 0,
            &format!("{asr}: every message reached every other member, once and unaltered"),
        )?;
    }
    let outside = nodes[2].exit_code(&["send", "AB", "may I?"])?;
    stage.check(outside == Some(2), "C, which is no member of AB, can say nothing there")?;
    stage.result(delivered, "messages delivered, each once");
    Ok(recorded)
}

/// The next frame of this length that a node accepts.
pub(super) fn accepted_frame(
    scratch: &Scratch,
    watch: &Subscription,
    length: usize,
) -> Result<Vec<u8>, CommandError> {
    watch.find(scratch, "the frame of the message", |line| match line {
        Line::Frame { verdict, frame, .. } if verdict == "accepted" => {
            STANDARD.decode(frame).ok().filter(|frame| frame.len() == length)
        }
        _ => None,
    })
}
