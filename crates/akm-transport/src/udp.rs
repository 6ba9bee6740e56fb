//! Frames as datagrams over UDP, several at once where the system can.

mod fragments;
mod ways_back;

use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

use crate::carrier::{Batch, Capabilities, Carrier, Medium};
use crate::endpoint::Endpoint;
use ways_back::WaysBack;

/// Longest content of a datagram: what IPv4 can carry.
const DATAGRAM_MAX: usize = 65_507;

/// Most frames handed over at once: then other work gets its turn.
const BURST: usize = 64;

/// Buffers that one call of the system fills.
const BUFFERS: usize = 16;

/// Length of a buffer: the system may put datagrams of one source together into one, up to this.
const BUFFER_LENGTH: usize = 65_535;

/// Longest frame that the system is asked to cut out of a longer piece: what an Ethernet carries over IPv6. It does so
/// with none that it would have to cut once more.
const SEGMENT_MAX: usize = 1452;

/// A UDP socket that sends and receives in batches.
///
/// Several frames for one endpoint, one after the other and of one length, go to the system in one call, and it may hand
/// over what it received so. On a socket that is bound to all addresses of the machine an answer leaves from the
/// address at which it was asked for. Datagrams longer than the network carries in one piece are cut by IP, as with
/// any socket.
pub struct UdpCarrier {
    socket: UdpSocket,
    state: UdpSocketState,
    inbox: Inbox,
    /// Not kept where the socket has one address.
    ways_back: Option<WaysBack>,
    /// Places in a batch, those for one endpoint beside each other.
    order: Vec<usize>,
    /// Frames that go in one call.
    joined: Vec<u8>,
}

impl UdpCarrier {
    /// Takes over a socket that is bound. It is switched to non-blocking.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let fragments = fragments::Setting::of(&socket)?;
        let state = UdpSocketState::new((&socket).into())?;
        fragments.restore(&socket)?;
        let ways_back = socket.local_addr()?.ip().is_unspecified().then(WaysBack::new);
        Ok(Self { socket, state, inbox: Inbox::new(), ways_back, order: Vec::new(), joined: Vec::new() })
    }

    /// The address to which it is bound.
    pub fn local_endpoint(&self) -> io::Result<Endpoint> {
        self.socket.local_addr().map(Endpoint::from)
    }

    /// How many of the frames in order, beginning at one, go in one call.
    fn run_length(&self, batch: &Batch, start: usize) -> usize {
        let frame_at = |place: usize| self.order.get(place).and_then(|index| batch.get(*index));
        let Some((to, first)) = frame_at(start) else { return 0 };
        if first.is_empty() || first.len() > SEGMENT_MAX {
            return 1;
        }
        let most = self.state.max_gso_segments().min(DATAGRAM_MAX / first.len());
        let mut length = 1;
        while length < most {
            match frame_at(start + length) {
                Some((next_to, next)) if next_to == to && next.len() == first.len() => length += 1,
                // The last one may be shorter.
                Some((next_to, next)) if next_to == to && !next.is_empty() && next.len() < first.len() => {
                    return length + 1;
                }
                _ => break,
            }
        }
        length
    }

    fn send_joined(&mut self, batch: &Batch, run: std::ops::Range<usize>) -> io::Result<()> {
        let frames = self.order[run].iter().filter_map(|index| batch.get(*index));
        self.joined.clear();
        let mut segment = None;
        let mut destination = None;
        for (Endpoint::Ip(to), frame) in frames {
            segment.get_or_insert(frame.len());
            destination = Some(to);
            self.joined.extend_from_slice(frame);
        }
        let Some(destination) = destination else { return Ok(()) };
        transmit(&self.socket, &self.state, &mut self.ways_back, destination, &self.joined, segment)
    }
}

impl Carrier for UdpCarrier {
    type Error = io::Error;

    fn capabilities(&self) -> Capabilities {
        Capabilities { medium: Medium::Ip, frame_max: DATAGRAM_MAX, burst: BURST }
    }

    fn send(&mut self, batch: &Batch, lost: &mut dyn FnMut(Endpoint, io::Error)) {
        self.order.clear();
        self.order.extend(0..batch.len());
        self.order.sort_by_key(|index| batch.get(*index).map(|(to, _)| to));
        let mut start = 0;
        while start < self.order.len() {
            let run = start..start + self.run_length(batch, start).max(1);
            start = run.end;
            // What the network or its driver cannot cut itself may go one by one.
            if run.len() > 1 && self.send_joined(batch, run.clone()).is_ok() {
                continue;
            }
            for index in &self.order[run] {
                let Some((endpoint, frame)) = batch.get(*index) else { continue };
                let Endpoint::Ip(to) = endpoint;
                if let Err(error) = transmit(&self.socket, &self.state, &mut self.ways_back, to, frame, None)
                {
                    lost(endpoint, error);
                }
            }
        }
    }

    fn receive(&mut self, take: &mut dyn FnMut(Endpoint, &[u8])) -> io::Result<usize> {
        if self.inbox.is_empty() {
            match self.inbox.fill(&self.socket, &self.state) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                filled => filled?,
            }
            if let Some(ways_back) = &mut self.ways_back {
                for meta in self.inbox.arrived() {
                    ways_back.learn(meta.addr, meta.dst_ip);
                }
            }
        }
        let mut count = 0;
        while count < BURST
            && let Some((source, frame)) = self.inbox.next()
        {
            take(source.into(), frame);
            count += 1;
        }
        Ok(count)
    }
}

impl AsFd for UdpCarrier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for UdpCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpCarrier").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Sends one piece, from the address at which its destination asked. Where that address is ours no more, the system
/// chooses.
fn transmit(
    socket: &UdpSocket,
    state: &UdpSocketState,
    ways_back: &mut Option<WaysBack>,
    destination: SocketAddr,
    contents: &[u8],
    segment_size: Option<usize>,
) -> io::Result<()> {
    let send = |src_ip: Option<IpAddr>| {
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip };
        state.try_send(socket.into(), &transmit)
    };
    let Some(src_ip) = ways_back.as_ref().and_then(|ways_back| ways_back.of(destination)) else {
        return send(None);
    };
    match send(Some(src_ip)) {
        Err(error) if segment_size.is_none() && error.kind() != ErrorKind::WouldBlock => {
            if let Some(ways_back) = ways_back {
                ways_back.forget(destination);
            }
            send(None)
        }
        sent => sent,
    }
}

/// What one call of the system received, until it is handed over.
struct Inbox {
    bytes: Vec<u8>,
    metas: [RecvMeta; BUFFERS],
    filled: usize,
    /// The buffer whose datagrams are handed over next.
    next: usize,
    /// What is handed over of that buffer already.
    taken: usize,
}

impl Inbox {
    fn new() -> Self {
        // The system gives memory for what is really written there.
        let bytes = vec![0; BUFFERS * BUFFER_LENGTH];
        Self { bytes, metas: [RecvMeta::default(); BUFFERS], filled: 0, next: 0, taken: 0 }
    }

    fn is_empty(&self) -> bool {
        self.next == self.filled
    }

    fn fill(&mut self, socket: &UdpSocket, state: &UdpSocketState) -> io::Result<()> {
        (self.filled, self.next, self.taken) = (0, 0, 0);
        let mut buffers = self.bytes.chunks_exact_mut(BUFFER_LENGTH).map(IoSliceMut::new);
        let mut buffers: [_; BUFFERS] =
            std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        self.filled = state.recv(socket.into(), &mut buffers, &mut self.metas)?;
        Ok(())
    }

    fn arrived(&self) -> &[RecvMeta] {
        &self.metas[..self.filled]
    }

    fn next(&mut self) -> Option<(SocketAddr, &[u8])> {
        let meta = self.metas[..self.filled].get(self.next)?;
        let start = self.next * BUFFER_LENGTH + self.taken;
        let length = (meta.len - self.taken).min(meta.stride);
        self.taken += length;
        if self.taken == meta.len || length == 0 {
            self.next += 1;
            self.taken = 0;
        }
        Some((meta.addr, &self.bytes[start..start + length]))
    }
}

#[cfg(test)]
mod tests;
