//! One driver for the sessions of all relationships of a node.
//!
//! It takes frames and wishes, hands them to the right session, makes records durable when a session
//! asks for it, and gives what is to be sent or delivered to a [`Network`]. It opens no socket.

mod element;
mod generations;
mod management;
mod start;
mod status;
mod words;

pub use status::description_of;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use akm_core::element::ProvisionableElement;
use akm_core::frame::{FrameKind, Header};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::PlaceSeal;
use akm_core::sds::{Kind, SynchronizedDataSet, Tag};
use akm_core::session::{
    Event, Input, Instant, Output, RandomSource, Record, Rejection, Session, SessionError, Surroundings,
};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::error::NodeError;
use crate::layout::Layout;
use crate::storage::{Identity, Storage};
use generations::{Former, Held};
use words::{no_such_member, tell, wish_failed};

/// The verdict on a frame of a generation that is erased here.
const OLD_GENERATION: &str = "old-generation";

/// Sessions that act, each with a write to the disk, before frames and applications get their turn.
const SESSIONS_AT_ONCE: usize = 16;

/// Where what comes out of a session goes.
pub trait Network {
    /// Sends one datagram, as well as the network can.
    fn datagram(&mut self, to: SocketAddr, frame: &[u8]);

    /// Gives a message to the applications that listen.
    fn deliver(&mut self, message: Message<'_>);

    /// Tells what became of a frame to those who watch.
    fn seen(&mut self, frame: SeenFrame<'_>);
}

/// A message of another member, authentic and never delivered before.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The relationship.
    pub relationship: RelationshipId,
    /// What operators call it.
    pub label: &'a str,
    /// Who sent it.
    pub from: AkmId,
    /// What operators call the sender; empty if not known.
    pub from_label: &'a str,
    /// The epoch that it was sent in.
    pub epoch: u32,
    /// The bytes.
    pub payload: &'a [u8],
}

/// A frame that came off the network, and its fate.
#[derive(Clone, Copy, Debug)]
pub struct SeenFrame<'a> {
    /// The relationship, if one claims the frame.
    pub relationship: Option<RelationshipId>,
    /// Where it came from.
    pub source: SocketAddr,
    /// As sealed.
    pub frame: &'a [u8],
    /// `accepted`, or the name of the reason why it was dropped.
    pub verdict: &'static str,
}

/// The system's random generator.
#[derive(Debug)]
pub(crate) struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        // Without randomness no key is safe: going on would be worse than stopping.
        getrandom::fill(out).expect("the system's random generator answers");
    }
}

/// A generation of a relationship with all that this node knows of it.
struct Relationship {
    sds: SynchronizedDataSet,
    session: Session,
    /// When it is erased, as a later one is in force.
    ends: Option<Instant>,
    /// The tags by which its frames are found.
    tags: Vec<Tag>,
    /// When the latest frame was sent.
    sent_at: Option<std::time::Instant>,
    /// Whether its place was older than the element allows at the start.
    rolled_back: bool,
    /// How often this node found back in it by a fallback or a failsafe.
    found_back: u32,
    /// Frames of generations before this one that came too late.
    late: u64,
    /// When members that are behind were last told.
    told: Option<Instant>,
    label: String,
    member_labels: Vec<String>,
    endpoints: Vec<Option<SocketAddr>>,
    heard: Vec<Option<std::time::Instant>>,
    timer: Option<Instant>,
    /// Why it has no good place, and what to do.
    rests: Option<String>,
    /// Why its latest record could not be written.
    not_recorded: Option<String>,
}

/// Management requests that arrived; they carry roots.
type Requests = Vec<zeroize::Zeroizing<Vec<u8>>>;

/// A running node.
pub struct Node {
    layout: Layout,
    config: Config,
    storage: Storage,
    element: Box<dyn ProvisionableElement>,
    /// Why it did not answer a session, and when it is asked again; `None` once it answers.
    element_trouble: Option<(String, Instant)>,
    seal: PlaceSeal,
    identity: Identity,
    relationships: BTreeMap<Held, Relationship>,
    /// Generations whose files cannot be read or written, and why.
    damaged: BTreeMap<Held, String>,
    by_tag: HashMap<Tag, Vec<Held>>,
    /// Generations that were erased in this start, by their tags.
    former: HashMap<Tag, Former>,
    timers: BTreeSet<(Instant, Held)>,
    clock: std::time::Instant,
    unknown_frames: u64,
    disowned: bool,
}

impl Node {
    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The configuration that it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether its module has erased it: it has nothing more to do.
    pub fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// Erases what is left after the module erased the node.
    pub fn finish_erasure(&mut self) -> Result<(), NodeError> {
        self.relationships.clear();
        self.by_tag.clear();
        self.timers.clear();
        self.storage.tidy(None, &mut *self.element)
    }

    /// How long until [`Node::fire`] has something to do; `None`: until something else happens.
    pub fn timeout(&self) -> Option<std::time::Instant> {
        let session = self.timers.first().map(|(due, _)| *due);
        let element = self.element_trouble.as_ref().map(|(_, due)| *due);
        session.into_iter().chain(element).min().map(|due| self.clock + due.0)
    }

    /// Lets sessions act whose time has come; not all of them where very many are due, such as at a start, so that
    /// others are heard in between: then [`Node::timeout`] says that there is more to do at once.
    pub fn fire(&mut self, network: &mut dyn Network) {
        let now = self.now();
        self.ask_element_again(now);
        for _ in 0..SESSIONS_AT_ONCE {
            let Some((due, id)) = self.timers.first().copied() else { break };
            if due > now {
                break;
            }
            if let Some(held) = self.relationships.get_mut(&id)
                && let Some(ends) = held.ends
            {
                if ends <= now {
                    self.end(id);
                } else {
                    held.session.expire(now);
                    self.schedule_at(id, None);
                }
                continue;
            }
            if let Err(error) = self.drive(id, Input::Timeout, network, &mut Vec::new()) {
                warn!(relationship = %id.0, %error, "cannot move on");
            }
            // A session whose time has not moved would be asked for ever.
            if self.timers.first() == Some(&(due, id)) {
                self.schedule_at(id, Some(now + std::time::Duration::from_secs(1)));
            }
        }
    }

    /// Takes a datagram: frames of communication relationships.
    pub fn handle_datagram(&mut self, frame: &[u8], source: SocketAddr, network: &mut dyn Network) {
        let Some(id) = self.relationship_of(frame, Kind::Communication) else {
            if let Some(relationship) = self.is_of_former(frame, network) {
                let verdict = OLD_GENERATION;
                network.seen(SeenFrame { relationship: Some(relationship), source, frame, verdict });
                return;
            }
            self.unknown_frames += 1;
            let is_whole = Header::parse(frame).is_ok();
            let verdict = if is_whole { Rejection::UnknownTag } else { Rejection::Malformed }.name();
            network.seen(SeenFrame { relationship: None, source, frame, verdict });
            return;
        };
        match self.receive(id, frame, Some(source), network, &mut Vec::new()) {
            Ok((verdict, _)) => {
                network.seen(SeenFrame { relationship: Some(id.0), source, frame, verdict });
                self.tell_who_is_behind(id, verdict, network);
            }
            Err(error) => warn!(relationship = %id.0, %error, "cannot receive"),
        }
    }

    /// Takes a frame off a stream: management. Returns the frames to be sent back.
    pub fn handle_stream_frame(&mut self, frame: &[u8], network: &mut dyn Network) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        let Some(id) = self.relationship_of(frame, Kind::Provisioning) else {
            self.unknown_frames += 1;
            return replies;
        };
        match self.receive(id, frame, None, network, &mut replies) {
            Ok((_, requests)) => {
                for request in requests {
                    let response = zeroize::Zeroizing::new(self.answer(&request, network).emit());
                    let input = Input::Send(FrameKind::Management, &response);
                    if let Err(error) = self.drive(id, input, network, &mut replies) {
                        warn!(%error, "cannot answer the module");
                    }
                }
            }
            Err(error) => warn!(%error, "cannot receive from the module"),
        }
        replies
    }

    /// Seals a message of an application, and sends it to every other member or to the one named.
    pub fn send(
        &mut self,
        asr: &str,
        to: Option<&str>,
        payload: &[u8],
        network: &mut dyn Network,
    ) -> Result<(), NodeError> {
        let input = match to {
            None => Input::Send(FrameKind::Data, payload),
            Some(member) => Input::SendTo(self.find_member(asr, member)?, FrameKind::Data, payload),
        };
        self.wish(asr, input, network)
    }

    /// Begins the next epoch of a relationship as soon as its policy allows.
    pub fn advance(&mut self, asr: &str, network: &mut dyn Network) -> Result<(), NodeError> {
        self.wish(asr, Input::Advance, network)
    }

    /// What an application wants of an ASR: carried out, or an error that says why not.
    fn wish(&mut self, asr: &str, input: Input<'_>, network: &mut dyn Network) -> Result<(), NodeError> {
        let id = self.find_in_force(asr)?;
        match self.drive_from(id, input, None, network, &mut Vec::new()) {
            Ok(Outcome { not_recorded: Some(error), .. }) => Err(error),
            Ok(_) => Ok(()),
            Err(error) => {
                let rests =
                    self.relationships.get(&id).and_then(|relationship| relationship.rests.as_deref());
                Err(wish_failed(asr, error, rests))
            }
        }
    }

    /// The communication relationship that an application means, by label or ID.
    pub fn find(&self, asr: &str) -> Result<RelationshipId, NodeError> {
        self.find_in_force(asr).map(|(id, _)| id)
    }

    /// The same, and the generation in which it is sent.
    fn find_in_force(&self, asr: &str) -> Result<Held, NodeError> {
        let wanted = asr.parse::<RelationshipId>().ok();
        let mut found = self.relationships.iter().filter(|(id, relationship)| {
            relationship.kind() == Kind::Communication
                && (wanted == Some(id.0) || relationship.label == asr)
                && self.in_force(id.0) == Some(**id)
        });
        match (found.next(), found.next()) {
            (Some((id, _)), None) => Ok(*id),
            (Some(_), Some(_)) => Err(NodeError::Usage(format!(
                "several relationships are called {asr}: name it by its ID (akmd status shows them)"
            ))),
            (None, _) if !self.damaged.is_empty() => Err(NodeError::Usage(format!(
                "this node has no relationship {asr} that it can use; akmd status shows those that it has, and why \
                 others are set aside"
            ))),
            (None, _) => Err(NodeError::Usage(format!(
                "this node has no relationship {asr}; akmd status shows those that it has"
            ))),
        }
    }

    /// The other member of an ASR that an application means, by label or ID.
    fn find_member(&self, asr: &str, member: &str) -> Result<u16, NodeError> {
        let relationship = &self.relationships[&self.find_in_force(asr)?];
        let members = relationship.sds.members();
        let label_of = |at: usize| relationship.member_labels.get(at).map_or("", String::as_str);
        let wanted = member.parse::<AkmId>().ok();
        let is_meant =
            |at: usize| wanted == Some(members[at]) || label_of(at) == member && !member.is_empty();
        let own = usize::from(relationship.session.membership().index());
        let mut meant = (0..members.len()).filter(|at| *at != own && is_meant(*at));
        match (meant.next(), meant.next()) {
            (Some(at), None) => Ok(u16::try_from(at).expect("a relationship has at most 65,535 members")),
            (Some(_), Some(_)) => Err(NodeError::Usage(format!(
                "several members of {asr} are called {member}: name it by its AKM ID (akmd status shows them)"
            ))),
            (None, _) if is_meant(own) => {
                Err(NodeError::Usage(format!("{member} is this node itself: it sends to other members only")))
            }
            (None, _) => {
                let others = (0..members.len()).filter(|at| *at != own).map(|at| match label_of(at) {
                    "" => members[at].to_string(),
                    label => label.to_owned(),
                });
                Err(no_such_member(asr, member, others))
            }
        }
    }

    /// The relationship that a frame belongs to: by its tag; where several share one, by the header
    /// signature.
    fn relationship_of(&self, frame: &[u8], kind: Kind) -> Option<Held> {
        let header = Header::parse(frame).ok()?;
        let candidates = self.by_tag.get(&header.tag)?;
        let mut of_kind = candidates.iter().filter(|id| self.relationships[*id].kind() == kind);
        let first = *of_kind.next()?;
        if candidates.len() == 1 {
            return Some(first);
        }
        candidates
            .iter()
            .find(|id| {
                let relationship = &self.relationships[*id];
                relationship.kind() == kind && relationship.session.claims(frame)
            })
            .copied()
    }

    fn receive(
        &mut self,
        id: Held,
        frame: &[u8],
        source: Option<SocketAddr>,
        network: &mut dyn Network,
        replies: &mut Vec<Vec<u8>>,
    ) -> Result<(&'static str, Requests), SessionError> {
        let outcome = self.drive_from(id, Input::Frame(frame), source, network, replies)?;
        Ok((outcome.verdict.unwrap_or("accepted"), outcome.requests))
    }

    /// Hands an input to a session and carries out what comes back.
    pub(crate) fn drive(
        &mut self,
        id: Held,
        input: Input<'_>,
        network: &mut dyn Network,
        replies: &mut Vec<Vec<u8>>,
    ) -> Result<(), SessionError> {
        self.drive_from(id, input, None, network, replies).map(|_| ())
    }

    fn drive_from(
        &mut self,
        id: Held,
        input: Input<'_>,
        source: Option<SocketAddr>,
        network: &mut dyn Network,
        replies: &mut Vec<Vec<u8>>,
    ) -> Result<Outcome, SessionError> {
        let now = self.now();
        let Some(relationship) = self.relationships.get_mut(&id) else { return Ok(Outcome::default()) };
        let mut surroundings = Surroundings { now, element: &mut *self.element, random: &mut SystemRandom };
        let result = relationship.session.handle(input, &mut surroundings);
        let mut outcome = Outcome::default();
        let mut moved = None;
        let mut activated = false;
        loop {
            let written = match relationship.session.poll() {
                Output::Persist(record) => {
                    write_record(&self.storage, &self.seal, self.identity.node, &relationship.sds, record)
                }
                Output::Transmit(frame) => {
                    relationship.sent_at = Some(std::time::Instant::now());
                    if relationship.sds.kind() == Kind::Provisioning {
                        replies.push(frame.to_vec());
                    } else {
                        for endpoint in relationship.endpoints.iter().flatten() {
                            network.datagram(*endpoint, frame);
                        }
                    }
                    continue;
                }
                Output::TransmitTo(member, frame) => {
                    if relationship.sds.kind() == Kind::Provisioning {
                        replies.push(frame.to_vec());
                    } else if let Some(Some(endpoint)) = relationship.endpoints.get(usize::from(member)) {
                        network.datagram(*endpoint, frame);
                    }
                    continue;
                }
                Output::Deliver(delivery) => {
                    let at = usize::from(delivery.index);
                    outcome.verdict = Some("accepted");
                    relationship.heard[at] = Some(std::time::Instant::now());
                    if let Some(source) = source.filter(|_| delivery.newest)
                        && relationship.endpoints[at] != Some(source)
                    {
                        relationship.endpoints[at] = Some(source);
                        moved = Some(at);
                    }
                    match delivery.kind {
                        FrameKind::Hello => {}
                        FrameKind::Data => network.deliver(Message {
                            relationship: id.0,
                            label: &relationship.label,
                            from: delivery.from,
                            from_label: relationship.member_labels.get(at).map_or("", String::as_str),
                            epoch: delivery.epoch,
                            payload: delivery.payload,
                        }),
                        FrameKind::Management if delivery.index == 0 => {
                            outcome.requests.push(delivery.payload.to_vec().into());
                        }
                        FrameKind::Management => {}
                    }
                    continue;
                }
                Output::Event(event) => {
                    tell(id, &relationship.label, event);
                    activated |= event == Event::Activated;
                    if let Event::FoundBack(_) = event {
                        relationship.rests = None;
                        relationship.found_back += 1;
                    }
                    if let Event::Rejected { reason, .. } = event {
                        outcome.verdict.get_or_insert(reason.name());
                    }
                    continue;
                }
                Output::Idle => break,
            };
            match written {
                Ok(()) => {
                    if relationship.not_recorded.take().is_some() {
                        info!(relationship = %id.0, label = relationship.label, "its records can be written again");
                    }
                    relationship.session.persisted();
                }
                Err(error) => {
                    let why = error.to_string();
                    // It is tried again and again; told is what is new.
                    if relationship.not_recorded.as_ref() != Some(&why) {
                        error!(
                            relationship = %id.0,
                            label = relationship.label,
                            "{why}; what rests on this record is not sent; it is tried again by itself"
                        );
                        relationship.not_recorded = Some(why);
                    }
                    outcome.verdict = Some("not-recorded");
                    outcome.not_recorded = Some(error);
                    relationship.session.persist_failed();
                }
            }
        }
        if moved.is_some() {
            save_endpoints(&self.storage, self.identity.node, relationship);
        }
        let due = relationship.session.timeout();
        let has_another_tag = relationship.tags != tags_of(&relationship.session);
        self.schedule_at(id, due);
        if has_another_tag {
            self.list_tags(id);
        }
        if activated {
            self.supersede(id);
        }
        self.note_element(&result);
        result.map(|()| outcome)
    }

    fn schedule_at(&mut self, id: Held, due: Option<Instant>) {
        let Some(relationship) = self.relationships.get_mut(&id) else { return };
        // One that a later one follows does not act.
        let due = match relationship.ends {
            Some(ends) => Some(relationship.session.expiry().map_or(ends, |expiry| expiry.min(ends))),
            None => due,
        };
        if let Some(old) = relationship.timer.take() {
            self.timers.remove(&(old, id));
        }
        relationship.timer = due;
        if let Some(due) = due {
            self.timers.insert((due, id));
        }
    }

    fn now(&self) -> Instant {
        Instant(self.clock.elapsed())
    }
}

/// What became of an input.
#[derive(Default)]
struct Outcome {
    verdict: Option<&'static str>,
    requests: Requests,
    /// Why a record could not be written, and what rests on it was given up.
    not_recorded: Option<NodeError>,
}

impl Relationship {
    fn new(session: Session, label: String, member_labels: Vec<String>, endpoints: &[String]) -> Self {
        let sds = session.membership().sds().clone();
        let members = sds.members().len();
        let own = usize::from(session.membership().index());
        let endpoints = (0..members)
            .map(|at| endpoints.get(at).filter(|_| at != own).and_then(|text| text.parse().ok()))
            .collect();
        Self {
            sds,
            session,
            ends: None,
            tags: Vec::new(),
            sent_at: None,
            rolled_back: false,
            found_back: 0,
            late: 0,
            told: None,
            label,
            member_labels,
            endpoints,
            heard: vec![None; members],
            timer: None,
            rests: None,
            not_recorded: None,
        }
    }

    fn kind(&self) -> Kind {
        self.sds.kind()
    }

    /// Whether it was ever active.
    fn is_active(&self) -> bool {
        self.session.is_active()
    }

    fn generation(&self) -> u32 {
        self.sds.generation()
    }

    fn endpoint_texts(&self) -> Vec<String> {
        self.endpoints
            .iter()
            .map(|endpoint| endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default())
            .collect()
    }
}

/// The tags of the frames of a session: those of its run, and those by which members find back.
fn tags_of(session: &Session) -> Vec<Tag> {
    std::iter::once(session.tag()).chain(session.resync_tag()).collect()
}

fn write_record(
    storage: &Storage,
    seal: &PlaceSeal,
    node: AkmId,
    sds: &SynchronizedDataSet,
    record: &Record,
) -> Result<(), NodeError> {
    match record {
        Record::Activated => storage.save_active(node, sds.relationship(), sds.generation()),
        Record::FoundBack(_) => storage.save_found_back(node, sds.relationship(), sds.generation()),
        Record::Place(place) => {
            let sealed = seal_place(seal, sds, place.expose());
            storage.save_place(node, sds.relationship(), sds.generation(), &sealed)
        }
    }
}

/// Seals an encoded place under a key of its own.
pub(crate) fn seal_place(seal: &PlaceSeal, sds: &SynchronizedDataSet, place: &[u8]) -> Vec<u8> {
    let mut random = [0; 16];
    SystemRandom.fill(&mut random);
    seal.seal(akm_core::crypto::provider(), sds.suite(), sds.digest(), &random, place)
}

fn save_endpoints(storage: &Storage, node: AkmId, relationship: &Relationship) {
    let (id, generation) = (relationship.sds.relationship(), relationship.generation());
    let texts = relationship.endpoint_texts();
    if let Err(error) = storage.save_endpoints(node, id, generation, &relationship.member_labels, &texts) {
        warn!(relationship = %id, %error, "a member's endpoint is not remembered across a restart");
    }
}
