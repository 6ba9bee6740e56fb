//! The five steps that make a target into an AKM node.
//!
//! ```text
//!   1 create    AKM ID, provisioning relationship                in memory
//!   2 save      both, in the module's own set                    one transaction
//!   3 install   the stack: staged, proved, switched to           target
//!   4 store     the relationship into the target's element       target, receipt checked
//!   5 verify    who are you? over the node's own endpoint        network; then active
//! ```
//!
//! How far a ceremony has come is in the store. Every step can be repeated, so a ceremony that was cut
//! off anywhere goes on where it was and ends in exactly one relationship. What can be refused is
//! refused before step 1: then nothing has changed.

mod addresses;
mod begin;
mod checks;
mod luggage;
mod preparation;
mod removal;
mod renewal;
mod station;
mod steps;
mod verification;

pub use checks::stack_beside_us;
pub(crate) use luggage::is_filled;
#[cfg(feature = "fuzzing")]
pub use preparation::read_preparation;
pub use removal::Removal;
pub(crate) use removal::remove;
pub use renewal::Heals;
pub(crate) use renewal::{renew, renew_over};
pub use station::AttachOrder;
pub(crate) use station::waits;
#[cfg(feature = "fuzzing")]
pub use steps::configuration;
pub(crate) use verification::{Said, asks_for_element, not_active, verify};

use std::path::PathBuf;

use akm_core::id::AkmId;
use akm_element::ElementSpec;
use akm_target::TargetUrl;
use akm_transport::{Endpoint, NamedEndpoint};

use crate::error::Error;
pub use crate::error::ceremony::Refusal;
use crate::error::ceremony::{Device, Done, Taken, Unfit};
use crate::keyring::Keyring;
use crate::lock::{Lock, LockKey};
use crate::names::Name;
use crate::progress::{OfCeremony, Progress};
use crate::store::{Node, NodeStatus, Store};
use addresses::{check_endpoint_is_free, endpoint_of};
use luggage::is_at_station;
use preparation::target_of;

/// UDP and TCP port of a node, unless the operator says otherwise (local targets: a free one). It lies below those that
/// systems give to outgoing connections (from 32,768), one of which could hold it while the node is off.
pub const DEFAULT_PORT: u16 = 17_100;

/// The first step that does something at the target.
const FIRST_AT_TARGET: u8 = 3;

/// The names of the steps, in their order.
pub const STEP_NAMES: [&str; 5] = ["create", "save", "install", "store", "verify"];

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where.
    pub target: TargetUrl,
    /// What the node shall be called; otherwise a name is made from the target.
    pub name: Option<Name>,
    /// The node's element; otherwise the one that the device has, or the software element.
    pub element: Option<ElementSpec>,
    /// The program to install; otherwise the `akmd` beside this program.
    pub stack: Option<PathBuf>,
    /// Where the stack shall listen.
    pub listen: Option<Endpoint>,
    /// Where the module and other nodes reach it.
    pub endpoint: Option<NamedEndpoint>,
    /// Configuration for the operator's ssh.
    pub ssh_config: Option<PathBuf>,
    /// Make a device that was provisioned before into a new node.
    pub again: bool,
}

/// Makes targets into nodes, in the module's own set and with what opens cards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provisioner<'a> {
    store: &'a Store,
    keyring: &'a Keyring,
}

impl<'a> Provisioner<'a> {
    /// With these.
    pub(crate) fn new(store: &'a Store, keyring: &'a Keyring) -> Self {
        Self { store, keyring }
    }
}

/// The word that a step begins.
fn begins(number: u8) -> Progress {
    Progress::Begins { number, name: STEP_NAMES[usize::from(number) - 1] }
}

impl Provisioner<'_> {
    /// Makes a target into a node, or goes on with a ceremony that was cut off there.
    pub(crate) fn provision(&self, order: &Order, tell: &mut dyn FnMut(Progress)) -> Result<Node, Error> {
        self.provision_as(order, None, tell)
    }

    /// Makes a target into a node in the place of another, whose name passes over unless the order gives one. The other one
    /// is over then; what it was a member of is for the caller.
    ///
    /// Repeating it, also after it was cut off, ends with the same node.
    pub(crate) fn replace(
        &self,
        old: &Name,
        order: &Order,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Node, Error> {
        for new in self.store.nodes_by_target(&order.target)? {
            let former = new.replaces.map(|former| self.store.node(former)).transpose()?;
            if new.status == NodeStatus::Active && former.is_some_and(|former| former.name == *old) {
                return Ok(new);
            }
        }
        match self.store.node_by_name(old)? {
            Some(node) if node.status == NodeStatus::Active => self.provision_as(order, Some(&node), tell),
            Some(node) => Err(not_active(&node)),
            None => Err(Refusal::Unknown { name: old.clone() }.into()),
        }
    }

    fn provision_as(
        &self,
        order: &Order,
        in_place_of: Option<&Node>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Node, Error> {
        let _held = self.store.lock(LockKey::Target(order.target.to_string()))?;
        let here = self.store.nodes_by_target(&order.target)?;
        if let Some(unfinished) = here.iter().find(|node| node.status == NodeStatus::Provisioning) {
            if order.name.as_ref().is_some_and(|name| *name != unfinished.name) {
                return Err(
                    Refusal::from(Taken::ByCeremony { name: unfinished.name.clone(), old: None }).into()
                );
            }
            if let Some(old) = in_place_of.filter(|old| unfinished.replaces != Some(old.id)) {
                let taken = Taken::ByCeremony { name: unfinished.name.clone(), old: Some(old.name.clone()) };
                return Err(Refusal::from(taken).into());
            }
            tell(OfCeremony::GoesOn { node: unfinished.name.clone() }.into());
            let revised = revise(self.store, unfinished, order)?;
            return self.run_from(&revised, tell);
        }
        if let Some(removing) = here.iter().find(|node| node.status == NodeStatus::Removing) {
            return Err(Refusal::from(Taken::ByRemoval { name: removing.name.clone() }).into());
        }
        let active = here.iter().find(|node| node.status == NodeStatus::Active);
        let is_the_same = active.is_some_and(|active| in_place_of.is_some_and(|old| old.id == active.id));
        if let Some(active) = active.filter(|_| !order.again && !is_the_same) {
            let name = active.name.clone();
            let is_other = order.name.as_ref().is_some_and(|wanted| *wanted != name);
            return Err(if is_other {
                Refusal::from(Taken::Target { name }).into()
            } else {
                Refusal::from(Done::IsNode { name }).into()
            });
        }
        let node = begin::accept(self.store, order, active, active.or(in_place_of), tell)?;
        self.run_from(&node, tell)
    }

    /// Goes on with a ceremony that was cut off; without a name, with the only one.
    ///
    /// One that waits for its target is returned as it is: see [`waits`].
    pub(crate) fn resume(&self, name: Option<&Name>, tell: &mut dyn FnMut(Progress)) -> Result<Node, Error> {
        let unfinished = self.store.unfinished_ceremonies()?;
        let wanted: Vec<&Node> = unfinished
            .iter()
            .map(|(node, _)| node)
            .filter(|node| name.is_none_or(|name| node.name == *name))
            .collect();
        match (wanted.as_slice(), name) {
            ([node], _) => {
                let (_held, node) = lock_at_target(self.store, node.id)?;
                // Another command may have finished it while this one waited for the lock.
                if node.status != NodeStatus::Provisioning {
                    Err(Refusal::from(Done::Over { name: node.name }).into())
                } else if is_at_station(&node) {
                    self.fill(&node, tell)
                } else {
                    self.run_from(&node, tell)
                }
            }
            ([], None) => Err(Refusal::from(Done::NothingCutOff).into()),
            ([], Some(name)) => match self.store.node_by_name(name)? {
                Some(_) => Err(Refusal::from(Done::Over { name: name.clone() }).into()),
                None => Err(Refusal::Unknown { name: name.clone() }.into()),
            },
            (several, _) => {
                let names = several.iter().map(|node| node.name.clone()).collect();
                Err(Refusal::from(Unfit::SeveralCutOff { names }).into())
            }
        }
    }
}

/// What an operator should know of the ASRs of a node whose device was made into this one: `None` if it had none.
pub(crate) fn left_behind(store: &Store, node: &Node) -> Result<Option<Progress>, Error> {
    let Some(old) = node.replaces else { return Ok(None) };
    let asrs = store.asr_names_of_node(old)?;
    if asrs.is_empty() {
        return Ok(None);
    }
    let (node, target) = (node.name.clone(), node.target.to_string());
    Ok(Some(OfCeremony::LeftBehind { node, target, asrs }.into()))
}

/// Takes the lock of the target at which a node is. Another command may move the node to another target while this one
/// waits: then the lock of that one.
fn lock_at_target(store: &Store, id: AkmId) -> Result<(Lock, Node), Error> {
    let mut node = store.node(id)?;
    loop {
        let held = store.lock(LockKey::Target(node.target.to_string()))?;
        let now = store.node(id)?;
        if now.target == node.target {
            return Ok((held, now));
        }
        node = now;
    }
}

/// What was given anew with the command that goes on counts: the port may be what failed.
fn revise(store: &Store, node: &Node, order: &Order) -> Result<Node, Error> {
    if let Some(element) = &order.element
        && *element != node.element_spec
    {
        let taken = Taken::Element { element: node.element_spec.to_string(), name: node.name.clone() };
        return Err(Refusal::from(taken).into());
    }
    let endpoint = match (&order.endpoint, order.listen) {
        (Some(endpoint), _) => Some(endpoint.clone()),
        (None, Some(listen)) => Some(endpoint_of(listen, &target_of(node))?),
        (None, None) => None,
    };
    if let Some(endpoint) = &endpoint {
        let own: Vec<_> = std::iter::once(node.id).chain(node.replaces).collect();
        check_endpoint_is_free(store, &own, endpoint)?;
    }
    store.revise_node(node.id, order.listen, endpoint.as_ref(), order.stack.as_deref())?;
    Ok(store.node(node.id)?)
}

/// What should be in the store, and is not.
pub(crate) fn not_in_store(what: impl Into<String>) -> Error {
    Refusal::from(Device::NotInStore { what: what.into() }).into()
}
