//! How much a session holds.

use super::Session;

/// How much a session holds, for whoever watches over memory. Every number is bounded by the number
/// of members and by constants of the protocol, whatever arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Epochs whose frames are accepted: the current one and at most four closed ones.
    pub open_epochs: usize,
    /// Members heard in one of these, once for each of them and for each of at most four salts: a key and a replay window
    /// each.
    pub senders: usize,
    /// Members heard in an epoch that is over, whose keys are not wiped yet.
    pub over: usize,
    /// Members of whom the latest epoch is remembered.
    pub heard: usize,
    /// Epochs that a header named and of which nothing has authenticated: at most four, and two that are pinned.
    pub unproven: usize,
    /// Requests to find back that are out or were answered lately, and confirmations of a failsafe.
    pub resync: usize,
    /// Outputs still to be carried out, a step that waits for its record included.
    pub queued: usize,
    /// Buffers kept for the next frames.
    pub buffers: usize,
    /// Bytes that these can hold.
    pub buffer_bytes: usize,
}

impl Session {
    /// How much this session holds.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            open_epochs: self.epochs.open().count(),
            senders: self.epochs.open().map(|epoch| epoch.senders.len()).sum(),
            over: self.epochs.over(),
            heard: self.epochs.heard(),
            unproven: self.epochs.cached(),
            resync: self.resync.as_ref().map_or(0, |resync| resync.kept()),
            queued: self.outbox.len(),
            buffers: self.outbox.buffers().count(),
            buffer_bytes: self.outbox.buffers().map(|buffer| buffer.capacity()).sum(),
        }
    }
}
