//! How often the element is asked for answers to find back by, on the word of somebody who has not authenticated.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::Instant;
use crate::element::ElementError;

/// Calls of the element for such answers, in any second.
pub(super) const CALLS_PER_SECOND: usize = 10;

const SECOND: Duration = Duration::from_secs(1);

/// Keeps strangers who got hold of a header key from wearing the element out.
#[derive(Default)]
pub(super) struct Budget {
    /// When the calls of the last second were made, oldest first.
    calls: VecDeque<Instant>,
    /// What was to be asked with calls that are taken, where whoever stands in for the element has no answer yet: asked
    /// again it costs nothing.
    unanswered: VecDeque<(u32, Instant)>,
}

impl Budget {
    /// Whether one more call may be made, and takes it.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        while self.calls.front().is_some_and(|made| *made + SECOND <= now) {
            self.calls.pop_front();
        }
        if self.calls.len() == CALLS_PER_SECOND {
            return false;
        }
        self.calls.push_back(now);
        true
    }

    /// Takes a call for something that this number names among what the budget is for, and says when it was taken. One
    /// that was put off serves.
    pub(super) fn take_for(&mut self, what: u32, now: Instant) -> Option<Instant> {
        if let Some(at) = self.unanswered.iter().position(|(other, _)| *other == what) {
            return self.unanswered.remove(at).map(|(_, made)| made);
        }
        self.take(now).then_some(now)
    }

    /// The call was made, or put off: then it stays taken for what it was taken for.
    pub(super) fn settle<T>(&mut self, what: u32, made: Instant, result: &Result<T, ElementError>) {
        if matches!(result, Err(ElementError::Unanswered)) {
            if self.unanswered.len() == CALLS_PER_SECOND {
                self.unanswered.pop_front();
            }
            self.unanswered.push_back((what, made));
        }
    }

    /// Gives the call of that time back: a frame that it was made for has authenticated.
    pub(super) fn give_back(&mut self, made: Instant) {
        if let Some(at) = self.calls.iter().rposition(|call| *call == made) {
            self.calls.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(milliseconds: u64) -> Instant {
        Instant(Duration::from_millis(milliseconds))
    }

    #[test]
    fn no_second_has_more_than_ten_calls() {
        let mut budget = Budget::default();
        let made: alloc::vec::Vec<u64> = (0..10_000).filter(|at| budget.take(after(*at))).collect();
        assert_eq!(made.len(), 100);
        for at in &made {
            assert!(made.iter().filter(|other| (*at..at + 1000).contains(other)).count() <= 10);
        }
    }

    #[test]
    fn ten_calls_at_once_then_none_for_a_second() {
        let mut budget = Budget::default();
        assert_eq!((0..20).filter(|_| budget.take(after(0))).count(), 10);
        assert!(!budget.take(after(999)));
        assert_eq!((0..20).filter(|_| budget.take(after(1000))).count(), 10);
    }

    #[test]
    fn a_call_given_back_can_be_made_again() {
        let mut budget = Budget::default();
        while budget.take(after(0)) {}
        budget.give_back(after(0));
        assert!(budget.take(after(0)));
        assert!(!budget.take(after(0)));
    }

    #[test]
    fn a_call_that_was_put_off_is_not_paid_twice_and_serves_nothing_else() {
        let mut budget = Budget::default();
        let made = budget.take_for(7, after(0)).unwrap();
        budget.settle::<()>(7, made, &Err(ElementError::Unanswered));
        while budget.take(after(1)) {}
        assert_eq!(budget.take_for(8, after(2)), None);
        assert_eq!(budget.take_for(7, after(2)), Some(after(0)));
        assert_eq!(budget.take_for(7, after(2)), None);
    }

    #[test]
    fn a_call_of_long_ago_gives_nothing_back() {
        let mut budget = Budget::default();
        assert!(budget.take(after(0)));
        while budget.take(after(1000)) {}
        budget.give_back(after(0));
        assert!(!budget.take(after(1000)));
    }
}
