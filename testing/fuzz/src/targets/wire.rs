//! What is not CBOR: frames, places, public parts; and the policy.

use akm_core::crypto::Suite;
use akm_core::crypto::hash::sha256;
use akm_core::frame::{Class, HEADER_LENGTH, Header, OVERHEAD, is_signed};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::policy::{DATAGRAM_MIN, Policy};
use akm_core::sds::{Generation, HeaderKey, Kind, MEMBERS_MAX, SynchronizedDataSet, Tag};
use akm_core::secret::Secret;
use akm_core::tree::{LAST_EPOCH, NO_EPOCH, Place};

use crate::cbor::{Form, form};
use crate::memory::within;

fn header_key() -> HeaderKey {
    Secret::fill(|key| key.fill(7))
}

/// The header comes out as it went in, its signature apart, which decides nothing here.
pub fn frame(bytes: &[u8]) -> bool {
    let Ok(header) = within(0, 0, || Header::parse(bytes)) else {
        let version = |first: u8| first == 0x10 || first == 0x11;
        assert!(bytes.len() < OVERHEAD || !version(bytes[0]) || bytes[1] != 0, "refused a frame");
        assert!(!is_signed(&bytes[..bytes.len().min(HEADER_LENGTH - 1)], &header_key()));
        return false;
    };
    let emitted = header.emit(&header_key());
    assert_eq!(emitted[..24], bytes[..24]);
    assert_eq!(is_signed(bytes, &header_key()), emitted[..] == bytes[..HEADER_LENGTH]);
    assert!(is_signed(&emitted, &header_key()));
    assert_eq!(header.nonce()[..8], [0; 8]);
    assert_eq!(header.nonce()[8..], bytes[20..24]);
    true
}

pub fn frame_seeds() -> Vec<Vec<u8>> {
    let header = |class| Header { class, sender: 1, tag: Tag(*b"tag!"), epoch: 5, salt: 77, counter: 3 };
    [Class::Session, Class::Resync]
        .into_iter()
        .map(|class| [&header(class).emit(&header_key())[..], &[0xaa; 20]].concat())
        .collect()
}

/// A place comes out as it went in, and opens later epochs only. The input is an epoch to move on to, then
/// the encoded place.
pub fn place(bytes: &[u8]) -> bool {
    let Some((epoch, bytes)) = bytes.split_first_chunk::<4>() else { return false };
    let epoch = u32::from_be_bytes(*epoch);
    let Ok(place) = within(4, bytes.len(), || Place::parse(bytes)) else { return false };
    assert_eq!(place.emit().expose()[..], *bytes);
    let ahead = epoch != NO_EPOCH && (place.epoch() == NO_EPOCH || epoch > place.epoch());
    assert_eq!(place.is_ahead(epoch), ahead);
    assert_eq!(place.leaf(epoch).is_some(), ahead);
    assert_eq!(place.next_epoch().is_none(), place.epoch() == LAST_EPOCH);
    let Some(later) = place.at(epoch) else {
        assert!(!ahead);
        return true;
    };
    assert!(ahead);
    assert_eq!((later.epoch(), later.run()), (epoch, place.run()));
    assert!(later.leaf(epoch).is_none());
    let again = Place::parse(later.emit().expose()).expect("what is emitted is read");
    if let Some(next) = later.next_epoch() {
        let leaf = place.leaf(next).expect("it is ahead of both");
        assert!(again.leaf(next).expect("it is ahead of both").equals(leaf.expose()));
    }
    true
}

pub fn place_seeds() -> Vec<Vec<u8>> {
    let before = || Place::before_first(0, Secret::fill(|root| root.fill(9)));
    let input = |epoch: u32, place: &Place| [&epoch.to_be_bytes()[..], place.emit().expose()].concat();
    let at = |epoch| before().at(epoch).expect("it is ahead");
    vec![
        input(0, &before()),
        input(6, &at(5)),
        input(LAST_EPOCH, &at(0x8000_0000)),
        input(LAST_EPOCH, &at(LAST_EPOCH)),
        input(1_000_000, &at(0)),
    ]
}

/// A public part comes out as it went in, and keeps the rules of its kind.
pub fn sds(bytes: &[u8]) -> bool {
    let Ok(sds) = within(4, bytes.len(), || SynchronizedDataSet::parse(bytes)) else { return false };
    assert_eq!(sds.emit(), bytes);
    assert_eq!(*sds.digest(), sha256(&[bytes]));
    assert!(sds.generation() > 0 && sds.element_version() > 0);
    let members = sds.members();
    match sds.kind() {
        Kind::Provisioning => assert!(members.len() == 2 && members[0] != members[1]),
        Kind::Communication => {
            assert!((2..=MEMBERS_MAX).contains(&members.len()));
            assert!(members.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
    for (index, member) in members.iter().enumerate() {
        assert_eq!(sds.index_of(*member), Some(index as u16));
        assert_ne!(*member.as_bytes(), [0; 16]);
    }
    if let Ok(read) = Policy::parse(sds.policy()) {
        assert!(sds.policy().is_empty() || read.emit() == sds.policy());
    }
    true
}

pub(super) fn some_sds(kind: Kind, members: u8, policy: Vec<u8>) -> SynchronizedDataSet {
    SynchronizedDataSet::new(Generation {
        kind,
        relationship: RelationshipId::from_random([0xee; 16]),
        generation: 1,
        element_version: 1,
        instance: [3; 16],
        suite: Suite::Aes256Gcm,
        members: (1..=members).map(|at| AkmId::from_random([at; 16])).collect(),
        policy,
    })
    .expect("a valid generation")
}

pub fn sds_seeds() -> Vec<Vec<u8>> {
    vec![
        some_sds(Kind::Provisioning, 2, Policy::provisioning().emit()).emit(),
        some_sds(Kind::Communication, 2, Vec::new()).emit(),
        some_sds(Kind::Communication, 5, Policy::default().emit()).emit(),
    ]
}

/// A policy is read in one encoding only.
pub fn policy(bytes: &[u8]) -> bool {
    let Ok(policy) = within(4, bytes.len(), || Policy::parse(bytes)) else { return false };
    assert!(policy.datagram_max >= DATAGRAM_MIN);
    let emitted = policy.emit();
    assert_eq!(form(&emitted), Form::Deterministic);
    assert!(bytes.is_empty() || emitted == bytes, "read {bytes:02x?} as {emitted:02x?}");
    assert_eq!(Policy::parse(&emitted), Ok(policy));
    true
}

pub fn policy_seeds() -> Vec<Vec<u8>> {
    vec![Policy::default().emit(), Policy::provisioning().emit(), Vec::new()]
}
