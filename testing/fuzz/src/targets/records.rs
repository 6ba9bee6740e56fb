//! What a node and a software element store. Behind a SHA-256 a changed byte would get no further, so the
//! input is what the SHA-256 covers, and the target appends a right one; the bytes as they are must be refused
//! unless their last 32 happen to be right.

use akm_core::crypto::hash::sha256;
use akm_core::element::{Description, Protection, RootCheck};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::policy::Policy;
use akm_core::sds::{HostKeys, HostPart, Kind, SynchronizedDataSet, Tag};
use akm_core::seal::SEALED_KEYS_LENGTH;
use akm_core::secret::Secret;
use akm_element::software::fuzzing::{Read, open_file, reread_content, reread_file, seal_file};
use akm_node::storage::{
    IdentityRecord, Installed, emit_endpoints, emit_installed, parse_endpoints, parse_installed,
};

use super::messages::install;
use super::wire::some_sds;
use crate::cbor::check_reread;
use crate::memory::within;

const SUM_LENGTH: usize = 32;
const EXPANSION: usize = 64;
const KEY: [u8; 32] = [0x6b; 32];

pub(super) fn with_sum(content: &[u8]) -> Vec<u8> {
    [content, &sha256(&[content])].concat()
}

pub(super) fn without_sum(mut record: Vec<u8>) -> Vec<u8> {
    record.truncate(record.len() - SUM_LENGTH);
    record
}

/// Reads a record with a right SHA-256 and compares what is emitted again.
fn reread<T>(content: &[u8], parse: impl Fn(&[u8]) -> Option<T>, emit: impl Fn(&T) -> Vec<u8>) -> Option<T> {
    let record = with_sum(content);
    if content
        .last_chunk::<SUM_LENGTH>()
        .is_none_or(|sum| sha256(&[&content[..content.len() - SUM_LENGTH]]) != *sum)
    {
        assert!(parse(content).is_none(), "read a record without its SHA-256");
    }
    let read = within(EXPANSION, record.len(), || parse(&record))?;
    let emitted = emit(&read);
    assert!(parse(&emitted).is_some(), "what is emitted is read");
    check_reread(content, &without_sum(emitted));
    Some(read)
}

pub fn identity(content: &[u8]) -> bool {
    reread(content, |bytes| IdentityRecord::parse(bytes).ok(), IdentityRecord::emit).is_some_and(|identity| {
        // These become the names of directories.
        for name in [identity.node.to_string(), identity.relationship.to_string()] {
            assert!(name.len() == 36 && name.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()));
        }
        true
    })
}

pub fn identity_seeds() -> Vec<Vec<u8>> {
    let identity = IdentityRecord {
        node: AkmId::from_random([1; 16]),
        relationship: RelationshipId::from_random([2; 16]),
        provisioner: AkmId::from_random([3; 16]),
        name: "pump".into(),
    };
    vec![without_sum(identity.emit())]
}

pub fn installed(content: &[u8]) -> bool {
    reread(content, |bytes| parse_installed(bytes).ok(), emit_installed).is_some_and(|installed| {
        assert!(!installed.active);
        let sds = installed.sds.emit();
        assert!(SynchronizedDataSet::parse(&sds).is_ok());
        assert!(content.windows(sds.len()).any(|part| part == sds));
        true
    })
}

pub fn installed_seeds() -> Vec<Vec<u8>> {
    let sds = [
        some_sds(Kind::Communication, 2, Policy::default().emit()),
        some_sds(Kind::Provisioning, 2, Policy::provisioning().emit()),
    ];
    sds.into_iter()
        .map(|sds| {
            let sealed_keys = vec![5; SEALED_KEYS_LENGTH];
            without_sum(emit_installed(&Installed::of(install(), sds, &host_part(), sealed_keys, true)))
        })
        .collect()
}

fn host_part() -> HostPart {
    let (header_key, resync_key) = (Secret::fill(|key| key.fill(6)), Secret::fill(|key| key.fill(7)));
    let keys = HostKeys { header_key, tag: Tag(*b"tag!"), resync_key };
    HostPart { tree_root: Secret::fill(|root| root.fill(5)), keys }
}

pub fn endpoints(content: &[u8]) -> bool {
    reread(content, parse_endpoints, |(labels, endpoints)| emit_endpoints(labels, endpoints)).is_some()
}

pub fn endpoints_seeds() -> Vec<Vec<u8>> {
    let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
    vec![
        without_sum(emit_endpoints(&texts(["pump", ""]), &texts(["192.0.2.1:47100", "[2001:db8::7]:1"]))),
        without_sum(emit_endpoints(&[], &[])),
    ]
}

/// The content of a software element is read in one encoding only.
pub fn element_content(bytes: &[u8]) -> bool {
    let Some(emitted) = within(EXPANSION, bytes.len(), || reread_content(bytes)) else { return false };
    assert_eq!(emitted[..], *bytes);
    check_reread(bytes, &emitted);
    true
}

/// Contents of real elements: after enrolment, and with roots.
pub fn element_content_seeds() -> Vec<Vec<u8>> {
    let place = tempfile::tempdir().expect("a temporary directory can be made");
    let spec: akm_element::ElementSpec = "software".parse().expect("a valid element");
    let mut element = spec.create(place.path()).expect("an element can be made there");
    let description: Description = element.description();
    assert_eq!(description.protection, Protection::Software);
    let content = || {
        let file = std::fs::read(place.path().join(akm_element::software::FILE_NAME));
        match reread_file(&file.expect("the element is a file")) {
            Some((Read::Plain(content), _)) => content,
            _ => panic!("the element is not sealed"),
        }
    };
    let mut contents = vec![content()];
    element.make_device_key().expect("the element works");
    for at in 1..4 {
        let id = RelationshipId::from_random([at; 16]);
        let root =
            akm_core::element::Root::Relationship { id, version: u32::from(at), check: RootCheck([0; 4]) };
        element.install(root, &[at; 32]).expect("the element works");
    }
    contents.push(content());
    contents
}

/// The file of a software element. What it asks for to find its key is bounded; what is sealed opens as it
/// was, and not after any change.
pub fn element_file(content: &[u8]) -> bool {
    let sealed = seal_file(content, &KEY);
    assert_eq!(open_file(&sealed, &KEY).expect("it was sealed under this key")[..], *content);
    let mut altered = without_sum(sealed.to_vec());
    if let Some(at) = content.first().map(|at| usize::from(*at) % altered.len()) {
        altered[at] ^= 1;
        assert!(open_file(&with_sum(&altered), &KEY).is_none(), "opened although byte {at} is another");
    }
    let file = with_sum(content);
    match within(8, file.len(), || reread_file(&file)) {
        None => return false,
        Some((Read::Plain(_), _)) => {}
        Some((Read::Sealed(memory, passes, lanes), _)) => {
            assert!(memory <= 1024 * 1024 && (1..=64).contains(&passes) && (1..=16).contains(&lanes));
            assert!(memory >= 8 * lanes);
        }
    }
    let (_, emitted) = reread_file(&file).expect("it was read before");
    let (_, again) = reread_file(&emitted).expect("what is emitted is read");
    assert_eq!(again, emitted);
    assert!(emitted.len() <= file.len() && (emitted.len() < file.len() || emitted[..] == file[..]));
    true
}

pub fn element_file_seeds() -> Vec<Vec<u8>> {
    let plain: Vec<u8> = [&b"\xa2\x00\x6bakm element\x01\x02\x47"[..], b"content"].concat();
    vec![without_sum(seal_file(b"content", &KEY).to_vec()), plain]
}
