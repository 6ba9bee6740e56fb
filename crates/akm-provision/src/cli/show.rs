//! What the commands print: text for people, JSON for programs.

use std::io::Write;
use std::time::Duration;

use akm_core::id::RelationshipId;
use akm_core::management::RelationshipStatus;
use akm_core::tree::NO_EPOCH;
use serde_json::{Value, json};

use super::{custody_word, element};
use crate::ceremony::{Removal, StepReport, Verified, is_filled};
use crate::diagnosis::Finding;
use crate::error::CommandError;
use crate::names::Name;
use crate::relationship::{MemberReport, Task, Work, next_try, rests};
use crate::store::{Node, NodeStatus, Store};

/// Prints a line; an error if nobody reads it.
pub(crate) fn say(line: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| CommandError::Failed(format!("cannot write to standard output: {error}")))
}

pub(crate) fn say_json(value: &Value) -> Result<(), CommandError> {
    say(&format!("{value:#}"))
}

/// A table with columns as wide as they need to be.
pub(crate) fn table(rows: &[Vec<String>]) -> Result<(), CommandError> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say(cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

pub(super) fn error(error: &CommandError) {
    // If nobody reads the JSON, the exit code still tells.
    let _ = say_json(&json!({ "error": error.to_string(), "exit_code": error.exit_code() }));
}

pub(super) fn module(store: &Store, as_json: bool) -> Result<(), CommandError> {
    let module = store.module();
    let custody = custody_word(store.home());
    if as_json {
        return say_json(&json!({
            "module": module.name.as_str(),
            "akm_id": module.root.to_string(),
            "home": store.home().to_string_lossy(),
            "vault": custody,
        }));
    }
    say(&format!("module {} is the AKM root {}", module.name, module.root))?;
    say(&format!("its home is {}, its vault opens with a {custody}", store.home().display()))
}

/// A duration as people read it.
pub(crate) fn milliseconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

pub(super) fn step(report: &StepReport) {
    // The steps are told while they happen; if nobody reads them, the ceremony goes on.
    let _ = say(&format!(
        "step {} {:<8} {:>8}  {}",
        report.number,
        report.name,
        milliseconds(report.duration),
        report.outcome
    ));
}

pub(super) fn provisioned(
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
pub(super) fn replaced(
    old: &Name,
    node: &Node,
    steps: &[StepReport],
    asrs: &[(Name, Result<(), CommandError>)],
    as_json: bool,
) -> Result<(), CommandError> {
    if as_json {
        let steps: Vec<Value> = steps.iter().map(step_json).collect();
        let asrs: Vec<Value> = asrs
            .iter()
            .map(|(asr, result)| match result {
                Ok(()) => json!({ "asr": asr.as_str(), "replaced": true }),
                Err(error) => json!({
                    "asr": asr.as_str(),
                    "replaced": false,
                    "error": error.to_string(),
                    "exit_code": error.exit_code(),
                }),
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
            Err(error) => eprintln!("akm: {error}"),
        }
    }
    Ok(())
}

fn element_text(node: &Node) -> String {
    node.element.as_ref().map_or_else(|| node.element_spec.clone(), element::text)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn node_json(node: &Node) -> Value {
    json!({
        "name": node.name.as_str(),
        "akm_id": node.id.to_string(),
        "provisioning_relationship_id": node.relationship.to_string(),
        "status": node.status.as_str(),
        "target": node.target,
        "endpoint": node.endpoint,
        "listen": node.listen,
        "element": element_text(node),
        "element_description": node.element.as_ref().map(element::value),
        "element_spec": node.element_spec,
        "stack_version": node.stack_version,
        "integrity_code": node.integrity_code.as_ref().map(|code| hexadecimal(code)),
        "created_at": node.created_at.to_string(),
        "verified_at": node.verified_at.map(|at| at.to_string()),
    })
}

pub(super) fn nodes(store: &Store, as_json: bool) -> Result<(), CommandError> {
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
            &node.target,
            node.endpoint.as_deref().unwrap_or("-"),
            &node.relationship.to_string(),
        ]));
    }
    table(&rows)
}

/// What the module knows of a node, and what the node says of its relationships, where it was asked.
pub(super) fn node(
    store: &Store,
    node: &Node,
    at_node: Option<&Result<Vec<RelationshipStatus>, CommandError>>,
    as_json: bool,
) -> Result<(), CommandError> {
    let journal = store.journal_of(node.id)?;
    let asrs = store.asr_names_of_node(node.id)?;
    if as_json {
        let mut value = node_json(node);
        value["asrs"] = json!(asrs);
        value["at_node"] = match at_node {
            None => Value::Null,
            Some(Err(error)) => json!({ "error": error.to_string(), "exit_code": error.exit_code() }),
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
        row(&["target", &node.target]),
        row(&["endpoint", node.endpoint.as_deref().unwrap_or("-")]),
        row(&["listens on", node.listen.as_deref().unwrap_or("-")]),
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

/// Generation, epoch and phase as a table shows them.
fn status_cells(status: &RelationshipStatus) -> [String; 3] {
    let unless = |absent: bool, number: u32| if absent { "-".to_owned() } else { number.to_string() };
    [
        unless(status.generation == 0, status.generation),
        unless(status.epoch == NO_EPOCH, status.epoch),
        if status.generation == 0 { "damaged".to_owned() } else { format!("{:?}", status.phase) },
    ]
}

fn status_json(status: &RelationshipStatus) -> Value {
    json!({
        "generation": status.generation,
        "epoch": (status.epoch != NO_EPOCH).then_some(status.epoch),
        "run": status.run,
        "phase": format!("{:?}", status.phase),
        "rests": rests(status),
    })
}

pub(super) fn removal(name: &Name, removal: &Removal, as_json: bool) -> Result<(), CommandError> {
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

pub(super) fn verified(
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
            Err(error) => json!({
                "node": node.name.as_str(),
                "verified": false,
                "error": error.to_string(),
                "exit_code": error.exit_code(),
            }),
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
            Err(error) => eprintln!("akm: {error}"),
        }
    }
    Ok(())
}

pub(super) fn asrs(store: &Store, as_json: bool) -> Result<(), CommandError> {
    let asrs = store.asrs()?;
    let mut listed = Vec::new();
    for asr in &asrs {
        let mut members = Vec::new();
        for member in &asr.members {
            let node = store.node_by_id(member.node)?;
            members.push(node.map_or_else(|| member.node.to_string(), |node| node.name.to_string()));
        }
        members.sort_unstable();
        listed.push((asr, members));
    }
    if as_json {
        let list = listed.iter().map(|(asr, members)| {
            json!({
                "name": asr.name.as_ref().map(Name::as_str),
                "relationship_id": asr.id().to_string(),
                "status": asr.standing(),
                "generation": asr.sds.generation(),
                "members": members,
                "created_at": asr.created_at.to_string(),
            })
        });
        return say_json(&list.collect());
    }
    let mut rows = vec![row(&["NAME", "RELATIONSHIP", "STATUS", "GENERATION", "MEMBERS"])];
    for (asr, members) in &listed {
        rows.push(row(&[
            asr.name.as_ref().map_or("-", Name::as_str),
            &asr.id().to_string(),
            asr.standing(),
            &asr.sds.generation().to_string(),
            &members.join(", "),
        ]));
    }
    table(&rows)
}

pub(super) fn members(
    store: &Store,
    name: &Name,
    reports: &[MemberReport],
    as_json: bool,
) -> Result<(), CommandError> {
    // By name: the order of the SDS is that of random identifiers.
    let mut reports: Vec<&MemberReport> = reports.iter().collect();
    reports.sort_by(|one, other| one.node.name.as_str().cmp(other.node.name.as_str()));
    let asr = store.asr_by_name(name)?;
    let status = asr.as_ref().map_or("ended", |asr| asr.standing());
    let id = asr.as_ref().map(|asr| asr.id().to_string()).unwrap_or_default();
    if as_json {
        let members = reports.iter().map(|report| match &report.status {
            Ok(status) => {
                let mut value = status_json(status);
                value["node"] = json!(report.node.name.as_str());
                value["akm_id"] = json!(report.node.id.to_string());
                value
            }
            Err(error) => json!({
                "node": report.node.name.as_str(),
                "akm_id": report.node.id.to_string(),
                "error": error.to_string(),
                "exit_code": error.exit_code(),
            }),
        });
        return say_json(&json!({
            "asr": name.as_str(),
            "relationship_id": id,
            "status": status,
            "members": members.collect::<Vec<_>>(),
        }));
    }
    say(&format!("ASR {name} ({id}) is {status}"))?;
    let mut rows = vec![row(&["MEMBER", "GENERATION", "EPOCH", "PHASE"])];
    for report in &reports {
        rows.push(match &report.status {
            Ok(status) => {
                let [generation, epoch, phase] = status_cells(status);
                vec![report.node.name.to_string(), generation, epoch, phase]
            }
            Err(_) => row(&[report.node.name.as_str(), "-", "-", "not reached"]),
        });
    }
    table(&rows)?;
    for trouble in reports.iter().filter_map(|report| report.trouble()) {
        eprintln!("akm: {trouble}");
    }
    Ok(())
}

pub(super) fn deleted(name: &Name, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(&json!({ "asr": name.as_str(), "status": "ended" }));
    }
    say(&format!("ASR {name} has ended"))
}

/// What is parked, for whom, since when, and when it is tried again.
pub(super) fn tasks(tasks: &[Task], as_json: bool) -> Result<(), CommandError> {
    let word = |work: Work| match work {
        Work::Install(_) => "install",
        // Who waits has the same to do, after others.
        Work::Activate(_) | Work::Wait(_) => "activate",
        Work::Erase => "erase",
    };
    let generation = |work: Work| match work {
        Work::Install(generation) | Work::Activate(generation) | Work::Wait(generation) => Some(generation),
        Work::Erase => None,
    };
    if as_json {
        let list = tasks.iter().map(|task| {
            json!({
                "node": task.node.name.as_str(),
                "akm_id": task.node.id.to_string(),
                "asr": task.asr.as_str(),
                "work": word(task.work),
                "generation": generation(task.work),
                "since": task.since.to_string(),
                "away_since": task.absence.as_ref().map(|absence| absence.since.to_string()),
                "tries": task.absence.as_ref().map_or(0, |absence| absence.tries),
                "reason": task.absence.as_ref().map(|absence| absence.reason.as_str()),
                "next_try": task.absence.as_ref().map(|absence| next_try(absence).to_string()),
            })
        });
        return say_json(&Value::Array(list.collect()));
    }
    if tasks.is_empty() {
        return say("nothing is parked");
    }
    let mut rows = vec![row(&["NODE", "ASR", "WORK", "SINCE", "AWAY SINCE", "NEXT TRY"])];
    for task in tasks {
        let what = match generation(task.work) {
            Some(generation) => format!("{} generation {generation}", word(task.work)),
            None => word(task.work).to_owned(),
        };
        let (away, next) = match &task.absence {
            // Nobody can reach it; whoever sees this can take it out.
            _ if task.node.status != NodeStatus::Active && generation(task.work).is_some() => (
                "-".to_owned(),
                format!("never, it is no node any more: akm asr remove {} {}", task.asr, task.node.name),
            ),
            Some(absence) => (absence.since.to_string(), next_try(absence).to_string()),
            None if matches!(task.work, Work::Wait(_)) => ("-".to_owned(), "when all have it".to_owned()),
            None => ("-".to_owned(), "at once".to_owned()),
        };
        rows.push(vec![
            task.node.name.to_string(),
            task.asr.to_string(),
            what,
            task.since.to_string(),
            away,
            next,
        ]);
    }
    table(&rows)
}

/// Why two nodes do not reach each other.
pub(super) fn diagnosis(nodes: [&Name; 2], findings: &[Finding], as_json: bool) -> Result<(), CommandError> {
    if as_json {
        let list = findings.iter().map(|finding| {
            json!({
                "cause": finding.cause.name(),
                "asr": finding.asr.as_ref().map(Name::as_str),
                "what": finding.what,
                "to_do": finding.cure,
            })
        });
        let nodes = nodes.map(Name::as_str);
        return say_json(&json!({ "nodes": nodes, "causes": list.collect::<Vec<_>>() }));
    }
    if findings.is_empty() {
        return say(&format!(
            "no cause found: as far as both tell, {} and {} reach each other",
            nodes[0], nodes[1]
        ));
    }
    for finding in findings {
        say(&format!("{}: {}", finding.cause.name(), finding.what))?;
        say(&format!("  to do: {}", finding.cure))?;
    }
    Ok(())
}
