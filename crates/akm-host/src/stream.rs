//! Streams over which modules speak (protocol, section 11.1): which there are, how far each has come, and how many there
//! may be.
//!
//! Whoever has stocked keys of epochs can open streams, and cannot prove a request on any. So what he can hold is
//! bounded: a few unproven streams, for a minute, and a few calls of the element.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use akm_core::crypto::hash::sha256;
use akm_core::element::Root;
use akm_core::id::RelationshipId;
use akm_core::management::{IdentifyRequest, Operation, Request};
use akm_core::proof::{STREAM_NONCE_LENGTH, StreamBinding};
use akm_core::session::{Instant, RandomSource};

use crate::door::Stream;
use crate::limits::{IDENTIFIES_AT_ONCE, UNPROVEN_STREAMS};
use crate::outbox::Buffer;

/// One more `identify` on a new stream is answered after this.
const IDENTIFY_EVERY: Duration = Duration::from_secs(1);

/// A stream without a proven request ends after this much silence.
const UNPROVEN_SILENCE: Duration = Duration::from_secs(60);

/// A stream ends after this much silence.
const SILENCE: Duration = Duration::from_secs(60 * 60);

/// A stream ends this long after it began.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Names a stream in the life of a node: a connection may have several after each other.
pub(crate) type Serial = u64;

/// What belongs to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfStream {
    pub(crate) through: RelationshipId,
    pub(crate) stream: Stream,
    pub(crate) serial: Serial,
    /// The root by which all on it is proven.
    pub(crate) root: Root,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It has to wait for its turn.
    Waits,
    /// Nothing: what it repeats is under way, or something else is.
    Nothing,
    /// Answer as before.
    Again(Buffer),
    /// Close the connection without a word; whether a frame before this one waits to be handled.
    Closes { another_waits: bool },
    /// Say that this request is not proven, and close the connection.
    Unproven(u64),
    /// Check its proof.
    Check(OfStream),
}

/// An `identify` on a new stream that is to be answered.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) of: OfStream,
    pub(crate) id: u64,
    pub(crate) challenge: [u8; 32],
}

/// An `identify` on a new stream that waits for its turn.
#[derive(Debug)]
struct Waiting {
    stream: Stream,
    generation: u32,
    root: Root,
    id: u64,
    challenge: [u8; 32],
    request: [u8; 32],
}

/// A stream.
#[derive(Debug)]
struct Opened {
    serial: Serial,
    generation: u32,
    root: Root,
    challenge: [u8; 32],
    /// Its nonce, and when that was drawn; `None` until the first `identify` is answered.
    begun: Option<([u8; STREAM_NONCE_LENGTH], Instant)>,
    /// Whether a request on it was proven.
    proven: bool,
    /// Whether a request is being looked at or carried out.
    busy: bool,
    heard: Instant,
    last: Last,
}

/// The last request that was taken.
#[derive(Debug)]
struct Last {
    id: u64,
    known_by: KnownBy,
    answered: Answered,
}

/// How the same request is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownBy {
    /// SHA-256 of the first `identify`, which bears no proof.
    Bytes([u8; 32]),
    Proof([u8; 32]),
}

#[derive(Debug)]
enum Answered {
    UnderWay,
    With(Buffer),
    /// The element could not prove an answer: the same is carried out once more.
    InVain,
}

/// How many more `identify` on new streams the element is asked to answer.
#[derive(Debug)]
struct Pace {
    left: u32,
    /// From when on one more comes.
    since: Instant,
}

impl Pace {
    fn fill(&mut self, now: Instant) {
        while self.left < IDENTIFIES_AT_ONCE && self.since + IDENTIFY_EVERY <= now {
            self.left += 1;
            self.since = self.since + IDENTIFY_EVERY;
        }
        if self.left >= IDENTIFIES_AT_ONCE {
            self.since = now;
        }
    }
}

/// The streams of one relationship.
#[derive(Debug)]
struct Desk {
    open: BTreeMap<Stream, Opened>,
    waiting: Vec<Waiting>,
    pace: Pace,
}

impl Desk {
    /// Makes room for one more unproven stream, if it can: the stream that is given up for it, if there is one.
    fn make_room(&mut self) -> Option<Option<Stream>> {
        let unproven = || self.open.iter().filter(|(_, opened)| !opened.proven);
        if unproven().count() < UNPROVEN_STREAMS {
            return Some(None);
        }
        let answered = unproven().filter_map(|(stream, opened)| Some((opened.begun?.1, *stream)));
        let (_, oldest) = answered.min()?;
        self.open.remove(&oldest);
        Some(Some(oldest))
    }
}

/// All streams of a node.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    desks: BTreeMap<RelationshipId, Desk>,
    serials: Serial,
}

impl Streams {
    /// Looks at a request, before its proof is checked. `root` is that of the generation in force.
    pub(crate) fn look_at(
        &mut self,
        (through, generation): (RelationshipId, u32),
        root: Root,
        stream: Stream,
        request: &[u8],
        now: Instant,
    ) -> Said {
        let desk = self.desks.entry(through).or_insert_with(|| Desk {
            open: BTreeMap::new(),
            waiting: Vec::new(),
            pace: Pace { left: IDENTIFIES_AT_ONCE, since: now },
        });
        let bytes = || sha256(&[request]);
        let parsed = Request::parse(request).ok();
        if let Some(waiting) = desk.waiting.iter().position(|waiting| waiting.stream == stream) {
            if desk.waiting[waiting].request == bytes() {
                return Said::Nothing;
            }
            desk.waiting.remove(waiting);
            return Said::Closes { another_waits: true };
        }
        let closes = Said::Closes { another_waits: false };
        let Some(opened) = desk.open.get_mut(&stream) else {
            let Some(Request { id, operation, body, proof: None }) = parsed else { return closes };
            let challenge = match IdentifyRequest::parse(body) {
                Ok(asked) if operation == Operation::Identify as u8 => asked.challenge,
                _ => return closes,
            };
            desk.waiting.push(Waiting { stream, generation, root, id, challenge, request: bytes() });
            return Said::Waits;
        };
        opened.heard = now;
        let last = &opened.last;
        let Some(Request { id, proof, .. }) = parsed else { return Said::Unproven(0) };
        let known_by = match (last.known_by, proof) {
            (_, Some(proof)) => Some(KnownBy::Proof(proof)),
            (KnownBy::Bytes(_), None) => Some(KnownBy::Bytes(bytes())),
            (KnownBy::Proof(_), None) => None,
        };
        let is_the_same = known_by == Some(last.known_by);
        let of = OfStream { through, stream, serial: opened.serial, root: opened.root };
        match id.cmp(&last.id) {
            core::cmp::Ordering::Equal if is_the_same => match &last.answered {
                Answered::With(response) => Said::Again(response.clone()),
                Answered::InVain if !opened.busy => {
                    opened.busy = true;
                    Said::Check(of)
                }
                Answered::UnderWay | Answered::InVain => Said::Nothing,
            },
            core::cmp::Ordering::Greater if opened.begun.is_none() => closes,
            core::cmp::Ordering::Greater if proof.is_none() => Said::Unproven(id),
            core::cmp::Ordering::Greater if opened.busy => Said::Nothing,
            core::cmp::Ordering::Greater => {
                opened.busy = true;
                Said::Check(of)
            }
            _ => closes,
        }
    }

    /// The next `identify` on a new stream of any relationship that may be answered, and the stream that is given up for it.
    /// Which of those that wait is drawn.
    pub(crate) fn next_first(
        &mut self,
        now: Instant,
        random: &mut dyn RandomSource,
    ) -> Option<(First, Option<Stream>)> {
        for (through, desk) in &mut self.desks {
            if desk.waiting.is_empty() {
                continue;
            }
            desk.pace.fill(now);
            if desk.pace.left == 0 {
                continue;
            }
            let Some(given_up) = desk.make_room() else { continue };
            desk.pace.left -= 1;
            self.serials += 1;
            let mut drawn = [0; 8];
            random.fill(&mut drawn);
            let at = u64::from_be_bytes(drawn) % desk.waiting.len() as u64;
            let Waiting { stream, generation, root, id, challenge, request } =
                desk.waiting.swap_remove(at as usize);
            let last = Last { id, known_by: KnownBy::Bytes(request), answered: Answered::UnderWay };
            let opened = Opened {
                serial: self.serials,
                generation,
                root,
                challenge,
                begun: None,
                proven: false,
                busy: true,
                heard: now,
                last,
            };
            desk.open.insert(stream, opened);
            let of = OfStream { through: *through, stream, serial: self.serials, root };
            return Some((First { of, id, challenge }, given_up));
        }
        None
    }

    /// Whether nothing waits for its turn.
    pub(crate) fn none_wait(&self) -> bool {
        self.desks.values().all(|desk| desk.waiting.is_empty())
    }

    /// The first `identify` of a stream is answered: from here on it has begun.
    pub(crate) fn begun(
        &mut self,
        of: &OfStream,
        nonce: [u8; STREAM_NONCE_LENGTH],
        response: &Buffer,
        now: Instant,
    ) -> bool {
        let Some(opened) = self.opened(of) else { return false };
        opened.begun = Some((nonce, now));
        (opened.busy, opened.heard) = (false, now);
        opened.last.answered = Answered::With(response.clone());
        true
    }

    /// What tells a stream from all others; `None` if it has ended.
    pub(crate) fn binding(&mut self, of: &OfStream) -> Option<StreamBinding> {
        let opened = self.opened(of)?;
        let (nonce, _) = opened.begun?;
        Some(StreamBinding { challenge: opened.challenge, nonce })
    }

    /// The proof of a request is right: whether it is to be carried out, and whether it is the first one on its stream.
    pub(crate) fn proven(&mut self, of: &OfStream, id: u64, proof: [u8; 32]) -> Option<bool> {
        let desk = self.desks.get_mut(&of.through)?;
        let opened = desk.open.get_mut(&of.stream).filter(|opened| opened.serial == of.serial)?;
        let is_first = !core::mem::replace(&mut opened.proven, true);
        if is_first {
            desk.pace.left = IDENTIFIES_AT_ONCE.min(desk.pace.left + 1);
        }
        opened.last = Last { id, known_by: KnownBy::Proof(proof), answered: Answered::UnderWay };
        Some(is_first)
    }

    /// A request was answered, or could not be.
    pub(crate) fn answered(&mut self, of: &OfStream, response: Option<&Buffer>) {
        if let Some(opened) = self.opened(of) {
            opened.busy = false;
            opened.last.answered =
                response.map_or(Answered::InVain, |response| Answered::With(response.clone()));
        }
    }

    /// Nothing is under way any more of what was looked at, and nothing was taken.
    pub(crate) fn let_go(&mut self, of: &OfStream) {
        if let Some(opened) = self.opened(of) {
            opened.busy = false;
        }
    }

    /// Whether this stream is open.
    pub(crate) fn is_open(&self, of: &OfStream) -> bool {
        let desk = self.desks.get(&of.through);
        desk.and_then(|desk| desk.open.get(&of.stream)).is_some_and(|opened| opened.serial == of.serial)
    }

    /// A connection is closed, or about to be.
    pub(crate) fn close(&mut self, stream: Stream) {
        for desk in self.desks.values_mut() {
            desk.open.remove(&stream);
            desk.waiting.retain(|waiting| waiting.stream != stream);
        }
    }

    /// The streams of generations of a relationship below this one end. Those of which a frame waited to be handled.
    pub(crate) fn end_below(&mut self, through: RelationshipId, generation: u32) -> Vec<Stream> {
        let Some(desk) = self.desks.get_mut(&through) else { return Vec::new() };
        desk.open.retain(|_, opened| opened.generation >= generation);
        let before = core::mem::take(&mut desk.waiting).into_iter();
        let (stay, end): (Vec<_>, Vec<_>) = before.partition(|waiting| waiting.generation >= generation);
        desk.waiting = stay;
        end.into_iter().map(|waiting| waiting.stream).collect()
    }

    /// The streams whose time is over end: their connections.
    pub(crate) fn end_overdue(&mut self, now: Instant) -> Vec<Stream> {
        let mut ended = Vec::new();
        for desk in self.desks.values_mut() {
            desk.open.retain(|stream, opened| {
                let over = opened.ends().is_some_and(|ends| ends <= now);
                if over {
                    ended.push(*stream);
                }
                !over
            });
        }
        ended
    }

    /// When a stream ends, or one that waits may begin.
    pub(crate) fn due(&self) -> Option<Instant> {
        let ends = self.desks.values().flat_map(|desk| desk.open.values().filter_map(Opened::ends));
        let full = |desk: &&Desk| !desk.waiting.is_empty() && desk.pace.left == 0;
        let begins = self.desks.values().filter(full).map(|desk| desk.pace.since + IDENTIFY_EVERY);
        ends.chain(begins).min()
    }

    fn opened(&mut self, of: &OfStream) -> Option<&mut Opened> {
        let opened = self.desks.get_mut(&of.through)?.open.get_mut(&of.stream)?;
        (opened.serial == of.serial).then_some(opened)
    }
}

impl Opened {
    fn ends(&self) -> Option<Instant> {
        let (_, began) = self.begun?;
        let silence = if self.proven { SILENCE } else { UNPROVEN_SILENCE };
        Some((self.heard + silence).min(began + LIFE))
    }
}
