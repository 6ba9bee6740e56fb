//! Enrolment: how a device becomes a node (steps 4 of the ceremony, on the target's side).
//!
//! Everything is written before the one step that counts, the switch of the identity. Killed before
//! it, the device is what it was; killed after it, the device is the new node, and what belonged to
//! the old one is erased at the next start. The same envelope again ends in the same node.

use akm_client::Stack;
use akm_core::element::{ElementError, ProvisionableElement, Root};
use akm_core::enrolment::{Envelope, ExistingNode, Preparation};
use akm_core::id::RelationshipId;
use akm_core::keys::{PlaceSeal, install_receipt};
use akm_core::management::Install;
use akm_core::policy::Policy;
use akm_core::sds::{Kind, SynchronizedDataSet};
use akm_core::secret::Secret;
use akm_core::session::RandomSource;
use akm_core::tree::Place;
use akm_element::{ElementSpec, SystemRandom};

use crate::config::Config;
use crate::error::{AsItIs, NodeError, Request, Strange};
use crate::layout::Layout;
use crate::node::description_of;
use crate::storage::{IdentityRecord, Installed, Storage, erase_roots};

/// Says what this device is and what its element needs. While a stack runs, it only says who that is, as that stack knows
/// it: some elements can be used by one program at a time.
pub fn prepare(layout: &Layout) -> Result<Preparation, NodeError> {
    let config = Config::load(layout)?;
    let Some(storage) = Storage::try_open(layout)? else {
        let element = match Stack::connect(layout.dir()).and_then(|mut stack| stack.status()) {
            Ok(status) => description_of(status.element_description),
            Err(error) if error.is_gone() => config.element.open(&layout.state())?.description(),
            Err(error) => return Err(error.into()),
        };
        return Ok(Preparation {
            stack_version: env!("CARGO_PKG_VERSION").to_owned(),
            element,
            material: Vec::new(),
            node: Storage::identity_of_running(layout)?.as_ref().map(existing),
            leftovers: Vec::new(),
        });
    };
    let identity = storage.identity()?;
    let mut element = element_of(&config, &storage, identity.as_ref())?;
    if identity.is_some() || storage.is_disowned() {
        storage.tidy(identity.as_ref(), &mut *element)?;
    }
    let leftovers = match identity {
        Some(_) => Vec::new(),
        None => relationships_of(&mut *element)?,
    };
    Ok(Preparation {
        stack_version: env!("CARGO_PKG_VERSION").to_owned(),
        element: element.description(),
        material: element.prepare()?,
        node: identity.as_ref().map(existing),
        leftovers,
    })
}

/// Makes this device the node of an envelope; returns the receipt of its element.
pub fn enrol(layout: &Layout, envelope_bytes: &[u8]) -> Result<Secret<32>, NodeError> {
    let unreadable = || NodeError::from(Request::Envelope);
    let envelope = Envelope::parse(envelope_bytes).map_err(|_| unreadable())?;
    let install = Install::parse(envelope.install.expose()).map_err(|_| unreadable())?;
    let sds = SynchronizedDataSet::parse(&install.public_part).map_err(|_| unreadable())?;
    if sds.kind() != Kind::Provisioning
        || sds.members()[1] != envelope.node
        || Policy::parse(sds.policy()).is_err()
    {
        return Err(unreadable());
    }
    let wrapped = install.wrapped_root.as_ref().ok_or_else(unreadable)?;
    let config = Config::load(layout)?;
    let storage = Storage::open(layout)?;
    let existing = storage.identity()?;
    let mut element = element_of(&config, &storage, existing.as_ref())?;
    let root = sds.root();

    if let Some(existing) = &existing {
        storage.tidy(Some(existing), &mut *element)?;
        if existing.relationship == sds.relationship() {
            check_same(&storage, existing, &sds)?;
            return Ok(install_receipt(&mut *element, root, envelope_bytes)?);
        }
        if envelope.replaces != Some(existing.relationship) {
            return Err(AsItIs::IsNode { node: existing.node }.into());
        }
    } else {
        storage.tidy(None, &mut *element)?;
        check_leftovers(&mut *element, &envelope, sds.relationship())?;
    }

    let identity = IdentityRecord {
        node: envelope.node,
        relationship: sds.relationship(),
        provisioner: sds.members()[0],
        name: envelope.name.clone(),
    };
    element.make_device_key()?;
    element.install(root, wrapped.expose())?;
    let start = match element.counter() {
        Some(counter) => counter.value()?,
        None => 0,
    };
    let seal = PlaceSeal::derive(&mut *element, start)?;
    let (installed, tree_root) = Installed::of(install, sds, true);
    let mut random = [0; 16];
    SystemRandom.fill(&mut random);
    let (suite, digest) = (installed.sds.suite(), installed.sds.digest());
    let place = Place::before_first(0, tree_root).emit();
    let sealed = seal.seal(akm_core::crypto::provider(), suite, digest, &random, place.expose());
    storage.forget(identity.node)?;
    storage.install(identity.node, &installed, &sealed)?;
    let receipt = install_receipt(&mut *element, root, envelope_bytes)?;
    storage.adopt(&identity)?;
    storage.tidy(Some(&identity), &mut *element)?;
    Ok(receipt)
}

/// Makes the device nobody's: erases the identity, all relationships and their roots. For an operator
/// at the device itself.
pub fn reset(layout: &Layout) -> Result<(), NodeError> {
    let config = Config::load(layout)?;
    let storage = Storage::open(layout)?;
    storage.disown()?;
    let is_file = matches!(config.element, ElementSpec::Software { .. });
    let mut element = match config.element.create(storage.state_dir()) {
        // Nobody can use what it holds any more. Another element may refuse for a PIN that is wrong, and must not be
        // asked a second time.
        Err(error)
            if matches!(error, ElementError::Damaged(_))
                || is_file && matches!(error, ElementError::Refused(_)) =>
        {
            config.element.discard(storage.state_dir())?;
            config.element.create(storage.state_dir())?
        }
        opened => opened?,
    };
    storage.tidy(None, &mut *element)?;
    for relationship in relationships_of(&mut *element)? {
        erase_roots(&mut *element, relationship)?;
    }
    drop(element);
    // A file keeps its serial number, by which the module knows the device again. Another element has one of its own, and
    // whatever else of ours is in it would stay there: the next node makes it anew.
    if !is_file {
        config.element.discard(storage.state_dir())?;
    }
    Ok(())
}

/// The element of this device. One is made where there is none, unless the device is a node: then its own is lost,
/// and another in its place would hide that.
fn element_of(
    config: &Config,
    storage: &Storage,
    identity: Option<&IdentityRecord>,
) -> Result<Box<dyn ProvisionableElement + Send>, ElementError> {
    match identity {
        Some(_) => config.element.open(storage.state_dir()),
        None => config.element.create(storage.state_dir()),
    }
}

fn existing(identity: &IdentityRecord) -> ExistingNode {
    ExistingNode {
        node: identity.node,
        relationship: identity.relationship,
        provisioner: identity.provisioner,
    }
}

/// The same relationship again must be the same down to the last byte.
fn check_same(
    storage: &Storage,
    existing: &IdentityRecord,
    sds: &SynchronizedDataSet,
) -> Result<(), NodeError> {
    let found = storage.relationships(existing.node)?;
    let held = found.into_iter().find(|found| found.relationship == sds.relationship());
    match held.map(|found| found.installed) {
        Some(Ok(installed)) if installed.sds.digest() == sds.digest() => Ok(()),
        Some(Err(error)) => Err(error),
        _ => Err(AsItIs::OtherContent.into()),
    }
}

/// Roots that nobody vouches for are not ours to erase.
fn check_leftovers(
    element: &mut dyn ProvisionableElement,
    envelope: &Envelope,
    relationship: RelationshipId,
) -> Result<(), NodeError> {
    let strange =
        relationships_of(element)?.into_iter().find(|id| *id != relationship && !envelope.erase.contains(id));
    match strange {
        None => Ok(()),
        Some(relationship) => Err(Strange::Root { relationship }.into()),
    }
}

fn relationships_of(element: &mut dyn ProvisionableElement) -> Result<Vec<RelationshipId>, NodeError> {
    let mut ids: Vec<_> = element
        .roots()?
        .into_iter()
        .filter_map(|root| match root {
            Root::Relationship { id, .. } => Some(id),
            Root::Device => None,
        })
        .collect();
    ids.dedup();
    Ok(ids)
}
