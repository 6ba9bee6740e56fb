//! Nodes, and what becomes of them.

use akm_core::text::hexadecimal;
use akm_provision::names::Name;
use akm_provision::view::{
    Node, NodeShown, NodeStatus, Nodes, Provisioned, ProvisioningRenewed, Removal, Replaced, Root,
    Verification,
};

use super::asr::standing_cells;
use super::{milliseconds, note, row, say, say_json, table, trouble};
use crate::error::CommandError;

/// A new node.
pub(crate) fn provisioned(provisioned: &Provisioned, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(provisioned);
    }
    let Node { name, akm_id, .. } = &provisioned.node;
    say(&format!("node {name} is active: AKM ID {akm_id}"))
}

/// A new node, and what became of the ASRs of the one whose place it takes.
pub(crate) fn replaced(replaced: &Replaced<CommandError>, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(replaced);
    }
    let Replaced { old, node, asrs, .. } = replaced;
    say(&format!("node {} is active in the place of {old}: AKM ID {}", node.name, node.akm_id))?;
    for place in asrs {
        match &place.result {
            Ok(()) => say(&format!("ASR {} has it, and has shut the old one out", place.asr))?,
            Err(error) => trouble(error),
        }
    }
    Ok(())
}

/// A dash for what is not known.
fn or_dash(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// All nodes, the root first.
pub(crate) fn nodes(nodes: &Nodes, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(nodes);
    }
    let mut rows =
        vec![row(&["NAME", "AKM ID", "STATUS", "TARGET", "ENDPOINT", "PROVISIONING RELATIONSHIP"])];
    let Root { name, akm_id, .. } = &nodes.root;
    rows.push(row(&[name.as_str(), &akm_id.to_string(), Root::STATUS, "-", "-", "none"]));
    for node in &nodes.nodes {
        rows.push(row(&[
            node.name.as_str(),
            &node.akm_id.to_string(),
            node.status.as_str(),
            &node.target.to_string(),
            &or_dash(node.endpoint.as_ref()),
            &node.provisioning_relationship_id.to_string(),
        ]));
    }
    table(&rows)
}

/// What the module knows of a node, and what the node says of its relationships, where it was asked.
pub(crate) fn node(shown: &NodeShown<CommandError>, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(shown);
    }
    let NodeShown { node, asrs, at_node, journal, is_filled } = shown;
    let integrity_code = node.integrity_code.as_ref().map(|code| hexadecimal(code));
    let mut rows = vec![
        row(&["name", node.name.as_str()]),
        row(&["status", node.status.as_str()]),
        row(&["AKM ID", &node.akm_id.to_string()]),
        row(&["provisioning relationship", &node.provisioning_relationship_id.to_string()]),
        row(&["target", &node.target.to_string()]),
        row(&["endpoint", &or_dash(node.endpoint.as_ref())]),
        row(&["listens on", &or_dash(node.listen.as_ref())]),
        row(&["element", &node.element]),
        row(&["stack", &or_dash(node.stack_version.as_ref())]),
        row(&["integrity code", &or_dash(integrity_code.as_ref())]),
        row(&["created", &node.created_at.to_string()]),
        row(&["verified", &or_dash(node.verified_at.as_ref())]),
        row(&["ASRs", &or_dash((!asrs.is_empty()).then(|| asrs.join(", ")).as_ref())]),
    ];
    if node.status == NodeStatus::Provisioning {
        let target = if *is_filled { "TARGET " } else { "" };
        rows.push(row(&["to go on", &format!("akm provision {target}--resume {}", node.name)]));
    }
    table(&rows)?;
    say("")?;
    let mut rows = vec![row(&["STEP", "", "AT", "TOOK", "OUTCOME"])];
    for entry in journal {
        rows.push(row(&[
            &entry.step.to_string(),
            &entry.name,
            &entry.started_at.to_string(),
            &milliseconds(entry.duration),
            &entry.outcome,
        ]));
    }
    table(&rows)?;
    match at_node {
        None => Ok(()),
        Some(Err(error)) => say(&format!("\nwhat it holds is not known: {error}")),
        Some(Ok(held)) => {
            say("")?;
            let mut rows = vec![row(&["HELD BY THE NODE", "GENERATION", "EPOCH", "PHASE"])];
            for held in &held.relationships {
                let [generation, epoch, phase] = standing_cells(&held.standing);
                rows.push(vec![held.name.clone(), generation, epoch, phase]);
            }
            table(&rows)?;
            for held in &held.relationships {
                if let Some(how) = held.standing.rests {
                    rests(&node.name, &held.name, how);
                }
            }
            Ok(())
        }
    }
}

/// A node has no good place in a relationship any more.
fn rests(node: &Name, relationship: &str, how: &str) {
    note(&format!(
        "node {node} rests in {relationship}: {how}; akmd status on the device says why and what to do"
    ));
}

/// A node that is gone.
pub(crate) fn removal(removal: &Removal, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(removal);
    }
    let erased = if removal.erased { "its credentials are erased" } else { "its credentials are NOT erased" };
    say(&format!("node {} is removed; {erased}", removal.removed))
}

/// A node whose provisioning relationship has another generation.
pub(crate) fn renewed(renewed: &ProvisioningRenewed, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(renewed);
    }
    let ProvisioningRenewed { renewed: node, generation, .. } = renewed;
    say(&format!("node {node} has generation {generation} of its provisioning relationship"))
}

/// Nodes that were asked who they are.
pub(crate) fn verified(results: &[Verification<CommandError>], as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(&results);
    }
    let mut rows =
        vec![row(&["NODE", "AKM ID", "PROVISIONING RELATIONSHIP", "STACK", "RELATIONSHIPS", "RESULT"])];
    for Verification { node, result, .. } in results {
        rows.push(match result {
            Ok(proof) => row(&[
                node.as_str(),
                &proof.akm_id.to_string(),
                &proof.provisioning_relationship_id.to_string(),
                &proof.stack_version,
                &proof.relationships.to_string(),
                "verified",
            ]),
            Err(_) => row(&[node.as_str(), "-", "-", "-", "-", "NOT VERIFIED"]),
        });
    }
    table(&rows)?;
    for Verification { node, result, .. } in results {
        match result {
            Ok(proof) => {
                for resting in &proof.resting {
                    rests(node, &resting.name, resting.how);
                }
            }
            Err(error) => trouble(error),
        }
    }
    Ok(())
}
