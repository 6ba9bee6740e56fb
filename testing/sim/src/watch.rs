//! Sees everything that happens, and checks the invariants on it.

mod frames;
mod inputs;
mod limits;
mod places;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use akm_core::element::ElementError;
use akm_core::frame::{FrameKind, Header};
use akm_core::session::{Event, FoundBack, Phase, Rejection, SessionError};
use akm_core::tree::NO_EPOCH;

use crate::happening::{Found, Given, Happening, Stands};
use crate::invariant::{Invariant, Violation};
use crate::tally::Tally;
use limits::{epoch_is_durable, phase_is_allowed, state_is_bounded};

/// Run (by its tag), sender, epoch, salt and counter of a frame of an issue: with the sender's key this
/// is key and nonce, so it names the frame.
type FrameName = (usize, [u8; 4], u16, u32, u64, u32);

/// A generation, as the module made it.
#[derive(Debug)]
struct Issued {
    relationship: usize,
    members: Vec<usize>,
    generation: u32,
    version: u32,
    overlap: Duration,
}

/// Sees everything that happens in a world, and says when an invariant does not hold.
#[derive(Debug)]
pub struct Watch {
    issues: Vec<Issued>,
    /// Whether a host may take a place for lost that is there.
    mislays: bool,
    sent: HashMap<FrameName, Sent>,
    /// What a bad member sent in the name of others, and itself.
    forged: HashMap<FrameName, Vec<Sent>>,
    /// Issues in which a bad member has sent something: there members may be deaf and mute.
    betrayed: BTreeSet<usize>,
    salts: HashMap<(usize, [u8; 4], u16, u32), BTreeSet<u64>>,
    /// Relationship and sender: when it last made a frame in an epoch that knows it under two salts.
    fifth_salt: HashMap<(usize, u16), Duration>,
    nodes: Vec<WatchedNode>,
    /// Since when it listens to who hears whom.
    since: Duration,
    /// Relationship, identity of the sender, receiving node: when it was first heard.
    heard: BTreeMap<(usize, usize, usize), Duration>,
    /// How often what happened.
    pub tally: Tally,
}

#[derive(Debug)]
struct Sent {
    at: Duration,
    /// The run in which its sender is; 0 for a bad member.
    run: u32,
    kind: FrameKind,
    body: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct WatchedNode {
    identity: usize,
    /// How often its element has counted; `None` if it has no counter.
    counted: Option<u64>,
    disk: BTreeMap<usize, Known>,
    /// What was known of the disk when each image was made.
    images: Vec<BTreeMap<usize, Known>>,
    process: Option<WatchedProcess>,
    /// When it last stood there without a place, by issue.
    without_place: BTreeMap<usize, Duration>,
    /// Whether its element or its disk takes time.
    slow: bool,
    /// How often its element was called and its disk written to, when that was last told.
    spent: (u64, u64),
}

/// What a node's disk knows of an issue, as it should be. An image of the disk has a copy, so a
/// disk from an image is held to what that image knew and to no more: frames heard since then may
/// be accepted once more, as section 0 of the protocol says.
#[derive(Clone, Debug)]
struct Known {
    run: u32,
    epoch: u32,
    /// Whether somebody took the place away.
    lost: bool,
    active: bool,
    /// Whether its records are erased.
    erased: bool,
    /// The start during which the place was written.
    written_in: u64,
    delivered: HashSet<FrameName>,
}

#[derive(Clone, Debug, Default)]
struct WatchedProcess {
    starting: bool,
    /// How often the element had counted when it began.
    counted_before: Option<u64>,
    /// What the node was given last.
    given: Option<Given>,
    /// Whether something of that authenticated.
    authentic: bool,
    /// Epochs that the element was asked for because of that.
    asked: usize,
    /// Generations whose time was over when that came.
    ended: u64,
    /// Whether element or disk answer later than at once.
    deferred: bool,
    used: Spending,
    allowed: Spending,
    /// Since when it has gone over from one generation to another, by number of the issue.
    turned: BTreeMap<usize, (usize, usize, Duration)>,
    sessions: BTreeMap<usize, WatchedSession>,
}

#[derive(Clone, Debug)]
struct WatchedSession {
    /// The durable epoch at the start.
    floor: u32,
    found: Found,
    stands: Option<Stands>,
    refused: Option<SessionError>,
    /// A trace that was kept, and whose place is not durable yet.
    noted: Option<FoundBack>,
    /// Epochs of which nothing authenticated that the element was asked for, in the last second.
    unproven: VecDeque<(Duration, u32)>,
}

/// Calls of the element and writes to the disk.
#[derive(Clone, Copy, Debug, Default)]
struct Spending {
    calls: u64,
    writes: u64,
}

impl Watch {
    /// A watch. It overlooks that a host takes a place for lost that is there, if a flaw is to show what
    /// comes of that.
    pub fn new(mislays: bool) -> Self {
        Self {
            issues: Vec::new(),
            mislays,
            sent: HashMap::new(),
            forged: HashMap::new(),
            betrayed: BTreeSet::new(),
            salts: HashMap::new(),
            fifth_salt: HashMap::new(),
            nodes: Vec::new(),
            since: Duration::ZERO,
            heard: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// The module made a generation.
    pub fn issued(
        &mut self,
        relationship: usize,
        members: Vec<usize>,
        generation: u32,
        version: u32,
        overlap: Duration,
    ) {
        self.issues.push(Issued { relationship, members, generation, version, overlap });
    }

    /// The place of an issue at a node was taken away.
    pub fn lost(&mut self, node: usize, issue: usize) {
        if let Some(known) = self.nodes[node].disk.get_mut(&issue) {
            known.lost = true;
        }
    }

    /// A bad member sends a frame that opens with the keys of an issue.
    pub fn forged(&mut self, now: Duration, issue: usize, header: &Header, kind: FrameKind, body: Vec<u8>) {
        self.forged.entry(name(issue, header)).or_default().push(Sent { at: now, run: 0, kind, body });
    }

    /// A bad member acts in an issue.
    pub fn betrayed(&mut self, issue: usize) {
        self.betrayed.insert(issue);
        self.tally.betrayals += 1;
    }

    /// Whether a bad member has acted in an issue.
    pub fn is_betrayed(&self, issue: usize) -> bool {
        self.betrayed.contains(&issue)
    }

    /// A node was provisioned with these relationships, each active or staged.
    pub fn provisioned(&mut self, identity: usize, counter: bool, relationships: &[(usize, bool)]) {
        let known = |active| Known::installed(active, 0);
        let disk = relationships.iter().map(|(number, active)| (*number, known(*active))).collect();
        self.nodes.push(WatchedNode {
            identity,
            counted: counter.then_some(0),
            disk,
            ..WatchedNode::default()
        });
    }

    /// A node's element or its disk takes time from here on, or does not any more.
    pub fn slows(&mut self, node: usize, slow: bool) {
        let node = &mut self.nodes[node];
        node.slow = slow;
        if let Some(process) = &mut node.process {
            process.deferred |= slow;
        }
    }

    /// An image of a node's disk was made.
    pub fn imaged(&mut self, node: usize) {
        let mut image = self.nodes[node].disk.clone();
        image.retain(|_, known| !known.erased);
        self.nodes[node].images.push(image);
    }

    /// An image was put back.
    pub fn restored(&mut self, node: usize, image: usize) {
        self.nodes[node].disk = self.nodes[node].images[image].clone();
    }

    /// A copy of a node was made.
    pub fn cloned(&mut self, node: usize) {
        let mut copy =
            WatchedNode { process: None, images: Vec::new(), slow: false, ..self.nodes[node].clone() };
        copy.disk.retain(|_, known| !known.erased);
        self.nodes.push(copy);
    }

    /// From this time on it counts who hears whom.
    pub fn listen(&mut self, since: Duration) {
        self.since = since;
        self.heard.clear();
    }

    /// When a node first accepted a frame of a member that was made since [`Watch::listen`].
    pub fn heard(&self, issue: usize, from: usize, to: usize) -> Option<Duration> {
        self.heard.get(&(issue, from, to)).copied()
    }

    /// Whether a member, since [`Watch::listen`], made a frame in an epoch in which it had made frames under four other
    /// salts before: only where its disk went back again and again, or it was cloned.
    pub fn spoke_under_fifth_salt(&self, issue: usize, sender: usize) -> bool {
        let index = self.index(issue, sender);
        self.fifth_salt.get(&(issue, index)).is_some_and(|at| *at >= self.since)
    }

    /// Whether the place of an issue at a node is older than the element's counter allows.
    fn is_outdated(&self, node: usize, issue: usize) -> bool {
        let node = &self.nodes[node];
        let Some(known) = node.disk.get(&issue) else { return false };
        node.counted.is_some_and(|counted| known.written_in < counted)
    }

    fn index(&self, issue: usize, identity: usize) -> u16 {
        let members = &self.issues[issue].members;
        members.iter().position(|member| *member == identity).map_or(u16::MAX, |index| index as u16)
    }

    /// Looks at one thing that happened, and at what it does to the invariants.
    pub fn see(&mut self, now: Duration, node: usize, happening: &Happening) -> Result<(), Violation> {
        self.tally.count(happening);
        match happening {
            Happening::Starts => {
                let its = &mut self.nodes[node];
                its.disk.retain(|_, known| !known.erased);
                its.process = Some(WatchedProcess {
                    starting: true,
                    counted_before: its.counted,
                    deferred: its.slow,
                    allowed: limits::of_a_start(its.disk.len() as u64),
                    ..WatchedProcess::default()
                });
            }
            Happening::Found { issue, found } => self.found(node, *issue, *found)?,
            Happening::Counted { count } => {
                self.nodes[node].counted = *count;
                self.process(node).starting = false;
            }
            Happening::Died | Happening::DidNotStart { .. } => self.nodes[node].process = None,
            Happening::Unclaimed { header } => {
                if let Some(header) = header {
                    self.nothing_lost_by_adding(now, node, header)?;
                }
            }
            Happening::Installed { issue } => {
                let written_in = self.nodes[node].counted.unwrap_or(0);
                self.nodes[node].disk.insert(*issue, Known::installed(false, written_in));
                let found = Found::Good { run: 0, epoch: NO_EPOCH, active: false };
                self.process(node).sessions.insert(*issue, WatchedSession::new(NO_EPOCH, found));
            }
            Happening::Erased { issue } => {
                // Its session may go on for a while, and for longer where its root cannot be erased.
                self.known(node, *issue).erased = true;
            }
            Happening::Noted { issue, found } => {
                self.session(node, *issue).noted = Some(*found);
            }
            Happening::SentTo { issue, .. } => {
                self.nothing_after_a_refusal(node, *issue)?;
            }
            Happening::Given { what } => self.given(node, *what),
            Happening::Asked { issue, epoch } => self.asked(now, node, *issue, *epoch)?,
            Happening::Refused { issue, error, alone } => self.refused(node, *issue, error, *alone)?,
            Happening::Dropped { header, reason } => {
                if let (Some(header), Rejection::UnexpectedKind) = (header, reason) {
                    self.proven(now, node, Some(header.epoch));
                }
            }
            Happening::Noticed { event } => {
                if let (akm_host::Event::Ended, Some(process)) = (event, &mut self.nodes[node].process) {
                    process.ended += 1;
                }
            }
            Happening::Rests { calls, writes } => self.rests(node, *calls, *writes)?,
            Happening::PlaceWritten { issue, run, epoch, .. } => {
                self.place_written(now, node, *issue, (*run, *epoch))?;
            }
            Happening::ActiveWritten { issue } => {
                self.nothing_after_a_refusal(node, *issue)?;
                self.goes_over(now, node, *issue);
                self.known(node, *issue).active = true;
            }
            Happening::NotWritten { issue, epoch } => self.not_written(now, node, *issue, *epoch),
            Happening::Sent { issue, header, kind, body } => {
                self.sent(now, node, *issue, header, *kind, body)?;
            }
            Happening::Delivered { issue, header, delivery } => {
                self.delivered(now, node, *issue, header, delivery)?;
            }
            Happening::Told { issue, event } => {
                if !matches!(event, Event::Rejected { .. }) {
                    self.nothing_after_a_refusal(node, *issue)?;
                }
            }
            Happening::Stands { issue, stands } => self.stands(now, node, *issue, stands)?,
        }
        Ok(())
    }

    fn process(&mut self, node: usize) -> &mut WatchedProcess {
        self.nodes[node].process.as_mut().expect("what happens, happens in a process")
    }

    fn session(&mut self, node: usize, issue: usize) -> &mut WatchedSession {
        self.process(node).sessions.get_mut(&issue).expect("it was found at the start")
    }

    fn known(&mut self, node: usize, issue: usize) -> &mut Known {
        self.nodes[node].disk.get_mut(&issue).expect("the node was provisioned with it")
    }

    fn found(&mut self, node: usize, issue: usize, found: Found) -> Result<(), Violation> {
        let before = self.process(node).counted_before;
        let outdated = before.is_some_and(|counted| self.known(node, issue).written_in < counted);
        let mislays = self.mislays;
        let known = self.known(node, issue);
        let (floor, active, lost) = (known.epoch, known.active, known.lost);
        let floor_run = known.run;
        match found {
            Found::Good { .. } if outdated => {
                return violated(
                    Invariant::OldImageRecognised,
                    format!("node {node} takes a place that its element's counter says is old"),
                );
            }
            Found::Good { run, epoch, .. } if (run, epoch) != (floor_run, floor) => {
                return violated(
                    Invariant::EpochsNeverGoBack,
                    format!("node {node} starts at epoch {epoch} and had written {floor}"),
                );
            }
            Found::Good { active: false, .. } if active => {
                return violated(
                    Invariant::PhasesAlongEdges,
                    format!("node {node} starts with a staged issue that was active"),
                );
            }
            Found::Lost if !lost && !mislays => {
                return violated(Invariant::NoPlaceLost, format!("node {node} finds no place"));
            }
            Found::RolledBack if !outdated => {
                return violated(
                    Invariant::NoPlaceLost,
                    format!("node {node} takes its latest place for an old one"),
                );
            }
            Found::Good { .. } | Found::RolledBack | Found::Lost => {}
        }
        self.process(node).sessions.insert(issue, WatchedSession::new(floor, found));
        Ok(())
    }

    fn refused(
        &mut self,
        node: usize,
        issue: usize,
        error: &SessionError,
        alone: bool,
    ) -> Result<(), Violation> {
        let deferred = self.process(node).deferred;
        let session = self.session(node, issue);
        let phase = session.stands.as_ref().map(|stands| stands.phase);
        session.refused = Some(error.clone()).filter(|_| alone && !deferred);
        match error {
            SessionError::Element(ElementError::Unavailable(_)) | SessionError::EpochsUsedUp => Ok(()),
            // A disk from before a root was erased was put back.
            SessionError::Element(ElementError::NoSuchRoot) => Ok(()),
            SessionError::NotActive(_) if phase != Some(Phase::Established) => Ok(()),
            error => violated(
                Invariant::RefusalsChangeNothing,
                format!("node {node} did nothing wrong, and its session refuses: {error}"),
            ),
        }
    }

    fn nothing_after_a_refusal(&mut self, node: usize, issue: usize) -> Result<(), Violation> {
        match &self.session(node, issue).refused {
            Some(error) => violated(
                Invariant::RefusalsChangeNothing,
                format!("the session of node {node} refused ({error}) and there is still something to do"),
            ),
            None => Ok(()),
        }
    }

    fn place_written(
        &mut self,
        now: Duration,
        node: usize,
        issue: usize,
        (run, epoch): (u32, u32),
    ) -> Result<(), Violation> {
        let process = self.nodes[node].process.as_ref();
        // A place that is moved on while the node is switched off stays one of its start.
        let switched_off = process.is_none();
        let starting = process.is_some_and(|process| process.starting);
        if starting && self.is_outdated(node, issue) {
            return violated(
                Invariant::OldImageRecognised,
                format!("node {node} takes a place that its element's counter says is old"),
            );
        }
        if !switched_off && !starting {
            self.nothing_after_a_refusal(node, issue)?;
            self.proven(now, node, Some(epoch));
        }
        let written_in = self.nodes[node].counted.unwrap_or(0) + u64::from(starting);
        if let Some(noted) = self.nodes[node]
            .process
            .as_mut()
            .and_then(|process| process.sessions.get_mut(&issue))
            .and_then(|session| session.noted.take())
        {
            self.found_back(now, node, issue, &noted)?;
        }
        let known = self.known(node, issue);
        if (run, rank(epoch)) < (known.run, rank(known.epoch)) {
            let before = known.epoch;
            return violated(
                Invariant::EpochsNeverGoBack,
                format!("node {node} writes epoch {epoch} after {before}"),
            );
        }
        (known.run, known.epoch) = (run, epoch);
        if !switched_off {
            known.written_in = written_in;
        }
        Ok(())
    }

    fn stands(&mut self, now: Duration, node: usize, issue: usize, stands: &Stands) -> Result<(), Violation> {
        let known = self.known(node, issue);
        let (durable, lost) = (known.epoch, known.lost);
        let members = self.issues[issue].members.len();
        let session = self.session(node, issue);
        let session_was_without_place = lost || session.found == Found::RolledBack;
        phase_is_allowed(node, session, stands, durable)?;
        epoch_is_durable(node, stands, durable)?;
        if let Some(error) = &session.refused
            && let Some(before) = &session.stands
            && *error != SessionError::EpochsUsedUp
            && (before.phase, before.epoch) != (stands.phase, stands.epoch)
        {
            return violated(
                Invariant::RefusalsChangeNothing,
                format!("the session of node {node} refused ({error}) and is not as it was"),
            );
        }
        if is_lost(stands.phase) && session_was_without_place {
            self.nodes[node].without_place.insert(issue, now);
        }
        let process = self.process(node);
        let by_frame = matches!(process.given, Some(Given::Datagram(_)));
        let (deferred, stranger) = (process.deferred, by_frame && !process.authentic && !process.deferred);
        let session = self.session(node, issue);
        state_is_bounded(node, session, stands, members, (deferred, stranger))?;
        session.stands = Some(stands.clone());
        Ok(())
    }
}

impl Known {
    fn installed(active: bool, written_in: u64) -> Self {
        Self {
            run: 0,
            epoch: NO_EPOCH,
            lost: false,
            active,
            erased: false,
            written_in,
            delivered: HashSet::new(),
        }
    }
}

impl WatchedSession {
    fn new(floor: u32, found: Found) -> Self {
        Self { floor, found, stands: None, refused: None, noted: None, unproven: VecDeque::new() }
    }
}

fn is_lost(phase: Phase) -> bool {
    matches!(phase, Phase::WithoutPlace | Phase::RolledBack | Phase::Resyncing)
}

fn name(issue: usize, header: &Header) -> FrameName {
    (issue, header.tag.0, header.sender, header.epoch, header.salt, header.counter)
}

/// Orders epochs, with "none yet" below all others.
fn rank(epoch: u32) -> u32 {
    epoch.wrapping_add(1)
}

fn violated(invariant: Invariant, seen: String) -> Result<(), Violation> {
    Err(Violation::new(invariant, seen))
}

const SECOND: Duration = Duration::from_secs(1);
