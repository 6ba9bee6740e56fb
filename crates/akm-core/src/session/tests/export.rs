//! Keys that applications get of an epoch.

use core::time::Duration;

use super::fixture::*;
use crate::keys::NotExportable;
use crate::policy::Policy;
use crate::session::{NotExported, Rejection};

fn export(
    network: &Network,
    at: usize,
    epoch: Option<u32>,
    label: &str,
) -> Result<(u32, [u8; 32]), NotExported> {
    let exported = network.parties[at].session.export(epoch, label, b"a context", 32, network.now)?;
    Ok((exported.epoch, exported.key.expose().try_into().unwrap()))
}

#[test]
fn all_members_of_an_epoch_get_the_same_key_and_another_for_each_label_and_epoch() {
    let mut network = Network::of(3);
    network.tell_all(0, b"x");
    let keys = [0, 1, 2].map(|at| export(&network, at, None, "vpn").unwrap());
    assert_eq!((keys[0].0, keys[0], keys[1]), (0, keys[1], keys[2]));
    assert_ne!(export(&network, 0, None, "vpn.2").unwrap(), keys[0]);
    network.wait(SECOND);
    network.tell_all(1, b"on");
    let later = export(&network, 2, None, "vpn").unwrap();
    assert!(later.0 == 1 && later.1 != keys[0].1);
    assert_eq!(
        export(&network, 0, Some(0), "vpn"),
        Ok(keys[0]),
        "whoever is told the epoch can still get it"
    );
}

#[test]
fn an_epoch_gives_keys_as_long_as_its_frames_are_taken() {
    let mut network = Network::of(2);
    assert_eq!(export(&network, 0, None, "vpn"), Err(NotExported::NotOpen), "it has begun none");
    network.tell_all(0, b"x");
    network.wait(SECOND);
    let hello = network.advance(0).frame();
    network.hear(1, &hello);
    network.wait(Policy::default().overlap - MILLISECOND);
    assert!(export(&network, 1, Some(0), "vpn").is_ok());
    network.wait(MILLISECOND);
    assert_eq!(
        export(&network, 1, Some(0), "vpn"),
        Err(NotExported::NotOpen),
        "also before anybody closed it"
    );
    assert!(export(&network, 1, Some(1), "vpn").is_ok());
    network.restart(1);
    for epoch in [None, Some(1)] {
        assert_eq!(export(&network, 1, epoch, "vpn"), Err(NotExported::NotOpen), "a start is in none");
    }
}

#[test]
fn an_epoch_that_somebody_only_claims_gives_none() {
    let mut network = Network::of(2);
    network.tell_all(0, b"x");
    let claimed = network.forge(0, 7, 1, 0);
    assert_eq!(network.drops(1, &claimed), Rejection::NotAuthentic);
    assert_eq!(export(&network, 1, Some(7), "vpn"), Err(NotExported::NotOpen));
    assert_eq!(network.parties[1].session.footprint().unproven, 1, "its secret is there, and not given out");
}

#[test]
fn labels_and_lengths_that_the_protocol_does_not_know_are_refused() {
    let mut network = Network::with(2, Policy { rotate_after: Duration::ZERO, ..Policy::default() });
    network.tell_all(0, b"x");
    let session = &network.parties[0].session;
    let longest = "a".repeat(64);
    for label in ["a", "etsi-014", "0.9-x", &longest] {
        assert!(session.export(None, label, &[], 255, network.now).is_ok(), "{label}");
    }
    let too_long = "a".repeat(65);
    for label in ["", "A", "a b", "a_b", "\u{e4}", "a\0", &too_long] {
        let refused = session.export(None, label, &[], 32, network.now).unwrap_err();
        assert_eq!(refused, NotExportable::Label.into(), "{label}");
    }
    let refused = session.export(None, "a", &[], 0, network.now).unwrap_err();
    assert_eq!(refused, NotExportable::Length.into());
    for length in [1, 31, 32, 33, 255] {
        let exported = session.export(None, "a", &[], length, network.now).unwrap();
        assert_eq!(exported.key.len(), usize::from(length));
    }
}
