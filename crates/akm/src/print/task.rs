//! What is parked.

use crate::error::CommandError;
use akm_provision::relationship::{Task, Work, next_try};
use akm_provision::store::NodeStatus;
use serde_json::{Value, json};

use super::{row, say, say_json, table};

/// What is parked, for whom, since when, and when it is tried again.
pub(crate) fn tasks(tasks: &[Task], as_json: bool) -> Result<(), CommandError> {
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
