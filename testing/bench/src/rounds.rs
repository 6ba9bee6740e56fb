//! Measuring two things in turn.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::BenchError;

/// How much work a part may do.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// About how long its rounds may go on. What has to be made ready first is not in it.
    pub length: Duration,
    /// Smallest sizes and one round: shows that the part works, and nothing else.
    pub brief: bool,
}

impl Effort {
    /// A size: the full one, or the one that is enough to see that it works.
    pub fn size<T>(&self, full: T, brief: T) -> T {
        if self.brief { brief } else { full }
    }

    /// A share of this effort, for one of several things that a part measures.
    pub fn share(&self, of: usize) -> Self {
        Self { length: self.length / u32::try_from(of.max(1)).unwrap_or(u32::MAX), ..*self }
    }
}

/// Median, least and greatest of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the figures are at most this.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let half = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[half - 1], figures[half])
        } else {
            figures[half]
        };
        Self { median, min: figures[0], max: figures[figures.len() - 1] }
    }
}

/// Two things, A and B, measured in turn.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// A / B of each round.
    pub ratio: Spread,
    /// Seconds that A took.
    pub a: Spread,
    /// Seconds that B took.
    pub b: Spread,
    /// How many rounds there were.
    pub rounds: usize,
}

/// Seconds that A and B took in each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Rounds {
    /// These rounds and those.
    pub(crate) fn and(mut self, mut others: Self) -> Self {
        self.a.append(&mut others.a);
        self.b.append(&mut others.b);
        self
    }

    /// What they come to.
    pub(crate) fn comparison(self) -> Comparison {
        Comparison::of(self.a, self.b)
    }
}

impl Comparison {
    /// Of the seconds that each took in each round, in the same order. At least one.
    pub fn of(a: Vec<f64>, b: Vec<f64>) -> Self {
        let ratios = a.iter().zip(&b).map(|(a, b)| a / b).collect();
        Self { rounds: a.len(), ratio: Spread::of(ratios), a: Spread::of(a), b: Spread::of(b) }
    }
}

/// Measures A and B in turn, and in the other order in every second round, so that neither always comes after
/// the same. Each closure returns how long that took which counts.
///
/// There are at least `least` rounds (a single one when it is brief), and no new one begins after the
/// length of the effort.
pub(crate) fn in_turn(
    effort: Effort,
    least: usize,
    mut a: impl FnMut() -> Result<Duration, BenchError>,
    mut b: impl FnMut() -> Result<Duration, BenchError>,
) -> Result<Rounds, BenchError> {
    let least = effort.size(least, 1);
    let began = Instant::now();
    let mut rounds = Rounds::default();
    while rounds.a.len() < least || (!effort.brief && began.elapsed() < effort.length) {
        let (took_a, took_b) = if rounds.a.len().is_multiple_of(2) {
            let took = a()?;
            (took, b()?)
        } else {
            let took = b()?;
            (a()?, took)
        };
        rounds.a.push(took_a.as_secs_f64());
        rounds.b.push(took_b.as_secs_f64());
    }
    Ok(rounds)
}

/// How long something takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = work();
    (result, began.elapsed())
}

/// How long a processor works on something in this thread: for what waits for nothing, so that other
/// programs on the machine do not count.
pub(crate) fn worked<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = thread_time();
    let result = work();
    (result, thread_time() - began)
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below a second"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { median: 7.0, min: 7.0, max: 7.0 });
    }

    #[test]
    fn the_order_changes_with_each_round_and_ratios_are_of_one_round() {
        let order = std::cell::RefCell::new(String::new());
        let effort = Effort { length: Duration::ZERO, brief: false };
        let step = |name: char, millis: u64| {
            order.borrow_mut().push(name);
            Ok(Duration::from_millis(millis))
        };
        let comparison = in_turn(effort, 4, || step('a', 30), || step('b', 10)).unwrap().comparison();
        assert_eq!(order.into_inner(), "abbaabba");
        assert_eq!(comparison.rounds, 4);
        assert!((comparison.ratio.median - 3.0).abs() < 1e-9);
    }
}
