//! How the commands of `akmd` talk to the running stack.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::NodeError;
use crate::layout::Layout;
use crate::local_api::{Reply, Request};
use crate::node::NodeStatus;

/// A connection to the running stack.
#[derive(Debug)]
pub struct Console {
    reader: BufReader<UnixStream>,
    layout: Layout,
}

impl Console {
    /// Connects to the stack of an installation.
    pub fn connect(layout: &Layout) -> Result<Self, NodeError> {
        let stream = UnixStream::connect(layout.socket()).map_err(|error| {
            let dir = layout.dir().display();
            if error.kind() == ErrorKind::PermissionDenied {
                NodeError::Failed(format!(
                    "no permission for the stack in {dir}: use the user that it runs as"
                ))
            } else {
                NodeError::NotRunning(format!(
                    "no stack runs in {dir}: start it with {dir}/current/akmd run --dir {dir} --detach"
                ))
            }
        })?;
        Ok(Self { reader: BufReader::new(stream), layout: layout.clone() })
    }

    /// Waits at most this long for each further line; `None`: as long as it takes.
    pub fn set_patience(&mut self, patience: Option<Duration>) -> Result<(), NodeError> {
        self.reader.get_ref().set_read_timeout(patience).map_err(|error| self.lost(&error))
    }

    /// Sends a request and returns its reply; a refusal is an error.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, NodeError> {
        let mut line = serde_json::to_string(request).expect("a request has no map");
        line.push('\n');
        self.reader.get_mut().write_all(line.as_bytes()).map_err(|error| self.lost(&error))?;
        self.next_reply()
    }

    /// The next line of the stack; a refusal is an error.
    pub fn next_reply(&mut self) -> Result<Reply, NodeError> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(NodeError::NotRunning("the stack has stopped".to_owned())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(NodeError::Failed("nothing came within the time given".to_owned()))
            }
            Err(error) => Err(self.lost(&error)),
            Ok(_) => match serde_json::from_str(&line) {
                Ok(Reply::Failed { exit_code, error }) => Err(refused(exit_code, error)),
                Ok(reply) => Ok(reply),
                Err(error) => {
                    Err(NodeError::Failed(format!("the stack says what nobody understands: {error}")))
                }
            },
        }
    }

    /// Asks for the status.
    pub fn status(&mut self) -> Result<NodeStatus, NodeError> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            _ => Err(NodeError::Failed("the stack did not answer what was asked".to_owned())),
        }
    }

    fn lost(&self, error: &std::io::Error) -> NodeError {
        NodeError::NotRunning(format!("lost the stack in {}: {error}", self.layout.dir().display()))
    }
}

fn refused(exit_code: u8, error: String) -> NodeError {
    use crate::error::{ELEMENT, NOT_RUNNING, NOTHING_TO_DO, USAGE};
    match exit_code {
        USAGE => NodeError::Usage(error),
        NOTHING_TO_DO => NodeError::NothingToDo(error),
        ELEMENT => NodeError::Element(akm_core::element::ElementError::Refused(error)),
        NOT_RUNNING => NodeError::NotRunning(error),
        _ => NodeError::Failed(error),
    }
}
