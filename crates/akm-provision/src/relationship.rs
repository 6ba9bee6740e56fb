//! ASRs: makes a relationship, hands it to every member, lets it become active.
//!
//! ```text
//!   create   ID, secrets, in the module's own set         one transaction
//!   install  each member: prepare, wrap, send, receipt    over its provisioning relationship
//!   activate each member, only when all have acknowledged
//!   ask      each member how it stands
//! ```
//!
//! With a member away nothing becomes active, unless the operator says so; the same command again goes on, and so
//! does any other that reaches the member. Once every member has acknowledged, the module erases the secrets, but for
//! the element root: that alone opens nothing, and a member that joins later needs it.
//!
//! A change is another generation, handed out in the same way (`change`).

mod change;
mod issue;
mod tasks;

pub use change::{Change, PolicyChange, Wish};
pub(crate) use change::{Changed, change, delete, take_places};
pub use tasks::Work;
pub(crate) use tasks::{Renewals, Task, carry_on, next_try, renew_found_back, tasks};

use std::thread;

use akm_core::id::{AkmId, RelationshipId};
use akm_core::management::RelationshipStatus;
use akm_core::policy::Policy;
use akm_core::sds::MEMBERS_MAX;
use akm_core::session::Phase;
use akm_transport::Endpoint;

use crate::ceremony::not_active;
use crate::error::Error;
pub use crate::error::relationship::Refusal;
use crate::error::relationship::{Lacks, Members};
use crate::link::Link;
use crate::lock::LockKey;
use crate::mint::{self, Minted};
use crate::names::{Name, Timestamp};
use crate::progress::{OfAsr, Progress};
use crate::store::{Node, NodeStatus, Relationship, RelationshipState, Store};
use issue::{bring_forward, erase_leftovers, reach};

/// Nodes that are talked to at once.
const AT_ONCE: usize = 8;

/// How a member of an ASR stands, or why it could not be asked.
#[derive(Debug)]
pub(crate) struct MemberReport {
    /// The member.
    pub node: Node,
    /// What it says; an error if it could not be asked.
    pub status: Result<RelationshipStatus, Error>,
}

/// Why a relationship does not send at a node, in a few words; `None` if it does, or will by itself.
pub(crate) fn rests(status: &RelationshipStatus) -> Option<&'static str> {
    match status.phase {
        // A node cannot tell the generation of a record that it cannot read.
        _ if status.generation == 0 => Some("its record there is damaged"),
        Phase::WithoutPlace => Some("its place there is lost"),
        Phase::RolledBack => Some("its place there is older than the element of the node allows"),
        Phase::UsedUp => Some("its epochs are used up"),
        Phase::Erased => Some("it is erased there"),
        Phase::Staged | Phase::Established | Phase::Resyncing => None,
    }
}

/// Makes an ASR, or goes on with one of the same name and members that was parked.
///
/// Returns how each member stands, in the order of the SDS.
pub(crate) fn create(
    store: &Store,
    name: &Name,
    members: &[Name],
    policy: Policy,
    tell: &mut dyn FnMut(Progress),
) -> Result<Vec<MemberReport>, Error> {
    let nodes = members_named(store, members)?;
    let _held = store.lock(LockKey::Asr(name.clone()))?;
    let earlier = give_up_if_members_are_gone(store, name, tell)?;
    let asr = match earlier {
        Some(asr) => {
            let mut wanted: Vec<AkmId> = nodes.iter().map(|node| node.id).collect();
            wanted.sort_unstable();
            let parked = asr.status != RelationshipState::Active && asr.sds.generation() == 1;
            let members = asr.sds.members() != wanted;
            if members || asr.sds.policy() != policy.emit() {
                return Err(Refusal::Another { name: name.clone(), members, parked }.into());
            }
            if !parked {
                return Err(Refusal::Exists { name: name.clone() }.into());
            }
            tell(OfAsr::GoesOn { asr: name.clone() }.into());
            asr
        }
        None => {
            let members = nodes.iter().map(|node| node.id).collect();
            let Minted { sds, secrets } =
                mint::asr(members, &policy).map_err(|error| Refusal::from(Members::Invalid(error)))?;
            store.create_asr(name, &sds, &secrets, Timestamp::now())?;
            store.asr_by_name(name)?.ok_or_else(|| not_in_store(format!("ASR {name}")))?
        }
    };
    let nodes = in_order(&asr, nodes);
    warn_of_loopback(&nodes, tell);
    let reached = reach(store, &nodes)?;
    bring_forward(store, &asr, &nodes, reached, false)
}

/// The ASR of this name; `None` if there is none. One that was parked and has lost a member can never
/// become active, and one with fewer than two members left serves nobody: it is ended, and erased at the
/// members that answer.
fn give_up_if_members_are_gone(
    store: &Store,
    name: &Name,
    tell: &mut dyn FnMut(Progress),
) -> Result<Option<Relationship>, Error> {
    let Some(asr) = store.asr_by_name(name)? else { return Ok(None) };
    let mut present = Vec::new();
    for member in &asr.members {
        let node = store.node_by_id(member.node)?;
        present.extend(node.filter(|node| node.status == NodeStatus::Active));
    }
    let is_in_use = asr.status == RelationshipState::Active || asr.sds.generation() > 1;
    let needed = if is_in_use { 2 } else { asr.members.len() };
    if present.len() >= needed {
        return Ok(Some(asr));
    }
    tell(OfAsr::GivenUp { asr: name.clone() }.into());
    store.end_relationship(asr.id())?;
    for node in present {
        let erased = Link::open(store, &node).map_err(Error::from);
        if let Err(why) = erased.and_then(|mut link| erase_leftovers(store, &mut link)) {
            tell(OfAsr::GivenUpLeft { node: node.name, why }.into());
        }
    }
    Ok(None)
}

/// Asks every member of an ASR how it stands.
pub(crate) fn show(store: &Store, asr: &Relationship) -> Result<Vec<MemberReport>, Error> {
    let mut nodes = Vec::new();
    for member in &asr.members {
        nodes.extend(store.node_by_id(member.node)?);
    }
    let id = asr.id();
    Ok(for_each(nodes, |node| {
        let status = if node.status == NodeStatus::Active {
            Link::open(store, &node).and_then(|mut link| link.status()).map_err(Error::from)
        } else {
            Err(Refusal::NotInForce { name: node.name.clone(), status: node.status }.into())
        };
        MemberReport { status: status.and_then(|all| find_status(&all, id, &node)), node }
    }))
}

/// Asks a node how all its relationships stand.
pub(crate) fn held_by(store: &Store, node: &Node) -> Result<Vec<RelationshipStatus>, Error> {
    Ok(Link::open(store, node)?.status()?)
}

/// The nodes of these names: at least two, all different, all active.
fn members_named(store: &Store, names: &[Name]) -> Result<Vec<Node>, Error> {
    if names.len() < 2 {
        return Err(Refusal::from(Members::TooFew { left: None }).into());
    }
    if names.len() > MEMBERS_MAX {
        return Err(Refusal::from(Members::TooMany { most: MEMBERS_MAX }).into());
    }
    let mut nodes: Vec<Node> = Vec::with_capacity(names.len());
    for name in names {
        if *name == store.module().name {
            return Err(Refusal::from(Members::Module { name: name.clone() }).into());
        }
        let node = active_node(store, name)?;
        if nodes.iter().any(|other| other.id == node.id) {
            return Err(Refusal::from(Members::Twice { name: name.clone() }).into());
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn active_node(store: &Store, name: &Name) -> Result<Node, Error> {
    match store.node_by_name(name)? {
        Some(node) if node.status == NodeStatus::Active => Ok(node),
        Some(node) => Err(not_active(&node)),
        None => Err(crate::ceremony::Refusal::Unknown { name: name.clone() }.into()),
    }
}

/// What should be in the store, and is not.
fn not_in_store(what: String) -> Error {
    Refusal::from(Lacks::InStore { what }).into()
}

/// The nodes in the order of the SDS.
fn in_order(asr: &Relationship, mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_by_key(|node| asr.sds.index_of(node.id));
    nodes
}

fn warn_of_loopback(nodes: &[Node], tell: &mut dyn FnMut(Progress)) {
    let is_loopback = |node: &&Node| {
        node.endpoint
            .as_ref()
            .and_then(|endpoint| endpoint.resolve().ok())
            .and_then(Endpoint::socket_address)
            .is_some_and(|at| at.ip().is_loopback())
    };
    let (near, far): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(is_loopback);
    if let (Some(near), Some(far)) = (near.first(), far.first()) {
        tell(OfAsr::Loopback { near: near.name.clone(), far: far.name.clone() }.into());
    }
}

fn find_status(
    all: &[RelationshipStatus],
    id: RelationshipId,
    node: &Node,
) -> Result<RelationshipStatus, Error> {
    all.iter()
        .find(|status| status.relationship == id)
        .copied()
        .ok_or_else(|| Refusal::NotHeld { name: node.name.clone() }.into())
}

/// Does the same for all, several at once, and keeps the order.
fn for_each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut results = Vec::with_capacity(items.len());
    let mut items = items.into_iter();
    loop {
        let some: Vec<T> = items.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            return results;
        }
        thread::scope(|scope| {
            let threads: Vec<_> = some.into_iter().map(|item| scope.spawn(|| work(item))).collect();
            for thread in threads {
                match thread.join() {
                    Ok(result) => results.push(result),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
}
