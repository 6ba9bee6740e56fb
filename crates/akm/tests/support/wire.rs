//! Somebody on the network who holds frames of others.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::UdpSocket;

use serde_json::Value;

use super::plant::{Listener, Plant, bytes_of};

/// Frames sent before the next ones wait until these have been seen: no buffer overflows.
const AT_ONCE: usize = 50;

/// A socket that is no member's.
#[derive(Debug)]
pub(crate) struct Stranger {
    socket: UdpSocket,
}

impl Stranger {
    /// A socket on loopback.
    pub(crate) fn new() -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").expect("a socket") }
    }

    /// Where it sends from.
    pub(crate) fn address(&self) -> String {
        self.socket.local_addr().expect("an address").to_string()
    }

    /// Sends frames to a node and returns what the node made of each, in the same order.
    pub(crate) fn send(&self, plant: &Plant, to: &str, frames: &[Vec<u8>]) -> Vec<String> {
        let (address, own) = (plant.address(to), self.address());
        let mut verdicts = Vec::with_capacity(frames.len());
        let mut watch = plant.watch_all(to);
        for some in frames.chunks(AT_ONCE) {
            for frame in some {
                self.socket.send_to(frame, address).expect("a datagram");
            }
            for frame in some {
                // Others send too.
                let line = loop {
                    let line = watch.next();
                    if line["source"] == *own {
                        break line;
                    }
                };
                assert_eq!(bytes_of(&line["frame"]), *frame, "another frame came: one was lost");
                verdicts.push(line["verdict"].as_str().expect("a verdict").to_owned());
            }
        }
        watch.stop();
        verdicts
    }

    /// Sends one frame and returns what the node made of it.
    pub(crate) fn send_one(&self, plant: &Plant, to: &str, frame: &[u8]) -> String {
        self.send(plant, to, &[frame.to_vec()]).remove(0)
    }
}

/// Frames that a watcher saw, in their order, if they came from others and were accepted.
pub(crate) fn accepted(watch: Listener) -> Vec<(Vec<u8>, Value)> {
    let lines = watch.lines();
    lines
        .into_iter()
        .filter(|line| line["verdict"] == "accepted")
        .map(|line| (bytes_of(&line["frame"]), line))
        .collect()
}
