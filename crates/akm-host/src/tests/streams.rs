//! Streams: who may say anything on one, how many there may be, and when they end.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use akm_core::crypto::provider;
use akm_core::element::{ElementError, Label, Root, RootCheck, SecureElement};
use akm_core::frame::FrameKind;
use akm_core::id::AkmId;
use akm_core::management::{
    ActivateRequest, EraseRequest, IdentifyAnswer, IdentifyRequest, NodeIdentity, Operation, Outcome,
    Request, Response, StatusRequest,
};
use akm_core::secret::Secret;
use akm_core::session::{Input as Given, Membership, Options, Session, Standing, Surroundings as Around};
use akm_core::tree::Place;

use super::fixture::*;
use super::routing::pair;
use crate::limits::{IDENTIFIES_AT_ONCE, UNPROVEN_STREAMS};
use crate::{Input, Question, Stream};

/// How many factors were computed while somebody commanded the element.
const STOCKED: u32 = 1000;

/// What is left of the element to somebody who commanded it once.
struct Stock(BTreeMap<Vec<u8>, Secret<32>>);

impl SecureElement for Stock {
    fn derive(&mut self, _: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        let factor = self.0.get(context).filter(|_| label == Label::Epoch);
        factor.map(Secret::duplicate).ok_or(ElementError::NoSuchRoot)
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        out.fill(7);
        Ok(())
    }
}

/// Somebody who was root on the node: he has what its host keeps of the provisioning relationship, and stocked factors.
struct Intruder {
    session: Session,
    stock: Stock,
    random: Drawn,
}

impl Intruder {
    fn at(plant: &mut Plant) -> Self {
        let made = provisioning(plant.at);
        let mut stock = BTreeMap::new();
        for epoch in 0..STOCKED {
            let context = [1u32.to_be_bytes(), epoch.to_be_bytes()].concat();
            let factor = plant.element.derive(made.name(), Label::Epoch, &context).unwrap();
            stock.insert(context, factor);
        }
        let (mut stock, mut random) = (Stock(stock), Drawn(99));
        let host = made.secrets().host;
        let check = RootCheck::of(&made.root());
        let module = AkmId::from_bytes([MODULE; 16]).unwrap();
        let membership = Membership::new(made.sds, module, check, host.keys).unwrap();
        let standing = Standing::Active(Place::before_first(0, host.tree_root));
        let options = Options { hello_at_start: false, find_back: false };
        let mut around = Around { now: plant.now, element: &mut stock, random: &mut random };
        let session = Session::start(provider(), membership, standing, options, &mut around).unwrap();
        Self { session, stock, random }
    }

    fn handle(&mut self, input: Given<'_>, plant: &Plant) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut around = Around { now: plant.now, element: &mut self.stock, random: &mut self.random };
        self.session.handle(input, &mut around).unwrap();
        carried_out(&mut self.session)
    }

    /// Says something in an epoch of his own; what he reads of what comes back, and whether the stream was closed.
    fn says(&mut self, plant: &mut Plant, stream: u64, message: &[u8]) -> (Vec<Response>, bool) {
        loop {
            plant.now = plant.now + Duration::from_secs(2);
            let mut frames = self.handle(Given::Advance, plant).0;
            frames.extend(self.handle(Given::Send(FrameKind::Management, message), plant).0);
            plant.take_came();
            for frame in frames {
                plant.input(Input::StreamFrame { stream: Stream(stream), frame: &frame });
            }
            // Epochs in which the module spoke are taken.
            let is_heard = |came: &Came| matches!(came, Came::Replied(..) | Came::Closed(_));
            if plant.came.iter().any(is_heard) {
                return self.reads(plant, stream);
            }
        }
    }

    fn reads(&mut self, plant: &mut Plant, stream: u64) -> (Vec<Response>, bool) {
        let (mut said, mut closed) = (Vec::new(), false);
        for came in plant.take_came() {
            match came {
                Came::Replied(_, frame) => said.extend(self.handle(Given::Frame(&frame), plant).1),
                Came::Closed(of) => closed |= of == Stream(stream),
                _ => {}
            }
        }
        (said.iter().filter_map(|body| Response::parse(body).ok()).collect(), closed)
    }
}

fn status() -> Vec<u8> {
    StatusRequest { after: None, most: 1 }.emit()
}

fn identify(challenge: u8) -> Vec<u8> {
    IdentifyRequest { challenge: [challenge; 32] }.emit()
}

fn request(id: u64, operation: Operation, body: &[u8], proof: Option<[u8; 32]>) -> Vec<u8> {
    Request { id, operation: operation as u8, body, proof }.emit()
}

#[test]
fn attack_1_stocked_factors_of_a_provisioning_relationship_are_no_authority() {
    let (first, [mut a, _]) = pair();
    let mut intruder = Intruder::at(&mut a);
    let own = issue(0x44, 1, 1, &[0, 1], None);
    let install = own.body(0, true);
    let activate = ActivateRequest { relationship: relationship(0x44), generation: 1, follow: false }.emit();
    let erase = EraseRequest::Relationship(relationship(ASR)).emit();

    // At once, with and without something that looks like a proof.
    let wishes =
        [(Operation::Install, &install), (Operation::Activate, &activate), (Operation::Erase, &erase)];
    for (stream, (operation, body)) in (10..).zip(wishes) {
        for proof in [None, Some([7; 32])] {
            let (said, closed) = intruder.says(&mut a, stream, &request(1, operation, body, proof));
            assert!(said.is_empty() && closed, "{operation:?}");
        }
    }
    // On a stream that was begun as it should be, which shows that he is heard.
    for (stream, (operation, body)) in (20..).zip(wishes) {
        for proof in [None, Some([7; 32])] {
            let (said, closed) =
                intruder.says(&mut a, stream, &request(1, Operation::Identify, &identify(1), None));
            assert!(said[0].outcome == Outcome::Done && !closed);
            let (said, closed) = intruder.says(&mut a, stream, &request(2, operation, body, proof));
            assert_eq!((said.len(), said[0].outcome, said[0].proof), (1, Outcome::Unproven, None));
            assert!(closed, "{operation:?}");
        }
    }
    assert!(a.node.lineage(relationship(0x44)).is_none());
    assert!(!a.element.roots.contains_key(&own.name()));
    assert!(a.element.roots.contains_key(&first.name()));
    assert!(a.disk.contains_key(&(relationship(ASR), 1)));
}

#[test]
fn attack_1_requests_replayed_on_their_stream_do_nothing_anew() {
    let (_, [mut a, _]) = pair();
    let own = issue(0x44, 1, 1, &[0, 1], None);
    let erase = EraseRequest::Relationship(relationship(0x44)).emit();
    // The module erases, which costs nobody anything, and installs. Whoever has keys of epochs reads along.
    let erased = a.request(1, Operation::Erase, &erase);
    assert_eq!(a.responses().len(), 1);
    let installed = a.request(1, Operation::Install, &own.body(0, true));
    assert_eq!(a.responses().len(), 1);
    let written = a.node.counts().written;

    let mut intruder = Intruder::at(&mut a);
    // He learns in which epoch they are.
    intruder.says(&mut a, 99, b"");
    let (said, closed) = intruder.says(&mut a, 1, &installed);
    assert_eq!((said.len(), said[0].outcome), (1, Outcome::Done), "the same as before");
    assert!(!closed);
    let (said, closed) = intruder.says(&mut a, 1, &erased);
    assert!(said.is_empty() && closed, "it is gone by");
    assert!(a.node.lineage(relationship(0x44)).is_some());

    // On another stream they are of no use at all.
    for (stream, request) in [(30, &erased), (31, &installed)] {
        let begun = intruder.says(&mut a, stream, &self::request(1, Operation::Identify, &identify(2), None));
        assert_eq!(begun.0.len(), 1, "{begun:?}");
        let (said, closed) = intruder.says(&mut a, stream, request);
        assert_eq!((said.len(), closed), (1, true));
        assert_eq!(said[0].outcome, Outcome::Unproven);
        assert!(closed);
    }
    assert!(a.node.lineage(relationship(0x44)).is_some());
    assert!(a.node.counts().written > written, "his epochs were followed");
}

#[test]
fn the_first_request_is_identify_or_the_connection_is_closed() {
    let (_, [mut a, _]) = pair();
    let unknown_key = [&[0xa2, 0x00, 0x58, 0x20][..], &[1; 32], &[0x05, 0x01]].concat();
    let firsts = [
        request(1, Operation::Status, &status(), None),
        request(1, Operation::Identify, &identify(1), Some([0; 32])),
        request(1, Operation::Identify, &unknown_key, None),
        request(1, Operation::Identify, b"", None),
        b"nonsense".to_vec(),
    ];
    for (stream, first) in (1..).zip(firsts) {
        a.says_over(stream, &first);
        let came = a.take_came();
        let ended: Vec<_> = came.iter().filter(|came| !matches!(came, Came::Event(_))).collect();
        assert_eq!(ended, [&Came::Closed(Stream(stream)), &Came::Handled(Stream(stream))]);
    }
}

#[test]
fn a_later_identify_is_proven_and_keeps_nonce_and_challenge_of_its_stream() {
    let (_, [mut a, _]) = pair();
    let nonce_of = |response: &Response| {
        let answer = IdentifyAnswer::parse(&response.body).unwrap();
        NodeIdentity::parse(&answer.identity).unwrap().stream_nonce
    };
    let first = a.module.begin(1);
    a.says_over(1, &first);
    let begun = a.responses().remove(0);
    assert_eq!(begun.proof, None);
    let later = a.manage(Operation::Identify, &identify(9));
    assert!(later.proof.is_some());
    assert_eq!(nonce_of(&later), nonce_of(&begun));
    assert_eq!(a.manage(Operation::Status, &status()).outcome, Outcome::Done);
    a.opens(2);
    let other = a.module.streams.get_mut(&2).unwrap().request(1, &identify(9)).unwrap().to_vec();
    a.says_over(2, &other);
    assert_ne!(nonce_of(&a.responses()[0]), nonce_of(&begun));
}

#[test]
fn the_same_request_again_gets_the_same_response_and_nothing_while_it_is_under_way() {
    let (_, [mut a, _]) = pair();
    a.manage(Operation::Status, &status());
    a.holds_answers = true;
    let asked = a.request(1, Operation::Status, &status());
    a.says_over(1, &asked);
    assert_eq!(a.take_came(), [Came::Handled(Stream(1))]);
    a.holds_answers = false;
    a.pump();
    assert_eq!(a.responses().len(), 1);
    let questions = a.node.counts().asked;
    a.says_over(1, &asked);
    assert!(matches!(&a.take_came()[..], [Came::Replied(..), Came::Handled(_)]));
    assert_eq!(a.node.counts().asked, questions, "it was kept");

    // The same number with another proof, and a lower one, end it.
    let Request { id, body, .. } = Request::parse(&asked).unwrap();
    for (stream, id) in [(1, id), (2, id - 1)] {
        a.request(stream, Operation::Status, body);
        let last = a.request(stream, Operation::Status, body);
        a.responses();
        let id = if stream == 1 { Request::parse(&last).unwrap().id } else { id };
        a.says_over(stream, &request(id, Operation::Status, body, Some([1; 32])));
        assert_eq!(a.take_came(), [Came::Closed(Stream(stream)), Came::Handled(Stream(stream))]);
    }
}

#[test]
fn a_body_that_says_more_than_is_understood_is_looked_at_only_after_its_proof() {
    let (_, [mut a, _]) = pair();
    let later = [&[0xa2, 0x00, 0x50][..], &[0x77; 16], &[0x05, 0x01]].concat();
    let response = a.manage(Operation::Erase, &later);
    assert_eq!((response.outcome, &response.reason[..6]), (Outcome::Unsupported, "key 5 "));
    a.opens(2);
    a.says_over(2, &request(9, Operation::Erase, &later, Some([0; 32])));
    let came = a.take_came();
    assert!(came.contains(&Came::Closed(Stream(2))), "{came:?}");
}

#[test]
fn unproven_streams_are_few_and_one_more_takes_the_place_of_the_one_answered_longest_ago() {
    let (_, [mut a, _]) = pair();
    a.opens(0);
    a.request(0, Operation::Status, &status());
    let most = UNPROVEN_STREAMS as u64;
    for stream in 1..=most {
        a.now = a.now + Duration::from_secs(1);
        a.opens(stream);
    }
    a.take_came();
    a.opens(most + 1);
    let first = a.request(1, Operation::Status, &status());
    assert!(a.responses().is_empty(), "its place is taken");
    a.says_over(1, &first);
    for stream in [0, 2, most, most + 1] {
        a.request(stream, Operation::Status, &status());
        assert_eq!(a.responses().len(), 1, "{stream}");
    }
}

#[test]
fn one_more_waits_where_none_was_answered_yet() {
    let (_, [mut a, _]) = pair();
    a.manage(Operation::Status, &status());
    a.holds_answers = true;
    let most = UNPROVEN_STREAMS as u64;
    for stream in 10..=10 + most {
        let first = a.module.begin(stream);
        a.says_over(stream, &first);
    }
    let questions = a.asked.iter().filter(|(_, asked)| matches!(asked, Question::Integrity)).count();
    assert_eq!((questions, a.take_came()), (UNPROVEN_STREAMS, Vec::new()));
    a.holds_answers = false;
    a.pump();
    assert_eq!(a.responses().len(), UNPROVEN_STREAMS + 1);
}

#[test]
fn identify_on_new_streams_costs_the_element_eight_calls_at_once_and_then_one_each_second() {
    let (_, [mut a, _]) = pair();
    // So that both are in one epoch; the call is given back.
    a.manage(Operation::Status, &status());
    let burst = u64::from(IDENTIFIES_AT_ONCE);
    for stream in 11..=10 + burst + 3 {
        let first = a.module.begin(stream);
        a.says_over(stream, &first);
    }
    assert_eq!(a.responses().len() as u64, burst);
    for _ in 0..3 {
        a.live(Duration::from_millis(999));
        assert_eq!(a.responses().len(), 0);
        a.live(Duration::from_millis(1));
        assert_eq!(a.responses().len(), 1);
    }
    assert_eq!(a.node.bytes_waiting(), 0);
}

#[test]
fn a_module_that_proves_itself_gets_the_call_back() {
    let (_, [mut a, _]) = pair();
    for stream in 0..4 * u64::from(IDENTIFIES_AT_ONCE) {
        a.opens(stream);
        a.request(stream, Operation::Status, &status());
        assert_eq!(a.responses().len(), 1);
        a.input(Input::StreamClosed { stream: Stream(stream) });
    }
}

#[test]
fn a_stream_ends_after_a_minute_without_a_proof_an_hour_of_silence_or_a_day() {
    let ended = |a: &mut Plant| a.take_came().contains(&Came::Closed(Stream(1)));
    let (_, [mut a, _]) = pair();
    a.opens(1);
    a.live(Duration::from_secs(59));
    assert!(!ended(&mut a));
    a.live(Duration::from_secs(1));
    assert!(ended(&mut a), "nothing was proven on it");

    a.opens(1);
    a.request(1, Operation::Status, &status());
    assert_eq!(a.responses().len(), 1);
    a.live(Duration::from_secs(3599));
    assert!(!ended(&mut a));
    a.live(Duration::from_secs(1));
    assert!(ended(&mut a), "nobody spoke for an hour");

    a.opens(1);
    for _ in 0..47 {
        a.request(1, Operation::Status, &status());
        assert_eq!(a.responses().len(), 1);
        a.live(Duration::from_secs(1800));
        assert!(!ended(&mut a));
    }
    a.request(1, Operation::Status, &status());
    a.live(Duration::from_secs(1800));
    assert!(ended(&mut a), "a day is over");
    a.request(1, Operation::Status, &status());
    assert!(a.responses().is_empty());
}

#[test]
fn a_stream_that_is_closed_while_it_waits_or_is_answered_leaves_nothing() {
    let (_, [mut a, _]) = pair();
    a.manage(Operation::Status, &status());
    a.holds_answers = true;
    for stream in 10..20 {
        let first = a.module.begin(stream);
        a.says_over(stream, &first);
    }
    for stream in 10..20 {
        a.input(Input::StreamClosed { stream: Stream(stream) });
    }
    a.holds_answers = false;
    a.pump();
    assert_eq!(a.responses().len(), 0);
    assert_eq!(a.node.timeout().map(|due| due > a.now), Some(true), "its own stream is the only one left");
    assert_eq!(a.manage(Operation::Status, &status()).outcome, Outcome::Done);
}

#[test]
fn an_element_that_cannot_prove_an_answer_says_nothing_and_is_asked_again() {
    let (_, [mut a, _]) = pair();
    a.manage(Operation::Status, &status());
    a.element.silent = true;
    let asked = a.request(1, Operation::Status, &status());
    assert!(a.responses().is_empty());
    a.element.silent = false;
    a.says_over(1, &asked);
    assert_eq!(a.responses().len(), 1);
}
