//! Sending, and moving on to the next epoch (protocol, section 8): when, and what changes once its place is durable.

use core::time::Duration;

use super::due::share_of;
use super::epochs::{OpenEpoch, Sending, Signature};
use super::follow::distance;
use super::outbox::{Pending, Recipients, Step};
use super::stage::Stage;
use super::{Cause, Event, Instant, Membership, Record, Session, SessionError, Surroundings};
use crate::element::ElementError;
use crate::frame::{FrameKind, OVERHEAD};
use crate::keys::{self, EpochSecret};
use crate::tree::{Ahead, LAST_EPOCH, Place};

/// With this many epochs left the node warns.
const EPOCHS_LOW: u32 = 1 << 31;

impl Session {
    /// Seals a body for other members; begins an epoch first where it must.
    pub(super) fn send(
        &mut self,
        to: Recipients,
        kind: FrameKind,
        body: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        self.stage.place_to_send_from()?;
        if let Recipients::One(index) = to
            && (index == self.membership.index()
                || usize::from(index) >= self.membership.sds().members().len())
        {
            return Err(SessionError::NoSuchMember { index });
        }
        if !self.carries(kind, body) {
            return Err(SessionError::WrongKind);
        }
        if OVERHEAD + body.len() > self.frame_max() {
            return Err(SessionError::TooLong { most: self.body_max() });
        }
        self.claim_sealing()?;
        let current = self.epochs.current.as_ref().filter(|_| self.epochs.own);
        let cause = match current {
            None => Some(Cause::Start),
            Some(current) if current.is_used_up(body.len()) => Some(Cause::Frames),
            Some(_) => self.fired(surroundings.now).filter(|_| self.may_advance(surroundings.now)),
        };
        let has_key = current.is_some_and(|current| current.sending.is_some());
        if let Some(cause) = cause {
            return self.begin_epoch(cause, to, kind, body, surroundings);
        }
        let salt = if has_key { 0 } else { self.epochs.draw_salt(surroundings.random) };
        self.seal(to, kind, body, salt);
        Ok(())
    }

    /// The operator or the application asks for the next epoch.
    pub(super) fn on_advance(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        self.stage.place_to_send_from()?;
        if self.may_advance(surroundings.now) {
            return self.say_hello_in_next(Cause::Asked, surroundings);
        }
        self.due.want(Cause::Asked);
        Ok(())
    }

    pub(super) fn on_activate(&mut self, surroundings: &mut Surroundings<'_>) {
        if self.stage.is_staged() {
            self.outbox.hold(Pending::new(Record::Activated, Step::Activate, surroundings.now));
        }
    }

    pub(super) fn on_timeout(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        let now = surroundings.now;
        if self.due.is_held_back(now) {
            return Ok(());
        }
        let looking = self.resync.as_ref().and_then(super::resync::Resync::due);
        let result = if looking.is_some_and(|due| due <= now) {
            self.on_resync_timeout(surroundings)
        } else if !self.stage.is_established() {
            Ok(())
        } else if self.due.hello().is_some_and(|due| due <= now) {
            self.say_hello(surroundings)
        } else if self.again.due().is_some_and(|due| due <= now) {
            self.say_hello(surroundings).inspect(|()| self.again.say())
        } else if let Some(cause) = self.fired(now).filter(|_| self.may_advance(now)) {
            self.say_hello_in_next(cause, surroundings)
        } else {
            Ok(())
        };
        match result {
            // Nobody asked for anything, and it was told when the last epoch began.
            Err(SessionError::EpochsUsedUp) => Ok(()),
            // It is handed in again with the answer.
            Err(error @ SessionError::Element(ElementError::Unanswered)) => Err(error),
            Err(error) => {
                self.due.fail(now);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    pub(super) fn say_hello(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        self.send(Recipients::Others, FrameKind::Hello, &[], surroundings)
    }

    fn say_hello_in_next(
        &mut self,
        cause: Cause,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        self.claim_sealing()?;
        self.begin_epoch(cause, Recipients::Others, FrameKind::Hello, &[], surroundings)
    }

    /// Computes the next epoch; state changes only when its place is durable.
    fn begin_epoch(
        &mut self,
        cause: Cause,
        to: Recipients,
        kind: FrameKind,
        body: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        if self.header_key.is_none() {
            self.open_keys(surroundings)?;
        }
        let Some(next) = self.stage.place().and_then(Place::next) else {
            self.use_up();
            return Err(SessionError::EpochsUsedUp);
        };
        let secret = match self.epochs.take_unproven(next.epoch()) {
            Some((_, unproven)) => unproven.secret,
            None => epoch_secret(&self.membership, next, surroundings)?,
        };
        let epoch = OpenEpoch::new(next.epoch(), secret);
        let place = next.place();
        let record = Record::Place(place.emit());
        let salt = self.epochs.draw_salt(surroundings.random);
        let mut buffer = self.outbox.spare();
        buffer.extend_from_slice(body);
        let step = Step::Begin { place, epoch, cause, kind, to, buffer, salt };
        self.outbox.hold(Pending::new(record, step, surroundings.now));
        Ok(())
    }

    /// Everything that a step rests on is durable: changes the state.
    pub(super) fn commit(&mut self, pending: Pending) {
        let Pending { step, now, .. } = pending;
        self.due.succeed();
        match step {
            Step::Activate => self.become_active(now),
            Step::Begin { place, epoch, cause, kind, to, buffer, salt } => {
                self.epochs.own = true;
                self.due.advance(now, cause);
                self.enter(place, epoch, cause, now);
                self.seal(to, kind, &buffer, salt);
                if !self.is_heard_by_all(to) {
                    // The others hear of the epoch too.
                    self.seal(Recipients::Others, FrameKind::Hello, &[], salt);
                }
                self.outbox.recycle(buffer);
            }
            Step::Adopt { place, epoch, header, buffer, activates } => {
                if activates {
                    self.become_active(now);
                }
                self.again.end();
                self.follow.follow_by(distance(self.epoch(), epoch.number), now);
                self.enter(place, epoch, Cause::Followed, now);
                self.accept(&header, buffer, true);
            }
            Step::FindBack { place, header_key, tag, found, has_jumped } => {
                let active = core::mem::replace(&mut self.active, true);
                if !active {
                    self.tell(Event::Activated);
                }
                if found.before.is_some() && self.run() == place.run() {
                    self.follow.move_by(distance(self.epoch(), place.epoch()), now);
                }
                self.enter_run(header_key, tag);
                self.go_on_from(place, now);
                if has_jumped {
                    self.insist(now);
                }
                if let Some(resync) = &mut self.resync {
                    resync.found(found);
                }
                self.tell(Event::FoundBack(found));
            }
        }
    }

    /// As after a start: nothing up to this place is accepted any more, and the first frame is made in an
    /// epoch of its own.
    fn go_on_from(&mut self, place: Place, now: Instant) {
        self.stage = Stage::active(place);
        self.epochs.start_over();
        self.again.end();
        self.lent.start_over();
        let hello = self.start_hello(now).filter(|_| self.stage.is_established());
        self.due.start_over(now, self.lateness(), hello);
    }

    fn become_active(&mut self, now: Instant) {
        self.active = true;
        self.stage.activate();
        let hello = self.start_hello(now);
        self.due.become_active(now, hello);
        self.tell(Event::Activated);
    }

    /// When this member makes itself heard that becomes active now: where many do at once they do not all say it at
    /// once.
    pub(super) fn start_hello(&self, now: Instant) -> Option<Instant> {
        let members = self.membership.sds().members().len() as u64;
        let share = self.epochs.share(b"hello", self.epoch());
        let late = share_of(Duration::from_millis(members), share);
        self.options.hello_at_start.then(|| now + late)
    }

    /// How late this member acts on the age of the epoch that it is in.
    pub(super) fn lateness(&self) -> u16 {
        self.epochs.share(b"late", self.epoch())
    }

    fn enter(&mut self, place: Place, epoch: OpenEpoch, cause: Cause, now: Instant) {
        let number = epoch.number;
        let was_low = LAST_EPOCH - self.epoch_or_zero() <= EPOCHS_LOW;
        self.lent.enter();
        self.epochs.enter(epoch, self.membership.policy().overlap, now);
        self.stage.move_to(place);
        self.due.enter(now, self.lateness());
        self.tell(Event::EpochBegan { epoch: number, cause });
        if !was_low && LAST_EPOCH - number <= EPOCHS_LOW {
            self.tell(Event::EpochsRunningLow);
        }
        if number == LAST_EPOCH {
            self.tell(Event::EpochsUsedUp);
            if !self.epochs.own {
                self.use_up();
            }
        }
    }

    /// This member cannot move on: it only receives in what is open.
    fn use_up(&mut self) {
        self.stage.use_up();
        self.due.rest();
        self.again.end();
    }

    fn epoch_or_zero(&self) -> u32 {
        self.epochs.current.as_ref().map_or(0, |current| current.epoch.number)
    }

    /// Seals a frame in the current epoch and queues it.
    fn seal(&mut self, to: Recipients, kind: FrameKind, body: &[u8], salt: u64) {
        let current = self.epochs.current.as_mut().expect("a sender has begun an epoch");
        let sender = self.membership.index();
        let sending = current.sending.get_or_insert_with(|| {
            Sending::new(&current.epoch, sender, salt, self.provider, self.membership.sds().suite())
        });
        let header_key = self.header_key.as_ref().expect("they were opened before an epoch began");
        let signature = Signature { key: header_key, tag: self.tag, sender };
        let mut frame = self.outbox.spare();
        sending.seal(&signature, current.epoch.number, kind, body, &mut frame);
        let limit = self.membership.policy().rotate_frames;
        // A hello that began this epoch shall not end it.
        if limit > 0 && sending.counter >= limit && kind != FrameKind::Hello {
            self.due.want_for_frames();
        }
        if self.is_heard_by_all(to) {
            // Whoever needed to hear of this epoch hears of it by this frame.
            self.due.heard_by_all();
        }
        self.outbox.transmit(to, frame);
    }

    fn is_heard_by_all(&self, recipients: Recipients) -> bool {
        match recipients {
            Recipients::Others => true,
            Recipients::One(_) => self.membership.sds().members().len() == 2,
        }
    }

    /// When the trigger that has fired, or age, makes this member move on.
    pub(super) fn trigger_due(&self) -> Option<Instant> {
        if !self.stage.is_established() {
            return None;
        }
        self.due.trigger(self.membership.policy())
    }

    fn fired(&self, now: Instant) -> Option<Cause> {
        self.due.fired(now, self.membership.policy())
    }

    fn may_advance(&self, now: Instant) -> bool {
        self.due.may_advance(now, self.membership.policy())
    }
}

/// The secret of an epoch that lies ahead: one element call.
pub(super) fn epoch_secret(
    membership: &Membership,
    ahead: Ahead<'_>,
    surroundings: &mut Surroundings<'_>,
) -> Result<EpochSecret, ElementError> {
    let sds = membership.sds();
    let factor =
        keys::epoch_factor(surroundings.element, membership.root(), sds.generation(), ahead.epoch())?;
    Ok(EpochSecret::derive(ahead.leaf(), &factor, sds.digest()))
}
