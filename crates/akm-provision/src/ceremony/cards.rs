//! The static keys of a node's card: what wrapping a root for it takes, and when they are forgotten.

use std::path::Path;

use akm_core::element::Description;
use akm_element::card::CardKeys;
use akm_element::{WrapError, WrapKeys};

use crate::error::Error;
use crate::error::ceremony::{AtElement, Device, Refusal, Unfit};
use crate::store::{Node, Store};

/// What wrapping a root for this element takes: the static keys, for a card. Those in the file count more than those that
/// the module kept.
pub(crate) fn wrap_keys(
    store: &Store,
    element: &Description,
    card_keys: Option<&Path>,
) -> Result<WrapKeys, Error> {
    if element.kind != "card" {
        return match card_keys {
            Some(_) => Err(Refusal::from(Unfit::NoCard { kind: element.kind.clone() }).into()),
            None => Ok(WrapKeys::default()),
        };
    }
    let serial = &element.serial;
    let card = match card_keys {
        Some(path) => Some(
            CardKeys::load(path, serial)
                .map_err(|error| {
                    Refusal::from(Device::Refused { what: "the keys of cards", source: error.into() })
                })?
                .ok_or_else(|| {
                    let (file, serial) = (path.to_owned(), serial.clone());
                    Refusal::from(AtElement::NoCardKeys { file, serial })
                })?,
        ),
        None => store.card_keys(element)?,
    };
    match card {
        Some(card) => Ok(WrapKeys { card: Some(card) }),
        None => Err(WrapError::KeysNeeded { serial: serial.clone() }.into()),
    }
}

/// Forgets the static keys of a node's card, unless that is also the card of another node in force.
pub(super) fn forget_card(store: &Store, node: &Node) -> Result<(), Error> {
    let Some(card) = &node.element else { return Ok(()) };
    let has_it = |other: &Node| other.element.as_ref().is_some_and(|its| its.identity() == card.identity());
    if store.nodes()?.iter().any(|other| other.id != node.id && has_it(other)) {
        return Ok(());
    }
    Ok(store.forget_card_keys(card)?)
}
