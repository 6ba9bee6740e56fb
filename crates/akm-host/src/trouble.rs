//! An element that goes while the node runs, and comes back.

use alloc::string::{String, ToString};
use core::time::Duration;

use akm_core::element::ElementError;
use akm_core::session::{Instant, SessionError};

use crate::ask::{Answer, Question};
use crate::event::Event;
use crate::node::{Asker, Node};
use crate::outbox::Queued;

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
}

impl Node {
    /// Remembers that the element is not there. What else it says concerns one relationship only.
    pub(crate) fn note_element(&mut self, error: Option<&SessionError>) {
        if let Some(SessionError::Element(error @ ElementError::Unavailable(_))) = error
            && self.trouble.is_none()
        {
            let why = error.to_string();
            self.outbox.push(Queued::Event(None, Event::ElementGone(why.clone())));
            self.trouble = Some(Trouble { why, due: Some(self.now + ELEMENT_RETRY) });
        }
    }

    /// Asks an element that was not there whether it is by now.
    pub(crate) fn ask_element_again(&mut self, now: Instant) {
        if let Some(trouble) =
            self.trouble.as_mut().filter(|trouble| trouble.due.is_some_and(|due| due <= now))
        {
            trouble.due = None;
            self.ask(Asker::Trouble, Question::Random(16));
        }
    }

    pub(crate) fn trouble_was_answered(&mut self, result: &Result<Answer, ElementError>) {
        if result.is_ok() && self.trouble.take().is_some() {
            self.outbox.push(Queued::Event(None, Event::ElementBack));
        } else if let Some(trouble) = &mut self.trouble {
            trouble.due = Some(self.now + ELEMENT_RETRY);
        }
    }
}
