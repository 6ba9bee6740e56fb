//! How a node leaves the module.

use akm_core::enrolment::Preparation;
use akm_core::id::AkmId;
use akm_element::ElementSpec;
use akm_target::Target;

use super::checks::{check_is_free, holds_root_of};
use super::luggage;
use super::preparation::{ask_whoever_is_there, target_of};
use crate::error::ceremony::{AtElement, Device, Refusal, Taken, Unfit};
use crate::error::{Error, Unfinished};
use crate::keyring::forget_card;
use crate::link::{Link, LinkError};
use crate::names::{Name, Timestamp};
use crate::progress::{OfRemoval, Progress};
use crate::store::{MemberState, Node, NodeStatus, Store};

/// What a removal did at the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Whether the device holds nothing of this node any more, as far as the module can tell.
    pub erased: bool,
}

/// Removes a node: its credentials from the device, its stack from the target, then the node from the
/// module's set. With `force` it is forgotten although the device cannot be reached, or although it
/// is a member of ASRs.
pub fn remove(
    store: &Store,
    name: &Name,
    force: bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<Removal, Error> {
    let unknown = || Refusal::Unknown { name: name.clone() };
    let being_made =
        store.unfinished_ceremonies()?.into_iter().map(|(node, _)| node).find(|node| node.name == *name);
    let node = match (store.node_by_name(name)?, being_made) {
        // Both rows are one device: the ceremony decides which of the two it is.
        (Some(node), Some(new)) if new.id != node.id => {
            if !force {
                return Err(Refusal::from(Unfit::BeingMadeAnew { name: name.clone() }).into());
            }
            let (_held, new) = super::lock_at_target(store, new.id)?;
            if new.status != NodeStatus::Provisioning {
                return Err(Refusal::MadeAnew { name: name.clone() }.into());
            }
            forget(store, &new)?;
            node
        }
        (Some(node), _) | (None, Some(node)) => node,
        (None, None) => return Err(unknown().into()),
    };
    let (_held, node) = super::lock_at_target(store, node.id)?;
    // Another command may have changed it while this one waited for the lock.
    let node = Some(node).filter(|node| node.status.is_in_force()).ok_or_else(unknown)?;
    let asrs = store.asr_names_of_node(node.id)?;
    let mut notes = Vec::new();
    if !asrs.is_empty() {
        if !force {
            return Err(Refusal::from(Device::IsMember { name: name.clone(), asrs }).into());
        }
        notes.push(OfRemoval::StillListed { node: name.clone(), asrs });
    }
    if node.status == NodeStatus::Active {
        store.begin_removal(node.id, force)?;
    }
    // Before step 4 nothing of the node can be anywhere.
    let never_stored = node.status == NodeStatus::Provisioning
        && store.ceremony(node.id)?.is_none_or(|ceremony| ceremony.completed < 3)
        && !luggage::is_filled(store, &node)?;
    // The node erases itself if it can be reached; the installer's channel does the rest.
    let asked = match ask_to_erase_itself(store, &node) {
        Ok(asked) => asked,
        // What this module cannot record it would not know when it is asked again.
        Err(LinkError::Store(error)) => return Err(error.into()),
        Err(_) => Asked::No,
    };
    if asked == Asked::Done {
        mark_erased(store, &node)?;
    }
    let at_target = erase_at_target(store, &node, asked, force);
    let mut erased = is_erased(store, &node)?;
    let not_erased = match at_target {
        Ok(AtTarget::Erased) => {
            erased = true;
            None
        }
        Ok(AtTarget::Nothing) if never_stored || erased => {
            erased = true;
            None
        }
        Ok(AtTarget::Nothing) => {
            let (name, target) = (name.clone(), node.target.to_string());
            Some(Refusal::from(Device::NothingThere { name, target }).into())
        }
        Ok(AtTarget::Another(other)) => {
            Some(Refusal::from(Taken::Device { target: node.target.to_string(), node: other }).into())
        }
        Err(error) => Some(error),
    };
    match not_erased {
        Some(error) if !erased && !force => {
            return Err(Unfinished::MayHold { name: name.clone(), source: Box::new(error) }.into());
        }
        Some(why) if erased => notes.push(OfRemoval::StackLeft { why }),
        Some(why) => notes.push(OfRemoval::MayHold { why }),
        None => {}
    }
    forget(store, &node)?;
    notes.into_iter().for_each(|note| tell(note.into()));
    Ok(Removal { erased })
}

/// Takes a node out of the module's own set, with all that is kept for it here.
fn forget(store: &Store, node: &Node) -> Result<(), Error> {
    // In this order: once the node is gone no command comes back to what is kept for it.
    luggage::clear(node)?;
    forget_card(store, node)?;
    Ok(store.remove_node(node.id, Timestamp::now())?)
}

/// Whether a node was told to erase itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It could not be reached.
    No,
    /// Whoever listens at its endpoint was told so, and no answer of the node came.
    Unanswered,
    /// It says that it has done so.
    Done,
}

fn ask_to_erase_itself(store: &Store, node: &Node) -> Result<Asked, LinkError> {
    match Link::open(store, node)?.erase_everything() {
        Ok(()) => Ok(Asked::Done),
        Err(error @ LinkError::Store(_)) => Err(error),
        Err(_) => Ok(Asked::Unanswered),
    }
}

/// What was found at the target of a node that is to go.
enum AtTarget {
    /// The node, which is erased.
    Erased,
    /// No node.
    Nothing,
    /// Another node, which is not touched.
    Another(AkmId),
}

/// Erases a node through the installer's channel, and nobody else.
fn erase_at_target(store: &Store, node: &Node, asked: Asked, force: bool) -> Result<AtTarget, Error> {
    let target = target_of(node);
    let probe = target.probe();
    // Its target was chosen, and nothing has come there: all that there is of it is at the station.
    if let Some(node) = luggage::not_sent(store, node)?
        && probe.as_ref().map_or(true, |probe| probe.release.is_none())
    {
        return erase_at_target(store, &node, asked, force);
    }
    let probe = probe?;
    let mut was_here = false;
    if probe.release.is_some() {
        let mut is_anothers = false;
        match ask_whoever_is_there(&target, probe.has_state) {
            Ok(Some(Preparation { node: Some(found), .. })) if found.node != node.id => {
                return Ok(AtTarget::Another(found.node));
            }
            // The ceremony was refused for it. What the element holds is that node's, wherever that is.
            Ok(Some(found)) if found.node.is_none() && is_of_another(store, &found, node.id)? => {
                is_anothers = true;
                // So nothing of this node went into it. That of an active node is somewhere else.
                was_here = node.status == NodeStatus::Provisioning;
            }
            // Our stack, and nobody's node: so a ceremony or a removal that was cut off leaves it, and a node
            // that erased itself.
            Ok(found) => {
                was_here = node.status != NodeStatus::Active
                    || asked != Asked::No
                    || is_erased(store, node)?
                    || found.is_some_and(|found| {
                        found.node.is_some() || holds_root_of(&found, node.relationship)
                    });
            }
            // A stack that does not say whose node it is goes only if it is of a ceremony that was cut
            // off, or if the operator insists.
            Err(error) if !force && node.status != NodeStatus::Provisioning => return Err(error),
            Err(_) => was_here = true,
        }
        target.stop()?;
        if !is_anothers {
            // What the element holds may be known from the state alone that was to follow it.
            luggage::deliver(store, node, &target)?;
            if reset(&target, node)? == Reset::NoStack {
                return Ok(AtTarget::Erased);
            }
        }
    }
    if was_here {
        // In this order: what is taken off can tell nothing more.
        mark_erased(store, node)?;
    }
    if !target.uninstall()? && was_here && target.probe()?.release.is_some() {
        return Err(Refusal::from(Device::StillThere { target: target.url().to_string() }).into());
    }
    Ok(if was_here { AtTarget::Erased } else { AtTarget::Nothing })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    Done,
    /// A removal that was left behind has taken the stack off, after it had erased the element.
    NoStack,
}

/// Makes the device nobody's, by its own stack.
fn reset(target: &Target, node: &Node) -> Result<Reset, Error> {
    let output = match target.akmd(&["reset", "--force"], &[]) {
        Err(_) if target.probe()?.release.is_none() => return Ok(Reset::NoStack),
        output => output?,
    };
    // A software element is a file of the state, and goes with it.
    let goes_with_state = matches!(node.element_spec, ElementSpec::Software { .. });
    if output.code == Some(0) || goes_with_state {
        return Ok(Reset::Done);
    }
    let (target, words) = (target.url().to_string(), output.last_words());
    Err(match output.code {
        Some(4) => Refusal::from(AtElement::NotErased { target, words }).into(),
        _ => Refusal::from(Device::Stack { target, what: "erase the element", words }).into(),
    })
}

/// Whether the element that was found is that of another node of this module, or of its vault.
fn is_of_another(store: &Store, found: &Preparation, own: AkmId) -> Result<bool, Error> {
    match check_is_free(store, &found.element, &[own]) {
        Ok(()) => Ok(false),
        Err(error) if error.is_of_element() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Remembers that the device holds nothing of the node, for a removal that is cut off after that.
fn mark_erased(store: &Store, node: &Node) -> Result<(), Error> {
    Ok(store.set_member_state(node.relationship, node.id, MemberState::Erased)?)
}

fn is_erased(store: &Store, node: &Node) -> Result<bool, Error> {
    let relationship = store.relationship(node.relationship)?;
    let mut members = relationship.iter().flat_map(|relationship| &relationship.members);
    Ok(members.any(|member| member.node == node.id && member.state == MemberState::Erased))
}
