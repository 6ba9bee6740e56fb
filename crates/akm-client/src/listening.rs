//! The messages of an ASR, as they arrive.

use std::time::Duration;

use crate::api::{LocalRequest, Reply, decode};
use crate::error::StackError;
use crate::stack::{Stack, not_asked};

/// What arrives for a program that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A message.
    Message(Message),
    /// Messages were left out here, because the program did not read fast enough.
    Lost {
        /// How many.
        count: u64,
    },
}

/// A message of another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Name of the ASR.
    pub asr: String,
    /// AKM ID of the sender, as far as members that share keys can tell.
    pub from: String,
    /// Name of the sender; empty if not known.
    pub from_name: String,
    /// The epoch in which it was sealed.
    pub epoch: u32,
    /// What the sender sent.
    pub data: Vec<u8>,
}

impl Stack {
    /// Hands over every message of an ASR that arrives from here on. The connection serves nothing else then.
    pub fn listen(mut self, asr: &str) -> Result<Listening, StackError> {
        self.order(&LocalRequest::Listen { asr: asr.to_owned() })?;
        Ok(Listening { stack: self })
    }
}

/// A connection on which the messages of one ASR arrive, until it is dropped.
#[derive(Debug)]
pub struct Listening {
    stack: Stack,
}

impl Listening {
    /// Waits at most this long for each further message; `None`: as long as it takes.
    pub fn set_patience(&mut self, patience: Option<Duration>) -> Result<(), StackError> {
        self.stack.set_patience(patience)
    }

    /// Waits for the next message. After [`StackError::Silent`] it may be called again.
    pub fn next_arrival(&mut self) -> Result<Arrival, StackError> {
        match self.stack.next_reply()? {
            Reply::Message { asr, from, from_name, epoch, data } => {
                let data = decode(&data)
                    .ok_or_else(|| StackError::NotUnderstood("a message is not in Base64".to_owned()))?;
                Ok(Arrival::Message(Message { asr, from, from_name, epoch, data }))
            }
            Reply::Lost { count } => Ok(Arrival::Lost { count }),
            other => Err(not_asked(&other)),
        }
    }
}
