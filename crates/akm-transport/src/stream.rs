//! Frames on a stream: each is preceded by its length (protocol, section 5).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest frame on a stream, in bytes.
pub const FRAME_LENGTH_MAX: usize = 131_072;

const PREFIX_LENGTH: usize = 4;

/// Most bytes that one read takes off a socket.
const READ_LENGTH: usize = 16 * 1024;

/// Shortest wait for a read: the operating system takes zero for "for ever".
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Why a stream of frames cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A frame of no bytes.
    #[error("a frame on a stream cannot be empty")]
    Empty,
    /// A frame above [`FRAME_LENGTH_MAX`].
    #[error("a frame on a stream has at most 131072 bytes")]
    TooLong,
}

/// Appends a frame with its length, as it goes on a stream. After an error nothing was appended.
pub fn encode(frame: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
    let length = check_length(frame.len())?;
    out.reserve(PREFIX_LENGTH + frame.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(frame);
    Ok(())
}

/// Finds the frames in a stream of bytes, without I/O.
///
/// Push what arrived, then take frames until there is none. Done so, it holds at most one
/// incomplete frame. A length is not believed until the bytes are there: memory grows only as they
/// really arrive.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes at the head of the buffer that were taken already.
    taken: usize,
    ended: Option<StreamError>,
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. Once the stream has ended by an error they are ignored.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.ended.is_none() {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame; `None` until more bytes are pushed. After an error there is no way to
    /// find where the next frame starts: every later call gives the same error.
    #[expect(clippy::should_implement_trait, reason = "an iterator that goes on after None surprises")]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        if let Some(error) = self.ended {
            return Err(error);
        }
        let rest = &self.buffer[self.taken..];
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX_LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if let Err(error) = check_length(length) {
            *self = Self { ended: Some(error), ..Self::default() };
            return Err(error);
        }
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = frame.to_vec();
        self.taken += PREFIX_LENGTH + length;
        Ok(Some(frame))
    }

    /// Whether the stream stands between two frames, where it may rightly end.
    pub fn is_between_frames(&self) -> bool {
        self.ended.is_none() && self.taken == self.buffer.len()
    }
}

/// Frames over one TCP connection, for a program without an async runtime.
///
/// After an error other than a timeout the connection is of no more use.
#[derive(Debug)]
pub struct FrameStream {
    stream: TcpStream,
    reader: FrameReader,
}

impl FrameStream {
    /// Connects within `timeout`. No later `send` waits longer than that for the other side.
    pub fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::new(TcpStream::connect_timeout(&address, timeout)?, timeout)
    }

    /// Takes over a connection, such as one that was accepted. It is switched to blocking.
    pub fn new(stream: TcpStream, send_timeout: Duration) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(send_timeout.max(WAIT_MIN)))?;
        Ok(Self { stream, reader: FrameReader::new() })
    }

    /// The address of the other side.
    pub fn remote_address(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Sends a frame. One that is empty or too long is [`ErrorKind::InvalidInput`], and the
    /// connection stands; after any other error it is closed, as half a frame may be on its way.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(frame, &mut bytes).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        self.stream.write_all(&bytes).inspect_err(|_| {
            // It may be closed already, which is as good.
            let _ = self.stream.shutdown(Shutdown::Both);
        })
    }

    /// Waits for a frame until the deadline; `None` if none has come whole by then. With a deadline
    /// that has passed it takes what is there.
    ///
    /// [`ErrorKind::UnexpectedEof`]: the other side has closed the connection.
    /// [`ErrorKind::InvalidData`]: what it sends are no frames ([`StreamError`]).
    pub fn receive(&mut self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = [0; READ_LENGTH];
        loop {
            let next = self.reader.next().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            if next.is_some() {
                return Ok(next);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(WAIT_MIN)))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(self.closed()),
                Ok(length) => self.reader.push(&bytes[..length]),
                Err(error) if is_no_news(error.kind()) && Instant::now() >= deadline => return Ok(None),
                Err(error) if is_no_news(error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn closed(&self) -> io::Error {
        let what = if self.reader.is_between_frames() {
            "the other side closed the connection"
        } else {
            "the other side closed the connection in the middle of a frame"
        };
        io::Error::new(ErrorKind::UnexpectedEof, what)
    }
}

fn is_no_news(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn check_length(length: usize) -> Result<u32, StreamError> {
    match length {
        0 => Err(StreamError::Empty),
        1..=FRAME_LENGTH_MAX => Ok(length as u32),
        _ => Err(StreamError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    fn encoded(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            encode(frame, &mut bytes).unwrap();
        }
        bytes
    }

    fn all(reader: &mut FrameReader) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    /// Two ends of one connection: as this crate sees it, and bare.
    fn connection() -> (FrameStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ours = FrameStream::connect(listener.local_addr().unwrap(), LONG).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn soon() -> Instant {
        Instant::now() + SHORT
    }

    fn later() -> Instant {
        Instant::now() + LONG
    }

    proptest! {
        #[test]
        fn the_same_frames_come_out_however_the_stream_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            drained in any::<bool>(),
        ) {
            let bytes = encoded(&frames);
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let mut reader = FrameReader::new();
            let mut out = Vec::new();
            for pair in places.windows(2) {
                reader.push(&bytes[pair[0]..pair[1]]);
                if drained {
                    out.extend(all(&mut reader));
                } else if let Some(frame) = reader.next().unwrap() {
                    out.push(frame);
                }
            }
            out.extend(all(&mut reader));
            prop_assert_eq!(out, frames);
            prop_assert!(reader.is_between_frames());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            pushes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16),
        ) {
            let mut reader = FrameReader::new();
            for bytes in pushes {
                reader.push(&bytes);
                while let Ok(Some(frame)) = reader.next() {
                    prop_assert!((1..=FRAME_LENGTH_MAX).contains(&frame.len()));
                }
            }
        }
    }

    #[test]
    fn a_stream_read_byte_by_byte_gives_the_same_frames() {
        let frames = vec![vec![1], vec![2; 255], vec![3; 256], vec![4; FRAME_LENGTH_MAX]];
        let mut reader = FrameReader::new();
        let mut out = Vec::new();
        for byte in encoded(&frames) {
            reader.push(&[byte]);
            out.extend(reader.next().unwrap());
        }
        assert_eq!(out, frames);
    }

    #[test]
    fn a_length_outside_the_limits_ends_the_stream() {
        for (length, error) in [
            (0, StreamError::Empty),
            (FRAME_LENGTH_MAX as u32 + 1, StreamError::TooLong),
            (u32::MAX, StreamError::TooLong),
        ] {
            let mut reader = FrameReader::new();
            let mut bytes = encoded(&[vec![1]]);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&encoded(&[vec![2]]));
            reader.push(&bytes);
            assert_eq!(reader.next(), Ok(Some(vec![1])));
            assert_eq!(reader.next(), Err(error));
            reader.push(&encoded(&[vec![3]]));
            assert_eq!(reader.next(), Err(error));
            assert_eq!(reader.buffer.capacity(), 0);
            assert!(!reader.is_between_frames());
        }
    }

    #[test]
    fn frames_outside_the_limits_are_not_encoded() {
        let mut bytes = vec![9];
        assert_eq!(encode(&[], &mut bytes), Err(StreamError::Empty));
        assert_eq!(encode(&vec![0; FRAME_LENGTH_MAX + 1], &mut bytes), Err(StreamError::TooLong));
        assert_eq!(bytes, [9]);
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut reader = FrameReader::new();
        reader.push(&(FRAME_LENGTH_MAX as u32).to_be_bytes());
        reader.push(&[0; 100]);
        assert_eq!(reader.next(), Ok(None));
        assert!(reader.buffer.capacity() < 1024);
    }

    #[test]
    fn a_reader_that_is_drained_holds_at_most_one_frame() {
        let bytes = encoded(&vec![vec![7; 1000]; 2000]);
        let mut reader = FrameReader::new();
        for part in bytes.chunks(1500) {
            reader.push(part);
            all(&mut reader);
        }
        assert!(reader.buffer.capacity() < 16 * 1024);
    }

    #[test]
    fn frames_go_both_ways_over_a_connection() {
        let (mut ours, theirs) = connection();
        let mut theirs = FrameStream::new(theirs, LONG).unwrap();
        ours.send(b"first").unwrap();
        ours.send(b"second").unwrap();
        assert_eq!(theirs.receive(later()).unwrap().unwrap(), b"first");
        assert_eq!(theirs.receive(later()).unwrap().unwrap(), b"second");
        theirs.send(&vec![5; 60_000]).unwrap();
        assert_eq!(ours.receive(later()).unwrap().unwrap(), vec![5; 60_000]);
    }

    #[test]
    fn a_frame_that_is_late_is_received_after_the_timeout() {
        let (mut ours, mut theirs) = connection();
        let bytes = encoded(&[b"late".to_vec()]);
        assert_eq!(ours.receive(soon()).unwrap(), None);
        theirs.write_all(&bytes[..6]).unwrap();
        assert_eq!(ours.receive(soon()).unwrap(), None);
        theirs.write_all(&bytes[6..]).unwrap();
        assert_eq!(ours.receive(later()).unwrap().unwrap(), b"late");
    }

    #[test]
    fn a_deadline_that_has_passed_takes_what_is_there() {
        let (mut ours, mut theirs) = connection();
        theirs.write_all(&encoded(&[b"one".to_vec(), b"two".to_vec()])).unwrap();
        assert_eq!(ours.receive(later()).unwrap().unwrap(), b"one");
        let past = Instant::now();
        assert_eq!(ours.receive(past).unwrap().unwrap(), b"two");
        assert_eq!(ours.receive(past).unwrap(), None);
    }

    #[test]
    fn an_end_between_frames_and_inside_one_are_told_apart() {
        let (mut ours, mut theirs) = connection();
        theirs.write_all(&encoded(&[b"last".to_vec()])).unwrap();
        drop(theirs);
        assert_eq!(ours.receive(later()).unwrap().unwrap(), b"last");
        let closed = ours.receive(later()).unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(closed.to_string(), "the other side closed the connection");

        let (mut ours, mut theirs) = connection();
        theirs.write_all(&[0, 0, 0, 9, 1]).unwrap();
        drop(theirs);
        let closed = ours.receive(later()).unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::UnexpectedEof);
        assert!(closed.to_string().ends_with("in the middle of a frame"));
    }

    #[test]
    fn bytes_that_are_no_frames_are_told() {
        let (mut ours, mut theirs) = connection();
        theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(ours.receive(later()).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(ours.send(b"").unwrap_err().kind(), ErrorKind::InvalidInput);
        ours.send(b"still there").unwrap();
    }

    #[test]
    fn a_send_that_nobody_takes_fails_and_closes_the_connection() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut ours = FrameStream::connect(listener.local_addr().unwrap(), SHORT).unwrap();
        let _theirs = listener.accept().unwrap();
        let frame = vec![0; FRAME_LENGTH_MAX];
        let error = (0..1000).find_map(|_| ours.send(&frame).err()).expect("the buffers are full");
        assert!(is_no_news(error.kind()), "{error}");
        assert!(!is_no_news(ours.send(&frame).unwrap_err().kind()));
    }
}
