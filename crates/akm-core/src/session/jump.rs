//! The jump of a member that may have been set back (protocol, section 9.1): it does not come back at an epoch in which it
//! has a past.

use core::time::Duration;

use super::{Instant, Session};
use crate::element::{Description, Protection};
use crate::policy::Policy;
use crate::sds::{Kind, SynchronizedDataSet};
use crate::tree::{LAST_EPOCH, Place, rank};

/// After a jump a member says hello again after these times, until it is heard that the others know of it.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16)];

/// Whether an old disk may pass for the latest one at a member with such an element: it has no counter, or one that goes
/// back with the disk.
pub fn may_be_set_back(element: &Description) -> bool {
    !(element.counter && element.protection == Protection::Hardware)
}

/// Where a member goes on that may have been set back to this place; `None` where it stays, as its policy or the kind of its
/// relationship says, or no epoch is left.
pub fn jump(sds: &SynchronizedDataSet, place: &Place) -> Option<Place> {
    let policy = Policy::parse(sds.policy()).ok().filter(|_| sds.kind() == Kind::Communication)?;
    let epoch = u64::from(rank(place.epoch())) + u64::from(policy.jump);
    let epoch = u32::try_from(epoch.checked_sub(1)?).unwrap_or(u32::MAX).min(LAST_EPOCH);
    place.at(epoch)
}

/// Hellos that are said again after a jump.
#[derive(Default)]
pub(super) struct Again {
    /// Since when, and how many were said.
    since: Option<(Instant, usize)>,
}

impl Again {
    /// A member has jumped, and says its first hello at this time.
    pub(super) fn from(first: Instant) -> Self {
        Self { since: Some((first, 0)) }
    }

    /// When the next of them is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let (since, said) = self.since?;
        AGAIN.get(said).map(|after| since + *after)
    }

    /// It is being said.
    pub(super) fn say(&mut self) {
        if let Some((_, said)) = &mut self.since {
            *said += 1;
        }
    }

    /// Somebody was heard in the epoch of this member or above, or there is nothing more to say.
    pub(super) fn end(&mut self) {
        self.since = None;
    }
}

impl Session {
    /// This member has jumped: it says so until it hears that the others know.
    pub(super) fn insist(&mut self, now: Instant) {
        if self.stage.is_established() && self.options.hello_at_start {
            self.again = Again::from(self.start_hello(now).unwrap_or(now));
        }
    }
}
