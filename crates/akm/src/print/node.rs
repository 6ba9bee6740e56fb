//! Nodes, and what becomes of them.

use crate::error::CommandError;
use akm_core::id::RelationshipId;
use akm_core::management::RelationshipStatus;
use akm_core::text::hexadecimal;
use akm_provision::ceremony::{Removal, StepReport, Verified, is_filled};
use akm_provision::error::Error;
use akm_provision::names::Name;
use akm_provision::relationship::rests;
use akm_provision::store::{Node, NodeStatus, Store};
use serde_json::{Value, json};

use super::asr::{status_cells, status_json};
use super::{element, milliseconds, row, say, say_json, table, trouble};

pub(crate) fn step(report: &StepReport) {
    // The steps are told while they happen; if nobody reads them, the ceremony goes on.
    let _ = say(&format!(
        "step {} {:<8} {:>8}  {}",
        report.number,
        report.name,
        milliseconds(report.duration),
        report.outcome
    ));
}

pub(crate) fn provisioned(
    node: &Node,
    steps: &[StepReport],
    notes: &[String],
    as_json: bool,
) -> Result<(), CommandError> {
    if as_json {
        let steps: Vec<Value> = steps.iter().map(step_json).collect();
        return say_json(&json!({ "node": node_json(node), "steps": steps, "notes": notes }));
    }
    say(&format!("node {} is active: AKM ID {}", node.name, node.id))
}

fn step_json(step: &StepReport) -> Value {
    json!({
        "number": step.number,
        "name": step.name,
        "milliseconds": step.duration.as_millis() as u64,
        "outcome": step.outcome,
    })
}

/// A new node, and what became of the ASRs of the one whose place it takes.
pub(crate) fn replaced(
    old: &Name,
    node: &Node,
    steps: &[StepReport],
    asrs: &[(Name, Result<(), Error>)],
    as_json: bool,
) -> Result<(), CommandError> {
    if as_json {
        let steps: Vec<Value> = steps.iter().map(step_json).collect();
        let asrs: Vec<Value> = asrs
            .iter()
            .map(|(asr, result)| match result {
                Ok(()) => json!({ "asr": asr.as_str(), "replaced": true }),
                Err(error) => {
                    let mut value = CommandError::from(error).value();
                    value["asr"] = json!(asr.as_str());
                    value["replaced"] = json!(false);
                    value
                }
            })
            .collect();
        return say_json(
            &json!({ "old": old.as_str(), "node": node_json(node), "steps": steps, "asrs": asrs }),
        );
    }
    say(&format!("node {} is active in the place of {old}: AKM ID {}", node.name, node.id))?;
    for (asr, result) in asrs {
        match result {
            Ok(()) => say(&format!("ASR {asr} has it, and has shut the old one out"))?,
            Err(error) => trouble(&error.into()),
        }
    }
    Ok(())
}

fn element_text(node: &Node) -> String {
    node.element.as_ref().map_or_else(|| node.element_spec.to_string(), element::text)
}

/// A dash for what is not known.
fn or_dash(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn node_json(node: &Node) -> Value {
    json!({
        "name": node.name.as_str(),
        "akm_id": node.id.to_string(),
        "provisioning_relationship_id": node.relationship.to_string(),
        "status": node.status.as_str(),
        "target": node.target.to_string(),
        "endpoint": node.endpoint.as_ref().map(ToString::to_string),
        "listen": node.listen.map(|listen| listen.to_string()),
        "element": element_text(node),
        "element_description": node.element.as_ref().map(element::value),
        "element_spec": node.element_spec.to_string(),
        "stack_version": node.stack_version,
        "integrity_code": node.integrity_code.as_ref().map(|code| hexadecimal(code)),
        "created_at": node.created_at.to_string(),
        "verified_at": node.verified_at.map(|at| at.to_string()),
    })
}

pub(crate) fn nodes(store: &Store, as_json: bool) -> Result<(), CommandError> {
    let module = store.module();
    let nodes = store.nodes()?;
    if as_json {
        let mut list = vec![json!({
            "name": module.name.as_str(),
            "akm_id": module.root.to_string(),
            "provisioning_relationship_id": null,
            "status": "root",
            "target": null,
            "endpoint": null,
            "created_at": module.created_at.to_string(),
        })];
        list.extend(nodes.iter().map(node_json));
        return say_json(&Value::Array(list));
    }
    let mut rows =
        vec![row(&["NAME", "AKM ID", "STATUS", "TARGET", "ENDPOINT", "PROVISIONING RELATIONSHIP"])];
    rows.push(row(&[module.name.as_str(), &module.root.to_string(), "root", "-", "-", "none"]));
    for node in &nodes {
        rows.push(row(&[
            node.name.as_str(),
            &node.id.to_string(),
            node.status.as_str(),
            &node.target.to_string(),
            &or_dash(node.endpoint.as_ref()),
            &node.relationship.to_string(),
        ]));
    }
    table(&rows)
}

/// What the module knows of a node, and what the node says of its relationships, where it was asked.
pub(crate) fn node(
    store: &Store,
    node: &Node,
    at_node: Option<&Result<Vec<RelationshipStatus>, Error>>,
    as_json: bool,
) -> Result<(), CommandError> {
    let journal = store.journal_of(node.id)?;
    let asrs = store.asr_names_of_node(node.id)?;
    if as_json {
        let mut value = node_json(node);
        value["asrs"] = json!(asrs);
        value["at_node"] = match at_node {
            None => Value::Null,
            Some(Err(error)) => CommandError::from(error).value(),
            Some(Ok(held)) => {
                let list = held.iter().map(|status| {
                    let mut value = status_json(status);
                    value["relationship_id"] = json!(status.relationship.to_string());
                    value["name"] = json!(name_of(store, status.relationship)?);
                    Ok(value)
                });
                json!({ "relationships": list.collect::<Result<Vec<_>, CommandError>>()? })
            }
        };
        value["journal"] = journal
            .iter()
            .map(|entry| {
                json!({
                    "step": entry.step,
                    "name": entry.name,
                    "started_at": entry.started_at.to_string(),
                    "milliseconds": entry.duration.as_millis() as u64,
                    "outcome": entry.outcome,
                })
            })
            .collect();
        return say_json(&value);
    }
    let unknown = || "-".to_owned();
    let mut rows = vec![
        row(&["name", node.name.as_str()]),
        row(&["status", node.status.as_str()]),
        row(&["AKM ID", &node.id.to_string()]),
        row(&["provisioning relationship", &node.relationship.to_string()]),
        row(&["target", &node.target.to_string()]),
        row(&["endpoint", &or_dash(node.endpoint.as_ref())]),
        row(&["listens on", &or_dash(node.listen.as_ref())]),
        row(&["element", &element_text(node)]),
        row(&["stack", node.stack_version.as_deref().unwrap_or("-")]),
        row(&[
            "integrity code",
            &node.integrity_code.as_ref().map_or_else(unknown, |code| hexadecimal(code)),
        ]),
        row(&["created", &node.created_at.to_string()]),
        row(&["verified", &node.verified_at.map_or_else(unknown, |at| at.to_string())]),
        row(&["ASRs", &if asrs.is_empty() { unknown() } else { asrs.join(", ") }]),
    ];
    if node.status == NodeStatus::Provisioning {
        let target = if is_filled(store, node)? { "TARGET " } else { "" };
        rows.push(row(&["to go on", &format!("akm provision {target}--resume {}", node.name)]));
    }
    table(&rows)?;
    say("")?;
    let mut rows = vec![row(&["STEP", "", "AT", "TOOK", "OUTCOME"])];
    for entry in &journal {
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
            for status in held {
                let name = name_of(store, status.relationship)?;
                let [generation, epoch, phase] = status_cells(status);
                rows.push(vec![name, generation, epoch, phase]);
            }
            table(&rows)?;
            tell_of_rest(store, node, held)
        }
    }
}

/// What operators call a relationship: the name of an ASR, else its ID.
fn name_of(store: &Store, id: RelationshipId) -> Result<String, CommandError> {
    let name = store.relationship(id)?.and_then(|relationship| relationship.name);
    Ok(name.map_or_else(|| id.to_string(), |name| name.to_string()))
}

/// Says of which relationships a node has no good place any more.
fn tell_of_rest(store: &Store, node: &Node, held: &[RelationshipStatus]) -> Result<(), CommandError> {
    for status in held {
        if let Some(how) = rests(status) {
            let name = name_of(store, status.relationship)?;
            eprintln!(
                "akm: node {} rests in {name}: {how}; akmd status on the device says why and what to do",
                node.name
            );
        }
    }
    Ok(())
}

pub(crate) fn removal(name: &Name, removal: &Removal, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(
            &json!({ "removed": name.as_str(), "erased": removal.erased, "notes": removal.notes }),
        );
    }
    for note in &removal.notes {
        eprintln!("akm: {note}");
    }
    let erased = if removal.erased { "its credentials are erased" } else { "its credentials are NOT erased" };
    say(&format!("node {name} is removed; {erased}"))
}

pub(crate) fn verified(
    store: &Store,
    results: &[(Node, Result<Verified, CommandError>)],
    as_json: bool,
) -> Result<(), CommandError> {
    if as_json {
        let list = results.iter().map(|(node, result)| match result {
            Ok(verified) => json!({
                "node": node.name.as_str(),
                "akm_id": verified.identity.node.to_string(),
                "provisioning_relationship_id": verified.identity.relationship.to_string(),
                "stack_version": verified.identity.stack_version,
                "integrity_code": hexadecimal(&verified.identity.integrity),
                "element": element_text(node),
        "element_description": node.element.as_ref().map(element::value),
                "relationships": verified.identity.relationships.len(),
                "resting": verified.identity.relationships.iter().filter(|status| rests(status).is_some()).count(),
                "verified": true,
            }),
            Err(error) => {
                let mut value = error.value();
                value["node"] = json!(node.name.as_str());
                value["verified"] = json!(false);
                value
            }
        });
        return say_json(&list.collect());
    }
    let mut rows =
        vec![row(&["NODE", "AKM ID", "PROVISIONING RELATIONSHIP", "STACK", "RELATIONSHIPS", "RESULT"])];
    for (node, result) in results {
        rows.push(match result {
            Ok(verified) => row(&[
                node.name.as_str(),
                &verified.identity.node.to_string(),
                &verified.identity.relationship.to_string(),
                &verified.identity.stack_version,
                &format!(
                    "{}{}",
                    verified.identity.relationships.len(),
                    if verified.identity.more { "+" } else { "" }
                ),
                "verified",
            ]),
            Err(_) => row(&[node.name.as_str(), "-", "-", "-", "-", "NOT VERIFIED"]),
        });
    }
    table(&rows)?;
    for (node, result) in results {
        match result {
            Ok(verified) => tell_of_rest(store, node, &verified.identity.relationships)?,
            Err(error) => trouble(error),
        }
    }
    Ok(())
}
