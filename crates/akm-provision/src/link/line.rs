//! A line to a node: a connection, the session of one generation of the provisioning relationship, and a stream over both.

use std::time::{Duration, Instant};

use akm_core::crypto;
use akm_core::element::RootCheck;
use akm_core::frame::FrameKind;
use akm_core::keys::PlaceSeal;
use akm_core::management::{IdentifyAnswer, ModuleStream, NodeIdentity, Taken};
use akm_core::sds::SynchronizedDataSet;
use akm_core::session::{
    Cause, Event, Input, Membership, Options, Output, Record, Session, Standing, Surroundings,
};
use akm_core::tree::Place;
use akm_element::{SystemRandom, random};
use akm_transport::{FrameStream, NamedEndpoint};
use zeroize::Zeroizing;

use super::element::VaultElement;
use super::{LinkError, unreachable_node};
use crate::store::{Node, Store};

/// How long a node has to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

pub(super) struct Line<'a> {
    store: &'a Store,
    node: Node,
    sds: SynchronizedDataSet,
    session: Session,
    element: VaultElement<'a>,
    seal: PlaceSeal,
    carrier: FrameStream,
    stream: ModuleStream,
    clock: Instant,
}

/// What came out of one frame.
#[derive(Default)]
struct Heard {
    messages: Vec<Zeroizing<Vec<u8>>>,
    was_behind: bool,
}

impl<'a> Line<'a> {
    /// Opens a line in one generation. It counts as a start of the module in it.
    pub(super) fn open(store: &'a Store, node: &Node, sds: SynchronizedDataSet) -> Result<Self, LinkError> {
        let gone = || LinkError::NoCredentials { node: node.name.to_string() };
        let secrets = store.secrets_of(&sds)?;
        let keys = secrets.keys.ok_or_else(gone)?;
        let root = store.element_root(node.relationship, sds.element_version())?.ok_or_else(gone)?;
        let mut element = VaultElement::new(store);
        let seal = PlaceSeal::derive(&mut element, 0)?;
        let place = match store.load_place(node.relationship, sds.generation())? {
            Some(sealed) => seal
                .open(crypto::provider(), sds.suite(), sds.digest(), &sealed)
                .ok()
                .and_then(|place| Place::parse(place.expose()).ok())
                .ok_or_else(gone)?,
            None => Place::before_first(0, secrets.tree_root.ok_or_else(gone)?),
        };
        let check = RootCheck::of(&root);
        let membership =
            Membership::new(sds.clone(), store.module().root, check, keys).map_err(|_| gone())?;
        let carrier = connect(node)?;
        let clock = Instant::now();
        let mut surroundings = Surroundings {
            now: akm_core::session::Instant::default(),
            element: &mut element,
            random: &mut SystemRandom,
        };
        let options = Options { hello_at_start: false, find_back: false };
        let standing = Standing::Active(place);
        let session = Session::start(crypto::provider(), membership, standing, options, &mut surroundings)?;
        let stream = ModuleStream::new(node.id, node.relationship, root);
        Ok(Self { store, node: node.clone(), sds, session, element, seal, carrier, stream, clock })
    }

    /// The generation in which it speaks.
    pub(super) fn sds(&self) -> &SynchronizedDataSet {
        &self.sds
    }

    /// Connects again. What was said over the connection before counts for nothing any more.
    pub(super) fn reconnect(&mut self) -> Result<(), LinkError> {
        self.carrier = connect(&self.node)?;
        Ok(())
    }

    /// The first request of a stream, with a fresh challenge.
    pub(super) fn begin(&mut self) -> Zeroizing<Vec<u8>> {
        self.stream.begin(random()).into()
    }

    /// The next request of the stream; `None` if it has not begun.
    pub(super) fn request(&mut self, operation: u8, body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.stream.request(operation, body)
    }

    /// What a later `identify` says, if the element took part in it.
    pub(super) fn identity(&self, challenge: &[u8; 32], answer: &IdentifyAnswer) -> Option<NodeIdentity> {
        self.stream.identity(challenge, answer)
    }

    /// Goes on to the next epoch: after a restore the first of this start may be one that the node knows with another salt
    /// of the module.
    pub(super) fn advance(&mut self) -> Result<(), LinkError> {
        self.drive(Input::Advance).map(|_| ())
    }

    /// Sends a message and waits for what answers it; `None` if nothing comes in time. `is_forged` is set where something
    /// answers without the proof for it.
    pub(super) fn ask(
        &mut self,
        message: &[u8],
        patience: Duration,
        is_forged: &mut bool,
    ) -> Result<Option<Taken>, LinkError> {
        self.send(message)?;
        let deadline = Instant::now() + patience;
        let lost = |node: &Node, error: &std::io::Error| unreachable_node(node, error);
        while let Some(frame) = self.carrier.receive(deadline).map_err(|error| lost(&self.node, &error))? {
            let heard = self.drive(Input::Frame(&frame))?;
            for heard in &heard.messages {
                match self.stream.take(heard) {
                    Taken::Nothing => {}
                    Taken::Forged => *is_forged = true,
                    taken => return Ok(Some(taken)),
                }
            }
            if heard.was_behind {
                self.send(message)?;
            }
        }
        Ok(None)
    }

    fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        self.drive(Input::Send(FrameKind::Management, message)).map(|_| ())
    }

    fn drive(&mut self, input: Input<'_>) -> Result<Heard, LinkError> {
        let now = akm_core::session::Instant(self.clock.elapsed());
        let mut surroundings = Surroundings { now, element: &mut self.element, random: &mut SystemRandom };
        self.session.handle(input, &mut surroundings)?;
        let mut heard = Heard::default();
        let mut unsent = None;
        let mut unsaved = None;
        loop {
            match self.session.poll() {
                Output::Persist(record) => {
                    if let Record::Place(place) = record {
                        let sealed = self.seal.seal(
                            crypto::provider(),
                            self.sds.suite(),
                            self.sds.digest(),
                            &random(),
                            place.expose(),
                        );
                        let generation = self.sds.generation();
                        if let Err(error) =
                            self.store.save_place(self.sds.relationship(), generation, &sealed)
                        {
                            self.session.persist_failed();
                            unsaved = Some(error);
                            continue;
                        }
                    }
                    self.session.persisted();
                }
                // What is queued behind it is still to be taken: the session must not stand half-way.
                Output::Transmit(frame) | Output::TransmitTo(_, frame) => {
                    if let Err(error) = self.carrier.send(frame) {
                        unsent = Some(error);
                    }
                }
                Output::Deliver(delivery) => {
                    if delivery.kind == FrameKind::Management {
                        heard.messages.push(delivery.payload.to_vec().into());
                    }
                }
                Output::Event(Event::EpochBegan { cause: Cause::Followed, .. }) => heard.was_behind = true,
                Output::Event(event) => tracing::trace!(node = %self.node.name, ?event, "link"),
                Output::Idle => break,
            }
        }
        match (unsaved, unsent) {
            (Some(error), _) => Err(error.into()),
            (None, Some(error)) => Err(unreachable_node(&self.node, &error)),
            (None, None) => Ok(heard),
        }
    }
}

fn connect(node: &Node) -> Result<FrameStream, LinkError> {
    let unknown = || std::io::Error::other("where it is reached is not known");
    let endpoint = node.endpoint.as_ref().ok_or_else(unknown).and_then(NamedEndpoint::resolve);
    endpoint
        .and_then(|endpoint| FrameStream::connect(endpoint, CONNECT))
        .map_err(|error| unreachable_node(node, &error))
}
