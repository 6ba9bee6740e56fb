//! Frames over a TCP connection, for a program without an async runtime.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;
use crate::stream::{FrameReader, encode};

/// Most bytes that one read takes off a socket.
const READ_LENGTH: usize = 16 * 1024;

/// Shortest wait for a read: the operating system takes zero for "for ever".
const WAIT_MIN: Duration = Duration::from_millis(1);

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
    pub fn connect(to: Endpoint, timeout: Duration) -> io::Result<Self> {
        let Endpoint::Ip(address) = to;
        Self::new(TcpStream::connect_timeout(&address, timeout)?, timeout)
    }

    /// Takes over a connection, such as one that was accepted. It is switched to blocking.
    pub fn new(stream: TcpStream, send_timeout: Duration) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(send_timeout.max(WAIT_MIN)))?;
        Ok(Self { stream, reader: FrameReader::new() })
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
    /// [`ErrorKind::InvalidData`]: what it sends are no frames ([`StreamError`](crate::StreamError)).
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::stream::FRAME_LENGTH_MAX;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    fn encoded(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            encode(frame, &mut bytes).unwrap();
        }
        bytes
    }

    /// Two ends of one connection: as this crate sees it, and bare.
    fn connection() -> (FrameStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ours = FrameStream::connect(listener.local_addr().unwrap().into(), LONG).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn soon() -> Instant {
        Instant::now() + SHORT
    }

    fn later() -> Instant {
        Instant::now() + LONG
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
        let mut ours = FrameStream::connect(listener.local_addr().unwrap().into(), SHORT).unwrap();
        let _theirs = listener.accept().unwrap();
        let frame = vec![0; FRAME_LENGTH_MAX];
        let error = (0..1000).find_map(|_| ours.send(&frame).err()).expect("the buffers are full");
        assert!(is_no_news(error.kind()), "{error}");
        assert!(!is_no_news(ours.send(&frame).unwrap_err().kind()));
    }
}
