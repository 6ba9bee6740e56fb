//! How far and how fast a member follows others (protocol, section 8.5): somebody who lies could name any epoch.

use core::time::Duration;

use super::{Event, Instant, Rejection, Session};
use crate::frame::{Class, Header, is_signed};
use crate::sds::Kind;
use crate::tree::rank;

/// Epochs that are followed in an hour: four a second.
const FOLLOWS_AN_HOUR: u64 = 4 * 3600;

/// Epochs that are followed at once.
const FOLLOWS_AT_ONCE: u64 = 8;

/// The same in a provisioning relationship, where each command of the module is a start.
const FOLLOWS_OF_MODULE: u64 = 64;

/// The stock of epochs, and what each member adds to it.
const STOCK: (u64, u64) = (1 << 20, 2048);

/// What comes back to the stock in an hour, and what each member adds to that.
const REFILL: (u64, u64) = (1 << 16, 256);

/// That an epoch is too far ahead is told at most once in this time.
const FAR_TOLD_APART: Duration = Duration::from_secs(3600);

/// Something that is spent and comes back evenly.
struct Bucket {
    most: u64,
    an_hour: u64,
    /// In parts of which there are [`PARTS`] in one.
    level: u128,
    at: Instant,
}

/// Nanoseconds of an hour: what comes back in one of them is a whole number of these parts.
const PARTS: u128 = 3_600_000_000_000;

impl Bucket {
    fn full(most: u64, an_hour: u64, now: Instant) -> Self {
        Self { most, an_hour, level: u128::from(most) * PARTS, at: now }
    }

    fn level(&self, now: Instant) -> u128 {
        let passed = now.0.saturating_sub(self.at.0).as_nanos();
        let level = self.level.saturating_add(passed.saturating_mul(self.an_hour.into()));
        level.min(u128::from(self.most) * PARTS)
    }

    fn holds(&self, amount: u64, now: Instant) -> bool {
        self.level(now) >= u128::from(amount) * PARTS
    }

    /// When there is so much; at most what it holds at all.
    fn holds_at(&self, amount: u64, now: Instant) -> Instant {
        let missing = (u128::from(amount) * PARTS).saturating_sub(self.level(now));
        let nanoseconds = missing.div_ceil(self.an_hour.into());
        now + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    fn take(&mut self, amount: u64, now: Instant) {
        self.level = self.level(now).saturating_sub(u128::from(amount) * PARTS);
        self.at = self.at.max(now);
    }

    fn fill(&mut self, now: Instant) {
        *self = Self::full(self.most, self.an_hour, now);
    }
}

/// What is left of following.
pub(super) struct Follow {
    moments: Bucket,
    stock: Bucket,
    /// When it was last told that an epoch is too far ahead.
    told: Option<Instant>,
}

impl Follow {
    /// Of a start.
    pub(super) fn new(kind: Kind, members: usize, now: Instant) -> Self {
        let at_once = match kind {
            Kind::Provisioning => FOLLOWS_OF_MODULE,
            Kind::Communication => FOLLOWS_AT_ONCE,
        };
        let of_members = |(base, each): (u64, u64)| base + each * members as u64;
        Self {
            moments: Bucket::full(at_once, FOLLOWS_AN_HOUR, now),
            stock: Bucket::full(of_members(STOCK), of_members(REFILL), now),
            told: None,
        }
    }

    /// Whether one more epoch may be followed at this moment.
    pub(super) fn may(&self, now: Instant) -> bool {
        self.moments.holds(1, now)
    }

    /// Whether the stock reaches so many epochs ahead.
    pub(super) fn reaches(&self, distance: u32, now: Instant) -> bool {
        self.stock.holds(distance.into(), now)
    }

    /// The place has moved by so many epochs on the word of another member.
    pub(super) fn move_by(&mut self, distance: u32, now: Instant) {
        self.stock.take(distance.into(), now);
    }

    /// A frame has made this member follow by so many epochs.
    pub(super) fn follow_by(&mut self, distance: u32, now: Instant) {
        self.moments.take(1, now);
        self.move_by(distance, now);
    }
}

/// How far an epoch lies ahead of another; "none yet" lies before all of them.
pub(super) fn distance(from: u32, to: u32) -> u32 {
    rank(to).saturating_sub(rank(from))
}

impl Session {
    /// The module's word: this member may follow as far as at a start.
    pub fn fill_stock(&mut self, now: Instant) {
        self.follow.stock.fill(now);
    }

    /// When a frame can be handed in that would be dropped now for nothing else than that as many epochs were followed
    /// lately as may be, and the epoch that it names; `None`: it can be handed in at once. A host that has room for some
    /// such frames keeps those of the highest epoch until then.
    pub fn waits_until(&self, frame: &[u8], now: Instant) -> Option<(u32, Instant)> {
        if self.follow.may(now) || frame.len() > self.frame_max() {
            return None;
        }
        let header = Header::parse(frame).ok().filter(|header| header.class == Class::Session)?;
        let is_of_another = usize::from(header.sender) < self.membership.sds().members().len()
            && header.sender != self.membership.index();
        let place = self.stage.place().filter(|_| is_of_another && header.tag == self.tag)?;
        let distance = distance(place.epoch(), header.epoch);
        let lies_ahead = place.ahead(header.epoch).is_some() && self.follow.reaches(distance, now);
        let is_signed = self.header_key.as_ref().is_some_and(|key| is_signed(frame, key));
        (lies_ahead && is_signed).then(|| (header.epoch, self.follow.moments.holds_at(1, now)))
    }

    /// Says, once an hour, that an epoch lies further ahead than this member follows.
    pub(super) fn note_far(&mut self, sender: u16, distance: u32, now: Instant) -> Rejection {
        if self.follow.told.is_none_or(|told| now >= told + FAR_TOLD_APART) {
            self.follow.told = Some(now);
            self.tell(Event::Far { sender, distance });
        }
        Rejection::Far
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_taken_comes_back_evenly_and_no_more_than_there_was() {
        let mut bucket = Bucket::full(8, FOLLOWS_AN_HOUR, Instant(SECOND));
        bucket.take(8, Instant(SECOND));
        assert!(!bucket.holds(1, Instant(SECOND)));
        let due = bucket.holds_at(1, Instant(SECOND));
        assert_eq!(due, Instant(SECOND + SECOND / 4));
        assert!(bucket.holds(1, due) && !bucket.holds(2, due));
        assert!(bucket.holds(8, Instant(SECOND * 3)) && !bucket.holds(9, Instant(SECOND * 3000)));
    }

    #[test]
    fn a_clock_of_any_age_is_no_overflow() {
        let mut bucket = Bucket::full(u64::MAX, u64::MAX, Instant::default());
        bucket.take(u64::MAX, Instant::default());
        assert!(bucket.holds(u64::MAX, Instant(Duration::MAX)));
        assert_eq!(distance(u32::MAX, u32::MAX - 1), u32::MAX);
    }

    #[test]
    fn the_stock_lasts_for_months_whoever_spends_it() {
        for members in [2, 100, 4096] {
            let follow = Follow::new(Kind::Communication, members, Instant::default());
            let hours = (u64::from(u32::MAX) - follow.stock.most) / follow.stock.an_hour;
            assert!(hours > 24 * 150, "{hours} hours with {members} members");
        }
    }
}
