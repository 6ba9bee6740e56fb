//! Applications that go on for a while: one that listens, one that says a numbered message again and
//! again.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::installation::Installation;
use super::scratch::{PATIENCE, Scratch};
use crate::error::CommandError;

/// One line of `akmd listen` or `akmd watch`.
#[derive(Debug, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub(super) enum Line {
    /// A message.
    Message {
        /// Name of the sender.
        from_name: String,
        /// The bytes, in Base64.
        data: String,
    },
    /// A frame and its fate.
    Frame {
        /// Where it came from.
        source: String,
        /// `accepted`, or why it was dropped.
        verdict: String,
        /// As it was on the wire, in Base64.
        frame: String,
    },
    /// Lines that were left out, because they came faster than they were read.
    Lost {
        /// How many.
        count: u64,
    },
    /// The last line, where it did not end well.
    Failed {
        /// Why.
        error: String,
    },
}

/// A running `akmd listen` or `akmd watch`; it ends when this is dropped.
pub(super) struct Subscription {
    who: String,
    child: Child,
    lines: Receiver<Result<Line, String>>,
}

impl Subscription {
    /// Hears every message of an ASR that arrives at a node from here on.
    pub(super) fn listen(
        scratch: &Scratch,
        node: &Installation<'_>,
        asr: &str,
    ) -> Result<Self, CommandError> {
        Self::begin(scratch, node, &["listen", asr, "--json"])
    }

    /// Sees every frame that arrives at a node from here on, and its fate.
    pub(super) fn watch(scratch: &Scratch, node: &Installation<'_>) -> Result<Self, CommandError> {
        Self::begin(scratch, node, &["watch", "--json"])
    }

    fn begin(scratch: &Scratch, node: &Installation<'_>, arguments: &[&str]) -> Result<Self, CommandError> {
        let who = format!("{}: akmd {}", node.name, arguments.join(" "));
        let mut child = node
            .akmd(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| CommandError::failed(format!("{who}: {error}")))?;
        let (heard, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("it was asked for");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.map_err(|error| error.to_string());
                let line =
                    line.and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()));
                // Nobody wants the rest any more.
                if heard.send(line).is_err() {
                    break;
                }
            }
        });
        let (said, words) = mpsc::channel();
        let mut stderr = BufReader::new(child.stderr.take().expect("it was asked for"));
        thread::spawn(move || {
            let mut first = String::new();
            let _ = stderr.read_line(&mut first);
            let _ = said.send(first);
            // Read to its end, so that it never waits for somebody to read.
            let _ = stderr.read_to_end(&mut Vec::new());
        });
        let subscription = Self { who, child, lines };
        let mut first = None;
        scratch.wait_until(&format!("{} hears", node.name), || {
            first = words.try_recv().ok();
            Ok(first.is_some())
        })?;
        match first.as_deref().map(str::trim) {
            Some("akmd: listening") => Ok(subscription),
            other => Err(subscription.failed(other.unwrap_or_default())),
        }
    }

    /// What has arrived.
    pub(super) fn drain(&self) -> Result<Vec<Line>, CommandError> {
        self.lines.try_iter().map(|line| self.well(line)).collect()
    }

    /// The next line that is wanted; others are passed over. An error if it does not come.
    pub(super) fn find<T>(
        &self,
        scratch: &Scratch,
        what: &str,
        wanted: impl Fn(Line) -> Option<T>,
    ) -> Result<T, CommandError> {
        let started = Instant::now();
        loop {
            scratch.go_on()?;
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    if let Some(found) = wanted(self.well(line)?) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) if started.elapsed() < PATIENCE => {}
                Err(_) => return Err(self.failed(&format!("{what} did not arrive"))),
            }
        }
    }

    /// The next message: who sent it, and its text.
    pub(super) fn message(&self, scratch: &Scratch) -> Result<(String, String), CommandError> {
        self.find(scratch, "a message", |line| match line {
            Line::Message { from_name, data } => Some((from_name, text_of(&data))),
            _ => None,
        })
    }

    /// The fate of a frame that was sent from `source`, so that no other's frame is taken for it.
    pub(super) fn verdict(
        &self,
        scratch: &Scratch,
        sent: &[u8],
        from: std::net::SocketAddr,
    ) -> Result<String, CommandError> {
        let (sent, from) = (STANDARD.encode(sent), from.to_string());
        self.find(scratch, "a frame that was sent to it", |line| match line {
            Line::Frame { source, verdict, frame } if frame == sent && source == from => Some(verdict),
            _ => None,
        })
    }

    /// Waits until it ends with its stack; returns the last that arrived.
    pub(super) fn bereft(mut self, scratch: &Scratch) -> Result<Vec<Line>, CommandError> {
        let what = format!("{} ends with its stack", self.who);
        scratch.wait_until(&what, || Ok(matches!(self.child.try_wait(), Ok(Some(_)))))?;
        let rest = self.lines.iter().filter(|line| !matches!(line, Ok(Line::Failed { .. })));
        rest.map(|line| line.map_err(|error| self.failed(&error))).collect()
    }

    /// A line, unless it says that no other follows.
    fn well(&self, line: Result<Line, String>) -> Result<Line, CommandError> {
        match line {
            Ok(Line::Failed { error }) | Err(error) => Err(self.failed(&error)),
            Ok(line) => Ok(line),
        }
    }

    fn failed(&self, why: &str) -> CommandError {
        CommandError::failed(format!("{}: {why}", self.who))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // It may have ended with its stack.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a message.
pub(super) fn text_of(data: &str) -> String {
    let bytes = STANDARD.decode(data).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A running `akmd send ASR - --lines` that is given a numbered message again and again.
pub(super) struct Talker {
    who: &'static str,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), String>>,
}

impl Talker {
    /// Begins with number `first`, and says the next after each `pace`.
    pub(super) fn begin(
        node: &Installation<'_>,
        asr: &str,
        first: u64,
        pace: Duration,
    ) -> Result<Self, CommandError> {
        let who = node.name;
        let mut child = node
            .akmd(&["send", asr, "-", "--lines"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| CommandError::failed(format!("{who}: akmd send: {error}")))?;
        let mut stdin = child.stdin.take().expect("it was asked for");
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(first)));
        let (stopping, number) = (Arc::clone(&stop), Arc::clone(&next));
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let line = numbered(who, number.load(Ordering::Relaxed));
                // It has ended: how, it says below.
                if writeln!(stdin, "{line}").is_err() {
                    break;
                }
                number.fetch_add(1, Ordering::Relaxed);
                thread::sleep(pace);
            }
            drop(stdin);
            let output = child.wait_with_output().map_err(|error| error.to_string())?;
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().last().unwrap_or("it said nothing").to_owned())
        });
        Ok(Self { who, stop, next, thread })
    }

    /// The number that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Says no more, and waits until all that was said is sent; returns the number that would come next.
    pub(super) fn finish(self, scratch: &Scratch) -> Result<u64, CommandError> {
        self.stop.store(true, Ordering::Relaxed);
        let what = format!("{} has sent what it was given", self.who);
        scratch.wait_until(&what, || Ok(self.thread.is_finished()))?;
        let next = self.next();
        match self.thread.join() {
            Ok(Ok(())) => Ok(next),
            Ok(Err(why)) => Err(CommandError::failed(format!("{}: akmd send: {why}", self.who))),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Waits until it has noticed that its stack is gone; returns the number that comes next.
    pub(super) fn bereft(self, scratch: &Scratch) -> Result<u64, CommandError> {
        let what = format!("{} cannot send any more", self.who);
        scratch.wait_until(&what, || Ok(self.thread.is_finished()))?;
        Ok(self.next())
    }
}

/// The text of a numbered message. Both ends know it, so that any change would be noticed.
pub(super) fn numbered(sender: &str, number: u64) -> String {
    let pattern = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(sender.as_bytes()[0]);
    format!("{sender} {number} {pattern:016x}")
}

/// The number of a numbered message of this sender; `None` if it is not exactly what was said.
pub(super) fn number_of(sender: &str, text: &str) -> Option<u64> {
    let number = text.strip_prefix(sender)?.trim_start().split(' ').next()?.parse().ok()?;
    (numbered(sender, number) == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_message_that_was_altered_or_is_anothers_is_noticed() {
        let text = numbered("A", 7);
        assert_eq!(number_of("A", &text), Some(7));
        assert_eq!(number_of("B", &text), None);
        assert_eq!(number_of("A", &text.replace("A 7", "A 8")), None);
        assert_eq!(number_of("A", &format!("{text}0")), None);
    }
}
