//! Sealing and opening a frame against the AEAD alone.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use akm_core::crypto::{AWS_LC, AeadKey, CryptoProvider, NONCE_LENGTH, PORTABLE, Suite, TAG_LENGTH};
use akm_core::frame::{HEADER_LENGTH, OVERHEAD};
use akm_element::random;

use crate::allocations::asked;
use crate::duo::{Duo, Member};
use crate::error::BenchError;
use crate::report::Row;
use crate::rounds::{Effort, Rounds, in_turn, worked};

/// Length of a body and how many times the AEAD alone sealing and opening a frame may cost.
const SIZES: [(usize, f64); 2] = [(64, 1.35), (1400, 1.10)];

const PROVIDERS: [(&str, &dyn CryptoProvider); 2] = [("aws-lc", AWS_LC), ("portable", PORTABLE)];

const SUITES: [(&str, Suite); 2] =
    [("AES-256-GCM", Suite::Aes256Gcm), ("ChaCha20-Poly1305", Suite::ChaCha20Poly1305)];

const CASES: usize = SIZES.len() * PROVIDERS.len() * SUITES.len();

/// Frames in one measurement: few enough for the processor's cache.
const BATCH: usize = 128;

/// How often all is made anew, since where things lie in memory makes a difference of some percent.
const LAYOUTS: usize = 8;

/// What an application sends.
struct Body {
    length: usize,
    /// Room that is left behind it, so that what comes next lies elsewhere.
    room: usize,
}

impl Body {
    fn make(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length + self.room);
        bytes.resize(self.length, 0x61);
        bytes
    }
}

/// A session and the AEAD alone, doing the same.
trait Contest {
    /// Gets ready.
    fn new(provider: &'static dyn CryptoProvider, suite: Suite, body: &Body) -> Result<Self, BenchError>
    where
        Self: Sized;

    /// Lets the session do it for a batch. Returns how long that took and how often it asked for memory.
    fn session(&mut self) -> Result<(Duration, u64), BenchError>;

    /// The same with the AEAD alone.
    fn alone(&mut self) -> Duration;
}

/// Sealing: a body goes in, a frame comes out.
struct Sealing {
    sender: Member,
    raw: Raw,
    body: Vec<u8>,
}

impl Contest for Sealing {
    fn new(provider: &'static dyn CryptoProvider, suite: Suite, body: &Body) -> Result<Self, BenchError> {
        let duo = Duo::new(provider, suite);
        let sender = duo.member(0, duo.first_place());
        Ok(Self { sender, raw: Raw::new(provider, suite, body), body: body.make() })
    }

    fn session(&mut self) -> Result<(Duration, u64), BenchError> {
        let before = asked();
        let (sent, took) = worked(|| {
            (0..BATCH).try_for_each(|_| {
                self.sender.send(black_box(&self.body), |frame| {
                    black_box(frame);
                })
            })
        });
        sent.map(|()| (took, asked() - before))
    }

    fn alone(&mut self) -> Duration {
        worked(|| (0..BATCH).for_each(|_| self.raw.seal())).1
    }
}

/// Opening: a frame goes in, a payload comes out.
struct Opening {
    sender: Member,
    receiver: Member,
    frames: Vec<Vec<u8>>,
    raw: Raw,
    sealed: Vec<(u32, Vec<u8>)>,
    body: Vec<u8>,
}

impl Contest for Opening {
    fn new(provider: &'static dyn CryptoProvider, suite: Suite, body: &Body) -> Result<Self, BenchError> {
        let duo = Duo::new(provider, suite);
        let mut sender = duo.member(0, duo.first_place());
        let mut raw = Raw::new(provider, suite, body);
        let body = body.make();
        let frames = vec![sender.frame(&body)?; BATCH];
        let sealed = (0..BATCH).map(|_| raw.sealed()).collect();
        Ok(Self { sender, receiver: duo.member(1, duo.first_place()), frames, raw, sealed, body })
    }

    fn session(&mut self) -> Result<(Duration, u64), BenchError> {
        for frame in &mut self.frames {
            self.sender.send(&self.body, |sealed| frame.copy_from_slice(sealed))?;
        }
        let (delivered, asked_before) = (self.receiver.delivered(), asked());
        let (heard, took) = worked(|| {
            self.frames.iter().try_for_each(|frame| {
                self.receiver.hear(black_box(frame), |payload| {
                    black_box(payload);
                })
            })
        });
        let allocations = asked() - asked_before;
        heard?;
        match self.receiver.delivered() - delivered {
            all if all == self.frames.len() as u64 => Ok((took, allocations)),
            some => Err(BenchError::Product(format!("{some} of {BATCH} frames were delivered"))),
        }
    }

    fn alone(&mut self) -> Duration {
        worked(|| self.sealed.iter().for_each(|(counter, frame)| self.raw.open(*counter, frame))).1
    }
}

/// Sealing, in all cases.
pub(super) fn seal(effort: Effort) -> Result<Vec<Row>, BenchError> {
    each_case::<Sealing>("seal", effort)
}

/// Opening, in all cases.
pub(super) fn open(effort: Effort) -> Result<Vec<Row>, BenchError> {
    each_case::<Opening>("open", effort)
}

fn each_case<C: Contest>(part: &'static str, effort: Effort) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for (provider_name, provider) in PROVIDERS {
        for (suite_name, suite) in SUITES {
            for (length, goal) in SIZES {
                let layouts = effort.size(LAYOUTS, 1);
                let mut rounds = Rounds::default();
                let mut allocations = 0;
                for layout in 0..layouts {
                    let mut contest = C::new(provider, suite, &Body { length, room: 496 * layout })?;
                    // The first frames begin an epoch.
                    contest.session()?;
                    let contest = RefCell::new(contest);
                    let session = || {
                        let (took, asked) = contest.borrow_mut().session()?;
                        allocations = allocations.max(asked);
                        Ok(took)
                    };
                    let alone = || Ok(contest.borrow_mut().alone());
                    rounds = rounds.and(in_turn(effort.share(CASES * layouts), 20, session, alone)?);
                }
                let comparison = rounds.comparison();
                let nanoseconds = |seconds: f64| seconds * 1e9 / BATCH as f64;
                let what = format!("{part} {length} bytes, {suite_name}, {provider_name}");
                rows.push(
                    Row::of(part, what, "the AEAD alone", comparison)
                        .with_goal(goal)
                        .with_fact("allocations for each frame, at most", allocations as f64 / BATCH as f64)
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
    fn new(provider: &dyn CryptoProvider, suite: Suite, body: &Body) -> Self {
        let key = provider.aead(suite, &random());
        let body = body.make();
        Self { key, buffer: vec![0; OVERHEAD + body.len()], body, counter: 0 }
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

    /// A frame of its own, and its counter.
    fn sealed(&mut self) -> (u32, Vec<u8>) {
        let counter = self.counter;
        self.seal();
        (counter, self.buffer.clone())
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
