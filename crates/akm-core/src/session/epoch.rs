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

impl OpenEpoch {
    pub(super) fn new(number: u32, secret: EpochSecret) -> Self {
        Self { number, secret, senders: BTreeMap::new(), closes: None }
    }
}
