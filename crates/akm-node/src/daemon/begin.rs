//! How the stack begins: all that a start needs is taken before the start is counted.
//!
//! ```text
//!   lock -> configuration, identity -> UDP and TCP -> metrics -> element, what the disk holds -> local socket
//!     -> the limit on starts -> the start is counted: places, counter, sessions
//! ```
//!
//! A start writes each place and counts the element up, and neither disk nor element bears that without end. So whoever
//! keeps the stack from its port, or a cable that is out, costs nothing but another try.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use akm_client::{LocalRequest, Reply};
use akm_core::element::ElementError;
use akm_transport::{Endpoint, UdpCarrier};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use super::lines::Lines;
use super::supervision::Supervision;
use super::{COMMANDS_WAITING, Command, connections, metrics};
use crate::config::Config;
use crate::error::{FAILED, NodeError, StackTrouble};
use crate::layout::Layout;
use crate::node::{Node, Prepared, whose};
use crate::storage::Storage;

/// Between two tries to take what a start needs: this at first, twice as much each time, never more than the other.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A node that runs, and all that it is heard through.
pub(super) struct Begun {
    pub(super) node: Node,
    pub(super) sockets: Sockets,
    pub(super) applications: UnixListener,
    pub(super) pages: Option<TcpListener>,
    pub(super) signals: Signals,
}

/// Where the network reaches the node.
pub(super) struct Sockets {
    pub(super) udp: UdpCarrier,
    /// Says when the carrier has something: its socket once more, in the hands of the runtime.
    pub(super) readiness: UdpSocket,
    pub(super) tcp: TcpListener,
}

impl Sockets {
    fn bind(layout: &Layout, listen: Endpoint) -> Result<Self, NodeError> {
        let bound = akm_transport::bind_pair(listen).and_then(|(udp, tcp)| {
            let readiness = UdpSocket::from_std(udp.as_fd().try_clone_to_owned()?.into())?;
            Ok(Self { udp, readiness, tcp: TcpListener::from_std(tcp)? })
        });
        Ok(bound.map_err(|source| StackTrouble::Address { listen, config: layout.config(), source })?)
    }
}

/// Why a try came to nothing.
enum InVain {
    /// Something is missing. Nothing was counted.
    Missing(NodeError),
    /// The stack was started too often for so long. Nothing was counted.
    HeldBack(Duration),
    /// The start itself failed, and may have been counted.
    Failed(NodeError),
}

impl<E: Into<NodeError>> From<E> for InVain {
    fn from(error: E) -> Self {
        Self::Missing(worth_another_start(error.into()))
    }
}

/// An element that is not there yet, as a TPM or a card early in the start of a machine, may be there soon: whoever
/// supervises the stack starts it again. Not so for one that refused, which may count how often it is tried.
fn worth_another_start(error: NodeError) -> NodeError {
    match error {
        NodeError::Element(error @ ElementError::Unavailable(_)) => NodeError::ElementAway(error),
        other => other,
    }
}

/// Starts the node. `None`: it was told to end while it waited.
pub(super) async fn begin(
    layout: &Layout,
    metrics: Option<SocketAddr>,
    supervision: &Supervision,
) -> Result<Option<Begun>, NodeError> {
    // Until it waits, or runs, a signal ends the program at once, whatever the element is doing.
    let mut signals = None;
    let mut next = PAUSE;
    loop {
        let (why, pause) = match attempt(layout, metrics, supervision, &mut signals) {
            Ok(begun) => return Ok(Some(begun)),
            Err(InVain::Missing(error)) if supervision.waits() && error.exit_code() == FAILED => {
                let pause = next;
                next = (next * 2).min(PAUSE_MAX);
                (error, pause)
            }
            Err(InVain::HeldBack(pause)) => (StackTrouble::HeldBack.into(), pause),
            Err(InVain::Missing(error) | InVain::Failed(error)) => return Err(error),
        };
        let waits = NodeError::from(StackTrouble::Waits { why: why.to_string(), pause });
        warn!("the start waits: {why}");
        let signals = match &mut signals {
            Some(signals) => signals,
            none => none.insert(Signals::watch()?),
        };
        if wait(layout, metrics, supervision, pause, &waits, signals).await {
            return Ok(None);
        }
    }
}

/// One try. What it has taken is let go of where it fails.
fn attempt(
    layout: &Layout,
    metrics: Option<SocketAddr>,
    supervision: &Supervision,
    signals: &mut Option<Signals>,
) -> Result<Begun, InVain> {
    // Where nothing is installed nothing is made.
    Config::load(layout)?;
    layout.make_run()?;
    // The lock comes first: under it the sockets below are nobody else's.
    let storage = Storage::open(layout)?;
    let config = Config::load(layout)?;
    whose(&storage)?;
    let sockets = Sockets::bind(layout, config.listen)?;
    let pages = metrics.map(metrics::listen).transpose()?;
    let prepared = Prepared::of(layout, config, storage)?;
    let applications = listen_locally(layout)?;
    let held_back = supervision.admit();
    if !matches!(held_back, Ok(None)) {
        close_locally(layout);
    }
    if let Some(pause) = held_back? {
        return Err(InVain::HeldBack(pause));
    }
    let node = prepared.start().map_err(|error| InVain::Failed(worth_another_start(error)))?;
    let signals = signals.take().map_or_else(Signals::watch, Ok).map_err(InVain::Failed)?;
    Ok(Begun { node, sockets, applications, pages, signals })
}

/// Waits, and says why to whoever asks; whether the stack was told to end meanwhile.
async fn wait(
    layout: &Layout,
    metrics: Option<SocketAddr>,
    supervision: &Supervision,
    pause: Duration,
    waits: &NodeError,
    signals: &mut Signals,
) -> bool {
    let (commands, mut waiting) = mpsc::channel(COMMANDS_WAITING);
    let mut doors = JoinSet::new();
    // Another akmd that works here answers by itself, if it does.
    let lock = Storage::try_open(layout).ok().flatten();
    if lock.is_some() {
        if let Ok(door) = listen_locally(layout) {
            doors.spawn(connections::accept_applications(door, commands.clone()));
        }
        if let Some(Ok(pages)) = metrics.map(metrics::listen) {
            doors.spawn(metrics::serve(pages, commands.clone()));
        }
    }
    // Whoever hears this can ask.
    supervision.waits_for(&waits.what(), pause);
    let until = sleep(pause);
    tokio::pin!(until);
    let told = loop {
        tokio::select! {
            () = &mut until => break Told::Nothing,
            () = signals.next() => break Told::ToEnd(None),
            Some(command) = waiting.recv() => match command {
                Command::Application { request: LocalRequest::Stop, lines } => break Told::ToEnd(Some(lines)),
                Command::Application { lines, .. } => {
                    // The application may be gone: then nobody waits for the reply.
                    let _ = lines.offer(Reply::from(waits).line());
                }
                Command::StreamFrame { .. } | Command::StreamClosed(_) => {}
            },
        }
    };
    doors.shutdown().await;
    if let Some(lock) = lock {
        close_locally(layout);
        drop(lock);
    }
    match told {
        Told::Nothing => false,
        Told::ToEnd(asked_by) => {
            connections::say_stopped(asked_by).await;
            true
        }
    }
}

/// What the stack was told while it waited.
enum Told {
    Nothing,
    /// By a signal, or by whoever has these lines.
    ToEnd(Option<Lines>),
}

/// The signals by which a person or a service manager ends the stack.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn watch() -> Result<Self, NodeError> {
        let failed = NodeError::system("cannot watch for signals");
        let terminate = signal(SignalKind::terminate()).map_err(&failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        Ok(Self { terminate, interrupt })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The socket for applications on this machine. To be called with the state locked.
fn listen_locally(layout: &Layout) -> Result<UnixListener, NodeError> {
    let path = layout.socket();
    // Left by a stack that ended without a word: the lock of the state says that none runs.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(NodeError::file("cannot remove", &path)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(NodeError::file("cannot make the socket", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .map_err(NodeError::file("cannot protect", &path))?;
    Ok(listener)
}

/// Takes the file of that socket away. To be called with the state locked: else it may be the next stack's.
pub(super) fn close_locally(layout: &Layout) {
    let _ = fs::remove_file(layout.socket());
}
