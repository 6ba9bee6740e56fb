//! How messages grow: what a reader does with a key that it does not know.

use akm_core::cbor::Unreadable;
use akm_core::element::{Description, Protection, Root, RootCheck};
use akm_core::enrolment::{Envelope, ExistingNode, Preparation};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::management::{
    ActivateRequest, EraseRequest, IdentifyAnswer, IdentifyRequest, Install, Level, NodeIdentity, Opaque,
    Operation, Outcome, PrepareRequest, RelationshipStatus, ReportAnswer, ReportRequest, Request, Response,
    SetEndpoints, StatusAnswer, StatusRequest,
};
use akm_core::policy::Policy;
use akm_core::seal::SEALED_HOST_PART_LENGTH;
use akm_core::session::Phase;

type Parse = fn(&[u8]) -> Result<(), Unreadable>;

fn parse<T>(read: fn(&[u8]) -> Result<T, Unreadable>, bytes: &[u8]) -> Result<(), Unreadable> {
    read(bytes).map(|_| ())
}

fn node() -> AkmId {
    AkmId::from_bytes([1; 16]).unwrap()
}

fn relationship() -> RelationshipId {
    RelationshipId::from_bytes([2; 16]).unwrap()
}

fn identity() -> NodeIdentity {
    NodeIdentity {
        node: node(),
        relationship: relationship(),
        element: Description {
            kind: "software".into(),
            manufacturer: "AKM".into(),
            serial: "1".into(),
            firmware: "2".into(),
            protection: Protection::Software,
            sealed: false,
            counter: true,
        },
        stack_version: "0.1.0".into(),
        integrity: [3; 32],
        level: Level::Authorized,
        holds_others: true,
        stream_nonce: [4; 16],
    }
}

fn install() -> Install {
    Install {
        public_part: vec![5; 70],
        wrapped_root: None,
        root_check: RootCheck([6; 4]),
        host_part: [7; SEALED_HOST_PART_LENGTH],
        label: "line".into(),
        member_labels: vec!["pump".into()],
        endpoints: vec![String::new()],
    }
}

fn status() -> StatusAnswer {
    let entry = RelationshipStatus {
        relationship: relationship(),
        generation: 1,
        epoch: 2,
        run: 0,
        phase: Phase::Established,
        element_version: 1,
        highest: 1,
        found_back: 0,
    };
    StatusAnswer { relationships: vec![entry], more: false }
}

/// Every message, the key of its last entry, and how it is read.
fn messages() -> Vec<(&'static str, Vec<u8>, u8, Parse)> {
    let root = Root::Relationship { id: relationship(), version: 1, check: RootCheck([8; 4]) };
    let existing = ExistingNode { node: node(), relationship: relationship(), provisioner: node() };
    let preparation = Preparation {
        stack_version: "0.1.0".into(),
        element: identity().element,
        material: Vec::new(),
        node: Some(existing),
        leftovers: vec![root],
    };
    let envelope = Envelope {
        node: node(),
        name: "pump".into(),
        install: install().emit(),
        replaces: Some(relationship()),
        erase: vec![root],
    };
    let report = ReportAnswer {
        is_member: true,
        endpoint: String::new(),
        heard: None,
        sent: 1,
        accepted: 2,
        rejected: vec![("duplicate".into(), 3)],
        sent_ago: None,
        up: 4,
        rolled_back: false,
    };
    let operation = Operation::Status as u8;
    let request = Request { id: 9, operation, body: b"body", proof: Some([1; 32]) }.emit();
    let response = Response {
        id: 9,
        outcome: Outcome::Quota,
        body: Vec::new(),
        reason: "too many".into(),
        proof: Some([2; 32]),
    };
    let prepare = PrepareRequest { relationship: relationship(), element_version: 1 };
    let activate = ActivateRequest { relationship: relationship(), generation: 1, follow: true };
    let entries = vec![(0, "pump".into(), String::new())];
    let set = SetEndpoints { relationship: relationship(), entries };
    let ask = ReportRequest { relationship: relationship(), member: node() };
    vec![
        ("request", request, 3, |bytes| Request::parse(bytes).map(|_| ())),
        ("response", response.emit(), 4, |bytes| parse(Response::parse, bytes)),
        ("identify", IdentifyRequest { challenge: [1; 32] }.emit(), 0, |bytes| {
            parse(IdentifyRequest::parse, bytes)
        }),
        ("identified", IdentifyAnswer { identity: Vec::new(), proof: [1; 32] }.emit(), 1, |bytes| {
            parse(IdentifyAnswer::parse, bytes)
        }),
        ("identity", identity().emit(), 7, |bytes| parse(NodeIdentity::parse, bytes)),
        ("prepare", prepare.emit(), 1, |bytes| parse(PrepareRequest::parse, bytes)),
        ("opaque", Opaque(vec![1]).emit(), 0, |bytes| parse(Opaque::parse, bytes)),
        ("install", install().emit().expose().to_vec(), 6, |bytes| parse(Install::parse, bytes)),
        ("activate", activate.emit(), 2, |bytes| parse(ActivateRequest::parse, bytes)),
        ("erase", EraseRequest::Relationship(relationship()).emit(), 0, |bytes| {
            parse(EraseRequest::parse, bytes)
        }),
        ("status request", StatusRequest { after: None, most: 3 }.emit(), 1, |bytes| {
            parse(StatusRequest::parse, bytes)
        }),
        ("status", status().emit(), 1, |bytes| parse(StatusAnswer::parse, bytes)),
        ("endpoints", set.emit(), 1, |bytes| parse(SetEndpoints::parse, bytes)),
        ("report request", ask.emit(), 1, |bytes| parse(ReportRequest::parse, bytes)),
        ("report", report.emit(), 8, |bytes| parse(ReportAnswer::parse, bytes)),
        ("preparation", preparation.emit(), 5, |bytes| parse(Preparation::parse, bytes)),
        ("envelope", envelope.emit().expose().to_vec(), 5, |bytes| parse(Envelope::parse, bytes)),
    ]
}

/// The same map with an entry more at its end.
fn with_entry(map: &[u8], key: u64, value: &[u8]) -> Vec<u8> {
    assert!((0xa0..0xb7).contains(&map[0]));
    let mut longer = map.to_vec();
    longer[0] += 1;
    let mut head = Vec::new();
    minicbor::Encoder::new(&mut head).u64(key).unwrap();
    longer.extend_from_slice(&head);
    longer.extend_from_slice(value);
    longer
}

/// Values of every kind, also such as stand in no message.
const VALUES: [&[u8]; 7] = [
    b"\x00",
    b"\x43abc",
    b"\xf6",
    b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",
    b"\x9f\x01\xa1\x20\x80\xff",
    b"\xa2\x61a\x01\x61b\xc0\x60",
    b"\x5f\x41a\x41b\xff",
];

#[test]
fn a_key_up_to_63_that_a_reader_does_not_know_is_named_and_not_passed_over() {
    for (what, bytes, last, parse) in messages() {
        assert_eq!(parse(&bytes), Ok(()), "{what}");
        for key in (last + 1..64).chain([63]) {
            for value in VALUES {
                let longer = with_entry(&bytes, key.into(), value);
                assert_eq!(parse(&longer), Err(Unreadable::Unsupported { key }), "{what}: {key}");
            }
        }
    }
}

#[test]
fn a_key_from_64_on_is_passed_over_whatever_stands_there() {
    for (what, bytes, _, parse) in messages() {
        for key in [64, 65, 255, 256, 70_000, u64::MAX] {
            for value in VALUES {
                let longer = with_entry(&bytes, key, value);
                assert_eq!(parse(&longer), Ok(()), "{what}: {key}");
                let cut = &longer[..longer.len() - 1];
                assert_eq!(
                    parse(cut),
                    Err(Unreadable::Malformed),
                    "{what}: {key}, and its value is cut short"
                );
                let twice = with_entry(&longer, key, value);
                assert_eq!(parse(&twice), Err(Unreadable::Malformed), "{what}: {key} twice");
            }
        }
    }
}

#[test]
fn both_rules_hold_inside_of_a_message_too() {
    let bytes = status().emit();
    // The map of the one entry of the list, which stands at key 0.
    let at = bytes.iter().position(|byte| *byte == 0x81).unwrap() + 1;
    let inner_end = bytes.len() - 2;
    let inside = |key, value| {
        let inner = with_entry(&bytes[at..inner_end], key, value);
        [&bytes[..at], &inner, &bytes[inner_end..]].concat()
    };
    assert_eq!(StatusAnswer::parse(&inside(64, b"\xf6")), Ok(status()));
    assert_eq!(StatusAnswer::parse(&inside(9, b"\x01")), Err(Unreadable::Unsupported { key: 9 }));
}

#[test]
fn a_message_of_another_format_is_told_as_that_whatever_else_is_in_it() {
    let enrolment = messages().into_iter().filter(|(what, ..)| ["preparation", "envelope"].contains(what));
    for (_, bytes, _, parse) in enrolment {
        assert_eq!(bytes[1..3], [0, 2]);
        for format in [1, 3] {
            let mut other = with_entry(&bytes, 63, b"\x00");
            other[2] = format;
            assert_eq!(parse(&other), Err(Unreadable::Format { format, own: 2 }));
        }
    }
}

#[test]
fn a_policy_does_not_grow_in_this_way() {
    for key in [9, 64] {
        assert!(Policy::parse(&with_entry(&Policy::default().emit(), key, b"\x01")).is_err());
    }
}

#[test]
fn sixteen_zero_bytes_erase_everything_and_name_no_relationship_anywhere_else() {
    let everything = EraseRequest::Everything.emit();
    assert_eq!(everything, [&[0xa1, 0, 0x50][..], &[0; 16]].concat());
    assert_eq!(EraseRequest::parse(&everything), Ok(EraseRequest::Everything));
    let one = EraseRequest::Relationship(relationship());
    assert_eq!(EraseRequest::parse(&one.emit()), Ok(one));
    let mut prepare = PrepareRequest { relationship: relationship(), element_version: 1 }.emit();
    prepare[3..19].fill(0);
    assert_eq!(PrepareRequest::parse(&prepare), Err(Unreadable::Malformed));
}

#[test]
fn requests_and_responses_bear_their_proofs_or_none() {
    for proof in [None, Some([7; 32])] {
        let request = Request { id: 1, operation: 1, body: b"b", proof };
        assert_eq!(Request::parse(&request.emit()), Ok(request));
        for outcome in [Outcome::Done, Outcome::Unproven, Outcome::Trial, Outcome::Quota] {
            let response =
                Response { id: 1, outcome, body: b"answer".to_vec(), reason: "reason".into(), proof };
            let said = if outcome == Outcome::Done { &b"answer"[..] } else { b"reason" };
            assert_eq!(response.said(), said, "what the proof covers");
            assert_eq!(Response::parse(&response.emit()), Ok(response));
        }
    }
    assert_eq!((Outcome::Unproven as u8, Outcome::Trial as u8, Outcome::Quota as u8), (7, 8, 9));
    let short = with_entry(&Request { id: 1, operation: 1, body: b"b", proof: None }.emit(), 3, b"\x41a");
    assert_eq!(Request::parse(&short), Err(Unreadable::Malformed));
}
