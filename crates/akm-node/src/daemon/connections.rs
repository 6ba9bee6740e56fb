//! The connections of the module and of applications.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akm_client::{LINE_MAX, LocalRequest, Reply};
use akm_transport::FrameReader;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::lines::{LINES_WAITING, Lines, lines};
use super::{COMMANDS_WAITING, Command};
use crate::error::{NodeError, Request};
use crate::node::Stream;

/// Connections from the network at once. Whoever comes beyond that takes the place of the stranger who has been
/// there longest; where there is no stranger he waits.
const STREAMS_MAX: usize = 256;

/// A stranger who said something worth an answer is closed when he says nothing more for this long.
const IDLE: Duration = Duration::from_secs(60);

/// A stranger who has not yet said anything worth an answer has only this long: strangers must not keep the module out.
const STRANGER: Duration = Duration::from_secs(5);

/// A stream that takes longer than this for what it is sent is closed.
const WRITE: Duration = Duration::from_secs(10);

/// How long connections have for their last line before the program ends.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(100);

/// Accepts streams of frames, whoever they come from: they prove themselves by their frames.
pub(super) async fn accept_streams(listener: TcpListener, commands: mpsc::Sender<Command>) {
    let places = Arc::new(Semaphore::new(STREAMS_MAX));
    let strangers = Arc::new(Strangers::default());
    for number in 0.. {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if places.available_permits() == 0 {
                    strangers.send_away_oldest();
                }
                let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
                let commands = commands.clone();
                let stranger = Stranger { number, among: Arc::clone(&strangers) };
                strangers.admit(number, async move {
                    if let Err(error) = serve_stream(stream, stranger, commands).await {
                        debug!(%remote, %error, "stream closed");
                    }
                    drop(place);
                });
            }
            // Out of file descriptors, or the connection is gone already: others go on.
            Err(error) => {
                debug!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The streams over which nobody has proven yet to be a module of this node, in the order in which they came.
#[derive(Default)]
struct Strangers(Mutex<BTreeMap<u64, AbortHandle>>);

impl Strangers {
    fn admit(&self, number: u64, stream: impl Future<Output = ()> + Send + 'static) {
        // Locked before it can end, so that its end finds it here.
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        present.insert(number, tokio::spawn(stream).abort_handle());
    }

    /// Ends the stream of the stranger who has been here longest; its place is free soon after.
    fn send_away_oldest(&self) {
        let oldest = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        if let Some((_, stream)) = oldest {
            stream.abort();
        }
    }
}

/// Being one of the [`Strangers`], until this is dropped.
struct Stranger {
    number: u64,
    among: Arc<Strangers>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.among.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// What came of a frame of a stream.
#[derive(Default)]
pub(super) struct Said {
    /// What goes back.
    pub(super) frames: Vec<Vec<u8>>,
    /// Whether who speaks there has proven to be a module of this node: then the node says when the stream ends.
    pub(super) proven: bool,
    /// Whether the stream is closed then.
    pub(super) closes: bool,
}

/// A stream that is open, until this is dropped.
struct Open {
    name: Stream,
    commands: mpsc::Sender<Command>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let closed = Command::StreamClosed(self.name);
        if let Err(TrySendError::Full(closed)) = self.commands.try_send(closed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let commands = self.commands.clone();
            runtime.spawn(async move {
                let _ = commands.send(closed).await;
            });
        }
    }
}

async fn serve_stream(
    mut stream: TcpStream,
    stranger: Stranger,
    commands: mpsc::Sender<Command>,
) -> std::io::Result<()> {
    let name = Stream(stranger.number);
    let mut stranger = Some(stranger);
    let _open = Open { name, commands: commands.clone() };
    stream.set_nodelay(true)?;
    let mut reader = FrameReader::new();
    let mut buffer = vec![0; 16_384];
    let closer = Arc::new(Notify::new());
    // Until when a stranger may say nothing.
    let mut until = Some(Instant::now() + STRANGER);
    loop {
        let read = async {
            match until {
                Some(until) => timeout_at(until, stream.read(&mut buffer)).await?,
                None => stream.read(&mut buffer).await,
            }
        };
        let length = tokio::select! {
            length = read => length?,
            () = closer.notified() => return Ok(()),
        };
        if length == 0 {
            return Ok(());
        }
        reader.push(&buffer[..length]);
        while let Some(frame) = reader.next().map_err(std::io::Error::other)? {
            let (answer, answered) = oneshot::channel();
            let closer = Arc::clone(&closer);
            if commands.send(Command::StreamFrame { stream: name, frame, answer, closer }).await.is_err() {
                return Ok(());
            }
            let Ok(Said { frames, proven, closes }) = answered.await else { return Ok(()) };
            if proven {
                drop(stranger.take());
                until = None;
            }
            // Only what was worth an answer buys time.
            if !frames.is_empty() {
                let mut out = Vec::new();
                for frame in frames {
                    akm_transport::encode(&frame, &mut out).map_err(std::io::Error::other)?;
                }
                timeout(WRITE, stream.write_all(&out)).await??;
                until = until.map(|_| Instant::now() + IDLE);
            }
            if closes {
                return Ok(());
            }
        }
    }
}

/// Tells whoever asked for it that the stack has let go of all that it held.
pub(super) async fn say_stopped(asked_by: Option<Lines>) {
    if let Some(lines) = asked_by {
        lines.send(Reply::Done.line()).await;
        drop(lines);
        tokio::time::sleep(LAST_WORDS).await;
    }
}

/// Accepts applications on this machine.
pub(super) async fn accept_applications(listener: UnixListener, commands: mpsc::Sender<Command>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_application(stream, commands.clone()));
            }
            Err(error) => {
                debug!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Requests are answered one after the other; a subscription goes on until the application closes.
async fn serve_application(stream: UnixStream, commands: mpsc::Sender<Command>) {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let (lines, mut waiting) = lines(LINES_WAITING.max(COMMANDS_WAITING));
    let writer = async move {
        while let Some(line) = waiting.next().await {
            if writing.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
    };
    let reader = async move {
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = LINE_MAX as u64;
            match (&mut reading).take(limit).read_until(b'\n', &mut line).await {
                Ok(length) if length > 0 && line.ends_with(b"\n") => {}
                _ => return,
            }
            match serde_json::from_slice::<LocalRequest>(&line) {
                Ok(request) => {
                    let lines = lines.clone();
                    if commands.send(Command::Application { request, lines }).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let error =
                        NodeError::from(Request::Malformed { why: format!("not a request: {error}") });
                    lines.send(Reply::from(&error).line()).await;
                }
            }
        }
    };
    // When the application closes its side, subscriptions must end too: the writer is dropped, and the
    // driver sees the closed channel. Replies under way are still written.
    tokio::pin!(writer);
    tokio::select! {
        () = &mut writer => {}
        () = reader => {
            let _ = timeout(WRITE, writer).await;
        }
    }
}
