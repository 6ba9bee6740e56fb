//! The module's end of the provisioning relationship of one node: a real session, and what it keeps durable.

use std::time::Duration;

use akm_core::crypto;
use akm_core::element::{ProvisionableElement, RootCheck};
use akm_core::frame::FrameKind;
use akm_core::management::{ModuleStream, Taken};
use akm_core::session::{
    Cause, Event, Input, Instant, Membership, Options, Output, RandomSource, Record, Session, Standing,
    Surroundings,
};
use akm_core::tree::Place;

use crate::element::Element;
use crate::issue::{Issue, MODULE, id_of_node};
use crate::random::Random;

/// A line to one node. Each request is a start of the module in this relationship.
#[derive(Debug)]
pub struct Link {
    issue: Issue,
    element: Element,
    random: Random,
    place: Vec<u8>,
    session: Option<Session>,
    stream: ModuleStream,
    opened: u64,
}

/// What a frame of the node said.
#[derive(Debug, Default)]
pub struct Heard {
    /// What the module takes of it.
    pub taken: Vec<Taken>,
    /// Whether the module was behind, and learnt it.
    pub was_behind: bool,
}

/// What came of one input of the module's session.
#[derive(Debug, Default)]
struct Said {
    frames: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    was_behind: bool,
}

impl Link {
    /// A line over which nothing was said yet.
    pub fn new(issue: Issue, random: Random) -> Self {
        let mut element = Element::new(false, random.clone());
        element.install(issue.root(), issue.element_root().expose()).expect("a new element takes a root");
        let place = Place::before_first(0, issue.host_part().tree_root).emit().expose().to_vec();
        let (node, relationship) = (issue.sds.members()[1], issue.sds.relationship());
        let stream = ModuleStream::new(node, relationship, issue.element_root());
        Self { issue, element, random, place, session: None, stream, opened: 0 }
    }

    /// Opens the line; the number of its stream.
    pub fn open(&mut self) -> u64 {
        let Self { issue, element, random, place, .. } = self;
        let (check, keys) = (RootCheck::of(&issue.element_root()), issue.host_part().keys);
        let membership = Membership::new(issue.sds.clone(), id_of_node(MODULE), check, keys)
            .expect("the module is a member");
        let place = Place::parse(place).expect("a session makes places");
        let mut surroundings = Surroundings { now: Instant::default(), element, random };
        let options = Options { hello_at_start: false, find_back: false };
        let standing = Standing::Active(place);
        let session = Session::start(crypto::provider(), membership, standing, options, &mut surroundings);
        self.session = Some(session.expect("the element of the module answers"));
        self.opened += 1;
        self.opened
    }

    /// The first request of a stream.
    pub fn begin(&mut self) -> Vec<u8> {
        let mut challenge = [0; 32];
        self.random.fill(&mut challenge);
        self.stream.begin(challenge)
    }

    /// The next request of a stream that has begun.
    pub fn request(&mut self, operation: u8, body: &[u8]) -> Vec<u8> {
        self.stream.request(operation, body).expect("it has begun").to_vec()
    }

    /// Says something. The frames that go to the node.
    pub fn say(&mut self, now: Duration, request: &[u8]) -> Vec<Vec<u8>> {
        self.drive(now, Input::Send(FrameKind::Management, request)).frames
    }

    /// Goes on to the next epoch, for a node that knows this one otherwise.
    pub fn advance(&mut self, now: Duration) -> Vec<Vec<u8>> {
        self.drive(now, Input::Advance).frames
    }

    /// Takes a frame of the node.
    pub fn hear(&mut self, now: Duration, frame: &[u8]) -> Heard {
        let said = self.drive(now, Input::Frame(frame));
        let taken = said.messages.iter().map(|message| self.stream.take(message)).collect();
        Heard { taken, was_behind: said.was_behind }
    }

    fn drive(&mut self, now: Duration, input: Input<'_>) -> Said {
        let Self { element, random, place, session, .. } = self;
        let session = session.as_mut().expect("the line was opened");
        let mut surroundings = Surroundings { now: Instant(now), element, random };
        let mut said = Said::default();
        if session.handle(input, &mut surroundings).is_err() {
            // Its epochs are used up, which no run here comes to.
            return said;
        }
        loop {
            match session.poll() {
                Output::Persist(record) => {
                    if let Record::Place(encoded) = record {
                        place.clear();
                        place.extend_from_slice(encoded.expose());
                    }
                    session.persisted();
                }
                Output::Transmit(frame) | Output::TransmitTo(_, frame) => said.frames.push(frame.to_vec()),
                Output::Deliver(delivery) => {
                    said.messages.push(delivery.payload.to_vec());
                }
                Output::Event(Event::EpochBegan { cause: Cause::Followed, .. }) => said.was_behind = true,
                Output::Event(_) => {}
                Output::Idle => return said,
            }
        }
    }
}
