//! Sealing and opening lent to others: no counter and no window is ever in two places, and nothing else is different.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::fixture::*;
use crate::frame::FrameKind;
use crate::policy::Policy;
use crate::session::{Cause, Event, Input, NotSealed, Opened, Opener, Rejection, Sealer, SessionError};

/// Two members that have heard each other in one epoch.
fn acquainted() -> Network {
    let mut network = Network::of(2);
    network.tell_all(0, b"hello");
    network.tell_all(1, b"hello too");
    network.tell_all(0, b"and again");
    assert_eq!([0, 1].map(|at| network.epoch(at)), [1, 1]);
    network
}

fn seal(sealer: &mut Sealer, body: &[u8]) -> Result<Vec<u8>, NotSealed> {
    let mut frame = Vec::new();
    sealer.seal(FrameKind::Data, body, &mut frame).map(|()| frame)
}

/// The body, or why there is none; `None` if the frame is for the session.
fn open(opener: &mut Opener, frame: &[u8]) -> Option<Result<Vec<u8>, Rejection>> {
    match opener.open(frame) {
        Opened::Delivered(delivery) => Some(Ok(delivery.payload.to_vec())),
        Opened::Dropped(reason) => Some(Err(reason)),
        Opened::Elsewhere => None,
    }
}

#[test]
fn both_can_go_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Sealer>();
    is_send::<Opener>();
}

#[test]
fn a_frame_of_a_sealer_is_the_one_that_the_session_would_have_made() {
    let (mut lending, mut plain) = (acquainted(), acquainted());
    let mut sealer = lending.parties[0].session.lend_sealing().unwrap();
    assert_eq!(seal(&mut sealer, b"one").unwrap(), plain.send(0, b"one"));
    lending.parties[0].session.take_back_sealing(sealer);
    assert_eq!(lending.send(0, b"two"), plain.send(0, b"two"));
    let counted = |network: &Network| network.parties[0].session.transmitted();
    assert_eq!(counted(&lending), counted(&plain));
}

#[test]
fn frames_are_appended_for_a_batch() {
    let mut network = acquainted();
    let mut sealer = network.parties[0].session.lend_sealing().unwrap();
    let mut batch = Vec::new();
    for body in [&b"one"[..], b"three"] {
        sealer.seal(FrameKind::Data, body, &mut batch).unwrap();
    }
    let (one, three) = batch.split_at(45 + 3);
    assert_eq!(network.hear(1, one).payload(), Some(&b"one"[..]));
    assert_eq!(network.hear(1, three).payload(), Some(&b"three"[..]));
}

#[test]
fn while_sealing_is_lent_the_session_seals_nothing_and_changes_nothing() {
    let mut network = acquainted();
    network.wait(SECOND);
    let sealer = network.parties[0].session.lend_sealing().unwrap();
    assert!(network.parties[0].session.lend_sealing().is_none());
    let inputs = [
        Input::Send(FrameKind::Data, b"x"),
        Input::SendTo(1, FrameKind::Data, b"x"),
        Input::Send(FrameKind::Hello, b""),
        Input::Advance,
    ];
    for input in inputs {
        assert_eq!(network.input(0, input).result, Err(SessionError::Lent));
    }
    network.parties[0].session.take_back_sealing(sealer);
    assert!(!network.parties[0].session.has_lent());
    network.tell_all(0, b"again");
    network.advance(0);
}

#[test]
fn a_refused_input_recalls_the_sealer() {
    let mut network = acquainted();
    network.wait(SECOND);
    let mut sealer = network.parties[0].session.lend_sealing().unwrap();
    seal(&mut sealer, b"x").unwrap();
    assert_eq!(network.input(0, Input::Advance).result, Err(SessionError::Lent));
    assert_eq!(seal(&mut sealer, b"x"), Err(NotSealed::TakeBack));
}

#[test]
fn the_timer_is_not_lost_to_a_sealer() {
    let policy = Policy { rotate_after: SECOND * 10, ..Policy::default() };
    let mut network = Network::with(2, policy);
    network.tell_all(0, b"x");
    let sealer = network.parties[0].session.lend_sealing().unwrap();
    network.wait(SECOND * 90 / 8);
    assert_eq!(network.tick(0).result, Err(SessionError::Lent));
    network.parties[0].session.take_back_sealing(sealer);
    let due = network.parties[0].session.timeout();
    assert!(due.is_some_and(|due| due <= network.now));
    assert!(network.tick(0).tells(Event::EpochBegan { epoch: 1, cause: Cause::Age }));
}

#[test]
fn a_sealer_stops_at_the_limit_of_the_policy_and_the_session_moves_on() {
    let policy = Policy { rotate_after: Duration::ZERO, rotate_frames: 3, ..Policy::default() };
    let mut network = Network::with(2, policy);
    network.tell_all(0, b"0");
    network.wait(SECOND);
    let mut sealer = network.parties[0].session.lend_sealing().unwrap();
    seal(&mut sealer, b"1").unwrap();
    seal(&mut sealer, b"2").unwrap();
    assert_eq!(seal(&mut sealer, b"3"), Err(NotSealed::TakeBack));
    network.parties[0].session.take_back_sealing(sealer);
    assert!(network.parties[0].session.lend_sealing().is_none(), "a trigger has fired");
    assert_eq!(header(&network.send(0, b"3")).epoch, 1);
}

#[test]
fn a_sealer_stops_at_the_limit_of_the_cipher() {
    let mut network = acquainted();
    let session = &mut network.parties[0].session;
    let current = session.epochs.current.as_mut().unwrap();
    current.sending.as_mut().unwrap().counter = (1 << 28) - 1;
    let mut sealer = session.lend_sealing().unwrap();
    seal(&mut sealer, b"the last").unwrap();
    assert_eq!(seal(&mut sealer, b"x"), Err(NotSealed::TakeBack));
}

#[test]
fn a_sealer_refuses_what_the_session_would_refuse() {
    let mut network = acquainted();
    let most = network.parties[0].session.body_max();
    let mut sealer = network.parties[0].session.lend_sealing().unwrap();
    let mut out = Vec::new();
    let too_long = alloc::vec![0; most + 1];
    assert_eq!(sealer.seal(FrameKind::Data, &too_long, &mut out), Err(NotSealed::TooLong { most }));
    for kind in [FrameKind::Hello, FrameKind::Management] {
        assert_eq!(sealer.seal(kind, b"", &mut out), Err(NotSealed::WrongKind));
    }
    assert!(out.is_empty());
}

#[test]
fn when_the_epoch_ends_nothing_more_is_sealed_or_opened_in_it_by_others() {
    let mut network = acquainted();
    let mut sealer = network.parties[0].session.lend_sealing().unwrap();
    let mut opener = network.parties[0].session.lend_opening().unwrap();
    let late = network.send(1, b"late");
    network.wait(SECOND);
    let hello = network.advance(1).frame();
    assert!(network.accepts(0, &hello), "another member began the next epoch");
    assert_eq!(seal(&mut sealer, b"x"), Err(NotSealed::TakeBack));
    assert_eq!(open(&mut opener, &late), None);
    assert_eq!(network.input(0, Input::Frame(&late)).result, Err(SessionError::Lent));
    network.parties[0].session.take_back_opening(opener);
    assert_eq!(network.hear(0, &late).payload(), Some(&b"late"[..]), "it is still open for receiving");
    assert_eq!(network.try_send(0, b"x").result, Err(SessionError::Lent));
    network.parties[0].session.take_back_sealing(sealer);
    assert_eq!(header(&network.send(0, b"x")).epoch, 2);
}

#[test]
fn a_frame_is_opened_once_wherever_that_is() {
    let mut network = acquainted();
    let [one, two, three] = [b"1", b"2", b"3"].map(|body| network.send(1, body));
    assert!(network.accepts(0, &one));
    let mut opener = network.parties[0].session.lend_opening().unwrap();
    assert!(network.parties[0].session.lend_opening().is_none());
    assert_eq!(open(&mut opener, &one), Some(Err(Rejection::Duplicate)));
    assert_eq!(open(&mut opener, &two), Some(Ok(b"2".to_vec())));
    assert_eq!(network.input(0, Input::Frame(&three)).result, Err(SessionError::Lent));
    assert_eq!(open(&mut opener, &three), None, "it was recalled");
    network.parties[0].session.take_back_opening(opener);
    assert_eq!(network.drops(0, &two), Rejection::Duplicate);
    assert_eq!(network.hear(0, &three).payload(), Some(&b"3"[..]));
    assert_eq!(network.parties[0].session.rejected(Rejection::Duplicate), 2);
}

#[test]
fn an_opener_says_of_all_that_it_does_not_know_that_it_is_elsewhere() {
    let mut network = Network::of(3);
    network.tell_all(0, b"x");
    network.tell_all(1, b"x");
    let mut opener = network.parties[0].session.lend_opening().unwrap();
    let of_member_2 = network.craft_data(2, 1, 5, 0, b"heard for the first time");
    let second_salt = network.craft_data(1, 1, 6, 0, b"of a clone");
    let ahead = network.craft_data(1, 9, 7, 0, b"ahead");
    for frame in [&of_member_2, &second_salt, &ahead, &alloc::vec![0; 99], &Vec::new()] {
        assert_eq!(open(&mut opener, frame), None);
    }
    assert!(network.accepts(0, &of_member_2));
    assert!(network.hear(0, &second_salt).tells(Event::PossibleClone { sender: 1 }));
    assert!(network.accepts(0, &ahead));
}

#[test]
fn what_an_opener_drops_is_counted_when_it_is_back() {
    let mut network = acquainted();
    let good = network.send(1, b"x");
    let mut opener = network.parties[0].session.lend_opening().unwrap();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(open(&mut opener, &forged), Some(Err(Rejection::NotAuthentic)));
    assert_eq!(open(&mut opener, &good), Some(Ok(b"x".to_vec())));
    let delivered = network.parties[0].session.delivered();
    network.parties[0].session.take_back_opening(opener);
    assert_eq!(network.parties[0].session.delivered(), delivered + 1);
    assert_eq!(network.parties[0].session.rejected(Rejection::NotAuthentic), 1);
}

#[test]
fn a_sealer_that_is_lost_costs_an_epoch_and_no_nonce() {
    let mut network = acquainted();
    let mut sealer = network.parties[0].session.lend_sealing().unwrap();
    let sealed = header(&seal(&mut sealer, b"x").unwrap());
    drop(sealer);
    let next = header(&network.send(0, b"y"));
    assert_eq!((sealed.epoch, next.epoch), (1, 2));
}

#[test]
fn members_that_a_lost_opener_knew_are_heard_again_in_the_next_epoch() {
    let mut network = acquainted();
    drop(network.parties[0].session.lend_opening().unwrap());
    let frame = network.send(1, b"x");
    assert_eq!(network.drops(0, &frame), Rejection::EpochTooOld);
    let outcomes = network.together(&[0, 1], SECOND * 2);
    assert!(outcomes.iter().any(|(at, outcome)| *at == 0 && !outcome.frames().is_empty()));
    assert_eq!([0, 1].map(|at| network.epoch(at)), [2, 2]);
    let frame = network.send(1, b"y");
    assert!(network.accepts(0, &frame));
}

#[test]
fn what_another_session_lent_is_not_taken() {
    let (mut one, mut other) = (acquainted(), acquainted());
    let mut sealer = one.parties[0].session.lend_sealing().unwrap();
    let mut opener = one.parties[0].session.lend_opening().unwrap();
    seal(&mut sealer, b"x").unwrap();
    assert_eq!(open(&mut opener, &other.send(1, b"x")), Some(Ok(b"x".to_vec())));
    let before = (other.parties[0].session.transmitted(), other.parties[0].session.delivered());
    other.parties[0].session.take_back_sealing(sealer);
    other.parties[0].session.take_back_opening(opener);
    assert_eq!((other.parties[0].session.transmitted(), other.parties[0].session.delivered()), before);
}

#[test]
fn a_session_that_ends_recalls_what_it_lent() {
    let mut network = acquainted();
    let mut sealer = network.parties[0].session.lend_sealing().unwrap();
    let mut opener = network.parties[0].session.lend_opening().unwrap();
    let frame = network.send(1, b"x");
    network.restart(0);
    assert_eq!(seal(&mut sealer, b"x"), Err(NotSealed::TakeBack));
    assert_eq!(open(&mut opener, &frame), None);
}

#[test]
fn nothing_is_lent_before_there_is_something_to_lend() {
    let mut network = Network::of(2);
    let session = &mut network.parties[0].session;
    assert!(session.lend_sealing().is_none() && session.lend_opening().is_none());
    network.tell_all(1, b"x");
    assert!(network.parties[0].session.lend_sealing().is_none(), "it has made no frame in this epoch");
    assert!(network.parties[0].session.lend_opening().is_some());
    let mut provisioning = Network::provisioning();
    provisioning.tell_all(0, b"x");
    assert!(provisioning.parties[0].session.lend_sealing().is_none());
    assert!(provisioning.parties[1].session.lend_opening().is_none());
}

#[test]
fn debug_texts_of_what_is_lent_show_no_key() {
    let mut network = acquainted();
    let sealer = network.parties[0].session.lend_sealing().unwrap();
    let opener = network.parties[0].session.lend_opening().unwrap();
    assert_eq!(format!("{sealer:?} {opener:?}"), "Sealer { epoch: 1, .. } Opener { epoch: 1, .. }");
}

const MEMBERS: usize = 3;

#[derive(Clone, Debug)]
enum Action {
    Send(usize),
    SendTo(usize, usize),
    Advance(usize),
    /// One of all frames, counted from the latest, reaches a member that may still accept its epoch.
    Arrive {
        to: usize,
        frame: usize,
    },
    /// The same, with its last byte altered.
    Forge {
        to: usize,
        frame: usize,
    },
    LendSealing(usize),
    LendOpening(usize),
    TakeBackSealing(usize),
    TakeBackOpening(usize),
    Live(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let at = 0..MEMBERS;
    prop_oneof![
        8 => at.clone().prop_map(Action::Send),
        2 => (at.clone(), at.clone()).prop_map(|(at, to)| Action::SendTo(at, to)),
        1 => at.clone().prop_map(Action::Advance),
        16 => (at.clone(), 0..8usize).prop_map(|(to, frame)| Action::Arrive { to, frame }),
        2 => (at.clone(), 0..8usize).prop_map(|(to, frame)| Action::Forge { to, frame }),
        4 => at.clone().prop_map(Action::LendSealing),
        4 => at.clone().prop_map(Action::LendOpening),
        1 => at.clone().prop_map(Action::TakeBackSealing),
        1 => at.prop_map(Action::TakeBackOpening),
        1 => (0..1500u64).prop_map(Action::Live),
    ]
}

/// The same relationship twice: members that never lend, which also see to it that nothing is made twice, and members
/// that do.
struct Twice {
    plain: Network,
    lending: Network,
    sealers: [Option<Sealer>; MEMBERS],
    openers: [Option<Opener>; MEMBERS],
    sent: Vec<Vec<u8>>,
}

impl Twice {
    fn new() -> Self {
        let policy = Policy { rotate_after: SECOND * 3, rotate_frames: 7, ..Policy::default() };
        let network = || Network::with(MEMBERS, policy);
        Self {
            plain: network(),
            lending: network(),
            sealers: [const { None }; MEMBERS],
            openers: [const { None }; MEMBERS],
            sent: Vec::new(),
        }
    }

    /// Hands an input to both. Whatever is lent is taken back only where the session asks for it.
    fn input(&mut self, at: usize, input: Input<'_>) {
        let expected = self.plain.input(at, input);
        let mut outcome = self.lending.input(at, input);
        if outcome.result == Err(SessionError::Lent) {
            self.take_back_sealing(at);
            self.take_back_opening(at);
            outcome = self.lending.input(at, input);
        }
        assert_eq!((&outcome.result, &outcome.done), (&expected.result, &expected.done));
        self.sent.extend(expected.frames());
        self.sent.extend(expected.sent_to().into_iter().map(|(_, frame)| frame));
    }

    fn take_back_sealing(&mut self, at: usize) {
        if let Some(sealer) = self.sealers[at].take() {
            self.lending.parties[at].session.take_back_sealing(sealer);
        }
    }

    fn take_back_opening(&mut self, at: usize) {
        if let Some(opener) = self.openers[at].take() {
            self.lending.parties[at].session.take_back_opening(opener);
        }
    }

    fn send(&mut self, at: usize, body: &[u8]) {
        if let Some(sealer) = &mut self.sealers[at] {
            match seal(sealer, body) {
                Ok(frame) => {
                    assert_eq!(self.plain.send(at, body), frame);
                    self.sent.push(frame);
                    return;
                }
                Err(why) => assert_eq!(why, NotSealed::TakeBack),
            }
            self.take_back_sealing(at);
        }
        self.input(at, Input::Send(FrameKind::Data, body));
    }

    fn arrive(&mut self, to: usize, frame: &[u8]) {
        if let Some(opener) = &mut self.openers[to] {
            let opened = match opener.open(frame) {
                Opened::Delivered(delivery) => Some(Ok((delivery.newest, delivery.payload.to_vec()))),
                Opened::Dropped(reason) => Some(Err(reason)),
                Opened::Elsewhere => None,
            };
            if let Some(opened) = opened {
                let expected = self.plain.hear(to, frame);
                assert_eq!(opened.as_ref().err().copied(), expected.rejection());
                let heard = expected.heard().map(|heard| (heard.newest, heard.payload.clone()));
                assert_eq!(opened.ok(), heard);
                return;
            }
        }
        self.input(to, Input::Frame(frame));
    }

    fn live(&mut self, duration: Duration) {
        let end = self.plain.now + duration;
        for _ in 0..1000 {
            // Of one whose sealer was recalled by the end of its epoch the limit of frames is known when it is back.
            for at in 0..MEMBERS {
                self.take_back_sealing(at);
            }
            let timers = |network: &Network| {
                (0..MEMBERS).filter_map(|at| Some((network.parties[at].session.timeout()?, at))).min()
            };
            let due = timers(&self.plain);
            assert_eq!(timers(&self.lending), due);
            let Some((due, at)) = due.filter(|(due, _)| *due <= end) else { break };
            let now = self.plain.now.max(due);
            (self.plain.now, self.lending.now) = (now, now);
            self.input(at, Input::Timeout);
        }
        (self.plain.now, self.lending.now) = (end, end);
    }

    fn act(&mut self, step: usize, action: &Action) {
        let body = step.to_be_bytes();
        match *action {
            Action::Send(at) => self.send(at, &body),
            Action::SendTo(at, to) if at != to => {
                self.input(at, Input::SendTo(to as u16, FrameKind::Data, &body));
            }
            Action::SendTo(..) => {}
            Action::Advance(at) => self.input(at, Input::Advance),
            Action::Arrive { to, frame } | Action::Forge { to, frame } => {
                let Some(frame) = self.sent.iter().rev().nth(frame) else { return };
                let mut frame = frame.clone();
                // One that is told that it is behind is told by a hello, at a time that depends on who heard what first.
                let session = &self.plain.parties[to].session;
                let number = header(&frame).epoch;
                let is_ahead = session.stage.place().is_some_and(|place| place.is_ahead(number));
                if !is_ahead && session.epochs.open().all(|open| open.number != number) {
                    return;
                }
                if matches!(action, Action::Forge { .. }) {
                    *frame.last_mut().unwrap() ^= 1;
                }
                self.arrive(to, &frame);
            }
            Action::LendSealing(at) if self.sealers[at].is_none() => {
                self.sealers[at] = self.lending.parties[at].session.lend_sealing();
            }
            Action::LendOpening(at) if self.openers[at].is_none() => {
                self.openers[at] = self.lending.parties[at].session.lend_opening();
            }
            Action::LendSealing(_) | Action::LendOpening(_) => {}
            Action::TakeBackSealing(at) => self.take_back_sealing(at),
            Action::TakeBackOpening(at) => self.take_back_opening(at),
            Action::Live(milliseconds) => self.live(Duration::from_millis(milliseconds)),
        }
    }
}

proptest! {
    #[test]
    fn members_that_lend_make_and_deliver_the_same_as_members_that_do_not(
        actions in proptest::collection::vec(action(), 1..150)
    ) {
        let mut twice = Twice::new();
        for (step, action) in actions.iter().enumerate() {
            twice.act(step, action);
        }
        for at in 0..MEMBERS {
            twice.take_back_sealing(at);
            twice.take_back_opening(at);
            let sessions = [&twice.plain, &twice.lending].map(|network| &network.parties[at].session);
            let counted = sessions.map(|session| {
                (session.delivered(), session.transmitted(), Rejection::ALL.map(|why| session.rejected(why)))
            });
            prop_assert_eq!(&counted[0], &counted[1]);
        }
    }
}
