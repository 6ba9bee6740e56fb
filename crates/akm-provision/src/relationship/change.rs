//! Changes of an ASR: each is a generation of its own.

use std::time::Duration;

use akm_core::id::AkmId;
use akm_core::policy::Policy;
use akm_core::sds::MEMBERS_MAX;

use super::issue::{Next, bring_forward, erase_leftovers, make_next, reach};
use super::{MemberReport, active_node, in_order, warn_of_loopback};
use crate::ceremony::Heals;
use crate::error::Error;
use crate::error::relationship::{AsItIs, Lacks, Members, Refusal};
use crate::link::Link;
use crate::lock::LockKey;
use crate::names::Name;
use crate::progress::{OfAsr, Progress};
use crate::store::{Node, NodeStatus, Relationship, RelationshipState, Store};

/// What the operator wants of an ASR.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Fresh keys; with `suspect` also a new root in every element.
    Renew {
        /// Whether somebody may have had control of a member.
        suspect: bool,
    },
    /// Fresh keys, also where the present generation has not come to all: a member found back in it, and whoever recorded
    /// that could read on.
    RenewFoundBack,
    /// These nodes join.
    Add(Vec<Name>),
    /// These members leave.
    Remove(Vec<Name>),
    /// The members behave in another way.
    Policy(PolicyChange),
    /// One node in the place of another.
    Replace {
        /// Who leaves.
        old: AkmId,
        /// Who joins.
        new: AkmId,
    },
}

/// What shall be different in a policy; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// How old an epoch gets.
    pub rotate_after: Option<Duration>,
    /// How many frames of one member an epoch sees; 0 means as many as the cipher allows.
    pub rotate_frames: Option<u32>,
    /// In which time a member moves on by itself at most once.
    pub advance_interval: Option<Duration>,
    /// How long frames of an epoch, or of a generation, that was left are still taken in.
    pub overlap: Option<Duration>,
    /// By how many epochs a member moves on that may have been set back.
    pub jump: Option<u16>,
}

impl PolicyChange {
    /// A policy with these changes.
    pub fn of(&self, present: Policy) -> Policy {
        Policy {
            rotate_after: self.rotate_after.unwrap_or(present.rotate_after),
            rotate_frames: self.rotate_frames.unwrap_or(present.rotate_frames),
            advance_interval: self.advance_interval.unwrap_or(present.advance_interval),
            overlap: self.overlap.unwrap_or(present.overlap),
            jump: self.jump.unwrap_or(present.jump),
            ..present
        }
    }
}

/// A change of an ASR.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is wanted.
    pub wish: Wish,
    /// Whether it begins although members are away; they get it when they are next reached.
    pub without_absent: bool,
}

/// Changes an ASR, or goes on with the same change that was parked.
///
/// Returns how each member stands, in the order of the SDS. Members that leave are told to erase what they hold, or are
/// when next reached.
pub fn change(
    store: &Store,
    name: &Name,
    change: &Change,
    tell: &mut dyn FnMut(Progress),
) -> Result<Vec<MemberReport>, Error> {
    let _held = store.lock(LockKey::Asr(name.clone()))?;
    let asr = named(store, name)?;
    let plan = plan(store, &asr, &change.wish)?;
    let mut nodes = Vec::new();
    for id in plan.as_ref().map_or(asr.sds.members(), |next| &next.members) {
        let node = store.node_by_id(*id)?;
        let is_gone = |member: &str| Refusal::MemberGone { asr: asr_name(&asr), member: member.to_owned() };
        match node {
            Some(node) if node.status == NodeStatus::Active => nodes.push(node),
            Some(node) => return Err(is_gone(node.name.as_str()).into()),
            None => return Err(is_gone(&id.to_string()).into()),
        }
    }
    let mut reached = reach(store, &nodes)?;
    let asr = match plan {
        Some(next) => {
            if next.suspect {
                say_what_heals(&nodes, tell);
            }
            let heard = reached.listen(store, asr.id())?;
            make_next(store, &asr, next, heard)?
        }
        None => {
            let generation = asr.sds.generation();
            tell(OfAsr::ChangeGoesOn { asr: name.clone(), generation }.into());
            asr
        }
    };
    let nodes = in_order(&asr, nodes);
    warn_of_loopback(&nodes, tell);
    let result = bring_forward(store, &asr, &nodes, reached, change.without_absent);
    erase_at_former(store, &asr, tell)?;
    result
}

/// The name of an ASR, and what came of a change of it.
pub type Changed = (Name, Result<(), Error>);

/// Puts a node in the place of another in all ASRs that the other is still a member of, and goes on where that was
/// parked. Each is tried; what is parked or failed comes back by name.
pub fn take_places(
    store: &Store,
    old: AkmId,
    new: &Node,
    tell: &mut dyn FnMut(Progress),
) -> Result<Vec<Changed>, Error> {
    let mut results = Vec::new();
    let mut asrs = store.asrs_of_node(old)?;
    // Where it has the place already, that may still be parked.
    let unfinished = store.unfinished_asrs()?.into_iter();
    asrs.extend(
        unfinished.filter(|asr| asr.sds.index_of(new.id).is_some() && asr.sds.index_of(old).is_none()),
    );
    for asr in asrs {
        let Some(name) = asr.name else { continue };
        let wish = Change { wish: Wish::Replace { old, new: new.id }, without_absent: false };
        let result = change(store, &name, &wish, tell).map(|_| ());
        results.push((name, result));
    }
    Ok(results)
}

/// Ends an ASR; its members are told to erase it, or are when next reached.
pub fn delete(store: &Store, name: &Name, tell: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    let _held = store.lock(LockKey::Asr(name.clone()))?;
    let asr = named(store, name)?;
    store.end_relationship(asr.id())?;
    erase_at_former(store, &asr, tell)
}

pub(super) fn named(store: &Store, name: &Name) -> Result<Relationship, Error> {
    store.asr_by_name(name)?.ok_or_else(|| Refusal::Unknown { name: name.clone() }.into())
}

fn asr_name(asr: &Relationship) -> String {
    asr.name.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The next generation; `None` if the present one is that already, and has not come to its end.
fn plan(store: &Store, asr: &Relationship, wish: &Wish) -> Result<Option<Next>, Error> {
    let name = asr_name(asr);
    let is_unfinished = asr.status != RelationshipState::Active;
    let present = asr.sds.members().to_vec();
    let policy = asr.sds.policy().to_vec();
    let nothing = |state: AsItIs| {
        if is_unfinished { Ok(None) } else { Err(Refusal::AsItIs { name: name.clone(), state }.into()) }
    };
    let suspect = matches!(wish, Wish::Renew { suspect: true });
    let (members, policy, raise) = match wish {
        Wish::Renew { suspect } => {
            if is_unfinished && asr.sds.generation() > 1 && (!suspect || store.has_new_root(asr.id())?) {
                return Ok(None);
            }
            (present, policy, *suspect)
        }
        Wish::RenewFoundBack => (present, policy, false),
        Wish::Policy(change) => {
            let later = |_| Refusal::from(Lacks::Policy { name: name.clone() });
            let wanted = change.of(Policy::parse(&policy).map_err(later)?).emit();
            if wanted == policy {
                return nothing(AsItIs::Policy);
            }
            (present, wanted, false)
        }
        Wish::Add(names) => {
            let mut members = present.clone();
            for new in names {
                if *new == store.module().name {
                    return Err(Refusal::from(Members::Module { name: new.clone() }).into());
                }
                let node = active_node(store, new)?;
                if !members.contains(&node.id) {
                    members.push(node.id);
                }
            }
            if members.len() > MEMBERS_MAX {
                return Err(Refusal::from(Members::TooMany { most: MEMBERS_MAX }).into());
            }
            if members.len() == present.len() {
                return nothing(AsItIs::Members);
            }
            (members, policy, false)
        }
        Wish::Remove(names) => {
            let mut of_name = Vec::new();
            for id in &present {
                of_name.push((store.node_by_id(*id)?.map(|node| node.name), *id));
            }
            let mut members = present.clone();
            for old in names {
                match of_name.iter().find(|(name, _)| name.as_ref() == Some(old)) {
                    Some((_, id)) => members.retain(|member| member != id),
                    None if store.node_by_name(old)?.is_none() && !is_unfinished => {
                        return Err(Refusal::from(Members::None { asr: name, name: old.clone() }).into());
                    }
                    None => {}
                }
            }
            if members.len() == present.len() {
                return nothing(AsItIs::NoMembers);
            }
            if members.len() < 2 {
                return Err(Refusal::from(Members::TooFew { left: Some(name) }).into());
            }
            (members, policy, true)
        }
        Wish::Replace { old, new } => {
            if !present.contains(old) {
                return nothing(AsItIs::Replaced);
            }
            let others = present.iter().copied().filter(|id| id != old && id != new);
            (others.chain([*new]).collect(), policy, true)
        }
    };
    Ok(Some(Next { members, policy, raise, suspect }))
}

/// Tells for which nodes a renewal because of a suspicion does what.
fn say_what_heals(nodes: &[Node], tell: &mut dyn FnMut(Progress)) {
    let such = |wanted: &[Heals]| -> Vec<Name> {
        let such = nodes.iter().filter(|node| wanted.contains(&Heals::of(node)));
        let mut names: Vec<Name> = such.map(|node| node.name.clone()).collect();
        names.sort();
        names
    };
    let renewed = such(&[Heals::Yes, Heals::IfNobodyIsRoot]);
    if !renewed.is_empty() {
        tell(OfAsr::BackupsAreOver { nodes: renewed }.into());
    }
    let tokens = such(&[Heals::IfNobodyIsRoot]);
    if !tokens.is_empty() {
        tell(OfAsr::HealsIfNobodyIsRoot { nodes: tokens }.into());
    }
    let software = such(&[Heals::No]);
    if !software.is_empty() {
        tell(OfAsr::HealsNothing { nodes: software }.into());
    }
}

/// Tells those that are no members any more.
fn erase_at_former(store: &Store, asr: &Relationship, tell: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    let mut former: Vec<Node> = Vec::new();
    for leftover in store.leftovers()?.into_iter().filter(|leftover| leftover.relationship == asr.id()) {
        former.extend(store.node_by_id(leftover.node)?);
    }
    for node in former {
        let erased = Link::open(store, &node).map_err(Error::from);
        if let Err(why) = erased.and_then(|mut link| erase_leftovers(store, &mut link)) {
            store.note_absence(node.id, &why.to_string(), crate::names::Timestamp::now())?;
            tell(OfAsr::ErasesLater { asr: asr_name(asr), node: node.name, why }.into());
        }
    }
    Ok(())
}
