//! The members of one relationship, the frames in the air, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use akm_core::crypto::{Suite, provider};
use akm_core::frame::{FrameKind, Header};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::policy::Policy;
use akm_core::sds::{Generation, Kind, SynchronizedDataSet};
use akm_core::session::{
    Event, Input, Instant, Options, Output, Phase, Record, Session, SessionError, Surroundings,
};
use akm_core::tree::{LAST_EPOCH, NO_EPOCH};

use super::parts::{Disk, Generator, MemoryElement, Writing};
use super::secrets::Secrets;
use crate::memory::measure;

/// What a session may hold in memory beside its buffers: five epochs of three senders, and the budget.
const HELD_MAX: isize = 16 * 1024;

/// Frames that it may hold at one time: spare, handed out, queued, pending.
const BUFFERS_MAX: isize = 12;

/// Members that are further apart may not come together: a stock of epochs bounds how far one follows (protocol, section 8.5),
/// and some of it may be spent.
const FOLLOWED_MAX: u32 = 1 << 19;

pub struct Settings {
    pub kind: Kind,
    pub members: usize,
    pub chacha: bool,
    pub active: bool,
    pub hello_at_start: bool,
    pub policy: Policy,
    /// The epochs at which the members stand; none is far from the others' tree.
    pub places: [u32; 3],
    /// Whether the generators of system and element give the same bytes each time.
    pub stuck: [bool; 2],
}

/// Sender, epoch, salt and counter: with the generation this is key and nonce.
type Name = (u16, u32, u64, u32);

struct Member {
    session: Session,
    element: MemoryElement,
    random: Generator,
    disk: Disk,
    /// The durable epoch when it started.
    floor: u32,
    /// The highest epoch that was ever durable.
    highest: u32,
    /// Bytes of memory that the session holds.
    held: isize,
    delivered: BTreeSet<Name>,
}

pub struct World {
    now: Instant,
    sds: SynchronizedDataSet,
    secrets: Secrets,
    options: Options,
    members: Vec<Member>,
    /// All authentic frames that were ever made, by sessions and insiders.
    air: Vec<Vec<u8>>,
    /// Names of frames that sessions made.
    made: BTreeSet<Name>,
    /// What was really sealed under each name.
    sealed: BTreeMap<Name, BTreeSet<Vec<u8>>>,
    /// The longest frame so far.
    longest: usize,
    /// An insider may keep others from being heard.
    insider: bool,
    next_body: u8,
}

/// Orders epochs with "none yet" below all others.
fn rank(epoch: u32) -> u32 {
    epoch.wrapping_add(1)
}

fn name(header: &Header) -> Name {
    (header.sender, header.epoch, header.salt, header.counter)
}

impl World {
    pub fn new(settings: &Settings) -> Self {
        let id = |at: usize| AkmId::from_random([at as u8 + 1; 16]);
        let sds = SynchronizedDataSet::new(Generation {
            kind: settings.kind,
            relationship: RelationshipId::from_random([0xee; 16]),
            generation: 1,
            element_version: 1,
            instance: [3; 16],
            suite: if settings.chacha { Suite::ChaCha20Poly1305 } else { Suite::Aes256Gcm },
            members: (0..settings.members).map(id).collect(),
            policy: settings.policy.emit(),
        })
        .expect("a valid generation");
        let mut world = Self {
            now: Instant(Duration::from_secs(1000)),
            options: Options { hello_at_start: settings.hello_at_start, find_back: false },
            members: Vec::new(),
            air: Vec::new(),
            made: BTreeSet::new(),
            sealed: BTreeMap::new(),
            longest: 0,
            insider: false,
            next_body: 0,
            secrets: Secrets::new(&sds),
            sds,
        };
        for at in 0..settings.members {
            let epoch = settings.places[at];
            let place = world.secrets.place(epoch).emit().expose().to_vec();
            let disk = Disk { place: Some(place), active: settings.active, writing: Writing::Works };
            let mut element = world.secrets.element(at as u64 * 1_000_000, settings.stuck[0]);
            let mut random = Generator { seed: at as u64 * 1_000_000_000, stuck: settings.stuck[1] };
            let (session, held) = world.start(at, &disk, &mut element, &mut random);
            let (floor, highest) = (epoch, epoch);
            let delivered = BTreeSet::new();
            world.members.push(Member { session, element, random, disk, floor, highest, held, delivered });
        }
        world
    }

    fn start(
        &self,
        at: usize,
        disk: &Disk,
        element: &mut MemoryElement,
        random: &mut Generator,
    ) -> (Session, isize) {
        let now = self.now;
        let (session, used) = measure(|| {
            let membership = self.secrets.membership(&self.sds, at);
            let mut surroundings = Surroundings { now, element, random };
            Session::start(provider(), membership, disk.standing(), self.options, &mut surroundings)
                .expect("the element answers")
        });
        (session, used.left)
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    pub fn epoch(&self, at: usize) -> u32 {
        self.members[at].disk.epoch()
    }

    /// Hands one input in and carries out what comes of it.
    pub fn input(&mut self, at: usize, input: Input<'_>) {
        // What an error may be is checked there.
        let _ = self.input_with_result(at, input);
    }

    /// Says also whether the input was taken, and whether something was delivered.
    fn input_with_result(&mut self, at: usize, input: Input<'_>) -> (Result<(), Fault>, bool) {
        let now = self.now;
        let arrived = if let Input::Frame(frame) = input { Some(frame) } else { None };
        let by_itself = matches!(input, Input::Timeout | Input::Activate);
        self.longest = self.longest.max(arrived.map_or(0, <[u8]>::len));
        let Member { session, element, random, held, .. } = &mut self.members[at];
        let before = (session.phase(), session.epoch());
        let (calls, fails) = (element.calls, element.fails);
        let (result, used) = measure(|| {
            let mut surroundings = Surroundings { now, element, random };
            session.handle(input, &mut surroundings).map_err(|error| Fault::of(&error))
        });
        *held += used.left;
        assert!(element.calls <= calls + 1, "asked the element more than once for one input");
        if let Err(fault) = result {
            assert!(fault != Fault::OutputPending, "all outputs were carried out");
            assert!(fault != Fault::Element || fails, "the element answers");
            if arrived.is_some() || by_itself {
                assert_eq!(fault, Fault::Element, "nobody here did anything wrong");
            }
            if fault != Fault::UsedUp {
                assert_eq!(before, (session.phase(), session.epoch()), "an error changes nothing");
            }
            assert!(matches!(session.poll(), Output::Idle), "an error leaves nothing to carry out");
        }
        let delivered = self.carry_out(at, arrived, before);
        (result, delivered)
    }

    /// Carries out whatever is to be done; whether something was delivered.
    fn carry_out(&mut self, at: usize, arrived: Option<&[u8]>, before: (Phase, u32)) -> bool {
        let mut any = false;
        let mut failed = false;
        for count in 0.. {
            assert!(count < 32, "outputs do not end");
            let body_max = self.members[at].session.body_max();
            let Member { session, disk, floor, held, delivered, .. } = &mut self.members[at];
            let (output, used) = measure(|| session.poll());
            *held += used.left;
            match output {
                Output::Idle => break,
                Output::Event(Event::EpochBegan { epoch, .. }) => {
                    assert_eq!(epoch, disk.epoch(), "what begins is durable");
                    assert!(!failed, "what could not be written did not happen");
                }
                Output::Event(Event::Activated) => assert!(disk.active, "what is active is durable"),
                Output::Event(_) => {}
                Output::Persist(record) => {
                    let record = written(record);
                    let again = match session.poll() {
                        Output::Persist(again) => written(again),
                        other => panic!("{other:?} before the record is durable"),
                    };
                    assert_eq!(record, again, "the same record until it is durable");
                    match disk.writing {
                        Writing::Works => {
                            disk.write(record);
                            let ((), used) = measure(|| session.persisted());
                            *held += used.left;
                        }
                        Writing::Fails => {
                            failed = true;
                            let ((), used) = measure(|| session.persist_failed());
                            *held += used.left;
                            assert_eq!(
                                before,
                                (session.phase(), session.epoch()),
                                "a failed write changes nothing"
                            );
                        }
                        Writing::KillsBefore => {
                            self.restart(at);
                            return any;
                        }
                        Writing::KillsAfter => {
                            disk.write(record);
                            self.restart(at);
                            return any;
                        }
                    }
                }
                Output::TransmitTo(..) => unreachable!("nobody looks for a place here"),
                Output::Transmit(frame) => {
                    let header = Header::parse(frame).expect("what is sent is a frame");
                    assert_eq!(usize::from(header.sender), at);
                    assert_eq!(header.epoch, disk.epoch(), "sends in its durable epoch only");
                    assert!(rank(header.epoch) > rank(*floor), "sends in epochs of its own start only");
                    assert!(self.made.insert(name(&header)), "key and nonce used twice: {header:?}");
                    self.longest = self.longest.max(frame.len());
                    let frame = frame.to_vec();
                    let plain = self.secrets.open(&header, &frame);
                    assert!(plain.len() <= 1 + body_max);
                    self.sealed.entry(name(&header)).or_default().insert(plain);
                    self.air.push(frame);
                }
                Output::Deliver(delivery) => {
                    let header = Header::parse(arrived.expect("only what arrives is delivered"));
                    let header = header.expect("what is delivered was a frame");
                    assert_eq!((delivery.index, delivery.epoch), (header.sender, header.epoch));
                    assert_eq!(Some(&delivery.from), self.sds.members().get(usize::from(header.sender)));
                    let plain = [&[delivery.kind as u8], delivery.payload].concat();
                    let sealed = self.sealed.get(&name(&header));
                    assert!(sealed.is_some_and(|sealed| sealed.contains(&plain)), "nobody sent {plain:02x?}");
                    assert!(delivered.insert(name(&header)), "delivered twice: {header:?}");
                    assert!(rank(header.epoch) > rank(*floor), "accepted from before the start");
                    assert!(rank(header.epoch) <= rank(disk.epoch()), "delivered what is not durable");
                    assert!(!failed);
                    any = true;
                }
            }
        }
        any
    }

    /// Says whether the frame was made.
    pub fn send(&mut self, at: usize, length: usize) -> bool {
        self.next_body = self.next_body.wrapping_add(1);
        let body = vec![self.next_body; length];
        let kind = match self.sds.kind() {
            Kind::Provisioning => FrameKind::Management,
            Kind::Communication => FrameKind::Data,
        };
        self.send_as(at, kind, &body)
    }

    /// Says whether the frame was made. One that a relationship does not carry is refused.
    pub fn send_as(&mut self, at: usize, kind: FrameKind, body: &[u8]) -> bool {
        let (air, writing) = (self.air.len(), self.members[at].disk.writing);
        let session = &self.members[at].session;
        let (phase, most) = (session.phase(), session.body_max());
        let fits = match kind {
            FrameKind::Hello => body.is_empty(),
            FrameKind::Data => self.sds.kind() == Kind::Communication,
            FrameKind::Management => self.sds.kind() == Kind::Provisioning,
        };
        let (result, _) = self.input_with_result(at, Input::Send(kind, body));
        let made = self.air.len() > air;
        match result {
            Ok(()) => {
                assert!(phase == Phase::Established && fits && body.len() <= most);
                assert!(made || writing != Writing::Works, "a frame that was taken is made");
            }
            Err(fault) => {
                assert!(!made);
                match fault {
                    Fault::NotActive => assert_ne!(phase, Phase::Established),
                    Fault::WrongKind => assert!(!fits),
                    Fault::TooLong => assert!(body.len() > most),
                    Fault::NoSuchMember => panic!("it was for all"),
                    Fault::Lent => panic!("nothing is lent here"),
                    Fault::KeysLost => panic!("no keys are sealed here"),
                    Fault::Element | Fault::UsedUp | Fault::OutputPending => {}
                }
            }
        }
        made
    }

    /// One of all frames ever made, counted from the latest, reaches a member. Says whether it was delivered.
    pub fn arrive(&mut self, to: usize, back: usize) -> bool {
        if self.air.is_empty() {
            return false;
        }
        let frame = self.air[self.air.len() - 1 - back % self.air.len()].clone();
        self.input_with_result(to, Input::Frame(&frame)).1
    }

    /// The latest so many frames reach a member once more.
    pub fn repeat_everything(&mut self, to: usize, count: usize) {
        for back in 0..count.min(self.air.len()).min(64) {
            self.arrive(to, back);
        }
    }

    pub fn arrive_altered(&mut self, to: usize, back: usize, at: usize, change: u8) {
        if self.air.is_empty() {
            return;
        }
        let mut frame = self.air[self.air.len() - 1 - back % self.air.len()].clone();
        let at = at % frame.len();
        frame[at] ^= change;
        let (_, delivered) = self.input_with_result(to, Input::Frame(&frame));
        assert!(
            !delivered || change == 0 || self.air.contains(&frame),
            "delivered although byte {at} is another"
        );
    }

    /// A frame with a right header signature and nothing behind it.
    pub fn forge(&mut self, to: usize, sender: u16, epoch: u32, salt: u8, length: usize) {
        let header = self.secrets.header(sender, epoch, self.salt(salt), length as u32);
        let frame = self.secrets.forge(&header, length);
        let (_, delivered) = self.input_with_result(to, Input::Frame(&frame));
        assert!(!delivered, "delivered a forged frame");
    }

    /// A member that does what it likes puts an authentic frame into the air.
    pub fn insider(&mut self, sender: u16, epoch: u32, salt: u8, counter: u8, kind: u8, body: &[u8]) {
        self.insider = true;
        let counter = match counter {
            0..=249 => u32::from(counter),
            _ => u32::MAX - (255 - u32::from(counter)) * 600,
        };
        let header = self.secrets.header(sender, epoch, self.salt(salt), counter);
        let plain = [&[kind % 5], body].concat();
        if let Some(frame) = self.secrets.seal(&header, &plain) {
            self.sealed.entry(name(&header)).or_default().insert(plain);
            self.air.push(frame);
        }
    }

    /// A salt: half of them are in use.
    fn salt(&self, choice: u8) -> u64 {
        match self.air.get(usize::from(choice) / 2) {
            Some(frame) if choice.is_multiple_of(2) => Header::parse(frame).expect("it was made as one").salt,
            _ => u64::from(choice),
        }
    }

    /// Time goes by, and every timer is served when it is due.
    pub fn live(&mut self, duration: Duration) {
        let end = self.now + duration;
        let most = 64 + 8 * duration.as_secs();
        for served in 0.. {
            assert!(served < most * self.members.len() as u64, "a timer spins");
            let due = |at: usize| Some((self.members[at].session.timeout()?, at));
            let next = (0..self.members.len()).filter_map(due).min().filter(|(due, _)| *due <= end);
            let Some((due, at)) = next else { break };
            self.now = self.now.max(due);
            self.input(at, Input::Timeout);
        }
        self.now = end;
    }

    /// Time goes by, and nobody does anything.
    pub fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    pub fn disk(&mut self, at: usize, writing: Writing) {
        self.members[at].disk.writing = writing;
    }

    pub fn element(&mut self, at: usize, fails: bool) {
        self.members[at].element.fails = fails;
    }

    /// Ends the process of a member without a word and starts it again from its disk.
    pub fn restart(&mut self, at: usize) {
        let Member { session, mut element, mut random, mut disk, highest, held, delivered, .. } =
            self.members.remove(at);
        let ((), used) = measure(|| drop(session));
        assert_eq!(held + used.left, 0, "a session frees what it took");
        disk.writing = Writing::Works;
        element.fails = false;
        let (session, held) = self.start(at, &disk, &mut element, &mut random);
        let floor = if disk.place.is_some() { disk.epoch() } else { highest };
        self.members.insert(at, Member { session, element, random, disk, floor, highest, held, delivered });
    }

    /// The place of a member is gone when it starts again.
    pub fn lose_place(&mut self, at: usize) {
        self.members[at].disk.place = None;
        self.restart(at);
    }

    /// A host that does not keep to the order.
    pub fn impatient(&mut self, at: usize, which: usize) {
        let now = self.now;
        let Member { session, element, random, held, .. } = &mut self.members[at];
        let before = (session.phase(), session.epoch());
        let (second, used) = measure(|| {
            let mut surroundings = Surroundings { now, element, random };
            // Whether it is taken or not: what counts is the input after it.
            let _ = session.handle(Input::Advance, &mut surroundings);
            // Before the record is handed out neither word counts.
            match which {
                0 => session.persisted(),
                1 => session.persist_failed(),
                _ => {}
            }
            session.handle(Input::Timeout, &mut surroundings).map_err(|error| Fault::of(&error))
        });
        *held += used.left;
        assert!(
            matches!(second, Ok(()) | Err(Fault::OutputPending | Fault::Element)),
            "a second input is taken or refused: {second:?}"
        );
        assert_eq!(before.1, session.epoch(), "nothing begins before it is durable");
        self.carry_out(at, None, before);
        let session = &mut self.members[at].session;
        let after = (session.phase(), session.epoch());
        session.persisted();
        session.persist_failed();
        assert_eq!(after, (session.phase(), session.epoch()), "a word out of turn changes nothing");
    }

    /// What holds between steps.
    pub fn check(&mut self) {
        let bound = HELD_MAX + BUFFERS_MAX * self.longest as isize;
        for Member { session, disk, highest, held, .. } in &mut self.members {
            assert!(*held <= bound, "a session holds {held} bytes");
            assert_eq!(session.epoch(), disk.epoch(), "the session is where its disk is");
            if disk.place.is_some() {
                assert!(rank(disk.epoch()) >= rank(*highest), "went back");
                *highest = disk.epoch();
            } else {
                assert_eq!(session.phase(), Phase::WithoutPlace);
            }
        }
    }

    /// When disks, elements and network work again, two rounds bring all together: as long as no member did
    /// what it liked, and nobody has lost its place, come to the end of the generation, or come further than others follow.
    pub fn all_find_together_again(&mut self) {
        for member in &mut self.members {
            member.disk.writing = Writing::Works;
            member.element.fails = false;
        }
        let near_the_end = |epoch: u32| epoch != NO_EPOCH && epoch > LAST_EPOCH - 50;
        let able = |member: &Member| {
            member.session.phase() == Phase::Established && !near_the_end(member.disk.epoch())
        };
        let places = || self.members.iter().map(|member| rank(member.disk.epoch()));
        let apart = places().max().unwrap_or_default() - places().min().unwrap_or_default();
        if self.insider || !self.members.iter().all(able) || apart >= FOLLOWED_MAX {
            return;
        }
        for round in 0..2 {
            for at in 0..self.members.len() {
                self.pass(Duration::from_secs(1));
                let air = self.air.len();
                assert!(self.send(at, 3), "nothing fails any more");
                for other in (0..self.members.len()).filter(|other| *other != at) {
                    let back = self.air.len() - 1 - air;
                    let delivered = self.arrive(other, back);
                    let places: Vec<u32> = self.members.iter().map(|member| member.disk.epoch()).collect();
                    assert!(delivered || round == 0, "{other} does not hear {at}: {places:?}");
                }
            }
        }
        let epochs: BTreeSet<u32> = self.members.iter().map(|member| member.disk.epoch()).collect();
        assert_eq!(epochs.len(), 1, "{epochs:?}");
    }
}

/// A record as it goes to the disk: an encoded place; `None` for the mark that the relationship is active.
fn written(record: &Record) -> Option<Vec<u8>> {
    match record {
        Record::Activated | Record::FoundBack(_) => None,
        Record::Place(place) => Some(place.expose().to_vec()),
    }
}

/// What this node did wrong, without the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NotActive,
    TooLong,
    WrongKind,
    NoSuchMember,
    KeysLost,
    UsedUp,
    OutputPending,
    Lent,
    Element,
}

impl Fault {
    fn of(error: &SessionError) -> Self {
        match error {
            SessionError::NotActive(_) => Self::NotActive,
            SessionError::TooLong { .. } => Self::TooLong,
            SessionError::WrongKind => Self::WrongKind,
            SessionError::NoSuchMember { .. } => Self::NoSuchMember,
            SessionError::KeysLost => Self::KeysLost,
            SessionError::EpochsUsedUp => Self::UsedUp,
            SessionError::OutputPending => Self::OutputPending,
            SessionError::Lent => Self::Lent,
            SessionError::Element(_) => Self::Element,
        }
    }
}
