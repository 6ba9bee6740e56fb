//! What a session has to do without being asked, and when.

use core::time::Duration;

use super::{Cause, Instant};
use crate::policy::Policy;

/// After a failed write or element call the session tries by itself again after this long.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A sender that is behind is told so within this time, and at most once in it.
const REPLY_WITHIN: Duration = Duration::from_secs(1);

/// An epoch in which a sender came with too many salts is left within this time.
const CROWDED_WITHIN: Duration = Duration::from_secs(10);

/// For that reason no two epochs are left within this time.
const CROWDS_APART: Duration = Duration::from_secs(60);

/// Age makes a member move on late by at most this part of the age.
const LATEST: u32 = 8;

/// This share of a time, from none of it at 0 to all of it at 65,535.
pub(super) fn share_of(time: Duration, share: u16) -> Duration {
    // Divided first, so that no policy overflows.
    time / u32::from(u16::MAX) * u32::from(share)
}

/// When a session acts by itself.
pub(super) struct Due {
    /// When the epoch began here.
    began: Instant,
    /// The share of the longest lateness by which this member acts late on the age of this epoch, from 0 to 65,535: so
    /// one of them acts, and the others hear of it, instead of all at once.
    late: u16,
    /// The trigger that has fired and was not followed by an epoch yet, but for age.
    wanted: Option<Cause>,
    /// When this member last began an epoch by itself.
    advanced: Option<Instant>,
    /// When to leave an epoch in which a sender came with too many salts.
    crowded: Option<Instant>,
    /// When an epoch was last left for that.
    uncrowded: Option<Instant>,
    /// When to make this member heard after it started or became active.
    hello: Option<Instant>,
    /// When to tell a sender that is behind, unless another member does.
    reply: Option<Instant>,
    /// When the latest such hello was due, whoever sent it.
    replied: Option<Instant>,
    /// Nothing is tried before this time.
    retry: Option<Instant>,
}

impl Due {
    /// Of a session that starts, and says a hello at that time, if it is to.
    pub(super) fn new(now: Instant, late: u16, hello: Option<Instant>) -> Self {
        Self {
            began: now,
            late,
            wanted: None,
            advanced: None,
            crowded: None,
            uncrowded: None,
            hello,
            reply: None,
            replied: None,
            retry: None,
        }
    }

    /// As after a start, but for what was tried and told lately.
    pub(super) fn start_over(&mut self, now: Instant, late: u16, hello: Option<Instant>) {
        *self = Self { replied: self.replied, retry: self.retry, ..Self::new(now, late, hello) };
    }

    /// The relationship became active.
    pub(super) fn become_active(&mut self, now: Instant, hello: Option<Instant>) {
        self.began = now;
        self.hello = hello.or(self.hello);
    }

    /// An epoch began here.
    pub(super) fn enter(&mut self, now: Instant, late: u16) {
        self.began = now;
        self.late = late;
        self.wanted = None;
        self.crowded = None;
        self.reply = None;
    }

    /// This member begins an epoch.
    pub(super) fn advance(&mut self, now: Instant, cause: Cause) {
        self.advanced = Some(now);
        if cause == Cause::Salts {
            self.uncrowded = Some(now);
        }
    }

    /// A sender came with more salts than are accepted: the epoch is left after this share of the longest delay, unless one
    /// was left for this reason a short time ago.
    pub(super) fn want_for_salts(&mut self, share: u16, now: Instant) {
        let lately = self.uncrowded.is_some_and(|left| now < left + CROWDS_APART);
        if self.crowded.is_none() && !lately {
            self.crowded = Some(now + share_of(CROWDED_WITHIN, share));
        }
    }

    /// The next epoch is asked for, as soon as that is allowed.
    pub(super) fn want(&mut self, cause: Cause) {
        self.wanted = Some(cause);
    }

    /// Whether a trigger has fired, but for age.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// The limit of frames was reached: a reason to move on where there is no other.
    pub(super) fn want_for_frames(&mut self) {
        self.wanted.get_or_insert(Cause::Frames);
    }

    /// This member sends nothing any more.
    pub(super) fn rest(&mut self) {
        self.wanted = None;
        self.crowded = None;
        self.hello = None;
        self.reply = None;
    }

    /// All others hear where this member is.
    pub(super) fn heard_by_all(&mut self) {
        self.hello = None;
        self.reply = None;
    }

    /// Another member was heard in the epoch: it tells whoever is behind.
    pub(super) fn hear_current(&mut self) {
        self.reply = None;
    }

    /// Whether a sender that is behind is to be told, and was not lately.
    pub(super) fn may_reply(&self, now: Instant) -> bool {
        self.reply.is_none() && self.replied.is_none_or(|replied| now >= replied + REPLY_WITHIN)
    }

    /// It is told at once.
    pub(super) fn reply_at_once(&mut self, now: Instant) {
        self.replied = Some(now);
    }

    /// It is told after this share of the time, from 0 to 65,535.
    pub(super) fn reply_after(&mut self, share: u16, now: Instant) {
        let due = now + REPLY_WITHIN * u32::from(share) / u32::from(u16::MAX);
        self.reply = Some(due);
        self.replied = Some(due);
    }

    /// When a hello is due.
    pub(super) fn hello(&self) -> Option<Instant> {
        [self.hello, self.reply].into_iter().flatten().min()
    }

    /// When the trigger that has fired, or age, makes this member move on.
    pub(super) fn trigger(&self, policy: &Policy) -> Option<Instant> {
        let at_once = self.wanted.map(|_| Instant::default());
        let due = [at_once, self.crowded, self.age(policy)].into_iter().flatten().min()?;
        Some(self.advance_allowed(policy).map_or(due, |allowed| due.max(allowed)))
    }

    /// The trigger that has fired and was not followed by an epoch yet.
    pub(super) fn fired(&self, now: Instant, policy: &Policy) -> Option<Cause> {
        let has_come = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let salts = || has_come(self.crowded).then_some(Cause::Salts);
        self.wanted.or_else(salts).or_else(|| has_come(self.age(policy)).then_some(Cause::Age))
    }

    /// Whether the advance interval is over.
    pub(super) fn may_advance(&self, now: Instant, policy: &Policy) -> bool {
        self.advance_allowed(policy).is_none_or(|allowed| allowed <= now)
    }

    fn age(&self, policy: &Policy) -> Option<Instant> {
        let late = share_of(policy.rotate_after / LATEST, self.late);
        (!policy.rotate_after.is_zero()).then(|| self.began + policy.rotate_after + late)
    }

    fn advance_allowed(&self, policy: &Policy) -> Option<Instant> {
        self.advanced.map(|advanced| advanced + policy.advance_interval)
    }

    /// Element or disk failed: nothing is tried for a while.
    pub(super) fn fail(&mut self, now: Instant) {
        self.retry = Some(now + RETRY);
    }

    /// A step was carried out.
    pub(super) fn succeed(&mut self) {
        self.retry = None;
    }

    /// Whether something failed a short time ago.
    pub(super) fn is_held_back(&self, now: Instant) -> bool {
        self.retry.is_some_and(|retry| now < retry)
    }

    /// What is due then, but not before something that failed may be tried again.
    pub(super) fn held_back(&self, due: Instant) -> Instant {
        self.retry.map_or(due, |retry| due.max(retry))
    }
}
