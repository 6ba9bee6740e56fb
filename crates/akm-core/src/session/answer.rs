//! Finding back, as one who answers (protocol, section 15).

use alloc::collections::VecDeque;
use core::time::Duration;

use super::{Event, Instant, Rejection, Session, SessionError, Surroundings};
use crate::keys::ResyncPair;
use crate::resync::{InvalidResync, NONCE, RequestFrame, Response};

/// Answers in any second, whoever asks.
const ANSWERS_PER_SECOND: usize = 4;

/// What the budget of calls knows the root of requests by; a response is known by its sender.
const REQUEST_ROOT: u32 = u32::MAX;

/// How many requests are remembered, so that a recording of one is not answered again.
const REMEMBERED: usize = 64;

const SECOND: Duration = Duration::from_secs(1);

/// What was answered lately.
#[derive(Default)]
pub(super) struct Answers {
    /// When, and whom.
    given: VecDeque<(Instant, u16)>,
    /// Nonces of requests that were answered or counted as a confirmation.
    nonces: VecDeque<[u8; NONCE]>,
    total: u64,
}

impl Answers {
    /// Whether one more answer may be given: one a second for each requester, four in all.
    fn allows(&mut self, requester: u16, now: Instant) -> bool {
        while self.given.front().is_some_and(|(given, _)| *given + SECOND <= now) {
            self.given.pop_front();
        }
        self.given.len() < ANSWERS_PER_SECOND && self.given.iter().all(|(_, whom)| *whom != requester)
    }

    fn gave(&mut self, requester: u16, now: Instant) {
        self.given.push_back((now, requester));
        self.total += 1;
    }

    fn knows(&self, nonce: &[u8; NONCE]) -> bool {
        self.nonces.contains(nonce)
    }

    fn remember(&mut self, nonce: [u8; NONCE]) {
        if self.nonces.len() == REMEMBERED {
            self.nonces.pop_front();
        }
        self.nonces.push_back(nonce);
    }

    pub(super) fn kept(&self) -> usize {
        self.given.len() + self.nonces.len()
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

impl Session {
    /// Somebody asks where this member is. The header signature is right.
    pub(super) fn receive_request(
        &mut self,
        sender: u16,
        frame: &RequestFrame<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Option<Rejection>, SessionError> {
        let now = surroundings.now;
        if self.stage.place_to_tell().is_none() && !self.may_initiate() {
            return Ok(Some(Rejection::NoPlace));
        }
        let nonce = frame.nonce();
        let suite = self.membership.sds().suite();
        let resync = self.resync.as_mut().expect("the caller has it");
        if resync.answers.knows(&nonce) {
            return Ok(Some(Rejection::Duplicate));
        }
        if !resync.has_request_root() {
            let Some(made) = resync.calls.take_for(REQUEST_ROOT, now) else {
                return Ok(Some(Rejection::Budget));
            };
            let asked = resync.request_root(surroundings, &self.membership).map(|_| ());
            resync.calls.settle(REQUEST_ROOT, made, &asked);
            asked?;
        }
        let requests = resync.request_root(surroundings, &self.membership)?;
        let key = self.provider.aead(suite, requests.request_key(sender, &nonce).expose());
        let (request, request_body) = match frame.open(&*key) {
            Ok(opened) => opened,
            Err(InvalidResync::Meaningless) => return Ok(Some(Rejection::UnexpectedKind)),
            Err(_) => return Ok(Some(Rejection::NotAuthentic)),
        };
        if request.asked != self.membership.index() {
            return Ok(Some(Rejection::NotAsked));
        }
        let Some(place) = self.stage.place_to_tell() else {
            return match self.initiate(sender, &request, surroundings) {
                Ok(None) => {
                    self.resync.as_mut().expect("it was there").answers.remember(nonce);
                    Ok(None)
                }
                Ok(Some(challenge)) => {
                    self.answer(sender, (nonce, request_body), &Response::Challenge(challenge), surroundings)
                }
                Err(reason) => Ok(Some(reason)),
            };
        };
        let response = if !request.has_place || request.run < place.run() {
            Response::Place(place.duplicate())
        } else {
            Response::Position { run: place.run(), epoch: place.epoch() }
        };
        self.answer(sender, (nonce, request_body), &response, surroundings)
    }

    fn answer(
        &mut self,
        requester: u16,
        (request_nonce, request_body): ([u8; NONCE], [u8; 32]),
        response: &Response,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Option<Rejection>, SessionError> {
        let now = surroundings.now;
        let resync = self.resync.as_mut().expect("the caller has it");
        if !resync.answers.allows(requester, now) {
            return Ok(Some(Rejection::Budget));
        }
        let tag = resync.tag;
        let responder = self.membership.index();
        let response_nonce = self.draw_nonce(surroundings);
        let salt = self.epochs.draw_salt(surroundings.random);
        let pair = ResyncPair { requester, responder, request_nonce, response_nonce, request_body };
        let key = self.membership.response_key(&pair, surroundings.element)?;
        let key = self.provider.aead(self.membership.sds().suite(), key.expose());
        let head = (tag, responder, salt);
        let header_key = self.membership.header_key().expect("it was opened for the request");
        let frame = response.seal(&*key, header_key, head, &request_nonce, &response_nonce);
        let answers = &mut self.resync.as_mut().expect("it was there").answers;
        answers.gave(requester, now);
        answers.remember(request_nonce);
        self.queue_to(requester, &frame);
        self.tell(Event::Answered { requester, with_place: matches!(response, Response::Place(_)) });
        Ok(None)
    }
}
