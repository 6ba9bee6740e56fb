//! Sealing and opening under the epoch that a member is in, lent to another thread and taken back.
//!
//! ```text
//!   lend_sealing -> Sealer: seal, seal, ... -> take_back_sealing
//!   lend_opening -> Opener: open, open, ... -> take_back_opening
//! ```
//!
//! What is lent is not in the session meanwhile, so that no counter and no replay window is ever in two places:
//!
//! - While sealing is lent the session seals nothing, in any epoch. What would seal fails with
//!   [`SessionError::Lent`], and the same input is handed in again when the sealer is back.
//! - While opening is lent the session takes all frames that the opener says are [`Opened::Elsewhere`]. One that the opener
//!   would have opened fails with [`SessionError::Lent`], and is handed in again when the opener is back.
//! - Whatever ends the epoch, and each input that fails so, recalls: from then on the sealer seals nothing
//!   ([`NotSealed::TakeBack`]), and to the opener every frame is elsewhere.
//! - A sealer that was recalled by the end of its epoch, or was dropped, is never sealed with again: the next frame is made in
//!   an epoch of its own. Members that a dropped opener knew are heard again in the next epoch, which is then wanted.
//!
//! Whoever has lent opening takes it back at least once a minute: until then this member does not know whether it is
//! heard by anybody, and follows no hint that the others are elsewhere.

use alloc::collections::BTreeMap;
#[cfg(not(target_has_atomic = "ptr"))]
use alloc::rc::Rc as Shared;
#[cfg(target_has_atomic = "ptr")]
use alloc::sync::Arc as Shared;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use super::buffer::Buffer;
use super::counts::Counts;
use super::epochs::{Ear, Sending, Signature};
use super::{Cause, Delivery, Rejection, Session, SessionError};
use crate::frame::{Class, FrameKind, Header, OVERHEAD};
use crate::id::AkmId;
use crate::sds::{HeaderKey, Kind, Tag};

/// The session's end of something that is lent. Dropped, it recalls.
struct Loan(Shared<AtomicBool>);

/// The other end of it.
struct Lease(Shared<AtomicBool>);

impl Loan {
    fn new() -> (Self, Lease) {
        let recalled = Shared::new(AtomicBool::new(false));
        (Self(Shared::clone(&recalled)), Lease(recalled))
    }

    fn recall(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_of(&self, lease: &Lease) -> bool {
        Shared::ptr_eq(&self.0, &lease.0)
    }

    /// Whether the other end was dropped.
    fn is_lost(&self) -> bool {
        Shared::strong_count(&self.0) == 1
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.recall();
    }
}

impl Lease {
    fn is_recalled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What a session has lent.
#[derive(Default)]
pub(super) struct Lent {
    sealing: Option<Borrowed>,
    opening: Option<Borrowed>,
}

struct Borrowed {
    loan: Loan,
    /// Whether the epoch that it is for is still the one that it was.
    is_of_use: bool,
}

impl Lent {
    /// Another epoch begins: nothing is sealed in the one before any more.
    pub(super) fn enter(&mut self) {
        if let Some(sealing) = &mut self.sealing {
            sealing.is_of_use = false;
            sealing.loan.recall();
        }
        if let Some(opening) = &self.opening {
            opening.loan.recall();
        }
    }

    /// All that was open is gone.
    pub(super) fn start_over(&mut self) {
        self.enter();
        if let Some(opening) = &mut self.opening {
            opening.is_of_use = false;
        }
    }

    pub(super) fn has_opening(&self) -> bool {
        self.opening.is_some()
    }
}

/// Why a sealer did not seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// The session needs it: the epoch ended, a limit of the policy or of the cipher is reached, or there is something
    /// else to seal. Take it back, and let the session send.
    #[error("the session needs this back")]
    TakeBack,
    /// The body does not fit into a frame.
    #[error("too long: a frame of this relationship carries at most {most} bytes")]
    TooLong {
        /// Most bytes of a body.
        most: usize,
    },
    /// Only data is sealed here.
    #[error("only frames of the kind data are sealed here")]
    WrongKind,
}

/// Seals frames of one member in one epoch, for as long as its session does not.
pub struct Sealer {
    lease: Lease,
    sending: Sending,
    header_key: HeaderKey,
    tag: Tag,
    sender: u16,
    epoch: u32,
    /// After so many frames the policy asks for the next epoch; zero: never.
    rotate_frames: u32,
    frame_max: usize,
    made: u64,
}

impl Sealer {
    /// Seals a body, and appends the frame to `out`. Frames are sent in the order in which they were sealed.
    pub fn seal(&mut self, kind: FrameKind, body: &[u8], out: &mut Vec<u8>) -> Result<(), NotSealed> {
        if kind != FrameKind::Data {
            return Err(NotSealed::WrongKind);
        }
        if OVERHEAD + body.len() > self.frame_max {
            return Err(NotSealed::TooLong { most: self.frame_max - OVERHEAD });
        }
        if self.lease.is_recalled() || self.is_at_limit() || self.sending.is_used_up(body.len()) {
            return Err(NotSealed::TakeBack);
        }
        let signature = Signature { key: &self.header_key, tag: self.tag, sender: self.sender };
        self.sending.seal(&signature, self.epoch, kind, body, out);
        self.made += 1;
        Ok(())
    }

    fn is_at_limit(&self) -> bool {
        self.rotate_frames > 0 && self.sending.counter >= self.rotate_frames
    }
}

/// What comes of a frame that was handed to an opener.
#[derive(Debug)]
pub enum Opened<'o> {
    /// An authentic frame that was never delivered before.
    Delivered(Delivery<'o>),
    /// It is of a sender that the opener knows, and is dropped.
    Dropped(Rejection),
    /// It is the session's to say what comes of it.
    Elsewhere,
}

/// Opens frames of one epoch, of the members that were heard in it before, for as long as their session does not.
pub struct Opener {
    lease: Lease,
    tag: Tag,
    epoch: u32,
    frame_max: usize,
    senders: BTreeMap<(u16, u64), Known>,
    /// Whether any frame authenticated.
    has_heard: bool,
    counts: Counts,
    buffer: Buffer,
}

struct Known {
    from: AkmId,
    ear: Ear,
}

impl Opener {
    /// Opens a frame, or says that it is for the session.
    pub fn open(&mut self, frame: &[u8]) -> Opened<'_> {
        if self.lease.is_recalled() {
            return Opened::Elsewhere;
        }
        let Ok(header) = Header::parse(frame) else { return Opened::Elsewhere };
        if header.class != Class::Session
            || header.tag != self.tag
            || header.epoch != self.epoch
            || frame.len() > self.frame_max
        {
            return Opened::Elsewhere;
        }
        let Some(known) = self.senders.get_mut(&(header.sender, header.salt)) else {
            return Opened::Elsewhere;
        };
        // No member was heard in a later epoch than this one.
        let newest = match known.ear.open(&header, frame, &mut self.buffer) {
            Ok(is_above) => is_above,
            Err(reason) => {
                self.counts.reject(reason);
                return Opened::Dropped(reason);
            }
        };
        self.has_heard = true;
        let kind = FrameKind::from_number(self.buffer[0]);
        let Some(kind) = kind.filter(|kind| kind.fits(Kind::Communication, &self.buffer[1..])) else {
            self.counts.reject(Rejection::UnexpectedKind);
            return Opened::Dropped(Rejection::UnexpectedKind);
        };
        self.counts.delivered += 1;
        let (from, index, epoch) = (known.from, header.sender, header.epoch);
        Opened::Delivered(Delivery { from, index, epoch, kind, newest, payload: &self.buffer[1..] })
    }
}

impl Session {
    /// Lends sealing in the epoch that this member is in. `None` where the session has to seal the next frame itself: it
    /// made none in this epoch, a trigger has fired, an output is still to be carried out, or sealing is lent. Always
    /// `None` in a provisioning relationship.
    pub fn lend_sealing(&mut self) -> Option<Sealer> {
        let is_free = self.may_lend() && self.lent.sealing.is_none();
        if !is_free || !self.stage.is_established() || self.due.is_wanted() || !self.epochs.own {
            return None;
        }
        let header_key = self.header_key.as_ref()?.duplicate();
        let current = self.epochs.current.as_mut()?;
        let sending = current.sending.take()?;
        let (loan, lease) = Loan::new();
        self.lent.sealing = Some(Borrowed { loan, is_of_use: true });
        Some(Sealer {
            lease,
            sending,
            header_key,
            tag: self.tag,
            sender: self.membership.index(),
            epoch: current.epoch.number,
            rotate_frames: self.membership.policy().rotate_frames,
            frame_max: self.frame_max(),
            made: 0,
        })
    }

    /// Lends opening in the epoch that this member is in, for all members that were heard in it: so many steps of work.
    /// `None` where there is none, an output is still to be carried out, or opening is lent. Always `None` in a
    /// provisioning relationship.
    pub fn lend_opening(&mut self) -> Option<Opener> {
        if !self.may_lend() || self.lent.opening.is_some() {
            return None;
        }
        let current = self.epochs.current.as_mut()?;
        let members = self.membership.sds().members();
        let epoch = current.epoch.number;
        let senders: BTreeMap<(u16, u64), Known> = current
            .epoch
            .senders
            .iter_mut()
            .filter_map(|(key, sender)| {
                let (ear, from) = (sender.ear.take()?, members[usize::from(key.0)]);
                Some((*key, Known { from, ear }))
            })
            .collect();
        if senders.is_empty() {
            return None;
        }
        let (loan, lease) = Loan::new();
        self.lent.opening = Some(Borrowed { loan, is_of_use: true });
        let (tag, frame_max) = (self.tag, self.frame_max());
        let (counts, buffer) = (Counts::default(), Buffer::default());
        Some(Opener { lease, tag, epoch, frame_max, senders, has_heard: false, counts, buffer })
    }

    /// Takes sealing back. One that was lent by another session is dropped, and this one stays as it is.
    pub fn take_back_sealing(&mut self, sealer: Sealer) {
        let Some(borrowed) = self.lent.sealing.take_if(|borrowed| borrowed.loan.is_of(&sealer.lease)) else {
            return;
        };
        self.counts.transmitted += sealer.made;
        self.due.succeed();
        if let Some(current) = self.epochs.current.as_mut().filter(|_| borrowed.is_of_use) {
            if sealer.made > 0 && sealer.is_at_limit() {
                self.due.want_for_frames();
            }
            current.sending = Some(sealer.sending);
        }
    }

    /// Takes opening back: as many steps of work as it knew members. One that was lent by another session is dropped, and
    /// this one stays as it is.
    pub fn take_back_opening(&mut self, opener: Opener) {
        let Some(borrowed) = self.lent.opening.take_if(|borrowed| borrowed.loan.is_of(&opener.lease)) else {
            return;
        };
        self.counts.add(&opener.counts);
        if opener.has_heard
            && let Some(resync) = &mut self.resync
        {
            resync.heard_authentic();
        }
        if !borrowed.is_of_use {
            return;
        }
        let Some(epoch) = self.epochs.open_mut(opener.epoch) else { return };
        for (key, known) in opener.senders {
            if let Some(sender) = epoch.senders.get_mut(&key) {
                sender.ear = Some(known.ear);
            }
        }
    }

    /// Whether something of this session is lent, and not taken back.
    pub fn has_lent(&self) -> bool {
        self.lent.sealing.is_some() || self.lent.opening.is_some()
    }

    pub(crate) fn has_lent_sealer(&self, sealer: &Sealer) -> bool {
        self.lent.sealing.as_ref().is_some_and(|borrowed| borrowed.loan.is_of(&sealer.lease))
    }

    pub(crate) fn has_lent_opener(&self, opener: &Opener) -> bool {
        self.lent.opening.as_ref().is_some_and(|borrowed| borrowed.loan.is_of(&opener.lease))
    }

    /// This member sends elsewhere from here on.
    pub(crate) fn recall_sealing(&mut self) {
        if let Some(borrowed) = &self.lent.sealing {
            borrowed.loan.recall();
        }
    }

    fn may_lend(&self) -> bool {
        self.membership.sds().kind() == Kind::Communication && self.outbox.is_empty()
    }

    /// Whether this member can seal: not while that is lent.
    pub(super) fn claim_sealing(&mut self) -> Result<(), SessionError> {
        if self.lent.sealing.is_none() { Ok(()) } else { self.claim_lent_sealing() }
    }

    #[cold]
    fn claim_lent_sealing(&mut self) -> Result<(), SessionError> {
        match &self.lent.sealing {
            None => Ok(()),
            Some(borrowed) if borrowed.loan.is_lost() => {
                // Nobody knows how far it counted.
                if borrowed.is_of_use {
                    self.epochs.own = false;
                }
                self.lent.sealing = None;
                Ok(())
            }
            Some(borrowed) => {
                borrowed.loan.recall();
                Err(SessionError::Lent)
            }
        }
    }

    /// Whether this member can open a frame with this header: not if it is for an opener that is lent.
    pub(super) fn claim_opening(&mut self, header: &Header) -> Result<(), SessionError> {
        if self.lent.opening.is_none() { Ok(()) } else { self.claim_lent_opening(header) }
    }

    #[cold]
    fn claim_lent_opening(&mut self, header: &Header) -> Result<(), SessionError> {
        let Some(borrowed) = &self.lent.opening else { return Ok(()) };
        let key = (header.sender, header.salt);
        let sender = self.epochs.open_mut(header.epoch).and_then(|epoch| epoch.senders.get(&key));
        if sender.is_none_or(|sender| sender.ear.is_some()) {
            return Ok(());
        }
        if borrowed.loan.is_lost() {
            // Nobody knows what it opened: these members are heard again in the next epoch.
            if borrowed.is_of_use && self.epochs.is_current(header.epoch) && self.stage.is_established() {
                self.due.want(Cause::Asked);
            }
            self.lent.opening = None;
            return Ok(());
        }
        borrowed.loan.recall();
        Err(SessionError::Lent)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
