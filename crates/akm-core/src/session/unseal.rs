//! The keys that the host keeps sealed: opened when the first frame is made or heard.

use super::stage::{Lost, Stage};
use super::{Rejection, Session, SessionError, Surroundings};
use crate::element::ElementError;
use crate::secret::Secret;

/// What the account of the element's time knows this call by; an epoch is known by its number.
const KEPT_KEYS: u32 = u32::MAX;

impl Session {
    /// Whether the keys that the host keeps are sealed, so that it cannot be said which frames a member has signed. The
    /// first frame that bears its tag opens them.
    pub fn is_sealed(&self) -> bool {
        let may_open = !self.stage.is_lost() || self.resync.is_some();
        self.membership.header_key().is_none() && may_open
    }

    /// Sees to it that the keys are at hand: one element call for the first frame of a start.
    pub(super) fn open_keys(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        if self.membership.header_key().is_some() {
            return Ok(());
        }
        if self.membership.open_keys(self.provider, surroundings.element)? {
            if self.header_key.is_none() {
                self.header_key = self.membership.header_key().map(Secret::duplicate);
            }
            return Ok(());
        }
        // They were sealed by another element, or are damaged: without them nobody can be asked either.
        self.resync = None;
        if self.header_key.is_none() {
            self.stage = Stage::Lost(Lost::WithoutPlace);
            self.epochs.start_over();
            self.due.rest();
        }
        Err(SessionError::KeysLost)
    }

    /// The same for a frame that somebody sent: strangers do not wear an element out that fails. Says why the frame is
    /// dropped, if it is.
    pub(super) fn open_keys_for_frame(
        &mut self,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Option<Rejection>, SessionError> {
        if self.membership.header_key().is_some() {
            return Ok(None);
        }
        let (now, is_exempt) = (surroundings.now, !self.opening_failed);
        let time = surroundings.element.time().filter(|_| !is_exempt);
        if !time.is_none_or(|time| time.may_ask(KEPT_KEYS, now)) {
            return Ok(Some(Rejection::Budget));
        }
        let result = self.open_keys(surroundings);
        if matches!(result, Err(SessionError::Element(ElementError::Unanswered))) {
            return result.map(|()| None);
        }
        if let Some(time) = surroundings.element.time().filter(|_| !is_exempt) {
            let cost = time.made(KEPT_KEYS);
            if result.is_ok() {
                time.give_back(cost);
            }
        }
        self.opening_failed = result.is_err();
        result.map(|()| None)
    }
}
