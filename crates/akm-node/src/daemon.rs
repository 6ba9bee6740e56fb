//! `akmd run`: one task drives the node; others read from sockets and hand over what they read.

mod begin;
mod connections;
mod lines;
mod metrics;
mod supervision;

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use akm_client::{LocalRequest, Reply, decode, encode};
use akm_core::frame::Header;
use akm_core::id::RelationshipId;
use akm_transport::{Batch, Carrier, Endpoint, UdpCarrier};
use tokio::io::Interest;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{info, warn};

use crate::error::{NodeError, Request};
use crate::layout::Layout;
use crate::node::{Message, Network, Node, Refused, SeenFrame, Stream, Wish};
use begin::{Begun, Sockets, begin, close_locally};
use connections::Said;
use lines::Lines;
use supervision::Supervision;

/// Commands that wait for the driver; who sends more, waits.
const COMMANDS_WAITING: usize = 64;

/// What the connections hand to the driver.
enum Command {
    /// A frame of a stream, and where its answers go.
    StreamFrame { stream: Stream, frame: Vec<u8>, answer: oneshot::Sender<Said>, closer: Arc<Notify> },
    /// A stream is closed.
    StreamClosed(Stream),
    /// A request of an application, and where its lines go.
    Application { request: LocalRequest, lines: Lines },
}

/// Runs the stack until it is told to stop, or its module erases the node.
///
/// With `metrics` it answers health and metrics over HTTP on that address, which must be on loopback.
pub fn run(layout: &Layout, metrics: Option<SocketAddr>) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NodeError::system("cannot start"))?;
    let supervision = Supervision::of(layout);
    let result = runtime.block_on(serve(layout, metrics, &supervision));
    supervision.ends(&result);
    result
}

async fn serve(
    layout: &Layout,
    metrics: Option<SocketAddr>,
    supervision: &Supervision,
) -> Result<(), NodeError> {
    let Some(begun) = begin(layout, metrics, supervision).await? else { return Ok(()) };
    let Begun { mut node, sockets, applications, pages, mut signals } = begun;
    let Sockets { udp, readiness, tcp } = sockets;
    let listen = node.config().listen;
    let (commands, mut waiting) = mpsc::channel(COMMANDS_WAITING);
    let streams = tokio::spawn(connections::accept_streams(tcp, commands.clone()));
    if let Some(pages) = pages {
        tokio::spawn(metrics::serve(pages, commands.clone()));
    }
    tokio::spawn(connections::accept_applications(applications, commands));
    let mut hub = Hub::new(udp);
    let answered = node.answered();
    let mut arrived = Batch::new();
    supervision.is_ready(&format!("listens on {listen}"));
    info!(%listen, "ready");
    let asked_by = loop {
        let timeout = node.timeout();
        let due = async {
            match timeout {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => node.act(&mut hub),
            () = answered.notified() => node.take_answers(&mut hub),
            readable = readiness.readable() => {
                readable.map_err(NodeError::system("cannot listen any more"))?;
                // A refused datagram of ours comes back as an error here: nothing to do.
                let _ = readiness.try_io(Interest::READABLE, || {
                    match hub.udp.receive(&mut |from, frame| arrived.push(from, frame))? {
                        0 => Err(ErrorKind::WouldBlock.into()),
                        _ => Ok(()),
                    }
                });
                for (Endpoint::Ip(from), frame) in arrived.iter() {
                    node.take_datagram(frame, from, &mut hub);
                }
                arrived.clear();
            }
            Some(command) = waiting.recv() => match command {
                Command::StreamFrame { stream, frame, answer, closer } => {
                    hub.closers.entry(stream).or_insert(closer);
                    hub.streams
                        .entry(stream)
                        .or_default()
                        .push_back(UnderWay { said: Said::default(), answer });
                    node.take_stream_frame(stream, &frame, &mut hub);
                }
                Command::StreamClosed(stream) => {
                    hub.streams.remove(&stream);
                    hub.closers.remove(&stream);
                    node.close_stream(stream, &mut hub);
                }
                Command::Application { request: LocalRequest::Stop, lines } => break Some(lines),
                Command::Application { request, lines } => hub.serve(&mut node, request, lines),
            },
            () = signals.next() => break None,
        }
        hub.answer_wishes(&mut node);
        // What waits makes frames that go in the same call.
        if waiting.is_empty() {
            hub.flush();
        }
        if node.is_disowned() && hub.streams.values().all(VecDeque::is_empty) {
            hub.flush();
            tokio::time::sleep(connections::LAST_WORDS).await;
            node.finish_erasure()?;
            info!("erased by the module: nothing left to do");
            return Ok(());
        }
    };
    info!("stopping");
    // Whoever sees the lock of the state free, or is told that this is done, can start the next stack at
    // once: the port is free before.
    streams.abort();
    let _ = streams.await;
    hub.flush();
    drop(readiness);
    drop(hub);
    close_locally(layout);
    drop(node);
    connections::say_stopped(asked_by).await;
    Ok(())
}

/// Where what the node says goes: to the network, and to applications.
struct Hub {
    udp: UdpCarrier,
    /// Frames that go before the driver waits again.
    outgoing: Batch,
    subscribers: Vec<Subscriber>,
    /// Frames of streams that are under way, the oldest first.
    streams: HashMap<Stream, VecDeque<UnderWay>>,
    /// By what the connections of streams are told that they are closed.
    closers: HashMap<Stream, Arc<Notify>>,
    /// Wishes that are under way: of which relationship, and where the answer goes.
    wishes: HashMap<Wish, (String, Lines)>,
    /// What became of some.
    done: Vec<(Wish, Result<(), Refused>)>,
    unsent: u64,
}

/// A frame of a stream that the node has not done with.
struct UnderWay {
    /// What comes back, so far.
    said: Said,
    /// Where it goes.
    answer: oneshot::Sender<Said>,
}

struct Subscriber {
    what: Subscription,
    lines: Lines,
    lost: u64,
}

enum Subscription {
    Messages(RelationshipId),
    Frames(Option<(RelationshipId, String)>),
}

impl Hub {
    fn new(udp: UdpCarrier) -> Self {
        Self {
            udp,
            outgoing: Batch::new(),
            subscribers: Vec::new(),
            streams: HashMap::new(),
            closers: HashMap::new(),
            wishes: HashMap::new(),
            done: Vec::new(),
            unsent: 0,
        }
    }

    /// Tells applications what became of their wishes.
    fn answer_wishes(&mut self, node: &mut Node) {
        for (wish, result) in std::mem::take(&mut self.done) {
            let Some((asr, lines)) = self.wishes.remove(&wish) else { continue };
            let reply = match result {
                Ok(()) => Reply::Done,
                Err(refused) => Reply::from(&node.wish_failed(&asr, refused)),
            };
            // The application may be gone: then nobody waits for the reply.
            let _ = lines.offer(reply.line());
        }
    }

    /// Takes a wish, whose end is told later; an error says that it came to nothing.
    fn wish(
        &mut self,
        node: &mut Node,
        asr: &str,
        lines: &Lines,
        hand_in: impl FnOnce(&mut Node, Wish, &mut Self) -> Result<(), NodeError>,
    ) -> Option<Result<Reply, NodeError>> {
        let wish = node.wish();
        self.wishes.insert(wish, (asr.to_owned(), lines.clone()));
        match hand_in(node, wish, self) {
            Ok(()) => None,
            Err(error) => {
                self.wishes.remove(&wish);
                Some(Err(error))
            }
        }
    }

    /// Sends what is to be sent. A frame that the network does not take is lost, as on the way.
    fn flush(&mut self) {
        let unsent = &mut self.unsent;
        self.udp.send(&self.outgoing, &mut |to, error| {
            *unsent += 1;
            if unsent.is_power_of_two() {
                warn!(%to, %error, unsent, "a datagram could not be sent");
            }
        });
        self.outgoing.clear();
    }

    fn serve(&mut self, node: &mut Node, request: LocalRequest, lines: Lines) {
        let reply = match request {
            LocalRequest::Status => node.status().map(|status| Reply::Status(Box::new(status))),
            LocalRequest::Send { asr, to, data } => match decode(&data) {
                Some(data) => {
                    let hand_in = |node: &mut Node, wish, hub: &mut Self| {
                        node.wish_to_send(wish, &asr, to.as_deref(), &data, hub)
                    };
                    match self.wish(node, &asr, &lines, hand_in) {
                        Some(reply) => reply,
                        None => return,
                    }
                }
                None => Err(Request::Malformed { why: "data is not Base64".to_owned() }.into()),
            },
            LocalRequest::Rotate { asr } => {
                let hand_in = |node: &mut Node, wish, hub: &mut Self| node.wish_to_advance(wish, &asr, hub);
                match self.wish(node, &asr, &lines, hand_in) {
                    Some(reply) => reply,
                    None => return,
                }
            }
            LocalRequest::Listen { asr } => node.find(&asr).map(|id| {
                let lines = lines.clone();
                self.subscribers.push(Subscriber { what: Subscription::Messages(id), lines, lost: 0 });
                Reply::Done
            }),
            LocalRequest::Watch { asr } => {
                let wanted = asr.map(|asr| node.find(&asr).map(|id| (id, asr))).transpose();
                wanted.map(|wanted| {
                    let lines = lines.clone();
                    self.subscribers.push(Subscriber { what: Subscription::Frames(wanted), lines, lost: 0 });
                    Reply::Done
                })
            }
            LocalRequest::Stop => Ok(Reply::Done),
        };
        // The application may be gone: then nobody waits for the reply.
        let _ = lines.offer(reply.unwrap_or_else(|error| Reply::from(&error)).line());
    }

    fn publish(&mut self, wanted: impl Fn(&Subscription) -> bool, line: impl FnOnce() -> String) {
        self.subscribers.retain(|subscriber| !subscriber.lines.is_closed());
        if !self.subscribers.iter().any(|subscriber| wanted(&subscriber.what)) {
            return;
        }
        let line = line();
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| wanted(&subscriber.what)) {
            if subscriber.lost > 0 && subscriber.lines.offer(Reply::Lost { count: subscriber.lost }.line()) {
                subscriber.lost = 0;
            }
            if !subscriber.lines.offer(line.clone()) {
                subscriber.lost += 1;
            }
        }
    }
}

impl Network for Hub {
    fn datagram(&mut self, to: SocketAddr, frame: &[u8]) {
        self.outgoing.push(to.into(), frame);
        if self.outgoing.is_full() {
            self.flush();
        }
    }

    fn reply(&mut self, stream: Stream, frame: &[u8]) {
        if let Some(under_way) = self.streams.get_mut(&stream).and_then(VecDeque::front_mut) {
            under_way.said.frames.push(frame.to_vec());
        }
    }

    fn proven(&mut self, stream: Stream) {
        if let Some(under_way) = self.streams.get_mut(&stream).and_then(VecDeque::front_mut) {
            under_way.said.proven = true;
        }
    }

    fn close(&mut self, stream: Stream) {
        if let Some(under_way) = self.streams.get_mut(&stream).and_then(VecDeque::front_mut) {
            under_way.said.closes = true;
        } else if let Some(closer) = self.closers.get(&stream) {
            closer.notify_one();
        }
    }

    fn handled(&mut self, stream: Stream) {
        if let Some(UnderWay { said, answer }) = self.streams.get_mut(&stream).and_then(VecDeque::pop_front) {
            // The connection may be gone: then nobody waits for the answer.
            let _ = answer.send(said);
        }
    }

    fn done(&mut self, wish: Wish, result: Result<(), Refused>) {
        self.done.push((wish, result));
    }

    fn deliver(&mut self, message: Message<'_>) {
        self.publish(
            |what| matches!(what, Subscription::Messages(id) if *id == message.of.0),
            || {
                Reply::Message {
                    asr: message.label.to_owned(),
                    from: message.from.to_string(),
                    from_name: message.from_label.to_owned(),
                    epoch: message.epoch,
                    data: encode(message.payload),
                }
                .line()
            },
        );
    }

    fn seen(&mut self, seen: SeenFrame<'_>) {
        let label = self.subscribers.iter().find_map(|subscriber| match &subscriber.what {
            Subscription::Frames(Some((id, label))) if Some(*id) == seen.relationship => Some(label.clone()),
            _ => None,
        });
        self.publish(
            |what| match what {
                Subscription::Frames(None) => true,
                Subscription::Frames(Some((id, _))) => Some(*id) == seen.relationship,
                Subscription::Messages(_) => false,
            },
            || {
                let header = Header::parse(seen.frame).ok();
                Reply::Frame {
                    asr: label.or_else(|| seen.relationship.map(|id| id.to_string())),
                    source: seen.source.to_string(),
                    sender: header.map(|header| header.sender),
                    epoch: header.map(|header| header.epoch),
                    counter: header.map(|header| header.counter),
                    verdict: seen.verdict.to_owned(),
                    frame: encode(seen.frame),
                }
                .line()
            },
        );
    }
}
