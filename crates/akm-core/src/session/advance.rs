use super::epoch::{OpenEpoch, Sending};
use super::{
    Cause, Event, Instant, Pending, Phase, Queued, RETRY, Recipients, Record, Session, SessionError, Step,
    Surroundings,
};
use crate::crypto::TAG_LENGTH;
use crate::crypto::hash::sha256;
use crate::element::ElementError;
use crate::frame::{Class, FrameKind, HEADER_LENGTH, Header, OVERHEAD};
use crate::tree::{LAST_EPOCH, Place};

/// Closed epochs that stay open for receiving.
const CLOSED_MAX: usize = 4;

/// Most frames under one key, whatever the policy says.
const FRAMES_PER_KEY: u32 = 1 << 28;

/// Most bytes under one key.
const BYTES_PER_KEY: u64 = 1 << 38;

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
        match self.phase {
            Phase::Established => {}
            Phase::UsedUp => return Err(SessionError::EpochsUsedUp),
            phase => return Err(SessionError::NotActive(phase)),
        }
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
        let cause = if !self.own_epoch {
            Some(Cause::Start)
        } else if self.key_is_used_up(body.len()) {
            Some(Cause::Frames)
        } else {
            self.fired(surroundings.now).filter(|_| self.may_advance(surroundings.now))
        };
        if let Some(cause) = cause {
            return self.begin_epoch(cause, to, kind, body, surroundings);
        }
        let salt = if self.sending.is_none() { self.draw_salt(surroundings) } else { 0 };
        self.seal(to, kind, body, salt);
        Ok(())
    }

    /// The operator or the application asks for the next epoch.
    pub(super) fn on_advance(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        match self.phase {
            Phase::Established => {}
            Phase::UsedUp => return Err(SessionError::EpochsUsedUp),
            phase => return Err(SessionError::NotActive(phase)),
        }
        if self.may_advance(surroundings.now) {
            return self.begin_epoch(Cause::Asked, Recipients::Others, FrameKind::Hello, &[], surroundings);
        }
        self.wanted = Some(Cause::Asked);
        Ok(())
    }

    pub(super) fn on_activate(&mut self, surroundings: &mut Surroundings<'_>) {
        if self.phase == Phase::Staged {
            self.pending = Some(Pending::new([Record::Activated], Step::Activate, surroundings.now));
        }
    }

    pub(super) fn on_timeout(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        let now = surroundings.now;
        if self.retry.is_some_and(|retry| now < retry) {
            return Ok(());
        }
        let looking = self.resync.as_ref().and_then(super::resync::Resync::due);
        let result = if looking.is_some_and(|due| due <= now) {
            self.on_resync_timeout(surroundings)
        } else if self.phase != Phase::Established {
            Ok(())
        } else if [self.hello_due, self.reply_due].into_iter().flatten().any(|due| due <= now) {
            self.send(Recipients::Others, FrameKind::Hello, &[], surroundings)
        } else if let Some(cause) = self.fired(now).filter(|_| self.may_advance(now)) {
            self.begin_epoch(cause, Recipients::Others, FrameKind::Hello, &[], surroundings)
        } else {
            Ok(())
        };
        match result {
            // Nobody asked for anything, and it was told when the last epoch began.
            Err(SessionError::EpochsUsedUp) => Ok(()),
            // It is handed in again with the answer.
            Err(error @ SessionError::Element(ElementError::Unanswered)) => Err(error),
            Err(error) => {
                self.retry = Some(now + RETRY);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
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
        let Some(number) = self.place.as_ref().and_then(|place| place.next_epoch()) else {
            self.use_up();
            return Err(SessionError::EpochsUsedUp);
        };
        let secret = match self.unproven.iter().position(|unproven| unproven.number == number) {
            Some(at) => self.unproven.remove(at).expect("found there").secret,
            None => self.epoch_secret(number, surroundings)?,
        };
        let place = self.place.as_ref().and_then(|place| place.at(number)).expect("the epoch is ahead");
        let record = Record::Place(place.emit());
        let salt = self.draw_salt(surroundings);
        let mut buffer = self.spare_buffer();
        buffer.extend_from_slice(body);
        let epoch = OpenEpoch::new(number, secret);
        let step = Step::Begin { place, epoch, cause, kind, to, buffer, salt };
        self.pending = Some(Pending::new([record], step, surroundings.now));
        Ok(())
    }

    /// Everything that a step rests on is durable: changes the state.
    pub(super) fn commit(&mut self, pending: Pending) {
        let Pending { step, now, .. } = pending;
        self.retry = None;
        match step {
            Step::Activate => self.become_active(now),
            Step::Begin { place, epoch, cause, kind, to, buffer, salt } => {
                self.own_epoch = true;
                self.advanced = Some(now);
                self.enter(place, epoch, cause, now);
                self.seal(to, kind, &buffer, salt);
                if !self.is_heard_by_all(to) {
                    // The others hear of the epoch too.
                    self.seal(Recipients::Others, FrameKind::Hello, &[], salt);
                }
                self.recycle(buffer);
            }
            Step::Adopt { place, epoch, header, buffer, activates } => {
                if activates {
                    self.become_active(now);
                }
                self.enter(place, epoch, Cause::Followed, now);
                self.accept(&header, buffer);
            }
            Step::FindBack { place, header_key, tag, found } => {
                let active = core::mem::replace(&mut self.active, true);
                if !active {
                    self.tell(Event::Activated);
                }
                (self.header_key, self.tag) = (header_key, tag);
                self.go_on_from(place, now);
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
        self.phase = if place.next_epoch().is_none() { Phase::UsedUp } else { Phase::Established };
        self.place = Some(place);
        self.current = None;
        self.sending = None;
        self.closed.clear();
        self.over.clear();
        self.unproven.clear();
        self.heard.clear();
        self.own_epoch = false;
        self.began = now;
        self.wanted = None;
        self.advanced = None;
        self.reply_due = None;
        self.hello_due = (self.options.hello_at_start && self.phase == Phase::Established).then_some(now);
    }

    fn become_active(&mut self, now: Instant) {
        self.active = true;
        self.phase = Phase::Established;
        self.began = now;
        self.tell(Event::Activated);
        if self.options.hello_at_start {
            self.hello_due = Some(now);
        }
    }

    fn enter(&mut self, place: Place, epoch: OpenEpoch, cause: Cause, now: Instant) {
        let number = epoch.number;
        let was_low = LAST_EPOCH - self.epoch_or_zero() <= EPOCHS_LOW;
        if let Some(mut closed) = self.current.replace(epoch) {
            closed.closes = Some(now + self.membership.policy().overlap);
            if self.closed.len() == CLOSED_MAX
                && let Some(oldest) = self.closed.pop_front()
            {
                self.over.take(oldest, now);
            }
            self.closed.push_back(closed);
        }
        self.place = Some(place);
        self.sending = None;
        self.unproven.retain(|unproven| unproven.number > number);
        self.began = now;
        self.wanted = None;
        self.reply_due = None;
        self.tell(Event::EpochBegan { epoch: number, cause });
        if !was_low && LAST_EPOCH - number <= EPOCHS_LOW {
            self.tell(Event::EpochsRunningLow);
        }
        if number == LAST_EPOCH {
            self.tell(Event::EpochsUsedUp);
            if !self.own_epoch {
                self.use_up();
            }
        }
    }

    /// This member cannot move on: it only receives in what is open.
    fn use_up(&mut self) {
        self.phase = Phase::UsedUp;
        self.wanted = None;
        self.hello_due = None;
        self.reply_due = None;
    }

    fn epoch_or_zero(&self) -> u32 {
        self.current.as_ref().map_or(0, |epoch| epoch.number)
    }

    /// Seals a frame in the current epoch and queues it.
    fn seal(&mut self, to: Recipients, kind: FrameKind, body: &[u8], salt: u64) {
        let epoch = self.current.as_ref().expect("a sender has begun an epoch");
        let index = self.membership.index();
        let (provider, suite) = (self.provider, self.membership.sds().suite());
        let sending = self.sending.get_or_insert_with(|| {
            let key = epoch.secret.sender_key(index, salt);
            Sending { salt, key: provider.aead(suite, key.expose()), counter: 0, bytes: 0 }
        });
        let header = Header {
            class: Class::Session,
            sender: index,
            tag: self.tag,
            epoch: epoch.number,
            salt: sending.salt,
            counter: sending.counter,
        };
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.reserve(OVERHEAD + body.len());
        frame.resize(HEADER_LENGTH, 0);
        header.write(&self.header_key, frame.first_chunk_mut().expect("it is as long as a header"));
        frame.push(kind as u8);
        frame.extend_from_slice(body);
        frame.extend_from_slice(&[0; TAG_LENGTH]);
        let (associated, sealed) = frame.split_at_mut(HEADER_LENGTH);
        let (plaintext, tag) = sealed.split_at_mut(1 + body.len());
        tag.copy_from_slice(&sending.key.seal(&header.nonce(), associated, plaintext));
        sending.counter += 1;
        sending.bytes += frame.len() as u64;
        let limit = self.membership.policy().rotate_frames;
        // A hello that began this epoch shall not end it.
        if limit > 0 && sending.counter >= limit && kind != FrameKind::Hello && self.wanted.is_none() {
            self.wanted = Some(Cause::Frames);
        }
        if self.is_heard_by_all(to) {
            // Whoever needed to hear of this epoch hears of it by this frame.
            self.hello_due = None;
            self.reply_due = None;
        }
        self.queue.push_back(match to {
            Recipients::Others => Queued::Transmit(frame),
            Recipients::One(member) => Queued::TransmitTo { member, buffer: frame },
        });
    }

    fn is_heard_by_all(&self, recipients: Recipients) -> bool {
        match recipients {
            Recipients::Others => true,
            Recipients::One(_) => self.membership.sds().members().len() == 2,
        }
    }

    fn key_is_used_up(&self, next: usize) -> bool {
        self.sending.as_ref().is_some_and(|sending| {
            sending.counter >= FRAMES_PER_KEY || sending.bytes + (next + OVERHEAD) as u64 > BYTES_PER_KEY
        })
    }

    /// When the trigger that has fired, or age, makes this member move on.
    pub(super) fn trigger_due(&self) -> Option<Instant> {
        if self.phase != Phase::Established {
            return None;
        }
        let due = if self.wanted.is_some() { Instant::default() } else { self.age_due()? };
        Some(self.advance_allowed().map_or(due, |allowed| due.max(allowed)))
    }

    /// The trigger that has fired and was not followed by an epoch yet.
    fn fired(&self, now: Instant) -> Option<Cause> {
        self.wanted.or_else(|| self.age_due().filter(|due| *due <= now).map(|_| Cause::Age))
    }

    fn age_due(&self) -> Option<Instant> {
        let limit = self.membership.policy().rotate_after;
        (!limit.is_zero()).then(|| self.began + limit)
    }

    fn may_advance(&self, now: Instant) -> bool {
        self.advance_allowed().is_none_or(|allowed| allowed <= now)
    }

    fn advance_allowed(&self) -> Option<Instant> {
        self.advanced.map(|advanced| advanced + self.membership.policy().advance_interval)
    }

    /// A salt that neither a weak system generator nor a weak element can make predictable.
    pub(super) fn draw_salt(&self, surroundings: &mut Surroundings<'_>) -> u64 {
        let mut system = zeroize::Zeroizing::new([0; 32]);
        surroundings.random.fill(&mut system[..]);
        let mixed = sha256(&[self.salt_seed.expose(), &system[..]]);
        u64::from_be_bytes(mixed[..8].try_into().expect("8 bytes"))
    }
}
