//! The module's side of a provisioning relationship: requests to one node, over TCP.
//!
//! A small driver over the same session engine that the nodes run. Each link counts as a start of the
//! module in this relationship, under the node's lock; the module's place is in the store before any
//! frame that rests on it leaves.

mod element;

use std::time::{Duration, Instant};

use akm_core::crypto;
use akm_core::element::{ElementError, RootCheck};
use akm_core::frame::FrameKind;
use akm_core::id::RelationshipId;
use akm_core::keys::PlaceSeal;
use akm_core::management::{
    ActivateRequest, EraseRequest, IdentifyAnswer, IdentifyRequest, NodeIdentity, Opaque, Operation, Outcome,
    PAGE_MAX, PrepareRequest, RelationshipStatus, ReportAnswer, ReportRequest, Request, Response,
    SetEndpoints, StatusAnswer, StatusRequest,
};
use akm_core::proof::Proof;
use akm_core::sds::{ElementRoot, SynchronizedDataSet};
use akm_core::session::{
    Cause, Event, Input, Membership, Options, Output, Record, Session, SessionError, Standing, Surroundings,
};
use akm_core::tree::Place;
use akm_element::{SystemRandom, random};
use akm_transport::{FrameStream, NamedEndpoint};

use crate::lock::{Lock, LockError, LockKey};
use crate::store::{Node, Store, StoreError};
use element::VaultElement;

/// How long a node has to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a node has for an answer before it is asked again: less than it keeps a stream open on which
/// nothing worth an answer came.
const ANSWER: Duration = Duration::from_secs(3);

/// The same where its element has to do something that may take long: a token makes an RSA key to prepare. Only for a node
/// that has answered on this link: who does not answer at all is asked again sooner.
const ANSWER_OF_ELEMENT: Duration = Duration::from_secs(120);

/// How often a node is asked.
const ATTEMPTS: u32 = 3;

/// How often one is asked whose stack was started a moment ago: on a machine that starts many at once it may take a while
/// until it has its turn, and the ceremony would end for nothing else.
const ATTEMPTS_AFTER_START: u32 = 20;

/// Entries of one `set endpoints`; with the longest labels and endpoints they still fit into a frame.
const ENDPOINTS_AT_ONCE: usize = 500;

/// Why a node could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody is there.
    #[error("node {node} does not answer at {endpoint}: {reason}")]
    Unreachable {
        /// Its name.
        node: String,
        /// Where it should be.
        endpoint: String,
        /// What the network says.
        reason: String,
        /// The directory of its installation.
        dir: String,
        /// Whether the machine answers, and nobody listens there.
        refused: bool,
    },
    /// Somebody is there, but does not prove to be this node.
    #[error("what answers at {endpoint} does not prove to be node {node}: {reason}")]
    Silent {
        /// Its name.
        node: String,
        /// Where it should be.
        endpoint: String,
        /// What is missing.
        reason: String,
    },
    /// The node understood, and refused.
    #[error("node {node} refused to {operation}: {reason}")]
    Refused {
        /// Its name.
        node: String,
        /// What it was asked.
        operation: &'static str,
        /// How it classed the refusal.
        outcome: Outcome,
        /// Its words.
        reason: String,
    },
    /// The store does not hold what is needed to talk to this node.
    #[error("the credentials of node {node} are gone")]
    NoCredentials {
        /// Its name.
        node: String,
    },
    /// Another command holds the node.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The module's own side failed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl From<ElementError> for LinkError {
    fn from(error: ElementError) -> Self {
        Self::Session(error.into())
    }
}

/// An open link to a node, with its lock held.
pub struct Link<'a> {
    store: &'a Store,
    node: Node,
    sds: SynchronizedDataSet,
    session: Session,
    element: VaultElement<'a>,
    seal: PlaceSeal,
    stream: FrameStream,
    clock: Instant,
    /// Whether the node has answered on this link.
    has_answered: bool,
    attempts: u32,
    _lock: Lock,
}

impl<'a> Link<'a> {
    /// Takes the node's lock and connects to it.
    pub fn open(store: &'a Store, node: &Node) -> Result<Self, LinkError> {
        Self::connect(store, node, Self::lock(store, node)?)
    }

    /// Takes the node's lock, for whoever needs several before it connects.
    pub fn lock(store: &Store, node: &Node) -> Result<Lock, LinkError> {
        Ok(store.lock(LockKey::Node(node.id))?)
    }

    /// Connects to the node whose lock is held.
    pub fn connect(store: &'a Store, node: &Node, lock: Lock) -> Result<Self, LinkError> {
        let gone = || LinkError::NoCredentials { node: node.name.to_string() };
        let relationship = store.relationship(node.relationship)?.ok_or_else(gone)?;
        let sds = relationship.sds;
        let secrets = store.secrets(node.relationship)?;
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
        let stream = connect(node)?;
        let clock = Instant::now();
        let mut surroundings = Surroundings {
            now: akm_core::session::Instant::default(),
            element: &mut element,
            random: &mut SystemRandom,
        };
        let options = Options { hello_at_start: false, find_back: false };
        let standing = Standing::Active(place);
        let session = Session::start(crypto::provider(), membership, standing, options, &mut surroundings)?;
        Ok(Self {
            store,
            node: node.clone(),
            sds,
            session,
            element,
            seal,
            stream,
            clock,
            has_answered: false,
            attempts: ATTEMPTS,
            _lock: lock,
        })
    }

    /// The same for a node whose stack was started a moment ago: it is given a minute to answer.
    pub fn after_start(self) -> Self {
        Self { attempts: ATTEMPTS_AFTER_START, ..self }
    }

    /// The node at the other end.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Asks the node who it is, with a fresh challenge, and checks the proof of its element.
    pub fn identify(&mut self) -> Result<NodeIdentity, LinkError> {
        let challenge: [u8; 32] = random();
        let body = self.request(Operation::Identify, "identify", &IdentifyRequest { challenge }.emit())?;
        let unproven = |reason: &str| LinkError::Silent {
            node: self.node.name.to_string(),
            endpoint: endpoint_text(&self.node),
            reason: reason.to_owned(),
        };
        let answer = IdentifyAnswer::parse(&body).map_err(|_| unproven("its answer cannot be read"))?;
        let proof = Proof::identify(&challenge, self.node.id, self.node.relationship, &answer.identity);
        let expected = proof.by_element(&mut self.element, self.session.membership().root())?;
        if !expected.equals(&answer.proof) {
            return Err(unproven("the proof of its element is wrong"));
        }
        NodeIdentity::parse(&answer.identity).map_err(|_| unproven("its answer cannot be read"))
    }

    /// Asks what the node's element needs, so that a root can be wrapped for it.
    pub fn prepare(&mut self, sds: &SynchronizedDataSet) -> Result<Vec<u8>, LinkError> {
        let request =
            PrepareRequest { relationship: sds.relationship(), element_version: sds.element_version() };
        self.be_heard()?;
        let body = self.request(Operation::Prepare, "prepare its element", &request.emit())?;
        Opaque::parse(&body).map(|Opaque(material)| material).map_err(|_| self.unreadable())
    }

    /// Installs a generation and checks that the receipt is made with `root`, over the host part that was meant.
    pub fn install(
        &mut self,
        sds: &SynchronizedDataSet,
        host_part: &[u8; 32],
        body: &[u8],
        root: &ElementRoot,
    ) -> Result<(), LinkError> {
        self.be_heard()?;
        let answer = self.request(Operation::Install, "install the relationship", body)?;
        let Opaque(receipt) = Opaque::parse(&answer).map_err(|_| self.unreadable())?;
        if !Proof::receipt(sds.digest(), host_part, body).by_root(root).equals(&receipt) {
            return Err(LinkError::Silent {
                node: self.node.name.to_string(),
                endpoint: endpoint_text(&self.node),
                reason: "the receipt of its element is wrong".to_owned(),
            });
        }
        Ok(())
    }

    /// Lets an installed generation become active.
    pub fn activate(&mut self, sds: &SynchronizedDataSet) -> Result<(), LinkError> {
        let request =
            ActivateRequest { relationship: sds.relationship(), generation: sds.generation(), follow: false };
        self.request(Operation::Activate, "activate the relationship", &request.emit()).map(|_| ())
    }

    /// Tells the node where the members of a relationship are, and what they are called, in pages.
    pub fn set_endpoints(
        &mut self,
        relationship: RelationshipId,
        labels: &[String],
        endpoints: &[String],
    ) -> Result<(), LinkError> {
        let entries: Vec<(u16, String, String)> = labels
            .iter()
            .zip(endpoints)
            .enumerate()
            .map(|(index, (label, endpoint))| (index as u16, label.clone(), endpoint.clone()))
            .collect();
        for page in entries.chunks(ENDPOINTS_AT_ONCE) {
            let request = SetEndpoints { relationship, entries: page.to_vec() };
            self.request(Operation::SetEndpoints, "learn where the members are", &request.emit())?;
        }
        Ok(())
    }

    /// Has a relationship erased.
    pub fn erase(&mut self, relationship: RelationshipId) -> Result<(), LinkError> {
        let request = EraseRequest::Relationship(relationship).emit();
        self.request(Operation::Erase, "erase the relationship", &request).map(|_| ())
    }

    /// Has everything erased: the device is no node any more.
    pub fn erase_everything(&mut self) -> Result<(), LinkError> {
        let request = EraseRequest::Everything.emit();
        self.request(Operation::Erase, "erase everything", &request).map(|_| ())
    }

    /// What the node hears of a member of a relationship.
    pub fn report(
        &mut self,
        relationship: RelationshipId,
        member: akm_core::id::AkmId,
    ) -> Result<ReportAnswer, LinkError> {
        let request = ReportRequest { relationship, member }.emit();
        let body = self.request(Operation::Report, "tell what it hears", &request)?;
        ReportAnswer::parse(&body).map_err(|_| self.unreadable())
    }

    /// How all relationships stand at the node.
    pub fn status(&mut self) -> Result<Vec<RelationshipStatus>, LinkError> {
        let mut all: Vec<RelationshipStatus> = Vec::new();
        loop {
            let request =
                StatusRequest { after: all.last().map(|last| last.relationship), most: PAGE_MAX as u16 };
            let body = self.request(Operation::Status, "tell its status", &request.emit())?;
            let page = StatusAnswer::parse(&body).map_err(|_| self.unreadable())?;
            let more = page.more && !page.relationships.is_empty();
            all.extend(page.relationships);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Has the node answer something that costs it nothing, unless it has answered before.
    fn be_heard(&mut self) -> Result<(), LinkError> {
        if self.has_answered {
            return Ok(());
        }
        let request = StatusRequest { after: None, most: 1 };
        self.request(Operation::Status, "tell its status", &request.emit()).map(|_| ())
    }

    /// Sends a request until it is answered: again when the module learns that it was behind, and
    /// when no answer comes in time. Every request may be repeated.
    fn request(
        &mut self,
        operation: Operation,
        what: &'static str,
        body: &[u8],
    ) -> Result<Vec<u8>, LinkError> {
        let id = u64::from_be_bytes(random());
        let request =
            zeroize::Zeroizing::new(Request { id, operation: operation as u8, body, proof: None }.emit());
        let patience = match operation {
            Operation::Prepare | Operation::Install if self.has_answered => ANSWER_OF_ELEMENT,
            _ => ANSWER,
        };
        let mut lost = None;
        for attempt in 0..self.attempts {
            if lost.take().is_some() {
                // A node closes a stream that was silent for a while.
                self.stream = connect(&self.node)?;
            }
            let answered = if attempt == 0 {
                self.ask(id, &request, patience)
            } else {
                // After a restore the first epoch of this start may be one that the node knows with another
                // salt of the module, and drops without a word. The next one is new to it.
                self.drive(Input::Advance).and_then(|_| self.ask(id, &request, patience))
            };
            match answered {
                Ok(Some(response)) => {
                    self.has_answered = true;
                    return match response.outcome {
                        Outcome::Done => Ok(response.body),
                        outcome => Err(LinkError::Refused {
                            node: self.node.name.to_string(),
                            operation: what,
                            outcome,
                            reason: response.reason,
                        }),
                    };
                }
                Ok(None) => {}
                Err(error @ LinkError::Unreachable { .. }) => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = lost {
            return Err(error);
        }
        Err(LinkError::Silent {
            node: self.node.name.to_string(),
            endpoint: endpoint_text(&self.node),
            reason: "no authentic answer came".to_owned(),
        })
    }

    /// Sends a request once and waits for its response; `None` if none comes in time.
    fn ask(&mut self, id: u64, request: &[u8], patience: Duration) -> Result<Option<Response>, LinkError> {
        self.send(request)?;
        let deadline = Instant::now() + patience;
        while let Some(frame) = self.stream.receive(deadline).map_err(|error| self.lost(&error))? {
            let heard = self.receive(&frame)?;
            if let Some(response) = heard.responses.into_iter().find(|response| response.id == id) {
                return Ok(Some(response));
            }
            if heard.was_behind {
                self.send(request)?;
            }
        }
        Ok(None)
    }

    fn send(&mut self, request: &[u8]) -> Result<(), LinkError> {
        self.drive(Input::Send(FrameKind::Management, request)).map(|_| ())
    }

    fn receive(&mut self, frame: &[u8]) -> Result<Answered, LinkError> {
        self.drive(Input::Frame(frame))
    }

    fn drive(&mut self, input: Input<'_>) -> Result<Answered, LinkError> {
        let now = akm_core::session::Instant(self.clock.elapsed());
        let mut surroundings = Surroundings { now, element: &mut self.element, random: &mut SystemRandom };
        self.session.handle(input, &mut surroundings)?;
        let mut heard = Answered::default();
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
                    if let Err(error) = self.stream.send(frame) {
                        unsent = Some(error);
                    }
                }
                Output::Deliver(delivery) => {
                    if delivery.kind == FrameKind::Management
                        && let Ok(response) = Response::parse(delivery.payload)
                    {
                        heard.responses.push(response);
                    }
                }
                Output::Event(Event::EpochBegan { cause: Cause::Followed, .. }) => heard.was_behind = true,
                Output::Event(event) => tracing::trace!(node = %self.node.name, ?event, "link"),
                Output::Idle => break,
            }
        }
        match (unsaved, unsent) {
            (Some(error), _) => Err(error.into()),
            (None, Some(error)) => Err(self.lost(&error)),
            (None, None) => Ok(heard),
        }
    }

    fn lost(&self, error: &std::io::Error) -> LinkError {
        unreachable_node(&self.node, error)
    }

    fn unreadable(&self) -> LinkError {
        LinkError::Silent {
            node: self.node.name.to_string(),
            endpoint: endpoint_text(&self.node),
            reason: "its answer cannot be read".to_owned(),
        }
    }
}

impl std::fmt::Debug for Link<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("node", &self.node.name).finish_non_exhaustive()
    }
}

/// What came out of one frame.
#[derive(Default)]
struct Answered {
    responses: Vec<Response>,
    was_behind: bool,
}

fn connect(node: &Node) -> Result<FrameStream, LinkError> {
    let unknown = || std::io::Error::other("where it is reached is not known");
    let endpoint = node.endpoint.as_ref().ok_or_else(unknown).and_then(NamedEndpoint::resolve);
    endpoint
        .and_then(|endpoint| FrameStream::connect(endpoint, CONNECT))
        .map_err(|error| unreachable_node(node, &error))
}

fn unreachable_node(node: &Node, error: &std::io::Error) -> LinkError {
    LinkError::Unreachable {
        node: node.name.to_string(),
        endpoint: endpoint_text(node),
        reason: error.to_string(),
        dir: node.target.dir().to_owned(),
        refused: error.kind() == std::io::ErrorKind::ConnectionRefused,
    }
}

fn endpoint_text(node: &Node) -> String {
    node.endpoint.as_ref().map(ToString::to_string).unwrap_or_default()
}
