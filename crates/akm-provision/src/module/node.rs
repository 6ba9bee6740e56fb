//! Nodes: made, replaced, shown, verified and removed.

use super::{Asked, Module, Reached};
use crate::ceremony::{self, AttachOrder, Order, Provisioner};
use crate::error::Error;
use crate::error::ceremony::{Done, Refusal};
use crate::names::Name;
use crate::progress::Progress;
use crate::relationship;
use crate::store::{Node, NodeStatus};
use crate::view::{self, NodeShown, Nodes, PlaceTaken, ProvisioningRenewed, Verification};

impl Module {
    /// Makes a target into a node, or goes on with a ceremony that was cut off there.
    pub fn provision(&self, order: &Order, tell: &mut dyn FnMut(Progress)) -> Result<view::Node, Error> {
        let node = self.provisioner().provision(order, tell)?;
        self.conclude(&node, tell)
    }

    /// Fills an element that is plugged in here. The ceremony then waits until the element is in its target, which is
    /// told as a refusal: see [`Module::arrive`].
    pub fn attach(&self, order: &AttachOrder, tell: &mut dyn FnMut(Progress)) -> Result<view::Node, Error> {
        let node = self.provisioner().attach(order, tell)?;
        self.conclude(&node, tell)
    }

    /// Goes on at the target into which an element has come that was filled here.
    pub fn arrive(
        &self,
        name: &Name,
        order: &Order,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<view::Node, Error> {
        let node = self.provisioner().arrive(name, order, tell)?;
        self.conclude(&node, tell)
    }

    /// Goes on with a ceremony that was cut off; without a name, with the only one.
    pub fn resume(&self, name: Option<&Name>, tell: &mut dyn FnMut(Progress)) -> Result<view::Node, Error> {
        let node = self.provisioner().resume(name, tell)?;
        self.conclude(&node, tell)
    }

    /// A node is made once it is active; one whose element was filled here is not, until that is in its target.
    fn conclude(&self, node: &Node, tell: &mut dyn FnMut(Progress)) -> Result<view::Node, Error> {
        if node.status != NodeStatus::Active {
            return Err(ceremony::waits(node));
        }
        if let Some(note) = ceremony::left_behind(&self.store, node)? {
            tell(note);
        }
        Ok(node.into())
    }

    /// Makes a target into a node in the place of another, and gives it the other's place in all its ASRs; repeated, it
    /// goes on with what was parked. What came of each ASR stands beside the node.
    pub fn replace(
        &self,
        old: &Name,
        order: &Order,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(view::Node, Vec<PlaceTaken>), Error> {
        let node = self.provisioner().replace(old, order, tell)?;
        let former = node.replaces.ok_or_else(|| ceremony::not_in_store("whom this node replaces"))?;
        let asrs = relationship::take_places(&self.store, former, &node, tell)?;
        Ok(((&node).into(), asrs.into_iter().map(PlaceTaken::from).collect()))
    }

    /// All nodes, and the root.
    pub fn nodes(&self) -> Result<Nodes, Error> {
        Ok(Nodes::of(&self.store)?)
    }

    /// One node, as the module knows it and, where it is active, as it says it stands.
    pub fn node(&self, name: &Name) -> Result<Asked<NodeShown>, Error> {
        let node = self.node_named(name)?;
        let mut reached = Reached::default();
        let held = match node.status {
            NodeStatus::Active => Some(relationship::held_by(&self.store, &node)),
            _ => None,
        };
        if let Some(Ok(held)) = &held {
            reached.add(node.id, held);
        }
        Ok(Asked { answer: NodeShown::of(&self.store, &node, held)?, reached })
    }

    /// Asks a node who it is, and compares.
    pub fn verify(&self, name: &Name) -> Result<Asked<Verification>, Error> {
        let node = self.node_named(name)?;
        let Asked { mut answer, reached } = self.verify_each(vec![node])?;
        let answer = answer.pop().ok_or_else(|| Refusal::Unknown { name: name.clone() })?;
        Ok(Asked { answer, reached })
    }

    /// Asks all active nodes who they are, and compares.
    pub fn verify_all(&self) -> Result<Asked<Vec<Verification>>, Error> {
        let mut nodes = self.store.nodes()?;
        nodes.retain(|node| node.status == NodeStatus::Active);
        if nodes.is_empty() {
            return Err(Refusal::from(Done::NoNodes).into());
        }
        self.verify_each(nodes)
    }

    fn verify_each(&self, nodes: Vec<Node>) -> Result<Asked<Vec<Verification>>, Error> {
        let (mut answer, mut reached) = (Vec::with_capacity(nodes.len()), Reached::default());
        for node in nodes {
            let said = ceremony::verify(&self.store, &node);
            if let Ok(said) = &said {
                reached.add(node.id, &said.relationships);
            }
            answer.push(Verification::of(&self.store, &node, said)?);
        }
        Ok(Asked { answer, reached })
    }

    /// Makes another generation of the provisioning relationship of a node, or goes on with one that was cut off.
    pub fn renew_node(
        &self,
        name: &Name,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<ProvisioningRenewed, Error> {
        let (node, sds) = ceremony::renew(&self.store, name, tell)?;
        Ok(ProvisioningRenewed::of(&node, &sds))
    }

    /// Removes a node: its credentials and its stack from the device, then the node from the module. With `force` also
    /// where it cannot be reached, or is a member of ASRs.
    pub fn remove(
        &self,
        name: &Name,
        force: bool,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<ceremony::Removal, Error> {
        ceremony::remove(&self.store, name, force, tell)
    }

    fn provisioner(&self) -> Provisioner<'_> {
        Provisioner::new(&self.store, &self.keyring)
    }

    /// The node of this name, also one that is being made.
    pub(super) fn node_named(&self, name: &Name) -> Result<Node, Error> {
        if let Some(node) = self.store.node_by_name(name)? {
            return Ok(node);
        }
        let mut unfinished = self.store.unfinished_ceremonies()?.into_iter().map(|(node, _)| node);
        unfinished
            .find(|node| node.name == *name)
            .ok_or_else(|| Refusal::Unknown { name: name.clone() }.into())
    }
}
