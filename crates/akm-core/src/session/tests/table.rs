//! Every phase that a session can be in, and every input: what comes of it, and the phase then.
//!
//! `Erased` is not a state of this engine: it is what the host makes of a session that it drops.

use alloc::vec::Vec;

use super::fixture::*;
use crate::frame::{Class, FrameKind};
use crate::session::{Event, Input, Phase, Rejection, SessionError};
use crate::tree::LAST_EPOCH;

use Phase::{Established, Resyncing, RolledBack, Staged, UsedUp, WithoutPlace};
use Rejection::{EpochTooOld, Far, HeaderSignature, Malformed, NoPlace, NotAsked, NotAuthentic};
use Stimulus::{
    Activate, Advance, Answer, Asked, Authentic, Forged, Garbage, Send, SendTo, SendTooMuch, Timeout,
    Unsigned,
};
use Verdict::{Activates, Answers, Asks, Delivers, Drops, FindsBack, Nothing, Refuses, Sends, SendsTo};

#[derive(Clone, Copy, Debug)]
enum Stimulus {
    /// An authentic frame of member 0 in this epoch.
    Authentic(u32),
    /// A frame in this epoch with a right header signature and nothing behind it.
    Forged(u32),
    /// An authentic frame in this epoch with a wrong header signature.
    Unsigned(u32),
    Garbage,
    /// Member 0 has no place and asks.
    Asked,
    /// Member 0 answers with its place, and the time of the round has come.
    Answer,
    Timeout,
    Advance,
    Activate,
    Send,
    SendTooMuch,
    /// A message for the member of this index alone.
    SendTo(u16),
}

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Delivers,
    Drops(Rejection),
    Sends,
    SendsTo(u16),
    Activates,
    Asks,
    Answers,
    FindsBack,
    Nothing,
    Refuses(SessionError),
}

const TOO_MUCH: usize = 1452;
const MOST: usize = 1452 - 45;

/// Member 1 in this phase. Established: in epoch 5, which it began itself. Used up: in the last epoch.
/// Resyncing: what it asked for is with it.
fn member_in(phase: Phase) -> (Network, Option<Vec<u8>>) {
    let mut network = Network::of(2);
    let mut request = None;
    match phase {
        Staged => network = Network::staged(2),
        Established => {
            network.place_at(1, 4);
            network.send(1, b"an epoch of its own");
            network.wait(SECOND);
        }
        UsedUp => {
            network.place_at(1, LAST_EPOCH - 1);
            let last = network.craft_data(0, LAST_EPOCH, 1, 0, b"the end");
            network.hear(1, &last);
        }
        WithoutPlace | RolledBack => {
            network.parties[1].disk.place = None;
            network.parties[1].disk.rolled_back = phase == RolledBack;
            network.restart(1);
        }
        Resyncing => {
            network.wipe(1);
            request = Some(asked_for(&network.tick(1)));
        }
        Phase::Erased => unreachable!("no state of this engine"),
    }
    assert_eq!(network.phase(1), phase);
    (network, request)
}

fn asked_for(outcome: &Outcome) -> Vec<u8> {
    let sent = |done: &Done| if let Done::SentTo(_, frame) = done { Some(frame.clone()) } else { None };
    outcome.done.iter().find_map(sent).expect("a frame for one member")
}

/// The answer of member 0, which is in epoch 7, to this request or to another one.
fn answer(request: Option<&Vec<u8>>) -> Vec<u8> {
    let mut network = Network::of(2);
    network.place_at(0, 7);
    network.wipe(1);
    let other = asked_for(&network.tick(1));
    asked_for(&network.hear(0, request.unwrap_or(&other)))
}

/// A request of member 0, which has no place.
fn request() -> Vec<u8> {
    let mut network = Network::of(2);
    network.wipe(0);
    asked_for(&network.tick(0))
}

fn apply(network: &mut Network, own: Option<&Vec<u8>>, stimulus: Stimulus) -> Outcome {
    let frame = match stimulus {
        Authentic(epoch) => network.craft_data(0, epoch, 1, 1, b"x"),
        Forged(epoch) => network.forge(0, epoch, 2, 0),
        Unsigned(epoch) => unsigned(network.craft_data(0, epoch, 3, 0, b"x")),
        Asked => request(),
        Answer => answer(own),
        _ => alloc::vec![0; 99],
    };
    let too_much = [7; TOO_MUCH];
    let input = match stimulus {
        Authentic(_) | Forged(_) | Unsigned(_) | Garbage | Asked | Answer => Input::Frame(&frame),
        Timeout => Input::Timeout,
        Advance => Input::Advance,
        Activate => Input::Activate,
        Send => Input::Send(FrameKind::Data, b"x"),
        SendTooMuch => Input::Send(FrameKind::Data, &too_much),
        SendTo(index) => Input::SendTo(index, FrameKind::Data, b"x"),
    };
    let mut outcome = network.input(1, input);
    if matches!(stimulus, Answer) && own.is_some() && outcome.result.is_ok() {
        let after = network.tick(1);
        outcome.done.extend(after.done);
        outcome.result = after.result;
    }
    outcome
}

fn verdict(outcome: &Outcome) -> Verdict {
    match &outcome.result {
        Err(error) => Refuses(error.clone()),
        Ok(()) if outcome.heard().is_some() => Delivers,
        Ok(()) if outcome.done.iter().any(|done| matches!(done, Done::Noted(_))) => FindsBack,
        Ok(()) if outcome.events().iter().any(|event| matches!(event, Event::Answered { .. })) => Answers,
        Ok(()) if !outcome.sent_to().is_empty() => {
            let (member, frame) = &outcome.sent_to()[0];
            if header(frame).class == Class::Resync { Asks } else { SendsTo(*member) }
        }
        Ok(()) if !outcome.frames().is_empty() => Sends,
        Ok(()) if outcome.done.contains(&Done::Activated) => Activates,
        Ok(()) => outcome.rejection().map_or(Nothing, Drops),
    }
}

fn table() -> impl Iterator<Item = (Phase, Stimulus, Verdict, Phase)> {
    let inactive = |phase| Refuses(SessionError::NotActive(phase));
    let used_up = || Refuses(SessionError::EpochsUsedUp);
    let resting = |phase| {
        let (timeout, then) = if phase == Resyncing { (Nothing, phase) } else { (Asks, Resyncing) };
        let (answer, found) =
            if phase == Resyncing { (FindsBack, Established) } else { (Drops(NotAsked), phase) };
        [
            (phase, Authentic(0), Drops(NoPlace), phase),
            (phase, Authentic(5), Drops(NoPlace), phase),
            (phase, Authentic(6), Drops(NoPlace), phase),
            (phase, Authentic(LAST_EPOCH), Drops(NoPlace), phase),
            (phase, Forged(6), Drops(NoPlace), phase),
            (phase, Unsigned(5), Drops(NoPlace), phase),
            (phase, Garbage, Drops(Malformed), phase),
            (phase, Asked, Drops(NoPlace), phase),
            (phase, Answer, answer, found),
            (phase, Timeout, timeout, then),
            (phase, Advance, inactive(phase), phase),
            (phase, Activate, Nothing, phase),
            (phase, Send, inactive(phase), phase),
            (phase, SendTooMuch, inactive(phase), phase),
            (phase, SendTo(0), inactive(phase), phase),
            (phase, SendTo(1), inactive(phase), phase),
        ]
    };
    [
        (Staged, Authentic(0), Delivers, Established),
        (Staged, Authentic(5), Delivers, Established),
        (Staged, Authentic(6), Delivers, Established),
        (Staged, Authentic(LAST_EPOCH), Drops(Far), Staged),
        (Staged, Forged(6), Drops(NotAuthentic), Staged),
        (Staged, Unsigned(5), Drops(HeaderSignature), Staged),
        (Staged, Garbage, Drops(Malformed), Staged),
        (Staged, Asked, Drops(NoPlace), Staged),
        (Staged, Answer, Drops(NotAsked), Staged),
        (Staged, Timeout, Nothing, Staged),
        (Staged, Advance, inactive(Staged), Staged),
        (Staged, Activate, Activates, Established),
        (Staged, Send, inactive(Staged), Staged),
        (Staged, SendTooMuch, inactive(Staged), Staged),
        (Staged, SendTo(0), inactive(Staged), Staged),
        (Staged, SendTo(1), inactive(Staged), Staged),
        (Established, Authentic(0), Drops(EpochTooOld), Established),
        (Established, Authentic(5), Delivers, Established),
        (Established, Authentic(6), Delivers, Established),
        (Established, Authentic(LAST_EPOCH), Drops(Far), Established),
        (Established, Forged(6), Drops(NotAuthentic), Established),
        (Established, Unsigned(5), Drops(HeaderSignature), Established),
        (Established, Garbage, Drops(Malformed), Established),
        (Established, Asked, Answers, Established),
        (Established, Answer, Drops(NotAsked), Established),
        (Established, Timeout, Nothing, Established),
        (Established, Advance, Sends, Established),
        (Established, Activate, Nothing, Established),
        (Established, Send, Sends, Established),
        (Established, SendTooMuch, Refuses(SessionError::TooLong { most: MOST }), Established),
        (Established, SendTo(0), SendsTo(0), Established),
        (Established, SendTo(1), Refuses(SessionError::NoSuchMember { index: 1 }), Established),
        (Established, SendTo(2), Refuses(SessionError::NoSuchMember { index: 2 }), Established),
        (UsedUp, Authentic(0), Drops(EpochTooOld), UsedUp),
        (UsedUp, Authentic(5), Drops(EpochTooOld), UsedUp),
        (UsedUp, Authentic(6), Drops(EpochTooOld), UsedUp),
        (UsedUp, Authentic(LAST_EPOCH), Delivers, UsedUp),
        (UsedUp, Forged(6), Drops(EpochTooOld), UsedUp),
        (UsedUp, Unsigned(5), Drops(EpochTooOld), UsedUp),
        (UsedUp, Garbage, Drops(Malformed), UsedUp),
        (UsedUp, Asked, Answers, UsedUp),
        (UsedUp, Answer, Drops(NotAsked), UsedUp),
        (UsedUp, Timeout, Nothing, UsedUp),
        (UsedUp, Advance, used_up(), UsedUp),
        (UsedUp, Activate, Nothing, UsedUp),
        (UsedUp, Send, used_up(), UsedUp),
        (UsedUp, SendTooMuch, used_up(), UsedUp),
        (UsedUp, SendTo(0), used_up(), UsedUp),
        (UsedUp, SendTo(1), used_up(), UsedUp),
    ]
    .into_iter()
    .chain(resting(WithoutPlace))
    .chain(resting(RolledBack))
    .chain(resting(Resyncing))
}

#[test]
fn every_input_in_every_phase_does_what_the_table_says() {
    for (phase, stimulus, expected, then) in table() {
        let (mut network, own) = member_in(phase);
        let outcome = apply(&mut network, own.as_ref(), stimulus);
        assert_eq!(verdict(&outcome), expected, "{phase:?} x {stimulus:?}");
        assert_eq!(network.phase(1), then, "{phase:?} x {stimulus:?}");
    }
}

#[test]
fn an_input_that_fails_changes_no_phase_and_may_be_repeated() {
    let mut failures = 0;
    for (phase, stimulus, expected, then) in table() {
        for disk in [false, true] {
            if matches!((phase, stimulus), (Resyncing, Answer)) && disk {
                // An answer is used once: it asks again, as a test of its own shows.
                continue;
            }
            let (mut network, own) = member_in(phase);
            let epoch = network.epoch(1);
            network.parties[1].element.fails = !disk;
            network.parties[1].disk.writes_left = disk.then_some(0);
            let outcome = apply(&mut network, own.as_ref(), stimulus);
            let failed = matches!(outcome.result, Err(SessionError::Element(_)))
                || outcome.done.contains(&Done::WriteFailed);
            if !failed {
                assert_eq!(verdict(&outcome), expected, "{phase:?} x {stimulus:?}");
                continue;
            }
            failures += 1;
            assert_eq!((network.phase(1), network.epoch(1)), (phase, epoch), "{phase:?} x {stimulus:?}");
            network.parties[1].element.fails = false;
            network.parties[1].disk.writes_left = None;
            network.wait(SECOND);
            assert_eq!(
                verdict(&apply(&mut network, own.as_ref(), stimulus)),
                expected,
                "{phase:?} x {stimulus:?} again"
            );
            assert_eq!(network.phase(1), then, "{phase:?} x {stimulus:?} again");
        }
    }
    assert_eq!(failures, 18, "inputs that rest on element or disk");
}
