//! Receiving a frame of the sessions, in the order of checks of the protocol, section 7.

use core::time::Duration;

use super::advance::epoch_secret;
use super::buffer::Buffer;
use super::epochs::{OpenEpoch, Pinned, Salt, Sender, Unproven, open};
use super::follow::distance;
use super::outbox::{Pending, Received, Step};
use super::{Event, Record, Rejection, Session, SessionError, Surroundings};
use crate::element::ElementError;
use crate::frame::{Class, FrameKind, Header, is_signed};
use crate::keys::EpochSecret;
use crate::sds::Kind;
use crate::tree::Place;

impl Session {
    /// Takes bytes off a transport, in the order of checks of the protocol, section 7. The first
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
        let before = self.counts.unplaced();
        let result = self.receive_of_session(&header, frame, surroundings);
        if self.counts.unplaced() > before
            && self.stage.is_established()
            && !self.lent.has_opening()
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
        if self.stage.is_lost() {
            return self.reject(Rejection::NoPlace, sender);
        }
        self.claim_opening(header)?;
        let (buffer, is_above, salt) = match self.open_in_open_epoch(header, frame) {
            Some(Ok(opened)) => opened,
            Some(Err(reason)) => return self.reject(reason, sender),
            None => return self.receive_in_other_epoch(header, frame, surroundings),
        };
        let is_current = self.epochs.is_current(header.epoch);
        match salt {
            None | Some(Salt::First) => {}
            Some(Salt::Further) => {
                self.counts.reject(Rejection::PossibleClone);
                self.tell(Event::PossibleClone { sender: header.sender });
            }
            Some(Salt::Refused { first }) => {
                self.outbox.recycle(buffer);
                if first {
                    self.tell(Event::PossibleClone { sender: header.sender });
                }
                if is_current && self.stage.is_established() {
                    // Whoever was muted by salts in his name is heard again in the next epoch.
                    let mut random = [0; 2];
                    surroundings.random.fill(&mut random);
                    self.due.want_for_salts(u16::from_be_bytes(random), surroundings.now);
                }
                return self.reject(Rejection::PossibleClone, sender);
            }
        }
        if is_current {
            self.due.hear_current();
            self.again.end();
        }
        self.accept(header, buffer, is_above);
        Ok(())
    }

    /// Opens a frame of an epoch that is open; `None` if this is not one. With whether it is above all under its salt, and
    /// what comes of its salt if that was not heard before.
    #[expect(clippy::type_complexity, reason = "used once")]
    fn open_in_open_epoch(
        &mut self,
        header: &Header,
        frame: &[u8],
    ) -> Option<Result<(Buffer, bool, Option<Salt>), Rejection>> {
        let members = self.membership.sds().members().len();
        let epoch = self.epochs.open_mut(header.epoch)?;
        let (provider, suite) = (self.provider, self.membership.sds().suite());
        let mut buffer = self.outbox.spare();
        let opened = match epoch.senders.get_mut(&(header.sender, header.salt)) {
            Some(Sender { ear: Some(ear) }) => {
                ear.open(header, frame, &mut buffer).map(|is_above| (is_above, None))
            }
            // An opener was lost, and what it accepted with it.
            Some(Sender { ear: None }) => Err(Rejection::EpochTooOld),
            // Making a key costs work: strangers do not get that far.
            None if !self.header_key.as_ref().is_some_and(|key| is_signed(frame, key)) => {
                Err(Rejection::HeaderSignature)
            }
            None => {
                let key = epoch.secret.sender_key(header.sender, header.salt);
                let key = provider.aead(suite, key.expose());
                let opened = open(&*key, header, frame, &mut buffer);
                opened.map(|()| (true, Some(epoch.hear(header, key, members))))
            }
        };
        Some(match opened {
            Ok((is_above, salt)) => Ok((buffer, is_above, salt)),
            Err(reason) => {
                self.outbox.recycle(buffer);
                Err(reason)
            }
        })
    }

    /// Takes a frame of an epoch that is not open: one that lies ahead, or one that is over.
    fn receive_in_other_epoch(
        &mut self,
        header: &Header,
        frame: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let sender = Some(header.sender);
        if self.header_key.is_none()
            && let Some(reason) = self.open_keys_for_frame(surroundings)?
        {
            return self.reject(reason, sender);
        }
        let is_signed = self.header_key.as_ref().is_some_and(|key| is_signed(frame, key));
        if self.stage.place().and_then(|place| place.ahead(header.epoch)).is_none() {
            if is_signed {
                self.answer_too_old(surroundings)?;
            }
            return self.reject(Rejection::EpochTooOld, sender);
        }
        if !is_signed {
            return self.reject(Rejection::HeaderSignature, sender);
        }
        let (now, distance) = (surroundings.now, distance(self.epoch(), header.epoch));
        if !self.follow.reaches(distance, now) {
            let reason = self.note_far(header.sender, distance, now);
            return self.reject(reason, sender);
        }
        if !self.follow.may(now) {
            return self.reject(Rejection::Budget, sender);
        }
        let pinned = self.pinned();
        let (at, unproven) = match self.epochs.take_unproven(header.epoch) {
            Some(found) => found,
            None => match self.ask_for_frame(header.epoch, pinned, surroundings)? {
                Some((secret, cost)) => {
                    let unproven = Unproven { number: header.epoch, secret, cost };
                    (self.epochs.make_room(header.epoch, pinned), unproven)
                }
                None => return self.reject(Rejection::Budget, sender),
            },
        };
        let key = unproven.secret.sender_key(header.sender, header.salt);
        let key = self.provider.aead(self.membership.sds().suite(), key.expose());
        let mut buffer = self.outbox.spare();
        if let Err(reason) = open(&*key, header, frame, &mut buffer) {
            self.epochs.put_back(at, unproven);
            self.outbox.recycle(buffer);
            return self.reject(reason, sender);
        }
        if let Some(time) = surroundings.element.time() {
            let passed = self.epochs.take_costs_until(header.epoch);
            time.give_back(passed + unproven.cost.unwrap_or_default());
            time.pass(header.epoch);
        }
        let Some(place) = self.stage.place().and_then(|place| place.at(header.epoch)) else {
            return self.reject(Rejection::EpochTooOld, sender);
        };
        let mut epoch = OpenEpoch::new(header.epoch, unproven.secret);
        epoch.hear(header, key, self.membership.sds().members().len());
        let activates = self.stage.is_staged();
        let record = Record::Place(place.emit());
        let step = Step::Adopt { place, epoch, header: *header, buffer, activates };
        let pending = Pending::new(record, step, surroundings.now);
        self.outbox.hold(if activates { pending.after(Record::Activated) } else { pending });
        Ok(())
    }

    /// The epochs whose secrets are kept whatever else is named.
    pub(super) fn pinned(&self) -> Pinned {
        let next = self.stage.place().and_then(Place::next_epoch);
        [next, next.and_then(|next| next.checked_add(self.membership.policy().jump.into()))]
    }

    /// The secret of an epoch that a frame names, which has not authenticated, and what that has cost. `None`: the element is
    /// not to be asked at this time.
    fn ask_for_frame(
        &mut self,
        epoch: u32,
        pinned: Pinned,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Option<(EpochSecret, Option<Duration>)>, ElementError> {
        let (now, is_exempt) = (surroundings.now, self.epochs.is_exempt(epoch, pinned));
        let time = surroundings.element.time().filter(|_| !is_exempt);
        let may_ask = time.is_none_or(|time| time.may_ask(epoch, now));
        let ahead = self.stage.place().and_then(|place| place.ahead(epoch)).filter(|_| may_ask);
        let Some(ahead) = ahead else { return Ok(None) };
        let secret = epoch_secret(&self.membership, ahead, surroundings);
        if matches!(secret, Err(ElementError::Unanswered)) {
            return Err(ElementError::Unanswered);
        }
        if is_exempt && secret.is_err() {
            self.epochs.fail(epoch);
        }
        let time = surroundings.element.time().filter(|_| !is_exempt);
        let cost = time.map(|time| time.made(epoch));
        Ok(Some((secret?, cost)))
    }

    /// Queues what an authentic frame said, or drops it if its kind has no place here. It is above all under its salt or
    /// is not.
    pub(super) fn accept(&mut self, header: &Header, buffer: Buffer, is_above: bool) {
        if let Some(resync) = &mut self.resync {
            resync.heard_authentic();
        }
        let (index, epoch) = (header.sender, header.epoch);
        let newest = self.epochs.hear(index, epoch, is_above);
        match FrameKind::from_number(buffer[0]).filter(|kind| self.carries(*kind, &buffer[1..])) {
            Some(kind) => self.outbox.deliver(Received { index, epoch, kind, newest }, buffer),
            None => {
                self.outbox.recycle(buffer);
                self.count(Rejection::UnexpectedKind, Some(index));
            }
        }
    }

    /// Whether this relationship carries such a frame.
    pub(super) fn carries(&self, kind: FrameKind, body: &[u8]) -> bool {
        kind.fits(self.membership.sds().kind(), body)
    }

    /// Lets a sender that is behind learn of the current epoch.
    fn answer_too_old(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        let now = surroundings.now;
        if !self.stage.is_established() || !self.due.may_reply(now) {
            return Ok(());
        }
        if self.membership.sds().kind() == Kind::Provisioning {
            let result = self.say_hello(surroundings);
            if !matches!(result, Err(SessionError::Element(ElementError::Unanswered))) {
                self.due.reply_at_once(now);
            }
            return match result {
                // Whoever sent this frame did nothing wrong, and this node cannot do better.
                Err(SessionError::EpochsUsedUp) => Ok(()),
                result => result,
            };
        }
        let mut random = [0; 2];
        surroundings.random.fill(&mut random);
        self.due.reply_after(u16::from_be_bytes(random), now);
        Ok(())
    }

    pub(super) fn reject(&mut self, reason: Rejection, sender: Option<u16>) -> Result<(), SessionError> {
        self.count(reason, sender);
        Ok(())
    }

    fn count(&mut self, reason: Rejection, sender: Option<u16>) {
        self.counts.reject(reason);
        self.tell(Event::Rejected { reason, sender });
    }
}
