//! One input of a session, and what its host does with what comes of it.

use akm_core::element::ProvisionableElement;
use akm_core::frame::{FrameKind, Header};
use akm_core::keys::{self, PlaceSeal};
use akm_core::lineage::{Lineage, Next};
use akm_core::session::{
    Event, Input, Instant, Output, Record, Rejection, Session, SessionError, Surroundings,
};
use akm_core::tree::Place;

use crate::disk::{Disk, DiskFull};
use crate::element::Element;
use crate::flaw::Flaw;
use crate::happening::{Delivered, Given, Happening, Stands};
use crate::issue::{Issue, node_of_id};
use crate::process::{Aftermath, Died, seal_place, step};
use crate::random::Random;

/// One relationship with all that it needs for one input.
pub(crate) struct Hand<'a> {
    pub(crate) number: usize,
    pub(crate) issues: &'a [Issue],
    pub(crate) lineage: &'a mut Lineage,
    pub(crate) now: Instant,
    pub(crate) seal: &'a PlaceSeal,
    pub(crate) hoard: &'a mut usize,
    pub(crate) element: &'a mut Element,
    pub(crate) disk: &'a mut Disk,
    pub(crate) system: &'a mut Random,
    pub(crate) dies_after: &'a mut Option<u32>,
    pub(crate) last_message: &'a mut Option<(usize, Header, Delivered)>,
    pub(crate) flaw: Option<Flaw>,
}

impl Hand<'_> {
    /// The number of a generation that is on this disk.
    fn issue(&self, generation: u32) -> usize {
        let is = |issue: &usize| {
            let issue = &self.issues[*issue];
            issue.relationship == self.number && issue.sds.generation() == generation
        };
        self.disk.installed().find(is).expect("what a process holds is installed")
    }

    /// Hands the input in and carries out what comes of it, in the order given.
    pub(crate) fn drive(mut self, input: Input<'_>, aftermath: &mut Aftermath) -> Result<(), Died> {
        let flaw = self.flaw;
        let (what, length) = match input {
            Input::Frame(frame) => {
                (Given::Frame(Header::parse(frame).expect("the node has looked at it")), frame.len())
            }
            Input::Timeout => (Given::Timeout, 0),
            Input::Advance => (Given::Advance, 0),
            Input::Activate => (Given::Activate, 0),
            Input::Send(..) | Input::SendTo(..) => (Given::Send, 0),
        };
        let arrived = if let Given::Frame(header) = what { Some(header) } else { None };
        let (kind, body) = match input {
            Input::Send(kind, body) | Input::SendTo(_, kind, body) => (kind, body.to_vec()),
            _ => (FrameKind::Hello, Vec::new()),
        };
        self.element.take_asked();
        let main = self.lineage.active().or(self.lineage.staged()).expect("the caller saw that there is one");
        let deaf = flaw == Some(Flaw::DeafToLaterEpochs)
            && arrived.is_some_and(|header| header.epoch > main.epoch());
        let asleep = flaw == Some(Flaw::SleepsThroughTimers) && what == Given::Timeout;
        if deaf || asleep {
            let issue = self.issue(main.membership().sds().generation());
            aftermath.happenings.push(Happening::Given { issue, what });
            aftermath.happenings.push(stands(issue, main, *self.hoard, Vec::new()));
            return Ok(());
        }
        if let Some(header) = arrived.filter(|_| flaw == Some(Flaw::AsksForEachFrame)) {
            for _ in 0..2 {
                let root = main.membership().root();
                // Whether it answers does not matter here: it was asked.
                let _ = keys::epoch_factor(self.element, root, 1, header.epoch);
            }
        }
        let again = flaw == Some(Flaw::RetriesBehindTheBack) && matches!(input, Input::Advance);
        let result = self.handle(input);
        let serving = self.lineage.serving().map(|session| session.membership().sds().generation());
        let Some(serving) = serving else { return self.carry_out_erasures(aftermath) };
        let issue = self.issue(serving);
        let told = &mut aftermath.happenings;
        told.push(Happening::Given { issue, what });
        let unanswered = matches!(result, Err(SessionError::Element(_)));
        if let Err(error) = result {
            told.push(Happening::Refused { issue, error });
        }
        if unanswered && again {
            self.element.fall_silent(false);
            let repeated = self.handle(Input::Advance);
            self.element.fall_silent(true);
            repeated.expect("the element was made to answer");
        }
        self.carry_out(issue, serving, (arrived, length), (kind, &body), aftermath)?;
        if let Some(session) =
            self.lineage.sessions().find(|session| session.membership().sds().generation() == serving)
        {
            let asked = self.element.take_asked();
            aftermath.happenings.push(stands(issue, session, *self.hoard, asked));
        }
        Ok(())
    }

    fn handle(&mut self, input: Input<'_>) -> Result<(), SessionError> {
        let mut surroundings = Surroundings { now: self.now, element: self.element, random: self.system };
        self.lineage.handle(input, &mut surroundings)
    }

    fn carry_out_erasures(&mut self, aftermath: &mut Aftermath) -> Result<(), Died> {
        while let Next::Erase(erasure) = self.lineage.poll() {
            step(self.dies_after)?;
            let issue = self.issue(erasure.generation);
            if erasure.root.is_some_and(|root| self.element.erase(root).is_err())
                || self.disk.erase(issue).is_err()
            {
                continue;
            }
            self.lineage.erased();
            aftermath.happenings.push(Happening::Erased { issue });
            step(self.dies_after)?;
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        issue: usize,
        serving: u32,
        (arrived, length): (Option<Header>, usize),
        (kind, body): (FrameKind, &[u8]),
        aftermath: &mut Aftermath,
    ) -> Result<(), Died> {
        let flaw = self.flaw;
        let told = &mut aftermath.happenings;
        loop {
            let output = match self.lineage.poll() {
                Next::Idle => return Ok(()),
                Next::Erase(erasure) => {
                    step(self.dies_after)?;
                    let gone = self.issue(erasure.generation);
                    let root = erasure.root.is_none_or(|root| self.element.erase(root).is_ok());
                    if root && self.disk.erase(gone).is_ok() {
                        self.lineage.erased();
                        told.push(Happening::Erased { issue: gone });
                        step(self.dies_after)?;
                    }
                    continue;
                }
                Next::Session(generation, output, ()) => {
                    assert_eq!(generation, serving, "one session serves an input");
                    output
                }
            };
            match output {
                Output::Idle => unreachable!("a lineage has a word of its own for that"),
                Output::Event(event) => {
                    if let Event::Rejected { reason, .. } = event {
                        *self.hoard += if flaw == Some(Flaw::HoardsFrames) { length } else { 0 };
                        let falls = flaw == Some(Flaw::FallsOver) && reason == Rejection::NotAuthentic;
                        assert!(!falls, "this host falls over");
                    }
                    told.push(Happening::Told { issue, event });
                }
                Output::Persist(_) if flaw == Some(Flaw::SkipsPersist) => self.lineage.persisted(),
                Output::Persist(record) => {
                    step(self.dies_after)?;
                    let (written, happening) = match record {
                        Record::Activated => {
                            (self.disk.write_active(issue), Happening::ActiveWritten { issue })
                        }
                        Record::FoundBack(found) => (Ok(()), Happening::Noted { issue, found: *found }),
                        Record::Place(place) => {
                            let parsed = Place::parse(place).expect("a session makes places");
                            let sds = &self.issues[issue].sds;
                            let sealed = seal_place(self.seal, self.system, sds, place);
                            let happening = Happening::PlaceWritten {
                                issue,
                                run: parsed.run(),
                                epoch: parsed.epoch(),
                                start: self.seal.start(),
                            };
                            (self.disk.write_place(issue, sealed), happening)
                        }
                    };
                    match written {
                        Ok(()) => {
                            told.push(happening);
                            step(self.dies_after)?;
                            self.lineage.persisted();
                        }
                        Err(DiskFull) => {
                            told.push(Happening::NotWritten { issue });
                            self.lineage.persist_failed();
                        }
                    }
                }
                Output::Transmit(frame) => {
                    let header = Header::parse(frame).expect("a session makes frames");
                    let frame = frame.to_vec();
                    step(self.dies_after)?;
                    told.push(Happening::Sent { issue, header, kind, body: body.to_vec() });
                    aftermath.frames.push((issue, None, frame));
                    step(self.dies_after)?;
                }
                Output::TransmitTo(member, frame) => {
                    let (frame, length) = (frame.to_vec(), frame.len());
                    step(self.dies_after)?;
                    told.push(Happening::SentTo { issue, member, length });
                    if flaw != Some(Flaw::SwallowsRequests) {
                        aftermath.frames.push((issue, Some(member), frame));
                    }
                    step(self.dies_after)?;
                }
                Output::Deliver(delivery) => {
                    let mut payload = delivery.payload.to_vec();
                    if flaw == Some(Flaw::SpoilsMessages) {
                        payload.push(0);
                    }
                    let header = arrived.expect("only a frame is delivered");
                    let delivery = Delivered {
                        from: node_of_id(delivery.from),
                        index: delivery.index,
                        kind: delivery.kind,
                        payload,
                    };
                    step(self.dies_after)?;
                    *self.last_message = Some((issue, header, delivery.clone()));
                    let times = if flaw == Some(Flaw::DeliversTwice) { 2 } else { 1 };
                    for _ in 0..times {
                        let delivery = delivery.clone();
                        told.push(Happening::Delivered { issue, header, delivery });
                    }
                    step(self.dies_after)?;
                }
            }
        }
    }
}

/// How a session stands, for whoever watches.
pub(crate) fn stands(issue: usize, session: &Session, host_bytes: usize, asked: Vec<u32>) -> Happening {
    let (phase, epoch, footprint) = (session.phase(), session.epoch(), session.footprint());
    Happening::Stands { issue, stands: Stands { phase, epoch, footprint, host_bytes, asked } }
}
