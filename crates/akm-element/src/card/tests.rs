//! Both sides against each other, in one process: the host's side of this crate and the applet of `akm-card`. That PC/SC is
//! between them is tested in `tests/card.rs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akm_card::{Applet as CardApplet, Card, Fault, Memory, Moment, Protocol, StaticKeys};
use akm_core::element::RootCheck;
use akm_core::id::RelationshipId;
use akm_core::keys::element_function;
use akm_core::secret::SecretBytes;
use zeroize::Zeroizing;

use super::*;
use crate::conformance;

const KEYS: &str = "* 30 000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f \
                    202122232425262728292a2b2c2d2e2f";
const OTHER_KEYS: &str = "* 30 ff0102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f \
                          202122232425262728292a2b2c2d2e2f";

/// When the card leaves in the middle of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Before,
    After,
}

/// A card in a reader, and what shall happen to it.
struct Slot {
    card: Card,
    keys: &'static str,
    /// Whether a card that lost power comes back by itself.
    comes_back: bool,
    is_away: bool,
    commands: u64,
    cut: Option<(u64, Cut)>,
}

impl Slot {
    fn put_back(&mut self) {
        let bytes = self.card.applet().memory().bytes().to_vec();
        self.card = card_of(bytes, "", self.keys);
        self.is_away = false;
    }

    fn raw(&mut self, command: &[u8]) -> Vec<u8> {
        self.card.transmit(command).unwrap()
    }

    fn image(&mut self) -> Vec<u8> {
        self.card.applet().memory().bytes().to_vec()
    }
}

fn card_of(bytes: Vec<u8>, serial: &str, keys: &str) -> Card {
    let bytes = if bytes.is_empty() { CardApplet::first_memory(serial).unwrap() } else { bytes };
    let keys = StaticKeys::find(keys, "any").unwrap();
    let mut card = Card::new(CardApplet::new(Memory::volatile(bytes), keys).unwrap(), Protocol::T1);
    card.power();
    card
}

#[derive(Clone)]
struct Direct(Arc<Mutex<Slot>>);

impl Direct {
    fn new(serial: &str) -> Self {
        Self::with_keys(serial, KEYS)
    }

    fn with_keys(serial: &str, keys: &'static str) -> Self {
        let card = card_of(Vec::new(), serial, keys);
        Self(Arc::new(Mutex::new(Slot {
            card,
            keys,
            comes_back: false,
            is_away: false,
            commands: 0,
            cut: None,
        })))
    }

    fn element(&self) -> CardElement {
        CardElement::connect(Box::new(self.clone())).unwrap()
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel for Direct {
    fn begin(&mut self) -> Result<(), ElementError> {
        let mut slot = self.slot();
        if slot.is_away {
            if !slot.comes_back {
                return Err(ElementError::Unavailable("the card is away".into()));
            }
            slot.put_back();
        }
        Ok(())
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let mut slot = self.slot();
        slot.commands += 1;
        let commands = slot.commands;
        let gone = |slot: &mut Slot| {
            slot.is_away = true;
            Broken(ElementError::Unavailable("the card is away".into()))
        };
        if slot.cut == Some((commands, Cut::Before)) {
            return Err(gone(&mut slot));
        }
        match slot.card.transmit(command) {
            Ok(_) if slot.cut == Some((commands, Cut::After)) => Err(gone(&mut slot)),
            Ok(response) => Ok(Zeroizing::new(response)),
            Err(_) => Err(gone(&mut slot)),
        }
    }

    fn end(&mut self) {}

    fn place(&self) -> String {
        "the test".into()
    }
}

fn card_keys(line: &str) -> CardKeys {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("cards");
    std::fs::write(&path, line).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, closed).unwrap();
    CardKeys::load(&path, "any").unwrap().unwrap()
}

fn root(version: u32) -> Root {
    Root::Relationship { id: RelationshipId::from_random([7; 16]), version, check: RootCheck([0; 4]) }
}

fn wrapped(element: &mut CardElement, root: Root, key: [u8; 32]) -> SecretBytes {
    let material = element.prepare().unwrap();
    wrap(root, &Secret::take(&mut { key }), &element.description(), &material, &card_keys(KEYS)).unwrap()
}

fn install(element: &mut CardElement, root: Root, key: [u8; 32]) -> Result<(), ElementError> {
    let wrapped = wrapped(element, root, key);
    element.install(root, wrapped.expose())
}

fn holds(element: &mut CardElement, root: Root, key: [u8; 32]) -> bool {
    match element.derive(root, Label::Receipt, b"x") {
        Ok(derived) => {
            assert!(element_function(&key, b"akm1 receipt", b"x").equals(derived.expose()), "another root");
            true
        }
        Err(ElementError::NoSuchRoot) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_card_passes_the_suite() {
    let card = Direct::new("SIM-1");
    conformance::check(
        || Box::new(card.element()),
        |description, material, name, root| {
            wrap(name, root, description, material, &card_keys(KEYS)).unwrap().expose().to_vec()
        },
    );
}

#[test]
fn a_card_says_what_it_is() {
    let description = Direct::new("SIM-1").element().description();
    assert_eq!(
        description,
        Description {
            kind: "card".into(),
            manufacturer: "AKM simulated card".into(),
            serial: "SIM-1".into(),
            firmware: "AKM applet 1.0".into(),
            protection: Protection::Software,
            sealed: false,
            counter: true,
        }
    );
}

#[test]
fn a_spec_is_a_part_of_a_readers_name_and_given_back_as_it_was() {
    for text in ["card:Swissbit", "card:Virtual PCD 00 00", "card:a:b", "card:\u{e9}"] {
        assert_eq!(text.parse::<ElementSpec>().unwrap().to_string(), text);
    }
    for text in [
        "card",
        "card:",
        "card: x",
        "card:x ",
        "card:a\nb",
        "card:a\u{0}",
        &format!("card:{}", "x".repeat(128)),
    ] {
        let refused = text.parse::<ElementSpec>().unwrap_err().to_string();
        assert!(refused.starts_with("card: ") && !refused.contains('\n'), "{refused}");
    }
}

#[test]
fn a_card_without_a_device_key_is_no_enrolled_nodes() {
    let card = Direct::new("SIM-1");
    let refused = card.element().with_device_key().unwrap_err();
    assert!(
        matches!(&refused, ElementError::Unavailable(why) if why.contains("SIM-1 in the test has no device key"))
    );
    card.element().make_device_key().unwrap();
    card.element().with_device_key().unwrap();
}

#[test]
fn discarding_erases_all_roots_and_the_device_key_and_keeps_the_counter() {
    let card = Direct::new("SIM-1");
    let mut element = card.element();
    element.make_device_key().unwrap();
    for version in 1..=15 {
        install(&mut element, root(version), [version as u8; 32]).unwrap();
    }
    element.count_up().unwrap();
    for _ in 0..2 {
        element.erase_all().unwrap();
        assert_eq!(element.roots(), Ok(vec![]));
    }
    assert_eq!(element.value(), Ok(1));
}

#[test]
fn a_full_card_says_so_and_has_room_again_after_an_erasure() {
    let card = Direct::new("SIM-1");
    let mut element = card.element();
    for version in 1..=64 {
        install(&mut element, root(version), [version as u8; 32]).unwrap();
    }
    assert_eq!(install(&mut element, root(65), [65; 32]), Err(ElementError::Full));
    assert_eq!(install(&mut element, root(64), [64; 32]), Ok(()), "what is held needs no room");
    assert_eq!(element.roots().unwrap(), (1..=64).map(root).collect::<Vec<_>>());
    element.make_device_key().unwrap();
    element.erase(root(30)).unwrap();
    install(&mut element, root(65), [65; 32]).unwrap();
    assert!(holds(&mut element, root(65), [65; 32]));
}

#[test]
fn a_full_card_refuses_also_who_does_not_ask_first() {
    let card = Direct::new("SIM-1");
    let mut element = card.element();
    for version in 1..=64 {
        install(&mut element, root(version), [version as u8; 32]).unwrap();
    }
    let script = wrapped(&mut element, root(65), [65; 32]);
    let script = Script::parse(script.expose()).unwrap();
    let responses: Vec<_> = script.steps.iter().map(|step| card.slot().raw(step.command)).collect();
    assert_eq!(responses[2], [0x6a, 0x84]);
}

#[test]
fn a_script_that_has_done_its_work_may_come_again() {
    let card = Direct::new("SIM-1");
    let mut element = card.element();
    let script = wrapped(&mut element, root(1), [1; 32]);
    for _ in 0..2 {
        element.install(root(1), script.expose()).unwrap();
    }
    let before = card.slot().image();
    element.install(root(1), script.expose()).unwrap();
    assert_eq!(card.slot().image(), before, "nothing is sent that changes the card");
}

#[test]
fn a_script_played_again_after_the_root_was_erased_does_nothing() {
    let card = Direct::new("SIM-1");
    let mut element = card.element();
    let script = wrapped(&mut element, root(1), [1; 32]);
    element.install(root(1), script.expose()).unwrap();
    element.erase(root(1)).unwrap();
    let refused = element.install(root(1), script.expose());
    assert!(
        matches!(&refused, Err(ElementError::Unavailable(why)) if why.contains("prepare and wrap it again"))
    );
    for step in &Script::parse(script.expose()).unwrap().steps {
        let response = card.slot().raw(step.command);
        assert_ne!(response, step.response);
    }
    assert!(!holds(&mut element, root(1), [1; 32]));
}

#[test]
fn a_script_for_another_card_does_nothing_even_under_the_same_keys() {
    let [first, second] = ["SIM-1", "SIM-2"].map(Direct::new);
    let script = wrapped(&mut first.element(), root(1), [1; 32]);
    let refused = second.element().install(root(1), script.expose()).unwrap_err().to_string();
    assert!(refused.ends_with("this root was wrapped for card SIM-1, and this is card SIM-2"), "{refused}");
    let responses: Vec<_> = {
        let mut slot = second.slot();
        Script::parse(script.expose()).unwrap().steps.iter().map(|step| slot.raw(step.command)).collect()
    };
    assert_eq!(responses[1], [0x90, 0x00], "the same keys and the same sequence counter");
    assert_eq!(responses[2], [0x6a, 0x80]);
    assert!(!holds(&mut second.element(), root(1), [1; 32]));
}

#[test]
fn no_device_key_comes_in_from_outside() {
    let card = Direct::new("SIM-1");
    let script = wrapped(&mut card.element(), Root::Device, [1; 32]);
    assert!(matches!(card.element().install(Root::Device, script.expose()), Err(ElementError::Refused(_))));
    let responses: Vec<_> = {
        let mut slot = card.slot();
        Script::parse(script.expose()).unwrap().steps.iter().map(|step| slot.raw(step.command)).collect()
    };
    assert_eq!(responses[2], [0x6a, 0x80]);
    assert_eq!(card.element().roots(), Ok(vec![]));
}

#[test]
fn a_card_with_other_keys_is_told_and_gets_nothing() {
    let card = Direct::with_keys("SIM-1", OTHER_KEYS);
    let mut element = card.element();
    let refused = install(&mut element, root(1), [1; 32]);
    assert!(
        matches!(&refused, Err(ElementError::Refused(why)) if why.contains("other keys than this card")),
        "{refused:?}"
    );
    assert_eq!(element.roots(), Ok(vec![]));
}

#[test]
fn an_altered_script_never_brings_in_another_root() {
    let card = Direct::new("SIM-1");
    let fresh = card.slot().image();
    let script = wrapped(&mut card.element(), root(1), [0xc7; 32]);
    let commands: Vec<std::ops::Range<usize>> = {
        let parsed = Script::parse(script.expose()).unwrap();
        let start = script.expose().as_ptr() as usize;
        let place = |bytes: &[u8]| {
            let at = bytes.as_ptr() as usize - start;
            at..at + bytes.len()
        };
        parsed.steps.iter().map(|step| place(step.command)).collect()
    };
    for at in 0..script.len() {
        for mask in [0x01, 0x80] {
            let mut altered = script.expose().to_vec();
            altered[at] ^= mask;
            let card = Direct::new("SIM-1");
            card.slot().card = card_of(fresh.clone(), "", KEYS);
            let mut element = card.element();
            let done = element.install(root(1), &altered);
            let is_held = holds(&mut element, root(1), [0xc7; 32]);
            // Whether a response is asked for is not part of what is authenticated.
            let is_le = at == commands[0].end - 1;
            if !is_le {
                assert!(done.is_err(), "byte {at} ^ {mask:#x} was accepted");
            }
            if commands.iter().any(|range| range.contains(&at)) && !is_le {
                assert!(!is_held, "byte {at} ^ {mask:#x} of a command brought a root in");
            }
            assert!(element.roots().unwrap().iter().all(|held| *held == root(1)), "byte {at} ^ {mask:#x}");
        }
    }
}

#[test]
fn no_command_without_the_channel_shows_or_changes_a_root() {
    let key: [u8; 32] = std::array::from_fn(|at| 0x91 ^ (at as u8).wrapping_mul(37));
    let card = Direct::new("SIM-1");
    let mut element = card.element();
    element.make_device_key().unwrap();
    install(&mut element, root(1), key).unwrap();
    let image = card.slot().image();
    // Both keys as the card stores them, the static keys as it was given them.
    let place = image.windows(32).position(|bytes| bytes == key).unwrap();
    let device = image[128 + 21..128 + 53].to_vec();
    assert!(place > 128 + 53);
    let static_keys: Vec<u8> = (0x00..0x30).collect();
    let shows = |response: &[u8]| {
        [&key[..], &device, &static_keys]
            .iter()
            .any(|secret| secret.windows(6).any(|part| response.windows(6).any(|bytes| bytes == part)))
    };
    let name = root(1).name();
    let mut slot = card.slot();
    for class in [0x00, 0x80, 0x84] {
        for instruction in 0..=255u8 {
            // Erasing is what the host may do; making sure of it is another test.
            if (class, instruction) == (0x80, 0xe4) {
                continue;
            }
            for parameters in [[0, 0], [1, 0], [0, 1], [0xa0, 0], [0x13, 0]] {
                for data in [&[][..], &[0][..], &name, &[&name[..], &[0x22; 32]].concat()] {
                    slot.raw(&[0x00, 0xa4, 0x04, 0x00, 6, 0xf0, b'A', b'K', b'M', b'1', 0x01]);
                    let header = [class, instruction, parameters[0], parameters[1]];
                    let lc: &[u8] = if data.len() > 1 { &[data.len() as u8] } else { &[] };
                    let response = slot.raw(&[&header[..], lc, data].concat());
                    assert!(!shows(&response), "{header:x?}");
                }
            }
        }
    }
    slot.raw(&[0x00, 0xa4, 0x04, 0x00, 6, 0xf0, b'A', b'K', b'M', b'1', 0x01]);
    for tag in 0..=u16::MAX {
        let [p1, p2] = tag.to_be_bytes();
        assert!(!shows(&slot.raw(&[0x80, 0xca, p1, p2, 0x00])), "{tag:04x}");
    }
    drop(slot);
    assert!(holds(&mut element, root(1), key));
    assert_eq!(card.slot().image()[128..], image[128..], "a command changed a slot");
}

/// Installs a root on a card that fails once, then does what an operator does: puts the card back, has the root wrapped
/// again, and installs it.
fn interrupted(card: &Direct, arm: impl FnOnce(&mut Slot)) -> Result<(), ElementError> {
    let mut element = card.element();
    let script = wrapped(&mut element, root(1), [1; 32]);
    arm(&mut card.slot());
    let first = element.install(root(1), script.expose());
    // Also what did not come to pass is over.
    card.slot().cut = None;
    card.slot().put_back();
    if first.is_ok() {
        assert!(holds(&mut element, root(1), [1; 32]), "what was said to be done is not");
    }
    let again = element.install(root(1), script.expose());
    match (&again, holds(&mut element, root(1), [1; 32])) {
        (Ok(()), true) => {}
        (Err(ElementError::Unavailable(_)), false) => {}
        other => panic!("the same script again: {other:?}"),
    }
    install(&mut element, root(1), [1; 32]).unwrap();
    assert!(holds(&mut element, root(1), [1; 32]));
    assert_eq!(element.roots(), Ok(vec![root(1)]), "one root, not two");
    first
}

#[test]
fn power_lost_at_any_write_or_command_of_an_installation_ends_in_one_root() {
    for comes_back in [false, true] {
        let card = Direct::new("SIM-1");
        interrupted(&card, |_| {}).unwrap();
        // An installation is four writes.
        for write in 1..=5 {
            for moment in [Moment::Before, Moment::Torn, Moment::After] {
                let first = interrupted(&Direct::new("SIM-1"), |slot| {
                    slot.comes_back = comes_back;
                    slot.card.applet().memory().lose_power_at(Fault { write, moment });
                });
                match write {
                    5 => first.unwrap(),
                    _ if comes_back => {}
                    _ => assert!(first.is_err(), "{write} {moment:?}"),
                }
            }
        }
        // SELECT, F, slots, key information, three steps, F.
        for command in 1..=9 {
            for cut in [Cut::Before, Cut::After] {
                let first = interrupted(&Direct::new("SIM-1"), |slot| {
                    slot.comes_back = comes_back;
                    slot.commands = 0;
                    slot.cut = Some((command, cut));
                });
                match command {
                    9 => first.unwrap(),
                    _ if comes_back => {}
                    _ => assert!(first.is_err(), "{command} {cut:?}"),
                }
            }
        }
    }
}

#[test]
fn a_lost_answer_counts_once() {
    for comes_back in [false, true] {
        for cut in [Cut::Before, Cut::After] {
            for command in 1..=4 {
                let card = Direct::new("SIM-1");
                let mut element = card.element();
                element.count_up().unwrap();
                {
                    let mut slot = card.slot();
                    slot.comes_back = comes_back;
                    slot.commands = 0;
                    slot.cut = Some((command, cut));
                }
                let counted = element.count_up();
                assert_eq!(counted.is_ok(), comes_back, "{command} {cut:?}: {counted:?}");
                if card.slot().is_away {
                    card.slot().put_back();
                }
                if !comes_back {
                    assert_eq!(element.count_up(), Ok(2), "{command} {cut:?}");
                }
                assert_eq!(element.value(), Ok(2));
                assert_eq!(element.count_up(), Ok(3));
            }
        }
    }
}

#[test]
fn a_counter_that_was_read_after_a_failure_counts_from_what_was_read() {
    let card = Direct::new("SIM-1");
    let mut element = card.element();
    {
        let mut slot = card.slot();
        slot.commands = 0;
        slot.cut = Some((4, Cut::After));
    }
    element.count_up().unwrap_err();
    card.slot().put_back();
    assert_eq!(element.value(), Ok(1), "it had counted");
    assert_eq!(element.count_up(), Ok(2));
}

#[test]
fn another_card_in_its_place_is_not_used() {
    let card = Direct::new("SIM-1");
    let mut element = card.element();
    install(&mut element, root(1), [1; 32]).unwrap();
    let ours = card.slot().image();
    card.slot().card = card_of(Vec::new(), "SIM-2", KEYS);
    let refused = element.count_up();
    assert!(
        matches!(&refused, Err(ElementError::Unavailable(why))
            if why == "card SIM-2 is in the test, and this node's is card SIM-1: put that one in"),
        "{refused:?}"
    );
    assert!(element.roots().is_err() && element.make_device_key().is_err());
    card.slot().card = card_of(ours, "", KEYS);
    assert!(holds(&mut element, root(1), [1; 32]));
}

#[test]
fn a_long_draw_takes_several_commands() {
    let mut element = Direct::new("SIM-1").element();
    let mut bytes = [0; 700];
    element.random(&mut bytes).unwrap();
    assert!(bytes.chunks(100).all(|part| part != [0; 100]));
}

#[test]
fn debug_text_shows_no_secret() {
    let mut element = Direct::new("SIM-1").element();
    install(&mut element, root(1), [0xc7; 32]).unwrap();
    assert_eq!(format!("{element:?}"), "CardElement { place: \"the test\", serial: \"SIM-1\", .. }");
}
