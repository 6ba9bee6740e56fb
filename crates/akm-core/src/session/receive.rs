use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::epoch::{OpenEpoch, Sender, Unproven};
use super::{
    Event, Instant, Pending, Phase, Queued, Record, Rejection, Session, SessionError, Step, Surroundings,
};
use crate::crypto::{AeadKey, TAG_LENGTH};
use crate::frame::{Class, FrameKind, HEADER_LENGTH, Header, is_signed};
use crate::keys::{self, EpochSecret};
use crate::replay::{ReplayWindow, Replayed};
use crate::sds::Kind;

/// Epochs whose keys are kept until a frame of them authenticates.
const UNPROVEN_MAX: usize = 4;

/// A sender that is behind is told so within this time, and at most once in it.
const REPLY_WITHIN: Duration = Duration::from_secs(1);

impl Session {
    /// Takes bytes off a transport, in the order of checks of the protocol, section 5. The first
    /// miss drops the frame.
    pub(super) fn receive(
        &mut self,
        frame: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let Ok(header) = Header::parse(frame) else { return self.reject(Rejection::Malformed, None) };
        let sender = Some(header.sender);
        if frame.len() > self.frame_max() || header.class != Class::Session {
            return self.reject(Rejection::Malformed, sender);
        }
        if header.tag != self.tag {
            return self.reject(Rejection::UnknownTag, sender);
        }
        if usize::from(header.sender) >= self.membership.sds().members().len() {
            return self.reject(Rejection::NotAMember, sender);
        }
        if header.sender == self.membership.index() {
            return self.reject(Rejection::OwnFrame, sender);
        }
        if !matches!(self.phase, Phase::Staged | Phase::Established | Phase::UsedUp) {
            return self.reject(Rejection::NoPlace, sender);
        }
        if self.open_epoch(header.epoch).is_some() {
            return self.receive_in_open_epoch(&header, frame);
        }
        if self.place.as_ref().is_some_and(|place| place.is_ahead(header.epoch)) {
            return self.receive_in_later_epoch(&header, frame, surroundings);
        }
        if is_signed(frame, &self.header_key) {
            self.answer_too_old(surroundings)?;
        }
        self.reject(Rejection::EpochTooOld, sender)
    }

    fn open_epoch(&mut self, number: u32) -> Option<&mut OpenEpoch> {
        self.current.iter_mut().chain(&mut self.closed).find(|epoch| epoch.number == number)
    }

    fn receive_in_open_epoch(&mut self, header: &Header, frame: &[u8]) -> Result<(), SessionError> {
        let sender = Some(header.sender);
        let mut buffer = self.spare_buffer();
        let (provider, suite) = (self.provider, self.membership.sds().suite());
        let signed = is_signed(frame, &self.header_key);
        let current = self.current.as_ref().map(|epoch| epoch.number);
        let epoch = self.open_epoch(header.epoch).expect("the caller found it open");
        let result = match epoch.senders.get_mut(&header.sender) {
            Some(known) if known.salt == header.salt => match known.window.check(header.counter) {
                Err(Replayed::Duplicate) => Err(Rejection::Duplicate),
                Err(Replayed::TooOld) => Err(Rejection::CounterTooOld),
                Ok(()) => open(&*known.key, header, frame, &mut buffer).map(|kind| {
                    known.window.update(header.counter);
                    let newest = header.counter >= known.highest;
                    known.highest = known.highest.max(header.counter);
                    (kind, newest)
                }),
            },
            // Making a key costs work: strangers do not get that far.
            _ if !signed => Err(Rejection::HeaderSignature),
            Some(_) => {
                let key = epoch.secret.sender_key(header.sender, header.salt);
                let key = provider.aead(suite, key.expose());
                open(&*key, header, frame, &mut buffer).and(Err(Rejection::PossibleClone))
            }
            None => {
                let key = epoch.secret.sender_key(header.sender, header.salt);
                let key = provider.aead(suite, key.expose());
                open(&*key, header, frame, &mut buffer).map(|kind| {
                    epoch.senders.insert(header.sender, Sender::heard(header, key));
                    (kind, true)
                })
            }
        };
        let is_current = current == Some(header.epoch);
        match result {
            Ok((kind, newest)) => {
                if is_current {
                    self.hello_due = self.hello_due.filter(|_| !self.own_epoch);
                }
                self.accept(header.sender, kind, newest && is_current, buffer);
                Ok(())
            }
            Err(reason) => {
                self.recycle(buffer);
                self.reject(reason, sender)
            }
        }
    }

    fn receive_in_later_epoch(
        &mut self,
        header: &Header,
        frame: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let sender = Some(header.sender);
        if !is_signed(frame, &self.header_key) {
            return self.reject(Rejection::HeaderSignature, sender);
        }
        if !self.unproven.iter().any(|unproven| unproven.number == header.epoch) {
            if !self.budget.take(surroundings.now) {
                return self.reject(Rejection::Budget, sender);
            }
            let secret = self.epoch_secret(header.epoch, surroundings)?;
            if self.unproven.len() == UNPROVEN_MAX {
                self.unproven.pop_front();
            }
            self.unproven.push_back(Unproven { number: header.epoch, secret });
        }
        let at = self.unproven.iter().position(|unproven| unproven.number == header.epoch);
        let at = at.expect("it was there or has just been put there");
        let key = self.unproven[at].secret.sender_key(header.sender, header.salt);
        let key = self.provider.aead(self.membership.sds().suite(), key.expose());
        let mut buffer = self.spare_buffer();
        let kind = match open(&*key, header, frame, &mut buffer) {
            Ok(kind) => kind,
            Err(reason) => {
                self.recycle(buffer);
                return self.reject(reason, sender);
            }
        };
        self.budget.give_back();
        let unproven = self.unproven.remove(at).expect("found above");
        let place = self.place.as_ref().and_then(|place| place.at(header.epoch)).expect("the epoch is ahead");
        let mut epoch = OpenEpoch::new(header.epoch, unproven.secret);
        epoch.senders.insert(header.sender, Sender::heard(header, key));
        let activates = self.phase == Phase::Staged;
        let mut records = alloc::collections::VecDeque::new();
        if activates {
            records.push_back(Record::Activated);
        }
        records.push_back(Record::Place(place.emit()));
        let delivery = Queued::Deliver { index: header.sender, kind, newest: true, buffer };
        let step = Step::Adopt { place, epoch, delivery, activates };
        let salt = self.draw_salt(surroundings);
        self.pending = Some(Pending { records, step, now: surroundings.now, salt });
        Ok(())
    }

    /// The secret of an epoch that lies ahead: one element call.
    pub(super) fn epoch_secret(
        &self,
        epoch: u32,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<EpochSecret, SessionError> {
        let sds = self.membership.sds();
        let factor =
            keys::epoch_factor(surroundings.element, self.membership.root(), sds.generation(), epoch)?;
        let leaf = self.place.as_ref().and_then(|place| place.leaf(epoch)).expect("the epoch is ahead");
        Ok(EpochSecret::derive(leaf, &factor, sds.digest()))
    }

    /// Queues what an authentic frame said, or drops it if its kind has no place here.
    pub(super) fn accept(&mut self, index: u16, kind: FrameKind, newest: bool, buffer: Vec<u8>) {
        if self.carries(kind) {
            self.queue.push_back(Queued::Deliver { index, kind, newest, buffer });
        } else {
            self.recycle(buffer);
            self.count(Rejection::UnexpectedKind, Some(index));
        }
    }

    /// Whether frames of this kind belong into this relationship.
    pub(super) fn carries(&self, kind: FrameKind) -> bool {
        match kind {
            FrameKind::Hello => true,
            FrameKind::Data => self.membership.sds().kind() == Kind::Communication,
            FrameKind::Management => self.membership.sds().kind() == Kind::Provisioning,
        }
    }

    /// Lets a sender that is behind learn of the current epoch.
    fn answer_too_old(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        let now = surroundings.now;
        if self.phase != Phase::Established
            || self.hello_due.is_some()
            || self.replied.is_some_and(|replied| now < replied + REPLY_WITHIN)
        {
            return Ok(());
        }
        self.replied = Some(now);
        if self.membership.sds().kind() == Kind::Provisioning {
            return self.send(FrameKind::Hello, &[], surroundings);
        }
        let mut random = [0; 2];
        surroundings.random.fill(&mut random);
        let share = u32::from(u16::from_be_bytes(random));
        self.hello_due = Some(now + REPLY_WITHIN * share / u32::from(u16::MAX));
        Ok(())
    }

    fn reject(&mut self, reason: Rejection, sender: Option<u16>) -> Result<(), SessionError> {
        self.count(reason, sender);
        Ok(())
    }

    fn count(&mut self, reason: Rejection, sender: Option<u16>) {
        self.rejections[reason as usize] += 1;
        self.tell(Event::Rejected { reason, sender });
    }

    /// Forgets closed epochs whose overlap is over.
    pub(super) fn close_expired(&mut self, now: Instant) {
        self.closed.retain(|epoch| epoch.closes.is_some_and(|closes| now < closes));
    }
}

impl Sender {
    fn heard(header: &Header, key: Box<dyn AeadKey>) -> Self {
        let mut window = ReplayWindow::default();
        window.update(header.counter);
        Self { salt: header.salt, key, window, highest: header.counter }
    }
}

/// Opens a frame into `buffer`, which then holds kind and body.
fn open(
    key: &dyn AeadKey,
    header: &Header,
    frame: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<FrameKind, Rejection> {
    let (associated, sealed) = frame.split_at(HEADER_LENGTH);
    let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG_LENGTH);
    buffer.clear();
    buffer.extend_from_slice(ciphertext);
    let tag = tag.try_into().expect("16 bytes");
    key.open(&header.nonce(), associated, buffer, tag).map_err(|_| Rejection::NotAuthentic)?;
    FrameKind::from_number(buffer[0]).ok_or(Rejection::UnexpectedKind)
}
