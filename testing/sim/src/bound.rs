//! How soon members hear each other once all faults have stopped.
//!
//! Let `A` be the advance interval, `P` the longest time between two frames of a member that speaks,
//! `D` the longest delay of the network. Then, with `P > 3 D`, an overlap of at least `2 D`, and
//! `A >= P * (members / 2 + 1)`:
//!
//! 1. After `1 s + D` no budget is spent on forged frames any more and no retry is waited for. After
//!    `P` every member has made its first frame since its start.
//! 2. In the next `P + D` the member with the highest epoch makes a frame and all hear it: from there
//!    on everybody is at most `D` behind the highest epoch.
//! 3. A frame is then missed only if two epochs begin close to it (within `2 D` before it arrives),
//!    so that the receiver passes over the first. A member begins at most one epoch in `A`, so in any
//!    `A` fewer than `members / 2 + 1` frames of a member can be missed so, and it makes more. After
//!    `A + P + D` each has heard each.
//!
//! Where one member speaks alone, step 2 is the way of section 6, "too old": a member that is ahead
//! drops its frame and says hello within a second, at most once a second.
//!
//! There is one exception, and it is exact: a member whose disk went back, unrecognised, makes frames
//! in an epoch under a further salt if it had made some there before. Who heard four salts of it there
//! drops them, and begins the next epoch because of that ([`next_epoch`]).

use std::time::Duration;

use akm_core::policy::Policy;

/// For this long after the faults stopped the budget may be spent, and a failed write or element call
/// is not tried again.
const SPENT: Duration = Duration::from_secs(1);

/// A member that is behind is told so within a second, at most once a second.
const TOLD: Duration = Duration::from_secs(2);

/// Within this time a member that hears nothing but frames of a later run asks, and follows: a minute, if no
/// hint before was in vain.
pub const HINTED: Duration = Duration::from_secs(70);

/// A round of asking, the longest pause after it, and what a failed write or element call costs.
const ROUND: Duration = Duration::from_secs(2 + 20 + 1);

/// Who has confirmed a failsafe takes a place from member 0 only for so long.
const CONFIRMED: Duration = Duration::from_secs(60);

/// The longest pause of member 0 between two tries.
const FAILSAFE_PAUSE: Duration = Duration::from_secs(3600);

/// Within this time a member without place finds back if any other has one. It asks member 0 and two others
/// in turn; it may just have confirmed a failsafe.
pub fn fallback(members: usize) -> Duration {
    CONFIRMED + ROUND * (members as u32 / 2 + 2)
}

/// Within this time all find back if nobody has a place and all are there, in relationships of up to 128
/// members: the pause of member 0, a try that began before all were there, and one more.
pub fn failsafe(members: usize) -> Duration {
    FAILSAFE_PAUSE + CONFIRMED * 2 + fallback(members)
}

/// One epoch in this time can be followed, and some to spare.
const FOLLOWED: Duration = Duration::from_millis(300);

/// How often members speak while a world settles, and how slow the network may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time between two frames of a member.
    pub every: Duration,
    /// The longest delay of the network.
    pub delay: Duration,
}

impl Pace {
    /// A pace that satisfies what the bound asks for.
    pub fn of(policy: &Policy, members: usize) -> Self {
        let fitting = policy.advance_interval / (members as u32 / 2 + 2);
        // Where frames end epochs they are so few that no more than four begin in a second: more nobody follows.
        let followed = FOLLOWED * members as u32;
        if policy.rotate_frames > 0 && fitting < followed {
            return Self { every: followed, delay: Duration::ZERO };
        }
        if fitting.is_zero() {
            // Epochs may begin with every frame: only a network without delay keeps them apart.
            return Self { every: Duration::from_millis(100), delay: Duration::ZERO };
        }
        let every = fitting.min(Duration::from_millis(500));
        Self { every, delay: (every / 5).min(policy.overlap / 2) }
    }
}

/// A call of the element that took so long for nothing is paid back after this time: a fifth of it is for such calls.
pub fn paid_back(took: Duration) -> Duration {
    took * 5
}

/// Within this time every member hears every other, if all speak.
pub fn all(policy: &Policy, pace: Pace) -> Duration {
    SPENT + policy.advance_interval + pace.every * 3 + pace.delay * 3
}

/// Within this time every member hears the one that speaks, if only one does.
pub fn alone(policy: &Policy, pace: Pace) -> Duration {
    SPENT + TOLD + policy.advance_interval + pace.every * 3 + pace.delay * 4
}

/// An epoch in which a sender came with too many salts is left within ten seconds, once a minute.
const CROWDED: Duration = Duration::from_secs(10 + 60);

/// Within this time the next epoch begins where a sender came with too many salts.
pub fn next_epoch(policy: &Policy, pace: Pace) -> Duration {
    CROWDED + pace.every + policy.advance_interval + pace.delay
}
