//! What a medium that carries frames does, whichever it is.

use alloc::vec::Vec;

use crate::endpoint::Endpoint;

/// Frames of a [`Batch`] from which on it is to be sent.
const BATCH_FRAMES: usize = 64;

/// Bytes of a [`Batch`] from which on it is to be sent.
const BATCH_BYTES: usize = 64 * 1024;

/// A medium that carries frames: each arrives whole, or not at all.
///
/// It keeps no frame for later and waits for nothing: who drives it knows when something is there, by the means of his
/// system. It knows nothing of what a frame says.
pub trait Carrier {
    /// Why the medium took a frame not, or gave none.
    type Error: core::error::Error;

    /// What this medium can do. It stays the same.
    fn capabilities(&self) -> Capabilities;

    /// Sends the frames of a batch, those for one endpoint in their order. One that the medium does not take is lost,
    /// as on the way, and told to `lost`; the others go.
    fn send(&mut self, batch: &Batch, lost: &mut dyn FnMut(Endpoint, Self::Error));

    /// Hands over frames that are there, at most as many as [`Capabilities::burst`] says, each with where it came from;
    /// returns how many. After 0 nothing was there.
    fn receive(&mut self, take: &mut dyn FnMut(Endpoint, &[u8])) -> Result<usize, Self::Error>;
}

/// What a [`Carrier`] can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Which endpoints it reaches.
    pub medium: Medium,
    /// Longest frame in bytes.
    pub frame_max: usize,
    /// Most frames that one [`Carrier::receive`] hands over.
    pub burst: usize,
}

/// The kind of a medium, and with it of its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An IP network: [`Endpoint::Ip`].
    Ip,
}

/// Frames on their way out, each with where it goes, in one piece of memory that is used again.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each frame goes, and where in the bytes it ends.
    frames: Vec<(Endpoint, usize)>,
}

impl Batch {
    /// A batch of no frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a frame.
    pub fn push(&mut self, to: Endpoint, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.frames.push((to, self.bytes.len()));
    }

    /// Whether it should be sent before another frame is appended, so that it stays small.
    pub fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_FRAMES || self.bytes.len() >= BATCH_BYTES
    }

    /// Whether no frame is in it.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many frames are in it.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// A frame by its place in the order in which they were appended, and where it goes.
    pub fn get(&self, place: usize) -> Option<(Endpoint, &[u8])> {
        let (to, end) = *self.frames.get(place)?;
        let start = place.checked_sub(1).map_or(0, |before| self.frames[before].1);
        Some((to, &self.bytes[start..end]))
    }

    /// The frames in the order in which they were appended.
    pub fn iter(&self) -> impl Iterator<Item = (Endpoint, &[u8])> {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    /// Takes all frames out; the memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::from(core::net::SocketAddr::from(([192, 0, 2, 7], port)))
    }

    #[test]
    fn a_batch_gives_back_its_frames_in_their_order() {
        let mut batch = Batch::new();
        let frames = [(endpoint(1), &b"one"[..]), (endpoint(2), b""), (endpoint(1), b"three")];
        for (to, frame) in frames {
            batch.push(to, frame);
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), frames);
        assert_eq!(batch.get(3), None);
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.iter().next(), None);
    }

    #[test]
    fn a_batch_is_full_by_its_frames_or_its_bytes() {
        let mut batch = Batch::new();
        for _ in 0..BATCH_FRAMES {
            assert!(!batch.is_full());
            batch.push(endpoint(1), b"short");
        }
        assert!(batch.is_full());
        batch.clear();
        assert!(!batch.is_full());
        batch.push(endpoint(1), &vec![0; BATCH_BYTES]);
        assert!(batch.is_full());
    }
}
