use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use super::buffer::Buffer;
use super::epoch::{OpenEpoch, Sender, Unproven};
use super::{
    Event, Instant, Pending, Phase, Queued, Recipients, Record, Rejection, Session, SessionError, Step,
    Surroundings,
};
use crate::crypto::{AeadKey, TAG_LENGTH};
use crate::element::ElementError;
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
        if header.class == Class::Resync {
            return self.receive_resync(&header, frame, surroundings);
        }
        let sender = Some(header.sender);
        if frame.len() > self.frame_max() {
            return self.reject(Rejection::Malformed, sender);
        }
        let before = self.unplaced;
        let result = self.receive_of_session(&header, frame, surroundings);
        if self.unplaced > before
            && self.phase == Phase::Established
            && let Some(resync) = &mut self.resync
        {
            resync.heard_unplaced(surroundings.now);
        }
        result
    }

    fn receive_of_session(
        &mut self,
        header: &Header,
        frame: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let sender = Some(header.sender);
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
        if self.is_open(header.epoch) {
            return self.receive_in_open_epoch(header, frame);
        }
        if self.place.as_ref().is_some_and(|place| place.is_ahead(header.epoch)) {
            return self.receive_in_later_epoch(header, frame, surroundings);
        }
        if is_signed(frame, &self.header_key) {
            self.answer_too_old(surroundings)?;
        }
        self.reject(Rejection::EpochTooOld, sender)
    }

    fn is_open(&self, number: u32) -> bool {
        self.current.as_ref().is_some_and(|current| current.number == number)
            || self.closed.iter().any(|closed| closed.number == number)
    }

    fn receive_in_open_epoch(&mut self, header: &Header, frame: &[u8]) -> Result<(), SessionError> {
        let sender = Some(header.sender);
        let mut buffer = self.spare_buffer();
        let (provider, suite) = (self.provider, self.membership.sds().suite());
        let current = self.current.as_ref().map(|epoch| epoch.number);
        let epoch = match &mut self.current {
            Some(current) if current.number == header.epoch => current,
            _ => self
                .closed
                .iter_mut()
                .find(|closed| closed.number == header.epoch)
                .expect("the caller found it open"),
        };
        let result = match epoch.senders.get_mut(&header.sender) {
            Some(known) if known.salt == header.salt => match known.window.check(header.counter) {
                Err(Replayed::Duplicate) => Err(Rejection::Duplicate),
                Err(Replayed::TooOld) => Err(Rejection::CounterTooOld),
                Ok(()) => open(&*known.key, header, frame, &mut buffer)
                    .map(|()| known.window.update(header.counter)),
            },
            // Making a key costs work: strangers do not get that far.
            _ if !is_signed(frame, &self.header_key) => Err(Rejection::HeaderSignature),
            Some(_) => {
                let key = epoch.secret.sender_key(header.sender, header.salt);
                let key = provider.aead(suite, key.expose());
                open(&*key, header, frame, &mut buffer).and(Err(Rejection::PossibleClone))
            }
            None => {
                let key = epoch.secret.sender_key(header.sender, header.salt);
                let key = provider.aead(suite, key.expose());
                open(&*key, header, frame, &mut buffer).map(|()| {
                    epoch.senders.insert(header.sender, Sender::heard(header, key));
                })
            }
        };
        match result {
            Ok(()) => {
                if current == Some(header.epoch) {
                    self.reply_due = None;
                }
                self.accept(header, buffer);
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
            let Some(asked) = self.budget.take_for(header.epoch, surroundings.now) else {
                return self.reject(Rejection::Budget, sender);
            };
            let secret = self.epoch_secret(header.epoch, surroundings);
            self.budget.settle(header.epoch, asked, &secret);
            self.cache(Unproven { number: header.epoch, secret: secret?, asked: Some(asked) });
        }
        let at = self.unproven.iter().position(|unproven| unproven.number == header.epoch);
        let at = at.expect("it was there or has just been put there");
        let key = self.unproven[at].secret.sender_key(header.sender, header.salt);
        let key = self.provider.aead(self.membership.sds().suite(), key.expose());
        let mut buffer = self.spare_buffer();
        if let Err(reason) = open(&*key, header, frame, &mut buffer) {
            self.recycle(buffer);
            return self.reject(reason, sender);
        }
        let unproven = self.unproven.remove(at).expect("found above");
        if let Some(asked) = unproven.asked {
            self.budget.give_back(asked);
        }
        let place = self.place.as_ref().and_then(|place| place.at(header.epoch)).expect("the epoch is ahead");
        let mut epoch = OpenEpoch::new(header.epoch, unproven.secret);
        epoch.senders.insert(header.sender, Sender::heard(header, key));
        let activates = self.phase == Phase::Staged;
        let records: VecDeque<_> =
            activates.then_some(Record::Activated).into_iter().chain([Record::Place(place.emit())]).collect();
        let step = Step::Adopt { place, epoch, header: *header, buffer, activates };
        self.pending = Some(Pending::new(records, step, surroundings.now));
        Ok(())
    }

    /// Keeps the secret of an epoch until a frame of it authenticates, or four others came after it.
    pub(super) fn cache(&mut self, unproven: Unproven) {
        if self.unproven.len() == UNPROVEN_MAX {
            self.unproven.pop_front();
        }
        self.unproven.push_back(unproven);
    }

    /// The secret of an epoch that lies ahead: one element call.
    pub(super) fn epoch_secret(
        &self,
        epoch: u32,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<EpochSecret, ElementError> {
        let sds = self.membership.sds();
        let factor =
            keys::epoch_factor(surroundings.element, self.membership.root(), sds.generation(), epoch)?;
        let leaf = self.place.as_ref().and_then(|place| place.leaf(epoch)).expect("the epoch is ahead");
        Ok(EpochSecret::derive(leaf, &factor, sds.digest()))
    }

    /// Queues what an authentic frame said, or drops it if its kind has no place here.
    pub(super) fn accept(&mut self, header: &Header, buffer: Buffer) {
        if let Some(resync) = &mut self.resync {
            resync.heard_authentic();
        }
        let (index, at) = (header.sender, (header.epoch, header.counter));
        let latest = self.heard.entry(index).or_insert(at);
        let newest = at >= *latest;
        *latest = at.max(*latest);
        match FrameKind::from_number(buffer[0]).filter(|kind| self.carries(*kind, &buffer[1..])) {
            Some(kind) => {
                let epoch = header.epoch;
                self.queue.push_back(Queued::Deliver { index, epoch, kind, newest, buffer });
            }
            None => {
                self.recycle(buffer);
                self.count(Rejection::UnexpectedKind, Some(index));
            }
        }
    }

    /// Whether this relationship carries such a frame.
    pub(super) fn carries(&self, kind: FrameKind, body: &[u8]) -> bool {
        match kind {
            FrameKind::Hello => body.is_empty(),
            FrameKind::Data => self.membership.sds().kind() == Kind::Communication,
            FrameKind::Management => self.membership.sds().kind() == Kind::Provisioning,
        }
    }

    /// Lets a sender that is behind learn of the current epoch.
    fn answer_too_old(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        let now = surroundings.now;
        if self.phase != Phase::Established
            || self.reply_due.is_some()
            || self.replied.is_some_and(|replied| now < replied + REPLY_WITHIN)
        {
            return Ok(());
        }
        if self.membership.sds().kind() == Kind::Provisioning {
            let result = self.send(Recipients::Others, FrameKind::Hello, &[], surroundings);
            if !matches!(result, Err(SessionError::Element(ElementError::Unanswered))) {
                self.replied = Some(now);
            }
            return match result {
                // Whoever sent this frame did nothing wrong, and this node cannot do better.
                Err(SessionError::EpochsUsedUp) => Ok(()),
                result => result,
            };
        }
        let mut random = [0; 2];
        surroundings.random.fill(&mut random);
        let share = u32::from(u16::from_be_bytes(random));
        let due = now + REPLY_WITHIN * share / u32::from(u16::MAX);
        self.reply_due = Some(due);
        self.replied = Some(due);
        Ok(())
    }

    pub(super) fn reject(&mut self, reason: Rejection, sender: Option<u16>) -> Result<(), SessionError> {
        self.count(reason, sender);
        Ok(())
    }

    fn count(&mut self, reason: Rejection, sender: Option<u16>) {
        use Rejection::{Budget, HeaderSignature, NotAuthentic, UnknownTag};
        // What somebody sends who has moved to where this node cannot follow looks like this.
        if matches!(reason, UnknownTag | HeaderSignature | NotAuthentic | Budget) {
            self.unplaced += 1;
        }
        self.rejections[reason as usize] += 1;
        self.tell(Event::Rejected { reason, sender });
    }

    /// Forgets closed epochs whose overlap is over.
    pub(super) fn close_expired(&mut self, now: Instant) {
        // They close in the order in which they began.
        let expired = |epoch: &OpenEpoch| epoch.closes.is_some_and(|closes| closes <= now);
        while self.closed.front().is_some_and(expired) {
            if let Some(epoch) = self.closed.pop_front() {
                self.over.take(epoch, now);
            }
        }
    }
}

impl Sender {
    fn heard(header: &Header, key: Box<dyn AeadKey>) -> Self {
        let mut window = ReplayWindow::default();
        window.update(header.counter);
        Self { salt: header.salt, key, window }
    }
}

/// Opens a frame into `buffer`, which then holds kind and body.
fn open(key: &dyn AeadKey, header: &Header, frame: &[u8], buffer: &mut Buffer) -> Result<(), Rejection> {
    let (associated, sealed) = frame.split_at(HEADER_LENGTH);
    let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG_LENGTH);
    buffer.clear();
    buffer.extend_from_slice(ciphertext);
    let tag = tag.try_into().expect("16 bytes");
    key.open(&header.nonce(), associated, buffer, tag).map_err(|_| Rejection::NotAuthentic)
}
