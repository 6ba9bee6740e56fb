//! Frames by which a member finds back (protocol, section 15): class 1, one round trip.
//!
//! ```text
//!   request   header || nonce R [16] || ciphertext || AEAD tag [16]                    1,200 bytes
//!   response  header || nonce R [16] || nonce P [16] || ciphertext || AEAD tag [16]    86 to 1,270 bytes
//! ```
//!
//! A request is as long as a response may be, give or take a few bytes, so that nobody gets more out of a
//! member than he sends to it. Keys are used once, so AEAD nonces are zero.

use alloc::vec::Vec;

use crate::crypto::{AeadKey, NONCE_LENGTH, TAG_LENGTH};
use crate::frame::{Class, HEADER_LENGTH, Header};
use crate::sds::{HeaderKey, Tag};
use crate::secret::SecretBytes;
use crate::tree::{NO_EPOCH, Place};

/// Length of a request frame, in bytes.
pub const REQUEST_LENGTH: usize = 1200;

/// Longest response frame, in bytes: a place of 32 tree nodes.
pub const RESPONSE_MAX: usize = RESPONSE_SHORTEST + 32 * TREE_NODE_LENGTH;

/// Length of the nonces in these frames.
pub const NONCE: usize = 16;

/// The counter that marks a request.
const REQUEST: u32 = 1;

/// The counter that marks a response.
const RESPONSE: u32 = 2;

const TREE_NODE_LENGTH: usize = 37;
const POSITION_LENGTH: usize = 9;
const RESPONSE_HEAD: usize = HEADER_LENGTH + 2 * NONCE;
const RESPONSE_SHORTEST: usize = RESPONSE_HEAD + 1 + POSITION_LENGTH + TAG_LENGTH;
const CHALLENGE_LENGTH: usize = RESPONSE_HEAD + 1 + NONCE + TAG_LENGTH;
const REQUEST_HEAD: usize = HEADER_LENGTH + NONCE;
const REQUEST_PLAIN: usize = REQUEST_LENGTH - REQUEST_HEAD - TAG_LENGTH;
const REQUEST_FIELDS: usize = 1 + 2 + 1 + 4 + 4 + NONCE;

const KIND_REQUEST: u8 = 1;
const KIND_PLACE: u8 = 2;
const KIND_CHALLENGE: u8 = 3;

/// Why bytes are no frame of this class, or an opened one says nothing that the protocol knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResync {
    /// The length, the epoch field or the counter belongs to no request and no response.
    #[error("neither a resync request nor a response")]
    Malformed,
    /// The AEAD says no.
    #[error("not authentic")]
    NotAuthentic,
    /// Authentic, and says what no member says.
    #[error("authentic, but of no meaning")]
    Meaningless,
}

/// What a frame of this class is, by what anybody can see of it. Nothing in it is believed yet.
#[derive(Clone, Copy, Debug)]
pub enum Outside<'a> {
    /// Somebody asks.
    Request(RequestFrame<'a>),
    /// Somebody answers.
    Response(ResponseFrame<'a>),
}

/// A request, not opened.
#[derive(Clone, Copy, Debug)]
pub struct RequestFrame<'a>(&'a [u8]);

/// A response, not opened.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFrame<'a>(&'a [u8]);

impl<'a> Outside<'a> {
    /// Tells by the header's counter and the length what a frame of class 1 is.
    pub fn parse(header: &Header, frame: &'a [u8]) -> Result<Self, InvalidResync> {
        if header.class != Class::Resync || header.epoch != 0 {
            return Err(InvalidResync::Malformed);
        }
        let fits = |length: usize| {
            length == CHALLENGE_LENGTH
                || (RESPONSE_SHORTEST..=RESPONSE_MAX).contains(&length)
                    && (length - RESPONSE_SHORTEST).is_multiple_of(TREE_NODE_LENGTH)
        };
        match header.counter {
            REQUEST if frame.len() == REQUEST_LENGTH => Ok(Self::Request(RequestFrame(frame))),
            RESPONSE if fits(frame.len()) => Ok(Self::Response(ResponseFrame(frame))),
            _ => Err(InvalidResync::Malformed),
        }
    }
}

/// What a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResyncRequest {
    /// The index of the member that is asked.
    pub asked: u16,
    /// Whether the requester has a place, at `run` and `epoch`.
    pub has_place: bool,
    /// Its run; without a place the highest it knows of.
    pub run: u32,
    /// Its epoch; without a place [`NO_EPOCH`].
    pub epoch: u32,
    /// The challenge that it answers: it has no place, and takes none but of member 0 for a while.
    pub challenge: Option<[u8; NONCE]>,
}

impl ResyncRequest {
    /// Seals this request under its key. `salt` is random.
    pub fn seal(
        &self,
        key: &dyn AeadKey,
        header_key: &HeaderKey,
        (tag, sender, salt): (Tag, u16, u64),
        nonce: &[u8; NONCE],
    ) -> Vec<u8> {
        let header = Header { class: Class::Resync, sender, tag, epoch: 0, salt, counter: REQUEST };
        let mut frame = Vec::with_capacity(REQUEST_LENGTH);
        frame.extend_from_slice(&header.emit(header_key));
        frame.extend_from_slice(nonce);
        frame.push(KIND_REQUEST);
        frame.extend_from_slice(&self.asked.to_be_bytes());
        frame.push(u8::from(self.has_place));
        frame.extend_from_slice(&self.run.to_be_bytes());
        frame.extend_from_slice(&self.epoch.to_be_bytes());
        frame.extend_from_slice(&self.challenge.unwrap_or_default());
        frame.resize(REQUEST_LENGTH - TAG_LENGTH, 0);
        seal_behind(key, &mut frame, REQUEST_HEAD);
        frame
    }

    fn parse(plain: &[u8]) -> Option<Self> {
        let (fields, zeros) = plain.split_at_checked(REQUEST_FIELDS)?;
        let challenge: [u8; NONCE] = fields[12..].try_into().ok()?;
        let request = Self {
            asked: u16::from_be_bytes([fields[1], fields[2]]),
            has_place: match fields[3] {
                0 => false,
                1 => true,
                _ => return None,
            },
            run: u32::from_be_bytes(fields[4..8].try_into().ok()?),
            epoch: u32::from_be_bytes(fields[8..12].try_into().ok()?),
            challenge: Some(challenge).filter(|challenge| *challenge != [0; NONCE]),
        };
        let consistent =
            if request.has_place { request.challenge.is_none() } else { request.epoch == NO_EPOCH };
        let understood = fields[0] == KIND_REQUEST && zeros.iter().all(|byte| *byte == 0) && consistent;
        understood.then_some(request)
    }
}

impl RequestFrame<'_> {
    /// The nonce R.
    pub fn nonce(&self) -> [u8; NONCE] {
        self.0[HEADER_LENGTH..REQUEST_HEAD].try_into().expect("16 bytes")
    }

    /// Opens the request.
    pub fn open(&self, key: &dyn AeadKey) -> Result<ResyncRequest, InvalidResync> {
        let plain = open_behind(key, self.0, REQUEST_HEAD)?;
        debug_assert_eq!(plain.len(), REQUEST_PLAIN);
        ResyncRequest::parse(plain.expose()).ok_or(InvalidResync::Meaningless)
    }
}

/// What a response says.
#[derive(Debug)]
pub enum Response {
    /// A place with its cover.
    Place(Place),
    /// Where the responder stands, for a requester that can go there alone.
    Position {
        /// Its run.
        run: u32,
        /// Its epoch.
        epoch: u32,
    },
    /// Member 0 has no place either.
    Challenge([u8; NONCE]),
}

impl Response {
    /// Seals this response under its key. `salt` is random.
    pub fn seal(
        &self,
        key: &dyn AeadKey,
        header_key: &HeaderKey,
        (tag, sender, salt): (Tag, u16, u64),
        request_nonce: &[u8; NONCE],
        response_nonce: &[u8; NONCE],
    ) -> Vec<u8> {
        let header = Header { class: Class::Resync, sender, tag, epoch: 0, salt, counter: RESPONSE };
        let mut frame = Vec::with_capacity(RESPONSE_MAX);
        frame.extend_from_slice(&header.emit(header_key));
        frame.extend_from_slice(request_nonce);
        frame.extend_from_slice(response_nonce);
        match self {
            Self::Place(place) => {
                frame.push(KIND_PLACE);
                frame.extend_from_slice(place.emit().expose());
            }
            Self::Position { run, epoch } => {
                frame.push(KIND_PLACE);
                frame.extend_from_slice(&run.to_be_bytes());
                frame.extend_from_slice(&epoch.to_be_bytes());
                frame.push(0);
            }
            Self::Challenge(challenge) => {
                frame.push(KIND_CHALLENGE);
                frame.extend_from_slice(challenge);
            }
        }
        seal_behind(key, &mut frame, RESPONSE_HEAD);
        frame
    }

    fn parse(plain: &[u8]) -> Option<Self> {
        let (kind, body) = plain.split_first()?;
        match (*kind, body) {
            (KIND_CHALLENGE, challenge) => {
                let challenge: [u8; NONCE] = challenge.try_into().ok()?;
                (challenge != [0; NONCE]).then_some(Self::Challenge(challenge))
            }
            (KIND_PLACE, position) if position.len() == POSITION_LENGTH => {
                let run = u32::from_be_bytes(position[..4].try_into().ok()?);
                let epoch = u32::from_be_bytes(position[4..8].try_into().ok()?);
                (position[8] == 0).then_some(Self::Position { run, epoch })
            }
            (KIND_PLACE, place) => Place::parse(place).ok().map(Self::Place),
            _ => None,
        }
    }
}

impl ResponseFrame<'_> {
    /// The nonce R of the request that this answers.
    pub fn request_nonce(&self) -> [u8; NONCE] {
        self.0[HEADER_LENGTH..HEADER_LENGTH + NONCE].try_into().expect("16 bytes")
    }

    /// The nonce P.
    pub fn response_nonce(&self) -> [u8; NONCE] {
        self.0[HEADER_LENGTH + NONCE..RESPONSE_HEAD].try_into().expect("16 bytes")
    }

    /// Opens the response.
    pub fn open(&self, key: &dyn AeadKey) -> Result<Response, InvalidResync> {
        let plain = open_behind(key, self.0, RESPONSE_HEAD)?;
        Response::parse(plain.expose()).ok_or(InvalidResync::Meaningless)
    }
}

/// Seals what stands behind the first `head` bytes, and appends the AEAD tag.
fn seal_behind(key: &dyn AeadKey, frame: &mut Vec<u8>, head: usize) {
    let (associated, plain) = frame.split_at_mut(head);
    let tag = key.seal(&[0; NONCE_LENGTH], associated, plain);
    frame.extend_from_slice(&tag);
}

/// Opens what stands behind the first `head` bytes. It may hold a place, so it is wiped.
fn open_behind(key: &dyn AeadKey, frame: &[u8], head: usize) -> Result<SecretBytes, InvalidResync> {
    let (associated, sealed) = frame.split_at(head);
    let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG_LENGTH);
    let mut plain = SecretBytes::copy_from(ciphertext);
    let tag = tag.try_into().expect("16 bytes");
    key.open(&[0; NONCE_LENGTH], associated, plain.expose_mut(), tag)
        .map_err(|_| InvalidResync::NotAuthentic)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Suite, provider};
    use crate::secret::Secret;
    use proptest::prelude::*;

    fn opened(plain: &[u8], head: usize) -> (Vec<u8>, alloc::boxed::Box<dyn AeadKey>) {
        let key = provider().aead(Suite::Aes256Gcm, &[7; 32]);
        let mut frame = alloc::vec![0; head];
        frame.extend_from_slice(plain);
        seal_behind(&*key, &mut frame, head);
        (frame, key)
    }

    #[test]
    fn whatever_is_not_zero_behind_a_request_is_refused() {
        let request = ResyncRequest { asked: 3, has_place: false, run: 0, epoch: NO_EPOCH, challenge: None };
        let key = provider().aead(Suite::Aes256Gcm, &[7; 32]);
        let header_key = Secret::take(&mut [1; 16]);
        let frame = request.seal(&*key, &header_key, (Tag([2; 4]), 5, 9), &[4; NONCE]);
        let plain = open_behind(&*key, &frame, REQUEST_HEAD).unwrap();
        for at in (0..plain.len()).filter(|at| !(1..3).contains(at)) {
            let mut other = plain.expose().to_vec();
            other[at] ^= 0x80;
            let run_or_challenge = (4..8).contains(&at) || (12..28).contains(&at);
            let (frame, key) = opened(&other, REQUEST_HEAD);
            let outcome = RequestFrame(&frame).open(&*key);
            assert_eq!(outcome.is_ok(), run_or_challenge, "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_plaintext_of_a_response_is_refused_or_reads_back_the_same(plain in proptest::collection::vec(any::<u8>(), 1..200)) {
            let (frame, key) = opened(&plain, RESPONSE_HEAD);
            if let Ok(response) = ResponseFrame(&frame).open(&*key) {
                let header_key = Secret::take(&mut [1; 16]);
                let again = response.seal(&*key, &header_key, (Tag([0; 4]), 0, 0), &[0; NONCE], &[0; NONCE]);
                let again = open_behind(&*key, &again, RESPONSE_HEAD).unwrap();
                prop_assert_eq!(again.expose(), &plain[..]);
            }
        }

        #[test]
        fn any_plaintext_of_a_request_is_refused_or_reads_back_the_same(start in any::<[u8; 28]>()) {
            let mut plain = start.to_vec();
            plain[0] = KIND_REQUEST;
            plain[3] &= 1;
            plain.resize(REQUEST_PLAIN, 0);
            let (frame, key) = opened(&plain, REQUEST_HEAD);
            if let Ok(request) = RequestFrame(&frame).open(&*key) {
                let header_key = Secret::take(&mut [1; 16]);
                let again = request.seal(&*key, &header_key, (Tag([0; 4]), 0, 0), &[0; NONCE]);
                let again = open_behind(&*key, &again, REQUEST_HEAD).unwrap();
                prop_assert_eq!(again.expose(), &plain[..]);
            }
        }
    }
}
