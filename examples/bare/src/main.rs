//! A host of `akm-core` with nothing below it but an allocator, a panic handler and a source of
//! randomness: two members of a relationship talk to each other in memory.
//!
//! It ends with 0 when a message went through in both directions, each member followed the other into a
//! later epoch, and a replayed and a forged frame were dropped.

#![no_std]
#![no_main]

extern crate alloc;

mod host;

use alloc::format;
use alloc::vec::Vec;
use core::ffi::c_int;
use core::time::Duration;

use akm_core::crypto::{self, Suite};
use akm_core::element::RootCheck;
use akm_core::frame::FrameKind;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::policy::Policy;
use akm_core::sds::{Generation, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::secret::Secret;
use akm_core::session::{
    Event, Input, Instant, Membership, Options, Output, RandomSource, Record, Rejection, Session, Standing,
    Surroundings,
};
use akm_core::tree::Place;

use host::{MemoryElement, SystemRandom};

/// Why the two did not come together.
#[derive(Debug)]
enum Failure {
    /// The relationship could not be made.
    Setup,
    /// A session refused an input.
    Refused,
    /// A frame was lost, or said something else.
    WrongMessage,
    /// A frame that should have been dropped was not, or for another reason.
    WrongVerdict,
}

/// One member: its session, its element, and what a host keeps for it.
struct Member {
    session: Session,
    element: MemoryElement,
    /// The latest place, as a disk would hold it.
    place: Vec<u8>,
}

/// What came out of a session for one input.
#[derive(Default)]
struct Outcome {
    frames: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    rejection: Option<Rejection>,
}

impl Member {
    fn handle(&mut self, input: Input<'_>, now: Instant) -> Result<Outcome, Failure> {
        let mut surroundings = Surroundings { now, element: &mut self.element, random: &mut SystemRandom };
        self.session.handle(input, &mut surroundings).map_err(|_| Failure::Refused)?;
        let mut outcome = Outcome::default();
        loop {
            match self.session.poll() {
                Output::Persist(record) => {
                    if let Record::Place(place) = record {
                        self.place = place.expose().to_vec();
                    }
                    self.session.persisted();
                }
                Output::Transmit(frame) | Output::TransmitTo(_, frame) => outcome.frames.push(frame.to_vec()),
                Output::Deliver(delivery) if delivery.kind == FrameKind::Data => {
                    outcome.messages.push(delivery.payload.to_vec());
                }
                Output::Deliver(_) => {}
                Output::Event(Event::Rejected { reason, .. }) => outcome.rejection = Some(reason),
                Output::Event(_) => {}
                Output::Idle => return Ok(outcome),
            }
        }
    }

    /// Seals a message; returns its frame.
    fn send(&mut self, message: &[u8], now: Instant) -> Result<Vec<u8>, Failure> {
        let outcome = self.handle(Input::Send(FrameKind::Data, message), now)?;
        outcome.frames.into_iter().next().ok_or(Failure::WrongMessage)
    }

    fn must_hear(&mut self, frame: &[u8], message: &[u8], now: Instant) -> Result<(), Failure> {
        let heard = self.handle(Input::Frame(frame), now)?.messages;
        if heard == [message] { Ok(()) } else { Err(Failure::WrongMessage) }
    }

    fn must_drop(&mut self, frame: &[u8], reason: Rejection, now: Instant) -> Result<(), Failure> {
        let outcome = self.handle(Input::Frame(frame), now)?;
        let dropped = outcome.messages.is_empty() && outcome.rejection == Some(reason);
        if dropped { Ok(()) } else { Err(Failure::WrongVerdict) }
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom.fill(&mut bytes);
    bytes
}

/// What a module does for the two: one relationship, and to each its part.
fn provision() -> Result<[Member; 2], Failure> {
    let nodes = [AkmId::from_random(random()), AkmId::from_random(random())];
    let sds = SynchronizedDataSet::new(Generation {
        kind: Kind::Communication,
        relationship: RelationshipId::from_random(random()),
        generation: 1,
        element_version: 1,
        instance: random(),
        suite: Suite::ChaCha20Poly1305,
        members: nodes.to_vec(),
        policy: Policy::default().emit(),
    })
    .map_err(|_| Failure::Setup)?;
    let secrets = ParameterDataVector::new(Secret::take(&mut random())).derive(&sds);
    let member = |node| {
        let check = RootCheck::of(&secrets.element_root);
        let membership = Membership::new(sds.clone(), node, check, secrets.host.keys.duplicate())
            .map_err(|_| Failure::Setup)?;
        let mut element = MemoryElement { root: membership.root(), key: secrets.element_root.duplicate() };
        let mut surroundings =
            Surroundings { now: Instant::default(), element: &mut element, random: &mut SystemRandom };
        let standing = Standing::Active(Place::before_first(0, secrets.host.tree_root.duplicate()));
        let options = Options { hello_at_start: false, find_back: false };
        let session = Session::start(crypto::provider(), membership, standing, options, &mut surroundings)
            .map_err(|_| Failure::Setup)?;
        Ok(Member { session, element, place: Vec::new() })
    };
    Ok([member(nodes[0])?, member(nodes[1])?])
}

fn talk() -> Result<(), Failure> {
    let [mut a, mut b] = provision()?;
    let mut now = Instant::default();
    let first = a.send(b"is anybody there", now)?;
    b.must_hear(&first, b"is anybody there", now)?;
    let answer = b.send(b"yes", now)?;
    a.must_hear(&answer, b"yes", now)?;

    now = now + Duration::from_secs(2);
    for frame in a.handle(Input::Advance, now)?.frames {
        b.handle(Input::Frame(&frame), now)?;
    }
    let later = a.send(b"under other keys", now)?;
    b.must_hear(&later, b"under other keys", now)?;
    if a.session.epoch() != b.session.epoch() || a.place != b.place || later[8..12] == first[8..12] {
        return Err(Failure::WrongMessage);
    }

    b.must_drop(&later, Rejection::Duplicate, now)?;
    let mut forged = a.send(b"the true word", now)?;
    let last = forged.len() - 1;
    forged[last] ^= 1;
    b.must_drop(&forged, Rejection::NotAuthentic, now)?;
    forged[last] ^= 1;
    b.must_hear(&forged, b"the true word", now)
}

/// Where the C runtime enters: 0 if all went well.
#[expect(unsafe_code, reason = "the C runtime finds its entry by this name")]
// SAFETY: a program has one `main`, and this is the signature that the C runtime calls.
#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const u8) -> c_int {
    host::begin();
    let outcome = talk();
    let used = host::heap_used();
    match outcome {
        Ok(()) if used == 0 => {
            host::say(&format!("the two have talked, with at most {} bytes of heap\n", host::HEAP_LENGTH));
            0
        }
        Ok(()) => {
            host::say(&format!("{used} bytes were not given back\n"));
            1
        }
        Err(failure) => {
            host::say(&format!("the two did not come together: {failure:?}\n"));
            1
        }
    }
}
