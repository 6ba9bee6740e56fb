//! A node whose element is filled here, at the station, before it is in its target.
//!
//! ```text
//!   attach   1 create, 2 save, 4 store     the element is plugged in here; then the ceremony waits
//!   arrive   3 install, 5 verify           the element is in the target; what belongs to it travels in step 3
//! ```
//!
//! The state of the node is made by a stack of its own in `$AKM_HOME/attached/AKM-ID`, which never runs there. It is
//! removed when the node has proved at its target that it is there: one state in two places would be a clone.

use std::path::PathBuf;

use akm_disk::directory::make_directory;
use akm_disk::private::Links;
use akm_element::ElementSpec;

use super::addresses::{addresses, choosing_addresses};
use super::begin::{Beginning, begin};
use super::checks::{check_is_free, check_is_nobodys, check_name_is_free, check_target, stack_beside_us};
use super::luggage::{is_at_station, is_elsewhere, is_filled, url_of};
use super::preparation::target_of;
use super::steps::{Steps, timed};
use super::{FIRST_AT_TARGET, Order, Provisioner};
use crate::error::ceremony::{Done, Refusal, Taken, Unfit};
use crate::error::{Error, Unfinished};
use crate::lock::LockKey;
use crate::mint;
use crate::names::Name;
use crate::progress::{OfCeremony, Progress};
use crate::store::{Node, NodeStatus, Settled, Store};

/// Where the stations are, in the module's home.
const STATIONS: &str = "attached";

/// The step that is done at the station.
const STORE: u8 = 4;

/// What the operator asks for when the element is here and its target is not.
#[derive(Clone, Debug)]
pub struct AttachOrder {
    /// What the node shall be called.
    pub name: Name,
    /// The element, as it is reached from here.
    pub element: ElementSpec,
    /// The program to install; otherwise the `akmd` beside this program.
    pub stack: Option<PathBuf>,
}

impl Provisioner<'_> {
    /// Steps 1, 2 and 4 with the element plugged in here, or what is left of them.
    ///
    /// It returns the node once its element holds the relationship; the ceremony then waits for [`Provisioner::arrive`].
    pub(crate) fn attach(&self, order: &AttachOrder, tell: &mut dyn FnMut(Progress)) -> Result<Node, Error> {
        let name = &order.name;
        if matches!(order.element, ElementSpec::Software { .. }) {
            return Err(Refusal::from(Unfit::NothingToPlugIn).into());
        }
        let _held = self.store.lock(LockKey::Target(format!("attached {name}")))?;
        let node = match unfinished(self.store, name)? {
            Some(node) => {
                check_waits_here(&node)?;
                if node.element_spec != order.element {
                    let taken = Taken::Element { element: node.element_spec.to_string(), name: node.name };
                    return Err(Refusal::from(taken).into());
                }
                tell(OfCeremony::GoesOn { node: name.clone() }.into());
                node
            }
            None => self.create(order, tell)?,
        };
        // As whoever goes on with it, or gives it up, by its name.
        let _here = self.store.lock(LockKey::Target(node.target.to_string()))?;
        let node = self.store.node(node.id)?;
        check_waits_here(&node)?;
        self.fill(&node, tell)
    }

    /// Goes on at the station with a ceremony that was cut off there. Returns the node once its element is filled.
    pub(super) fn fill(&self, node: &Node, tell: &mut dyn FnMut(Progress)) -> Result<Node, Error> {
        if is_filled(self.store, node)? {
            return Ok(node.clone());
        }
        let station = node.station.as_deref().ok_or_else(|| no_station(node))?;
        if let Some(parent) = station.parent() {
            make_directory(parent, Links::Followed)?;
        }
        let target = target_of(node);
        let mut steps = Steps::new(*self, node.id, &target);
        let filled = steps
            .install()
            .and_then(|_| timed(self.store, node, STORE, tell, || steps.store()))
            .map(|report| tell(report.into()));
        if let Err(error) = filled {
            // The store may be what failed: the error of the step counts.
            let _ = self.store.fail_step(node.id, &error.to_string());
            return Err(Unfinished::CutOff { name: node.name.clone(), source: Box::new(error) }.into());
        }
        steps.notes.into_iter().for_each(|note| tell(note.into()));
        Ok(self.store.node(node.id)?)
    }

    /// Steps 3 and 5 at the target in which the element is by now; `order` says where that is and what is different there.
    pub(crate) fn arrive(
        &self,
        name: &Name,
        order: &Order,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Node, Error> {
        let _held = self.store.lock(LockKey::Target(order.target.to_string()))?;
        let find = || {
            unfinished(self.store, name)?.ok_or_else(|| match self.store.node_by_name(name) {
                Ok(Some(_)) => Error::from(Refusal::from(Done::Over { name: name.clone() })),
                _ => Refusal::Unknown { name: name.clone() }.into(),
            })
        };
        let mut node = find()?;
        let _where_it_was = if node.target == order.target {
            None
        } else {
            let held = self.store.lock(LockKey::Target(node.target.to_string()))?;
            // Another command may have gone on with it, or given it up, while this one waited.
            node = find()?;
            Some(held)
        };
        if node.station.is_none() {
            return Err(
                Refusal::from(Unfit::HasTarget { name: node.name, target: node.target.to_string() }).into()
            );
        }
        let completed = self.store.ceremony(node.id)?.map_or(0, |ceremony| ceremony.completed);
        if !is_at_station(&node) && node.target != order.target && completed >= FIRST_AT_TARGET {
            return Err(is_elsewhere(&node));
        }
        if !is_filled(self.store, &node)? {
            return Err(Refusal::from(Unfit::NotFilled { name: node.name }).into());
        }
        let mut here = self.store.nodes_by_target(&order.target)?.into_iter();
        if let Some(other) = here.find(|other| other.id != node.id) {
            let target = order.target.to_string();
            return Err(Refusal::from(Taken::TargetOf { target, name: other.name }).into());
        }
        let element = element_there(&node, order.element.as_ref())?;
        let (target, stack) = check_target(order, node.stack.as_deref())?;
        check_is_nobodys(self.store, &target, node.id)?;
        {
            // Until the node is saved: no two ceremonies choose the same address.
            let _choosing = choosing_addresses(self.store)?;
            let own = (!is_at_station(&node)).then_some(&node);
            let (listen, endpoint) = addresses(self.store, order, own, &target)?;
            let settled = Settled {
                target: order.target.clone(),
                ssh_config: order.ssh_config.clone(),
                element_spec: element,
                listen,
                endpoint,
                stack: Some(stack),
            };
            self.store.settle_node(node.id, &settled)?;
        }
        let node = self.store.node(node.id)?;
        self.run_from(&node, tell)
    }

    fn create(&self, order: &AttachOrder, tell: &mut dyn FnMut(Progress)) -> Result<Node, Error> {
        check_name_is_free(self.store, &order.name, None)?;
        let stack = match &order.stack {
            Some(path) => path.clone(),
            None => stack_beside_us()?,
        };
        // What can be refused is refused before step 1.
        let description = order.element.describe()?;
        check_is_free(self.store, &description, &[])?;
        self.keyring.wrap_keys(self.store, &description)?;
        let id = mint::akm_id();
        let station = self.store.home().join(STATIONS).join(id.to_string());
        let target = url_of(&station)?;
        let beginning = Beginning {
            name: order.name.clone(),
            target,
            ssh_config: None,
            element: order.element.clone(),
            listen: None,
            endpoint: None,
            stack,
            station: Some(station),
            replaces: None,
        };
        begin(self.store, id, beginning, tell)
    }
}

/// The ceremony waits until the element is in its target: what the operator is told.
pub fn waits(node: &Node) -> Error {
    Refusal::Waits { name: node.name.clone() }.into()
}

/// The element by its name at the target: of the same kind, since what it holds is.
fn element_there(node: &Node, given: Option<&ElementSpec>) -> Result<ElementSpec, Error> {
    let Some(given) = given else { return Ok(node.element_spec.clone()) };
    let kind = |spec: &ElementSpec| spec.to_string().split(':').next().map(str::to_owned);
    if kind(given) != kind(&node.element_spec) {
        let (filled, given) = (node.element_spec.to_string(), given.to_string());
        return Err(Refusal::from(Taken::ElementKind { name: node.name.clone(), filled, given }).into());
    }
    Ok(given.clone())
}

fn check_waits_here(node: &Node) -> Result<(), Error> {
    if node.status == NodeStatus::Provisioning && is_at_station(node) {
        return Ok(());
    }
    Err(Refusal::from(Taken::Elsewhere { name: node.name.clone(), target: node.target.to_string() }).into())
}

fn unfinished(store: &Store, name: &Name) -> Result<Option<Node>, Error> {
    let unfinished = store.unfinished_ceremonies()?.into_iter().map(|(node, _)| node);
    Ok(unfinished.filter(|node| node.status == NodeStatus::Provisioning).find(|node| node.name == *name))
}

fn no_station(node: &Node) -> Error {
    super::not_in_store(format!("where the element of node {} is filled", node.name))
}
