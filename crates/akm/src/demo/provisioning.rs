//! From nothing to four nodes in three relationships: what `akm` does, through the same library.

use akm_core::policy::Policy;
use akm_core::session::Phase;
use akm_core::tree::NO_EPOCH;
use serde_json::json;
use std::path::Path;

use super::installation::Installation;
use super::report::Stage;
use super::scratch::Scratch;
use super::{ALL, ASRS, NODES, fast};
use crate::error::CommandError;
use crate::print::sentence;
use akm_provision::ceremony::{self, Order};
use akm_provision::mint;
use akm_provision::names::{Name, Timestamp};
use akm_provision::progress::Progress;
use akm_provision::relationship;
use akm_provision::store::{Module, NodeStatus, Store};
use akm_provision::vault::Vault;

/// Makes a module with a home of its own.
pub(super) fn make_module(stage: &mut Stage, scratch: &Scratch) -> Result<Store, CommandError> {
    let home = scratch.path().join("module");
    let vault = Vault::create_with_key_file(&home)?;
    let root = mint::akm_id();
    let module = Module { name: name("demo"), root, created_at: Timestamp::now() };
    let store = Store::create(&home, &vault, &module)?;
    stage.tell(&format!("everything is in {}", scratch.path().display()));
    stage.check(
        store.nodes()?.is_empty(),
        &format!("module demo is the AKM root {root}, and knows no node"),
    )?;
    stage.result(1, "AKM root and provisioning module");
    Ok(store)
}

/// Makes each target into a node.
pub(super) fn provision(
    stage: &mut Stage,
    scratch: &Scratch,
    store: &Store,
    akmd: &Path,
) -> Result<(), CommandError> {
    let mut steps = 0;
    for node in NODES {
        scratch.go_on()?;
        let target = format!("local:{}", scratch.path().join(node).display());
        stage.tell(&format!("{node} at {target}"));
        let order = Order {
            target: target.parse().map_err(|error| CommandError::failed(format!("{target}: {error}")))?,
            name: Some(name(node)),
            element: None,
            stack: Some(akmd.to_owned()),
            listen: None,
            endpoint: None,
            ssh_config: None,
            card_keys: None,
            again: false,
        };
        let made = ceremony::provision(store, &order, &mut |progress| {
            // A step is told when it has come to its end.
            if matches!(progress, Progress::Begins { .. }) {
                return;
            }
            steps += u64::from(matches!(progress, Progress::Step(_)));
            stage.tell(&format!("  {}", sentence(&progress)));
        })?;
        stage.check(
            made.status == NodeStatus::Active,
            &format!("node {node} is active: AKM ID {}", made.id),
        )?;
    }
    let expected = (NODES.len() * ceremony::STEP_NAMES.len()) as u64;
    stage.check(steps == expected, &format!("{expected} steps were taken"))?;
    stage.result(steps, "steps of four ceremonies");
    Ok(())
}

/// Step 5 again for each node, compared with what the node itself shows to its applications.
pub(super) fn verify(
    stage: &mut Stage,
    scratch: &Scratch,
    store: &Store,
    nodes: &[Installation<'_>],
) -> Result<(), CommandError> {
    for node in nodes {
        scratch.go_on()?;
        let known = store.node_by_name(&name(node.name))?;
        let known =
            known.ok_or_else(|| CommandError::failed(format!("the module lost node {}", node.name)))?;
        let verified = ceremony::verify(store, &known)?.identity;
        let shown = node.identity()?;
        let same = shown.akm_id == verified.node.to_string()
            && shown.provisioning_relationship_id == verified.relationship.to_string();
        stage.check(
            same,
            &format!(
                "{} proved AKM ID {}, provisioned by {}",
                node.name, verified.node, verified.relationship
            ),
        )?;
    }
    stage.result(nodes.len() as u64, "nodes verified over the network");
    Ok(())
}

/// Makes the three ASRs.
pub(super) fn create_asrs(stage: &mut Stage, scratch: &Scratch, store: &Store) -> Result<(), CommandError> {
    for (asr, members) in ASRS {
        scratch.go_on()?;
        let policy = if asr == ALL { fast() } else { Policy::default() };
        let names: Vec<Name> = members.iter().map(|at| name(NODES[*at])).collect();
        let reports = relationship::create(store, &name(asr), &names, policy, &mut |note| {
            stage.tell(&sentence(&note))
        })?;
        let mut established = reports.len() == members.len();
        for report in reports {
            let status = report.status?;
            established &= status.phase == Phase::Established && status.generation == 1;
            let epoch = if status.epoch == NO_EPOCH { "-".to_owned() } else { status.epoch.to_string() };
            let (node, phase) = (report.node.name, status.phase);
            stage.tell(&format!("{asr}: {node} generation {} epoch {epoch} {phase:?}", status.generation));
        }
        stage.check(established, &format!("{asr} is active at all of its {} members", members.len()))?;
    }
    stage.fact("asrs", json!(ASRS.map(|(asr, _)| asr)));
    stage.result(ASRS.len() as u64, "relationships active at all their members");
    Ok(())
}

/// Names of the demonstration, all of them well formed.
fn name(text: &str) -> Name {
    text.parse().expect("a well-formed name")
}
