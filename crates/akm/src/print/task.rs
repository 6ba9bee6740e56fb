//! What is parked.

use akm_provision::relationship::Work;
use akm_provision::view::Task;

use super::{row, say, say_json, table};
use crate::error::CommandError;

/// What is parked, for whom, since when, and when it is tried again.
pub(crate) fn tasks(tasks: &[Task], as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(&tasks);
    }
    if tasks.is_empty() {
        return say("nothing is parked");
    }
    let mut rows = vec![row(&["NODE", "ASR", "WORK", "SINCE", "AWAY SINCE", "NEXT TRY"])];
    for task in tasks {
        let what = match task.generation {
            Some(generation) => format!("{} generation {generation}", task.work.as_str()),
            None => task.work.as_str().to_owned(),
        };
        let (away, next) = match (task.away_since, task.next_try) {
            // Nobody can reach it; whoever sees this can take it out.
            _ if task.is_hopeless() => (
                "-".to_owned(),
                format!("never, it is no node any more: akm asr remove {} {}", task.asr, task.node),
            ),
            (Some(away), Some(next)) => (away.to_string(), next.to_string()),
            _ if matches!(task.work, Work::Wait(_)) => ("-".to_owned(), "when all have it".to_owned()),
            _ => ("-".to_owned(), "at once".to_owned()),
        };
        rows.push(vec![
            task.node.to_string(),
            task.asr.to_string(),
            what,
            task.since.to_string(),
            away,
            next,
        ]);
    }
    table(&rows)
}
