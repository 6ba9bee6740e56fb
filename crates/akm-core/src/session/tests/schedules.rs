//! Random schedules among three members, with named invariants after every step. The network may
//! lose, repeat and reorder anything that was ever sent; strangers with the header key add frames.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::fixture::*;
use crate::policy::Policy;
use crate::session::{Event, FoundBack, Input, Phase, SessionError};
use crate::tree::NO_EPOCH;

const MEMBERS: usize = 3;

/// Sender, epoch, salt and counter: with the sender's key this is key and nonce.
type Name = (u16, u32, u64, u32);

#[derive(Clone, Debug)]
enum Action {
    Send(usize),
    Advance(usize),
    /// One of all frames ever sent, counted from the latest, reaches a member.
    Arrive {
        to: usize,
        frame: usize,
    },
    Forge {
        to: usize,
        sender: u16,
        ahead: u32,
    },
    Restart(usize),
    /// The process is killed and its place is gone.
    Lose(usize),
    /// One of all frames to find back, counted from the latest, reaches the member that it is for.
    Pass(usize),
    /// The disk takes this many more writes; then the process is killed.
    DieWriting {
        at: usize,
        writes: usize,
    },
    DiskFails(usize, bool),
    ElementFails(usize, bool),
    /// Time goes by, and every timer is served.
    Live(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let at = 0..MEMBERS;
    prop_oneof![
        8 => at.clone().prop_map(Action::Send),
        2 => at.clone().prop_map(Action::Advance),
        16 => (at.clone(), 0..6usize).prop_map(|(to, frame)| Action::Arrive { to, frame }),
        4 => (at.clone(), any::<usize>()).prop_map(|(to, frame)| Action::Arrive { to, frame }),
        2 => (at.clone(), 0..MEMBERS as u16, 0..3u32)
            .prop_map(|(to, sender, ahead)| Action::Forge { to, sender, ahead }),
        2 => at.clone().prop_map(Action::Restart),
        1 => at.clone().prop_map(Action::Lose),
        6 => (0..6usize).prop_map(Action::Pass),
        1 => any::<usize>().prop_map(Action::Pass),
        1 => (at.clone(), 0..2usize).prop_map(|(at, writes)| Action::DieWriting { at, writes }),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, fails)| Action::DiskFails(at, fails)),
        1 => (at, any::<bool>()).prop_map(|(at, fails)| Action::ElementFails(at, fails)),
        4 => (0..3000u64).prop_map(Action::Live),
    ]
}

struct World {
    network: Network,
    sent: Vec<Vec<u8>>,
    bodies: BTreeMap<Name, Vec<u8>>,
    delivered: [BTreeSet<Name>; MEMBERS],
    /// The durable epoch of each member when it started.
    floor: [u32; MEMBERS],
    durable: [u32; MEMBERS],
    dying: [bool; MEMBERS],
    /// Frames to find back, and whom they are for.
    asked: Vec<(usize, Vec<u8>)>,
    /// Whether the place was taken away and none was found since.
    lost: [bool; MEMBERS],
    run: [u32; MEMBERS],
    next_body: u32,
}

/// Orders epochs with "none yet" below all others.
fn rank(epoch: u32) -> u32 {
    epoch.wrapping_add(1)
}

impl World {
    fn new() -> Self {
        let policy = Policy {
            rotate_after: SECOND * 3,
            rotate_frames: 5,
            advance_interval: MILLISECOND * 500,
            overlap: SECOND * 2,
            ..Policy::default()
        };
        Self {
            network: Network::with(MEMBERS, policy),
            sent: Vec::new(),
            bodies: BTreeMap::new(),
            delivered: Default::default(),
            floor: [NO_EPOCH; MEMBERS],
            durable: [NO_EPOCH; MEMBERS],
            dying: [false; MEMBERS],
            asked: Vec::new(),
            lost: [false; MEMBERS],
            run: [0; MEMBERS],
            next_body: 0,
        }
    }

    fn step(&mut self, action: &Action) {
        match *action {
            Action::Send(at) => {
                self.send(at);
            }
            Action::Advance(at) => {
                let outcome = self.network.input(at, Input::Advance);
                self.watch(at, None, &outcome);
            }
            Action::Arrive { to, frame } => {
                if !self.sent.is_empty() {
                    let frame = self.sent[self.sent.len() - 1 - frame % self.sent.len()].clone();
                    self.arrive(to, &frame);
                }
            }
            Action::Forge { to, sender, ahead } => {
                let epoch = rank(self.durable[to]).saturating_add(ahead).saturating_sub(1);
                let frame = self.network.forge(sender, epoch, 9, 0);
                self.arrive(to, &frame);
            }
            Action::Restart(at) => self.restart(at),
            Action::Lose(at) => {
                self.network.parties[at].disk.place = None;
                self.lost[at] = true;
                self.restart(at);
            }
            Action::Pass(frame) => {
                if !self.asked.is_empty() {
                    let (to, frame) = self.asked[self.asked.len() - 1 - frame % self.asked.len()].clone();
                    self.arrive(to, &frame);
                }
            }
            Action::DieWriting { at, writes } => {
                self.network.parties[at].disk.writes_left = Some(writes);
                self.dying[at] = true;
            }
            Action::DiskFails(at, fails) => {
                self.network.parties[at].disk.writes_left = fails.then_some(0);
                self.dying[at] = false;
            }
            Action::ElementFails(at, fails) => self.network.parties[at].element.fails = fails,
            Action::Live(milliseconds) => self.live(Duration::from_millis(milliseconds)),
        }
        self.epochs_never_go_back();
    }

    fn send(&mut self, at: usize) -> Option<Vec<u8>> {
        self.next_body += 1;
        let body = self.next_body.to_be_bytes();
        let outcome = self.network.try_send(at, &body);
        let frames = outcome.frames();
        if let [frame] = &frames[..] {
            self.bodies.insert(name(frame), body.to_vec());
        }
        self.watch(at, None, &outcome);
        frames.into_iter().next()
    }

    fn arrive(&mut self, to: usize, frame: &[u8]) -> bool {
        let outcome = self.network.input(to, Input::Frame(frame));
        self.watch(to, Some(frame), &outcome);
        outcome.heard().is_some()
    }

    fn live(&mut self, duration: Duration) {
        let end = self.network.now + duration;
        for served in 0.. {
            assert!(served < 1000, "a timer spins");
            let due = (0..MEMBERS)
                .filter_map(|at| Some((self.network.parties[at].session.timeout()?, at)))
                .min()
                .filter(|(due, _)| *due <= end);
            let Some((due, at)) = due else { break };
            self.network.now = self.network.now.max(due);
            let outcome = self.network.tick(at);
            self.watch(at, None, &outcome);
        }
        self.network.now = end;
    }

    fn restart(&mut self, at: usize) {
        self.network.parties[at].disk.writes_left = None;
        self.dying[at] = false;
        // The engine cannot start without its element: the host would wait for it.
        self.network.parties[at].element.fails = false;
        self.network.restart(at);
        self.floor[at] = self.network.parties[at].disk.epoch();
    }

    fn watch(&mut self, at: usize, arrived: Option<&[u8]>, outcome: &Outcome) {
        match &outcome.result {
            Ok(()) | Err(SessionError::Element(_)) => {}
            Err(SessionError::NotActive(_)) if self.lost[at] => {}
            Err(other) => panic!("nobody did anything wrong: {other}"),
        }
        for done in &outcome.done {
            match done {
                Done::Sent(frame) => self.no_key_and_nonce_twice(frame),
                Done::Delivered(heard) => {
                    let name = name(arrived.expect("only a frame is delivered"));
                    self.nothing_delivered_that_no_member_sent(name, heard);
                    self.nothing_delivered_twice(at, name);
                    self.nothing_accepted_from_before_the_start(at, name);
                }
                Done::WriteFailed if self.dying[at] => {
                    self.restart(at);
                    return;
                }
                Done::SentTo(to, frame) => self.asked.push((usize::from(*to), frame.clone())),
                Done::Told(Event::FoundBack(found)) => self.nobody_adopts_a_lower_place(at, found),
                Done::WriteFailed | Done::Activated | Done::Noted(_) | Done::Wrote(_) | Done::Told(_) => {}
            }
        }
    }

    fn no_key_and_nonce_twice(&mut self, frame: &[u8]) {
        assert!(!self.sent.iter().any(|other| name(other) == name(frame)), "key and nonce used twice");
        self.bodies.entry(name(frame)).or_default();
        self.sent.push(frame.to_vec());
    }

    fn nothing_delivered_that_no_member_sent(&self, name: Name, heard: &Heard) {
        assert_eq!(self.bodies.get(&name), Some(&heard.payload), "delivered what nobody sent");
        assert_eq!(heard.index, name.0);
    }

    fn nothing_delivered_twice(&mut self, at: usize, name: Name) {
        assert!(self.delivered[at].insert(name), "delivered twice: {name:?}");
    }

    fn nothing_accepted_from_before_the_start(&self, at: usize, name: Name) {
        assert!(rank(name.1) > rank(self.floor[at]), "accepted from before the start: {name:?}");
    }

    fn nobody_adopts_a_lower_place(&mut self, at: usize, found: &FoundBack) {
        if self.lost[at] {
            // Frames above the place that it was given may be accepted once more.
            self.delivered[at].clear();
        } else {
            let own = (self.run[at], rank(self.durable[at]));
            assert!((found.run, rank(found.epoch)) > own, "adopts {found:?} and has {own:?}");
        }
        (self.run[at], self.durable[at], self.lost[at]) = (found.run, found.epoch, false);
        self.floor[at] = found.epoch;
    }

    fn epochs_never_go_back(&mut self) {
        for at in (0..MEMBERS).filter(|at| !self.lost[*at]) {
            let durable = self.network.parties[at].disk.epoch();
            assert_eq!(durable, self.network.epoch(at), "the session is where its disk is");
            let run = self.network.run(at);
            assert!((run, rank(durable)) >= (self.run[at], rank(self.durable[at])), "went back");
            (self.run[at], self.durable[at]) = (run, durable);
        }
    }

    /// Members without place find back, by one that has one or all together.
    fn all_find_back(&mut self) {
        let all: Vec<usize> = (0..MEMBERS).collect();
        let established = |world: &Self, at: usize| world.network.phase(at) == Phase::Established;
        let looks = |world: &Self| all.iter().any(|at| !established(world, *at));
        for _ in 0..140 {
            if !looks(self) {
                return;
            }
            self.network.together(&all, SECOND * 30);
        }
        assert!(!looks(self), "somebody does not find back");
    }

    /// Whatever happened: when disks, elements and network work again, two rounds bring all together.
    fn all_find_together_again(&mut self) {
        for at in 0..MEMBERS {
            self.network.parties[at].disk.writes_left = None;
            self.network.parties[at].element.fails = false;
            self.dying[at] = false;
        }
        if self.lost.contains(&true) {
            self.all_find_back();
            for at in 0..MEMBERS {
                self.delivered[at].clear();
                self.floor[at] = NO_EPOCH;
            }
        }
        // A member that heard of no frame since its own last one may be told only now where the others are.
        for round in 0..2 {
            for at in 0..MEMBERS {
                self.network.wait(SECOND);
                let frame = self.send(at).expect("nothing fails any more");
                for other in (0..MEMBERS).filter(|other| *other != at) {
                    let accepted = self.arrive(other, &frame);
                    assert!(accepted || round == 0, "{other} does not hear {at}");
                }
            }
        }
        let epochs: BTreeSet<u32> = (0..MEMBERS).map(|at| self.network.epoch(at)).collect();
        assert_eq!(epochs.len(), 1, "{epochs:?}");
    }
}

fn name(frame: &[u8]) -> Name {
    let header = header(frame);
    (header.sender, header.epoch, header.salt, header.counter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn invariants_hold_in_every_schedule(actions in proptest::collection::vec(action(), 1..150)) {
        let mut world = World::new();
        for action in &actions {
            world.step(action);
        }
        world.all_find_together_again();
    }
}
