//! What a session counts, since its start.

use super::Rejection;

/// Frames that went out, came in or were dropped.
#[derive(Default)]
pub(super) struct Counts {
    rejections: [u64; Rejection::ALL.len()],
    /// Of those that were dropped, frames that belong nowhere.
    unplaced: u64,
    pub(super) delivered: u64,
    pub(super) transmitted: u64,
}

impl Counts {
    /// A frame was dropped.
    pub(super) fn reject(&mut self, reason: Rejection) {
        use Rejection::{Budget, Far, HeaderSignature, NotAuthentic, UnknownTag};
        // What somebody sends who has moved to where this node cannot follow looks like this.
        if matches!(reason, UnknownTag | HeaderSignature | NotAuthentic | Budget | Far) {
            self.unplaced += 1;
        }
        self.rejections[reason as usize] += 1;
    }

    /// Adds what an opener counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (count, more) in self.rejections.iter_mut().zip(&other.rejections) {
            *count += more;
        }
        self.unplaced += other.unplaced;
        self.delivered += other.delivered;
    }

    pub(super) fn rejections(&self, reason: Rejection) -> u64 {
        self.rejections[reason as usize]
    }

    pub(super) fn unplaced(&self) -> u64 {
        self.unplaced
    }
}
