//! Why two nodes do not reach each other: asks both, compares, and names the cause and what to do.

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
    /// Their stacks are of different versions.
    VersionMismatch,
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
            Self::VersionMismatch => "version mismatch",
            Self::NothingSent => "nothing sent",
        }
    }
}

/// One cause, where it is, and what to do.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The cause.
    pub cause: Cause,
    /// The ASR that it is about; absent where it is about a node as a whole.
    pub asr: Option<Name>,
    /// What was found.
    pub what: String,
    /// What to do.
    pub cure: String,
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
    let nodes = by_id;
    let versions: Vec<_> = sides.iter().filter_map(|side| side.identity.as_ref()).collect();
    if let [one, other] = versions[..]
        && one.stack_version != other.stack_version
    {
        findings.push(Finding {
            cause: Cause::VersionMismatch,
            asr: None,
            what: format!(
                "the stack of {} is of version {}, that of {} of version {}",
                nodes[0].name, one.stack_version, nodes[1].name, other.stack_version
            ),
            cure: "install the same stack on both; CHANGELOG.md says what can talk to what".to_owned(),
        });
    }
    for asr in &asrs {
        let mut standings = Vec::new();
        for side in &sides {
            standings.push(standing(asr, side, &mut findings));
        }
        if let [Some(one), Some(other)] = standings[..]
            && one.generation != other.generation
        {
            findings.push(Finding {
                cause: Cause::GenerationParked,
                asr: asr.name.clone(),
                what: format!(
                    "{} is in generation {}, {} in generation {}",
                    nodes[0].name, one.generation, nodes[1].name, other.generation
                ),
                cure: "akm tasks shows what is parked; akm verify --all carries it on".to_owned(),
            });
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
            listen(asr, one, other, could_talk, &mut findings)?;
            listen(asr, other, one, could_talk, &mut findings)?;
        }
    }
    findings.sort_by_key(|finding| finding.cause);
    findings.dedup_by(|one, other| one.cause == other.cause && one.what == other.what);
    Ok(findings)
}

/// The ASRs to look at.
fn common(
    store: &Store,
    nodes: [&Node; 2],
    asr: Option<&Relationship>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Relationship>, Error> {
    if let Some(asr) = asr {
        for node in nodes.iter().filter(|node| asr.sds.index_of(node.id).is_none()) {
            let name = asr.name.as_ref().map(ToString::to_string).unwrap_or_default();
            findings.push(Finding {
                cause: Cause::NotAMember,
                asr: asr.name.clone(),
                what: format!("{} is no member of ASR {name}", node.name),
                cure: format!("akm asr add {name} {}", node.name),
            });
        }
        let both = nodes.iter().all(|node| asr.sds.index_of(node.id).is_some());
        return Ok(both.then(|| asr.clone()).into_iter().collect());
    }
    let all = store.asrs_of_node(nodes[0].id)?;
    let common: Vec<_> = all.into_iter().filter(|asr| asr.sds.index_of(nodes[1].id).is_some()).collect();
    if common.is_empty() {
        findings.push(Finding {
            cause: Cause::NoCommonRelationship,
            asr: None,
            what: format!("{} and {} are in no ASR together", nodes[0].name, nodes[1].name),
            cure: format!("akm asr create NAME {} {}, or akm asr add", nodes[0].name, nodes[1].name),
        });
    }
    Ok(common)
}

fn ask<'a>(store: &'a Store, node: &'a Node, findings: &mut Vec<Finding>) -> Result<Side<'a>, Error> {
    let mut side = Side { node, link: None, identity: None, held: Vec::new() };
    let mut find =
        |cause, what: String, cure: String| findings.push(Finding { cause, asr: None, what, cure });
    if node.status != NodeStatus::Active {
        find(
            Cause::NotRunning,
            format!("{} is {} at this module", node.name, node.status),
            "akm node list shows where each node stands".to_owned(),
        );
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
            find(Cause::ElementGone, format!("{}: {reason}", node.name), cure_of_element(node));
        }
        Err(LinkError::Unreachable { refused: true, reason, endpoint, .. }) => match asks_for_element(node) {
            Some(why) => find(Cause::ElementGone, format!("{}: {why}", node.name), cure_of_element(node)),
            None => find(
                Cause::NotRunning,
                format!("the stack of {} does not run: nobody listens at {endpoint} ({reason})", node.name),
                format!(
                    "start it on the device; what it says there tells why it ended (target {})",
                    node.target
                ),
            ),
        },
        Err(LinkError::Unreachable { reason, endpoint, .. }) => find(
            Cause::Unreachable,
            format!("the module cannot reach {} at {endpoint}: {reason}", node.name),
            "power, network, address, firewall (TCP from the module, UDP between nodes)".to_owned(),
        ),
        Err(error @ LinkError::Silent { .. }) => match asks_for_element(node) {
            Some(why) => find(Cause::ElementGone, format!("{}: {why}", node.name), cure_of_element(node)),
            None => find(
                Cause::NotAMember,
                error.to_string(),
                format!(
                    "another device may be at its address, or its state is lost: akm verify {}",
                    node.name
                ),
            ),
        },
        Err(error) => return Err(error.into()),
    }
    Ok(side)
}

fn cure_of_element(node: &Node) -> String {
    format!("put the element of {} back; if it is lost, akm node replace {} TARGET", node.name, node.name)
}

/// How an ASR stands at one side, with what is wrong with it there; `None` if it is not held or not known.
fn standing(asr: &Relationship, side: &Side<'_>, findings: &mut Vec<Finding>) -> Option<RelationshipStatus> {
    let (node, name) = (side.node, asr.name.as_ref().map(ToString::to_string).unwrap_or_default());
    let mut find = |cause, what: String, cure: String| {
        findings.push(Finding { cause, asr: asr.name.clone(), what, cure });
    };
    let lacks = asr.members.iter().any(|member| {
        member.node == node.id && matches!(member.state, MemberState::Pending | MemberState::Installed)
    });
    let held = side.held.iter().find(|status| status.relationship == asr.id()).copied();
    // Who sends and receives in an earlier generation is well with all that do.
    if lacks && held.is_none_or(|status| status.phase != Phase::Established) {
        find(
            Cause::GenerationParked,
            format!("generation {} of ASR {name} is parked for {}", asr.sds.generation(), node.name),
            format!(
                "akm tasks shows since when; akm verify {} carries it on once it can be reached",
                node.name
            ),
        );
    }
    side.identity.as_ref()?;
    let Some(status) = held else {
        if !lacks {
            find(
                Cause::NotAMember,
                format!("{} does not hold ASR {name}", node.name),
                format!("akm asr remove {name} {0}, then akm asr add {name} {0}", node.name),
            );
        }
        return None;
    };
    let renew = format!("akm asr renew {name}");
    match status.phase {
        _ if status.generation == 0 => {
            find(Cause::WithoutPlace, format!("the record of ASR {name} at {} is damaged", node.name), renew);
            return None;
        }
        Phase::RolledBack => find(
            Cause::RolledBack,
            format!("the place of ASR {name} at {} is from an older image of its disk", node.name),
            format!("find out who put it back; it asks the other members, and else: {renew}"),
        ),
        Phase::WithoutPlace | Phase::Resyncing => find(
            Cause::WithoutPlace,
            format!("{} has no place in ASR {name}, and looks for it at the other members", node.name),
            format!("if none of them has one: {renew}"),
        ),
        Phase::UsedUp => {
            find(Cause::EpochsUsedUp, format!("no epoch of ASR {name} is left at {}", node.name), renew);
        }
        Phase::Staged if !lacks => find(
            Cause::GenerationParked,
            format!("generation {} of ASR {name} waits at {} for its activation", status.highest, node.name),
            format!("akm verify {} carries it on", node.name),
        ),
        Phase::Staged | Phase::Established | Phase::Erased => {}
    }
    Some(status)
}

/// What one side hears of the other, and if it could: whether it hears it.
fn listen(
    asr: &Relationship,
    hearer: &mut Side<'_>,
    sender: &mut Side<'_>,
    could_talk: bool,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let (to, from) = (hearer.node, sender.node);
    let Some(hears) = report(hearer, asr, from)? else { return Ok(()) };
    let says = if could_talk { report(sender, asr, to)? } else { None };
    let name = asr.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut find = |cause, what: String, cure: String| {
        findings.push(Finding { cause, asr: asr.name.clone(), what, cure });
    };
    let rejected =
        |reason: &str| hears.rejected.iter().find(|(name, _)| name == reason).map_or(0, |(_, n)| *n);
    // Frames in its own name tell nothing: anybody can send a node what it sent.
    if rejected(Rejection::PossibleClone.name()) > 0 {
        find(
            Cause::PossibleClone,
            format!("{} hears two devices in the name of one member of ASR {name}", to.name),
            format!("find the copy and switch it off, then: akm asr renew {name} --suspect"),
        );
    }
    if hears.rolled_back {
        find(
            Cause::RolledBack,
            format!(
                "the place of ASR {name} at {} was from an older image of its disk when it started",
                to.name
            ),
            format!("find out who put it back; akm asr renew {name} if it does not find back by itself"),
        );
    }
    let Some(says) = says else { return Ok(()) };
    // What was sent before the hearer started cannot have been heard.
    let heard = hears.heard.unwrap_or(hears.up);
    match says.sent_ago {
        Some(sent) if sent + UNDER_WAY < heard => {
            let at =
                if says.endpoint.is_empty() { "nowhere".to_owned() } else { format!("to {}", says.endpoint) };
            find(
                Cause::Unreachable,
                format!(
                    "{} sent on ASR {name} {at} {sent} s ago, and {} has heard nothing of it for {heard} s",
                    from.name, to.name
                ),
                "UDP from node to node: address, routes, firewall".to_owned(),
            );
        }
        _ if hears.heard.is_none() => find(
            Cause::NothingSent,
            format!("{} has sent nothing on ASR {name} since {} started, {heard} s ago", from.name, to.name),
            format!("akmd send {name} TEXT at {}; who sends nothing is not heard", from.name),
        ),
        _ => {}
    }
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
