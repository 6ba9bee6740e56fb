//! Sealing and opening a frame against the AEAD alone.

use std::hint::black_box;

use akm_core::crypto::{AWS_LC, AeadKey, CryptoProvider, NONCE_LENGTH, PORTABLE, Suite, TAG_LENGTH};
use akm_core::frame::{HEADER_LENGTH, OVERHEAD};

use crate::allocations::asked;
use crate::duo::{Duo, Member, random};
use crate::error::BenchError;
use crate::report::Row;
use crate::rounds::{Effort, in_turn, worked};

/// Length of a body and how many times the AEAD alone sealing and opening a frame may cost.
const SIZES: [(usize, f64); 2] = [(64, 1.35), (1400, 1.10)];

const PROVIDERS: [(&str, &dyn CryptoProvider); 2] = [("aws-lc", AWS_LC), ("portable", PORTABLE)];

const SUITES: [(&str, Suite); 2] =
    [("AES-256-GCM", Suite::Aes256Gcm), ("ChaCha20-Poly1305", Suite::ChaCha20Poly1305)];

const CASES: usize = SIZES.len() * PROVIDERS.len() * SUITES.len();

/// Frames in one measurement: few enough for the processor's cache.
const BATCH: usize = 128;

/// Sealing: a body goes in, a frame comes out.
pub(super) fn seal(effort: Effort) -> Result<Vec<Row>, BenchError> {
    each_case(
        |provider, suite, length| {
            let duo = Duo::new(provider, suite);
            let mut sender = duo.member(0, duo.first_place());
            let mut raw = Raw::new(provider, suite, length);
            let body = raw.body.clone();
            let mut allocations = 0;
            let mut seal_frames = || {
                let before = asked();
                let (sent, took) = worked(|| {
                    (0..BATCH).try_for_each(|_| {
                        sender.send(black_box(&body), |frame| {
                            black_box(frame);
                        })
                    })
                });
                allocations = asked() - before;
                sent.map(|()| took)
            };
            seal_frames()?;
            let comparison = in_turn(effort.share(CASES), 50, seal_frames, || {
                Ok(worked(|| (0..BATCH).for_each(|_| raw.seal())).1)
            })?;
            Ok((comparison, allocations))
        },
        "seal",
        "seal",
    )
}

/// Opening: a frame goes in, a payload comes out.
pub(super) fn open(effort: Effort) -> Result<Vec<Row>, BenchError> {
    each_case(
        |provider, suite, length| {
            let duo = Duo::new(provider, suite);
            let mut sender = duo.member(0, duo.first_place());
            let mut receiver = duo.member(1, duo.first_place());
            let mut raw = Raw::new(provider, suite, length);
            let sealed = raw.sealed();
            let body = raw.body.clone();
            let mut allocations = 0;
            let mut open_frames = || {
                let frames: Vec<_> = (0..BATCH).map(|_| sender.frame(&body)).collect::<Result<_, _>>()?;
                let before = receiver.delivered();
                let asked_before = asked();
                let (heard, took) = worked(|| hear_all(&mut receiver, &frames));
                allocations = asked() - asked_before;
                heard?;
                match receiver.delivered() - before {
                    BATCH_DELIVERED => Ok(took),
                    other => Err(BenchError::Product(format!("{other} of {BATCH} frames were delivered"))),
                }
            };
            open_frames()?;
            let comparison = in_turn(effort.share(CASES), 50, open_frames, || {
                Ok(worked(|| sealed.iter().for_each(|(counter, frame)| raw.open(*counter, frame))).1)
            })?;
            Ok((comparison, allocations))
        },
        "open",
        "open",
    )
}

const BATCH_DELIVERED: u64 = BATCH as u64;

fn hear_all(receiver: &mut Member, frames: &[Vec<u8>]) -> Result<(), BenchError> {
    frames.iter().try_for_each(|frame| {
        receiver.hear(black_box(frame), |payload| {
            black_box(payload);
        })
    })
}

fn each_case(
    measure: impl Fn(&'static dyn CryptoProvider, Suite, usize) -> Result<(crate::Comparison, u64), BenchError>,
    part: &'static str,
    verb: &str,
) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for (provider_name, provider) in PROVIDERS {
        for (suite_name, suite) in SUITES {
            for (length, goal) in SIZES {
                let (comparison, allocations) = measure(provider, suite, length)?;
                let nanoseconds = |seconds: f64| seconds * 1e9 / BATCH as f64;
                rows.push(
                    Row::of(
                        part,
                        format!("{verb} {length} bytes, {suite_name}, {provider_name}"),
                        "the AEAD alone",
                        comparison,
                    )
                    .with_goal(goal)
                    .with_fact("allocations for each frame", allocations as f64 / BATCH as f64)
                    .with_fact("nanoseconds a frame", nanoseconds(comparison.a.median))
                    .with_fact("nanoseconds of the AEAD alone", nanoseconds(comparison.b.median)),
                );
            }
        }
    }
    Ok(rows)
}

/// The least that protecting these bytes costs: the bytes of a frame at the places that they have in one, a
/// copy into a buffer that is there, and one AEAD call with a key that is ready.
struct Raw {
    key: Box<dyn AeadKey>,
    /// What an application sends.
    body: Vec<u8>,
    /// As long as a frame, header and AEAD tag included.
    buffer: Vec<u8>,
    counter: u32,
}

impl Raw {
    fn new(provider: &dyn CryptoProvider, suite: Suite, length: usize) -> Self {
        let key = provider.aead(suite, &random());
        Self { key, body: vec![0x61; length], buffer: vec![0; OVERHEAD + length], counter: 0 }
    }

    /// Copies the body into the buffer, and seals it there.
    fn seal(&mut self) {
        let nonce = nonce(self.counter);
        self.counter = self.counter.wrapping_add(1);
        let (associated, rest) = self.buffer.split_at_mut(HEADER_LENGTH);
        let (plaintext, tag) = rest.split_at_mut(1 + self.body.len());
        plaintext[1..].copy_from_slice(black_box(&self.body));
        tag.copy_from_slice(&self.key.seal(&nonce, associated, plaintext));
        black_box(&self.buffer);
    }

    fn sealed(&mut self) -> Vec<(u32, Vec<u8>)> {
        (0..BATCH)
            .map(|_| {
                let counter = self.counter;
                self.seal();
                (counter, self.buffer.clone())
            })
            .collect()
    }

    /// Copies the ciphertext into the buffer, and opens it there.
    fn open(&mut self, counter: u32, frame: &[u8]) {
        let (associated, sealed) = black_box(frame).split_at(HEADER_LENGTH);
        let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG_LENGTH);
        let buffer = &mut self.buffer[..ciphertext.len()];
        buffer.copy_from_slice(ciphertext);
        let tag = tag.try_into().expect("16 bytes");
        self.key.open(&nonce(counter), associated, buffer, tag).expect("it was sealed so");
        black_box(buffer);
    }
}

fn nonce(counter: u32) -> [u8; NONCE_LENGTH] {
    let mut nonce = [0; NONCE_LENGTH];
    nonce[8..].copy_from_slice(&counter.to_be_bytes());
    nonce
}
