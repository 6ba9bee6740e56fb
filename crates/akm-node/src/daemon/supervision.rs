//! Who keeps the stack running: a service manager, which starts it again by itself, or the person who runs it.
//!
//! A start that was asked for is refused at once, with its cause, where something is missing: the person, the ceremony or
//! the start of the machine is told, and nobody waits. One that the service manager makes by itself waits for what is
//! missing, and is held back where there have been too many.
//!
//! ```text
//!   run/supervised    there while a service manager has the stack running; removed at its end in order. If it is there
//!                     at a start, nobody has asked for that start
//!   state/starts      when the service manager last made a start by itself that was counted
//! ```
//!
//! Both bear the boot that they are of, and mean nothing in another. Times are those since the boot: no start rests on
//! the time of day.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use akm_disk::durable;
use sd_notify::NotifyState;

use crate::error::{FAILED, NodeError};
use crate::layout::Layout;

/// Starts that the service manager may make by itself within [`WITHIN`].
const STARTS: usize = 10;

/// In which time so many starts may be made, in seconds.
const WITHIN: u64 = 3600;

/// Between two starts beyond those, in seconds.
const THEN_AFTER: u64 = 600;

/// A service manager that waits for a start is asked to wait for so much longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose start this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// No service manager has to do with it.
    ByHand,
    /// Somebody asked the service manager for it, or the machine starts.
    Asked,
    /// The stack ended without being asked to, and the service manager starts it again.
    Again,
}

/// What is known of who keeps this stack running.
#[derive(Debug)]
pub(super) struct Supervision {
    cause: Cause,
    boot: String,
    mark: PathBuf,
    record: PathBuf,
}

impl Supervision {
    /// Looks whether a service manager makes this start, and remembers that it does.
    pub(super) fn of(layout: &Layout) -> Self {
        let boot = boot();
        let (mark, record) = (layout.run().join("supervised"), layout.state().join("starts"));
        let cause = if std::env::var_os("NOTIFY_SOCKET").is_none() {
            Cause::ByHand
        } else {
            let is_again = fs::read_to_string(&mark).is_ok_and(|of| of == boot);
            // Where nothing can be remembered the next start would count as asked for, and so would all.
            let is_kept = layout.make_run().is_ok() && fs::write(&mark, &boot).is_ok();
            if is_again || !is_kept { Cause::Again } else { Cause::Asked }
        };
        Self { cause, boot, mark, record }
    }

    /// Whether what is missing is waited for.
    pub(super) fn waits(&self) -> bool {
        self.cause == Cause::Again
    }

    /// Takes note of a start that is about to be counted; or says how long it is held back.
    ///
    /// To be called with the state locked.
    pub(super) fn admit(&self) -> Result<Option<Duration>, NodeError> {
        let Some(now) = since_boot().filter(|_| self.cause == Cause::Again) else { return Ok(None) };
        let mut starts = self.starts();
        if let Some(seconds) = held_back(&starts, now) {
            return Ok(Some(Duration::from_secs(seconds)));
        }
        starts.push(now);
        let lines = starts.iter().rev().take(STARTS).rev().map(|at| format!("{at}\n"));
        let text = format!("{}\n{}", self.boot, lines.collect::<String>());
        durable::replace(&self.record, text.as_bytes())?;
        Ok(None)
    }

    /// What is not such a record says nothing.
    fn starts(&self) -> Vec<u64> {
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(&self.boot) {
            return Vec::new();
        }
        lines.filter_map(|line| line.parse().ok()).collect()
    }

    /// Tells the service manager that the stack takes frames and wishes.
    pub(super) fn is_ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Tells the service manager what is waited for, and for how long.
    pub(super) fn waits_for(&self, status: &str, pause: Duration) {
        let patience = u32::try_from((pause + PATIENCE).as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::ExtendTimeoutUsec(patience), NotifyState::Status(status)]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.cause != Cause::ByHand {
            // Who does not listen is not told.
            let _ = sd_notify::notify(states);
        }
    }

    /// The stack ends. Unless it failed, the next start is one that somebody asks for.
    pub(super) fn ends(&self, result: &Result<(), NodeError>) {
        let fails = result.as_ref().is_err_and(|error| error.exit_code() == FAILED);
        if self.cause != Cause::ByHand && !fails {
            let _ = fs::remove_file(&self.mark);
        }
    }
}

/// For how many seconds a start at this moment is held back, after those. One that is told from later than this was never
/// made: a record that is damaged holds nobody back.
fn held_back(starts: &[u64], now: u64) -> Option<u64> {
    let ago = || starts.iter().filter_map(|at| now.checked_sub(*at));
    let lately = ago().filter(|ago| *ago < WITHIN).count();
    let left = THEN_AFTER.checked_sub(ago().min()?).filter(|left| *left > 0);
    left.filter(|_| lately >= STARTS)
}

/// What tells this boot from any other.
fn boot() -> String {
    let id = fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"));
    id.unwrap_or_default().trim().to_owned()
}

/// Seconds since the boot, suspension included.
fn since_boot() -> Option<u64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    uptime.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_starts_an_hour_and_then_one_each_ten_minutes_for_ever() {
        let mut starts = Vec::new();
        let (mut now, mut counted) = (5, Vec::new());
        // A stack that ends as soon as it has started, for a day.
        while now < 86_400 {
            match held_back(&starts, now) {
                Some(seconds) => now += seconds,
                None => {
                    starts.push(now);
                    starts.drain(..starts.len().saturating_sub(STARTS));
                    counted.push(now);
                    now += 1;
                }
            }
        }
        let in_hour = |hour: u64| counted.iter().filter(|at| **at / WITHIN == hour).count();
        assert_eq!(counted[..STARTS], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(counted[STARTS] - counted[STARTS - 1], THEN_AFTER);
        assert!((0..24).all(|hour| (6..=15).contains(&in_hour(hour))), "{counted:?}");
    }

    #[test]
    fn a_clock_that_begins_anew_holds_nobody_back_for_longer_than_it_has_been_told() {
        assert_eq!(held_back(&[], 0), None);
        assert_eq!(held_back(&[100; STARTS], 100), Some(THEN_AFTER));
        assert_eq!(held_back(&[100; STARTS], 100 + THEN_AFTER), None);
        assert_eq!(held_back(&[100; STARTS - 1], 100), None);
        for later in [101, u64::MAX] {
            assert_eq!(held_back(&[later; STARTS], 100), None);
        }
    }
}
