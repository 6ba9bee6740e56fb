//! Why two nodes do not reach each other.

use crate::error::CommandError;
use akm_provision::diagnosis::{Finding, OfMember, OfNode, OfPair, OfWay, WithoutPlace};
use akm_provision::names::Name;
use akm_provision::view::{CauseShown, Diagnosis};

use super::{say, say_json};

/// Why two nodes do not reach each other.
pub(crate) fn diagnosis(nodes: [Name; 2], findings: &[Finding], as_json: bool) -> Result<(), CommandError> {
    let in_words = |finding| CauseShown::new(finding, what(finding), to_do(finding));
    let diagnosis = Diagnosis { nodes, causes: findings.iter().map(in_words).collect() };
    if as_json {
        return say_json(&diagnosis);
    }
    let Diagnosis { nodes: [one, other], causes } = diagnosis;
    if causes.is_empty() {
        return say(&format!("no cause found: as far as both tell, {one} and {other} reach each other"));
    }
    for CauseShown { cause, what, to_do, .. } in causes {
        say(&format!("{}: {what}", cause.name()))?;
        say(&format!("  to do: {to_do}"))?;
    }
    Ok(())
}

/// What was found.
fn what(finding: &Finding) -> String {
    match finding {
        Finding::Node { node, trouble } => match trouble {
            OfNode::NotActive { status } => format!("{node} is {status} at this module"),
            OfNode::NobodyListens { endpoint, reason, .. } => {
                format!("the stack of {node} does not run: nobody listens at {endpoint} ({reason})")
            }
            OfNode::NotReached { endpoint, reason } => {
                format!("the module cannot reach {node} at {endpoint}: {reason}")
            }
            OfNode::NotProven { why } => why.to_string(),
            OfNode::Element { why } => format!("{node}: {why}"),
        },
        Finding::Member { node, asr, trouble } => match trouble {
            OfMember::NotListed => format!("{node} is no member of ASR {asr}"),
            OfMember::NotHeld => format!("{node} does not hold ASR {asr}"),
            OfMember::Parked { generation } => {
                format!("generation {generation} of ASR {asr} is parked for {node}")
            }
            OfMember::NotActivated { generation } => {
                format!("generation {generation} of ASR {asr} waits at {node} for its activation")
            }
            OfMember::WithoutPlace(WithoutPlace::Damaged) => {
                format!("the record of ASR {asr} at {node} is damaged")
            }
            OfMember::WithoutPlace(WithoutPlace::Lost) => {
                format!("{node} has no place in ASR {asr}, and looks for it at the other members")
            }
            OfMember::RolledBack { is_back: false } => {
                format!("the place of ASR {asr} at {node} is from an older image of its disk")
            }
            OfMember::RolledBack { is_back: true } => {
                format!(
                    "the place of ASR {asr} at {node} was from an older image of its disk when it started"
                )
            }
            OfMember::UsedUp => format!("no epoch of ASR {asr} is left at {node}"),
            OfMember::HearsTwo => format!("{node} hears two devices in the name of one member of ASR {asr}"),
        },
        Finding::Pair { nodes: [one, other], trouble } => match trouble {
            OfPair::NoCommonAsr => format!("{one} and {other} are in no ASR together"),
            OfPair::Generations { generations: [of_one, of_other], .. } => {
                format!("{one} is in generation {of_one}, {other} in generation {of_other}")
            }
        },
        Finding::Way { asr, from, to, silence, trouble } => match trouble {
            OfWay::NothingSent => {
                format!("{from} has sent nothing on ASR {asr} since {to} started, {silence} s ago")
            }
            OfWay::NotArrived { endpoint, sent } => {
                let at = if endpoint.is_empty() { "nowhere".to_owned() } else { format!("to {endpoint}") };
                format!(
                    "{from} sent on ASR {asr} {at} {sent} s ago, and {to} has heard nothing of it for {silence} s"
                )
            }
        },
    }
}

/// What to do about it.
fn to_do(finding: &Finding) -> String {
    match finding {
        Finding::Node { node, trouble } => match trouble {
            OfNode::NotActive { .. } => "akm node list shows where each node stands".to_owned(),
            OfNode::NobodyListens { target, .. } => {
                format!("start it on the device; what it says there tells why it ended (target {target})")
            }
            OfNode::NotReached { .. } => {
                "power, network, address, firewall (TCP from the module, UDP between nodes)".to_owned()
            }
            OfNode::NotProven { .. } => {
                format!("another device may be at its address, or its state is lost: akm verify {node}")
            }
            OfNode::Element { .. } => {
                format!("put the element of {node} back; if it is lost, akm node replace {node} TARGET")
            }
        },
        Finding::Member { node, asr, trouble } => match trouble {
            OfMember::NotListed => format!("akm asr add {asr} {node}"),
            OfMember::NotHeld => format!("akm asr remove {asr} {node}, then akm asr add {asr} {node}"),
            OfMember::Parked { .. } => {
                format!("akm tasks shows since when; akm verify {node} carries it on once it can be reached")
            }
            OfMember::NotActivated { .. } => format!("akm verify {node} carries it on"),
            OfMember::WithoutPlace(WithoutPlace::Damaged) | OfMember::UsedUp => {
                format!("akm asr renew {asr}")
            }
            OfMember::WithoutPlace(WithoutPlace::Lost) => {
                format!("if none of them has one: akm asr renew {asr}")
            }
            OfMember::RolledBack { is_back: false } => {
                format!("find out who put it back; it asks the other members, and else: akm asr renew {asr}")
            }
            OfMember::RolledBack { is_back: true } => {
                format!("find out who put it back; akm asr renew {asr} if it does not find back by itself")
            }
            OfMember::HearsTwo => {
                format!("find the copy and switch it off, then: akm asr renew {asr} --suspect")
            }
        },
        Finding::Pair { nodes: [one, other], trouble } => match trouble {
            OfPair::NoCommonAsr => format!("akm asr create NAME {one} {other}, or akm asr add"),
            OfPair::Generations { .. } => {
                "akm tasks shows what is parked; akm verify --all carries it on".to_owned()
            }
        },
        Finding::Way { asr, from, trouble, .. } => match trouble {
            OfWay::NothingSent => {
                format!("akmd send {asr} TEXT at {from}; who sends nothing is not heard")
            }
            OfWay::NotArrived { .. } => "UDP from node to node: address, routes, firewall".to_owned(),
        },
    }
}
