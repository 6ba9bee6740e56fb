//! Enrolment: how a device becomes a node (steps 4 of the ceremony, on the target's side).
//!
//! Everything is written before the one step that counts, the switch of the identity. Killed before
//! it, the device is what it was; killed after it, the device is the new node, and what belonged to
//! the old one is erased at the next start. The same envelope again ends in the same node.

use akm_client::Stack;
use akm_core::cbor::Unreadable;
use akm_core::element::{ElementError, ProvisionableElement, Root};
use akm_core::enrolment::{Envelope, ExistingNode, Preparation};
use akm_core::keys::PlaceSeal;
use akm_core::management::Install;
use akm_core::policy::Policy;
use akm_core::proof::Proof;
use akm_core::sds::{HostPart, Kind, SynchronizedDataSet};
use akm_core::seal::{HostPartSeal, KeysSeal};
use akm_core::secret::Secret;
use akm_core::session::RandomSource;
use akm_core::tree::Place;
use akm_element::{ElementSpec, SystemRandom};

use crate::config::Config;
use crate::error::{AsItIs, NodeError, Request, Strange};
use crate::layout::Layout;
use crate::node::description_of;
use crate::storage::{IdentityRecord, Installed, Storage};

/// The index of the node in its provisioning relationship.
const OF_NODE: u16 = 1;

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
        None => roots_of(&mut *element)?,
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
    let unreadable = |why| NodeError::from(Request::Envelope { why });
    let envelope = Envelope::parse(envelope_bytes).map_err(unreadable)?;
    let install = Install::parse(envelope.install.expose()).map_err(unreadable)?;
    let sds =
        SynchronizedDataSet::parse(&install.public_part).map_err(|_| unreadable(Unreadable::Malformed))?;
    if sds.kind() != Kind::Provisioning
        || sds.members()[1] != envelope.node
        || Policy::parse(sds.policy()).is_err()
    {
        return Err(unreadable(Unreadable::Malformed));
    }
    let wrapped = install.wrapped_root.as_ref().ok_or_else(|| unreadable(Unreadable::Malformed))?;
    let config = Config::load(layout)?;
    let storage = Storage::open(layout)?;
    let existing = storage.identity()?;
    let mut element = element_of(&config, &storage, existing.as_ref())?;
    let root = sds.root(install.root_check);

    if let Some(existing) = &existing {
        storage.tidy(Some(existing), &mut *element)?;
        if existing.relationship == sds.relationship() {
            let held = check_same(&storage, existing, &sds)?;
            if held.root_check != install.root_check
                || held.host_part != open_host_part(&mut *element, &install, &sds)?.digest()
            {
                return Err(AsItIs::OtherContent.into());
            }
            let receipt = Proof::receipt(sds.digest(), &held.host_part, envelope_bytes);
            return Ok(receipt.by_element(&mut *element, root)?);
        }
        if envelope.replaces != Some(existing.relationship) {
            return Err(AsItIs::IsNode { node: existing.node }.into());
        }
    } else {
        storage.tidy(None, &mut *element)?;
        check_leftovers(&mut *element, &envelope, root)?;
    }

    let identity = IdentityRecord {
        node: envelope.node,
        relationship: sds.relationship(),
        provisioner: sds.members()[0],
        name: envelope.name.clone(),
    };
    element.make_device_key()?;
    let had_root = element.roots()?.contains(&root);
    element.install(root, wrapped.expose())?;
    let part = match open_host_part(&mut *element, &install, &sds) {
        Err(refused) if !had_root => {
            element.erase(root)?;
            return Err(refused);
        }
        opened => opened?,
    };
    let start = match element.counter() {
        Some(counter) => counter.value()?,
        None => 0,
    };
    let seal = PlaceSeal::derive(&mut *element, start)?;
    let keys = KeysSeal::derive(&mut *element, &sds)?;
    let [mut for_keys, mut for_place] = [[0; 16]; 2];
    SystemRandom.fill(&mut for_keys);
    SystemRandom.fill(&mut for_place);
    let provider = akm_core::crypto::provider();
    let sealed_keys = keys.seal(provider, &for_keys, &part.keys);
    let installed = Installed::of(install, sds, &part, sealed_keys, true);
    let (suite, digest) = (installed.sds.suite(), installed.sds.digest());
    let receipt = Proof::receipt(digest, &installed.host_part, envelope_bytes);
    let place = Place::before_first(0, part.tree_root).emit();
    let sealed = seal.seal(provider, suite, digest, &for_place, place.expose());
    storage.forget(identity.node)?;
    storage.install(identity.node, &installed, &sealed)?;
    let receipt = receipt.by_element(&mut *element, root)?;
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
    for root in roots_of(&mut *element)? {
        element.erase(root)?;
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

/// Opens the host part for the node under the root that its element holds.
fn open_host_part(
    element: &mut dyn ProvisionableElement,
    install: &Install,
    sds: &SynchronizedDataSet,
) -> Result<HostPart, NodeError> {
    let seal = HostPartSeal::by_element(element, sds.root(install.root_check), sds)?;
    seal.open(akm_core::crypto::provider(), OF_NODE, &install.host_part).map_err(|_| {
        let why = "the host part of the envelope does not open under its root".to_owned();
        NodeError::Element(ElementError::Refused(why))
    })
}

/// The same relationship again must be the same down to the last byte. What is held of it.
fn check_same(
    storage: &Storage,
    existing: &IdentityRecord,
    sds: &SynchronizedDataSet,
) -> Result<Installed, NodeError> {
    let found = storage.relationships(existing.node)?;
    let held = found.into_iter().find(|found| found.relationship == sds.relationship());
    match held.map(|found| found.installed) {
        Some(Ok(installed)) if installed.sds.digest() == sds.digest() => Ok(installed),
        Some(Err(error)) => Err(error),
        _ => Err(AsItIs::OtherContent.into()),
    }
}

/// Roots that nobody vouches for are not ours to erase.
fn check_leftovers(
    element: &mut dyn ProvisionableElement,
    envelope: &Envelope,
    own: Root,
) -> Result<(), NodeError> {
    let strange = roots_of(element)?.into_iter().find(|root| *root != own && !envelope.erase.contains(root));
    match strange {
        None | Some(Root::Device) => Ok(()),
        Some(Root::Relationship { id, .. }) => Err(Strange::Root { relationship: id }.into()),
    }
}

/// The roots of relationships that the element holds.
fn roots_of(element: &mut dyn ProvisionableElement) -> Result<Vec<Root>, NodeError> {
    Ok(element.roots()?.into_iter().filter(|root| *root != Root::Device).collect())
}
