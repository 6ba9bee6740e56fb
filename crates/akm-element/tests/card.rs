//! Cards behind pcscd: the real service and its library, a virtual reader, and a card that is a program.
#![cfg(all(feature = "card", feature = "conformance"))]

use std::path::Path;
use std::process::Command;

use akm_core::element::{Description, ElementError, Label, Root, RootCheck};
use akm_core::id::RelationshipId;
use akm_core::keys::element_function;
use akm_core::secret::Secret;
use akm_counterparts::vpcd::{READERS, TestCard, Vpcd, wait_for, wait_for_card, wait_until_empty};
use akm_element::card::{self, CardElement, CardKeys};
use akm_element::{ElementSpec, ProvisionableElement, WrapKeys, conformance, wrap};

type Element = Box<dyn ProvisionableElement>;

fn spec(reader: usize) -> ElementSpec {
    format!("card:{}", READERS[reader]).parse().unwrap()
}

/// Puts the card in, and waits until it can be used.
fn insert(card: &mut TestCard, reader: usize) -> Element {
    card.insert(reader);
    created(reader)
}

fn created(reader: usize) -> Element {
    wait_for("a card in the reader", || spec(reader).create(Path::new("/nonexistent")))
}

fn opened(reader: usize) -> Element {
    wait_for("an enrolled card in the reader", || spec(reader).open(Path::new("/nonexistent")))
}

fn wrapped(
    keys: &Path,
    description: &Description,
    material: &[u8],
    name: Root,
    root: &Secret<32>,
) -> Vec<u8> {
    let keys = CardKeys::load(keys, &description.serial).unwrap();
    wrap(name, root, description, material, &WrapKeys { card: keys }).unwrap().expose().to_vec()
}

fn root(version: u32) -> Root {
    Root::Relationship { id: RelationshipId::from_random([7; 16]), version, check: RootCheck([0; 4]) }
}

fn install(element: &mut Element, card: &TestCard, name: Root, key: [u8; 32]) -> Result<(), ElementError> {
    let material = element.prepare()?;
    let script = wrapped(card.keys(), &element.description(), &material, name, &Secret::take(&mut { key }));
    element.install(name, &script)
}

fn holds(element: &mut Element, name: Root, key: [u8; 32]) -> bool {
    match element.derive(name, Label::Receipt, b"x") {
        Ok(derived) => {
            assert!(element_function(&key, b"akm1 receipt", b"x").equals(derived.expose()), "another root");
            true
        }
        Err(ElementError::NoSuchRoot) => false,
        Err(error) => panic!("{error}"),
    }
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, ElementError>) -> String {
    match result {
        Err(ElementError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_card_behind_pcscd_passes_the_suite_in_both_protocols() {
    let vpcd = Vpcd::start();
    for (serial, arguments) in [("SIM-1", &[][..]), ("SIM-0", &["--t0"])] {
        let mut card = vpcd.card(serial);
        card.set_arguments(arguments);
        drop(insert(&mut card, 0));
        let keys = card.keys().to_owned();
        conformance::check(
            || created(0),
            |description, material, name, root| wrapped(&keys, description, material, name, root),
        );
        card.remove();
        wait_until_empty(0);
    }
}

#[test]
fn readers_are_listed_and_a_card_is_described_without_a_change() {
    let vpcd = Vpcd::start();
    assert_eq!(card::list(), [spec(0), spec(1)]);
    let mut one = vpcd.card("SIM-1");
    one.insert(1);
    let part = "00 01".parse().unwrap();
    let description = wait_for("a card", || CardElement::describe(&part));
    assert_eq!((description.kind.as_str(), description.serial.as_str()), ("card", "SIM-1"));
    assert!(
        unavailable(CardElement::describe(&"00 00".parse().unwrap())).starts_with("there is no card in AKM")
    );
    let several = unavailable(CardElement::describe(&"AKM virtual".parse().unwrap()));
    assert!(several.contains(READERS[0]) && several.contains(READERS[1]), "{several}");
    let none = unavailable(CardElement::describe(&"Swissbit".parse().unwrap()));
    assert!(none.starts_with("no card reader has \"Swissbit\" in its name"), "{none}");
}

#[test]
fn a_card_without_a_device_key_opens_only_for_enrolment() {
    let vpcd = Vpcd::start();
    let mut card = vpcd.card("SIM-1");
    let mut element = insert(&mut card, 0);
    let why = unavailable(spec(0).open(Path::new("/nonexistent")).map(drop));
    assert!(why.contains("has no device key"), "{why}");
    element.make_device_key().unwrap();
    spec(0).open(Path::new("/nonexistent")).unwrap();
    install(&mut element, &card, root(1), [1; 32]).unwrap();
    for _ in 0..2 {
        spec(0).discard(Path::new("/nonexistent")).unwrap();
        assert_eq!(element.roots(), Ok(vec![]));
    }
}

#[test]
fn a_card_moves_to_another_reader_with_all_that_it_holds() {
    let vpcd = Vpcd::start();
    let mut card = vpcd.card("SIM-1");
    let mut element = insert(&mut card, 0);
    element.make_device_key().unwrap();
    install(&mut element, &card, root(1), [1; 32]).unwrap();
    let device = *element.derive(Root::Device, Label::Seal, b"x").unwrap().expose();
    drop(element);
    card.insert(1);
    let mut element = opened(1);
    assert!(holds(&mut element, root(1), [1; 32]));
    assert!(element.derive(Root::Device, Label::Seal, b"x").unwrap().equals(&device));
    wait_until_empty(0);
}

#[test]
fn an_element_outlives_a_removal_of_its_card_and_does_not_take_another() {
    let vpcd = Vpcd::start();
    let mut card = vpcd.card("SIM-1");
    let mut element = insert(&mut card, 0);
    install(&mut element, &card, root(1), [1; 32]).unwrap();
    card.remove();
    wait_until_empty(0);
    let why = unavailable(element.roots());
    assert_eq!(why, format!("there is no card in {}: put it in", READERS[0]));
    let mut other = vpcd.card("SIM-2");
    drop(insert(&mut other, 0));
    let why = unavailable(element.roots());
    assert_eq!(
        why,
        format!("card SIM-2 is in {}, and this node's is card SIM-1: put that one in", READERS[0])
    );
    other.remove();
    wait_until_empty(0);
    card.insert(0);
    wait_for("the card is back", || element.roots());
    assert!(holds(&mut element, root(1), [1; 32]));
}

#[test]
fn an_element_outlives_a_reset_and_another_applets_selection_by_another_program() {
    let vpcd = Vpcd::start();
    let mut card = vpcd.card("SIM-1");
    let mut element = insert(&mut card, 0);
    install(&mut element, &card, root(1), [1; 32]).unwrap();
    // The card ends the applet's turn at another SELECT, known or not.
    for arguments in [&["--reset=cold"][..], &["--reset=warm"], &["-s", "00A4040005A000000151"]] {
        let (variable, socket) = vpcd.environment();
        let other = Command::new("opensc-tool")
            .args(["--reader", READERS[0]])
            .args(arguments)
            .env(variable, socket)
            .output()
            .expect("opensc-tool is missing: apt-get install opensc");
        assert!(other.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&other.stderr));
        assert!(holds(&mut element, root(1), [1; 32]), "{arguments:?}");
    }
}

#[test]
fn an_element_outlives_a_restart_of_the_service() {
    let mut vpcd = Vpcd::start();
    let mut card = vpcd.card("SIM-1");
    let mut element = insert(&mut card, 0);
    install(&mut element, &card, root(1), [1; 32]).unwrap();
    vpcd.stop();
    let why = unavailable(element.roots());
    assert!(why.contains("systemctl start pcscd.socket"), "{why}");
    vpcd.start_again();
    card.insert(0);
    wait_for_card(0);
    assert!(holds(&mut element, root(1), [1; 32]));
}

#[test]
fn two_elements_on_one_card_take_turns() {
    let vpcd = Vpcd::start();
    let mut card = vpcd.card("SIM-1");
    let mut first = insert(&mut card, 0);
    install(&mut first, &card, root(1), [1; 32]).unwrap();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(|| {
                let mut element = created(0);
                for _ in 0..50 {
                    assert!(holds(&mut element, root(1), [1; 32]));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(holds(&mut first, root(1), [1; 32]));
}

#[test]
fn power_lost_in_an_installation_ends_in_one_root_after_another() {
    let vpcd = Vpcd::start();
    // All moments of all writes and commands: `card/tests.rs`. Here the reader sees the card go.
    let mut cases: Vec<Vec<String>> = Vec::new();
    for write in 1..=4 {
        cases.push(vec![format!("--lose-power-at-write={write}"), "--moment=torn".into()]);
    }
    // What `install` sends, after five commands of opening and preparing: `SELECT`, F, slots, keys, the script's three, F.
    for command in 5..=12 {
        cases.push(vec![format!("--lose-power-after-command={command}")]);
    }
    for (number, arguments) in cases.iter().enumerate() {
        let mut card = vpcd.card(&format!("SIM-{number}"));
        card.set_arguments(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let mut element = insert(&mut card, 0);
        let first = install(&mut element, &card, root(1), [1; 32]);
        let status = card.end().unwrap();
        assert_eq!(status.code(), Some(3), "{arguments:?}");
        assert!(first.is_err(), "{arguments:?}");
        card.set_arguments(&[]);
        card.insert(0);
        wait_for("the card is back", || element.roots());
        install(&mut element, &card, root(1), [1; 32]).unwrap();
        assert!(holds(&mut element, root(1), [1; 32]));
        assert_eq!(element.roots(), Ok(vec![root(1)]), "{arguments:?}");
        drop(element);
        card.remove();
        wait_until_empty(0);
    }
}
