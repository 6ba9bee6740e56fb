use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use super::Instant;
use crate::crypto::AeadKey;
use crate::keys::EpochSecret;
use crate::replay::ReplayWindow;

/// An epoch whose frames are accepted.
pub(super) struct OpenEpoch {
    pub(super) number: u32,
    pub(super) secret: EpochSecret,
    pub(super) senders: BTreeMap<u16, Sender>,
    /// When a closed epoch stops receiving; `None` for the current one.
    pub(super) closes: Option<Instant>,
}

/// A member that was heard in an epoch, under the one salt that it may have there.
pub(super) struct Sender {
    pub(super) salt: u64,
    pub(super) key: Box<dyn AeadKey>,
    pub(super) window: ReplayWindow,
}

/// This member as a sender in the current epoch.
pub(super) struct Sending {
    pub(super) salt: u64,
    pub(super) key: Box<dyn AeadKey>,
    pub(super) counter: u32,
    pub(super) bytes: u64,
}

/// An epoch that somebody claims to be in, until a frame of it authenticates.
pub(super) struct Unproven {
    pub(super) number: u32,
    pub(super) secret: EpochSecret,
    /// When the element was asked for it on a stranger's word.
    pub(super) asked: Option<Instant>,
}

/// What is left of an epoch that is over: of each member that was heard in it a key, to be wiped.
///
/// Wiping takes time for each of them, and there may be thousands. So the input that ends an epoch wipes them only where
/// they are few; otherwise the inputs do that [`Session::timeout`](super::Session::timeout) then asks for.
#[derive(Default)]
pub(super) struct Over {
    senders: BTreeMap<u16, Sender>,
    /// When the next of them are wiped.
    due: Option<Instant>,
}

/// So many are few.
const FEW: usize = 4;

/// So many are wiped by an input that is there for it.
const WIPED_AT_ONCE: usize = 128;

impl Over {
    /// An epoch is over: its secret is wiped here and now. So is what is left of the one before.
    pub(super) fn take(&mut self, epoch: OpenEpoch, now: Instant) {
        self.senders = epoch.senders;
        self.due = Some(now);
        if self.senders.len() <= FEW {
            self.clear();
        }
    }

    /// Some time has passed in which nothing else was to be done.
    pub(super) fn go_on(&mut self, now: Instant) {
        for _ in 0..WIPED_AT_ONCE {
            self.senders.pop_first();
        }
        self.due = (!self.senders.is_empty()).then_some(now);
    }

    /// Wipes all at once.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn len(&self) -> usize {
        self.senders.len()
    }
}

impl OpenEpoch {
    pub(super) fn new(number: u32, secret: EpochSecret) -> Self {
        Self { number, secret, senders: BTreeMap::new(), closes: None }
    }
}
