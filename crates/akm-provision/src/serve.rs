//! `akm serve`: stays running, carries parked work on, and shows health and metrics on loopback.
//!
//! Nothing connects to the module, so it hears of a node by asking it. A node with parked work is tried by back-off; all
//! others are asked how they stand once in each round, and an ASR that somebody found back in is renewed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use akm_core::id::AkmId;
use akm_health::{AT_ONCE, Kind, Metrics, PATIENCE, Page, bind_loopback, is_whole, label, response};
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::{info, warn};

use crate::error::{Error, Kind as Refused, ServeError};
use crate::names::Timestamp;
use crate::progress::Progress;
use crate::relationship::{
    Renewals, Task, Work, carry_on, held_by, next_try, renew_found_back, rests, tasks,
};
use crate::store::{Node, NodeStatus, Store};

/// How often it looks whether a back-off is over, or it is told to end.
const LOOK: Duration = Duration::from_millis(200);

/// What the latest round found.
#[derive(Clone, Debug, Default)]
struct Picture {
    /// By node: whether it answered, how many relationships rest there, and how many fallbacks and failsafes it told of.
    nodes: BTreeMap<String, (bool, usize, u64)>,
    parked: usize,
    rounds: u64,
    renewed: u64,
    trouble: Vec<String>,
}

/// Runs until it is told to end. `every` is the time between two rounds.
pub fn serve(
    store: &Store,
    listen: Option<SocketAddr>,
    every: Duration,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let ends = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ends)).map_err(ServeError::Signals)?;
    }
    let picture = Arc::new(Mutex::new(Picture::default()));
    if let Some(address) = listen {
        let failed = |source: std::io::Error| ServeError::Address { address, source };
        let listener = Arc::new(bind_loopback(address).map_err(failed)?);
        for _ in 0..AT_ONCE {
            let (listener, shown) = (Arc::clone(&listener), Arc::clone(&picture));
            // They end with the process.
            thread::spawn(move || show_pages(&listener, &shown));
        }
    }
    // Also for whoever starts this in the background and has to know when it stands.
    info!("serving");
    let mut next_round = Instant::now();
    let mut failed = false;
    while !ends.load(Ordering::Relaxed) {
        let is_round = Instant::now() >= next_round;
        if is_round {
            next_round = Instant::now() + every;
            failed = false;
        }
        if !failed && let Err(error) = step(store, is_round, &picture, &ends, tell) {
            // The disk may be full, or another command be at work: the next round tries again.
            warn!(%error, "a round failed");
            change(&picture, |picture| picture.trouble.push(error.to_string()));
            failed = true;
        }
        thread::sleep(LOOK.min(every));
    }
    info!("ending");
    Ok(())
}

fn change(picture: &Mutex<Picture>, what: impl FnOnce(&mut Picture)) {
    what(&mut picture.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Does what is parked for nodes whose time has come; in a round it asks all nodes how they stand. Told to end it ends
/// after the node that it asks.
fn step(
    store: &Store,
    is_round: bool,
    picture: &Mutex<Picture>,
    ends: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let now = Timestamp::now();
    let parked = tasks(store)?;
    let is_due = |node: AkmId| {
        let absence = parked.iter().find(|task| task.node.id == node).and_then(|task| task.absence.as_ref());
        absence.is_none_or(|absence| next_try(absence) <= now)
    };
    // Who waits for others, and who is no node any more, has nothing to do.
    let is_for_it =
        |task: &&Task| !matches!(task.work, Work::Wait(_)) && task.node.status == NodeStatus::Active;
    let by_themselves = parked.iter().filter(is_for_it);
    let mut due: BTreeSet<AkmId> =
        by_themselves.map(|task| task.node.id).filter(|node| is_due(*node)).collect();
    if is_round {
        let mut heard = Vec::new();
        let mut nodes = BTreeMap::new();
        let mut trouble = Vec::new();
        let known = picture.lock().unwrap_or_else(PoisonError::into_inner).nodes.clone();
        for node in store.nodes()?.into_iter().filter(|node| node.status == NodeStatus::Active) {
            if ends.load(Ordering::Relaxed) {
                return Ok(());
            }
            match held_by(store, &node) {
                Ok(held) => {
                    // It is here, whatever its back-off says.
                    if parked.iter().filter(is_for_it).any(|task| task.node.id == node.id) {
                        due.insert(node.id);
                    }
                    let resting = held.iter().filter(|status| rests(status).is_some()).count();
                    let found = held.iter().map(|status| u64::from(status.found_back)).sum();
                    nodes.insert(node.name.to_string(), (true, resting, found));
                    heard.extend(held);
                }
                // Another command talks to it: what the round before found stands.
                Err(error) if error.kind() == Refused::Held => {
                    let name = node.name.to_string();
                    if let Some(known) = known.get(&name) {
                        nodes.insert(name, *known);
                    }
                }
                Err(error) => {
                    nodes.insert(node.name.to_string(), (false, 0, 0));
                    trouble.push(away(&node, &error));
                }
            }
        }
        for (name, (_, resting, _)) in nodes.iter().filter(|(_, (_, resting, _))| *resting > 0) {
            trouble.push(format!("{resting} relationships rest at {name}"));
        }
        let Renewals { renewed, failed } = renew_found_back(store, &heard, tell)?;
        // What is parked is another matter, and goes on.
        if let Some(error) = failed {
            warn!(%error, "an ASR could not be renewed");
            trouble.push(error.to_string());
        }
        change(picture, |picture| {
            picture.nodes = nodes;
            picture.trouble = trouble;
            picture.rounds += 1;
            picture.renewed += renewed;
        });
    }
    if !due.is_empty() {
        carry_on(store, &due, tell)?;
    }
    let parked = tasks(store)?.len();
    change(picture, |picture| picture.parked = parked);
    Ok(())
}

fn away(node: &Node, error: &Error) -> String {
    warn!(node = %node.name, %error, "not reached");
    error.to_string()
}

fn show_pages(listener: &TcpListener, picture: &Mutex<Picture>) {
    for stream in listener.incoming().flatten() {
        // Whoever is gone is not waited for.
        let _ = answer(stream, picture);
    }
}

fn answer(mut stream: TcpStream, picture: &Mutex<Picture>) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let until = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    while !is_whole(&head) {
        // Who sends a byte now and then has no more time than others, who wait for it.
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        head.extend_from_slice(&buffer[..length]);
    }
    let picture = picture.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let body = Page::asked(&head).map(|page| match page {
        Page::Metrics => Ok(metrics(&picture)),
        Page::Health if picture.trouble.is_empty() => Ok("well\n".to_owned()),
        Page::Health => Err(picture.trouble.iter().map(|line| format!("{line}\n")).collect()),
    });
    stream.write_all(response(body).as_bytes())
}

fn metrics(picture: &Picture) -> String {
    let mut metrics = Metrics::default();
    let mut family = |name: &str, kind: Kind, help: &str, values: Vec<(String, u64)>| {
        metrics.add(name, kind, help, values);
    };
    let alone = |value: u64| vec![(String::new(), value)];
    let each = |value: &dyn Fn(&(bool, usize, u64)) -> u64| {
        let nodes = picture.nodes.iter();
        nodes.map(|(node, found)| (format!("{{{}}}", label("node", node)), value(found))).collect::<Vec<_>>()
    };
    family("akm_rounds_total", Kind::Counter, "Rounds in which all nodes were asked.", alone(picture.rounds));
    family("akm_parked_tasks", Kind::Gauge, "Tasks that are parked.", alone(picture.parked as u64));
    family(
        "akm_renewed_total",
        Kind::Counter,
        "ASRs renewed as a member found back.",
        alone(picture.renewed),
    );
    family("akm_node_reached", Kind::Gauge, "Whether a node answered.", each(&|found| u64::from(found.0)));
    family(
        "akm_node_resting",
        Kind::Gauge,
        "Relationships that rest at a node.",
        each(&|found| found.1 as u64),
    );
    family(
        "akm_node_found_back",
        Kind::Gauge,
        "Fallbacks and failsafes that a node tells of in the generations in force.",
        each(&|found| found.2),
    );
    metrics.into_text()
}
