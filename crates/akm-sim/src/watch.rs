use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use akm_core::element::ElementError;
use akm_core::frame::{FrameKind, Header};
use akm_core::session::{Event, Footprint, Phase, Rejection, SessionError};
use akm_core::tree::{LAST_EPOCH, NO_EPOCH};

use crate::happening::{Delivered, Found, Given, Happening, Stands};
use crate::invariant::{Invariant, Violation};
use crate::tally::Tally;

/// Sender, epoch, salt and counter of a frame of a relationship: with the sender's key this is key and
/// nonce, so it names the frame.
type FrameName = (usize, u16, u32, u64, u32);

/// Sees everything that happens in a world, and says when an invariant does not hold.
#[derive(Debug)]
pub struct Watch {
    /// The members of each relationship, by index.
    members: Vec<Vec<usize>>,
    sent: HashMap<FrameName, Sent>,
    salts: HashMap<(usize, u16, u32), BTreeSet<u64>>,
    /// Relationship and sender: when it last made a frame in an epoch that knows it under two salts.
    second_salt: HashMap<(usize, u16), Duration>,
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
    kind: FrameKind,
    body: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct WatchedNode {
    identity: usize,
    /// How often its element has counted; `None` if it has no counter.
    counted: Option<u64>,
    disk: BTreeMap<usize, Lineage>,
    /// What was known of the disk when each image was made.
    images: Vec<BTreeMap<usize, Lineage>>,
    process: Option<WatchedProcess>,
}

/// What a node's disk knows of a relationship, as it should be. An image of the disk has a copy, so a
/// disk from an image is held to what that image knew and to no more: frames heard since then may
/// be accepted once more, as section 0 of the protocol says.
#[derive(Clone, Debug)]
struct Lineage {
    epoch: u32,
    active: bool,
    /// The start during which the place was written.
    written_in: u64,
    delivered: HashSet<FrameName>,
}

#[derive(Clone, Debug, Default)]
struct WatchedProcess {
    starting: bool,
    sessions: BTreeMap<usize, WatchedSession>,
}

#[derive(Clone, Debug)]
struct WatchedSession {
    /// The durable epoch at the start.
    floor: u32,
    found: Found,
    stands: Option<Stands>,
    given: Option<Given>,
    refused: Option<SessionError>,
    /// Whether something of this input authenticated.
    authentic: bool,
    /// Epochs of which nothing authenticated that the element was asked for, in the last second.
    unproven: VecDeque<(Duration, u32)>,
}

impl Watch {
    /// A watch over relationships with these members.
    pub fn new(members: Vec<Vec<usize>>) -> Self {
        Self {
            members,
            sent: HashMap::new(),
            salts: HashMap::new(),
            second_salt: HashMap::new(),
            nodes: Vec::new(),
            since: Duration::ZERO,
            heard: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// A node was provisioned with these relationships, each active or staged.
    pub fn provisioned(&mut self, identity: usize, counter: bool, relationships: &[(usize, bool)]) {
        let lineage = |active| Lineage { epoch: NO_EPOCH, active, written_in: 0, delivered: HashSet::new() };
        let disk = relationships.iter().map(|(number, active)| (*number, lineage(*active))).collect();
        self.nodes.push(WatchedNode {
            identity,
            counted: counter.then_some(0),
            disk,
            ..WatchedNode::default()
        });
    }

    /// An image of a node's disk was made.
    pub fn imaged(&mut self, node: usize) {
        let image = self.nodes[node].disk.clone();
        self.nodes[node].images.push(image);
    }

    /// An image was put back.
    pub fn restored(&mut self, node: usize, image: usize) {
        self.nodes[node].disk = self.nodes[node].images[image].clone();
    }

    /// A copy of a node was made.
    pub fn cloned(&mut self, node: usize) {
        let copy = WatchedNode { process: None, images: Vec::new(), ..self.nodes[node].clone() };
        self.nodes.push(copy);
    }

    /// From this time on it counts who hears whom.
    pub fn listen(&mut self, since: Duration) {
        self.since = since;
        self.heard.clear();
    }

    /// When a node first accepted a frame of a member that was made since [`Watch::listen`].
    pub fn heard(&self, relationship: usize, from: usize, to: usize) -> Option<Duration> {
        self.heard.get(&(relationship, from, to)).copied()
    }

    /// Whether a member, since [`Watch::listen`], made a frame in an epoch in which it had made frames
    /// under another salt before: only where its disk went back or it was cloned.
    pub fn spoke_under_second_salt(&self, relationship: usize, sender: usize) -> bool {
        let index = self.index(relationship, sender);
        self.second_salt.get(&(relationship, index)).is_some_and(|at| *at >= self.since)
    }

    /// Whether the place of a relationship at a node is older than the element's counter allows.
    fn is_outdated(&self, node: usize, relationship: usize) -> bool {
        let node = &self.nodes[node];
        node.counted.is_some_and(|counted| node.disk[&relationship].written_in < counted)
    }

    fn index(&self, relationship: usize, identity: usize) -> u16 {
        let members = &self.members[relationship];
        members.iter().position(|member| *member == identity).expect("it is a member") as u16
    }

    /// Looks at one thing that happened, and at what it does to the invariants.
    pub fn see(&mut self, now: Duration, node: usize, happening: &Happening) -> Result<(), Violation> {
        self.tally.count(happening);
        match happening {
            Happening::Starts => {
                self.nodes[node].process =
                    Some(WatchedProcess { starting: true, ..WatchedProcess::default() });
            }
            Happening::Found { relationship, found } => self.found(node, *relationship, *found)?,
            Happening::Counted { count } => {
                self.nodes[node].counted = *count;
                self.process(node).starting = false;
            }
            Happening::Died | Happening::DidNotStart { .. } => self.nodes[node].process = None,
            Happening::Unclaimed => {}
            Happening::Given { relationship, what } => {
                let session = self.session(node, *relationship);
                (session.given, session.refused, session.authentic) = (Some(*what), None, false);
            }
            Happening::Refused { relationship, error } => self.refused(node, *relationship, error)?,
            Happening::PlaceWritten { relationship, epoch, .. } => {
                self.place_written(now, node, *relationship, *epoch)?;
            }
            Happening::ActiveWritten { relationship } => {
                self.nothing_after_a_refusal(node, *relationship)?;
                self.lineage(node, *relationship).active = true;
            }
            Happening::NotWritten { relationship } => self.proven(now, node, *relationship),
            Happening::Sent { relationship, header, kind, body } => {
                self.sent(now, node, *relationship, header, *kind, body)?;
            }
            Happening::Delivered { relationship, header, delivery } => {
                self.delivered(now, node, *relationship, header, delivery)?;
            }
            Happening::Told { relationship, event } => {
                self.nothing_after_a_refusal(node, *relationship)?;
                if let Event::Rejected { reason: Rejection::UnexpectedKind, .. } = event {
                    self.session(node, *relationship).authentic = true;
                }
            }
            Happening::Stands { relationship, stands } => self.stands(now, node, *relationship, stands)?,
        }
        Ok(())
    }

    fn process(&mut self, node: usize) -> &mut WatchedProcess {
        self.nodes[node].process.as_mut().expect("what happens, happens in a process")
    }

    fn session(&mut self, node: usize, relationship: usize) -> &mut WatchedSession {
        self.process(node).sessions.get_mut(&relationship).expect("it was found at the start")
    }

    fn lineage(&mut self, node: usize, relationship: usize) -> &mut Lineage {
        self.nodes[node].disk.get_mut(&relationship).expect("the node was provisioned with it")
    }

    fn found(&mut self, node: usize, relationship: usize, found: Found) -> Result<(), Violation> {
        let outdated = self.is_outdated(node, relationship);
        let lineage = self.lineage(node, relationship);
        let (floor, active) = (lineage.epoch, lineage.active);
        match found {
            Found::Good { .. } if outdated => {
                return violated(
                    Invariant::OldImageRecognised,
                    format!("node {node} takes a place that its element's counter says is old"),
                );
            }
            Found::Good { epoch, .. } if epoch != floor => {
                return violated(
                    Invariant::EpochsNeverGoBack,
                    format!("node {node} starts at epoch {epoch} and had written {floor}"),
                );
            }
            Found::Good { active: false, .. } if active => {
                return violated(
                    Invariant::PhasesAlongEdges,
                    format!("node {node} starts with a staged relationship that was active"),
                );
            }
            Found::Lost => {
                return violated(Invariant::NoPlaceLost, format!("node {node} finds no place"));
            }
            Found::RolledBack if !outdated => {
                return violated(
                    Invariant::NoPlaceLost,
                    format!("node {node} takes its latest place for an old one"),
                );
            }
            Found::Good { .. } | Found::RolledBack => {}
        }
        let session = WatchedSession {
            floor,
            found,
            stands: None,
            given: None,
            refused: None,
            authentic: false,
            unproven: VecDeque::new(),
        };
        self.process(node).sessions.insert(relationship, session);
        Ok(())
    }

    fn refused(&mut self, node: usize, relationship: usize, error: &SessionError) -> Result<(), Violation> {
        let session = self.session(node, relationship);
        let phase = session.stands.as_ref().map(|stands| stands.phase);
        session.refused = Some(error.clone());
        match error {
            SessionError::Element(ElementError::Unavailable(_)) | SessionError::EpochsUsedUp => Ok(()),
            SessionError::NotActive(_) if phase != Some(Phase::Established) => Ok(()),
            error => violated(
                Invariant::RefusalsChangeNothing,
                format!("node {node} did nothing wrong, and its session refuses: {error}"),
            ),
        }
    }

    fn nothing_after_a_refusal(&mut self, node: usize, relationship: usize) -> Result<(), Violation> {
        match &self.session(node, relationship).refused {
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
        relationship: usize,
        epoch: u32,
    ) -> Result<(), Violation> {
        let process = self.nodes[node].process.as_ref();
        // A place that is moved on while the node is switched off stays one of its start.
        let switched_off = process.is_none();
        let starting = process.is_some_and(|process| process.starting);
        if !switched_off && !starting {
            self.nothing_after_a_refusal(node, relationship)?;
            self.proven(now, node, relationship);
        }
        let written_in = self.nodes[node].counted.unwrap_or(0) + u64::from(starting);
        let lineage = self.lineage(node, relationship);
        if rank(epoch) < rank(lineage.epoch) {
            let before = lineage.epoch;
            return violated(
                Invariant::EpochsNeverGoBack,
                format!("node {node} writes epoch {epoch} after {before}"),
            );
        }
        lineage.epoch = epoch;
        if !switched_off {
            lineage.written_in = written_in;
        }
        Ok(())
    }

    /// A frame authenticated: if the element was asked for its epoch, that call counts no more.
    fn proven(&mut self, now: Duration, node: usize, relationship: usize) {
        let Some(session) =
            self.process(node).sessions.get_mut(&relationship).filter(|session| session.given.is_some())
        else {
            return;
        };
        session.authentic = true;
        if let Some(Given::Frame(header)) = session.given
            && let Some(at) = session.unproven.iter().rposition(|(_, epoch)| *epoch == header.epoch)
        {
            session.unproven.remove(at);
        }
        session.unproven.retain(|(asked, _)| *asked + SECOND > now);
    }

    fn sent(
        &mut self,
        now: Duration,
        node: usize,
        relationship: usize,
        header: &Header,
        kind: FrameKind,
        body: &[u8],
    ) -> Result<(), Violation> {
        self.nothing_after_a_refusal(node, relationship)?;
        let identity = self.nodes[node].identity;
        let Header { sender, epoch, salt, counter, .. } = *header;
        let sent = Sent { at: now, kind, body: body.to_vec() };
        if self.sent.insert(name(relationship, header), sent).is_some() {
            return violated(
                Invariant::NoKeyAndNonceTwice,
                format!(
                    "member {sender} makes two frames in epoch {epoch}, salt {salt:016x}, counter {counter}"
                ),
            );
        }
        let salts = self.salts.entry((relationship, sender, epoch)).or_default();
        salts.insert(salt);
        if salts.len() > 1 {
            self.second_salt.insert((relationship, sender), now);
        }
        let index = self.index(relationship, identity);
        let lineage = self.lineage(node, relationship);
        if lineage.epoch != epoch || !lineage.active || sender != index {
            let (durable, active) = (lineage.epoch, lineage.active);
            return violated(
                Invariant::DurableBeforeUse,
                format!("node {node} sends in epoch {epoch}; durable is {durable}, active: {active}"),
            );
        }
        Ok(())
    }

    fn delivered(
        &mut self,
        now: Duration,
        node: usize,
        relationship: usize,
        header: &Header,
        delivery: &Delivered,
    ) -> Result<(), Violation> {
        self.nothing_after_a_refusal(node, relationship)?;
        let epoch = header.epoch;
        let session = self.session(node, relationship);
        session.authentic = true;
        let floor = session.floor;
        if rank(epoch) <= rank(floor) {
            return violated(
                Invariant::NothingFromBeforeTheStart,
                format!("node {node} accepts a frame of epoch {epoch} and had {floor} when it started"),
            );
        }
        let lineage = self.lineage(node, relationship);
        if rank(epoch) > rank(lineage.epoch) || !lineage.active {
            let (durable, active) = (lineage.epoch, lineage.active);
            return violated(
                Invariant::DurableBeforeUse,
                format!(
                    "node {node} accepts a frame of epoch {epoch}; durable is {durable}, active: {active}"
                ),
            );
        }
        let Delivered { from, index, kind, payload } = delivery;
        let name = name(relationship, header);
        let sender = self.members[relationship].get(usize::from(header.sender)).copied();
        let sent = self.sent.get(&name).filter(|sent| {
            sent.kind == *kind && sent.body == *payload && sender == Some(*from) && *index == header.sender
        });
        let Some(sent) = sent else {
            return violated(
                Invariant::NothingDeliveredThatNoMemberSent,
                format!(
                    "node {node} accepts \"{}\" of node {from}, which sent no such thing",
                    payload.escape_ascii()
                ),
            );
        };
        let fresh = sent.at >= self.since;
        if !self.lineage(node, relationship).delivered.insert(name) {
            return violated(
                Invariant::NothingDeliveredTwice,
                format!("node {node} accepts \"{}\" of node {from} again", payload.escape_ascii()),
            );
        }
        if fresh {
            self.heard.entry((relationship, *from, node)).or_insert(now);
        }
        Ok(())
    }

    fn stands(
        &mut self,
        now: Duration,
        node: usize,
        relationship: usize,
        stands: &Stands,
    ) -> Result<(), Violation> {
        let durable = self.lineage(node, relationship).epoch;
        let members = self.members[relationship].len();
        let session = self.session(node, relationship);
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
        state_is_bounded(node, session, stands, members)?;
        element_is_spared(now, node, session, stands)?;
        session.stands = Some(stands.clone());
        Ok(())
    }
}

fn phase_is_allowed(
    node: usize,
    session: &WatchedSession,
    stands: &Stands,
    durable: u32,
) -> Result<(), Violation> {
    let to = stands.phase;
    let allowed = match &session.stands {
        None => match session.found {
            Found::Lost => to == Phase::WithoutPlace,
            Found::RolledBack => to == Phase::RolledBack,
            Found::Good { active: false, .. } => to == Phase::Staged,
            Found::Good { .. } if durable == LAST_EPOCH => to == Phase::UsedUp,
            Found::Good { .. } => to == Phase::Established,
        },
        Some(before) => match before.phase {
            // The frame that makes it active may be of the last epoch.
            Phase::Staged => matches!(to, Phase::Staged | Phase::Established | Phase::UsedUp),
            Phase::Established => matches!(to, Phase::Established | Phase::UsedUp),
            phase => to == phase,
        },
    };
    if allowed {
        return Ok(());
    }
    let from = session.stands.as_ref().map(|before| before.phase);
    violated(Invariant::PhasesAlongEdges, format!("node {node} goes from {from:?} to {to:?}"))
}

fn epoch_is_durable(node: usize, stands: &Stands, durable: u32) -> Result<(), Violation> {
    let epoch = stands.epoch;
    if matches!(stands.phase, Phase::WithoutPlace | Phase::RolledBack) || epoch == durable {
        return Ok(());
    }
    let invariant =
        if rank(epoch) < rank(durable) { Invariant::EpochsNeverGoBack } else { Invariant::DurableBeforeUse };
    violated(invariant, format!("node {node} is in epoch {epoch} and durable is {durable}"))
}

fn state_is_bounded(
    node: usize,
    session: &WatchedSession,
    stands: &Stands,
    members: usize,
) -> Result<(), Violation> {
    let Footprint { open_epochs, senders, heard, unproven, element_calls, queued, buffers, buffer_bytes } =
        stands.footprint;
    let others = members - 1;
    let fits = open_epochs <= OPEN_EPOCHS
        && senders <= open_epochs * others
        && heard <= others
        && unproven <= UNPROVEN
        && element_calls <= CALLS
        && queued == 0
        && buffers <= BUFFERS
        && buffer_bytes <= BUFFERS * BUFFER_BYTES;
    if !fits {
        return violated(
            Invariant::StateBounded,
            format!("node {node} of {members} members holds {:?}", stands.footprint),
        );
    }
    let stranger = matches!(session.given, Some(Given::Frame(_))) && !session.authentic;
    let grew = session.stands.as_ref().filter(|_| stranger).is_some_and(|before| {
        open_epochs > before.footprint.open_epochs
            || senders > before.footprint.senders
            || heard > before.footprint.heard
            || stands.host_bytes > before.host_bytes
    });
    if grew {
        return violated(
            Invariant::StateBounded,
            format!("a frame that did not authenticate stays at node {node}: {stands:?}"),
        );
    }
    Ok(())
}

fn element_is_spared(
    now: Duration,
    node: usize,
    session: &mut WatchedSession,
    stands: &Stands,
) -> Result<(), Violation> {
    if stands.asked.len() > 1 {
        return violated(
            Invariant::ElementSpared,
            format!("node {node} asks its element for {:?} because of one input", stands.asked),
        );
    }
    if let Some(Given::Frame(_)) = session.given
        && !session.authentic
    {
        session.unproven.retain(|(asked, _)| *asked + SECOND > now);
        session.unproven.extend(stands.asked.iter().map(|epoch| (now, *epoch)));
        if session.unproven.len() > CALLS {
            return violated(
                Invariant::ElementSpared,
                format!(
                    "node {node} asks its element {} times in a second for nothing",
                    session.unproven.len()
                ),
            );
        }
    }
    Ok(())
}

fn name(relationship: usize, header: &Header) -> FrameName {
    (relationship, header.sender, header.epoch, header.salt, header.counter)
}

/// Orders epochs, with "none yet" below all others.
fn rank(epoch: u32) -> u32 {
    epoch.wrapping_add(1)
}

fn violated(invariant: Invariant, seen: String) -> Result<(), Violation> {
    Err(Violation::new(invariant, seen))
}

const SECOND: Duration = Duration::from_secs(1);

/// The current epoch and four closed ones.
const OPEN_EPOCHS: usize = 5;

/// Epochs that a header named and nothing proved.
const UNPROVEN: usize = 4;

/// Calls of the element in a second for such epochs.
const CALLS: usize = 10;

/// Buffers that are used again, and the one that was handed out.
const BUFFERS: usize = 5;

/// A buffer grows by doubling, and holds a frame of at most this many bytes.
const BUFFER_BYTES: usize = 2 * 1452;
