//! An element that goes while the stack runs, and comes back.

use std::time::Duration;

use akm_core::element::ElementError;
use akm_core::session::{Instant, SessionError};
use tracing::{error, info};

use super::Node;

/// How often an element that is not there is asked again.
const ELEMENT_RETRY: Duration = Duration::from_secs(1);

impl Node {
    /// Remembers that the element is not there. What else it says concerns one relationship only.
    pub(super) fn note_element(&mut self, result: &Result<(), SessionError>) {
        if let Err(SessionError::Element(error @ ElementError::Unavailable(_))) = result
            && self.element_trouble.is_none()
        {
            let why = error.to_string();
            error!(
                "{why}; nothing of a new epoch is sent or heard until it answers; it is tried again by itself"
            );
            self.element_trouble = Some((why, self.now() + ELEMENT_RETRY));
        }
    }

    /// Asks an element that was not there whether it is by now.
    pub(super) fn ask_element_again(&mut self, now: Instant) {
        let Some((_, due)) = self.element_trouble.as_mut().filter(|(_, due)| *due <= now) else { return };
        *due = now + ELEMENT_RETRY;
        if self.element.random(&mut [0; 16]).is_ok() {
            self.element_trouble = None;
            info!("the element answers again");
        }
    }
}
