//! What a group costs as its members grow: rotation, catching up, changes of members, memory.
//!
//! All of it in the engine, element and disk in memory. Processes and network are not in it.

use std::hint::black_box;
use std::time::Duration;

use akm_core::crypto::{AWS_LC, Suite};
use akm_core::element::RootCheck;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::lineage::{Lineage, Next};
use akm_core::policy::Policy;
use akm_core::sds::{Generation, GenerationSecrets, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::secret::Secret;
use akm_core::session::{Input, Instant, Membership, Options, Output, Session, Standing, Surroundings};
use akm_core::tree::{NO_EPOCH, Place};
use akm_element::{SystemRandom, random};

use super::epochs::{BATCH, Way};
use crate::allocations::taken;
use crate::duo::{Duo, Member, MemoryElement};
use crate::error::BenchError;
use crate::report::Row;
use crate::rounds::{Comparison, Effort, Spread, in_turn, worked};

const PART: &str = "groups";

const SUITE: Suite = Suite::Aes256Gcm;

/// What a rotation in a large group may cost against one of two.
const ROTATION_GOAL: f64 = 1.2;

/// Epochs that are open at once: the current one and four closed ones.
const OPEN: u32 = 5;

/// Epochs to catch up over.
const BEHIND: u32 = 1_000_000;

pub(super) fn run(effort: Effort) -> Result<Vec<Row>, BenchError> {
    let larger = effort.size(&[16, 256, 4096][..], &[16]);
    let changed = effort.size(&[16, 256, 1000][..], &[16]);
    let each = effort.share(4 * larger.len() + 2 + 2 * changed.len());
    let mut rows = Vec::new();
    for members in larger {
        rows.push(begin(each, *members)?);
        rows.push(follow(each, *members)?);
        rows.push(follow_in_a_busy_group(each, *members)?);
        rows.push(wipe_after_a_rotation(each, *members)?);
    }
    rows.push(caught_up(each)?);
    rows.push(fell_back(each)?);
    for change in [Change::Add, Change::Remove] {
        for members in changed {
            rows.push(changes(each, change, *members)?);
        }
    }
    rows.push(memory_of_two()?);
    for members in larger {
        rows.push(memory(*members)?);
    }
    Ok(rows)
}

fn failed(what: &str) -> BenchError {
    BenchError::Product(what.to_owned())
}

/// Microseconds for each of a batch.
fn microseconds(seconds: f64) -> f64 {
    seconds * 1e6 / f64::from(BATCH)
}

/// Two members of a group that rotate.
struct Rotation {
    sender: Member,
    receiver: Member,
    rotations: u64,
}

impl Rotation {
    fn among(members: usize) -> Self {
        let duo = Duo::among(AWS_LC, SUITE, members);
        let sender = duo.member(0, duo.first_place());
        let receiver = duo.member(members - 1, duo.first_place());
        Self { sender, receiver, rotations: 0 }
    }

    /// One of them begins epochs.
    fn begin(&mut self) -> Result<Duration, BenchError> {
        let (result, took) = worked(|| {
            (0..BATCH).try_for_each(|_| {
                self.sender.handle(Input::Advance, |frame| {
                    black_box(frame);
                })
            })
        });
        self.rotations += u64::from(BATCH);
        result.map(|()| took)
    }

    /// The other one follows to each of them.
    fn follow(&mut self) -> Result<Duration, BenchError> {
        let mut hellos = Vec::new();
        for _ in 0..BATCH {
            self.sender.handle(Input::Advance, |frame| hellos.push(frame.to_vec()))?;
        }
        let (result, took) = worked(|| {
            hellos.iter().try_for_each(|hello| {
                // Nobody follows more often for long.
                self.receiver.pass(Duration::from_millis(250));
                self.receiver.hear(hello, |payload| {
                    black_box(payload);
                })
            })
        });
        result?;
        self.rotations += u64::from(BATCH);
        match self.receiver.epoch() == self.sender.epoch() {
            true => Ok(took),
            false => Err(failed("a member did not follow")),
        }
    }

    /// Frames that both made, for each rotation.
    fn frames(&self) -> f64 {
        (self.sender.transmitted() + self.receiver.transmitted()) as f64 / self.rotations as f64
    }
}

fn rotation(
    effort: Effort,
    members: usize,
    what: &str,
    step: fn(&mut Rotation) -> Result<Duration, BenchError>,
) -> Result<Row, BenchError> {
    let (mut many, mut two) = (Rotation::among(members), Rotation::among(2));
    let comparison = in_turn(effort, 50, || step(&mut many), || step(&mut two))?.comparison();
    Ok(Row::of(PART, format!("{what}, {members} members"), "2 members", comparison)
        .with_goal(ROTATION_GOAL)
        .with_fact("microseconds", microseconds(comparison.a.median))
        .with_fact("frames for each rotation, of these two", many.frames()))
}

fn begin(effort: Effort, members: usize) -> Result<Row, BenchError> {
    rotation(effort, members, "begin the next epoch and say hello, others quiet", Rotation::begin)
}

fn follow(effort: Effort, members: usize) -> Result<Row, BenchError> {
    rotation(effort, members, "follow to the next epoch, others quiet", Rotation::follow)
}

/// A group in which every member is heard in every epoch. The keys of the epoch that is over are wiped after a rotation,
/// few at a time: that is timed for itself.
struct Busy {
    duo: Duo,
    /// What each of the others sent, in each of the epochs that may be open at once.
    heard: Vec<Vec<u8>>,
    /// The hello of the epoch after these.
    next: Vec<u8>,
}

impl Busy {
    fn among(members: usize) -> Result<Self, BenchError> {
        let duo = Duo::among(AWS_LC, SUITE, members);
        let frame = |epoch: u32, index: usize| {
            let place = epoch.checked_sub(1).map_or_else(
                || duo.first_place(),
                |before| duo.first_place().at(before).expect("it lies ahead"),
            );
            duo.member(index, place).frame(b"here")
        };
        let all = (0..OPEN).flat_map(|epoch| (1..members).map(move |index| (epoch, index)));
        let heard = all.map(|(epoch, index)| frame(epoch, index)).collect::<Result<_, _>>()?;
        let next = frame(OPEN, 1)?;
        Ok(Self { duo, heard, next })
    }

    /// A member that holds keys of all others in all epochs that are open.
    fn member(&self) -> Result<Member, BenchError> {
        let mut member = self.duo.member(0, self.duo.first_place());
        for frame in &self.heard {
            member.hear(frame, |payload| {
                black_box(payload);
            })?;
        }
        match member.footprint().senders == self.heard.len() {
            true => Ok(member),
            false => Err(failed("a member did not hear all others")),
        }
    }

    /// It follows once, and so closes the oldest. Before that the machine opened the frames of another group: what is
    /// compared differs in the members of its own, not in what is left of it in the processor's caches.
    fn follow_after(&self, other: &Self) -> Result<Duration, BenchError> {
        let mut member = self.member()?;
        let other = other.member()?;
        let took = self.follow_with(&mut member)?;
        // Not before: giving back so much memory would be timed with it.
        drop(other);
        Ok(took)
    }

    fn follow_with(&self, member: &mut Member) -> Result<Duration, BenchError> {
        let (result, took) = worked(|| {
            member.hear(&self.next, |payload| {
                black_box(payload);
            })
        });
        result?;
        match member.epoch() == OPEN {
            true => Ok(took),
            false => Err(failed("a member did not follow")),
        }
    }

    /// What a host does when it has followed: it hands in timeouts until all keys of that epoch are wiped.
    fn wipe(&self) -> Result<Duration, BenchError> {
        let mut member = self.member()?;
        self.follow_with(&mut member)?;
        let (result, took) = worked(|| {
            while member.footprint().over > 0 {
                member.handle(Input::Timeout, |_| {})?;
            }
            Ok(())
        });
        result.map(|()| took)
    }
}

fn follow_in_a_busy_group(effort: Effort, members: usize) -> Result<Row, BenchError> {
    let (many, two) = (Busy::among(members)?, Busy::among(2)?);
    let comparison =
        in_turn(effort, 20, || many.follow_after(&many), || two.follow_after(&many))?.comparison();
    Ok(Row::of(
        PART,
        format!("follow to the next epoch, all others heard, {members} members"),
        "2 members",
        comparison,
    )
    .with_goal(ROTATION_GOAL)
    .with_fact("microseconds", comparison.a.median * 1e6)
    .with_fact("keys and windows held before", many.heard.len()))
}

fn wipe_after_a_rotation(effort: Effort, members: usize) -> Result<Row, BenchError> {
    let busy = Busy::among(members)?;
    let comparison = in_turn(effort, 20, || busy.wipe(), || busy.follow_after(&busy))?.comparison();
    Ok(Row::of(
        PART,
        format!("wipe the keys of an epoch that is over, {members} members heard in it"),
        "follow to the next epoch",
        comparison,
    )
    .with_fact("nanoseconds for each of them", comparison.a.median * 1e9 / (members - 1) as f64))
}

fn caught_up(effort: Effort) -> Result<Row, BenchError> {
    let (behind, next) = (Way::to(BEHIND)?, Way::to(1)?);
    let comparison = in_turn(effort, 50, || behind.go(), || next.go())?.comparison();
    Ok(Row::of(PART, "catch up over 10^6 epochs", "follow to the next epoch", comparison)
        .with_fact("microseconds", microseconds(comparison.a.median)))
}

fn fell_back(effort: Effort) -> Result<Row, BenchError> {
    let (duo, next) = (Duo::new(AWS_LC, SUITE), Way::to(1)?);
    let comparison = in_turn(effort, 50, || fallback(&duo), || next.go())?.comparison();
    Ok(Row::of(PART, "find back by fallback, both sides", "follow to the next epoch", comparison)
        .with_fact("microseconds", microseconds(comparison.a.median)))
}

/// Members without place ask one that has it, and take it. Each pair does so for the first time.
fn fallback(duo: &Duo) -> Result<Duration, BenchError> {
    let mut pairs: Vec<_> = (0..BATCH)
        .map(|_| {
            let place = duo.first_place().at(BEHIND).expect("it lies ahead");
            (duo.member_that_finds_back(0, Some(place)), duo.member_that_finds_back(1, None))
        })
        .collect();
    let (result, took) = worked(|| {
        pairs.iter_mut().try_for_each(|(answers, asks)| {
            let (mut request, mut response) = (Vec::new(), Vec::new());
            asks.handle(Input::Timeout, |frame| request.extend_from_slice(frame))?;
            answers.hear(&request, |frame| response.extend_from_slice(frame))?;
            asks.hear(&response, |frame| {
                black_box(frame);
            })?;
            asks.handle(Input::Timeout, |frame| {
                black_box(frame);
            })
        })
    });
    result?;
    // Who has found back jumps ahead of what it may have heard before.
    match pairs.iter().all(|(_, asked)| asked.epoch() != NO_EPOCH && asked.epoch() >= BEHIND) {
        true => Ok(took),
        false => Err(failed("a member did not find back")),
    }
}

/// How the members change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// One comes: the element version stays, the generation before stays open for a while.
    Add,
    /// One leaves: the element version rises, the generation before is closed at once.
    Remove,
}

/// A relationship before a change.
struct Changing {
    change: Change,
    relationship: RelationshipId,
    before: SynchronizedDataSet,
    secrets: GenerationSecrets,
    members: Vec<AkmId>,
    /// For each of the rounds, what the module and one member took.
    shares: Vec<(f64, f64)>,
}

/// What the module makes: the public part as it is sent, and the secrets.
type Made = (Vec<u8>, GenerationSecrets);

impl Changing {
    /// One is added to this many members, or one leaves and this many stay.
    fn new(change: Change, members: usize) -> Result<Self, BenchError> {
        let mut ids: Vec<AkmId> = (0..=members).map(|_| AkmId::from_random(random())).collect();
        ids.sort_unstable();
        let fewer = ids[..members].to_vec();
        let (before, after) = match change {
            Change::Add => (fewer, ids),
            Change::Remove => (ids, fewer),
        };
        let relationship = RelationshipId::from_random(random());
        let (public, secrets) = generation(relationship, 1, 1, before)?;
        let before = SynchronizedDataSet::parse(&public).map_err(BenchError::product)?;
        Ok(Self { change, relationship, before, secrets, members: after, shares: Vec::new() })
    }

    fn module(&self) -> Result<Made, BenchError> {
        let version = match self.change {
            Change::Add => 1,
            Change::Remove => 2,
        };
        generation(self.relationship, 2, version, self.members.clone())
    }

    /// The first member, with the generation before.
    fn member(&self) -> Result<Lineage, BenchError> {
        let place = Place::before_first(0, self.secrets.host.tree_root.duplicate());
        let session = self.session(self.before.clone(), &self.secrets, Standing::Active(place))?;
        Ok(Lineage::resume(vec![(session, ())]))
    }

    fn session(
        &self,
        sds: SynchronizedDataSet,
        secrets: &GenerationSecrets,
        standing: Standing,
    ) -> Result<Session, BenchError> {
        let mut element = MemoryElement(secrets.element_root.duplicate());
        let check = RootCheck::of(&secrets.element_root);
        let membership = Membership::new(sds, self.members[0], check, secrets.host.keys.duplicate())
            .map_err(BenchError::product)?;
        let options = Options { hello_at_start: false, find_back: false };
        let mut surroundings =
            Surroundings { now: Instant::default(), element: &mut element, random: &mut SystemRandom };
        Session::start(AWS_LC, membership, standing, options, &mut surroundings).map_err(BenchError::product)
    }

    /// A member installs what the module made, and it becomes active by the module's word.
    fn install(&self, lineage: &mut Lineage, (public, secrets): &Made) -> Result<(), BenchError> {
        let sds = SynchronizedDataSet::parse(public).map_err(BenchError::product)?;
        let place = Place::before_first(0, secrets.host.tree_root.duplicate());
        let staged = self.session(sds, secrets, Standing::Staged(place))?;
        lineage.install(staged, ()).map_err(BenchError::product)?;
        let mut element = MemoryElement(secrets.element_root.duplicate());
        let mut surroundings =
            Surroundings { now: Instant::default(), element: &mut element, random: &mut SystemRandom };
        lineage.activate(2, &mut surroundings).map_err(BenchError::product)?;
        loop {
            match lineage.poll() {
                Next::Idle => return Ok(()),
                Next::Session(_, Output::Persist(_), ()) => lineage.persisted(),
                Next::Session(_, output, ()) => {
                    black_box(&output);
                }
                Next::Erase(_) => lineage.erased(),
            }
        }
    }

    /// The module and one member, as often as there are in a batch.
    fn go(&mut self) -> Result<Duration, BenchError> {
        let mut lineages = (0..BATCH).map(|_| self.member()).collect::<Result<Vec<_>, _>>()?;
        let (made, module) = worked(|| (0..BATCH).map(|_| self.module()).collect::<Result<Vec<_>, _>>());
        let made = made?;
        let (result, member) = worked(|| {
            lineages.iter_mut().zip(&made).try_for_each(|(lineage, made)| self.install(lineage, made))
        });
        result?;
        let arrived = |lineage: &Lineage| {
            lineage.active().is_some_and(|active| active.membership().sds().generation() == 2)
                && (lineage.closing().count() == 1) == (self.change == Change::Add)
        };
        if !lineages.iter().all(arrived) {
            return Err(failed("a generation did not become active"));
        }
        self.shares.push((module.as_secs_f64(), member.as_secs_f64()));
        Ok(module + member)
    }

    /// Median microseconds of the module, and of a member.
    fn microseconds(&self) -> (f64, f64) {
        let median = |figures: Vec<f64>| microseconds(Spread::of(figures).median);
        let (module, member) = self.shares.iter().copied().unzip();
        (median(module), median(member))
    }
}

fn generation(
    relationship: RelationshipId,
    generation: u32,
    element_version: u32,
    members: Vec<AkmId>,
) -> Result<Made, BenchError> {
    let sds = SynchronizedDataSet::new(Generation {
        kind: Kind::Communication,
        relationship,
        generation,
        element_version,
        instance: random(),
        suite: SUITE,
        members,
        policy: Policy::default().emit(),
    })
    .map_err(BenchError::product)?;
    let secrets = ParameterDataVector::new(Secret::take(&mut random())).derive(&sds);
    Ok((sds.emit(), secrets))
}

fn changes(effort: Effort, change: Change, members: usize) -> Result<Row, BenchError> {
    let (mut many, mut two) = (Changing::new(change, members)?, Changing::new(change, 2)?);
    let comparison = in_turn(effort, 20, || many.go(), || two.go())?.comparison();
    let (what, against) = match change {
        Change::Add => (format!("add one to {members}: module and one member"), "add one to 2"),
        Change::Remove => {
            (format!("remove one, {members} stay: module and one member"), "remove one, 2 stay")
        }
    };
    let served = many.members.len();
    let (module, member) = many.microseconds();
    Ok(Row::of(PART, what, against, comparison)
        .with_fact("microseconds of the module", module)
        .with_fact("microseconds of each member", member)
        .with_fact("members served, one after another", served)
        .with_fact("milliseconds for all, computed", (module + member * served as f64) / 1e3))
}

/// Bytes that one member holds, with each other member heard in one epoch and before any is; and that member.
fn held(members: usize) -> Result<(Box<Member>, f64, f64), BenchError> {
    let duo = Duo::among(AWS_LC, SUITE, members);
    let frames = (1..members)
        .map(|index| duo.member(index, duo.first_place()).frame(b"here"))
        .collect::<Result<Vec<_>, _>>()?;
    let place = duo.first_place();
    let before = taken();
    let mut member = Box::new(duo.member(0, place));
    let alone = taken().wrapping_sub(before);
    for frame in &frames {
        member.hear(frame, |payload| {
            black_box(payload);
        })?;
    }
    let all = taken().wrapping_sub(before);
    match member.footprint().senders == members - 1 {
        true => Ok((member, alone as f64, all as f64)),
        false => Err(failed("a member was not heard")),
    }
}

fn memory_of_two() -> Result<Row, BenchError> {
    let (member, alone, all) = held(2)?;
    let comparison = Comparison::of(vec![all], vec![alone]);
    let row = Row::of(PART, "memory of a relationship of 2", "nobody heard yet", comparison).in_bytes();
    Ok(with_memory(row, &member, all))
}

fn memory(members: usize) -> Result<Row, BenchError> {
    let (_, _, two) = held(2)?;
    let (member, _, all) = held(members)?;
    let comparison = Comparison::of(vec![all], vec![two]);
    let what = format!("memory of a relationship of {members}, each heard");
    let row = Row::of(PART, what, "of 2", comparison).in_bytes();
    let more = (members - 2) as f64;
    Ok(with_memory(row, &member, all).with_fact("bytes for each further member", (all - two) / more))
}

fn with_memory(row: Row, member: &Member, bytes: f64) -> Row {
    let footprint = member.footprint();
    row.with_fact("bytes", bytes)
        .with_fact("keys and windows of members", footprint.senders)
        .with_fact("buffer bytes", footprint.buffer_bytes)
}
