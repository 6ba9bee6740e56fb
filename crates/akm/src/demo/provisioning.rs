//! From nothing to four nodes in three relationships: what `akm` does, through the same library.

use akm_core::policy::Policy;
use akm_core::session::Phase;
use serde_json::json;
use std::path::Path;

use super::installation::Installation;
use super::report::Stage;
use super::scratch::Scratch;
use super::{ALL, ASRS, NODES, fast};
use crate::error::CommandError;
use crate::print::sentence;
use akm_provision::ceremony::{Order, STEP_NAMES};
use akm_provision::module::{Custody, Founding, Module};
use akm_provision::names::Name;
use akm_provision::progress::Progress;
use akm_provision::view::{NodeStatus, Standing};

/// Makes a module with a home of its own.
pub(super) fn make_module(stage: &mut Stage, scratch: &Scratch) -> Result<Module, CommandError> {
    let home = scratch.path().join("module");
    let founding = Founding { name: Some(name("demo")), custody: Custody::KeyFile };
    let none = |_| Err(CommandError::failed("a key file needs no passphrase"));
    let module = Module::init(&home, &founding, none, &mut |_| {})?;
    stage.tell(&format!("everything is in {}", scratch.path().display()));
    let root = module.view().akm_id;
    stage.check(
        module.nodes()?.nodes.is_empty(),
        &format!("module demo is the AKM root {root}, and knows no node"),
    )?;
    stage.result(1, "AKM root and provisioning module");
    Ok(module)
}

/// Makes each target into a node.
pub(super) fn provision(
    stage: &mut Stage,
    scratch: &Scratch,
    module: &Module,
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
            again: false,
        };
        let made = module.provision(&order, &mut |progress| {
            // A step is told when it has come to its end.
            if matches!(progress, Progress::Begins { .. }) {
                return;
            }
            steps += u64::from(matches!(progress, Progress::Step(_)));
            stage.tell(&format!("  {}", sentence(&progress)));
        })?;
        stage.check(
            made.status == NodeStatus::Active,
            &format!("node {node} is active: AKM ID {}", made.akm_id),
        )?;
    }
    let expected = (NODES.len() * STEP_NAMES.len()) as u64;
    stage.check(steps == expected, &format!("{expected} steps were taken"))?;
    stage.result(steps, "steps of four ceremonies");
    Ok(())
}

/// Step 5 again for each node, compared with what the node itself shows to its applications.
pub(super) fn verify(
    stage: &mut Stage,
    scratch: &Scratch,
    module: &Module,
    nodes: &[Installation<'_>],
) -> Result<(), CommandError> {
    for node in nodes {
        scratch.go_on()?;
        let verified = module.verify(&name(node.name))?.answer.result?;
        let shown = node.identity()?;
        let same = shown.akm_id == verified.akm_id.to_string()
            && shown.provisioning_relationship_id == verified.provisioning_relationship_id.to_string();
        stage.check(
            same,
            &format!(
                "{} proved AKM ID {}, provisioned by {}",
                node.name, verified.akm_id, verified.provisioning_relationship_id
            ),
        )?;
    }
    stage.result(nodes.len() as u64, "nodes verified over the network");
    Ok(())
}

/// Makes the three ASRs.
pub(super) fn create_asrs(stage: &mut Stage, scratch: &Scratch, module: &Module) -> Result<(), CommandError> {
    for (asr, members) in ASRS {
        scratch.go_on()?;
        let policy = if asr == ALL { fast() } else { Policy::default() };
        let names: Vec<Name> = members.iter().map(|at| name(NODES[*at])).collect();
        let made = module.create_asr(&name(asr), &names, policy, &mut |note| stage.tell(&sentence(&note)))?;
        let mut established = made.members.len() == members.len();
        for member in made.members {
            let Standing { generation, epoch, phase, .. } = member.standing?;
            established &= phase == Phase::Established && generation == 1;
            let epoch = epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
            stage.tell(&format!("{asr}: {} generation {generation} epoch {epoch} {phase:?}", member.node));
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
