//! Generations of a relationship, told as facts about a few members and their module.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use akm_core::crypto::{Suite, provider};
use akm_core::element::{ElementError, Label, Root, RootCheck, SecureElement};
use akm_core::frame::{Class, FrameKind, Header};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::element_function;
use akm_core::lineage::{Arrival, Erasure, Lineage, Next, NotTaken, Whose};
use akm_core::policy::Policy;
use akm_core::sds::{
    Generation, GenerationSecrets, HostKeys, Kind, ParameterDataVector, SynchronizedDataSet, Tag,
};
use akm_core::secret::Secret;
use akm_core::session::{
    Event, Input, Instant, Membership, NotSealed, Options, Output, Phase, Record, Rejection, Session,
    SessionError, Standing, Surroundings,
};
use akm_core::tree::Place;
use support::CountingRandom;

const SECOND: Duration = Duration::from_secs(1);

/// What a module makes.
#[derive(Clone)]
struct Issued {
    sds: SynchronizedDataSet,
    seed: u8,
    /// The seed of the generation that brought the element root.
    root_seed: u8,
    root_sds: SynchronizedDataSet,
}

impl Issued {
    fn secrets(&self) -> GenerationSecrets {
        ParameterDataVector::new(Secret::take(&mut [self.seed; 128])).derive(&self.sds)
    }

    fn element_root(&self) -> Secret<32> {
        ParameterDataVector::new(Secret::take(&mut [self.root_seed; 128])).derive(&self.root_sds).element_root
    }

    /// Its name in an element.
    fn root(&self) -> Root {
        self.sds.root(RootCheck::of(&self.element_root()))
    }
}

fn node(at: usize) -> AkmId {
    AkmId::from_bytes([at as u8 + 1; 16]).unwrap()
}

fn issue(generation: u32, version: u32, members: &[usize], seed: u8, before: Option<&Issued>) -> Issued {
    let policy = Policy { rotate_after: Duration::ZERO, ..Policy::default() };
    let sds = SynchronizedDataSet::new(Generation {
        kind: Kind::Communication,
        relationship: RelationshipId::from_bytes([0xee; 16]).unwrap(),
        generation,
        element_version: version,
        instance: [seed; 16],
        suite: Suite::Aes256Gcm,
        members: members.iter().map(|at| node(*at)).collect(),
        policy: policy.emit(),
    })
    .unwrap();
    let same_root = before.filter(|before| before.sds.element_version() == version);
    let (root_seed, root_sds) =
        same_root.map_or((seed, sds.clone()), |before| (before.root_seed, before.root_sds.clone()));
    Issued { sds, seed, root_seed, root_sds }
}

#[derive(Default)]
struct Element(BTreeMap<Root, Secret<32>>);

impl SecureElement for Element {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        let key = self.0.get(&root).ok_or(ElementError::NoSuchRoot)?;
        Ok(element_function(key.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        out.fill(0x5a);
        Ok(())
    }
}

#[derive(Clone)]
struct Stored {
    issued: Issued,
    place: Option<Vec<u8>>,
    active: bool,
}

/// A member: its generations, its element, its disk.
struct Member {
    at: usize,
    now: Instant,
    lineage: Lineage,
    element: Element,
    random: CountingRandom,
    disk: BTreeMap<u32, Stored>,
    erases: bool,
}

#[derive(Default, Debug)]
struct Done {
    frames: Vec<Vec<u8>>,
    heard: Vec<(u32, Vec<u8>)>,
    events: Vec<(u32, Event)>,
    erased: Vec<Erasure>,
    result: Option<SessionError>,
}

impl Done {
    fn bodies(&self) -> Vec<&[u8]> {
        let bodies = self.heard.iter().map(|(_, body)| &body[..]);
        bodies.filter(|body| !body.is_empty()).collect()
    }

    fn rejections(&self) -> Vec<Rejection> {
        let rejection = |(_, event): &(u32, Event)| match event {
            Event::Rejected { reason, .. } => Some(*reason),
            _ => None,
        };
        self.events.iter().filter_map(rejection).collect()
    }
}

impl Member {
    /// A member in whose disk and element this generation is.
    fn with(at: usize, issued: &Issued, active: bool) -> Self {
        let mut member = Self {
            at,
            now: Instant(SECOND * 1000),
            lineage: Lineage::resume(Vec::new()),
            element: Element::default(),
            random: CountingRandom::default(),
            disk: BTreeMap::new(),
            erases: true,
        };
        // Members draw differently.
        for _ in 0..at * 1000 {
            akm_core::session::RandomSource::fill(&mut member.random, &mut [0; 1]);
        }
        member.put(issued, active);
        member.restart();
        member
    }

    fn put(&mut self, issued: &Issued, active: bool) {
        self.element.0.entry(issued.root()).or_insert_with(|| issued.element_root());
        let place = Place::before_first(0, issued.secrets().host.tree_root).emit().expose().to_vec();
        let stored = Stored { issued: issued.clone(), place: Some(place), active };
        self.disk.insert(issued.sds.generation(), stored);
    }

    fn session(&mut self, stored: &Stored) -> Session {
        let (sds, keys) = (stored.issued.sds.clone(), stored.issued.secrets().host.keys);
        let check = RootCheck::of(&stored.issued.element_root());
        let membership = Membership::new(sds, node(self.at), check, keys).expect("a member");
        let standing = match &stored.place {
            None => Standing::WithoutPlace { active: stored.active, run: 0 },
            Some(place) if stored.active => Standing::Active(Place::parse(place).unwrap()),
            Some(place) => Standing::Staged(Place::parse(place).unwrap()),
        };
        let options = Options { hello_at_start: true, find_back: true };
        let mut surroundings =
            Surroundings { now: self.now, element: &mut self.element, random: &mut self.random };
        Session::start(provider(), membership, standing, options, &mut surroundings).unwrap()
    }

    fn restart(&mut self) {
        let stored: Vec<Stored> = self.disk.values().cloned().collect();
        let sessions = stored.iter().map(|stored| (self.session(stored), ())).collect();
        self.lineage = Lineage::resume(sessions);
    }

    /// The module sends a generation.
    fn install(&mut self, issued: &Issued) -> Result<Arrival, NotTaken> {
        let arrival = self.lineage.examine(&issued.sds)?;
        if arrival == Arrival::Above {
            self.put(issued, false);
            let stored = self.disk[&issued.sds.generation()].clone();
            let session = self.session(&stored);
            assert_eq!(self.lineage.install(session, ()), Ok(arrival));
            self.carry_out(Done::default());
        }
        Ok(arrival)
    }

    fn input(&mut self, input: Input<'_>) -> Done {
        let mut surroundings =
            Surroundings { now: self.now, element: &mut self.element, random: &mut self.random };
        let result = self.lineage.handle(input, &mut surroundings).err();
        self.carry_out(Done { result, ..Done::default() })
    }

    fn activate(&mut self, generation: u32) -> Done {
        let mut surroundings =
            Surroundings { now: self.now, element: &mut self.element, random: &mut self.random };
        self.lineage.activate(generation, &mut surroundings).unwrap();
        self.carry_out(Done::default())
    }

    fn carry_out(&mut self, mut done: Done) -> Done {
        loop {
            match self.lineage.poll() {
                Next::Idle => return done,
                Next::Erase(erasure) if self.erases => {
                    self.disk.remove(&erasure.generation);
                    if let Some(root) = erasure.root {
                        self.element.0.remove(&root);
                    }
                    done.erased.push(erasure);
                    self.lineage.erased();
                }
                Next::Erase(_) => return done,
                Next::Session(generation, output, ()) => match output {
                    Output::Persist(record) => {
                        let stored = self.disk.get_mut(&generation).expect("it is held");
                        match record {
                            Record::Activated => stored.active = true,
                            Record::FoundBack(_) => {}
                            Record::Place(place) => stored.place = Some(place.expose().to_vec()),
                        }
                        self.lineage.persisted();
                    }
                    Output::Transmit(frame) | Output::TransmitTo(_, frame) => {
                        done.frames.push(frame.to_vec())
                    }
                    Output::Deliver(delivery) => done.heard.push((generation, delivery.payload.to_vec())),
                    Output::Event(event) => done.events.push((generation, event)),
                    Output::Idle => unreachable!("a lineage has a word of its own for that"),
                },
            }
        }
    }

    fn send(&mut self, body: &[u8]) -> Vec<u8> {
        let done = self.input(Input::Send(FrameKind::Data, body));
        assert_eq!(done.result, None);
        assert_eq!(done.frames.len(), 1);
        done.frames.into_iter().next().unwrap()
    }

    fn hears(&mut self, frame: &[u8]) -> Done {
        self.input(Input::Frame(frame))
    }

    /// Time goes by; returns the frames that the timers make.
    fn live(&mut self, duration: Duration) -> Done {
        let end = self.now + duration;
        let mut all = Done::default();
        while let Some(due) = self.lineage.timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let done = self.input(Input::Timeout);
            all.frames.extend(done.frames);
            all.erased.extend(done.erased);
        }
        self.now = end;
        all
    }

    fn active(&self) -> u32 {
        self.lineage.active().map_or(0, |session| session.membership().sds().generation())
    }

    fn held(&self) -> BTreeSet<u32> {
        self.lineage.sessions().map(|session| session.membership().sds().generation()).collect()
    }
}

/// Members 0 and 1 (and 2), active in generation 1.
fn group(members: usize) -> (Issued, Vec<Member>) {
    let all: Vec<usize> = (0..members).collect();
    let first = issue(1, 1, &all, 1, None);
    let mut group: Vec<Member> = all.iter().map(|at| Member::with(*at, &first, true)).collect();
    for at in 0..members {
        let hello = group[at].live(Duration::from_millis(4)).frames;
        for other in (0..members).filter(|other| *other != at) {
            for frame in &hello {
                group[other].hears(frame);
            }
        }
    }
    (first, group)
}

#[test]
fn a_generation_is_staged_until_the_modules_word_and_the_one_before_stays_open_for_the_overlap() {
    let (first, mut group) = group(2);
    let second = issue(2, 1, &[0, 1, 2], 2, Some(&first));
    for member in &mut group {
        assert_eq!(member.install(&second), Ok(Arrival::Above));
        assert_eq!(member.active(), 1);
    }
    let in_flight = group[1].send(b"in flight");
    group[0].activate(2);
    assert_eq!((group[0].active(), group[0].held()), (2, BTreeSet::from([1, 2])));
    assert_eq!(group[0].hears(&in_flight).bodies(), [b"in flight"]);
    let later = group[1].send(b"from one who has not heard yet");
    let done = group[0].live(SECOND * 4);
    assert_eq!(group[0].hears(&later).bodies(), [&b"from one who has not heard yet"[..]]);
    // The hello of the first to be active makes the other active.
    for hello in &done.frames {
        let heard = group[1].hears(hello);
        assert!(heard.events.contains(&(2, Event::Activated)));
    }
    assert_eq!(group[1].active(), 2);
    let erased = group[0].live(SECOND * 2).erased;
    assert_eq!(erased, [Erasure { generation: 1, root: None }], "the element root goes on");
    assert_eq!(group[0].held(), BTreeSet::from([2]));
    let frame = group[1].send(b"in the second");
    assert_eq!(group[0].hears(&frame).bodies(), [b"in the second"]);
}

#[test]
fn when_the_element_version_rose_nothing_overlaps_and_the_old_root_is_erased() {
    let (first, mut group) = group(3);
    let second = issue(2, 2, &[0, 1], 2, Some(&first));
    for member in &mut group[..2] {
        member.install(&second).unwrap();
    }
    let in_flight = group[1].send(b"in flight");
    let done = group[0].activate(2);
    let old_root = first.root();
    assert_eq!(done.erased, [Erasure { generation: 1, root: Some(old_root) }]);
    assert!(!group[0].element.0.contains_key(&old_root));
    assert_eq!(group[0].hears(&in_flight).bodies(), [b""; 0]);
    assert_eq!(group[0].lineage.late_frames(), 1, "what a removal costs is counted");
    let word = group[0].send(b"without the third");
    assert_eq!(group[1].hears(&word).bodies(), [b"without the third"]);
    assert_eq!(group[1].held(), BTreeSet::from([2]));
}

#[test]
fn a_removed_member_with_element_disk_and_a_recording_opens_nothing_sent_after_the_change() {
    let (first, mut group) = group(3);
    let second = issue(2, 2, &[0, 1], 2, Some(&first));
    let mut recording = Vec::new();
    for member in &mut group[..2] {
        member.install(&second).unwrap();
    }
    group[0].activate(2);
    for round in 0..20u8 {
        let hello = group[0].live(SECOND).frames;
        let frame = group[0].send(&[round]);
        for frame in hello.iter().chain([&frame]) {
            group[1].hears(frame);
        }
        let answer = group[1].send(&[round]);
        group[0].hears(&answer);
        recording.extend(hello);
        recording.extend([frame, answer]);
        if round % 3 == 0 {
            recording.extend(group[0].input(Input::Advance).frames);
        }
    }
    // It keeps all it had, and is even given the public part, header key, tag and tree root of the second
    // generation: what its host could have seen of another member's. The element root is what it lacks.
    assert_eq!(group[2].held(), BTreeSet::from([1]));
    for frame in &recording {
        assert_eq!(group[2].hears(frame).heard, []);
    }
    let third = &mut group[2];
    let spied = Issued {
        sds: SynchronizedDataSet::new(Generation {
            kind: Kind::Communication,
            relationship: second.sds.relationship(),
            generation: 2,
            element_version: 2,
            instance: [2; 16],
            suite: Suite::Aes256Gcm,
            members: vec![node(0), node(1)],
            policy: second.sds.policy().to_vec(),
        })
        .unwrap(),
        ..second.clone()
    };
    third.at = 1;
    third.disk.clear();
    let old = third.element.0.remove(&first.root()).unwrap();
    third.put(&spied, true);
    third.element.0.insert(spied.root(), old);
    third.restart();
    let mut not_authentic = 0;
    for frame in &recording {
        let done = third.hears(frame);
        assert_eq!(done.heard, []);
        not_authentic +=
            done.rejections().iter().filter(|reason| **reason == Rejection::NotAuthentic).count();
    }
    assert!(not_authentic > 0);
}

#[test]
fn installing_twice_changes_nothing_whatever_the_phase() {
    let (first, mut group) = group(2);
    assert_eq!(group[0].install(&first), Ok(Arrival::Held));
    let second = issue(2, 1, &[0, 1], 2, Some(&first));
    assert_eq!(group[0].install(&second), Ok(Arrival::Above));
    assert_eq!(group[0].install(&second), Ok(Arrival::Held));
    group[0].activate(2);
    assert_eq!(group[0].install(&second), Ok(Arrival::Held));
    assert_eq!(group[0].install(&first), Ok(Arrival::Held), "as long as it is open");
    assert_eq!(group[0].active(), 2);
    assert_eq!(group[0].activate(2).events, []);
}

#[test]
fn the_same_or_a_lower_generation_with_another_content_is_refused() {
    let (first, mut group) = group(2);
    let refused = |held| Err(NotTaken::NotAbove { held });
    assert_eq!(group[0].install(&issue(1, 1, &[0, 1], 9, Some(&first))), refused(1));
    let third = issue(3, 1, &[0, 1], 3, Some(&first));
    group[0].install(&third).unwrap();
    assert_eq!(group[0].install(&issue(3, 1, &[0, 1], 9, Some(&first))), refused(3));
    // Out of order.
    assert_eq!(group[0].install(&issue(2, 1, &[0, 1], 2, Some(&first))), refused(3));
    assert_eq!(group[0].held(), BTreeSet::from([1, 3]));
}

#[test]
fn a_module_from_an_old_backup_is_refused_until_it_goes_above_what_is_held() {
    let (first, mut group) = group(2);
    let second = issue(2, 2, &[0, 1], 2, Some(&first));
    group[0].install(&second).unwrap();
    group[0].activate(2);
    // It knows of the first generation only, makes the second once more, and then learns what is held.
    let again = issue(2, 2, &[0, 1], 7, Some(&first));
    assert_eq!(group[0].install(&again), Err(NotTaken::NotAbove { held: 2 }));
    assert_eq!(group[0].install(&first), Err(NotTaken::NotAbove { held: 2 }), "erased, and sent again");
    assert_eq!(group[0].install(&issue(3, 3, &[0, 1], 8, None)), Ok(Arrival::Above));
}

#[test]
fn all_that_is_staged_stays_until_one_above_it_is_active() {
    let (first, mut group) = group(2);
    let second = issue(2, 1, &[0, 1], 2, Some(&first));
    let third = issue(3, 3, &[0, 1], 3, Some(&first));
    let fourth = issue(4, 3, &[0, 1], 4, Some(&third));
    // The second reaches both, and the module changes its mind before it has given its word.
    for member in &mut group {
        for generation in [&second, &third, &fourth] {
            member.install(generation).unwrap();
        }
    }
    assert_eq!(group[0].held(), BTreeSet::from([1, 2, 3, 4]));
    // A word that was on its way: who has heard it is understood by who has not.
    group[1].activate(2);
    let frame = group[1].send(b"in the second");
    let done = group[0].hears(&frame);
    assert_eq!(done.bodies(), [b"in the second"]);
    assert_eq!((group[0].active(), group[0].held()), (2, BTreeSet::from([1, 2, 3, 4])));

    let done = group[0].activate(4);
    assert_eq!(group[0].active(), 4);
    let mut erased = done.erased;
    erased.sort_by_key(|erasure| erasure.generation);
    assert_eq!(erased.iter().map(|erasure| erasure.generation).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(erased.iter().filter_map(|erasure| erasure.root).collect::<Vec<_>>(), [first.root()]);
    assert_eq!(group[0].held(), BTreeSet::from([3, 4]), "of one element version: open for the overlap");
    let erased = group[0].live(SECOND * 6).erased;
    assert_eq!(erased, [Erasure { generation: 3, root: None }]);
    assert_eq!(group[0].disk.keys().copied().collect::<Vec<_>>(), [4]);
    assert_eq!(group[0].element.0.keys().copied().collect::<Vec<_>>(), [third.root()]);
}

#[test]
fn two_changes_within_the_overlap_lose_nothing_that_is_in_flight() {
    let (first, mut group) = group(2);
    let second = issue(2, 1, &[0, 1], 2, Some(&first));
    let third = issue(3, 1, &[0, 1], 3, Some(&first));
    let mut in_flight = vec![group[1].send(b"in the first")];
    for generation in [&second, &third] {
        group[0].install(generation).unwrap();
        group[1].install(generation).unwrap();
        let number = generation.sds.generation();
        group[1].activate(number);
        in_flight.push(group[1].send(b"in a later one"));
        group[0].activate(number);
    }
    assert_eq!(group[0].held(), BTreeSet::from([1, 2, 3]));
    for frame in &in_flight {
        assert_eq!(group[0].hears(frame).bodies().len(), 1);
    }
    assert_eq!(group[0].lineage.closing().count(), 2);
    group[0].live(SECOND * 6);
    assert_eq!((group[0].held(), group[0].lineage.closing().count()), (BTreeSet::from([3]), 0));
}

#[test]
fn epochs_of_one_that_closes_are_wiped_in_their_time() {
    let (first, mut group) = group(2);
    let second = issue(2, 1, &[0, 1], 2, Some(&first));
    group[0].install(&second).unwrap();
    group[0].live(SECOND * 2);
    group[0].input(Input::Advance);
    group[0].live(SECOND * 2);
    group[0].activate(2);
    let open = |member: &Member| -> Vec<usize> {
        member.lineage.closing().map(|session| session.footprint().open_epochs).collect()
    };
    assert_eq!(open(&group[0]), [3]);
    group[0].live(SECOND * 4);
    assert_eq!(open(&group[0]), [1], "the epochs before are over, the generation is not");
    group[0].live(SECOND * 2);
    assert_eq!(group[0].held(), BTreeSet::from([2]));
}

#[test]
fn a_generation_with_a_lower_element_version_is_refused() {
    let (first, mut group) = group(2);
    let second = issue(2, 2, &[0, 1], 2, Some(&first));
    group[0].install(&second).unwrap();
    let back = issue(3, 1, &[0, 1], 3, Some(&first));
    assert_eq!(group[0].install(&back), Err(NotTaken::LowerElementVersion { held: 2 }));
}

#[test]
fn a_word_for_a_generation_that_is_not_staged_activates_nothing() {
    let (first, mut group) = group(2);
    for generation in [2, 3] {
        group[0].install(&issue(generation, 1, &[0, 1], generation as u8, Some(&first))).unwrap();
    }
    group[0].activate(4);
    assert_eq!(group[0].active(), 1);
    group[0].activate(3);
    assert_eq!(group[0].active(), 3);
    group[0].activate(2);
    assert_eq!(group[0].active(), 3, "a word that comes late");
}

#[test]
fn a_start_in_the_midst_of_a_change_goes_on_with_it() {
    let (first, mut group) = group(2);
    let second = issue(2, 2, &[0, 1], 2, Some(&first));
    group[0].install(&second).unwrap();
    group[0].restart();
    assert_eq!((group[0].active(), group[0].held()), (1, BTreeSet::from([1, 2])));
    // It is cut off after it is active and before it has erased.
    group[0].erases = false;
    group[0].activate(2);
    assert_eq!(group[0].disk.len(), 2);
    group[0].restart();
    assert_eq!((group[0].active(), group[0].held()), (2, BTreeSet::from([2])));
    group[0].erases = true;
    let done = group[0].live(SECOND);
    let old_root = first.root();
    assert_eq!(done.erased, [Erasure { generation: 1, root: Some(old_root) }]);
    assert_eq!(group[0].element.0.len(), 1);
}

#[test]
fn an_erasure_that_fails_is_asked_for_again_after_each_input() {
    let (first, mut group) = group(2);
    group[0].install(&issue(2, 2, &[0, 1], 2, Some(&first))).unwrap();
    group[0].erases = false;
    group[0].activate(2);
    group[0].send(b"goes on");
    assert_eq!(group[0].disk.len(), 2);
    group[0].erases = true;
    let done = group[0].input(Input::Timeout);
    assert_eq!(done.erased.len(), 1);
    assert_eq!(group[0].input(Input::Timeout).erased, []);
}

#[test]
fn a_lost_place_of_the_active_generation_does_not_bring_the_one_before_back() {
    let (first, mut group) = group(2);
    let second = issue(2, 2, &[0, 1], 2, Some(&first));
    for member in &mut group {
        member.install(&second).unwrap();
    }
    group[0].erases = false;
    group[0].activate(2);
    group[0].disk.get_mut(&2).unwrap().place = None;
    group[0].restart();
    assert_eq!((group[0].active(), group[0].held()), (2, BTreeSet::from([2])));
    let refused = group[0].input(Input::Send(FrameKind::Data, b"x")).result;
    assert_eq!(refused, Some(SessionError::NotActive(Phase::WithoutPlace)));
}

#[test]
fn a_member_in_the_generation_before_moves_on_and_is_followed_while_that_is_open() {
    let (first, mut group) = group(2);
    let second = issue(2, 1, &[0, 1], 2, Some(&first));
    for member in &mut group {
        member.install(&second).unwrap();
    }
    group[0].activate(2);
    group[1].live(SECOND * 2);
    let hello = group[1].input(Input::Advance).frames;
    group[0].hears(&hello[0]);
    let frame = group[1].send(b"in the next epoch of the first");
    assert_eq!(group[0].hears(&frame).bodies(), [&b"in the next epoch of the first"[..]]);
}

#[test]
fn what_a_generation_lent_is_recalled_when_the_next_is_in_force_and_taken_back_by_the_one_that_lent_it() {
    let (first, mut group) = group(2);
    let second = issue(2, 1, &[0, 1], 2, Some(&first));
    for member in &mut group {
        member.install(&second).unwrap();
    }
    let begins = group[0].send(b"begins an epoch");
    group[1].hears(&begins);
    let mut sealer = group[0].lineage.lend_sealing().expect("it has sent");
    let mut frame = Vec::new();
    sealer.seal(FrameKind::Data, b"by another thread", &mut frame).unwrap();
    assert_eq!(group[1].hears(&frame).bodies(), [&b"by another thread"[..]]);
    group[0].activate(2);
    assert_eq!(sealer.seal(FrameKind::Data, b"x", &mut frame), Err(NotSealed::TakeBack));
    let in_second = group[0].send(b"in the second");
    assert_eq!(group[1].hears(&in_second).bodies(), [&b"in the second"[..]]);
    group[0].lineage.take_back_sealing(sealer);
    assert!(group[0].lineage.sessions().all(|session| !session.has_lent()));
}

#[test]
fn who_still_sends_in_a_generation_that_is_behind_is_told_by_a_hello_at_most_once_a_second() {
    let (first, mut group) = group(2);
    let second = issue(2, 1, &[0, 1], 2, Some(&first));
    for member in &mut group {
        member.install(&second).unwrap();
    }
    group[0].activate(2);
    // What it says by itself is lost, and so it is with the first that it is made to say.
    group[0].live(SECOND);
    let of_closing = [b"one", b"two"].map(|body| group[1].send(body));
    for frame in &of_closing {
        assert_eq!(group[0].hears(frame).bodies().len(), 1);
    }
    assert_eq!(group[0].live(Duration::ZERO).frames.len(), 1, "once in a second");
    group[0].live(SECOND * 10);
    assert_eq!(group[0].held(), BTreeSet::from([2]));
    let late = group[1].send(b"late");
    assert_eq!(group[0].lineage.whose(&late), Whose::Former);
    assert!(group[0].hears(&late).rejections().is_empty());
    assert!(group[0].lineage.serving().is_none());
    let told = group[0].live(Duration::ZERO).frames;
    assert_eq!((told.len(), group[0].lineage.late_frames()), (1, 1));
    group[1].hears(&told[0]);
    assert_eq!(group[1].active(), 2);
}

#[test]
fn late_frames_of_every_run_of_generations_that_are_gone_are_known_and_their_senders_told() {
    let (first, mut group) = group(2);
    let in_run_0 = group[1].send(b"in run 0");
    // A failsafe has taken both to run 1.
    let root = Secret::take(&mut [9; 32]);
    for member in &mut group {
        let place = Place::before_first(1, root.duplicate()).emit().expose().to_vec();
        member.disk.get_mut(&1).unwrap().place = Some(place);
        member.restart();
    }
    let hello = group[0].live(Duration::from_millis(2)).frames;
    group[1].hears(&hello[0]);
    let in_run_1 = group[1].send(b"in run 1");
    assert_ne!(Header::parse(&in_run_0).unwrap().tag, Header::parse(&in_run_1).unwrap().tag);

    // Two generations later, of which the one that lags has the latest.
    let second = issue(2, 1, &[0, 1], 2, Some(&first));
    let third = issue(3, 1, &[0, 1], 3, Some(&second));
    for (at, issued) in [(0, &second), (0, &third), (1, &third)] {
        group[at].install(issued).unwrap();
        if at == 0 {
            group[at].activate(issued.sds.generation());
            group[at].live(SECOND * 10);
        }
    }
    assert_eq!(group[0].held(), BTreeSet::from([3]));
    for (late, frame) in (1..).zip([in_run_0, in_run_1]) {
        assert_eq!(group[0].lineage.whose(&frame), Whose::Former);
        assert!(group[0].lineage.tags().any(|tag| tag == Header::parse(&frame).unwrap().tag));
        assert!(group[0].hears(&frame).rejections().is_empty());
        let told = group[0].live(SECOND).frames;
        assert_eq!((told.len(), group[0].lineage.late_frames()), (1, late));
        group[1].hears(&told[0]);
        assert_eq!(group[1].active(), 3);
    }
}

#[test]
fn of_very_many_generations_that_are_gone_the_latest_are_known() {
    let (mut issued, mut group) = group(2);
    let mut frames = vec![group[1].send(b"late")];
    for generation in 2..=12 {
        issued = issue(generation, 1, &[0, 1], generation as u8, Some(&issued));
        for member in &mut group {
            member.install(&issued).unwrap();
            member.activate(generation);
            member.live(SECOND * 10);
        }
        frames.push(group[1].send(b"late"));
    }
    let known: Vec<bool> =
        frames.iter().map(|frame| group[0].lineage.whose(frame) != Whose::Nobody).collect();
    assert_eq!(
        known,
        [[false; 3].as_slice(), &[true; 9]].concat(),
        "eight that are gone, and the one in force"
    );
}

#[test]
fn a_frame_with_a_tag_that_several_generations_share_and_the_signature_of_none_is_nobodys() {
    let issued = issue(1, 1, &[0, 1], 1, None);
    let mut element = Element::default();
    element.0.insert(issued.root(), issued.element_root());
    let mut random = CountingRandom::default();
    let mut session = |generation: u32, header_key: u8| {
        let sds = issue(generation, 1, &[0, 1], generation as u8, Some(&issued)).sds;
        let header_key = Secret::take(&mut [header_key; 16]);
        let keys = HostKeys { header_key, tag: Tag([7; 4]), resync_key: Secret::take(&mut [8; 32]) };
        let check = RootCheck::of(&issued.element_root());
        let membership = Membership::new(sds, node(0), check, keys).expect("a member");
        let standing = Standing::WithoutPlace { active: false, run: 0 };
        let options = Options { hello_at_start: false, find_back: false };
        let mut surroundings =
            Surroundings { now: Instant::default(), element: &mut element, random: &mut random };
        Session::start(provider(), membership, standing, options, &mut surroundings).unwrap()
    };
    let lineage = Lineage::resume(vec![(session(1, 1), "first"), (session(2, 2), "second")]);
    let frame_under = |header_key: u8| {
        let mut frame = vec![0; 64];
        let header =
            Header { class: Class::Session, sender: 1, tag: Tag([7; 4]), epoch: 0, salt: 0, counter: 0 };
        header.write(&Secret::take(&mut [header_key; 16]), frame.first_chunk_mut().unwrap());
        frame
    };
    assert_eq!(lineage.whose(&frame_under(1)), Whose::Generation(1));
    assert_eq!(lineage.whose(&frame_under(2)), Whose::Generation(2));
    assert_eq!(lineage.whose(&frame_under(3)), Whose::Nobody);
    assert_eq!(lineage.in_force().map(|(_, name)| *name), Some("second"));
}
