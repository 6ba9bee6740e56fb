//! Where a relationship stands at this member, with what a member that stands there has.

use core::mem;

use super::{Phase, SessionError};
use crate::tree::Place;

/// A phase, with its place where it has one.
pub(super) enum Stage {
    Staged(Place),
    Established(Place),
    UsedUp(Place),
    Lost(Lost),
}

/// Why there is no place, or that one is looked for.
#[derive(Clone, Copy)]
pub(super) enum Lost {
    WithoutPlace,
    RolledBack,
    Resyncing,
}

impl Stage {
    /// That of a member that is active and has this place.
    pub(super) fn active(place: Place) -> Self {
        if place.next_epoch().is_none() { Self::UsedUp(place) } else { Self::Established(place) }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Staged(_) => Phase::Staged,
            Self::Established(_) => Phase::Established,
            Self::UsedUp(_) => Phase::UsedUp,
            Self::Lost(Lost::WithoutPlace) => Phase::WithoutPlace,
            Self::Lost(Lost::RolledBack) => Phase::RolledBack,
            Self::Lost(Lost::Resyncing) => Phase::Resyncing,
        }
    }

    pub(super) fn is_established(&self) -> bool {
        matches!(self, Self::Established(_))
    }

    pub(super) fn is_staged(&self) -> bool {
        matches!(self, Self::Staged(_))
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// The durable place; `None` where there is none.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Staged(place) | Self::Established(place) | Self::UsedUp(place) => Some(place),
            Self::Lost(_) => None,
        }
    }

    /// The place of a member that can tell others where it is: not of one that was never active.
    pub(super) fn place_to_tell(&self) -> Option<&Place> {
        match self {
            Self::Established(place) | Self::UsedUp(place) => Some(place),
            Self::Staged(_) | Self::Lost(_) => None,
        }
    }

    /// The place of a member that may send.
    pub(super) fn place_to_send_from(&self) -> Result<&Place, SessionError> {
        match self {
            Self::Established(place) => Ok(place),
            Self::UsedUp(_) => Err(SessionError::EpochsUsedUp),
            Self::Staged(_) | Self::Lost(_) => Err(SessionError::NotActive(self.phase())),
        }
    }

    /// What was staged is active from here on.
    pub(super) fn activate(&mut self) {
        self.change(|stage| match stage {
            Self::Staged(place) => Self::Established(place),
            other => other,
        });
    }

    /// The place at an epoch that began.
    pub(super) fn move_to(&mut self, place: Place) {
        self.change(|stage| match stage {
            Self::UsedUp(_) => Self::UsedUp(place),
            Self::Staged(_) | Self::Established(_) | Self::Lost(_) => Self::Established(place),
        });
    }

    /// This member cannot move on.
    pub(super) fn use_up(&mut self) {
        self.change(|stage| match stage {
            Self::Established(place) => Self::UsedUp(place),
            other => other,
        });
    }

    fn change(&mut self, step: impl FnOnce(Self) -> Self) {
        let stage = mem::replace(self, Self::Lost(Lost::WithoutPlace));
        *self = step(stage);
    }
}
