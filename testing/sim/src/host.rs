//! The shipped node of a process, and what a flaw puts around it, its element and its disk.

use akm_core::element::{ElementError, Label};
use akm_core::frame::Header;
use akm_core::keys::sealed_start;
use akm_core::session::{Instant, Session};
use akm_host::{Answer, Found, Identity, Input, Node, Output, Question, Surroundings};

use crate::disk::Disk;
use crate::element::Element;
use crate::flaw::Flaw;
use crate::issue::{is_provisioning, relationship_id};
use crate::random::Random;

/// The node, behind the flaw of its host.
#[derive(Debug)]
pub(crate) struct Host {
    node: Node,
    flaw: Option<Flaw>,
}

impl Host {
    /// Begins a start with what is found on a disk.
    pub(crate) fn start(
        identity: Identity,
        found: Vec<Found>,
        flaw: Option<Flaw>,
        system: &mut Random,
    ) -> Self {
        let mut surroundings = Surroundings { now: Instant::default(), random: system };
        Self { node: Node::start(identity, "0".to_owned(), found, &mut surroundings), flaw }
    }

    /// Hands an input in, unless the flaw keeps it back.
    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>, system: &mut Random) {
        let kept_back = match &input {
            Input::Timeout => self.flaw == Some(Flaw::SleepsThroughTimers),
            Input::Datagram { frame, .. } => self.is_deaf_to(frame),
            _ => false,
        };
        if !kept_back {
            self.node.handle(input, &mut Surroundings { now, random: system });
        }
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Output<'_> {
        self.node.poll()
    }

    /// The node itself, to look at.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Whether a frame is of a generation that closes, to which this host is deaf.
    pub(crate) fn closes_at_once(&self, frame: &[u8]) -> bool {
        let Ok(header) = Header::parse(frame) else { return false };
        let mut lineages = self.node.relationships().map(|(_, _, lineage)| lineage);
        self.flaw == Some(Flaw::ClosesAtOnce)
            && lineages.any(|lineage| lineage.closing().any(|closing| closing.tag() == header.tag))
    }

    fn is_deaf_to(&self, frame: &[u8]) -> bool {
        let Ok(header) = Header::parse(frame) else { return false };
        let is_ahead = |session: &Session| session.tag() == header.tag && header.epoch > session.epoch();
        let mut lineages = self.node.relationships().map(|(_, _, lineage)| lineage);
        self.flaw == Some(Flaw::DeafToLaterEpochs)
            && lineages.any(|lineage| lineage.in_force().is_some_and(|(session, _)| is_ahead(session)))
    }
}

/// What a start finds on a disk, as a flaw lets it see that.
pub(crate) fn found_on(disk: &Disk, node: usize, flaw: Option<Flaw>) -> Vec<Found> {
    let mut all = disk.found();
    for found in all.iter_mut().filter(|found| !is_provisioning(found.relationship)) {
        let Ok(held) = &mut found.content else { continue };
        match flaw {
            Some(Flaw::ForgetsActivation) => held.installed.active = false,
            Some(Flaw::MislaysPlaces) if node == 0 => held.place = Ok(None),
            _ => {}
        }
    }
    all
}

/// What an element answers, as a flaw lets it.
pub(crate) fn answer(
    element: &mut Element,
    disk: &Disk,
    question: &Question,
    flaw: Option<Flaw>,
) -> Result<Answer, ElementError> {
    let answer = match (flaw, question) {
        // It counts when it is asked how far it has counted, and says what it had before.
        (Some(Flaw::CountsFirst), Question::Count) => {
            Question::CountUp.put_to(element).map(|answer| answer.map(|answer| moved(answer, -1)))
        }
        (Some(Flaw::CountsFirst), Question::CountUp) => Question::Count.put_to(element),
        // It has counted whatever the place wants that is found.
        (Some(Flaw::IgnoresCounter), Question::Count) => {
            let place = disk.place((relationship_id(0), 1)).and_then(sealed_start);
            let wanted = place.filter(|_| element.count().is_some());
            question.put_to(element).map(|answer| {
                answer.map(|answer| wanted.map_or(answer, |wanted| Answer::Count(Some(wanted))))
            })
        }
        (Some(Flaw::IgnoresCounter), Question::CountUp) => {
            let place = disk.place((relationship_id(0), 1)).and_then(sealed_start);
            question.put_to(element).map(|answer| {
                answer.map(|answer| match (answer, place) {
                    (Answer::Count(Some(_)), Some(place)) => Answer::Count(Some(place)),
                    (answer, _) => answer,
                })
            })
        }
        _ => question.put_to(element),
    };
    let integrity = || Ok(Answer::Integrity(Ok([7; 32])));
    answer.unwrap_or_else(integrity)
}

/// The epoch that an element is asked for.
pub(crate) fn epoch_of(question: &Question) -> Option<(akm_host::GenerationId, u32)> {
    let Question::Derive { root: akm_core::element::Root::Relationship { id, .. }, label, context } =
        question
    else {
        return None;
    };
    let number = |at: usize| Some(u32::from_be_bytes(context.get(at..at + 4)?.try_into().ok()?));
    Some(((*id, number(0)?), number(4)?)).filter(|_| *label == Label::Epoch)
}

fn moved(answer: Answer, by: i64) -> Answer {
    match answer {
        Answer::Count(Some(count)) => Answer::Count(Some(count.saturating_add_signed(by))),
        answer => answer,
    }
}
