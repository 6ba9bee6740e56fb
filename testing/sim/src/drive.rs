//! One input of a node, and what network, disk, element and applications do with what comes of it.

use std::time::Duration;

use akm_core::frame::{Class, FrameKind, Header, OVERHEAD};
use akm_core::lineage::Whose;
use akm_core::session::{Event as Told, Instant, Rejection};
use akm_host::{Event, GenerationId, Input, Output, Question, Refused, Seen, Verdict, Write};

use crate::flaw::Flaw;
use crate::happening::{Delivered, Happening};
use crate::host;
use crate::issue::{Issue, is_provisioning, node_of_id};
use crate::node::Node;
use crate::process::{Aftermath, Died, Process, Sending};

impl Node {
    /// Hands an input in, and goes on until the node rests and whatever answers at once has answered. Says why where the
    /// node does not start.
    pub(crate) fn drive(
        &mut self,
        process: &mut Process,
        now: Duration,
        input: Option<Input<'_>>,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) -> Result<Option<String>, Died> {
        let clock = Instant(now - process.began);
        if let Some(input) = input {
            process.host.handle(clock, input, &mut self.system);
        }
        loop {
            if let Some(why) = self.carry_out(process, now, issues, aftermath)? {
                return Ok(Some(why));
            }
            if !self.answer_one(process, now, issues, aftermath)? {
                return Ok(None);
            }
        }
    }

    /// Lets disk or element answer what is due first; whether there was anything.
    fn answer_one(
        &mut self,
        process: &mut Process,
        now: Duration,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) -> Result<bool, Died> {
        let clock = Instant(now - process.began);
        let question = process.questions.front().map(|(due, ..)| *due).filter(|due| *due <= now);
        let write = process.writes.front().map(|(due, ..)| *due).filter(|due| *due <= now);
        let asks = question.is_some_and(|due| write.is_none_or(|other| due <= other));
        if asks && let Some((_, ticket, question)) = process.questions.pop_front() {
            let changes =
                matches!(question, Question::CountUp | Question::Install { .. } | Question::Erase(_));
            if changes {
                self.steps.step()?;
            }
            let result = host::answer(&mut self.element, &self.disk, &question, self.flaw);
            self.note_count(process, &question, aftermath);
            if changes {
                self.steps.step()?;
            }
            process.host.handle(clock, Input::Answered { ticket, result }, &mut self.system);
            return Ok(true);
        }
        if write.is_some()
            && let Some((_, ticket, write)) = process.writes.pop_front()
        {
            self.steps.step()?;
            let result = self.write(process, write, issues, aftermath);
            self.steps.step()?;
            process.host.handle(clock, Input::Persisted { ticket, result }, &mut self.system);
            return Ok(true);
        }
        Ok(false)
    }

    /// Carries out all that the node wants at this moment, in the order given.
    fn carry_out(
        &mut self,
        process: &mut Process,
        now: Duration,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) -> Result<Option<String>, Died> {
        let told = &mut aftermath.happenings;
        loop {
            match process.host.poll() {
                Output::Idle => return Ok(None),
                Output::Ask { ticket, question } => {
                    if let Some((of, epoch)) = host::epoch_of(&question) {
                        let issue = process.issues.get(&of).copied();
                        told.push(Happening::Asked { issue, epoch });
                    }
                    // It does one thing after the other.
                    let free = process.questions.back().map_or(now, |(due, ..)| now.max(*due));
                    process.questions.push_back((free + self.element_takes, ticket, question));
                }
                Output::Persist { ticket, write } => {
                    let skips = matches!(write, Write::Place { of, .. } if !is_provisioning(of.0))
                        // What a start writes it writes.
                        && process.host.node().is_running()
                        && self.flaw == Some(Flaw::SkipsPersist);
                    if skips {
                        let clock = Instant(now - process.began);
                        let done = Input::Persisted { ticket, result: Ok(()) };
                        process.host.handle(clock, done, &mut self.system);
                    } else {
                        process.writes.push_back((now + self.disk_takes, ticket, write));
                    }
                }
                Output::Send { of, to, frame } => {
                    let header = Header::parse(frame).expect("a node makes frames");
                    let (to, frame) = (to.to_vec(), frame.to_vec());
                    let Some(issue) = process.issues.get(&of).copied() else { continue };
                    self.steps.step()?;
                    let of_session = header.class == Class::Session;
                    if of_session {
                        let body = if frame.len() > OVERHEAD { process.next_message(of.0) } else { None };
                        let kind = if body.is_some() { FrameKind::Data } else { FrameKind::Hello };
                        let body = body.unwrap_or_default();
                        told.push(Happening::Sent { issue, header, kind, body });
                    } else {
                        told.push(Happening::SentTo { issue, to: to.clone(), length: frame.len() });
                    }
                    if of_session || self.flaw != Some(Flaw::SwallowsRequests) {
                        aftermath.frames.push(Sending { issue, to, of_session, frame });
                    }
                    self.steps.step()?;
                }
                Output::Reply { stream, frame } => {
                    aftermath.replies.push((stream, frame.to_vec()));
                }
                Output::Proven { .. } | Output::Close { .. } | Output::Handled { .. } => {}
                Output::Deliver(message) => {
                    let mut payload = message.payload.to_vec();
                    if self.flaw == Some(Flaw::SpoilsMessages) {
                        payload.push(0);
                    }
                    process.given.push_back((message.of, payload));
                }
                Output::Seen(seen) => {
                    let seen = OwnedSeen::of(&seen);
                    self.see(process, &seen, issues, aftermath)?;
                    return self.carry_out(process, now, issues, aftermath);
                }
                Output::Done { wish, result } => {
                    let wanted = process.wishes.remove(&wish.0);
                    let Some((id, _)) = wanted else { continue };
                    if let Err(Refused::Session(error)) = result
                        && let Some(issue) = process.in_force(id)
                    {
                        let alone = process.questions.is_empty() && process.writes.is_empty();
                        told.push(Happening::Refused { issue, error, alone });
                    }
                }
                Output::Event { about, event, .. } => {
                    let Some(of) = about.filter(|of| !is_provisioning(of.0)) else { continue };
                    let issue = process.issues.get(&of).copied();
                    match event {
                        Event::Session(event) => {
                            let not_authentic =
                                matches!(event, Told::Rejected { reason: Rejection::NotAuthentic, .. });
                            assert!(
                                !(not_authentic && self.flaw == Some(Flaw::FallsOver)),
                                "this host falls over"
                            );
                            told.extend(issue.map(|issue| Happening::Told { issue, event }));
                        }
                        Event::NotReceived(error) | Event::NotMovedOn(error) => {
                            if let Some(issue) = issue.or_else(|| process.in_force(of.0)) {
                                told.push(Happening::Refused { issue, error, alone: false });
                            }
                        }
                        event => told.push(Happening::Noticed { event }),
                    }
                }
                Output::Started => {
                    if !std::mem::replace(&mut process.is_counted, true) {
                        told.push(Happening::Counted { count: self.element.count() });
                    }
                    process.tell_what_was_found(aftermath);
                    return self.carry_out(process, now, issues, aftermath);
                }
                Output::NotStarted(why) => return Ok(Some(why.to_string())),
            }
        }
    }

    /// What became of a datagram, and the message that was in it.
    fn see(
        &mut self,
        process: &mut Process,
        seen: &OwnedSeen,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) -> Result<(), Died> {
        let told = &mut aftermath.happenings;
        let header = Header::parse(&seen.frame).ok();
        if let Verdict::Rejected(reason) = seen.verdict {
            // In a buffer for the longest datagram.
            process.hoard += if self.flaw == Some(Flaw::HoardsFrames) { 65_536 } else { 0 };
            told.push(Happening::Dropped { header, reason });
        }
        let unclaimed = seen.relationship.is_none() || seen.verdict == Verdict::OldGeneration;
        if unclaimed {
            told.push(Happening::Unclaimed { header });
            return Ok(());
        }
        let Some(header) = header.filter(|header| header.class == Class::Session) else { return Ok(()) };
        if seen.verdict != Verdict::Accepted {
            return Ok(());
        }
        let message = process.given.pop_front();
        let of = message.as_ref().map(|(of, _)| *of).or_else(|| seen.generation(process));
        let Some(issue) = of.and_then(|of| process.issues.get(&of).copied()) else { return Ok(()) };
        let from = issues[issue].sds.members().get(usize::from(header.sender)).map(|id| node_of_id(*id));
        let kind = if message.is_some() { FrameKind::Data } else { FrameKind::Hello };
        let payload = message.map(|(_, payload)| payload).unwrap_or_default();
        let from = from.unwrap_or(usize::MAX);
        let delivery = Delivered { from, index: header.sender, kind, payload };
        self.steps.step()?;
        self.last_message = Some((issue, header, delivery.clone()));
        let times = if self.flaw == Some(Flaw::DeliversTwice) { 2 } else { 1 };
        for _ in 0..times {
            let delivery = delivery.clone();
            told.push(Happening::Delivered { issue, header, delivery });
        }
        self.steps.step()
    }
}

/// What became of a datagram, kept while its node goes on.
struct OwnedSeen {
    relationship: Option<akm_core::id::RelationshipId>,
    frame: Vec<u8>,
    verdict: Verdict,
}

impl OwnedSeen {
    fn of(seen: &Seen<'_>) -> Self {
        Self { relationship: seen.relationship, frame: seen.frame.to_vec(), verdict: seen.verdict }
    }

    fn generation(&self, process: &Process) -> Option<GenerationId> {
        let relationship = self.relationship?;
        match process.host.node().lineage(relationship)?.whose(&self.frame) {
            Whose::Generation(generation) => Some((relationship, generation)),
            Whose::Former | Whose::Nobody => None,
        }
    }
}
