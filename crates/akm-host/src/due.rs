//! What the node does when the time for it has come: relationships act by themselves, and an element that is gone is asked
//! again.

use alloc::string::ToString;
use core::time::Duration;

use akm_core::element::ElementError;
use akm_core::id::RelationshipId;
use akm_core::session::{Instant, SessionError};

use crate::ask::{Answer, Question};
use crate::door::Surroundings;
use crate::event::Event;
use crate::limits::DUE_AT_ONCE;
use crate::node::{Asker, Node};
use crate::outbox::Queued;
use crate::relationship::{Given, Order, Origin};
use crate::trouble::Trouble;

/// One whose time has not moved although it acted is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);

impl Node {
    /// Takes note of when a relationship acts next.
    pub(crate) fn schedule(&mut self, id: RelationshipId) {
        let Some(relationship) = self.relationships.get(&id) else { return };
        // While it waits it does not act, but what is over is wiped.
        let waits = relationship.is_held_up() || relationship.waits(Order::Timer);
        let lineage = &relationship.lineage;
        let due = if waits { lineage.expiry() } else { lineage.timeout() };
        let back = relationship.waits_for_return().then(|| self.now + AGAIN);
        let due = due.into_iter().chain(back).chain(relationship.follows_at()).min();
        self.schedule_at(id, due);
    }

    pub(crate) fn schedule_at(&mut self, id: RelationshipId, due: Option<Instant>) {
        let Some(relationship) = self.relationships.get_mut(&id) else { return };
        if relationship.timer == due {
            return;
        }
        if let Some(before) = core::mem::replace(&mut relationship.timer, due) {
            self.timers.0.remove(&(before, id));
        }
        if let Some(due) = due {
            self.timers.0.insert((due, id));
        }
    }

    /// Lets relationships act whose time has come; not all where very many are due, such as at a start, so that others are
    /// heard in between: then [`Node::timeout`] says that there is more to do at once.
    pub(crate) fn fire(&mut self, surroundings: &mut Surroundings<'_>) {
        let now = surroundings.now;
        self.ask_element_again(now);
        self.end_streams(surroundings);
        for _ in 0..DUE_AT_ONCE {
            let Some((due, id)) = self.timers.0.first().copied().filter(|(due, _)| *due <= now) else {
                return;
            };
            let Some(relationship) = self.relationships.get_mut(&id) else { return };
            if relationship.follows_at().is_some_and(|due| due <= now) {
                self.stirred.insert(id);
            }
            if relationship.is_held_up() || relationship.waits(Order::Timer) {
                relationship.lineage.expire(now);
                if relationship.waits_for_return() {
                    self.stirred.insert(id);
                }
                self.schedule(id);
            } else {
                self.give(id, &Given::Timeout, Origin::Itself, surroundings);
            }
            if self.timers.0.first() == Some(&(due, id)) {
                self.schedule_at(id, Some(now + AGAIN));
            }
        }
    }

    /// Remembers that the element is not there. What else it says concerns one relationship only.
    pub(crate) fn note_element(&mut self, error: Option<&SessionError>) {
        if let Some(SessionError::Element(error @ ElementError::Unavailable(_))) = error
            && self.trouble.is_none()
        {
            let why = error.to_string();
            self.outbox.push(Queued::Event(None, Event::ElementGone(why.clone())));
            self.trouble = Some(Trouble::of(why, self.now));
        }
    }

    /// Asks an element that was not there whether it is by now.
    pub(crate) fn ask_element_again(&mut self, now: Instant) {
        if self.trouble.as_mut().is_some_and(|trouble| trouble.take_due(now)) {
            self.ask(Asker::Trouble, Question::Random(16));
        }
    }

    pub(crate) fn trouble_was_answered(&mut self, result: &Result<Answer, ElementError>) {
        if result.is_ok() && self.trouble.take().is_some() {
            self.outbox.push(Queued::Event(None, Event::ElementBack));
        } else if let Some(trouble) = &mut self.trouble {
            trouble.goes_on(self.now);
        }
    }
}
