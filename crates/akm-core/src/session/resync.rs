//! Finding back, as one who asks (protocol, section 15): fallback, and the members' part of a failsafe.

use alloc::vec::Vec;
use core::time::Duration;

use super::budget::Budget;
use super::event::{FoundBack, Way};
use super::failsafe::Initiated;
use super::follow::distance;
use super::outbox::{Pending, Recipients, Step};
use super::stage::{Lost, Stage};
use super::{Event, Instant, Membership, Record, Rejection, Session, SessionError, Surroundings};
use crate::element::ElementError;
use crate::frame::{Header, is_signed};
use crate::keys::{self, ResyncPair, ResyncRequestRoot};
use crate::resync::{NONCE, Outside, Response, ResponseFrame, ResyncRequest};
use crate::sds::Tag;
use crate::tree::{NO_EPOCH, Place, rank};

use super::answer::Answers;

/// Members asked in one round.
const ASKED_MAX: usize = 3;

/// How long answers are waited for.
const ROUND: Duration = Duration::from_secs(2);

/// The pause after the first round that finds nothing. It doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two rounds that rest on a mere hint.
const LONGEST_HINT_PAUSE: Duration = Duration::from_secs(3600);

/// For this long nothing but frames that cannot be placed: a hint that the others went elsewhere.
const HINT_AFTER: Duration = Duration::from_secs(60);

/// After this many rounds in vain the node says that it needs its module. It goes on asking.
const ROUNDS_TOLD: u32 = 8;

/// In a failsafe of up to this many members each step may take 60 seconds: member 0 answers four
/// requests in a second. In larger relationships it is as many times longer.
const MEMBERS_A_MINUTE: usize = 128;

/// What a session knows of finding back.
pub(super) struct Resync {
    /// The tag of its frames.
    pub(super) tag: Tag,
    /// The highest run that this member knows of: that of a place it had, or of an answer that it got.
    pub(super) known_run: u32,
    /// From which the keys of requests follow; made when first needed.
    requests: Option<ResyncRequestRoot>,
    /// How long a failsafe waits for the others, and they for it.
    pub(super) pace: Duration,
    /// The phase of a relationship without place when it does not look for one.
    rests: Lost,
    pub(super) round: Option<Round>,
    /// When the next round begins.
    pub(super) next: Option<Instant>,
    pause: Duration,
    /// Rounds in vain.
    pub(super) rounds: u32,
    told: bool,
    /// Which member besides member 0 is asked next.
    turn: usize,
    /// Element calls for responses of which none has authenticated.
    pub(super) calls: Budget,
    unplaced_since: Option<Instant>,
    hint_allowed: Option<Instant>,
    hint_pause: Duration,
    confirming: Option<Confirming>,
    pub(super) answers: Answers,
    pub(super) initiated: Option<Initiated>,
    pub(super) failsafe_allowed: Option<Instant>,
    pub(super) failsafe_pause: Duration,
    pub(super) last: Option<FoundBack>,
}

/// Requests that are out, and the best answer so far.
pub(super) struct Round {
    asked: Vec<Asked>,
    ends: Instant,
    best: Option<Best>,
    challenged: Option<[u8; NONCE]>,
}

struct Asked {
    member: u16,
    nonce: [u8; NONCE],
    /// SHA-256 of what was asked, which the key of the answer follows from.
    body: [u8; 32],
    answered: bool,
}

struct Best {
    from: u16,
    run: u32,
    epoch: u32,
    /// With a cover; without one this member goes there by itself.
    place: Option<Place>,
}

/// Member 0 was told that this member has no place: until then it takes one from member 0 only.
struct Confirming {
    challenge: [u8; NONCE],
    until: Instant,
}

impl Round {
    /// Whether somebody has answered with a place.
    pub(super) fn has_answer(&self) -> bool {
        self.best.is_some()
    }
}

impl Resync {
    pub(super) fn new(
        digest: &[u8; 32],
        members: usize,
        stage: &Stage,
        known_run: u32,
        now: Instant,
    ) -> Self {
        let (is_lost, rests) = match stage {
            Stage::Lost(lost) => (true, *lost),
            _ => (false, Lost::WithoutPlace),
        };
        let pace = Duration::from_secs(60) * members.div_ceil(MEMBERS_A_MINUTE) as u32;
        Self {
            tag: keys::resync_tag(digest),
            known_run,
            requests: None,
            pace,
            rests,
            round: None,
            next: is_lost.then_some(now),
            pause: FIRST_PAUSE,
            rounds: 0,
            told: false,
            turn: 0,
            calls: Budget::default(),
            unplaced_since: None,
            hint_allowed: None,
            hint_pause: FIRST_PAUSE,
            confirming: None,
            answers: Answers::default(),
            initiated: None,
            failsafe_allowed: None,
            failsafe_pause: pace,
            last: None,
        }
    }

    /// When the time of something here comes.
    pub(super) fn due(&self) -> Option<Instant> {
        let asking = self.round.as_ref().map(|round| round.ends).or(self.next);
        let failsafe = self.initiated.as_ref().map(Initiated::due);
        [asking, failsafe].into_iter().flatten().min()
    }

    /// How many things are kept: bounded by the number of members and constants.
    pub(super) fn kept(&self) -> usize {
        self.round.as_ref().map_or(0, |round| round.asked.len())
            + self.answers.kept()
            + self.initiated.as_ref().map_or(0, Initiated::kept)
    }

    /// Something authentic was heard: this member is where the others are.
    pub(super) fn heard_authentic(&mut self) {
        self.unplaced_since = None;
        self.hint_pause = FIRST_PAUSE;
    }

    /// A frame was heard that belongs nowhere.
    pub(super) fn heard_unplaced(&mut self, now: Instant) {
        let since = *self.unplaced_since.get_or_insert(now);
        let allowed = self.hint_allowed.is_none_or(|allowed| allowed <= now);
        if since + HINT_AFTER <= now && allowed && self.round.is_none() {
            self.next = Some(now);
        }
    }

    /// All is well again: nothing to look for, whatever was asked for.
    pub(super) fn found(&mut self, found: FoundBack) {
        self.round = None;
        self.next = None;
        self.pause = FIRST_PAUSE;
        self.rounds = 0;
        self.told = false;
        self.unplaced_since = None;
        self.hint_allowed = None;
        self.hint_pause = FIRST_PAUSE;
        self.confirming = None;
        self.initiated = None;
        self.failsafe_allowed = None;
        self.failsafe_pause = self.pace;
        self.known_run = self.known_run.max(found.run);
        self.last = Some(found);
    }

    /// What was found could not be written: look again then.
    pub(super) fn look_again(&mut self, at: Instant) {
        self.next = Some(at);
    }

    pub(super) fn request_root(
        &mut self,
        surroundings: &mut Surroundings<'_>,
        membership: &Membership,
    ) -> Result<&ResyncRequestRoot, ElementError> {
        if self.requests.is_none() {
            self.requests = Some(membership.request_root(surroundings.element)?);
        }
        Ok(self.requests.as_ref().expect("it was just made"))
    }

    pub(super) fn has_request_root(&self) -> bool {
        self.requests.is_some()
    }
}

impl Session {
    /// Somewhere near this node frames are heard that belong to no relationship of it: a hint, like those that are dropped
    /// here, that the others may have moved to where this member cannot follow. They are counted elsewhere.
    pub fn hint(&mut self, now: Instant) {
        if self.stage.is_established()
            && let Some(resync) = &mut self.resync
        {
            resync.heard_unplaced(now);
        }
    }

    /// Takes a frame of class 1.
    pub(super) fn receive_resync(
        &mut self,
        header: &Header,
        frame: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let sender = Some(header.sender);
        let Some(resync) = &self.resync else { return self.reject(Rejection::Malformed, sender) };
        let Ok(outside) = Outside::parse(header, frame) else {
            return self.reject(Rejection::Malformed, sender);
        };
        if header.tag != resync.tag {
            return self.reject(Rejection::UnknownTag, sender);
        }
        if usize::from(header.sender) >= self.membership.sds().members().len() {
            return self.reject(Rejection::NotAMember, sender);
        }
        if header.sender == self.membership.index() {
            return self.reject(Rejection::OwnFrame, sender);
        }
        if let Some(reason) = self.open_keys_for_frame(surroundings)? {
            return self.reject(reason, sender);
        }
        if !self.membership.header_key().is_some_and(|key| is_signed(frame, key)) {
            return self.reject(Rejection::HeaderSignature, sender);
        }
        let rejected = match outside {
            Outside::Request(request) => self.receive_request(header.sender, &request, surroundings)?,
            Outside::Response(response) => self.receive_response(header.sender, &response, surroundings)?,
        };
        match rejected {
            Some(reason) => self.reject(reason, sender),
            None => Ok(()),
        }
    }

    /// The time of a round, a pause or a failsafe has come.
    pub(super) fn on_resync_timeout(
        &mut self,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let now = surroundings.now;
        let resync = self.resync.as_ref().expect("the caller saw that something is due");
        if resync.initiated.as_ref().is_some_and(|initiated| initiated.due() <= now) {
            return self.on_failsafe_timeout(surroundings);
        }
        if resync.round.is_some() { self.finish_round(surroundings) } else { self.begin_round(surroundings) }
    }

    fn begin_round(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        self.open_keys(surroundings)?;
        let now = surroundings.now;
        let (index, sds) = (self.membership.index(), self.membership.sds());
        let (suite, members) = (sds.suite(), sds.members().len());
        let place = self.stage.place().map(|place| (place.run(), place.epoch()));
        let resync = self.resync.as_mut().expect("the caller saw that something is due");
        let known_run = resync.known_run;
        resync.request_root(surroundings, &self.membership)?;
        resync.confirming.take_if(|confirming| confirming.until <= now);
        let challenge = resync.confirming.as_ref().map(|confirming| confirming.challenge);
        let mut ask: Vec<u16> = if index == 0 { Vec::new() } else { Vec::from([0]) };
        if challenge.is_none() {
            let others: Vec<u16> = (1..members as u16).filter(|other| *other != index).collect();
            let more = others.len().min(ASKED_MAX - ask.len());
            ask.extend((0..more).map(|step| others[(resync.turn + step) % others.len()]));
            resync.turn = (resync.turn + more) % others.len().max(1);
        }
        let ends = now + ROUND;
        let mut asked = Vec::new();
        for member in ask {
            let nonce = self.draw_nonce(surroundings);
            let (run, epoch) = place.unwrap_or((known_run, NO_EPOCH));
            let request = ResyncRequest { asked: member, has_place: place.is_some(), run, epoch, challenge };
            let salt = self.epochs.draw_salt(surroundings.random);
            let resync = self.resync.as_ref().expect("it was there");
            let requests = resync.requests.as_ref().expect("it was made above");
            let key = self.provider.aead(suite, requests.request_key(index, &nonce).expose());
            let header_key = self.membership.header_key().expect("it was opened above");
            let frame = request.seal(&*key, header_key, (resync.tag, index, salt), &nonce);
            self.queue_to(member, &frame);
            asked.push(Asked { member, nonce, body: request.digest(), answered: false });
        }
        let resync = self.resync.as_mut().expect("it was there");
        resync.next = None;
        resync.round = Some(Round { asked, ends, best: None, challenged: None });
        if self.stage.is_lost() && !resync.told {
            self.stage = Stage::Lost(Lost::Resyncing);
        }
        Ok(())
    }

    fn receive_response(
        &mut self,
        sender: u16,
        response: &ResponseFrame<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Option<Rejection>, SessionError> {
        let now = surroundings.now;
        let (index, suite) = (self.membership.index(), self.membership.sds().suite());
        let resync = self.resync.as_mut().expect("the caller has it");
        let request_nonce = response.request_nonce();
        let expected =
            |asked: &Asked| asked.member == sender && asked.nonce == request_nonce && !asked.answered;
        let asked = resync.round.as_ref().and_then(|round| {
            let at = round.asked.iter().position(expected)?;
            Some((at, round.asked[at].body))
        });
        let Some((at, request_body)) = asked else { return Ok(Some(Rejection::NotAsked)) };
        let Some(made) = resync.calls.take_for(sender.into(), now) else {
            return Ok(Some(Rejection::Budget));
        };
        let response_nonce = response.response_nonce();
        let pair =
            ResyncPair { requester: index, responder: sender, request_nonce, response_nonce, request_body };
        let key = self.membership.response_key(&pair, surroundings.element);
        resync.calls.settle(sender.into(), made, &key);
        let opened = response.open(&*self.provider.aead(suite, key?.expose()));
        let Ok(opened) = opened else { return Ok(Some(Rejection::NotAuthentic)) };
        let resync = self.resync.as_mut().expect("it was there");
        resync.calls.give_back(made);
        let held = resync.confirming.as_ref().is_some_and(|confirming| now < confirming.until);
        let round = resync.round.as_mut().expect("it was there");
        round.asked[at].answered = true;
        if round.asked.iter().all(|asked| asked.answered) {
            round.ends = now;
        }
        let (run, epoch, place) = match opened {
            Response::Challenge(challenge) => {
                if sender == 0 && self.stage.is_lost() && self.active {
                    round.challenged = Some(challenge);
                }
                return Ok(None);
            }
            Response::Position { run, epoch } => (run, epoch, None),
            Response::Place(place) => (place.run(), place.epoch(), Some(place)),
        };
        if let Some(resync) = &mut self.resync {
            resync.known_run = resync.known_run.max(run);
        }
        // Who has told member 0 that it has no place takes none from others meanwhile.
        let from_whom = !held || sender == 0;
        let reachable = place.is_some() || self.stage.place().is_some_and(|own| own.run() == run);
        let ahead_of = |other: Option<(u32, u32)>| {
            other.is_none_or(|(other_run, other)| (run, rank(epoch)) > (other_run, rank(other)))
        };
        let own = self.stage.place().map(|own| (own.run(), own.epoch()));
        if let Some((own_run, own_epoch)) = own
            && own_run == run
            && !self.follow.reaches(distance(own_epoch, epoch), now)
        {
            return Ok(Some(self.note_far(sender, distance(own_epoch, epoch), now)));
        }
        let round = self.resync.as_mut().and_then(|resync| resync.round.as_mut()).expect("it was there");
        let best = round.best.as_ref().map(|best| (best.run, best.epoch));
        if from_whom && reachable && ahead_of(own) && ahead_of(best) {
            round.best = Some(Best { from: sender, run, epoch, place });
        }
        Ok(None)
    }

    fn finish_round(&mut self, surroundings: &mut Surroundings<'_>) -> Result<(), SessionError> {
        let now = surroundings.now;
        let resync = self.resync.as_mut().expect("the caller has it");
        let round = resync.round.as_mut().expect("the caller saw it");
        if let Some(best) = &mut round.best {
            let way = if resync.confirming.is_some() && best.from == 0 {
                Way::Failsafe
            } else {
                Way::Fallback { from: best.from }
            };
            let own = self.stage.place();
            let place = match best.place.as_ref() {
                Some(place) => Some(place.duplicate()),
                // This member may have moved on since it asked.
                None => own.and_then(|own| own.at(best.epoch)),
            };
            let place = place.filter(|place| {
                own.is_none_or(|own| (place.run(), rank(place.epoch())) > (own.run(), rank(own.epoch())))
            });
            if let Some(place) = place {
                self.take_place(place, way, surroundings)?;
                self.resync.as_mut().expect("it was there").round = None;
                return Ok(());
            }
        }
        let challenged = resync.round.take().and_then(|round| round.challenged);
        if !self.stage.is_lost() {
            resync.hint_allowed = Some(now + resync.hint_pause);
            resync.hint_pause = (resync.hint_pause * 2).min(LONGEST_HINT_PAUSE);
            return Ok(());
        }
        let held = resync.confirming.as_ref().is_some_and(|confirming| now < confirming.until);
        match challenged {
            Some(challenge) if !held => {
                resync.confirming = Some(Confirming { challenge, until: now + resync.pace });
                resync.next = Some(now);
                return Ok(());
            }
            _ if held => {
                resync.next = Some(now + resync.pace / 20);
                return Ok(());
            }
            _ => {}
        }
        resync.rounds += 1;
        let mut random = [0; 2];
        surroundings.random.fill(&mut random);
        let share = u32::from(u16::from_be_bytes(random));
        let pause = resync.pause / 2 + resync.pause * share / u32::from(u16::MAX) / 2;
        resync.next = Some(now + pause);
        resync.pause = (resync.pause * 2).min(resync.pace / 3);
        if resync.rounds >= ROUNDS_TOLD && !resync.told && resync.initiated.is_none() {
            self.needs_module();
        }
        Ok(())
    }

    /// Says, once, that nobody who can be reached has a place.
    pub(super) fn needs_module(&mut self) {
        let resync = self.resync.as_mut().expect("the caller has it");
        if core::mem::replace(&mut resync.told, true) {
            return;
        }
        self.stage = Stage::Lost(resync.rests);
        self.tell(Event::NeedsModule);
    }

    /// Computes what follows from a place that was found or made; it is used when it is durable.
    pub(super) fn take_place(
        &mut self,
        place: Place,
        way: Way,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let (header_key, tag) = self.membership.run_header(place.run(), surroundings.element)?;
        let before = self.stage.place().map(|own| (own.run(), own.epoch()));
        // A member that gives a place may be behind what this one has heard before it lost its own.
        let may_have_a_past = before.is_none() && matches!(way, Way::Fallback { .. });
        let further = if may_have_a_past { super::jump(self.membership.sds(), &place) } else { None };
        let (has_jumped, place) = (further.is_some(), further.unwrap_or(place));
        let found = FoundBack { way, before, run: place.run(), epoch: place.epoch() };
        let record = Record::Place(place.emit());
        let step = Step::FindBack { place, header_key, tag, found, has_jumped };
        let mut pending = Pending::new(record, step, surroundings.now).after(Record::FoundBack(found));
        if !self.active {
            pending = pending.after(Record::Activated);
        }
        self.outbox.hold(pending);
        Ok(())
    }

    /// Sixteen bytes that neither a weak system generator nor a weak element can make predictable.
    pub(super) fn draw_nonce(&self, surroundings: &mut Surroundings<'_>) -> [u8; NONCE] {
        *self.epochs.draw(b"nonce", surroundings.random).first_chunk().expect("16 of 32 bytes")
    }

    pub(super) fn queue_to(&mut self, member: u16, frame: &[u8]) {
        let mut buffer = self.outbox.spare();
        buffer.extend_from_slice(frame);
        self.outbox.transmit(Recipients::One(member), buffer);
    }
}
