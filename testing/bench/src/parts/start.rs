//! Starting the stack of a node with few and with many relationships.

use std::path::Path;
use std::time::Instant;

use crate::error::BenchError;
use crate::installed_node::{InstalledNode, Start};
use crate::report::Row;
use crate::rounds::{Comparison, Effort, Spread};

pub(super) fn run(effort: Effort, scratch: &Path) -> Result<Vec<Row>, BenchError> {
    let sizes = effort.size([1, 1_000, 100_000], [1, 5, 20]);
    let mut nodes = Vec::new();
    for size in sizes {
        nodes.push(InstalledNode::with(scratch, size)?);
    }
    // What was written to make them ready shall not be synced by those that are measured.
    rustix::fs::sync();
    let least = effort.size(2, 1);
    let began = Instant::now();
    let mut rounds: Vec<Vec<Start>> = Vec::new();
    while rounds.len() < least || (!effort.brief && began.elapsed() < effort.length) {
        rounds.push(nodes.iter().map(InstalledNode::start).collect::<Result<_, _>>()?);
    }
    let row = |large: usize, small: usize| {
        let of =
            |at: usize, figure: fn(&Start) -> f64| rounds.iter().map(|round| figure(&round[at])).collect();
        let [ready, heard]: [fn(&Start) -> f64; 2] =
            [|start| start.ready.as_secs_f64(), |start| start.heard.as_secs_f64()];
        let memory = |at: usize| Spread::of(of(at, |start| start.resident_kib as f64)).median;
        let per_relationship = (memory(large) - memory(small)) / (sizes[large] - sizes[small]) as f64;
        let hellos = Comparison::of(of(large, heard), of(small, heard));
        Row::of(
            "start",
            format!("start with {} relationships", sizes[large]),
            format!("with {}", sizes[small]),
            Comparison::of(of(large, ready), of(small, ready)),
        )
        .with_fact("seconds until it is ready", Spread::of(of(large, ready)).median)
        .with_fact("seconds until the others have heard of it in all", hellos.a.median)
        .with_fact("ratio of the latter", hellos.ratio.median)
        .with_fact("MiB of memory", memory(large) / 1024.0)
        .with_fact("KiB of memory for each relationship", per_relationship)
    };
    Ok(vec![row(1, 0), row(2, 1)])
}
