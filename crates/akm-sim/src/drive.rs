use akm_core::frame::{FrameKind, Header};
use akm_core::keys::{self, PlaceSeal};
use akm_core::session::{
    Event, Input, Instant, Output, Record, Rejection, Session, SessionError, Surroundings,
};
use akm_core::tree::Place;

use crate::disk::{Disk, DiskFull};
use crate::element::Element;
use crate::flaw::Flaw;
use crate::happening::{Delivered, Given, Happening, Stands};
use crate::node::{Died, Member, Outcome, seal_place, step};
use crate::random::Random;
use crate::relationship::node_of_id;

/// One session with all that it needs for one input.
pub(crate) struct Hand<'a> {
    pub(crate) relationship: usize,
    pub(crate) member: &'a mut Member,
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
    /// Hands the input in and carries out what comes of it, in the order given.
    pub(crate) fn drive(self, input: Input<'_>, outcome: &mut Outcome) -> Result<(), Died> {
        let Self { relationship, member, now, seal, hoard, element, disk, system, dies_after, .. } = self;
        let (last_message, flaw) = (self.last_message, self.flaw);
        let Member { sds, session } = member;
        let told = &mut outcome.happenings;
        let (what, length) = match input {
            Input::Frame(frame) => {
                (Given::Frame(Header::parse(frame).expect("a relationship has claimed it")), frame.len())
            }
            Input::Timeout => (Given::Timeout, 0),
            Input::Advance => (Given::Advance, 0),
            Input::Activate => (Given::Activate, 0),
            Input::Send(..) => (Given::Send, 0),
        };
        let arrived = if let Given::Frame(header) = what { Some(header) } else { None };
        let (kind, body) = match input {
            Input::Send(kind, body) => (kind, body.to_vec()),
            _ => (FrameKind::Hello, Vec::new()),
        };
        told.push(Happening::Given { relationship, what });
        element.take_asked();
        let deaf = flaw == Some(Flaw::DeafToLaterEpochs)
            && arrived.is_some_and(|header| header.epoch > session.epoch());
        let asleep = flaw == Some(Flaw::SleepsThroughTimers) && what == Given::Timeout;
        if deaf || asleep {
            told.push(stands(relationship, session, *hoard, Vec::new()));
            return Ok(());
        }
        if let Some(header) = arrived.filter(|_| flaw == Some(Flaw::AsksForEachFrame)) {
            for _ in 0..2 {
                let root = session.membership().root();
                // Whether it answers does not matter here: it was asked.
                let _ = keys::epoch_factor(element, root, 1, header.epoch);
            }
        }
        let again = flaw == Some(Flaw::RetriesBehindTheBack) && matches!(input, Input::Advance);
        let result = session.handle(input, &mut Surroundings { now, element, random: system });
        let unanswered = matches!(result, Err(SessionError::Element(_)));
        if let Err(error) = result {
            told.push(Happening::Refused { relationship, error });
        }
        if unanswered && again {
            element.fall_silent(false);
            let repeated = session.handle(Input::Advance, &mut Surroundings { now, element, random: system });
            element.fall_silent(true);
            repeated.expect("the element was made to answer");
        }
        loop {
            match session.poll() {
                Output::Idle => break,
                Output::Event(event) => {
                    if let Event::Rejected { reason, .. } = event {
                        *hoard += if flaw == Some(Flaw::HoardsFrames) { length } else { 0 };
                        let falls = flaw == Some(Flaw::FallsOver) && reason == Rejection::NotAuthentic;
                        assert!(!falls, "this host falls over");
                    }
                    told.push(Happening::Told { relationship, event });
                }
                Output::Persist(_) if flaw == Some(Flaw::SkipsPersist) => session.persisted(),
                Output::Persist(record) => {
                    step(dies_after)?;
                    let (written, happening) = match record {
                        Record::Activated => {
                            (disk.write_active(relationship), Happening::ActiveWritten { relationship })
                        }
                        Record::Place(place) => {
                            let epoch = Place::parse(place).expect("a session makes places").epoch();
                            let sealed = seal_place(seal, system, sds, place);
                            let start = seal.start();
                            let happening = Happening::PlaceWritten { relationship, epoch, start };
                            (disk.write_place(relationship, sealed), happening)
                        }
                    };
                    match written {
                        Ok(()) => {
                            told.push(happening);
                            step(dies_after)?;
                            session.persisted();
                        }
                        Err(DiskFull) => {
                            told.push(Happening::NotWritten { relationship });
                            session.persist_failed();
                        }
                    }
                }
                Output::Transmit(frame) => {
                    let header = Header::parse(frame).expect("a session makes frames");
                    step(dies_after)?;
                    told.push(Happening::Sent { relationship, header, kind, body: body.clone() });
                    outcome.frames.push((relationship, frame.to_vec()));
                    step(dies_after)?;
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
                    step(dies_after)?;
                    *last_message = Some((relationship, header, delivery.clone()));
                    let times = if flaw == Some(Flaw::DeliversTwice) { 2 } else { 1 };
                    for _ in 0..times {
                        let delivery = delivery.clone();
                        told.push(Happening::Delivered { relationship, header, delivery });
                    }
                    step(dies_after)?;
                }
            }
        }
        told.push(stands(relationship, session, *hoard, element.take_asked()));
        Ok(())
    }
}

/// How a session stands, for whoever watches.
pub(crate) fn stands(
    relationship: usize,
    session: &Session,
    host_bytes: usize,
    asked: Vec<u32>,
) -> Happening {
    let (phase, epoch, footprint) = (session.phase(), session.epoch(), session.footprint());
    Happening::Stands { relationship, stands: Stands { phase, epoch, footprint, host_bytes, asked } }
}
