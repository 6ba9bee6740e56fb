//! What is looked at before step 1, and steps 1 and 2.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use akm_core::crypto::Suite;
use akm_core::element::Description;
use akm_core::enrolment::Preparation;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::policy::Policy;
use akm_core::sds::{Generation, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::secret::Secret;
use akm_element::ElementSpec;

use super::station;
use super::steps::read_preparation;
use super::{DEFAULT_PORT, Observer, Order, StepReport};
use crate::error::CommandError;
use crate::link::random;
use crate::lock::{Lock, LockKey};
use crate::names::{Name, Timestamp};
use crate::store::{JournalEntry, NewNode, Node, Store};
use crate::vault::Vault;
use akm_target::{Stack, Target};

/// Longest directory of a target, in bytes: the path of the socket in it must fit into the 107 bytes
/// that the system allows.
const DIR_MAX: usize = 107 - "/run/akmd.sock".len();

/// How long to wait for another command that is choosing addresses.
const ADDRESSES_PATIENCE: Duration = Duration::from_secs(10);

/// Refuses what can be refused, then does steps 1 and 2. `active` is the node that is at the target, `replaced` the one
/// whose place the new one takes.
pub(super) fn accept(
    store: &Store,
    order: &Order,
    active: Option<&Node>,
    replaced: Option<&Node>,
    observer: &mut dyn Observer,
) -> Result<Node, CommandError> {
    let name = match (&order.name, replaced) {
        (Some(name), _) => name.clone(),
        (None, Some(replaced)) => replaced.name.clone(),
        (None, None) => name_from_target(store, order)?,
    };
    check_name_is_free(store, &name, replaced)?;
    let (target, path) = check_target(order, None)?;
    let probe = target.probe()?;
    if probe.release.is_some() {
        match ask_whoever_is_there(&target, probe.has_state) {
            Ok(Some(found)) => {
                check_element(store, &found, replaced.map(|replaced| replaced.id).as_slice())?;
                check_owner(store, &found, order.again || active.is_some())?;
            }
            Ok(None) => {}
            // A node of ours at this very target: step 3 mends its stack, and step 4 asks again.
            Err(CommandError::Failed(why)) if active.is_some() => {
                observer.note(&format!("{why}; its stack is installed anew"));
            }
            Err(error) => return Err(error),
        }
    }
    let element = element(order, active)?;
    // Until the node is saved: no two ceremonies choose the same address.
    let _choosing = choosing_addresses(store)?;
    let (listen, endpoint) = addresses(store, order, active, &target)?;

    let beginning = Beginning {
        name,
        target: order.target.to_string(),
        ssh_config: order.ssh_config.clone(),
        element,
        listen: Some(listen),
        endpoint: Some(endpoint),
        stack: path,
        station: None,
        replaces: replaced.map(|replaced| replaced.id),
    };
    begin(store, AkmId::from_random(random()), beginning, observer)
}

/// Refuses a target at which the stack could not work; `chosen` is the stack, unless the order names another. Changes
/// nothing.
pub(super) fn check_target(order: &Order, chosen: Option<&Path>) -> Result<(Target, PathBuf), CommandError> {
    if order.target.dir().len() > DIR_MAX {
        return Err(CommandError::Usage(format!(
            "the directory of the target is too long for a socket in it: at most {DIR_MAX} bytes"
        )));
    }
    let path = match order.stack.as_deref().or(chosen) {
        Some(path) => path.to_owned(),
        None => stack_beside_us()?,
    };
    let stack = Stack::load(&path).map_err(|error| CommandError::Failed(error.to_string()))?;
    let target = Target::new(order.target.clone(), order.ssh_config.as_deref());
    // The configuration is not known yet, but what counts here is the program.
    target.admit(&target.probe()?, &stack.release("", target.dir()), false)?;
    Ok((target, path))
}

/// Refuses a device that is a node already, unless it is `own`.
pub(super) fn check_is_nobodys(store: &Store, target: &Target, own: AkmId) -> Result<(), CommandError> {
    let probe = target.probe()?;
    if probe.release.is_none() {
        return Ok(());
    }
    match ask_whoever_is_there(target, probe.has_state)? {
        Some(found) if found.node.is_some_and(|found| found.node != own) => check_owner(store, &found, false),
        _ => Ok(()),
    }
}

/// Held from the choice of an address until that is in the store: no two nodes are given the same.
pub(super) fn choosing_addresses(store: &Store) -> Result<Lock, CommandError> {
    Ok(Lock::acquire(store.home(), LockKey::Addresses, ADDRESSES_PATIENCE)?)
}

/// A name is that of one node; `active` may keep its own.
pub(super) fn check_name_is_free(
    store: &Store,
    name: &Name,
    active: Option<&Node>,
) -> Result<(), CommandError> {
    if *name == store.module().name {
        return Err(CommandError::Exists(format!(
            "the name {name} is taken by the module itself: choose another with --name"
        )));
    }
    match store.node_by_name(name)? {
        Some(holder) if active.is_none_or(|active| active.id != holder.id) => Err(CommandError::Exists(
            format!("the name {name} is taken by the node at {}: choose another with --name", holder.target),
        )),
        _ => Ok(()),
    }
}

/// What is known of a node before it exists.
pub(super) struct Beginning {
    pub(super) name: Name,
    pub(super) target: String,
    pub(super) ssh_config: Option<PathBuf>,
    pub(super) element: ElementSpec,
    pub(super) listen: Option<SocketAddr>,
    pub(super) endpoint: Option<String>,
    pub(super) stack: PathBuf,
    pub(super) station: Option<PathBuf>,
    pub(super) replaces: Option<AkmId>,
}

/// Steps 1 and 2: creates the node and its provisioning relationship, and saves both.
pub(super) fn begin(
    store: &Store,
    id: AkmId,
    beginning: Beginning,
    observer: &mut dyn Observer,
) -> Result<Node, CommandError> {
    let started_at = Timestamp::now();
    let started = Instant::now();
    let relationship = RelationshipId::from_random(random());
    let sds = SynchronizedDataSet::new(Generation {
        kind: Kind::Provisioning,
        relationship,
        generation: 1,
        element_version: 1,
        instance: random(),
        suite: Suite::Aes256Gcm,
        members: vec![store.module().root, id],
        policy: Policy::provisioning().emit(),
    })
    .map_err(|error| CommandError::Failed(error.to_string()))?;
    let secrets = ParameterDataVector::new(Secret::take(&mut random())).derive(&sds);
    let created = started.elapsed();

    let saving_at = Timestamp::now();
    let saving = Instant::now();
    store.create_node(
        &NewNode {
            id,
            name: beginning.name,
            target: beginning.target,
            ssh_config: beginning.ssh_config,
            element_spec: beginning.element.to_string(),
            listen: beginning.listen.map(|listen| listen.to_string()),
            endpoint: beginning.endpoint,
            stack: Some(beginning.stack),
            station: beginning.station,
            replaces: beginning.replaces,
            created_at: started_at,
        },
        &sds,
        &secrets,
    )?;
    let saved = saving.elapsed();
    let report = [
        (1, started_at, created, format!("AKM ID {id}, provisioning relationship {relationship}")),
        (2, saving_at, saved, "in the module's own set".to_owned()),
    ];
    for (step, started_at, duration, outcome) in report {
        let name = super::STEP_NAMES[step - 1];
        store.journal(&JournalEntry {
            node: id,
            step: step as u8,
            name: name.to_owned(),
            started_at,
            duration,
            outcome: outcome.clone(),
        })?;
        observer.step(&StepReport { number: step as u8, name, duration, outcome });
    }
    store.node_by_id(id)?.ok_or_else(|| CommandError::Failed("the node is gone from the store".to_owned()))
}

/// The `akmd` beside this program.
pub fn stack_beside_us() -> Result<PathBuf, CommandError> {
    let own = std::env::current_exe()
        .map_err(|error| CommandError::Failed(format!("cannot find this program: {error}")))?;
    let akmd = own.with_file_name("akmd");
    if akmd.is_file() {
        Ok(akmd)
    } else {
        Err(CommandError::Failed(format!(
            "there is no akmd beside this program ({}): build it (cargo build --bins) or name one with --stack",
            akmd.display()
        )))
    }
}

/// A device keeps its element when it becomes a new node.
fn element(order: &Order, active: Option<&Node>) -> Result<ElementSpec, CommandError> {
    let kept = active.map(|active| active.element_spec.as_str());
    match (&order.element, kept) {
        (Some(element), Some(kept)) if element.to_string() != kept => Err(CommandError::Usage(format!(
            "the element of this device is {kept}: to take another, remove the node first (akm node remove)"
        ))),
        (Some(element), _) => Ok(element.clone()),
        (None, kept) => kept
            .unwrap_or("software")
            .parse()
            .map_err(|error| CommandError::Failed(format!("the element of this device: {error}"))),
    }
}

/// Asks a stack that is there already who it is; `None` if it does not even run. A device with state
/// whose stack runs, but does not say, may be anybody's: it is left alone.
pub(super) fn ask_whoever_is_there(
    target: &Target,
    has_state: bool,
) -> Result<Option<Preparation>, CommandError> {
    // What a removal that was cut off left behind may hold no program any more.
    let Some(output) = target.akmd_if_installed(&["enroll", "--prepare"], &[])? else { return Ok(None) };
    match output.code {
        Some(0) => read_preparation(&output.stdout).map(Some),
        Some(4) => Err(CommandError::Element(format!(
            "the element at {} refused: {}",
            target.url(),
            output.last_words()
        ))),
        // Step 3 puts a whole one there.
        Some(126 | 127) | None => Ok(None),
        Some(_) if !has_state => Ok(None),
        Some(_) => Err(CommandError::Failed(format!(
            "the stack that is at {} already does not say whose node it is: {}",
            target.url(),
            output.last_words()
        ))),
    }
}

/// Whether a device's element is one that this module may use: it is not the element of any node but
/// `own`, and holds no root of which this module knows nothing.
pub(super) fn check_element(store: &Store, found: &Preparation, own: &[AkmId]) -> Result<(), CommandError> {
    check_is_free(store, &found.element, own)?;
    for leftover in &found.leftovers {
        if store.relationship(*leftover)?.is_none() {
            return Err(CommandError::Element(format!(
                "the element holds a root of relationship {leftover}, which is not of this module; if it may go, \
                 run akmd reset --force at the device"
            )));
        }
    }
    Ok(())
}

/// Refuses an element that is another node's than `own`, or the vault's.
pub(super) fn check_is_free(store: &Store, element: &Description, own: &[AkmId]) -> Result<(), CommandError> {
    if let Some(holder) = holder_of(store, element)?.filter(|holder| !own.contains(&holder.id)) {
        return Err(CommandError::Element(format!(
            "this element ({} {}) belongs to node {} at {}: a device must not be copied; use that target if it is \
             the same device, else reset this one, or plug in another element",
            element.manufacturer, element.serial, holder.name, holder.target
        )));
    }
    // A TPM keeps each user's keys apart; in a token or a card a node and a vault would have one device key.
    let vault = if element.kind == "tpm" { None } else { Vault::element_identity(store.home()) };
    if vault.is_some_and(|vault| vault == element.identity()) {
        return Err(CommandError::Element(format!(
            "this element ({} {}) makes the vault key of this module: take another one for a node",
            element.manufacturer, element.serial
        )));
    }
    Ok(())
}

/// The node whose element this is, or will be once it has come to its target. There is at most one.
fn holder_of(store: &Store, element: &Description) -> Result<Option<Node>, CommandError> {
    if let Some(holder) = store.node_by_element_identity(&element.manufacturer, &element.serial)? {
        return Ok(Some(holder));
    }
    for (node, _) in store.unfinished_ceremonies()? {
        let is_its = node.element.as_ref().is_some_and(|its| its.identity() == element.identity());
        if is_its && station::is_filled(store, &node)? {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// Whose node a device is that was provisioned before.
fn check_owner(store: &Store, found: &Preparation, again: bool) -> Result<(), CommandError> {
    let Some(existing) = found.node else { return Ok(()) };
    if existing.provisioner != store.module().root {
        return Err(CommandError::Failed(format!(
            "this device was provisioned by another module ({}) as node {}: have it removed there, or, at the \
             device itself, run akmd stop and akmd reset --force",
            existing.provisioner, existing.node
        )));
    }
    if !again {
        return Err(CommandError::Exists(format!(
            "this device is node {} of this module already: use --again to make it a new node",
            existing.node
        )));
    }
    Ok(())
}

/// Ports are chosen once and recorded; a device that becomes a new node keeps its address.
pub(super) fn addresses(
    store: &Store,
    order: &Order,
    active: Option<&Node>,
    target: &Target,
) -> Result<(SocketAddr, String), CommandError> {
    let kept = active.and_then(|active| active.listen.as_ref()?.parse::<SocketAddr>().ok());
    let listen = match (order.listen, kept) {
        (Some(listen), _) if listen.port() == 0 => {
            return Err(CommandError::Usage("--listen needs a port that is not 0".to_owned()));
        }
        (Some(listen), _) | (None, Some(listen)) => listen,
        (None, None) if order.target.is_local() => free_address(store, IpAddr::V4(Ipv4Addr::LOCALHOST))?,
        (None, None) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT),
    };
    let kept = active.and_then(|active| active.endpoint.clone()).filter(|_| order.listen.is_none());
    let endpoint = match (&order.endpoint, kept) {
        (Some(endpoint), _) => endpoint.clone(),
        (None, Some(endpoint)) => endpoint,
        (None, None) => endpoint_of(listen, target)?,
    };
    check_endpoint_is_free(store, active.map(|active| active.id).as_slice(), &endpoint)?;
    Ok((listen, endpoint))
}

/// No two nodes are reached at the same place; `own` are the nodes that may be there.
pub(super) fn check_endpoint_is_free(
    store: &Store,
    own: &[AkmId],
    endpoint: &str,
) -> Result<(), CommandError> {
    let mut others = store.nodes()?.into_iter().filter(|node| !own.contains(&node.id));
    match others.find(|node| node.endpoint.as_deref() == Some(endpoint)) {
        None => Ok(()),
        Some(other) => Err(CommandError::Usage(format!(
            "{endpoint} is where node {} is reached: give this one another port with --listen",
            other.name
        ))),
    }
}

/// Where a node that listens there is reached, unless the operator says otherwise.
pub(super) fn endpoint_of(listen: SocketAddr, target: &Target) -> Result<String, CommandError> {
    if !listen.ip().is_unspecified() {
        return Ok(listen.to_string());
    }
    let host = target.network_host()?;
    let port = listen.port();
    Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

/// A port that is free now and that no node of this module was given, running or not.
fn free_address(store: &Store, ip: IpAddr) -> Result<SocketAddr, CommandError> {
    let given: Vec<String> = store.nodes()?.into_iter().filter_map(|node| node.listen).collect();
    loop {
        let port = akm_transport::pick_port(ip)
            .map_err(|error| CommandError::Failed(format!("no free port: {error}")))?;
        let address = SocketAddr::new(ip, port);
        if !given.contains(&address.to_string()) {
            return Ok(address);
        }
    }
}

/// The last part of the directory of a local target, or the host.
fn name_from_target(store: &Store, order: &Order) -> Result<Name, CommandError> {
    let base = match order.target.host() {
        Some(host) => host.host(),
        None => order.target.dir().rsplit('/').next().unwrap_or_default(),
    };
    let base: String = base
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(50)
        .collect();
    let base = base.trim_start_matches(['.', '_', '-']);
    let base = if base.is_empty() { "node" } else { base };
    for number in 1.. {
        let name = if number == 1 { base.to_owned() } else { format!("{base}-{number}") };
        let name: Name = name.parse().map_err(|error| CommandError::Usage(format!("{error}; use --name")))?;
        if name != store.module().name && store.node_by_name(&name)?.is_none() {
            return Ok(name);
        }
    }
    unreachable!("one of the names is free")
}
