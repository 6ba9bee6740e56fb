//! Steps 1 and 2: the node and its provisioning relationship, made and saved once nothing stands against them.

use std::path::PathBuf;
use std::time::Instant;

use akm_core::id::AkmId;
use akm_element::ElementSpec;
use akm_target::TargetUrl;
use akm_transport::{Endpoint, NamedEndpoint};

use super::addresses::{addresses, choosing_addresses};
use super::checks::{check_element, check_name_is_free, check_owner, check_target};
use super::preparation::ask_whoever_is_there;
use super::{Order, STEP_NAMES, begins};
use crate::error::Error;
use crate::error::ceremony::{Device, Refusal, Taken, Unfit};
use crate::mint::{self, Minted};
use crate::names::{Name, Timestamp};
use crate::progress::{OfCeremony, Progress, StepReport};
use crate::store::{JournalEntry, NewNode, Node, Store};

/// Refuses what can be refused, then does steps 1 and 2. `active` is the node that is at the target, `replaced` the one
/// whose place the new one takes.
pub(super) fn accept(
    store: &Store,
    order: &Order,
    active: Option<&Node>,
    replaced: Option<&Node>,
    tell: &mut dyn FnMut(Progress),
) -> Result<Node, Error> {
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
            Err(why) if active.is_some() && why.kind().is_mere_failure() => {
                tell(OfCeremony::StackAnew { why }.into());
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
        target: order.target.clone(),
        ssh_config: order.ssh_config.clone(),
        element,
        listen: Some(listen),
        endpoint: Some(endpoint),
        stack: path,
        station: None,
        replaces: replaced.map(|replaced| replaced.id),
    };
    begin(store, mint::akm_id(), beginning, tell)
}

/// What is known of a node before it exists.
pub(super) struct Beginning {
    pub(super) name: Name,
    pub(super) target: TargetUrl,
    pub(super) ssh_config: Option<PathBuf>,
    pub(super) element: ElementSpec,
    pub(super) listen: Option<Endpoint>,
    pub(super) endpoint: Option<NamedEndpoint>,
    pub(super) stack: PathBuf,
    pub(super) station: Option<PathBuf>,
    pub(super) replaces: Option<AkmId>,
}

/// Steps 1 and 2: creates the node and its provisioning relationship, and saves both.
pub(super) fn begin(
    store: &Store,
    id: AkmId,
    beginning: Beginning,
    tell: &mut dyn FnMut(Progress),
) -> Result<Node, Error> {
    tell(begins(1));
    let started_at = Timestamp::now();
    let started = Instant::now();
    let Minted { sds, secrets } = mint::provisioning(store.module().root, id).map_err(|error| {
        Refusal::from(Device::Refused { what: "the relationship cannot be made", source: error.into() })
    })?;
    let relationship = sds.relationship();
    let created = started.elapsed();

    let saving_at = Timestamp::now();
    let saving = Instant::now();
    store.create_node(
        &NewNode {
            id,
            name: beginning.name,
            target: beginning.target,
            ssh_config: beginning.ssh_config,
            element_spec: beginning.element,
            listen: beginning.listen,
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
        let name = STEP_NAMES[step - 1];
        store.journal(&JournalEntry {
            node: id,
            step: step as u8,
            name: name.to_owned(),
            started_at,
            duration,
            outcome: outcome.clone(),
        })?;
        tell(StepReport { number: step as u8, name, duration, outcome }.into());
    }
    Ok(store.node(id)?)
}

/// A device keeps its element when it becomes a new node.
fn element(order: &Order, active: Option<&Node>) -> Result<ElementSpec, Error> {
    match (&order.element, active) {
        (Some(element), Some(active)) if *element != active.element_spec => {
            let (element, name) = (active.element_spec.to_string(), active.name.clone());
            Err(Refusal::from(Taken::ElementOfDevice { element, name }).into())
        }
        (Some(element), _) => Ok(element.clone()),
        (None, Some(active)) => Ok(active.element_spec.clone()),
        (None, None) => Ok(ElementSpec::Software { passphrase_file: None }),
    }
}

/// The last part of the directory of a local target, or the host.
fn name_from_target(store: &Store, order: &Order) -> Result<Name, Error> {
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
        let name: Name = name.parse().map_err(|error| Refusal::from(Unfit::Name(error)))?;
        if name != store.module().name && store.node_by_name(&name)?.is_none() {
            return Ok(name);
        }
    }
    unreachable!("one of the names is free")
}
