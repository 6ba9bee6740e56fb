//! The module's side of a provisioning relationship: requests to one node, over TCP.
//!
//! A small driver over the same session engine that the nodes run. Each link counts as a start of the
//! module in this relationship, under the node's lock; the module's place is in the store before any
//! frame that rests on it leaves. Each begins a stream: what the node says counts only with the proof of its element.

mod element;
mod line;

use std::time::Duration;

use akm_core::element::ElementError;
use akm_core::id::RelationshipId;
use akm_core::management::{
    ActivateRequest, EraseRequest, IdentifyAnswer, IdentifyRequest, NodeIdentity, Opaque, Operation, Outcome,
    PAGE_MAX, PrepareRequest, RelationshipStatus, ReportAnswer, ReportRequest, Response, SetEndpoints,
    StatusAnswer, StatusRequest, Taken,
};
use akm_core::proof::Proof;
use akm_core::sds::{ElementRoot, SynchronizedDataSet};
use akm_core::session::SessionError;
use akm_element::random;
use zeroize::Zeroizing;

use crate::lock::{Lock, LockError, LockKey};
use crate::store::{Node, Store, StoreError};
use line::Line;

/// How long a node has for an answer before it is asked again: less than it keeps a stream open on which
/// nothing worth an answer came.
const ANSWER: Duration = Duration::from_secs(3);

/// The same for a node that has proven itself on this stream: each answer takes two calls of its element.
const ANSWER_WITH_PROOF: Duration = Duration::from_secs(10);

/// The same where its element has to do something that may take long: a token makes an RSA key to prepare.
const ANSWER_OF_ELEMENT: Duration = Duration::from_secs(120);

/// How often a node is asked.
const ATTEMPTS: u32 = 3;

/// How often one is asked whose stack was started a moment ago: on a machine that starts many at once it may take a while
/// until it has its turn, and the ceremony would end for nothing else.
const ATTEMPTS_AFTER_START: u32 = 20;

/// Entries of one `set endpoints`; with the longest labels and endpoints they still fit into a frame.
const ENDPOINTS_AT_ONCE: usize = 500;

const NO_ANSWER: &str = "no authentic answer came";

const WRONG_PROOF: &str = "the proof of its element is wrong";

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
    line: Line<'a>,
    /// Other generations in which the node may be, the one to be asked first at the end.
    others: Vec<SynchronizedDataSet>,
    /// What the node said of itself when the stream began, until somebody asks for it.
    identity: Option<NodeIdentity>,
    has_begun: bool,
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
        let (line, others) = open_line(store, node)?;
        let (node, attempts) = (node.clone(), ATTEMPTS);
        Ok(Self { store, node, line, others, identity: None, has_begun: false, attempts, _lock: lock })
    }

    /// The same for a node whose stack was started a moment ago: it is given a minute to answer.
    pub fn after_start(self) -> Self {
        Self { attempts: ATTEMPTS_AFTER_START, ..self }
    }

    /// Speaks in the generation that the module speaks in by now: another than before, if one was acknowledged.
    pub fn speak_anew(&mut self) -> Result<(), LinkError> {
        let (line, others) = open_line(self.store, &self.node)?;
        (self.line, self.others, self.identity, self.has_begun) = (line, others, None, false);
        Ok(())
    }

    /// The generation in which it speaks.
    pub fn generation(&self) -> u32 {
        self.line.sds().generation()
    }

    /// The node at the other end.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Asks the node who it is, with a fresh challenge, and checks the proof of its element.
    pub fn identify(&mut self) -> Result<NodeIdentity, LinkError> {
        self.begin()?;
        if let Some(identity) = self.identity.take() {
            return Ok(identity);
        }
        let challenge: [u8; 32] = random();
        let body = self.request(Operation::Identify, "identify", &IdentifyRequest { challenge }.emit())?;
        let answer = IdentifyAnswer::parse(&body).map_err(|_| self.unreadable())?;
        self.line.identity(&challenge, &answer).ok_or_else(|| self.silent(WRONG_PROOF))
    }

    /// Asks what the node's element needs, so that a root can be wrapped for it.
    pub fn prepare(&mut self, sds: &SynchronizedDataSet) -> Result<Vec<u8>, LinkError> {
        let request =
            PrepareRequest { relationship: sds.relationship(), element_version: sds.element_version() };
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
        let answer = self.request(Operation::Install, "install the relationship", body)?;
        let Opaque(receipt) = Opaque::parse(&answer).map_err(|_| self.unreadable())?;
        if !Proof::receipt(sds.digest(), host_part, body).by_root(root).equals(&receipt) {
            return Err(self.silent("the receipt of its element is wrong"));
        }
        Ok(())
    }

    /// Lets an installed generation become active.
    pub fn activate(&mut self, sds: &SynchronizedDataSet) -> Result<(), LinkError> {
        let (relationship, generation) = (sds.relationship(), sds.generation());
        let request = ActivateRequest { relationship, generation, follow: false };
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

    /// Begins a stream, unless one has begun: in the generation in which the module speaks, and where nobody answers there
    /// in the others in which the node may be.
    fn begin(&mut self) -> Result<(), LinkError> {
        if self.has_begun {
            return Ok(());
        }
        let was_alone = self.others.is_empty();
        let mut result = self.begin_in_this();
        while let Err(LinkError::Silent { .. }) = result {
            let Some(other) = self.others.pop() else { break };
            self.line = Line::open(self.store, &self.node, other)?;
            match self.begin_in_this() {
                // What the first said is nearer to what is wrong.
                Err(LinkError::Silent { .. }) => {}
                other => result = other,
            }
        }
        result?;
        self.has_begun = true;
        if !was_alone {
            let proven = self.line.sds();
            self.store.proven_in(proven)?;
            self.others.retain(|other| other.generation() > proven.generation());
        }
        Ok(())
    }

    fn begin_in_this(&mut self) -> Result<(), LinkError> {
        let first = self.line.begin();
        match self.exchange(first, ANSWER, |line| Some(line.begin()))? {
            Taken::Begun(identity, _) => {
                self.identity = Some(*identity);
                Ok(())
            }
            Taken::NotBegun(response) => Err(self.refused("identify", response)),
            _ => Err(self.silent(NO_ANSWER)),
        }
    }

    /// Sends a request until it is answered: again when the module learns that it was behind, and
    /// when no answer comes in time. Every request may be repeated.
    fn request(
        &mut self,
        operation: Operation,
        what: &'static str,
        body: &[u8],
    ) -> Result<Vec<u8>, LinkError> {
        let patience = match operation {
            Operation::Prepare | Operation::Install => ANSWER_OF_ELEMENT,
            _ => ANSWER_WITH_PROOF,
        };
        let mut lost = None;
        for _ in 0..ATTEMPTS {
            if lost.is_some() {
                self.line.reconnect()?;
                self.has_begun = false;
            }
            self.begin()?;
            let Some(request) = self.line.request(operation as u8, body) else {
                self.has_begun = false;
                lost = Some(self.silent(NO_ANSWER));
                continue;
            };
            match self.exchange(request, patience, |_| None) {
                Ok(Taken::Answer(response)) => {
                    return match response.outcome {
                        Outcome::Done => Ok(response.body),
                        _ => Err(self.refused(what, response)),
                    };
                }
                // Another stream has to be opened.
                Ok(_) => lost = Some(self.silent(NO_ANSWER)),
                Err(error @ LinkError::Unreachable { .. }) => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(lost.unwrap_or_else(|| self.silent(NO_ANSWER)))
    }

    /// Sends a message until it is answered. Where the connection is lost on the way it is opened again, and `anew` makes the
    /// message for it; `None`: it belongs to the connection that is lost.
    fn exchange(
        &mut self,
        mut message: Zeroizing<Vec<u8>>,
        patience: Duration,
        anew: impl Fn(&mut Line<'a>) -> Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Taken, LinkError> {
        let (mut lost, mut is_forged) = (None, false);
        for attempt in 0..self.attempts {
            if let Some(error) = lost.take() {
                // A node closes a stream that was silent for a while.
                let Some(again) = anew(&mut self.line) else { return Err(error) };
                self.line.reconnect()?;
                message = again;
            }
            let answered = if attempt == 0 {
                self.line.ask(&message, patience, &mut is_forged)
            } else {
                let advanced = self.line.advance();
                advanced.and_then(|()| self.line.ask(&message, patience, &mut is_forged))
            };
            match answered {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) => {}
                Err(error @ LinkError::Unreachable { .. }) => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(lost.unwrap_or_else(|| self.silent(if is_forged { WRONG_PROOF } else { NO_ANSWER })))
    }

    fn refused(&self, operation: &'static str, response: Response) -> LinkError {
        let Response { outcome, reason, .. } = response;
        LinkError::Refused { node: self.node.name.to_string(), operation, outcome, reason }
    }

    fn silent(&self, reason: &str) -> LinkError {
        LinkError::Silent {
            node: self.node.name.to_string(),
            endpoint: endpoint_text(&self.node),
            reason: reason.to_owned(),
        }
    }

    fn unreadable(&self) -> LinkError {
        self.silent("its answer cannot be read")
    }
}

impl std::fmt::Debug for Link<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("node", &self.node.name).finish_non_exhaustive()
    }
}

/// A line in the generation in which the module speaks, and the others in which the node may be, the one to be asked first at
/// the end.
fn open_line<'a>(store: &'a Store, node: &Node) -> Result<(Line<'a>, Vec<SynchronizedDataSet>), LinkError> {
    let mut others = store.spoken(node.relationship)?;
    others.reverse();
    let present = others.pop().ok_or_else(|| LinkError::NoCredentials { node: node.name.to_string() })?;
    Ok((Line::open(store, node, present)?, others))
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
