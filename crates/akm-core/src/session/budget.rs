use core::time::Duration;

use super::Instant;

/// Calls of the element for unproven epochs, in a second.
pub(super) const CALLS_PER_SECOND: u32 = 10;

const REFILL: Duration = Duration::from_millis(1000 / CALLS_PER_SECOND as u64);

/// Keeps strangers who got hold of a header key from wearing the element out.
pub(super) struct Budget {
    calls: u32,
    refilled: Instant,
}

impl Budget {
    pub(super) fn full(now: Instant) -> Self {
        Self { calls: CALLS_PER_SECOND, refilled: now }
    }

    /// Whether one more call may be made, and takes it.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        while self.calls < CALLS_PER_SECOND && self.refilled + REFILL <= now {
            self.calls += 1;
            self.refilled = self.refilled + REFILL;
        }
        if self.calls == CALLS_PER_SECOND {
            self.refilled = now;
        }
        if self.calls == 0 {
            return false;
        }
        self.calls -= 1;
        true
    }

    /// Gives a call back: the frame that it was made for has authenticated.
    pub(super) fn give_back(&mut self) {
        self.calls = (self.calls + 1).min(CALLS_PER_SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_calls_at_once_then_ten_a_second() {
        let start = Instant::default();
        let mut budget = Budget::full(start);
        assert_eq!((0..20).filter(|_| budget.take(start)).count(), 10);
        let later = start + Duration::from_millis(350);
        assert_eq!((0..20).filter(|_| budget.take(later)).count(), 3);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..20).filter(|_| budget.take(much_later)).count(), 10);
    }

    #[test]
    fn a_call_given_back_can_be_made_again() {
        let start = Instant::default();
        let mut budget = Budget::full(start);
        while budget.take(start) {}
        budget.give_back();
        assert!(budget.take(start));
        assert!(!budget.take(start));
    }
}
