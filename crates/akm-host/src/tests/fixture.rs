//! A few nodes and their module, with the network, the elements and the disks in the hands of a test.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use akm_core::crypto::{Suite, provider};
use akm_core::element::{
    Description, ElementError, Label, MonotonicCounter, Protection, ProvisionableElement, Root, RootCheck,
    SecureElement,
};
use akm_core::frame::FrameKind;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::{PlaceSeal, element_function};
use akm_core::management::{Install, ModuleStream, Operation, Outcome, Response, Taken};
use akm_core::policy::Policy;
use akm_core::sds::{Generation, GenerationSecrets, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::seal::{HostPartSeal, KeysSeal};
use akm_core::secret::Secret;
use akm_core::session::{
    Input as Given, Instant, Membership, Opener, Options, Output as Made, RandomSource, Sealer, Session,
    Standing, Surroundings as Around,
};
use akm_core::tree::Place;

use crate::{
    Answer, Endpoint, Event, Found, Identity, Input, Installed, Node, Output, Question, Refused,
    StoredGeneration, Stream, Surroundings, Ticket, Verdict, Wish, Write, WriteFailed,
};

pub(super) const MODULE: u8 = 0xaa;
pub(super) const ASR: u8 = 0xee;

pub(super) fn node_id(at: u8) -> AkmId {
    AkmId::from_bytes([at + 1; 16]).unwrap()
}

pub(super) fn relationship(number: u8) -> RelationshipId {
    RelationshipId::from_bytes([number; 16]).unwrap()
}

pub(super) fn endpoint(at: u8) -> Endpoint {
    Endpoint::from(SocketAddr::from(([192, 0, 2, at + 1], 47100)))
}

/// Bytes that look drawn, and are other ones in each test only if it says so.
pub(super) struct Drawn(pub(super) u64);

impl RandomSource for Drawn {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

/// What a module makes of a generation.
#[derive(Clone)]
pub(super) struct Issued {
    pub(super) sds: SynchronizedDataSet,
    seed: u8,
    root_of: Option<Box<Issued>>,
}

impl Issued {
    pub(super) fn secrets(&self) -> GenerationSecrets {
        ParameterDataVector::new(Secret::take(&mut [self.seed; 128])).derive(&self.sds)
    }

    pub(super) fn root(&self) -> Secret<32> {
        match &self.root_of {
            Some(before) => before.root(),
            None => self.secrets().element_root,
        }
    }

    /// The name of its root in an element.
    pub(super) fn name(&self) -> Root {
        self.sds.root(RootCheck::of(&self.root()))
    }

    /// What brings it to this node.
    pub(super) fn install(&self, to: u8, wrapped: bool) -> Install {
        let members = self.sds.members();
        let at = |member: &AkmId| member.as_bytes()[0] - 1;
        let index = self.sds.index_of(node_id(to)).unwrap();
        let seal = HostPartSeal::by_root(&self.root(), &self.sds);
        let host_part = seal.seal(provider(), index, &[to; 16], &self.secrets().host);
        Install {
            public_part: self.sds.emit(),
            wrapped_root: wrapped.then(|| self.root().expose().to_vec().into()),
            root_check: RootCheck::of(&self.root()),
            host_part: host_part.try_into().unwrap(),
            label: String::from("lamps"),
            member_labels: members.iter().map(|member| alloc::format!("n{}", at(member))).collect(),
            endpoints: members.iter().map(|member| endpoint(at(member)).to_string()).collect(),
        }
    }

    /// The body of the request that brings it to this node.
    pub(super) fn body(&self, to: u8, wrapped: bool) -> Vec<u8> {
        self.install(to, wrapped).emit().expose().to_vec()
    }
}

/// An ASR of these members.
pub(super) fn issue(
    number: u8,
    generation: u32,
    version: u32,
    members: &[u8],
    before: Option<&Issued>,
) -> Issued {
    let policy = Policy { rotate_after: Duration::ZERO, ..Policy::default() };
    let seed = number.wrapping_add(generation as u8);
    let sds = SynchronizedDataSet::new(Generation {
        kind: Kind::Communication,
        relationship: relationship(number),
        generation,
        element_version: version,
        instance: [seed; 16],
        suite: Suite::Aes256Gcm,
        members: members.iter().map(|at| node_id(*at)).collect(),
        policy: policy.emit(),
    })
    .unwrap();
    let root_of = before.filter(|before| before.sds.element_version() == version).cloned().map(Box::new);
    Issued { sds, seed, root_of }
}

/// The provisioning relationship of a node.
pub(super) fn provisioning(at: u8) -> Issued {
    provisioning_in(at, 1, 1)
}

/// The same in a later generation.
pub(super) fn provisioning_in(at: u8, generation: u32, version: u32) -> Issued {
    let members = Vec::from([AkmId::from_bytes([MODULE; 16]).unwrap(), node_id(at)]);
    let sds = provisioning_sds(relationship(0x80 + at), generation, version, members);
    Issued { sds, seed: (0x80 + at).wrapping_add(generation as u8 - 1), root_of: None }
}

fn provisioning_sds(
    relationship: RelationshipId,
    generation: u32,
    element_version: u32,
    members: Vec<AkmId>,
) -> SynchronizedDataSet {
    let instance = *members[1].as_bytes();
    SynchronizedDataSet::new(Generation {
        kind: Kind::Provisioning,
        relationship,
        generation,
        element_version,
        instance,
        suite: Suite::Aes256Gcm,
        members,
        policy: Policy::provisioning().emit(),
    })
    .unwrap()
}

/// The same, between another module and this node.
pub(super) fn provisioning_with_other_members(generation: u32, version: u32) -> SynchronizedDataSet {
    let members = Vec::from([AkmId::from_bytes([MODULE - 1; 16]).unwrap(), node_id(0)]);
    provisioning_sds(relationship(0x80), generation, version, members)
}

/// A provisioning relationship that this node does not have.
pub(super) fn other_provisioning(at: u8) -> Issued {
    let members = Vec::from([AkmId::from_bytes([MODULE; 16]).unwrap(), node_id(at)]);
    Issued { sds: provisioning_sds(relationship(0x70), 1, 1, members), seed: 0x70, root_of: None }
}

/// An element in memory with a counter.
#[derive(Default)]
pub(super) struct Element {
    pub(super) roots: BTreeMap<Root, Secret<32>>,
    pub(super) count: u64,
    pub(super) silent: bool,
    /// Whether its counter goes back with the disk.
    pub(super) goes_back: bool,
}

impl Element {
    fn answers(&self) -> Result<(), ElementError> {
        if self.silent { Err(ElementError::Unavailable(String::from("pulled out"))) } else { Ok(()) }
    }
}

impl SecureElement for Element {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        self.answers()?;
        let key = self.roots.get(&root).ok_or(ElementError::NoSuchRoot)?;
        Ok(element_function(key.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        self.answers()?;
        out.fill(0x5a);
        Ok(())
    }
}

impl MonotonicCounter for Element {
    fn value(&mut self) -> Result<u64, ElementError> {
        self.answers().map(|()| self.count)
    }

    fn count_up(&mut self) -> Result<u64, ElementError> {
        self.answers()?;
        self.count += 1;
        Ok(self.count)
    }
}

impl ProvisionableElement for Element {
    fn description(&self) -> Description {
        Description {
            kind: String::from("memory"),
            manufacturer: String::from("test"),
            serial: String::from("1"),
            firmware: String::new(),
            protection: if self.goes_back { Protection::Software } else { Protection::Hardware },
            sealed: false,
            counter: true,
        }
    }

    fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
        self.answers().map(|()| b"material".to_vec())
    }

    fn make_device_key(&mut self) -> Result<(), ElementError> {
        Ok(())
    }

    fn install(&mut self, root: Root, wrapped: &[u8]) -> Result<(), ElementError> {
        self.answers()?;
        self.roots.insert(root, Secret::copy_from(wrapped).unwrap());
        Ok(())
    }

    fn erase(&mut self, root: Root) -> Result<(), ElementError> {
        self.answers()?;
        self.roots.remove(&root);
        Ok(())
    }

    fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
        self.answers().map(|()| self.roots.keys().copied().collect())
    }

    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        Some(self)
    }
}

/// What the disk holds of a generation.
pub(super) struct Stored {
    pub(super) installed: Installed,
    pub(super) place: Option<Vec<u8>>,
    pub(super) active: bool,
    pub(super) found_back: u32,
    pub(super) run: u32,
    pub(super) endpoints: Vec<Option<Endpoint>>,
}

/// What came of an input, beside questions and writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    Sent(Vec<Endpoint>, Vec<u8>),
    Replied(Stream, Vec<u8>),
    Handled(Stream),
    Proven(Stream),
    Closed(Stream),
    Heard(Vec<u8>),
    Seen(Verdict),
    Done(Wish, Result<(), Refused>),
    Event(Event),
    Started,
    NotStarted(String),
}

/// A node with its element and disk.
pub(super) struct Plant {
    pub(super) at: u8,
    pub(super) now: Instant,
    pub(super) node: Node,
    pub(super) element: Element,
    pub(super) disk: BTreeMap<(RelationshipId, u32), Stored>,
    pub(super) disowned: bool,
    pub(super) disk_is_full: bool,
    random: Drawn,
    /// Questions and writes that are out, while they are held back.
    pub(super) asked: VecDeque<(Ticket, Question)>,
    pub(super) writes: VecDeque<(Ticket, Write)>,
    pub(super) holds_answers: bool,
    pub(super) holds_writes: bool,
    pub(super) came: Vec<Came>,
    pub(super) module: Module,
}

impl Plant {
    /// A node that was enrolled and has never been started.
    pub(super) fn enrolled(at: u8) -> Self {
        let mut element = Element::default();
        let made = provisioning(at);
        element.roots.insert(Root::Device, Secret::take(&mut [at + 7; 32]));
        element.roots.insert(made.name(), made.root());
        let mut plant = Self {
            at,
            now: Instant(Duration::from_secs(1000)),
            node: Node::start(identity(at), String::new(), Vec::new(), &mut surroundings(&mut Drawn(0))),
            element,
            disk: BTreeMap::new(),
            disowned: false,
            disk_is_full: false,
            random: Drawn(u64::from(at) + 1),
            asked: VecDeque::new(),
            writes: VecDeque::new(),
            holds_answers: false,
            holds_writes: false,
            came: Vec::new(),
            module: Module::of(at),
        };
        plant.put(&made, true);
        plant
    }

    /// A node that runs, with an active ASR of these members.
    pub(super) fn running(at: u8, asr: &Issued) -> Self {
        let mut plant = Self::enrolled(at);
        plant.put(asr, true);
        plant.start();
        plant
    }

    /// Puts a generation into disk and element, as if it had been installed.
    pub(super) fn put(&mut self, made: &Issued, active: bool) {
        self.element.roots.insert(made.name(), made.root());
        let count = self.element.count;
        let seal = PlaceSeal::derive(&mut self.element, count).unwrap();
        let host = made.secrets().host;
        let keys = KeysSeal::derive(&mut self.element, &made.sds).unwrap();
        let sealed_keys = keys.seal(provider(), &[4; 16], &host.keys);
        let installed = Installed {
            sds: made.sds.clone(),
            root_check: RootCheck::of(&made.root()),
            host_part: host.digest(),
            tag: host.keys.tag,
            sealed_keys,
            label: String::from("lamps"),
            member_labels: Vec::new(),
            endpoints: Vec::new(),
            active,
        };
        let place = Place::before_first(0, host.tree_root).emit();
        let sealed = seal.seal(provider(), made.sds.suite(), made.sds.digest(), &[3; 16], place.expose());
        let stored = Stored {
            installed,
            place: Some(sealed),
            active,
            found_back: 0,
            run: 0,
            endpoints: made.sds.members().iter().map(|id| Some(endpoint(id.as_bytes()[0] - 1))).collect(),
        };
        self.disk.insert((made.sds.relationship(), made.sds.generation()), stored);
    }

    fn found(&self) -> Vec<Found> {
        let found = self.disk.iter().map(|((relationship, generation), stored)| {
            let texts = stored.endpoints.iter();
            let endpoints = texts.map(|at| at.map_or_else(String::new, |at| at.to_string())).collect();
            let installed = Installed { endpoints, active: stored.active, ..stored.installed.clone() };
            let place = Ok(stored.place.clone());
            let held = StoredGeneration {
                installed,
                place,
                found_back: stored.found_back,
                run: stored.run,
                learnt: None,
            };
            Found { relationship: *relationship, generation: *generation, content: Ok(held) }
        });
        found.collect()
    }

    /// The process ends wherever it is, and another begins.
    pub(super) fn start(&mut self) {
        let found = self.found();
        let mut surroundings = Surroundings { now: self.now, random: &mut self.random };
        self.node = Node::start(identity(self.at), String::from("1"), found, &mut surroundings);
        self.asked.clear();
        self.writes.clear();
        self.pump();
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        let mut surroundings = Surroundings { now: self.now, random: &mut self.random };
        self.node.handle(input, &mut surroundings);
        self.pump();
    }

    /// Carries out what comes, and answers what is asked, unless that is held back.
    pub(super) fn pump(&mut self) {
        loop {
            self.drain();
            if !self.holds_answers && !self.asked.is_empty() {
                self.answer();
            } else if !self.holds_writes && !self.writes.is_empty() {
                self.written();
            } else {
                return;
            }
        }
    }

    fn drain(&mut self) {
        loop {
            let came = match self.node.poll() {
                Output::Idle => return,
                Output::Ask { ticket, question } => {
                    self.asked.push_back((ticket, question));
                    continue;
                }
                Output::Persist { ticket, write } => {
                    self.writes.push_back((ticket, write));
                    continue;
                }
                Output::Send { to, frame, .. } => Came::Sent(to.to_vec(), frame.to_vec()),
                Output::Reply { stream, frame } => Came::Replied(stream, frame.to_vec()),
                Output::Handled { stream } => Came::Handled(stream),
                Output::Proven { stream } => Came::Proven(stream),
                Output::Close { stream } => Came::Closed(stream),
                Output::Deliver(message) => Came::Heard(message.payload.to_vec()),
                Output::Seen(seen) => Came::Seen(seen.verdict),
                Output::Done { wish, result } => Came::Done(wish, result),
                Output::Event { event, .. } => Came::Event(event),
                Output::Started => Came::Started,
                Output::NotStarted(why) => Came::NotStarted(why.to_string()),
            };
            self.came.push(came);
        }
    }

    /// The element answers the oldest question.
    pub(super) fn answer(&mut self) {
        let Some((ticket, question)) = self.asked.pop_front() else { return };
        let integrity = Ok(Answer::Integrity(Ok([9; 32])));
        let result = question.put_to(&mut self.element).unwrap_or(integrity);
        let mut surroundings = Surroundings { now: self.now, random: &mut self.random };
        self.node.handle(Input::Answered { ticket, result }, &mut surroundings);
        self.drain();
    }

    /// The disk does the oldest write, or says that it is full.
    pub(super) fn written(&mut self) {
        let Some((ticket, write)) = self.writes.pop_front() else { return };
        let result = if self.disk_is_full {
            Err(WriteFailed { of_the_disk: true, why: String::from("no space left") })
        } else {
            self.carry_out(write);
            Ok(())
        };
        let mut surroundings = Surroundings { now: self.now, random: &mut self.random };
        self.node.handle(Input::Persisted { ticket, result }, &mut surroundings);
        self.drain();
    }

    fn carry_out(&mut self, write: Write) {
        match write {
            Write::Place { of, sealed, .. } => {
                if let Some(stored) = self.disk.get_mut(&of) {
                    stored.place = Some(sealed);
                }
            }
            Write::Active { of } => self.disk.get_mut(&of).unwrap().active = true,
            Write::FoundBack { of, found } => {
                let stored = self.disk.get_mut(&of).unwrap();
                (stored.found_back, stored.run) = (stored.found_back + 1, stored.run.max(found.run));
            }
            Write::Endpoints { of, endpoints, .. } => self.disk.get_mut(&of).unwrap().endpoints = endpoints,
            Write::Install { installed, sealed, .. } => {
                let endpoints = installed.endpoints.iter().map(|text| text.parse().ok()).collect();
                let of = (installed.sds.relationship(), installed.sds.generation());
                let (installed, place) = (*installed, Some(sealed));
                let stored = Stored { installed, place, active: false, found_back: 0, run: 0, endpoints };
                self.disk.insert(of, stored);
            }
            Write::KeepGenerations { relationship, kept } => {
                self.disk.retain(|(id, generation), _| *id != relationship || kept.contains(generation));
            }
            Write::Erase { relationship } => self.disk.retain(|(id, _), _| *id != relationship),
            Write::Forget { .. } => {}
            Write::Disown => self.disowned = true,
        }
    }

    pub(super) fn take_came(&mut self) -> Vec<Came> {
        core::mem::take(&mut self.came)
    }

    /// The frames that were sent since this was last called.
    pub(super) fn sent(&mut self) -> Vec<Vec<u8>> {
        let frames = self.take_came().into_iter().filter_map(|came| match came {
            Came::Sent(_, frame) => Some(frame),
            _ => None,
        });
        frames.collect()
    }

    /// The messages that applications were given since this was last called.
    pub(super) fn heard(&mut self) -> Vec<Vec<u8>> {
        let heard = self.take_came().into_iter().filter_map(|came| match came {
            Came::Heard(body) => Some(body),
            _ => None,
        });
        heard.collect()
    }

    pub(super) fn hears(&mut self, from: u8, frame: &[u8]) {
        self.input(Input::Datagram { from: endpoint(from), frame });
    }

    pub(super) fn says(&mut self, body: &[u8]) {
        self.input(Input::Send { wish: Wish(1), relationship: relationship(ASR), to: None, body });
    }

    pub(super) fn takes_back_sealing(&mut self, sealer: Sealer) {
        let mut surroundings = Surroundings { now: self.now, random: &mut self.random };
        self.node.take_back_sealing(relationship(ASR), sealer, &mut surroundings);
        self.pump();
    }

    pub(super) fn takes_back_opening(&mut self, opener: Opener) {
        let mut surroundings = Surroundings { now: self.now, random: &mut self.random };
        self.node.take_back_opening(relationship(ASR), opener, &mut surroundings);
        self.pump();
    }

    /// Time goes by, with its timers.
    pub(super) fn live(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.node.timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    /// Somebody with keys of epochs says something over a stream.
    pub(super) fn says_over(&mut self, stream: u64, message: &[u8]) {
        for frame in self.module.says(message, self.now) {
            self.input(Input::StreamFrame { stream: Stream(stream), frame: &frame });
        }
    }

    /// The module opens a stream.
    pub(super) fn opens(&mut self, stream: u64) {
        let first = self.module.begin(stream);
        // One that has started since tells the module of its epoch first.
        for _ in 0..2 {
            if !self.module.streams[&stream].has_begun() {
                self.says_over(stream, &first);
                self.responses();
            }
        }
        assert!(self.module.streams[&stream].has_begun());
    }

    /// The module asks this node something over a stream that it opens where that is needed, whatever comes of it. The
    /// request as it was sent.
    pub(super) fn request(&mut self, stream: u64, operation: Operation, body: &[u8]) -> Vec<u8> {
        if !self.module.streams.contains_key(&stream) {
            self.opens(stream);
        }
        let made = self.module.streams.get_mut(&stream).unwrap().request(operation as u8, body);
        let request = made.unwrap().to_vec();
        self.says_over(stream, &request);
        request
    }

    /// The responses that the module took since this was last called.
    pub(super) fn responses(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        for came in self.take_came() {
            if let Came::Replied(stream, frame) = came {
                responses.extend(self.module.hears(stream, &frame, self.now));
            }
        }
        responses
    }

    /// Asks and takes the one response.
    pub(super) fn manage(&mut self, operation: Operation, body: &[u8]) -> Response {
        self.request(1, operation, body);
        let mut responses = self.responses();
        assert_eq!(responses.len(), 1);
        responses.remove(0)
    }

    /// The module sends a generation.
    pub(super) fn installs(&mut self, made: &Issued, wrapped: bool) -> Outcome {
        self.manage(Operation::Install, &made.body(self.at, wrapped)).outcome
    }

    pub(super) fn generations(&self) -> BTreeSet<u32> {
        let lineage = self.node.lineage(relationship(ASR));
        let sessions = lineage.into_iter().flat_map(|lineage| lineage.sessions());
        sessions.map(|session| session.membership().sds().generation()).collect()
    }

    pub(super) fn epoch(&self) -> u32 {
        let (session, _) = self.node.lineage(relationship(ASR)).unwrap().in_force().unwrap();
        session.epoch()
    }
}

fn identity(at: u8) -> Identity {
    Identity::of_one(node_id(at), relationship(0x80 + at), AkmId::from_bytes([MODULE; 16]).unwrap())
}

fn surroundings(random: &mut Drawn) -> Surroundings<'_> {
    Surroundings { now: Instant::default(), random }
}

/// The other member of a provisioning relationship: a session that needs no disk, and streams.
pub(super) struct Module {
    session: Session,
    element: Element,
    random: Drawn,
    made: Issued,
    pub(super) streams: BTreeMap<u64, ModuleStream>,
}

impl Module {
    fn of(at: u8) -> Self {
        Self::of_generation(provisioning(at))
    }

    /// The module's end of one generation.
    pub(super) fn of_generation(made: Issued) -> Self {
        let (root, host) = (made.root(), made.secrets().host);
        let check = RootCheck::of(&root);
        let mut element = Element::default();
        element.roots.insert(made.name(), root);
        let mut random = Drawn(u64::from(made.seed) + 1000);
        let module = AkmId::from_bytes([MODULE; 16]).unwrap();
        let membership = Membership::new(made.sds.clone(), module, check, host.keys).unwrap();
        let options = Options { hello_at_start: false, find_back: false };
        let standing = Standing::Active(Place::before_first(0, host.tree_root));
        let mut around = Around { now: Instant::default(), element: &mut element, random: &mut random };
        let session = Session::start(provider(), membership, standing, options, &mut around).unwrap();
        Self { session, element, random, made, streams: BTreeMap::new() }
    }

    /// The first request of a stream.
    pub(super) fn begin(&mut self, stream: u64) -> Vec<u8> {
        let mut challenge = [0; 32];
        self.random.fill(&mut challenge);
        let sds = &self.made.sds;
        let mut begun = ModuleStream::new(sds.members()[1], sds.relationship(), self.made.root());
        let first = begun.begin(challenge);
        self.streams.insert(stream, begun);
        first
    }

    fn handle(&mut self, input: Given<'_>, now: Instant) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut around = Around { now, element: &mut self.element, random: &mut self.random };
        self.session.handle(input, &mut around).unwrap();
        carried_out(&mut self.session)
    }

    fn says(&mut self, request: &[u8], now: Instant) -> Vec<Vec<u8>> {
        self.handle(Given::Send(FrameKind::Management, request), now).0
    }

    /// What of a frame this module takes.
    fn hears(&mut self, stream: Stream, frame: &[u8], now: Instant) -> Vec<Response> {
        let heard = self.opens_frame(frame, now);
        let Some(stream) = self.streams.get_mut(&stream.0) else { return Vec::new() };
        let taken = heard.iter().filter_map(|body| match stream.take(body) {
            Taken::Answer(response) | Taken::Begun(_, response) | Taken::NotBegun(response) => Some(response),
            Taken::Nothing | Taken::Forged | Taken::Unproven => None,
        });
        taken.collect()
    }

    /// What a frame says, to whoever has the keys of its epoch.
    pub(super) fn opens_frame(&mut self, frame: &[u8], now: Instant) -> Vec<Vec<u8>> {
        self.handle(Given::Frame(frame), now).1
    }
}

/// Carries out what a session outside of the host wants, its records at once: the frames that it made, and what it heard.
pub(super) fn carried_out(session: &mut Session) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut frames, mut heard) = (Vec::new(), Vec::new());
    loop {
        match session.poll() {
            Made::Idle => return (frames, heard),
            Made::Persist(_) => session.persisted(),
            Made::Transmit(frame) | Made::TransmitTo(_, frame) => frames.push(frame.to_vec()),
            Made::Deliver(delivery) => heard.push(delivery.payload.to_vec()),
            Made::Event(_) => {}
        }
    }
}
