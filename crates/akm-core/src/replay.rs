//! The replay window of one sender in one epoch (protocol, section 7).

/// How many counters below the highest one are still told apart.
pub const WIDTH: u32 = 1024;

const WORDS: usize = (WIDTH / 64) as usize;

/// Why a counter is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// A frame with this counter was accepted before.
    Duplicate,
    /// So far below the highest counter that nobody knows.
    TooOld,
}

/// Remembers which counters were accepted: the highest and the 1,023 below it.
///
/// Ask [`ReplayWindow::check`] before the frame has authenticated; call [`ReplayWindow::update`] only
/// after.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One above the highest accepted counter; 0 when none was.
    next: u64,
    /// A ring: bit `counter % WIDTH` says whether that counter was accepted.
    accepted: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { next: 0, accepted: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// Whether a frame with this counter may be new.
    pub fn check(&self, counter: u32) -> Result<(), Replayed> {
        let counter = u64::from(counter);
        if counter >= self.next {
            return Ok(());
        }
        if counter + u64::from(WIDTH) < self.next {
            return Err(Replayed::TooOld);
        }
        let (word, bit) = slot(counter);
        if self.accepted[word] & bit != 0 { Err(Replayed::Duplicate) } else { Ok(()) }
    }

    /// Remembers the counter of an authentic frame. Returns whether it is above all before it.
    pub fn update(&mut self, counter: u32) -> bool {
        let counter = u64::from(counter);
        let is_above = counter >= self.next;
        if is_above {
            let first = self.next.max((counter + 1).saturating_sub(u64::from(WIDTH)));
            for passed in first..counter {
                let (word, bit) = slot(passed);
                self.accepted[word] &= !bit;
            }
            self.next = counter + 1;
        }
        let (word, bit) = slot(counter);
        self.accepted[word] |= bit;
        is_above
    }
}

fn slot(counter: u64) -> (usize, u64) {
    let place = counter % u64::from(WIDTH);
    ((place / 64) as usize, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    #[test]
    fn duplicate_and_too_old_are_told_apart() {
        let mut window = ReplayWindow::default();
        window.update(2000);
        assert_eq!(window.check(2000), Err(Replayed::Duplicate));
        assert_eq!(window.check(2000 - 1023), Ok(()));
        assert_eq!(window.check(2000 - 1024), Err(Replayed::TooOld));
        assert_eq!(window.check(2001), Ok(()));
    }

    #[test]
    fn checking_does_not_move_the_window() {
        let window = ReplayWindow::default();
        assert_eq!(window.check(u32::MAX), Ok(()));
        assert_eq!(window.check(0), Ok(()));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_everything_accepted(counters in proptest::collection::vec(0u32..5000, 1..400)) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            for counter in counters {
                let highest = seen.last().copied();
                let expected = match highest {
                    Some(high) if counter + WIDTH <= high => Err(Replayed::TooOld),
                    _ if seen.contains(&counter) => Err(Replayed::Duplicate),
                    _ => Ok(()),
                };
                prop_assert_eq!(window.check(counter), expected);
                if expected.is_ok() {
                    window.update(counter);
                    seen.insert(counter);
                }
            }
        }
    }
}
