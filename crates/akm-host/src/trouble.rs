//! An element that goes while the node runs, and comes back.

use alloc::string::String;
use core::time::Duration;

use akm_core::session::Instant;

/// How often an element that is not there is asked again.
const ELEMENT_RETRY: Duration = Duration::from_secs(1);

/// An element that does not answer.
#[derive(Debug)]
pub(crate) struct Trouble {
    why: String,
    /// When it is asked again; `None`: it was, and has not said anything yet.
    due: Option<Instant>,
}

impl Trouble {
    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn of(why: String, now: Instant) -> Self {
        Self { why, due: Some(now + ELEMENT_RETRY) }
    }

    /// Whether it is to be asked now; it is asked once.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// It has said again that it is not there.
    pub(crate) fn goes_on(&mut self, now: Instant) {
        self.due = Some(now + ELEMENT_RETRY);
    }
}
