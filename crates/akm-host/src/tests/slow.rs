//! An element that takes 300 ms for each answer, and somebody who has a header key.

use alloc::vec::Vec;
use core::time::Duration;

use akm_core::frame::{Class, Header};
use akm_core::management::Outcome;
use akm_core::session::{Instant, Rejection};

use super::fixture::*;
use super::routing::pair;
use crate::limits::FRAMES_KEPT;
use crate::{Input, Wish};

const TAKES: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(10);

/// A header of this epoch with a right signature, and nothing behind it that opens.
fn forged(of: &Issued, epoch: u32) -> Vec<u8> {
    let keys = of.secrets().host.keys;
    let header = Header { class: Class::Session, sender: 0, tag: keys.tag, epoch, salt: 9, counter: 0 };
    let mut frame = header.emit(&keys.header_key).to_vec();
    frame.extend_from_slice(&[0xaa; 32]);
    frame
}

/// A node whose element answers one question after the other.
struct Slow {
    plant: Plant,
    busy: Option<Instant>,
    answered: usize,
    heard: usize,
}

impl Slow {
    fn new(mut plant: Plant) -> Self {
        plant.holds_answers = true;
        Self { plant, busy: None, answered: 0, heard: 0 }
    }

    /// Ten milliseconds go by.
    fn tick(&mut self) {
        let plant = &mut self.plant;
        plant.now = plant.now + TICK;
        if plant.node.timeout().is_some_and(|due| due <= plant.now) {
            plant.input(Input::Timeout);
        }
        if self.busy.is_some_and(|until| until <= plant.now) {
            self.busy = None;
            self.answered += 1;
            plant.answer();
            plant.pump();
        }
        if self.busy.is_none() && !plant.asked.is_empty() {
            self.busy = Some(plant.now + TAKES);
        }
        let came = plant.take_came();
        self.heard += came.iter().filter(|came| matches!(came, Came::Heard(_))).count();
        plant.came.extend(came.into_iter().filter(|came| !matches!(came, Came::Heard(_))));
    }
}

#[test]
fn attack_7_a_slow_element_and_ten_forged_frames_a_second_hold_up_neither_frames_nor_the_module() {
    let (asr, [mut a, b]) = pair();
    let epoch = b.epoch();
    let mut b = Slow::new(b);
    let mut said = 0;
    let mut flood = |b: &mut Slow, ticks: u32, named: &mut u32| {
        for tick in 0..ticks {
            if tick % 10 == 0 {
                *named += 1;
                b.plant.hears(0, &forged(&asr, epoch + *named));
                a.says(b"in the open epoch");
                said += 1;
                for frame in a.sent() {
                    b.plant.hears(0, &frame);
                }
            }
            b.tick();
        }
        assert_eq!(b.heard, said, "each is heard at once");
    };
    let mut named = 0;
    flood(&mut b, 2000, &mut named);
    let spent = TAKES * b.answered as u32;
    assert!(spent <= Duration::from_secs(20) / 5 + Duration::from_secs(1) + 3 * TAKES, "{spent:?} of 20 s");
    assert!(b.answered >= 10, "and that much is given to whoever asks: {} calls", b.answered);
    b.plant.take_came();
    let asked = b.plant.now;
    let first = b.plant.module.begin(7);
    b.plant.says_over(7, &first);
    let response = loop {
        flood(&mut b, 10, &mut named);
        if let Some(response) = b.plant.responses().pop() {
            break response;
        }
        assert!(b.plant.now.0 - asked.0 <= Duration::from_secs(2), "the module waits");
    };
    assert_eq!(response.outcome, Outcome::Done);
}

#[test]
fn frames_that_come_too_fast_are_kept_and_heard_when_they_may_be() {
    let (_, [mut a, mut b]) = pair();
    let mut in_a_next_epoch = |body: &[u8]| {
        a.now = a.now + Duration::from_secs(2);
        a.input(Input::Advance { wish: Wish(9), relationship: relationship(ASR) });
        a.take_came();
        a.says(body);
        a.sent().remove(0)
    };
    let frames: Vec<_> = (0..10u8).map(|number| in_a_next_epoch(&[number])).collect();
    b.live(Duration::from_secs(10));
    b.take_came();
    for frame in &frames {
        b.hears(0, frame);
    }
    // Eight are followed at once. Of the other two epochs only the higher one is kept.
    assert_eq!(b.heard(), (0..8u8).map(|number| [number].to_vec()).collect::<Vec<_>>());
    let dropped = b.node.dropped(relationship(ASR));
    assert_eq!(dropped, [(Rejection::Budget.name().into(), 1)]);
    b.live(Duration::from_millis(249));
    assert_eq!(b.heard(), Vec::<Vec<u8>>::new());
    b.live(Duration::from_millis(1));
    assert_eq!(b.heard(), [[9]]);
    assert_eq!(b.node.bytes_waiting(), 0);
}

#[test]
fn of_the_frames_that_come_too_fast_few_are_kept() {
    let (_, [mut a, mut b]) = pair();
    for _ in 0..9 {
        a.now = a.now + Duration::from_secs(2);
        a.input(Input::Advance { wish: Wish(9), relationship: relationship(ASR) });
        for frame in a.sent() {
            b.hears(0, &frame);
        }
    }
    b.take_came();
    for number in 0..100u8 {
        a.says(&[number]);
    }
    for frame in a.sent() {
        b.hears(0, &frame);
    }
    b.live(Duration::from_secs(1));
    assert_eq!(b.heard().len(), FRAMES_KEPT - 1, "beside the hello that came first");
}
