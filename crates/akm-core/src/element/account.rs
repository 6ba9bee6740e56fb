//! The time of an element, as far as it is spent on the word of somebody who has not authenticated (protocol, section 7,
//! "Budget").

use core::time::Duration;

use crate::session::Instant;

/// What a session asks whoever keeps account of an element's time.
///
/// A host that has one element for many relationships keeps it over all of them. What a call is for is named by a number,
/// the same whenever it is tried again.
pub trait ElementTime {
    /// Whether such a call may begin at this time. Once allowed it stays so until [`ElementTime::made`].
    fn may_ask(&mut self, what: u32, now: Instant) -> bool;

    /// A call that was allowed was made, with or without success. Returns what it has cost.
    fn made(&mut self, what: u32) -> Duration;

    /// Whoever caused a call that has cost so much has authenticated.
    fn give_back(&mut self, cost: Duration);

    /// An epoch has authenticated: calls for those before it that are still out were for epochs that there were.
    fn pass(&mut self, epoch: u32);
}

/// One part in so many of the clock is for such calls.
const PART: u32 = 5;

/// So much is kept for calls at once.
const MOST: Duration = Duration::from_secs(1);

/// A call costs at least this, however quick the element is: it costs the host something too.
const LEAST: Duration = Duration::from_millis(20);

/// An account of an element's time.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// What there is, in nanoseconds; below zero after a call that took longer than what there was.
    level: i128,
    at: Instant,
}

impl Account {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { level: nanoseconds(MOST), at: now }
    }

    /// Whether a call may begin.
    pub fn is_open(&self, now: Instant) -> bool {
        self.level(now) > 0
    }

    /// Whether another call may begin at the same time although one takes this long.
    pub fn is_open_after(&self, takes: Duration, now: Instant) -> bool {
        self.level(now) > nanoseconds(takes.max(LEAST))
    }

    /// A call took this long. Returns what it has cost.
    pub fn charge(&mut self, took: Duration, now: Instant) -> Duration {
        let cost = took.max(LEAST);
        self.level = self.level(now) - nanoseconds(cost);
        self.at = self.at.max(now);
        cost
    }

    /// Gives back what a call has cost.
    pub fn give_back(&mut self, cost: Duration) {
        self.level = (self.level + nanoseconds(cost)).min(nanoseconds(MOST));
    }

    fn level(&self, now: Instant) -> i128 {
        let passed = now.0.saturating_sub(self.at.0) / PART;
        (self.level + nanoseconds(passed)).min(nanoseconds(MOST))
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn after(milliseconds: u64) -> Instant {
        Instant(Duration::from_millis(milliseconds))
    }

    /// How many calls that take so long begin in this many milliseconds, if one is wanted in each.
    fn calls(took: Duration, milliseconds: u64) -> usize {
        let mut account = Account::new(after(0));
        (0..milliseconds)
            .filter(|at| {
                let opens = account.is_open(after(*at));
                if opens {
                    account.charge(took, after(*at));
                }
                opens
            })
            .count()
    }

    #[test]
    fn calls_take_at_most_a_fifth_of_the_time_and_a_second_at_once() {
        for took in [20, 100, 300, 3000] {
            let spent = took * calls(MILLISECOND * took as u32, 100_000) as u64;
            assert!((20_000..=21_000 + took).contains(&spent), "{spent} ms in calls of {took} ms");
        }
    }

    #[test]
    fn an_element_that_takes_no_time_is_spared_too() {
        assert_eq!(calls(Duration::ZERO, 1), 1);
        assert!(calls(Duration::ZERO, 10_000) <= 50 + 100 + 1);
    }

    #[test]
    fn what_is_given_back_can_be_spent_again_and_is_never_more_than_there_was() {
        let mut account = Account::new(after(0));
        let cost = account.charge(MILLISECOND * 1500, after(0));
        assert!(!account.is_open(after(0)) && !account.is_open(after(2500)) && account.is_open(after(2501)));
        account.give_back(cost);
        account.give_back(cost);
        account.charge(MILLISECOND * 1000, after(0));
        assert!(!account.is_open(after(0)));
    }
}
