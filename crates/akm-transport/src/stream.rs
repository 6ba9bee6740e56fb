//! Frames on a stream: each is preceded by its length (protocol, section 5).

use alloc::vec::Vec;

/// Longest frame on a stream, in bytes.
pub const FRAME_LENGTH_MAX: usize = 131_072;

const PREFIX_LENGTH: usize = 4;

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

fn check_length(length: usize) -> Result<u32, StreamError> {
    match length {
        0 => Err(StreamError::Empty),
        1..=FRAME_LENGTH_MAX => Ok(length as u32),
        _ => Err(StreamError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;

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
}
