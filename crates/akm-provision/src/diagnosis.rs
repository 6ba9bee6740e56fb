//! Why two nodes do not reach each other: asks both, compares, and names the causes. What to do about one is for whoever
//! shows it, out of its fields.

use akm_core::management::{NodeIdentity, Outcome, RelationshipStatus, ReportAnswer};
use akm_core::session::{Phase, Rejection};

use crate::ceremony::asks_for_element;
use crate::error::Error;
use crate::link::{Link, LinkError};
use crate::names::Name;
use crate::store::{MemberState, Node, NodeStatus, Relationship, Store};

/// A frame is on its way for at most so many seconds.
const UNDER_WAY: u64 = 2;

/// Why A and B do not reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The machine answers, and the stack does not run there.
    NotRunning,
    /// Nobody answers, or datagrams do not arrive.
    Unreachable,
    /// The element does not do its part.
    ElementGone,
    /// They are in no ASR together.
    NoCommonRelationship,
    /// It is no member, or does not hold the ASR.
    NotAMember,
    /// They are not in the same generation, or it is not active at both.
    GenerationParked,
    /// Its place is older than its element allows.
    RolledBack,
    /// Its place is lost, or its record damaged.
    WithoutPlace,
    /// Two devices run on the state of one member.
    PossibleClone,
    /// No epoch is left.
    EpochsUsedUp,
    /// It has sent nothing since its start.
    NothingSent,
}

impl Cause {
    /// The name that the operator reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotRunning => "not running",
            Self::Unreachable => "unreachable",
            Self::ElementGone => "element gone",
            Self::NoCommonRelationship => "no common relationship",
            Self::NotAMember => "not a member",
            Self::GenerationParked => "generation parked",
            Self::RolledBack => "rolled back",
            Self::WithoutPlace => "without place",
            Self::PossibleClone => "possible clone",
            Self::EpochsUsedUp => "epochs used up",
            Self::NothingSent => "nothing sent",
        }
    }
}

/// One thing that stands between two nodes.
#[derive(Debug)]
pub enum Finding {
    /// Of a node as a whole.
    Node {
        /// The node.
        node: Name,
        /// What is wrong with it.
        trouble: OfNode,
    },
    /// Of an ASR at one node.
    Member {
        /// The node.
        node: Name,
        /// The ASR.
        asr: Name,
        /// What is wrong with it there.
        trouble: OfMember,
    },
    /// Between the two, in no ASR or in all.
    Pair {
        /// Both nodes.
        nodes: [Name; 2],
        /// What is between them.
        trouble: OfPair,
    },
    /// In an ASR, on the way from one to the other.
    Way {
        /// The ASR.
        asr: Name,
        /// Who is not heard.
        from: Name,
        /// Who does not hear.
        to: Name,
        /// For so many seconds: since it last heard, or since it started.
        silence: u64,
        /// What is known of the way.
        trouble: OfWay,
    },
}

/// What is wrong with a node as a whole.
#[derive(Debug)]
pub enum OfNode {
    /// It is not active at this module.
    NotActive {
        /// Where it stands.
        status: NodeStatus,
    },
    /// Its machine answers, and nobody listens there.
    NobodyListens {
        /// Where.
        endpoint: String,
        /// What the system said.
        reason: String,
        /// The target.
        target: String,
    },
    /// The module cannot reach it.
    NotReached {
        /// Where.
        endpoint: String,
        /// What the system said.
        reason: String,
    },
    /// Whoever answers there does not prove to be the node.
    NotProven {
        /// What came instead.
        why: LinkError,
    },
    /// Its element does not answer.
    Element {
        /// What the stack says of it.
        why: String,
    },
}

/// What is wrong with an ASR at a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfMember {
    /// The node is no member.
    NotListed,
    /// It is a member, and does not hold the ASR.
    NotHeld,
    /// It has not got this generation yet.
    Parked {
        /// The generation.
        generation: u32,
    },
    /// It holds this generation, and was not told to begin it.
    NotActivated {
        /// The generation.
        generation: u32,
    },
    /// It has no place there.
    WithoutPlace(WithoutPlace),
    /// Its place is from an older image of its disk.
    RolledBack {
        /// Whether it has found out where the others are since its start.
        is_back: bool,
    },
    /// No epoch is left.
    UsedUp,
    /// It hears two devices in the name of one member.
    HearsTwo,
}

/// Why a member has no place in an ASR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutPlace {
    /// Its record of the ASR is damaged.
    Damaged,
    /// It is lost, and the other members are asked.
    Lost,
}

/// What is between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfPair {
    /// They are in no ASR together.
    NoCommonAsr,
    /// They are in different generations of an ASR.
    Generations {
        /// The ASR.
        asr: Name,
        /// The generation of each.
        generations: [u32; 2],
    },
}

/// What is known of the way from a member to another that does not hear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfWay {
    /// It has sent nothing.
    NothingSent,
    /// It has sent, and that did not arrive.
    NotArrived {
        /// Where to; empty if it does not know where the other is.
        endpoint: String,
        /// So many seconds ago.
        sent: u64,
    },
}

impl Finding {
    /// The cause that it is a case of.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Node { trouble, .. } => match trouble {
                OfNode::NotActive { .. } | OfNode::NobodyListens { .. } => Cause::NotRunning,
                OfNode::NotReached { .. } => Cause::Unreachable,
                OfNode::NotProven { .. } => Cause::NotAMember,
                OfNode::Element { .. } => Cause::ElementGone,
            },
            Self::Member { trouble, .. } => match trouble {
                OfMember::NotListed | OfMember::NotHeld => Cause::NotAMember,
                OfMember::Parked { .. } | OfMember::NotActivated { .. } => Cause::GenerationParked,
                OfMember::WithoutPlace(_) => Cause::WithoutPlace,
                OfMember::RolledBack { .. } => Cause::RolledBack,
                OfMember::UsedUp => Cause::EpochsUsedUp,
                OfMember::HearsTwo => Cause::PossibleClone,
            },
            Self::Pair { trouble, .. } => match trouble {
                OfPair::NoCommonAsr => Cause::NoCommonRelationship,
                OfPair::Generations { .. } => Cause::GenerationParked,
            },
            Self::Way { trouble, .. } => match trouble {
                OfWay::NothingSent => Cause::NothingSent,
                OfWay::NotArrived { .. } => Cause::Unreachable,
            },
        }
    }

    /// The ASR that it is about; `None` where it is about nodes as a whole.
    pub fn asr(&self) -> Option<&Name> {
        match self {
            Self::Member { asr, .. }
            | Self::Way { asr, .. }
            | Self::Pair { trouble: OfPair::Generations { asr, .. }, .. } => Some(asr),
            Self::Node { .. } | Self::Pair { .. } => None,
        }
    }
}

/// What was asked of one of the two.
struct Side<'a> {
    node: &'a Node,
    link: Option<Link<'a>>,
    identity: Option<NodeIdentity>,
    held: Vec<RelationshipStatus>,
}

/// Looks for the causes for which two nodes do not reach each other, in one ASR or in all that they have in common.
/// Nothing found: as far as both tell, they do.
pub fn diagnose(store: &Store, nodes: [&Node; 2], asr: Option<&Relationship>) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let asrs = common(store, nodes, asr, &mut findings)?;
    let mut sides = Vec::new();
    // Nodes are locked in one order by all commands, so that no two wait for each other.
    let mut by_id = nodes;
    by_id.sort_by_key(|node| node.id);
    for node in by_id {
        sides.push(ask(store, node, &mut findings)?);
    }
    for (asr, name) in &asrs {
        let mut standings = Vec::new();
        for side in &sides {
            standings.push(standing(asr, name, side, &mut findings));
        }
        if let [Some(one), Some(other)] = standings[..]
            && one.generation != other.generation
        {
            let generations = [one.generation, other.generation];
            let trouble = OfPair::Generations { asr: name.clone(), generations };
            findings.push(Finding::Pair { nodes: names(by_id), trouble });
        }
        // Where one of them does not send, or not in the generation of the other, silence follows from that.
        let could_talk = match standings[..] {
            [Some(one), Some(other)] => {
                one.generation == other.generation
                    && [one, other].iter().all(|at| at.phase == Phase::Established)
            }
            _ => false,
        };
        if let [one, other] = &mut sides[..] {
            listen((asr, name), one, other, could_talk, &mut findings)?;
            listen((asr, name), other, one, could_talk, &mut findings)?;
        }
    }
    findings.sort_by_key(Finding::cause);
    Ok(findings)
}

fn names(nodes: [&Node; 2]) -> [Name; 2] {
    nodes.map(|node| node.name.clone())
}

/// The ASRs to look at, with their names.
fn common(
    store: &Store,
    nodes: [&Node; 2],
    asr: Option<&Relationship>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<(Relationship, Name)>, Error> {
    let named = |asr: Relationship| asr.name.clone().map(|name| (asr, name));
    if let Some((asr, name)) = asr.cloned().and_then(named) {
        let mut are_both = true;
        for node in nodes.iter().filter(|node| asr.sds.index_of(node.id).is_none()) {
            let (node, asr) = (node.name.clone(), name.clone());
            findings.push(Finding::Member { node, asr, trouble: OfMember::NotListed });
            are_both = false;
        }
        return Ok(are_both.then_some((asr, name)).into_iter().collect());
    }
    let all = store.asrs_of_node(nodes[0].id)?.into_iter();
    let common: Vec<_> =
        all.filter(|asr| asr.sds.index_of(nodes[1].id).is_some()).filter_map(named).collect();
    if common.is_empty() {
        findings.push(Finding::Pair { nodes: names(nodes), trouble: OfPair::NoCommonAsr });
    }
    Ok(common)
}

fn ask<'a>(store: &'a Store, node: &'a Node, findings: &mut Vec<Finding>) -> Result<Side<'a>, Error> {
    let mut side = Side { node, link: None, identity: None, held: Vec::new() };
    let mut find = |trouble| findings.push(Finding::Node { node: node.name.clone(), trouble });
    if node.status != NodeStatus::Active {
        find(OfNode::NotActive { status: node.status });
        return Ok(side);
    }
    let answered = Link::open(store, node).and_then(|mut link| {
        let identity = link.identify()?;
        let held = link.status()?;
        Ok((link, identity, held))
    });
    match answered {
        Ok((link, identity, held)) => {
            side.link = Some(link);
            side.identity = Some(identity);
            side.held = held;
        }
        Err(LinkError::Refused { outcome: Outcome::Element, reason, .. }) => {
            find(OfNode::Element { why: reason });
        }
        Err(LinkError::Unreachable { refused: true, reason, endpoint, .. }) => {
            find(match asks_for_element(node) {
                Some(why) => OfNode::Element { why },
                None => OfNode::NobodyListens { endpoint, reason, target: node.target.to_string() },
            });
        }
        Err(LinkError::Unreachable { reason, endpoint, .. }) => {
            find(OfNode::NotReached { endpoint, reason });
        }
        Err(why @ LinkError::Silent { .. }) => {
            find(match asks_for_element(node) {
                Some(why) => OfNode::Element { why },
                None => OfNode::NotProven { why },
            });
        }
        Err(error) => return Err(error.into()),
    }
    Ok(side)
}

/// How an ASR stands at one side, with what is wrong with it there; `None` if it is not held or not known.
fn standing(
    asr: &Relationship,
    name: &Name,
    side: &Side<'_>,
    findings: &mut Vec<Finding>,
) -> Option<RelationshipStatus> {
    let node = side.node;
    let mut find = |trouble| {
        findings.push(Finding::Member { node: node.name.clone(), asr: name.clone(), trouble });
    };
    let lacks = asr.members.iter().any(|member| {
        member.node == node.id && matches!(member.state, MemberState::Pending | MemberState::Installed)
    });
    let held = side.held.iter().find(|status| status.relationship == asr.id()).copied();
    // Who sends and receives in an earlier generation is well with all that do.
    if lacks && held.is_none_or(|status| status.phase != Phase::Established) {
        find(OfMember::Parked { generation: asr.sds.generation() });
    }
    side.identity.as_ref()?;
    let Some(status) = held else {
        if !lacks {
            find(OfMember::NotHeld);
        }
        return None;
    };
    match status.phase {
        _ if status.generation == 0 => {
            find(OfMember::WithoutPlace(WithoutPlace::Damaged));
            return None;
        }
        Phase::RolledBack => find(OfMember::RolledBack { is_back: false }),
        Phase::WithoutPlace | Phase::Resyncing => find(OfMember::WithoutPlace(WithoutPlace::Lost)),
        Phase::UsedUp => find(OfMember::UsedUp),
        Phase::Staged if !lacks => find(OfMember::NotActivated { generation: status.highest }),
        Phase::Staged | Phase::Established | Phase::Erased => {}
    }
    Some(status)
}

/// What one side hears of the other, and if it could: whether it hears it.
fn listen(
    (asr, name): (&Relationship, &Name),
    hearer: &mut Side<'_>,
    sender: &mut Side<'_>,
    could_talk: bool,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let (to, from) = (hearer.node, sender.node);
    let Some(hears) = report(hearer, asr, from)? else { return Ok(()) };
    let says = if could_talk { report(sender, asr, to)? } else { None };
    let mut find = |trouble| {
        findings.push(Finding::Member { node: to.name.clone(), asr: name.clone(), trouble });
    };
    let rejected =
        |reason: &str| hears.rejected.iter().find(|(name, _)| name == reason).map_or(0, |(_, n)| *n);
    // Frames in its own name tell nothing: anybody can send a node what it sent.
    if rejected(Rejection::PossibleClone.name()) > 0 {
        find(OfMember::HearsTwo);
    }
    if hears.rolled_back {
        find(OfMember::RolledBack { is_back: true });
    }
    let Some(says) = says else { return Ok(()) };
    // What was sent before the hearer started cannot have been heard.
    let heard = hears.heard.unwrap_or(hears.up);
    let trouble = match says.sent_ago {
        Some(sent) if sent + UNDER_WAY < heard => OfWay::NotArrived { endpoint: says.endpoint, sent },
        _ if hears.heard.is_none() => OfWay::NothingSent,
        _ => return Ok(()),
    };
    let (asr, from, to) = (name.clone(), from.name.clone(), to.name.clone());
    findings.push(Finding::Way { asr, from, to, silence: heard, trouble });
    Ok(())
}

fn report(side: &mut Side<'_>, asr: &Relationship, member: &Node) -> Result<Option<ReportAnswer>, Error> {
    let Some(link) = &mut side.link else { return Ok(None) };
    match link.report(asr.id(), member.id) {
        Ok(answer) => Ok(Some(answer)),
        Err(LinkError::Refused { outcome: Outcome::NotHeld | Outcome::Unsupported, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
