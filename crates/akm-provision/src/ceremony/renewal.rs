//! Another generation of the provisioning relationship of a node (protocol, section 11.5).
//!
//! ```text
//!   make       ID, numbers above all that are known, secrets      one transaction
//!   install    prepare, wrap, send, receipt                       in the one before
//!   receipt    from here on the module speaks in the later one    one transaction
//!   begin      who are you?                                       in the later one; then the one before is erased
//! ```
//!
//! Cut off anywhere the same command goes on: it repeats what was made and not acknowledged, and asks in the one before
//! where nobody answers in a later one.

use akm_core::element::{Protection, RootCheck};
use akm_core::management::{Install, Outcome};
use akm_core::sds::SynchronizedDataSet;
use akm_element::wrap;

use super::verification::{check, not_active};
use crate::error::Error;
use crate::error::ceremony::Refusal;
use crate::error::relationship::{Lacks, Members, Refusal as OfRelationship};
use crate::keyring::Keyring;
use crate::link::{Link, LinkError};
use crate::mint::{self, Minted, seal_host_part};
use crate::names::{Name, Timestamp};
use crate::progress::{OfRenewal, Progress};
use crate::store::{MemberState, Node, NodeStatus, Store};

/// How often a generation is made anew because the node holds a later one, or has lost the one that it acknowledged.
const ATTEMPTS: u32 = 3;

/// Whether another generation makes worthless what somebody who commanded the element for a while may have kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heals {
    /// It does: the root can be unwrapped by the element alone.
    Yes,
    /// Only if nobody is root on the node while the command runs: the element attests no key.
    IfNobodyIsRoot,
    /// It does not: whoever has the old root, or the keys of the old epochs, reads the new one.
    No,
}

impl Heals {
    /// What it does for a node.
    pub fn of(node: &Node) -> Self {
        match &node.element {
            Some(element) if element.protection == Protection::Software => Self::No,
            Some(element) if element.kind == "pkcs11" => Self::IfNobodyIsRoot,
            _ => Self::Yes,
        }
    }
}

/// Makes another generation of a node's provisioning relationship, and has it begin. Returns its generation.
pub(crate) fn renew(
    store: &Store,
    name: &Name,
    tell: &mut dyn FnMut(Progress),
) -> Result<(Node, SynchronizedDataSet), Error> {
    let node = store.node_by_name(name)?.ok_or_else(|| Refusal::Unknown { name: name.clone() })?;
    if node.status != NodeStatus::Active {
        return Err(not_active(&node));
    }
    let mut link = Link::open(store, &node)?;
    tell(OfRenewal::BackupsAreOver { node: node.name.clone() }.into());
    match Heals::of(&node) {
        Heals::Yes => {}
        Heals::IfNobodyIsRoot => tell(OfRenewal::HealsIfNobodyIsRoot { node: node.name.clone() }.into()),
        Heals::No => tell(OfRenewal::HealsNothing { node: node.name.clone() }.into()),
    }
    let sds = renew_over(store, &mut link)?;
    store.forget_absence(node.id)?;
    Ok((node, sds))
}

/// The same over a link that is open, and goes on over the later generation.
pub(crate) fn renew_over(store: &Store, link: &mut Link<'_>) -> Result<SynchronizedDataSet, Error> {
    let node = link.node().clone();
    for _ in 0..ATTEMPTS {
        check(&node, &link.identify()?)?;
        let sds = next(store, link, &node)?;
        match install(store, link, &node, &sds) {
            Ok(()) => {}
            // The node holds something above it that this store does not know.
            Err(Error::Link(LinkError::Refused { outcome: Outcome::Conflict, .. })) => {
                make(store, link, &node)?;
                continue;
            }
            Err(error) => return Err(error),
        }
        store.acknowledge_generation(&sds)?;
        link.speak_anew()?;
        link.identify()?;
        if link.generation() == sds.generation() {
            return Ok(sds);
        }
        // The node lost it before it began, and is in the one before.
    }
    Err(OfRelationship::from(Lacks::NodeOvertaken { name: node.name }).into())
}

/// What was made and not acknowledged, or one that is made now.
fn next(store: &Store, link: &mut Link<'_>, node: &Node) -> Result<SynchronizedDataSet, Error> {
    let latest = store.latest_made(node.relationship)?;
    let is_pending = latest.generation() > link.generation()
        && store.state_at_node(&latest)? == MemberState::Pending
        && store.secrets_of(&latest)?.host_part().is_some();
    if is_pending { Ok(latest) } else { make(store, link, node) }
}

/// Makes another generation in the store, above all that was made and that the node holds.
fn make(store: &Store, link: &mut Link<'_>, node: &Node) -> Result<SynchronizedDataSet, Error> {
    let latest = store.latest_made(node.relationship)?;
    let held = link.status()?.into_iter().find(|status| status.relationship == node.relationship);
    let (generation, version) =
        held.map_or((0, 0), |status| (status.generation.max(status.highest), status.element_version));
    let above = |what: &'static str, one: u32, other: u32| {
        one.max(other).checked_add(1).ok_or_else(|| Error::from(OfRelationship::from(Lacks::Number { what })))
    };
    let generation = above("generation", latest.generation(), generation)?;
    let version = above("element version", latest.element_version(), version)?;
    let Minted { sds, secrets } = mint::next_provisioning(&latest, generation, version)
        .map_err(|error| OfRelationship::from(Members::Invalid(error)))?;
    store.add_provisioning_generation(&sds, &secrets, Timestamp::now())?;
    Ok(sds)
}

fn install(store: &Store, link: &mut Link<'_>, node: &Node, sds: &SynchronizedDataSet) -> Result<(), Error> {
    let gone = || Error::from(LinkError::NoCredentials { node: node.name.to_string() });
    let root = store.element_root(node.relationship, sds.element_version())?.ok_or_else(gone)?;
    let part = store.secrets_of(sds)?.host_part().ok_or_else(gone)?;
    let lacks = || OfRelationship::from(Lacks::Element { name: node.name.clone() });
    let element = node.element.clone().ok_or_else(lacks)?;
    let root_check = RootCheck::of(&root);
    let material = link.prepare(sds)?;
    let keys = Keyring::default().wrap_keys(store, &element)?;
    let module = &store.module().name;
    let install = Install {
        public_part: sds.emit(),
        wrapped_root: Some(wrap(sds.root(root_check), &root, &element, &material, &keys)?),
        root_check,
        host_part: seal_host_part(&part, &root, sds, node.id),
        label: format!("provisioning by {module}"),
        member_labels: vec![module.to_string(), node.name.to_string()],
        endpoints: Vec::new(),
    };
    Ok(link.install(sds, &part.digest(), install.emit().expose(), &root)?)
}
