//! Health and metrics of the stack, over HTTP on loopback.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use akm_process::{Page, bind_loopback, response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Command;
use crate::error::NodeError;
use crate::local_api::{Reply, Request};
use crate::node::{NodeStatus, RelationshipReport};

/// How long whoever asks has for the request and the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest head of a request that is read, in bytes.
const HEAD_MAX: usize = 4096;

pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, NodeError> {
    let failed = |error| NodeError::Usage(format!("cannot show metrics at {address}: {error}"));
    let listener = bind_loopback(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
}

/// Answers one after the other: nobody on this machine needs more.
pub(super) async fn serve(listener: TcpListener, commands: mpsc::Sender<Command>) {
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
    while head.len() < HEAD_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        head.extend_from_slice(&buffer[..length]);
    }
    let body = match Page::asked(&head) {
        None => None,
        Some(page) => {
            let (lines, mut replies) = mpsc::channel(1);
            let asked = commands.send(Command::Application { request: Request::Status, lines }).await;
            let line = if asked.is_ok() { replies.recv().await } else { None };
            let status = match line.and_then(|line| serde_json::from_str(&line).ok()) {
                Some(Reply::Status(status)) => Ok(status),
                Some(Reply::Failed { error, .. }) => Err(format!("{error}\n")),
                _ => Err("the stack does not answer\n".to_owned()),
            };
            Some(status.and_then(|status| match page {
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
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, u64)>| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let each = |value: &dyn Fn(&RelationshipReport) -> Option<u64>| {
        let relationships = status.relationships.iter();
        relationships.filter_map(|of| Some((labels(of, None), value(of)?))).collect::<Vec<_>>()
    };
    family(
        "akmd_unknown_frames_total",
        "counter",
        "Frames that no relationship claims.",
        vec![(String::new(), status.unknown_frames)],
    );
    family(
        "akmd_damaged",
        "gauge",
        "Generations whose files cannot be used.",
        vec![(String::new(), status.damaged.len() as u64)],
    );
    family(
        "akmd_element_answers",
        "gauge",
        "Whether the element answers, as far as epochs needed it.",
        vec![(String::new(), u64::from(status.element_trouble.is_none()))],
    );
    family("akmd_generation", "gauge", "The generation in force.", each(&|of| Some(of.generation.into())));
    family("akmd_epoch", "gauge", "The epoch; absent before the first.", each(&|of| of.epoch.map(u64::from)));
    family("akmd_run", "gauge", "Counts failsafes.", each(&|of| Some(of.run.into())));
    let established = |of: &RelationshipReport| Some(u64::from(of.phase == "Established"));
    family("akmd_established", "gauge", "Whether it sends and receives.", each(&established));
    family(
        "akmd_found_back_total",
        "counter",
        "Fallbacks and failsafes of this node in the generation in force.",
        each(&|of| Some(of.found_back.into())),
    );
    family("akmd_sent_frames_total", "counter", "Frames made since the start.", each(&|of| Some(of.sent)));
    family(
        "akmd_accepted_frames_total",
        "counter",
        "Frames accepted since the start.",
        each(&|of| Some(of.accepted)),
    );
    let dropped = status.relationships.iter().flat_map(|of| {
        of.rejected.iter().map(|(reason, count)| (labels(of, Some(("reason", reason))), *count))
    });
    family("akmd_dropped_frames_total", "counter", "Frames dropped since the start.", dropped.collect());
    let heard = status.relationships.iter().flat_map(|of| {
        let others = of.members.iter().filter(|member| !member.this);
        others.filter_map(|member| {
            let name = if member.name.is_empty() { &member.akm_id } else { &member.name };
            Some((labels(of, Some(("member", name))), member.heard_seconds_ago?))
        })
    });
    family("akmd_heard_seconds", "gauge", "Seconds since a member was last heard.", heard.collect());
    out
}

fn labels(of: &RelationshipReport, more: Option<(&str, &str)>) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let more = more.map(|(name, value)| format!(",{name}=\"{}\"", escaped(value))).unwrap_or_default();
    format!("{{relationship=\"{}\",id=\"{}\"{more}}}", escaped(&of.name), of.id)
}
