use alloc::collections::VecDeque;
use core::time::Duration;

use super::Instant;

/// Calls of the element for unproven epochs, in any second.
pub(super) const CALLS_PER_SECOND: usize = 10;

const SECOND: Duration = Duration::from_secs(1);

/// Keeps strangers who got hold of a header key from wearing the element out.
#[derive(Default)]
pub(super) struct Budget {
    /// When the calls of the last second were made, oldest first.
    calls: VecDeque<Instant>,
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

    /// Gives the call of that time back: a frame that it was made for has authenticated.
    pub(super) fn give_back(&mut self, made: Instant) {
        if let Some(at) = self.calls.iter().rposition(|call| *call == made) {
            self.calls.remove(at);
        }
    }

    /// Calls that count, those of which the second is over included until the next is made.
    pub(super) fn spent(&self) -> usize {
        self.calls.len()
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
    fn a_call_of_long_ago_gives_nothing_back() {
        let mut budget = Budget::default();
        assert!(budget.take(after(0)));
        while budget.take(after(1000)) {}
        budget.give_back(after(0));
        assert!(!budget.take(after(1000)));
    }
}
