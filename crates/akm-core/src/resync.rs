//! Frames by which a member finds back (protocol, section 15): class 1, one round trip.
//!
//! ```text
//!   request   header || nonce R [16] || ciphertext || AEAD tag [16]                    1,152 bytes
//!   response  header || nonce R [16] || nonce P [16] || ciphertext || AEAD tag [16]    86 to 1,110 bytes
//! ```
//!
//! A request is longer than any response, so that nobody gets more out of a member than he sends to it, and both fit
//! a link of IPv6 with the smallest MTU. Keys are used once, so AEAD nonces are zero.

use alloc::vec::Vec;

use crate::crypto::hash::sha256;
use crate::crypto::{AeadKey, NONCE_LENGTH, TAG_LENGTH};
use crate::frame::{Class, HEADER_LENGTH, Header};
use crate::sds::{HeaderKey, Tag};
use crate::secret::SecretBytes;
use crate::tree::{KEY_LENGTH, NO_EPOCH, POSITION_LENGTH, Place};

/// Length of a request frame, in bytes.
pub const REQUEST_LENGTH: usize = 1152;

/// Longest response frame, in bytes: a place of 32 keys.
pub const RESPONSE_MAX: usize = RESPONSE_SHORTEST + 32 * KEY_LENGTH;

/// Length of the nonces in these frames.
pub const NONCE: usize = 16;

/// The counter that marks a request.
const REQUEST: u32 = 1;

/// The counter that marks a response.
const RESPONSE: u32 = 2;

const RESPONSE_HEAD: usize = HEADER_LENGTH + 2 * NONCE;
const RESPONSE_SHORTEST: usize = RESPONSE_HEAD + 1 + POSITION_LENGTH + 1 + TAG_LENGTH;
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
                    && (length - RESPONSE_SHORTEST).is_multiple_of(KEY_LENGTH)
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
        frame.extend_from_slice(&self.plaintext());
        seal_behind(key, &mut frame, REQUEST_HEAD);
        frame
    }

    /// SHA-256 of its whole plaintext, which the key of the response follows from.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[&self.plaintext()])
    }

    fn plaintext(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(REQUEST_PLAIN);
        plain.push(KIND_REQUEST);
        plain.extend_from_slice(&self.asked.to_be_bytes());
        plain.push(u8::from(self.has_place));
        plain.extend_from_slice(&self.run.to_be_bytes());
        plain.extend_from_slice(&self.epoch.to_be_bytes());
        plain.extend_from_slice(&self.challenge.unwrap_or_default());
        plain.resize(REQUEST_PLAIN, 0);
        plain
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

    /// Opens the request; with SHA-256 of its whole plaintext, which the key of the response follows from.
    pub fn open(&self, key: &dyn AeadKey) -> Result<(ResyncRequest, [u8; 32]), InvalidResync> {
        let plain = open_behind(key, self.0, REQUEST_HEAD)?;
        let request = ResyncRequest::parse(plain.expose()).ok_or(InvalidResync::Meaningless)?;
        Ok((request, sha256(&[plain.expose()])))
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
                let place_bytes = place.emit();
                let (position, keys) = place_bytes.expose().split_at(POSITION_LENGTH);
                frame.push(KIND_PLACE);
                frame.extend_from_slice(position);
                frame.push(place.keys() as u8);
                frame.extend_from_slice(keys);
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
            (KIND_PLACE, body) => {
                let (position, rest) = body.split_at_checked(POSITION_LENGTH)?;
                let (count, keys) = rest.split_first()?;
                if keys.len() != usize::from(*count) * KEY_LENGTH {
                    return None;
                }
                if keys.is_empty() {
                    let (run, epoch) = position.split_at(4);
                    return Some(Self::Position {
                        run: u32::from_be_bytes(run.try_into().ok()?),
                        epoch: u32::from_be_bytes(epoch.try_into().ok()?),
                    });
                }
                let mut place = SecretBytes::with_capacity(POSITION_LENGTH + keys.len());
                place.append(position);
                place.append(keys);
                Place::parse(place.expose()).ok().map(Self::Place)
            }
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
        fn a_plaintext_of_a_response_is_refused_or_reads_back_the_same(
            kind in 1..4u8,
            run: u32,
            epoch in prop_oneof![any::<u32>(), Just(u32::MAX - 1), Just(NO_EPOCH), (u32::MAX - 7)..u32::MAX],
            count in 0..4u8,
            length in 0..110usize,
        ) {
            let mut plain = Vec::from([kind]);
            plain.extend_from_slice(&run.to_be_bytes());
            plain.extend_from_slice(&epoch.to_be_bytes());
            plain.push(count);
            let length = if length % 2 == 0 { length } else { 10 + KEY_LENGTH * usize::from(count) };
            plain.resize(length.max(1), 7);
            let (frame, key) = opened(&plain, RESPONSE_HEAD);
            if let Ok(response) = ResponseFrame(&frame).open(&*key) {
                let header_key = Secret::take(&mut [1; 16]);
                let again = response.seal(&*key, &header_key, (Tag([0; 4]), 0, 0), &[0; NONCE], &[0; NONCE]);
                let again = open_behind(&*key, &again, RESPONSE_HEAD).unwrap();
                prop_assert_eq!(again.expose(), &plain[..]);
            }
        }

        #[test]
        fn a_place_with_all_its_keys_and_no_other_number_of_them_is_a_response(
            run: u32,
            epoch: u32,
            wrong in 1..40u8,
        ) {
            let at = |epoch| Place::before_first(run, Secret::take(&mut [9; 32])).at(epoch);
            let place = at(epoch).unwrap_or_else(|| Place::before_first(run, Secret::take(&mut [9; 32])));
            let right = place.keys() as u8;
            let mut plain = Vec::from([KIND_PLACE]);
            plain.extend_from_slice(&place.emit().expose()[..POSITION_LENGTH]);
            plain.push(right);
            plain.extend_from_slice(&place.emit().expose()[POSITION_LENGTH..]);
            let (frame, key) = opened(&plain, RESPONSE_HEAD);
            let response = ResponseFrame(&frame).open(&*key);
            let same = matches!(response, Ok(Response::Place(read)) if read.emit().equals(place.emit().expose()));
            prop_assert!(same);
            plain[1 + POSITION_LENGTH] = wrong;
            plain.resize(1 + POSITION_LENGTH + 1 + KEY_LENGTH * usize::from(wrong), 7);
            let (frame, key) = opened(&plain, RESPONSE_HEAD);
            prop_assert_eq!(ResponseFrame(&frame).open(&*key).is_ok(), wrong == right);
        }

        #[test]
        fn any_plaintext_of_a_request_is_refused_or_reads_back_the_same(start in any::<[u8; 28]>()) {
            let mut plain = start.to_vec();
            plain[0] = KIND_REQUEST;
            plain[3] &= 1;
            plain.resize(REQUEST_PLAIN, 0);
            let (frame, key) = opened(&plain, REQUEST_HEAD);
            if let Ok((request, digest)) = RequestFrame(&frame).open(&*key) {
                prop_assert_eq!(digest, request.digest());
                let header_key = Secret::take(&mut [1; 16]);
                let again = request.seal(&*key, &header_key, (Tag([0; 4]), 0, 0), &[0; NONCE]);
                let again = open_behind(&*key, &again, REQUEST_HEAD).unwrap();
                prop_assert_eq!(again.expose(), &plain[..]);
            }
        }
    }
}
