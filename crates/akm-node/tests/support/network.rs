//! A network that remembers what it was given, and nodes on it.

use std::net::SocketAddr;
use std::time::Duration;

use akm_client::RelationshipReport;
use akm_core::id::AkmId;
use akm_core::management::Outcome;
use akm_node::error::NodeError;
use akm_node::node::{Message, Network, Node, Refused, SeenFrame, Stream, Wish};

use super::device::Device;
use super::module::{Link, Module, Relationship};

/// What a node gave to its network.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Label of the relationship, sender, bytes.
    pub(crate) messages: Vec<(String, AkmId, Vec<u8>)>,
    pub(crate) verdicts: Vec<&'static str>,
    /// Frames that went out over streams.
    pub(crate) replies: Vec<Vec<u8>>,
    /// Streams that the node closed.
    pub(crate) closed: Vec<Stream>,
    /// What became of wishes.
    pub(crate) done: Vec<(Wish, Result<(), Refused>)>,
}

impl Network for Recorded {
    fn datagram(&mut self, to: SocketAddr, frame: &[u8]) {
        self.datagrams.push((to, frame.to_vec()));
    }

    fn reply(&mut self, _: Stream, frame: &[u8]) {
        self.replies.push(frame.to_vec());
    }

    fn proven(&mut self, _: Stream) {}

    fn close(&mut self, stream: Stream) {
        self.closed.push(stream);
    }

    fn handled(&mut self, _: Stream) {}

    fn done(&mut self, wish: Wish, result: Result<(), Refused>) {
        self.done.push((wish, result));
    }

    fn deliver(&mut self, message: Message<'_>) {
        self.messages.push((message.label.to_owned(), message.from, message.payload.to_vec()));
    }

    fn seen(&mut self, frame: SeenFrame<'_>) {
        self.verdicts.push(frame.verdict);
    }
}

/// A node whose element is waited for after each input.
pub(crate) trait Prompt {
    fn handle_datagram(&mut self, frame: &[u8], source: SocketAddr, network: &mut Recorded);

    /// Returns what comes back over the stream.
    fn handle_stream_frame(&mut self, frame: &[u8], network: &mut Recorded) -> Vec<Vec<u8>> {
        self.handle_frame_of(Stream(1), frame, network)
    }

    /// The same over this stream.
    fn handle_frame_of(&mut self, stream: Stream, frame: &[u8], network: &mut Recorded) -> Vec<Vec<u8>>;

    fn send(
        &mut self,
        asr: &str,
        to: Option<&str>,
        text: &[u8],
        network: &mut Recorded,
    ) -> Result<(), NodeError>;

    fn advance(&mut self, asr: &str, network: &mut Recorded) -> Result<(), NodeError>;

    fn fire(&mut self, network: &mut Recorded);

    /// What became of a wish.
    fn came_of(&mut self, wish: Wish, asr: &str, network: &mut Recorded) -> Result<(), NodeError>;
}

impl Prompt for Node {
    fn handle_datagram(&mut self, frame: &[u8], source: SocketAddr, network: &mut Recorded) {
        self.take_datagram(frame, source, network);
        self.wait_for_element(network);
    }

    fn handle_frame_of(&mut self, stream: Stream, frame: &[u8], network: &mut Recorded) -> Vec<Vec<u8>> {
        self.take_stream_frame(stream, frame, network);
        self.wait_for_element(network);
        std::mem::take(&mut network.replies)
    }

    fn send(
        &mut self,
        asr: &str,
        to: Option<&str>,
        text: &[u8],
        network: &mut Recorded,
    ) -> Result<(), NodeError> {
        let wish = self.wish();
        self.wish_to_send(wish, asr, to, text, network)?;
        self.came_of(wish, asr, network)
    }

    fn advance(&mut self, asr: &str, network: &mut Recorded) -> Result<(), NodeError> {
        let wish = self.wish();
        self.wish_to_advance(wish, asr, network)?;
        self.came_of(wish, asr, network)
    }

    fn fire(&mut self, network: &mut Recorded) {
        self.act(network);
        self.wait_for_element(network);
    }

    fn came_of(&mut self, wish: Wish, asr: &str, network: &mut Recorded) -> Result<(), NodeError> {
        self.wait_for_element(network);
        let at = network.done.iter().position(|(done, _)| *done == wish).expect("it is answered");
        network.done.remove(at).1.map_err(|refused| self.wish_failed(asr, refused))
    }
}

pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A running node with its module and its network.
pub(crate) struct Station {
    pub(crate) device: Device,
    pub(crate) provisioning: Relationship,
    pub(crate) link: Link,
    /// `None` while it is off.
    running: Option<Node>,
    pub(crate) network: Recorded,
    pub(crate) address: SocketAddr,
}

impl Station {
    /// A device, enrolled and started.
    pub(crate) fn new(port: u16) -> Self {
        let device = Device::fresh();
        let provisioning = Module::new().provision();
        device.enrol(provisioning.envelope("station").emit().expose());
        let link = Link::of_module(&provisioning);
        let running = Some(device.start());
        let network = Recorded::default();
        Self { device, provisioning, link, running, network, address: address(port) }
    }

    /// With so many ASRs, `asr-0` and so on, each shared with a member that is only an address.
    pub(crate) fn with_asrs(count: u16) -> (Self, Vec<Relationship>) {
        let mut station = Self::new(1);
        let asrs = (0..count)
            .map(|at| {
                let other = super::random_id();
                let label = format!("asr-{at}");
                let asr = Relationship::asr(&label, &[station.id(), other])
                    .at(other, &address(9000 + at).to_string());
                station.make_member(&asr);
                asr
            })
            .collect();
        (station, asrs)
    }

    pub(crate) fn id(&self) -> AkmId {
        self.provisioning.sds.members()[1]
    }

    #[track_caller]
    pub(crate) fn node(&mut self) -> &mut Node {
        self.running.as_mut().expect("the node runs")
    }

    /// The module's end and the node that it talks to.
    #[track_caller]
    pub(crate) fn both(&mut self) -> (&mut Link, &mut Node) {
        (&mut self.link, self.running.as_mut().expect("the node runs"))
    }

    #[track_caller]
    pub(crate) fn make_member(&mut self, relationship: &Relationship) {
        let (link, node) = self.both();
        link.make_member(node, relationship);
    }

    #[track_caller]
    pub(crate) fn install(&mut self, relationship: &Relationship) -> Outcome {
        let (link, node) = self.both();
        link.install(node, relationship).outcome
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
        self.network = Recorded::default();
    }

    #[track_caller]
    pub(crate) fn start(&mut self) {
        self.running = Some(self.device.start());
    }

    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// The module's word for a generation.
    #[track_caller]
    pub(crate) fn activate(&mut self, relationship: &Relationship) -> Outcome {
        let (link, node) = self.both();
        link.activate(node, relationship).outcome
    }

    /// Lets the sessions act whose time has come.
    pub(crate) fn fire(&mut self) {
        // A hello at the start is late by up to a millisecond for each member.
        std::thread::sleep(std::time::Duration::from_millis(5));
        self.running.as_mut().expect("the node runs").fire(&mut self.network);
    }

    /// Sends as an application does.
    #[track_caller]
    pub(crate) fn send(&mut self, asr: &str, text: &[u8]) {
        let node = self.running.as_mut().expect("the node runs");
        node.send(asr, None, text, &mut self.network).unwrap_or_else(|error| panic!("it is sent: {error}"));
    }

    /// Sends to one member.
    pub(crate) fn send_to(&mut self, asr: &str, member: &str, text: &[u8]) -> Result<(), NodeError> {
        let node = self.running.as_mut().expect("the node runs");
        node.send(asr, Some(member), text, &mut self.network)
    }

    /// Takes one datagram; returns what became of it.
    pub(crate) fn take(&mut self, frame: &[u8], source: SocketAddr) -> &'static str {
        let node = self.running.as_mut().expect("the node runs");
        node.handle_datagram(frame, source, &mut self.network);
        self.network.verdicts.last().expect("each frame has a verdict")
    }

    /// The texts that this station delivered, and forgets them.
    pub(crate) fn delivered(&mut self) -> Vec<String> {
        let messages = std::mem::take(&mut self.network.messages);
        messages.into_iter().map(|(_, _, text)| String::from_utf8(text).expect("a text")).collect()
    }

    /// How the node says that this relationship stands.
    #[track_caller]
    pub(crate) fn report(&mut self, relationship: &Relationship) -> RelationshipReport {
        let status = self.node().status().expect("a status");
        let id = relationship.id().to_string();
        let found = status.relationships.into_iter().find(|report| report.id == id);
        found.unwrap_or_else(|| panic!("{} is not in the status", relationship.label))
    }

    /// Its phase, in the words of the status.
    #[track_caller]
    pub(crate) fn phase(&mut self, relationship: &Relationship) -> String {
        self.report(relationship).phase
    }
}

/// Two stations that share an ASR and have heard of each other.
pub(crate) fn two_stations() -> ([Station; 2], Relationship) {
    two_stations_that_rotate_after(Duration::ZERO)
}

/// The same; they move on by age, or with zero only when they are asked to.
pub(crate) fn two_stations_that_rotate_after(age: Duration) -> ([Station; 2], Relationship) {
    let mut stations = [Station::new(4001), Station::new(4002)];
    let ids = [stations[0].id(), stations[1].id()];
    let asr = Relationship::asr_that_rotates_after(age, "pair", &ids)
        .at(ids[0], &stations[0].address.to_string())
        .at(ids[1], &stations[1].address.to_string());
    for station in &mut stations {
        station.make_member(&asr);
        station.fire();
    }
    exchange(&mut stations);
    (stations, asr)
}

/// Carries datagrams to the station that has their address until none is under way; returns
/// where each went, and its bytes.
pub(crate) fn exchange(stations: &mut [Station]) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut carried = Vec::new();
    loop {
        let mut under_way = Vec::new();
        for station in stations.iter_mut() {
            let source = station.address;
            under_way.extend(station.network.datagrams.drain(..).map(|(to, frame)| (source, to, frame)));
        }
        if under_way.is_empty() {
            return carried;
        }
        for (source, to, frame) in under_way {
            if let Some(station) =
                stations.iter_mut().find(|station| station.address == to && station.running.is_some())
            {
                station.take(&frame, source);
            }
            carried.push((to, frame));
        }
    }
}
