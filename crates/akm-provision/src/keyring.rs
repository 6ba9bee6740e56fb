//! What opens cards: their static keys, out of a file that was given with the command, or as the module keeps them sealed.

use std::path::{Path, PathBuf};

use akm_core::element::Description;
use akm_element::card::CardKeys;
use akm_element::{WrapError, WrapKeys};

use crate::error::Error;
use crate::error::ceremony::{AtElement, Device, Refusal, Unfit};
use crate::store::{Node, Store};

/// What opens cards in a command. A file that was given counts more than what the module kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring {
    given: Option<PathBuf>,
}

impl Keyring {
    /// With the file that was given, if there is one.
    pub(crate) fn new(given: Option<PathBuf>) -> Self {
        Self { given }
    }

    /// What wrapping a root for this element takes: the static keys, for a card.
    pub(crate) fn wrap_keys(&self, store: &Store, element: &Description) -> Result<WrapKeys, Error> {
        if element.kind != "card" {
            return match self.given {
                Some(_) => Err(Refusal::from(Unfit::NoCard { kind: element.kind.clone() }).into()),
                None => Ok(WrapKeys::default()),
            };
        }
        let serial = &element.serial;
        let card = match &self.given {
            Some(file) => Some(out_of(file, serial)?),
            None => store.card_keys(element)?,
        };
        match card {
            Some(card) => Ok(WrapKeys { card: Some(card) }),
            None => Err(WrapError::KeysNeeded { serial: serial.clone() }.into()),
        }
    }
}

/// The keys that a file has for the card of this serial number.
fn out_of(file: &Path, serial: &str) -> Result<CardKeys, Error> {
    let keys = CardKeys::load(file, serial).map_err(|error| {
        Refusal::from(Device::Refused { what: "the keys of cards", source: error.into() })
    })?;
    let none = || AtElement::NoCardKeys { file: file.to_owned(), serial: serial.to_owned() };
    Ok(keys.ok_or_else(|| Refusal::from(none()))?)
}

/// Forgets the static keys of a node's card, unless that is also the card of another node in force.
pub(crate) fn forget_card(store: &Store, node: &Node) -> Result<(), Error> {
    let Some(card) = &node.element else { return Ok(()) };
    let has_it = |other: &Node| other.element.as_ref().is_some_and(|its| its.identity() == card.identity());
    if store.nodes()?.iter().any(|other| other.id != node.id && has_it(other)) {
        return Ok(());
    }
    Ok(store.forget_card_keys(card)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::error::Kind;
    use crate::store::fixture::{Fixture, element};

    fn card(serial: &str) -> Description {
        Description { kind: "card".to_owned(), ..element(serial) }
    }

    /// A file with the keys of one card, which are these digits again and again.
    fn file_for(serial: &str, digits: &str) -> (TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys");
        let key = digits.repeat(16);
        fs::write(&path, format!("{serial} 01 {key} {key} {key}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        (place, path)
    }

    fn keys_of(keyring: &Keyring, store: &Store, element: &Description) -> Result<Vec<u8>, Error> {
        let keys = keyring.wrap_keys(store, element)?;
        Ok(keys.card.map_or_else(Vec::new, |card| card.emit().to_vec()))
    }

    #[test]
    fn what_was_given_counts_more_than_what_is_kept() {
        let fixture = Fixture::new();
        let (_place, given) = file_for("77", "ab");
        let (_other, kept) = file_for("77", "cd");
        let kept = CardKeys::load(&kept, "77").unwrap().unwrap();
        let keyless = keys_of(&Keyring::default(), &fixture.store, &card("77")).unwrap_err();
        assert!(matches!(keyless, Error::Wrap(WrapError::KeysNeeded { .. })), "{keyless}");

        fixture.store.save_card_keys(&card("77"), &kept).unwrap();
        let found = keys_of(&Keyring::default(), &fixture.store, &card("77")).unwrap();
        assert_eq!(found, *kept.emit());
        let found = keys_of(&Keyring::new(Some(given)), &fixture.store, &card("77")).unwrap();
        assert_ne!(found, *kept.emit());
    }

    #[test]
    fn a_file_that_does_not_know_the_card_is_refused_although_its_keys_are_kept() {
        let fixture = Fixture::new();
        let (_place, given) = file_for("78", "ab");
        let kept = CardKeys::load(&given, "78").unwrap().unwrap();
        fixture.store.save_card_keys(&card("77"), &kept).unwrap();
        let refused = keys_of(&Keyring::new(Some(given)), &fixture.store, &card("77")).unwrap_err();
        assert!(refused.to_string().ends_with("has no keys for card 77"), "{refused}");
    }

    #[test]
    fn an_element_that_is_no_card_takes_no_keys() {
        let fixture = Fixture::new();
        assert!(keys_of(&Keyring::default(), &fixture.store, &element("1")).unwrap().is_empty());
        let given = Keyring::new(Some(PathBuf::from("keys")));
        let refused = keys_of(&given, &fixture.store, &element("1")).unwrap_err();
        assert_eq!(refused.kind(), Kind::Usage);
    }
}
