//! What programs on a node say to its stack: one JSON object a line, over the socket `run/akmd.sock`.
//!
//! A connection carries one request. `listen` and `watch` are answered with `done` and then with a
//! line for each message or frame, until the connection is closed. Payloads are Base64 (RFC 4648).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::status::NodeStatus;

/// Where the socket is in the directory of an installation.
pub const SOCKET: &str = "run/akmd.sock";

/// Longest line in bytes, the line end included.
pub const LINE_MAX: usize = 1 << 20;

/// What an application asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LocalRequest {
    /// How the node and its relationships stand.
    Status,
    /// Seal `data` and send it to every other member of an ASR, or to one.
    Send {
        /// Name or ID of the relationship.
        asr: String,
        /// Name or AKM ID of the member to which alone it goes; absent: to all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// The bytes, in Base64.
        data: String,
    },
    /// Hand over every message of an ASR that arrives from here on.
    Listen {
        /// Name or ID of the relationship.
        asr: String,
    },
    /// Show every frame that arrives from here on, and what became of it.
    Watch {
        /// Name or ID of a relationship; absent: all, and frames that belong to none.
        asr: Option<String>,
    },
    /// Begin the next epoch of an ASR as soon as its policy allows.
    Rotate {
        /// Name or ID of the relationship.
        asr: String,
    },
    /// Stop the stack.
    Stop,
}

impl LocalRequest {
    /// One line, its end included.
    pub fn line(&self) -> String {
        line_of(self)
    }
}

/// What the stack says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Done; after `listen` and `watch`, more follows.
    Done,
    /// Not done.
    Failed {
        /// What a program should exit with.
        exit_code: u8,
        /// What kind of refusal it is.
        #[serde(default)]
        kind: Kind,
        /// What happened.
        error: String,
        /// The ways out, the likeliest first.
        #[serde(default)]
        hints: Vec<String>,
    },
    /// The answer to `status`.
    Status(Box<NodeStatus>),
    /// A message.
    Message {
        /// Name of the relationship.
        asr: String,
        /// AKM ID of the sender, as far as members that share keys can tell.
        from: String,
        /// Name of the sender; empty if not known.
        from_name: String,
        /// The epoch.
        epoch: u32,
        /// The bytes, in Base64.
        data: String,
    },
    /// A frame and its fate.
    Frame {
        /// Name of the relationship; absent if none claims the frame.
        asr: Option<String>,
        /// Where it came from.
        source: String,
        /// The sender index that it claims.
        sender: Option<u16>,
        /// The epoch that it claims.
        epoch: Option<u32>,
        /// The counter that it claims.
        counter: Option<u32>,
        /// `accepted`, or why it was dropped.
        verdict: String,
        /// As it was on the wire, in Base64.
        frame: String,
    },
    /// The application did not read fast enough.
    Lost {
        /// How many lines were left out here.
        count: u64,
    },
}

impl Reply {
    /// One line, its end included.
    pub fn line(&self) -> String {
        line_of(self)
    }
}

fn line_of(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("it has no map with keys that are not text");
    line.push('\n');
    line
}

/// Bytes as they stand in a request or reply.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Bytes out of a request or reply; `None` if the text is not Base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
