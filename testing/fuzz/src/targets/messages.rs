//! The messages of the provisioning relationship and of enrolment. What is read comes out deterministic, and
//! as it went in if it was so; see [`check_reread`].

use akm_core::element::{Description, Protection, Root, RootCheck};
use akm_core::enrolment::{Envelope, ExistingNode, LEFTOVERS_MAX, Preparation, StackFile, integrity_code};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::management::{
    ActivateRequest, ENDPOINT_MAX, EraseRequest, IdentifyAnswer, IdentifyRequest, Install, LABEL_MAX, Level,
    NodeIdentity, Opaque, Operation, Outcome, PAGE_MAX, PrepareRequest, RelationshipStatus, ReportAnswer,
    ReportRequest, Request, Response, SetEndpoints, StatusAnswer, StatusRequest,
};
use akm_core::policy::Policy;
use akm_core::sds::{Kind, MEMBERS_MAX, SynchronizedDataSet};
use akm_core::seal::SEALED_HOST_PART_LENGTH;
use akm_core::secret::SecretBytes;
use akm_core::session::Phase;

use super::wire::some_sds;
use crate::cbor::check_reread_message;
use crate::memory::{measure, within};

/// An entry of a list is at most so many times larger in memory than on the wire, growth of the list included.
const EXPANSION: usize = 64;

/// Reads a message and checks what comes out of it.
macro_rules! reread {
    ($message:ty, $bytes:expr) => {{
        let read = within(EXPANSION, $bytes.len(), || <$message>::parse($bytes)).ok();
        if let Some(message) = &read {
            let emitted = SecretBytes::from(message.emit());
            check_reread_message($bytes, emitted.expose());
            assert!(<$message>::parse(emitted.expose()).is_ok(), "what is emitted is read");
        }
        read
    }};
}

/// The first byte chooses the message.
pub fn management(bytes: &[u8]) -> bool {
    let Some((which, bytes)) = bytes.split_first() else { return false };
    match which {
        0 => reread!(Request<'_>, bytes).is_some_and(|request| {
            if let Some(operation) = Operation::from_number(request.operation) {
                assert_eq!(operation as u8, request.operation);
            }
            true
        }),
        1 => reread!(Response, bytes).is_some(),
        2 => reread!(IdentifyRequest, bytes).is_some(),
        3 => reread!(IdentifyAnswer, bytes).is_some(),
        4 => reread!(NodeIdentity, bytes).is_some_and(|identity| {
            assert!(identity.stack_version.len() <= LABEL_MAX);
            check_description(&identity.element);
            true
        }),
        5 => reread!(PrepareRequest, bytes).is_some(),
        6 => reread!(Opaque, bytes).is_some(),
        7 => reread!(Install, bytes).is_some_and(|install| {
            check_install(&install);
            true
        }),
        8 => reread!(ActivateRequest, bytes).is_some(),
        9 => reread!(EraseRequest, bytes).is_some(),
        10 => reread!(StatusRequest, bytes).is_some(),
        11 => reread!(StatusAnswer, bytes).is_some_and(|page| {
            assert!(page.relationships.len() <= PAGE_MAX);
            true
        }),
        12 => reread!(SetEndpoints, bytes).is_some_and(|endpoints| {
            assert!(endpoints.entries.len() <= PAGE_MAX);
            for (_, label, endpoint) in &endpoints.entries {
                assert!(label.len() <= LABEL_MAX && endpoint.len() <= ENDPOINT_MAX);
            }
            true
        }),
        13 => reread!(ReportRequest, bytes).is_some(),
        14 => reread!(ReportAnswer, bytes).is_some_and(|report| {
            assert!(report.endpoint.len() <= ENDPOINT_MAX);
            assert!(report.rejected.iter().all(|(reason, _)| reason.len() <= LABEL_MAX));
            true
        }),
        _ => false,
    }
}

fn check_install(install: &Install) {
    assert!(install.label.len() <= LABEL_MAX);
    assert!(install.member_labels.len() <= MEMBERS_MAX && install.endpoints.len() <= MEMBERS_MAX);
    assert!(install.member_labels.iter().all(|label| label.len() <= LABEL_MAX));
    assert!(install.endpoints.iter().all(|endpoint| endpoint.len() <= ENDPOINT_MAX));
    let (emitted, used) = measure(|| install.emit());
    assert_eq!(used.most, emitted.capacity(), "a vector with secrets was grown");
    if let Ok(sds) = SynchronizedDataSet::parse(&install.public_part) {
        assert_eq!(sds.emit(), install.public_part);
    }
}

fn check_description(element: &Description) {
    let Description { kind, manufacturer, serial, firmware, .. } = element;
    assert!([kind, manufacturer, firmware].iter().all(|text| text.len() <= LABEL_MAX));
    assert!(serial.len() <= 2 * LABEL_MAX);
    assert_eq!(element.identity().len(), manufacturer.len() + 1 + serial.len());
}

/// The first byte chooses preparation, envelope, or the files that an integrity code covers.
pub fn enrolment(bytes: &[u8]) -> bool {
    let Some((which, bytes)) = bytes.split_first() else { return false };
    match which {
        0 => reread!(Preparation, bytes).is_some_and(|preparation| {
            check_description(&preparation.element);
            assert!(preparation.leftovers.len() <= LEFTOVERS_MAX);
            true
        }),
        1 => reread!(Envelope, bytes).is_some_and(|envelope| {
            assert!(envelope.name.len() <= LABEL_MAX && envelope.erase.len() <= LEFTOVERS_MAX);
            let (emitted, used) = measure(|| envelope.emit());
            assert_eq!(used.most, emitted.capacity(), "a vector with secrets was grown");
            if let Ok(install) = Install::parse(envelope.install.expose()) {
                check_install(&install);
            }
            true
        }),
        2 => std::str::from_utf8(bytes).is_ok_and(|text| {
            let mut files: Vec<_> = text.lines().enumerate().map(stack_file).collect();
            let code = integrity_code(&files, b"element");
            files.reverse();
            assert_eq!(integrity_code(&files, b"element"), code, "the order of the files does not matter");
            assert_ne!(integrity_code(&files, b"another element"), code);
            if let Some(file) = files.first_mut() {
                file.mode ^= 1;
                assert_ne!(integrity_code(&files, b"element"), code);
            }
            true
        }),
        _ => false,
    }
}

fn stack_file((number, path): (usize, &str)) -> StackFile {
    StackFile { path: path.to_owned(), mode: number as u32, sha256: [number as u8; 32] }
}

fn node() -> AkmId {
    AkmId::from_random([1; 16])
}

fn relationship() -> RelationshipId {
    RelationshipId::from_random([2; 16])
}

fn root() -> Root {
    Root::Relationship { id: relationship(), version: 3, check: RootCheck([7; 4]) }
}

/// A message with something more that a reader passes over.
fn passed_over(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[0] += 2;
    message
        .extend_from_slice(b"\x18\x40\xf6\x19\x01\x00\x9f\xa1\x01\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00\xff");
    message
}

fn element() -> Description {
    Description {
        kind: "software".into(),
        manufacturer: "AKM".into(),
        serial: "00112233".into(),
        firmware: "0.1.0".into(),
        protection: Protection::Software,
        sealed: false,
        counter: true,
    }
}

fn statuses() -> Vec<RelationshipStatus> {
    [Phase::Staged, Phase::Established, Phase::UsedUp]
        .into_iter()
        .zip(1..)
        .map(|(phase, at)| RelationshipStatus {
            relationship: RelationshipId::from_random([at; 16]),
            generation: 1,
            epoch: u32::from(at) * 1000,
            run: 0,
            phase,
            element_version: 1,
            highest: 1 + u32::from(at),
            found_back: 0,
        })
        .collect()
}

pub(super) fn install() -> Install {
    Install {
        public_part: some_sds(Kind::Communication, 2, Policy::default().emit()).emit(),
        wrapped_root: Some(vec![4; 32].into()),
        root_check: RootCheck([5; 4]),
        host_part: [6; SEALED_HOST_PART_LENGTH],
        label: "line".into(),
        member_labels: vec!["pump".into(), "valve".into()],
        endpoints: vec!["192.0.2.1:47100".into(), String::new()],
    }
}

pub fn management_seeds() -> Vec<Vec<u8>> {
    let identity = NodeIdentity {
        node: node(),
        relationship: relationship(),
        element: element(),
        stack_version: "0.1.0".into(),
        integrity: [8; 32],
        level: Level::Authorized,
        holds_others: true,
        stream_nonce: [3; 16],
    };
    let page = StatusAnswer { relationships: statuses(), more: false };
    let entries = vec![(0, "pump".into(), "192.0.2.1:47100".into()), (300, String::new(), String::new())];
    let body = IdentifyRequest { challenge: [9; 32] }.emit();
    let operation = Operation::Identify as u8;
    let request = |proof| Request { id: u64::MAX, operation, body: &body, proof };
    let without_root = Install { wrapped_root: None, ..install() };
    let done =
        Response { id: 7, outcome: Outcome::Done, body: vec![1, 2, 3], reason: String::new(), proof: None };
    let failed =
        Response { outcome: Outcome::Storage, body: Vec::new(), reason: "disk".into(), ..done.clone() };
    let report = ReportAnswer {
        is_member: true,
        endpoint: "192.0.2.1:47100".into(),
        heard: Some(3),
        sent: 70_000,
        accepted: 7,
        rejected: vec![("replayed".into(), 2), ("not for us".into(), u64::MAX)],
        sent_ago: Some(0),
        up: 86_400,
        rolled_back: false,
    };
    let messages = [
        (0, request(None).emit()),
        (0, request(Some([2; 32])).emit()),
        (0, passed_over(&request(None).emit())),
        (1, done.emit()),
        (1, failed.emit()),
        (1, Response { proof: Some([4; 32]), ..done.clone() }.emit()),
        (2, body.clone()),
        (3, IdentifyAnswer { identity: identity.emit(), proof: [1; 32] }.emit()),
        (4, identity.emit()),
        (5, PrepareRequest { relationship: relationship(), element_version: 70_000 }.emit()),
        (6, Opaque(vec![5; 32]).emit()),
        (7, install().emit().expose().to_vec()),
        (7, without_root.emit().expose().to_vec()),
        (8, ActivateRequest { relationship: relationship(), generation: 1, follow: true }.emit()),
        (9, EraseRequest::Relationship(relationship()).emit()),
        (9, EraseRequest::Everything.emit()),
        (9, passed_over(&EraseRequest::Everything.emit())),
        (10, StatusRequest { after: Some(relationship()), most: 1000 }.emit()),
        (10, StatusRequest { after: None, most: 1 }.emit()),
        (11, page.emit()),
        (12, SetEndpoints { relationship: relationship(), entries }.emit()),
        (13, ReportRequest { relationship: relationship(), member: node() }.emit()),
        (14, report.emit()),
        (14, ReportAnswer { heard: None, sent_ago: None, rejected: Vec::new(), ..report }.emit()),
    ];
    messages.into_iter().map(|(which, message)| [&[which], &message[..]].concat()).collect()
}

pub(super) fn preparation() -> Preparation {
    let existing = ExistingNode { node: node(), relationship: relationship(), provisioner: node() };
    Preparation {
        stack_version: "0.1.0".into(),
        element: element(),
        material: Vec::new(),
        node: Some(existing),
        leftovers: vec![root()],
    }
}

pub fn enrolment_seeds() -> Vec<Vec<u8>> {
    let envelope = Envelope {
        node: node(),
        name: "pump".into(),
        install: install().emit(),
        replaces: Some(relationship()),
        erase: vec![root()],
    };
    vec![
        [&[0], &preparation().emit()[..]].concat(),
        [&[0], &Preparation { node: None, ..preparation() }.emit()[..]].concat(),
        [&[1][..], envelope.emit().expose()].concat(),
        b"\x02akmd\nakmd.toml\nmanifest".to_vec(),
    ]
}
