//! ASRs, and how their members stand.

use crate::error::{CommandError, exit_code};
use akm_core::management::RelationshipStatus;
use akm_core::tree::NO_EPOCH;
use akm_provision::error::Kind;
use akm_provision::names::Name;
use akm_provision::relationship::{MemberReport, rests};
use akm_provision::store::Store;
use serde_json::{Value, json};

use super::{row, say, say_json, table, trouble};

pub(crate) fn asrs(store: &Store, as_json: bool) -> Result<(), CommandError> {
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

pub(crate) fn members(
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
            Err(error) => {
                let mut value = CommandError::from(error).value();
                value["node"] = json!(report.node.name.as_str());
                value["akm_id"] = json!(report.node.id.to_string());
                value
            }
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
    for error in reports.iter().filter_map(|report| trouble_of(name, report)) {
        trouble(&error);
    }
    Ok(())
}

/// What is wrong with a member of an ASR, if anything.
fn trouble_of(asr: &Name, report: &MemberReport) -> Option<CommandError> {
    match &report.status {
        Ok(status) => rests(status).map(|how| {
            CommandError::new(Kind::Resting, format!("node {} rests in this ASR: {how}", report.node.name))
                .hint("akmd status on the device says why")
                .hint(format!("a new generation has it back: akm asr renew {asr}"))
        }),
        Err(error) => Some(error.into()),
    }
}

/// What a command that shows a member exits with: 0 if all is well.
pub(crate) fn member_exit_code(report: &MemberReport) -> u8 {
    match &report.status {
        Ok(status) if rests(status).is_some() => exit_code(Kind::Resting),
        Ok(_) => 0,
        Err(error) => exit_code(error.kind()),
    }
}

pub(crate) fn deleted(name: &Name, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(&json!({ "asr": name.as_str(), "status": "ended" }));
    }
    say(&format!("ASR {name} has ended"))
}

/// Generation, epoch and phase as a table shows them.
pub(super) fn status_cells(status: &RelationshipStatus) -> [String; 3] {
    let unless = |absent: bool, number: u32| if absent { "-".to_owned() } else { number.to_string() };
    [
        unless(status.generation == 0, status.generation),
        unless(status.epoch == NO_EPOCH, status.epoch),
        if status.generation == 0 { "damaged".to_owned() } else { format!("{:?}", status.phase) },
    ]
}

pub(super) fn status_json(status: &RelationshipStatus) -> Value {
    json!({
        "generation": status.generation,
        "epoch": (status.epoch != NO_EPOCH).then_some(status.epoch),
        "run": status.run,
        "phase": format!("{:?}", status.phase),
        "rests": rests(status),
    })
}
