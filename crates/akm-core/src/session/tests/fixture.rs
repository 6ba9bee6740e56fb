//! Members of one relationship in memory: virtual time, elements that count and fail on request,
//! disks that fail on request, outputs carried out at once and recorded.
//!
//! The network itself watches, in every test: no (sender, epoch, salt, counter) is made twice; nothing
//! is sent or delivered in an epoch whose place is not durable; an error leaves phase and epoch as they
//! were and nothing to carry out.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::crypto::hash::sha256;
use crate::crypto::{Suite, provider};
use crate::element::{Account, ElementError, ElementTime, Label, Root, RootCheck, SecureElement};
use crate::frame::{Class, FrameKind, Header};
use crate::id::{AkmId, RelationshipId};
use crate::keys::{self, EpochSecret, element_function};
use crate::policy::Policy;
use crate::sds::{
    Generation, GenerationSecrets, HostKeys, HostPart, Kind, ParameterDataVector, SynchronizedDataSet,
};
use crate::seal::KeysSeal;
use crate::secret::Secret;
use crate::session::{
    Event, FoundBack, Input, Instant, KeptKeys, Membership, Options, Output, Phase, RandomSource, Record,
    Rejection, Session, SessionError, Standing, Surroundings, jump,
};
use crate::tree::{NO_EPOCH, Place};

pub const MILLISECOND: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// An element in memory that counts how often it was asked for an epoch.
pub struct MemoryElement {
    root: Root,
    key: Secret<32>,
    pub device_key: [u8; 32],
    pub calls: usize,
    /// Every derivation, whatever for.
    pub all_calls: usize,
    pub fails: bool,
    /// How long a call takes.
    pub takes: Duration,
    account: Option<Account>,
    now: Instant,
    draws: u64,
}

impl MemoryElement {
    fn holding(root: Root, key: Secret<32>) -> Self {
        Self {
            root,
            key,
            device_key: [9; 32],
            calls: 0,
            all_calls: 0,
            fails: false,
            takes: MILLISECOND * 100,
            account: None,
            now: Instant::default(),
            draws: 0,
        }
    }
}

impl SecureElement for MemoryElement {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        self.calls += usize::from(label == Label::Epoch);
        self.all_calls += 1;
        if self.fails {
            return Err(ElementError::Unavailable(String::from("unplugged")));
        }
        if root == Root::Device {
            return Ok(element_function(&self.device_key, label.as_bytes(), context));
        }
        if root != self.root {
            return Err(ElementError::NoSuchRoot);
        }
        Ok(element_function(self.key.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        self.draws += 1;
        expand(&mut *out, b"element", self.draws);
        Ok(())
    }

    fn time(&mut self) -> Option<&mut dyn ElementTime> {
        Some(self)
    }
}

impl ElementTime for MemoryElement {
    fn may_ask(&mut self, _: u32, now: Instant) -> bool {
        self.now = now;
        self.account.get_or_insert(Account::new(now)).is_open(now)
    }

    fn made(&mut self, _: u32) -> Duration {
        let (took, now) = (self.takes, self.now);
        self.account.as_mut().map_or(Duration::ZERO, |account| account.charge(took, now))
    }

    fn pass(&mut self, _: u32) {}

    fn give_back(&mut self, cost: Duration) {
        if let Some(account) = &mut self.account {
            account.give_back(cost);
        }
    }
}

/// A generator that repeats in every run of a test.
pub struct SeededRandom {
    pub seed: u64,
    pub stuck: bool,
}

impl RandomSource for SeededRandom {
    fn fill(&mut self, out: &mut [u8]) {
        self.seed += u64::from(!self.stuck);
        expand(out, b"system", self.seed);
    }
}

fn expand(out: &mut [u8], label: &[u8], seed: u64) {
    for (at, bytes) in out.chunks_mut(32).enumerate() {
        let block = sha256(&[label, &seed.to_be_bytes(), &at.to_be_bytes()]);
        bytes.copy_from_slice(&block[..bytes.len()]);
    }
}

/// What a member keeps across restarts.
#[derive(Clone)]
pub struct Disk {
    pub place: Option<Vec<u8>>,
    pub active: bool,
    /// Whether the place is one to which a member has jumped at this start.
    pub jumped: bool,
    /// The highest run that it found back to.
    pub run: u32,
    pub rolled_back: bool,
    /// Writes that still succeed; `None`: all.
    pub writes_left: Option<usize>,
}

impl Disk {
    fn write(&mut self, record: &Record) -> bool {
        if let Some(left) = &mut self.writes_left {
            if *left == 0 {
                return false;
            }
            *left -= 1;
        }
        match record {
            Record::Activated => self.active = true,
            Record::FoundBack(found) => self.run = self.run.max(found.run),
            Record::Place(place) => {
                self.place = Some(place.expose().to_vec());
                self.rolled_back = false;
            }
        }
        true
    }

    pub fn epoch(&self) -> u32 {
        self.place.as_ref().map_or(NO_EPOCH, |place| Place::parse(place).unwrap().epoch())
    }

    fn standing(&self) -> Standing {
        match &self.place {
            _ if self.rolled_back => Standing::RolledBack { active: self.active, run: self.run },
            None => Standing::WithoutPlace { active: self.active, run: self.run },
            Some(place) if self.active && self.jumped => Standing::Jumped(Place::parse(place).unwrap()),
            Some(place) if self.active => Standing::Active(Place::parse(place).unwrap()),
            Some(place) => Standing::Staged(Place::parse(place).unwrap()),
        }
    }
}

/// One output, after it was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Activated,
    Noted(FoundBack),
    Wrote(u32),
    WriteFailed,
    Sent(Vec<u8>),
    /// To this member only.
    SentTo(u16, Vec<u8>),
    Delivered(Heard),
    Told(Event),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub from: AkmId,
    pub index: u16,
    pub kind: FrameKind,
    pub newest: bool,
    pub payload: Vec<u8>,
}

/// What came of one input.
#[derive(Debug)]
pub struct Outcome {
    pub result: Result<(), SessionError>,
    pub done: Vec<Done>,
}

impl Outcome {
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let sent = |done: &Done| if let Done::Sent(frame) = done { Some(frame.clone()) } else { None };
        self.done.iter().filter_map(sent).collect()
    }

    /// What is for one member only, and whom.
    pub fn sent_to(&self) -> Vec<(u16, Vec<u8>)> {
        let sent =
            |done: &Done| if let Done::SentTo(to, frame) = done { Some((*to, frame.clone())) } else { None };
        self.done.iter().filter_map(sent).collect()
    }

    /// The one frame that this input made.
    pub fn frame(self) -> Vec<u8> {
        let frames = self.frames();
        assert_eq!(frames.len(), 1, "{self:?}");
        frames.into_iter().next().unwrap()
    }

    pub fn heard(&self) -> Option<&Heard> {
        self.done.iter().find_map(|done| if let Done::Delivered(heard) = done { Some(heard) } else { None })
    }

    pub fn payload(&self) -> Option<&[u8]> {
        self.heard().map(|heard| &heard.payload[..])
    }

    pub fn events(&self) -> Vec<Event> {
        self.done
            .iter()
            .filter_map(|done| if let Done::Told(event) = done { Some(*event) } else { None })
            .collect()
    }

    pub fn rejection(&self) -> Option<Rejection> {
        self.events().iter().find_map(|event| match event {
            Event::Rejected { reason, .. } => Some(*reason),
            _ => None,
        })
    }

    pub fn tells(&self, event: Event) -> bool {
        self.events().contains(&event)
    }
}

/// One member: its session, its element, its disk.
pub struct Party {
    pub session: Session,
    pub element: MemoryElement,
    pub random: SeededRandom,
    pub disk: Disk,
}

/// A relationship with all its members, and the time.
pub struct Network {
    pub now: Instant,
    pub parties: Vec<Party>,
    pub hello_at_start: bool,
    pub find_back: bool,
    /// Whether members start with the keys that a host keeps sealed under their device keys.
    pub seals_keys: bool,
    sds: SynchronizedDataSet,
    made: BTreeSet<(u16, u32, u64, u32)>,
}

fn secrets(sds: &SynchronizedDataSet) -> GenerationSecrets {
    ParameterDataVector::new(Secret::take(&mut [0x42; 128])).derive(sds)
}

fn root_of(sds: &SynchronizedDataSet) -> Root {
    sds.root(RootCheck::of(&secrets(sds).element_root))
}

impl Network {
    /// Active members of a communication relationship that rotates only when it is asked to, and says
    /// no hello at start.
    pub fn of(members: usize) -> Self {
        Self::with(members, Policy { rotate_after: Duration::ZERO, ..Policy::default() })
    }

    pub fn with(members: usize, policy: Policy) -> Self {
        Self::new(Kind::Communication, members, policy, true)
    }

    pub fn staged(members: usize) -> Self {
        let policy = Policy { rotate_after: Duration::ZERO, ..Policy::default() };
        Self::new(Kind::Communication, members, policy, false)
    }

    /// A provisioner, member 0, and a node, member 1.
    pub fn provisioning() -> Self {
        Self::new(Kind::Provisioning, 2, Policy::provisioning(), true)
    }

    fn new(kind: Kind, members: usize, policy: Policy, active: bool) -> Self {
        let id = |at: usize| AkmId::from_bytes([at as u8 + 1; 16]).unwrap();
        let sds = SynchronizedDataSet::new(Generation {
            kind,
            relationship: RelationshipId::from_bytes([0xee; 16]).unwrap(),
            generation: 1,
            element_version: 1,
            instance: [3; 16],
            suite: Suite::Aes256Gcm,
            members: (0..members).map(id).collect(),
            policy: policy.emit(),
        })
        .unwrap();
        let now = Instant(Duration::from_secs(1000));
        let mut network = Self {
            now,
            parties: Vec::new(),
            hello_at_start: false,
            find_back: true,
            seals_keys: false,
            sds,
            made: BTreeSet::new(),
        };
        for at in 0..members {
            let key = secrets(&network.sds).element_root;
            let root = root_of(&network.sds);
            let mut element = MemoryElement { draws: at as u64 * 1000, ..MemoryElement::holding(root, key) };
            let mut random = SeededRandom { seed: at as u64 * 1_000_000, stuck: false };
            let place = Place::before_first(0, secrets(&network.sds).host.tree_root).emit().expose().to_vec();
            let disk = Disk {
                place: Some(place),
                active,
                jumped: false,
                run: 0,
                rolled_back: false,
                writes_left: None,
            };
            let session = network.session(at, &disk, &mut element, &mut random);
            network.parties.push(Party { session, element, random, disk });
        }
        network
    }

    fn session(
        &self,
        at: usize,
        disk: &Disk,
        element: &mut MemoryElement,
        random: &mut SeededRandom,
    ) -> Session {
        let GenerationSecrets { element_root, host } = secrets(&self.sds);
        let (member, check) = (self.sds.members()[at], RootCheck::of(&element_root));
        let keys = if self.seals_keys {
            let seal =
                KeysSeal::derive(&mut MemoryElement::holding(Root::Device, Secret::fill(|_| {})), &self.sds);
            let sealed = seal.unwrap().seal(provider(), &[at as u8; 16], &host.keys);
            KeptKeys::Sealed { tag: host.keys.tag, sealed }
        } else {
            host.keys.into()
        };
        let membership = Membership::new(self.sds.clone(), member, check, keys).unwrap();
        let options = Options { hello_at_start: self.hello_at_start, find_back: self.find_back };
        let mut surroundings = Surroundings { now: self.now, element, random };
        Session::start(provider(), membership, disk.standing(), options, &mut surroundings).unwrap()
    }

    /// Ends the process of a member without a word and starts it again from its disk.
    pub fn restart(&mut self, at: usize) {
        let disk = self.parties[at].disk.clone();
        self.restart_from(at, disk);
    }

    /// Starts a member again from an image of its disk.
    pub fn restart_from(&mut self, at: usize, disk: Disk) {
        let Party { mut element, mut random, .. } = self.parties.remove(at);
        let session = self.session(at, &disk, &mut element, &mut random);
        self.parties.insert(at, Party { session, element, random, disk });
    }

    /// Starts a member from an image of its disk, on an element that does not tell that it is old.
    pub fn restart_with_jump(&mut self, at: usize, mut disk: Disk) {
        let place = disk.place.as_ref().map(|place| Place::parse(place).unwrap());
        if let Some(further) = place.and_then(|place| jump(&self.sds, &place)) {
            disk.place = Some(further.emit().expose().to_vec());
            disk.jumped = true;
        }
        self.restart_from(at, disk);
        self.parties[at].disk.jumped = false;
    }

    /// Hands one input in and carries out what comes of it.
    pub fn input(&mut self, at: usize, input: Input<'_>) -> Outcome {
        let Party { session, element, random, disk } = &mut self.parties[at];
        let before = (session.phase(), session.epoch());
        let arrived = if let Input::Frame(frame) = input { Header::parse(frame).ok() } else { None };
        let result = session.handle(input, &mut Surroundings { now: self.now, element, random });
        let mut done = Vec::new();
        loop {
            match session.poll() {
                Output::Idle => break,
                Output::Event(event) => done.push(Done::Told(event)),
                Output::Persist(record) if disk.write(record) => {
                    done.push(match record {
                        Record::Activated => Done::Activated,
                        Record::FoundBack(found) => Done::Noted(*found),
                        Record::Place(_) => Done::Wrote(disk.epoch()),
                    });
                    session.persisted();
                }
                Output::Persist(_) => {
                    done.push(Done::WriteFailed);
                    session.persist_failed();
                }
                Output::Transmit(frame) => {
                    note_made(&mut self.made, disk, frame);
                    done.push(Done::Sent(frame.to_vec()));
                }
                Output::TransmitTo(member, frame) => {
                    if Header::parse(frame).unwrap().class == Class::Session {
                        note_made(&mut self.made, disk, frame);
                    }
                    done.push(Done::SentTo(member, frame.to_vec()));
                }
                Output::Deliver(delivery) => {
                    let epoch = arrived.expect("only a frame is delivered").epoch;
                    assert!(disk.epoch() != NO_EPOCH && epoch <= disk.epoch(), "delivers what is durable");
                    done.push(Done::Delivered(Heard {
                        from: delivery.from,
                        index: delivery.index,
                        kind: delivery.kind,
                        newest: delivery.newest,
                        payload: delivery.payload.to_vec(),
                    }));
                }
            }
        }
        if let Err(error) = &result {
            assert!(done.is_empty(), "an error leaves nothing to carry out: {done:?}");
            if !matches!(error, SessionError::EpochsUsedUp | SessionError::KeysLost) {
                assert_eq!(before, (session.phase(), session.epoch()), "{error}");
            }
        }
        Outcome { result, done }
    }

    /// Lets a member seal a body for one other.
    pub fn send_to(&mut self, at: usize, to: u16, body: &[u8]) -> Outcome {
        let outcome = self.input(at, Input::SendTo(to, FrameKind::Data, body));
        assert_eq!(outcome.result, Ok(()));
        outcome
    }

    pub fn try_send(&mut self, at: usize, body: &[u8]) -> Outcome {
        let kind = match self.sds.kind() {
            Kind::Provisioning => FrameKind::Management,
            Kind::Communication => FrameKind::Data,
        };
        self.input(at, Input::Send(kind, body))
    }

    /// Lets a member seal a body; nobody hears it yet.
    pub fn send(&mut self, at: usize, body: &[u8]) -> Vec<u8> {
        let outcome = self.try_send(at, body);
        assert_eq!(outcome.result, Ok(()));
        outcome.frame()
    }

    /// Hands a frame to a member.
    pub fn hear(&mut self, at: usize, frame: &[u8]) -> Outcome {
        let outcome = self.input(at, Input::Frame(frame));
        assert_eq!(outcome.result, Ok(()));
        outcome
    }

    /// The reason why a member drops this frame.
    pub fn drops(&mut self, at: usize, frame: &[u8]) -> Rejection {
        let outcome = self.hear(at, frame);
        assert_eq!(outcome.heard(), None);
        outcome.rejection().expect("what is not delivered is dropped for a reason")
    }

    /// Whether a member accepts this frame.
    pub fn accepts(&mut self, at: usize, frame: &[u8]) -> bool {
        self.hear(at, frame).heard().is_some()
    }

    /// Sends, and all others hear it.
    pub fn tell_all(&mut self, at: usize, body: &[u8]) -> Vec<u8> {
        let frame = self.send(at, body);
        for other in (0..self.parties.len()).filter(|other| *other != at) {
            assert_eq!(self.hear(other, &frame).payload(), Some(body));
        }
        frame
    }

    pub fn advance(&mut self, at: usize) -> Outcome {
        let outcome = self.input(at, Input::Advance);
        assert_eq!(outcome.result, Ok(()));
        outcome
    }

    pub fn tick(&mut self, at: usize) -> Outcome {
        self.input(at, Input::Timeout)
    }

    /// Time goes by, and nobody does anything.
    pub fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// Time goes by, and this member's timer is served whenever it is due.
    pub fn live(&mut self, at: usize, duration: Duration) -> Vec<Outcome> {
        let end = self.now + duration;
        let mut outcomes = Vec::new();
        while let Some(due) = self.parties[at].session.timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            outcomes.push(self.tick(at));
            assert!(outcomes.len() < 10_000, "the timer spins");
        }
        self.now = end;
        outcomes
    }

    /// Time goes by for these members: timers are served, and what they send reaches the others of them
    /// at once. Returns what each did.
    pub fn together(&mut self, present: &[usize], duration: Duration) -> Vec<(usize, Outcome)> {
        let end = self.now + duration;
        let mut outcomes = Vec::new();
        loop {
            let due = present.iter().filter_map(|at| Some((self.parties[*at].session.timeout()?, *at))).min();
            let Some((due, at)) = due.filter(|(due, _)| *due <= end) else { break };
            self.now = self.now.max(due);
            let outcome = self.tick(at);
            self.carry(present, at, outcome, &mut outcomes);
            assert!(outcomes.len() < 20_000, "the timers spin");
        }
        self.now = end;
        outcomes
    }

    /// What a member sent reaches the others that are present, and what they make of it too.
    pub fn carry(
        &mut self,
        present: &[usize],
        at: usize,
        outcome: Outcome,
        outcomes: &mut Vec<(usize, Outcome)>,
    ) {
        let mut flights = Vec::from([(at, outcome)]);
        while let Some((from, outcome)) = flights.pop() {
            for done in &outcome.done {
                let (to, frame) = match done {
                    Done::Sent(frame) => (None, frame),
                    Done::SentTo(to, frame) => (Some(usize::from(*to)), frame),
                    _ => continue,
                };
                for other in present.iter().copied().filter(|other| *other != from) {
                    if to.is_none_or(|to| to == other) {
                        let heard = self.hear(other, frame);
                        flights.push((other, heard));
                    }
                }
            }
            outcomes.push((from, outcome));
        }
    }

    /// The place of this member is gone; it starts again.
    pub fn wipe(&mut self, at: usize) {
        self.parties[at].disk.place = None;
        self.restart(at);
    }

    pub fn epoch(&self, at: usize) -> u32 {
        self.parties[at].session.epoch()
    }

    pub fn run(&self, at: usize) -> u32 {
        self.parties[at].session.run()
    }

    /// How many failsafes this member's run comes after: the upper half of its number.
    pub fn failsafes(&self, at: usize) -> u32 {
        self.run(at) >> 16
    }

    pub fn phase(&self, at: usize) -> Phase {
        self.parties[at].session.phase()
    }

    pub fn calls(&self, at: usize) -> usize {
        self.parties[at].element.calls
    }

    /// The name of a member.
    pub fn member(&self, at: usize) -> AkmId {
        self.sds.members()[at]
    }

    /// A header with a right signature and nothing behind it: from somebody who has the header key.
    pub fn forge(&self, sender: u16, epoch: u32, salt: u64, counter: u32) -> Vec<u8> {
        let HostKeys { header_key, tag, .. } = secrets(&self.sds).host.keys;
        let header = Header { class: Class::Session, sender, tag, epoch, salt, counter };
        let mut frame = header.emit(&header_key).to_vec();
        frame.extend_from_slice(&[0xaa; 17 + 8]);
        frame
    }

    /// An authentic frame as no session makes it: from a member that does what it likes.
    pub fn craft(&self, sender: u16, epoch: u32, salt: u64, counter: u32, plaintext: &[u8]) -> Vec<u8> {
        let GenerationSecrets { element_root, host } = secrets(&self.sds);
        let HostPart { tree_root, keys: HostKeys { header_key, tag, .. } } = host;
        let root = root_of(&self.sds);
        let mut element = MemoryElement::holding(root, element_root);
        let factor = keys::epoch_factor(&mut element, root, 1, epoch).unwrap();
        let leaf = Place::before_first(0, tree_root).leaf(epoch).unwrap();
        let key = EpochSecret::derive(leaf, &factor, self.sds.digest()).sender_key(sender, salt);
        let header = Header { class: Class::Session, sender, tag, epoch, salt, counter };
        let head = header.emit(&header_key);
        let mut sealed = plaintext.to_vec();
        let aead = provider().aead(self.sds.suite(), key.expose());
        let tag = aead.seal(&header.nonce(), &head, &mut sealed);
        [&head[..], &sealed, &tag].concat()
    }

    /// An authentic data frame, crafted.
    pub fn craft_data(&self, sender: u16, epoch: u32, salt: u64, counter: u32, body: &[u8]) -> Vec<u8> {
        let mut plaintext = Vec::from([FrameKind::Data as u8]);
        plaintext.extend_from_slice(body);
        self.craft(sender, epoch, salt, counter, &plaintext)
    }

    /// Puts a member's durable place at a later epoch and starts it from there.
    pub fn place_at(&mut self, at: usize, epoch: u32) {
        let place = Place::before_first(0, secrets(&self.sds).host.tree_root).at(epoch).unwrap();
        self.parties[at].disk.place = Some(place.emit().expose().to_vec());
        self.restart(at);
    }
}

/// A frame of the sessions was made: in the durable epoch, and for the first time.
fn note_made(made: &mut BTreeSet<(u16, u32, u64, u32)>, disk: &Disk, frame: &[u8]) {
    let header = Header::parse(frame).unwrap();
    assert_eq!(header.epoch, disk.epoch(), "sends in its durable epoch");
    let made_here = (header.sender, header.epoch, header.salt, header.counter);
    assert!(made.insert(made_here), "made twice: {made_here:?}");
}

/// Spoils the header signature.
pub fn unsigned(mut frame: Vec<u8>) -> Vec<u8> {
    frame[24] ^= 1;
    frame
}

pub fn header(frame: &[u8]) -> Header {
    Header::parse(frame).unwrap()
}
