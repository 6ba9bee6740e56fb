//! A connection to the stack of this machine.

use std::io::{BufRead, BufReader, Error, ErrorKind, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::{LocalRequest, Reply, SOCKET, encode};
use crate::error::StackError;
use crate::status::NodeStatus;

/// A connection to the stack of an installation. Each call blocks until the stack has answered.
#[derive(Debug)]
pub struct Stack {
    reader: BufReader<UnixStream>,
    /// The line that is arriving.
    line: Vec<u8>,
    dir: PathBuf,
}

impl Stack {
    /// Connects to the stack that is installed in this directory, usually `/opt/akm`.
    pub fn connect(dir: &Path) -> Result<Self, StackError> {
        let dir = dir.to_owned();
        match UnixStream::connect(dir.join(SOCKET)) {
            Ok(stream) => Ok(Self { reader: BufReader::new(stream), line: Vec::new(), dir }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(StackError::NotPermitted { dir })
            }
            Err(_) => Err(StackError::NotRunning { dir }),
        }
    }

    /// Waits at most this long for each further line of the stack; `None`: as long as it takes.
    pub fn set_patience(&mut self, patience: Option<Duration>) -> Result<(), StackError> {
        self.reader.get_ref().set_read_timeout(patience).map_err(|error| self.lost(error))
    }

    /// Seals a message for every other member of an ASR, which is named by its name or its ID, and hands it to the
    /// network. Whether it arrives is for the programs to find out.
    pub fn send(&mut self, asr: &str, message: &[u8]) -> Result<(), StackError> {
        self.order(&LocalRequest::Send { asr: asr.to_owned(), to: None, data: encode(message) })
    }

    /// The same for one other member alone, named by its name or its AKM ID. The others do not get it, but could read it.
    pub fn send_to(&mut self, asr: &str, member: &str, message: &[u8]) -> Result<(), StackError> {
        let (asr, to) = (asr.to_owned(), Some(member.to_owned()));
        self.order(&LocalRequest::Send { asr, to, data: encode(message) })
    }

    /// Begins the next epoch of an ASR as soon as its policy allows.
    pub fn rotate(&mut self, asr: &str) -> Result<(), StackError> {
        self.order(&LocalRequest::Rotate { asr: asr.to_owned() })
    }

    /// Stops the stack. It has let go of its state when this returns.
    pub fn stop(&mut self) -> Result<(), StackError> {
        self.order(&LocalRequest::Stop)
    }

    /// How the node and its relationships stand.
    pub fn status(&mut self) -> Result<NodeStatus, StackError> {
        match self.ask(&LocalRequest::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(not_asked(&other)),
        }
    }

    /// Sends a request and returns its reply; a refusal is an error.
    pub fn ask(&mut self, request: &LocalRequest) -> Result<Reply, StackError> {
        let written = self.reader.get_mut().write_all(request.line().as_bytes());
        written.map_err(|error| self.lost(error))?;
        self.next_reply()
    }

    /// The next line of the stack, after a request that is answered with many; a refusal is an error.
    pub fn next_reply(&mut self) -> Result<Reply, StackError> {
        match self.reader.read_until(b'\n', &mut self.line) {
            Ok(0) => Err(StackError::Stopped),
            // What has arrived of the line is kept for the next call.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(StackError::Silent)
            }
            Err(error) => Err(self.lost(error)),
            Ok(_) => match serde_json::from_slice(&mem::take(&mut self.line)) {
                Ok(Reply::Failed { exit_code, kind, error, hints }) => {
                    Err(StackError::Refused { exit_code, kind, error, hints })
                }
                Ok(reply) => Ok(reply),
                Err(error) => Err(StackError::NotUnderstood(error.to_string())),
            },
        }
    }

    pub(crate) fn order(&mut self, request: &LocalRequest) -> Result<(), StackError> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            other => Err(not_asked(&other)),
        }
    }

    fn lost(&self, source: Error) -> StackError {
        StackError::Lost { dir: self.dir.clone(), source }
    }
}

/// The stack answered, and not what was asked.
pub(crate) fn not_asked(reply: &Reply) -> StackError {
    StackError::NotUnderstood(format!("{} is no answer to what was asked", reply.line().trim_end()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::kind::Kind;
    use crate::listening::Arrival;

    /// A stack that answers the first line with these bytes, in pieces, and then closes the connection.
    fn stack_that_says(pieces: &'static [&'static str]) -> (tempfile::TempDir, Stack) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let stack = Stack::connect(dir.path()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        thread::spawn(move || {
            let mut asked = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
            for piece in pieces {
                // An empty piece is a silence.
                if piece.is_empty() {
                    thread::sleep(Duration::from_millis(200));
                }
                stream.write_all(piece.as_bytes()).unwrap();
            }
        });
        (dir, stack)
    }

    #[test]
    fn without_a_stack_the_error_says_how_to_start_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = Stack::connect(dir.path()).unwrap_err();
        assert!(matches!(error, StackError::NotRunning { .. }));
        assert!(error.to_string().ends_with("--detach"), "{error}");
    }

    #[test]
    fn what_the_stack_refuses_is_an_error_with_its_kind_and_the_ways_out() {
        let (_dir, mut stack) = stack_that_says(&[
            "{\"reply\":\"failed\",\"exit_code\":2,\"kind\":\"no-asr\",",
            "\"error\":\"no ASR line here\",\"hints\":[\"name another\"]}\n",
        ]);
        let refused = stack.send("line", b"hello").unwrap_err();
        assert!(matches!(refused, StackError::Refused { exit_code: 2, .. }), "{refused:?}");
        assert_eq!((refused.kind(), refused.what()), (Kind::NoAsr, "no ASR line here".to_owned()));
        assert_eq!(refused.to_string(), "no ASR line here; name another");
        assert!(matches!(stack.send("line", b"hello"), Err(StackError::Stopped | StackError::Lost { .. })));
    }

    #[test]
    fn a_refusal_of_an_earlier_stack_has_no_kind() {
        let (_dir, mut stack) =
            stack_that_says(&["{\"reply\":\"failed\",\"exit_code\":2,\"error\":\"no ASR line here\"}\n"]);
        let refused = stack.send("line", b"hello").unwrap_err();
        assert_eq!((refused.kind(), refused.to_string()), (Kind::Other, "no ASR line here".to_owned()));
    }

    #[test]
    fn an_answer_to_another_question_is_not_understood() {
        let (_dir, mut stack) = stack_that_says(&["{\"reply\":\"lost\",\"count\":1}\n"]);
        assert!(matches!(stack.rotate("line"), Err(StackError::NotUnderstood(_))));
        let (_dir, mut stack) = stack_that_says(&["hello\n"]);
        assert!(matches!(stack.status(), Err(StackError::NotUnderstood(_))));
    }

    #[test]
    fn messages_arrive_as_bytes_and_a_silence_in_the_middle_of_one_loses_nothing() {
        let (_dir, stack) = stack_that_says(&[
            "{\"reply\":\"done\"}\n{\"reply\":\"message\",\"asr\":\"line\",\"from\":\"id\",",
            "",
            "\"from_name\":\"a\",\"epoch\":3,\"data\":\"aGVsbG8=\"}\n{\"reply\":\"lost\",\"count\":7}\n",
        ]);
        let mut listening = stack.listen("line").unwrap();
        listening.set_patience(Some(Duration::from_millis(20))).unwrap();
        let mut next = || {
            loop {
                match listening.next_arrival() {
                    Err(StackError::Silent) => {}
                    other => return other,
                }
            }
        };
        match next() {
            Ok(Arrival::Message(message)) => {
                assert_eq!((message.from_name.as_str(), message.epoch), ("a", 3));
                assert_eq!(message.data, b"hello");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(next().unwrap(), Arrival::Lost { count: 7 });
        assert!(matches!(next(), Err(StackError::Stopped)));
    }
}
