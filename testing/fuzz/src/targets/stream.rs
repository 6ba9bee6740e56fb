//! Frames on a stream, however it is cut.

use akm_transport::{FRAME_LENGTH_MAX, FrameReader, StreamError, encode};

use crate::memory::measure;
use crate::reader::Reader;

const PREFIX_LENGTH: usize = 4;

/// The first byte says how many cuts there are, the next ones how long the pieces are; the rest is the stream.
/// Whole and in pieces it gives the same frames and the same end, and these frames make the same stream.
pub fn run(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let cuts = reader.below(32);
    let lengths: Vec<usize> = reader.bytes(cuts).iter().map(|length| usize::from(*length)).collect();
    let stream = reader.rest();

    let mut pieces = Vec::new();
    let mut rest = stream;
    for length in lengths {
        let (piece, left) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces.push(rest);

    let whole = frames(&[stream]);
    let cut = frames(&pieces);
    let single = frames(&stream.chunks(1).collect::<Vec<_>>());
    assert_eq!(whole, cut, "the same stream, cut in pieces");
    assert_eq!(whole, single, "the same stream, byte by byte");

    let mut again = Vec::new();
    for frame in &whole.0 {
        encode(frame, &mut again).expect("what was read can be sent");
    }
    assert!(stream.starts_with(&again));
    let (_, end, between) = &whole;
    assert_eq!(*between, end.is_none() && again.len() == stream.len());
    if let Some(prefix) = stream[again.len()..].first_chunk::<PREFIX_LENGTH>() {
        let expected = match u32::from_be_bytes(*prefix) as usize {
            0 => Some(StreamError::Empty),
            length if length > FRAME_LENGTH_MAX => Some(StreamError::TooLong),
            _ => None,
        };
        assert_eq!(*end, expected);
    } else {
        assert_eq!(*end, None);
    }
    !whole.0.is_empty()
}

/// All frames of a stream, why it ended, and whether it stands between two frames.
fn frames(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<StreamError>, bool) {
    let mut reader = FrameReader::new();
    let mut found = Vec::new();
    let mut end = None;
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    for piece in pieces {
        let ((), used) = measure(|| reader.push(piece));
        assert!(used.most <= 64 + 4 * length, "memory grows only as bytes arrive");
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    assert!((1..=FRAME_LENGTH_MAX).contains(&frame.len()));
                    assert_eq!(end, None, "no frame comes after an end");
                    found.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(end.is_none_or(|end| end == error), "every later call gives the same error");
                    end = Some(error);
                    break;
                }
            }
        }
    }
    (found, end, reader.is_between_frames())
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    for frame in [&b"first"[..], b"2", &[3; 300]] {
        encode(frame, &mut stream).expect("these can be sent");
    }
    vec![
        [&[0], &stream[..]].concat(),
        [&[4, 3, 1, 7, 200], &stream[..]].concat(),
        [&[0], &stream[..], &[0, 0, 0, 0, 9]].concat(),
        [&[2, 1, 1], &stream[..], &[0, 2, 0, 1, 9]].concat(),
    ]
}
