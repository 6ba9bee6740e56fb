//! Health and metrics of the stack, over HTTP on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use akm_client::{LocalRequest, NodeStatus, RelationshipReport, Reply};
use akm_health::{
    AT_ONCE, Kind, Metrics, NotLoopback, PATIENCE, Page, bind_loopback, is_whole, label, response,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Command;
use super::lines::lines;
use crate::error::{NodeError, Request, StackTrouble};

pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, NodeError> {
    if !address.ip().is_loopback() {
        let source = std::io::Error::other(NotLoopback(address));
        return Err(Request::Metrics { address, source }.into());
    }
    // What others have done to the address may end.
    let failed = |source| StackTrouble::Metrics { address, source };
    let listener = bind_loopback(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(TcpListener::from_std(listener).map_err(failed)?)
}

/// Answers for ever, several at once.
pub(super) async fn serve(listener: TcpListener, commands: mpsc::Sender<Command>) {
    let mut answering = JoinSet::new();
    let listener = Arc::new(listener);
    for _ in 0..AT_ONCE {
        answering.spawn(serve_each(Arc::clone(&listener), commands.clone()));
    }
    answering.join_all().await;
}

async fn serve_each(listener: Arc<TcpListener>, commands: mpsc::Sender<Command>) {
    loop {
        match listener.accept().await {
            // Who is too slow, or gone, is not waited for.
            Ok((stream, _)) => drop(timeout(PATIENCE, answer(stream, &commands)).await),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, commands: &mpsc::Sender<Command>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !is_whole(&head) {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        head.extend_from_slice(&buffer[..length]);
    }
    let body = match Page::asked(&head) {
        Err(none) => Err(none),
        Ok(page) => {
            let (lines, mut replies) = lines(1);
            let asked = commands.send(Command::Application { request: LocalRequest::Status, lines }).await;
            let line = if asked.is_ok() { replies.next().await } else { None };
            let status = match line.and_then(|line| serde_json::from_str(&line).ok()) {
                Some(Reply::Status(status)) => Ok(status),
                Some(Reply::Failed { error, .. }) => Err(format!("{error}\n")),
                _ => Err("the stack does not answer\n".to_owned()),
            };
            Ok(status.and_then(|status| match page {
                Page::Metrics => Ok(metrics(&status)),
                Page::Health => health(&status),
            }))
        }
    };
    stream.write_all(response(body).as_bytes()).await?;
    stream.shutdown().await
}

/// What is not well, one line each.
fn health(status: &NodeStatus) -> Result<String, String> {
    let troubled = status.relationships.iter().filter_map(|relationship| {
        let trouble = relationship.trouble.as_ref()?;
        Some(format!("{}: {trouble}\n", relationship.name))
    });
    let damaged = status.damaged.iter().map(|(id, why)| format!("{id}: {why}\n"));
    let element = status.element_trouble.iter().map(|trouble| format!("{trouble}\n"));
    let all: String = element.chain(troubled).chain(damaged).collect();
    if all.is_empty() { Ok("well\n".to_owned()) } else { Err(all) }
}

/// The text format of Prometheus. Reasons and phases bear the names that `akmd status` gives them.
fn metrics(status: &NodeStatus) -> String {
    let mut metrics = Metrics::default();
    let mut family = |name: &str, kind: Kind, help: &str, values: Vec<(String, u64)>| {
        metrics.add(name, kind, help, values);
    };
    let each = |value: &dyn Fn(&RelationshipReport) -> Option<u64>| {
        let relationships = status.relationships.iter();
        relationships.filter_map(|of| Some((labels(of, None), value(of)?))).collect::<Vec<_>>()
    };
    family(
        "akmd_unknown_frames_total",
        Kind::Counter,
        "Frames that no relationship claims.",
        vec![(String::new(), status.unknown_frames)],
    );
    family(
        "akmd_damaged",
        Kind::Gauge,
        "Generations whose files cannot be used.",
        vec![(String::new(), status.damaged.len() as u64)],
    );
    family(
        "akmd_element_answers",
        Kind::Gauge,
        "Whether the element answers, as far as epochs needed it.",
        vec![(String::new(), u64::from(status.element_trouble.is_none()))],
    );
    family(
        "akmd_generation",
        Kind::Gauge,
        "The generation in force.",
        each(&|of| Some(of.generation.into())),
    );
    family(
        "akmd_epoch",
        Kind::Gauge,
        "The epoch; absent before the first.",
        each(&|of| of.epoch.map(u64::from)),
    );
    family("akmd_run", Kind::Gauge, "Counts failsafes.", each(&|of| Some(of.run.into())));
    let established = |of: &RelationshipReport| Some(u64::from(of.phase == "Established"));
    family("akmd_established", Kind::Gauge, "Whether it sends and receives.", each(&established));
    family(
        "akmd_found_back_total",
        Kind::Counter,
        "Fallbacks and failsafes of this node in the generation in force.",
        each(&|of| Some(of.found_back.into())),
    );
    family(
        "akmd_sent_frames_total",
        Kind::Counter,
        "Frames made since the start.",
        each(&|of| Some(of.sent)),
    );
    family(
        "akmd_accepted_frames_total",
        Kind::Counter,
        "Frames accepted since the start.",
        each(&|of| Some(of.accepted)),
    );
    let dropped = status.relationships.iter().flat_map(|of| {
        of.rejected.iter().map(|(reason, count)| (labels(of, Some(("reason", reason))), *count))
    });
    family("akmd_dropped_frames_total", Kind::Counter, "Frames dropped since the start.", dropped.collect());
    let heard = status.relationships.iter().flat_map(|of| {
        let others = of.members.iter().filter(|member| !member.this);
        others.filter_map(|member| {
            let name = if member.name.is_empty() { &member.akm_id } else { &member.name };
            Some((labels(of, Some(("member", name))), member.heard_seconds_ago?))
        })
    });
    family("akmd_heard_seconds", Kind::Gauge, "Seconds since a member was last heard.", heard.collect());
    metrics.into_text()
}

fn labels(of: &RelationshipReport, more: Option<(&str, &str)>) -> String {
    let more = more.map(|(name, value)| format!(",{}", label(name, value))).unwrap_or_default();
    format!("{{{},{}{more}}}", label("relationship", &of.name), label("id", &of.id))
}
