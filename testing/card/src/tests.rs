//! The card against whole exchanges that other software has computed, and against whoever disturbs it.

use std::collections::HashMap;

use super::*;
use crate::scp03::Channel;

/// Whole exchanges, computed by other software: `tests/scp03.py`.
const VECTORS: &str = include_str!("../tests/scp03.txt");

const SELECT: &[u8] = &[0x00, 0xa4, 0x04, 0x00, 6, 0xf0, b'A', b'K', b'M', b'1', 0x01];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

struct Exchange(HashMap<&'static str, Vec<u8>>);

impl Exchange {
    fn get(&self, word: &str) -> &[u8] {
        &self.0[word]
    }

    fn play(&self, card: &mut Card) -> Vec<u8> {
        assert_eq!(card.transmit(self.get("update")).unwrap(), self.get("updated"));
        assert_eq!(card.transmit(self.get("authenticate")).unwrap(), [0x90, 0x00]);
        card.transmit(self.get("store")).unwrap()
    }
}

fn exchanges() -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    for line in VECTORS.lines() {
        if line.starts_with("sequence ") {
            exchanges.push(Exchange(HashMap::new()));
        }
        if let (Some(exchange), Some((word, value))) = (exchanges.last_mut(), line.split_once(' ')) {
            exchange.0.insert(word, hex(value));
        }
    }
    exchanges
}

fn reopen(bytes: Vec<u8>) -> Card {
    let keys = StaticKeys::find(VECTORS, "SIM-0001").unwrap();
    let mut card = Card::new(Applet::new(Memory::volatile(bytes), keys).unwrap(), Protocol::T1);
    card.power();
    card
}

fn card() -> Card {
    reopen(Applet::first_memory("SIM-0001").unwrap())
}

fn selected() -> Card {
    let mut card = card();
    card.transmit(SELECT).unwrap();
    card
}

fn command(header: [u8; 4], data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return header.to_vec();
    }
    [&header[..], &[data.len() as u8], data].concat()
}

fn send(card: &mut Card, header: [u8; 4], data: &[u8]) -> Vec<u8> {
    card.transmit(&command(header, data)).unwrap()
}

const GENERATE: [u8; 4] = [0x80, 0x46, 0, 0];
const COUNT: [u8; 4] = [0x80, 0x32, 0, 0];
const ERASE: [u8; 4] = [0x80, 0xe4, 0, 0];
const F: [u8; 4] = [0x80, 0x88, 0, 0];

fn f(card: &mut Card, name: &[u8]) -> Vec<u8> {
    send(card, F, &[name, &[9], b"akm1 card", &std::array::from_fn::<u8, 16, _>(|at| at as u8)].concat())
}

#[test]
fn selecting_tells_version_and_serial_number() {
    let mut card = card();
    assert_eq!(send(&mut card, [0x80, 0xca, 1, 1], &[]), [0x6d, 0x00], "nothing before SELECT");
    assert_eq!(card.transmit(SELECT).unwrap(), b"\x01\x00SIM-0001\x90\x00");
    assert_eq!(card.transmit(&[0x00, 0xa4, 0x04, 0x00, 1, 0xf0]).unwrap(), [0x6a, 0x82]);
    assert_eq!(send(&mut card, [0x80, 0xca, 1, 1], &[]), [0x6d, 0x00], "another applet was selected");
}

#[test]
fn exchanges_of_other_software_are_understood_and_answered_bit_for_bit() {
    let mut card = selected();
    let exchanges = exchanges();
    assert_eq!(exchanges.len(), 3);
    assert_eq!(exchanges[0].play(&mut card), exchanges[0].get("stored"));
    assert_eq!(f(&mut card, exchanges[0].get("name"))[..32], *exchanges[0].get("f"));
    assert_eq!(exchanges[1].play(&mut card), exchanges[1].get("stored"), "the same root again");
    assert_ne!(exchanges[2].get("name"), exchanges[0].get("name"), "another root has another name");
    assert_eq!(exchanges[2].play(&mut card), exchanges[2].get("stored"));
    for exchange in [&exchanges[0], &exchanges[2]] {
        assert_eq!(f(&mut card, exchange.get("name"))[..32], *exchange.get("f"));
    }
}

/// From a real card (an eUICC's security domain), as published in the tests of osmocom's pySim.
#[test]
fn challenge_cryptograms_and_macs_are_those_of_a_real_card() {
    let keys = StaticKeys::find(VECTORS, "SIM-0001").unwrap();
    let security_domain = hex("a0000005591010ffffffff8900000100");
    let (mut channel, opening) = Channel::open(&keys, &security_domain, &hex("b13e5f938fc108c4"), [0, 0, 2]);
    assert_eq!(opening.card_challenge[..], hex("3eb51047495b249f"));
    assert_eq!(opening.card_cryptogram[..], hex("66c484c1d2ef1948"));
    let authenticate = hex("84821100107d5f5826a993ebc89eea24957fa0b3ce");
    let cryptogram = channel.check_mac(&authenticate[..4], &authenticate[5..]).unwrap();
    assert!(channel.authenticate(cryptogram));

    let (mut channel, opening) = Channel::open(&keys, &security_domain, &hex("fdf38259a1e0de44"), [0, 0, 3]);
    assert_eq!(opening.card_cryptogram[..], hex("081cdc01c26b372d"));
    let authenticate = hex("84823300108c36f96bcc00724a4e13ad591d7da3f0");
    let cryptogram = channel.check_mac(&authenticate[..4], &authenticate[5..]).unwrap();
    assert!(channel.authenticate(cryptogram));
    let secured = hex("84e2910018267a85dfe4a98fca6fb0527e0dfecce4914e40401433c87f");
    let encrypted = channel.check_mac(&secured[..4], &secured[5..]).unwrap();
    assert_eq!(channel.decrypt(encrypted).unwrap()[..], hex("bf3e035c015a"));
}

#[test]
fn a_script_plays_once() {
    let mut card = selected();
    let exchange = &exchanges()[0];
    exchange.play(&mut card);
    assert_eq!(send(&mut card, ERASE, exchange.get("name")), [0x90, 0x00]);
    let updated = card.transmit(exchange.get("update")).unwrap();
    assert_ne!(updated, exchange.get("updated"));
    assert_eq!(card.transmit(exchange.get("authenticate")).unwrap(), [0x69, 0x82]);
    assert_eq!(card.transmit(exchange.get("store")).unwrap(), [0x69, 0x82]);
    assert_eq!(f(&mut card, exchange.get("name")), [0x6a, 0x88]);
}

#[test]
fn every_altered_bit_of_a_secured_command_is_refused_and_ends_the_channel() {
    let exchange = &exchanges()[0];
    for word in ["authenticate", "store"] {
        // Not the length, which then no longer fits.
        for byte in (0..exchange.get(word).len()).filter(|byte| *byte != 4) {
            let mut card = selected();
            card.transmit(exchange.get("update")).unwrap();
            if word == "store" {
                card.transmit(exchange.get("authenticate")).unwrap();
            }
            let mut altered = exchange.get(word).to_vec();
            altered[byte] ^= 0x20;
            let refused = card.transmit(&altered).unwrap();
            assert_ne!(refused[..], [0x90, 0x00], "{word} {byte}");
            assert_eq!(refused.len(), 2, "{word} {byte}");
            assert_eq!(card.transmit(exchange.get(word)).unwrap().len(), 2, "the channel went on");
            assert_eq!(f(&mut card, exchange.get("name")), [0x6a, 0x88], "{word} {byte}");
        }
    }
}

#[test]
fn roots_enter_only_inside_the_channel() {
    let mut card = selected();
    let exchange = &exchanges()[0];
    let plain = [exchange.get("name"), &[0x11; 32]].concat();
    assert_eq!(send(&mut card, [0x80, 0xe2, 0xa0, 0], &plain), [0x69, 0x82]);
    assert_eq!(send(&mut card, [0x84, 0xe2, 0xa0, 0], &plain), [0x69, 0x82]);
    card.transmit(exchange.get("update")).unwrap();
    assert_eq!(card.transmit(exchange.get("store")).unwrap(), [0x69, 0x82], "opened, not authenticated");
    for between in [SELECT, &command([0x80, 0xca, 1, 1], &[])] {
        let mut card = selected();
        card.transmit(exchange.get("update")).unwrap();
        card.transmit(exchange.get("authenticate")).unwrap();
        card.transmit(between).unwrap();
        assert_eq!(card.transmit(exchange.get("store")).unwrap(), [0x69, 0x82], "the channel was ended");
    }
    for level in [0x00, 0x01, 0x03, 0x11] {
        let mut card = selected();
        card.transmit(exchange.get("update")).unwrap();
        let mut authenticate = exchange.get("authenticate").to_vec();
        authenticate[2] = level;
        assert_eq!(card.transmit(&authenticate).unwrap(), [0x6a, 0x86], "{level:#x}");
    }
}

#[test]
fn the_counter_moves_by_one_and_repeats() {
    let mut card = selected();
    let count = |card: &mut Card, to: u64| send(card, COUNT, &to.to_be_bytes());
    for to in [1, 1, 2, 2, 3] {
        assert_eq!(count(&mut card, to), [&to.to_be_bytes()[..], &[0x90, 0x00]].concat());
    }
    for to in [0, 1, 2, 5, u64::MAX] {
        assert_eq!(count(&mut card, to), [0x69, 0x85], "{to}");
    }
    assert_eq!(send(&mut card, [0x80, 0xca, 1, 4], &[]), [0, 0, 0, 0, 0, 0, 0, 3, 0x90, 0x00]);
}

#[test]
fn a_used_up_sequence_counter_opens_no_channel() {
    let mut bytes = Applet::first_memory("SIM-0001").unwrap();
    bytes[64 + 8..64 + 12].copy_from_slice(&[0x00, 0xff, 0xff, 0xfe]);
    let mut card = reopen(bytes);
    card.transmit(SELECT).unwrap();
    assert_eq!(send(&mut card, [0x80, 0x50, 0, 0], &[1; 8]).len(), 34);
    assert_eq!(send(&mut card, [0x80, 0x50, 0, 0], &[1; 8]), [0x69, 0x85]);
}

#[test]
fn what_does_not_fit_is_answered_by_its_status_word() {
    let mut card = selected();
    let device = [0; 24];
    let mut nobody = [0; 24];
    nobody[19] = 1;
    for (header, data, status) in [
        ([0x00, 0xca, 1, 1], &[][..], [0x6e, 0x00]),
        ([0x80, 0x10, 0, 0], &[], [0x6d, 0x00]),
        ([0x84, 0xca, 1, 1], &[], [0x6d, 0x00]),
        ([0x80, 0x46, 1, 0], &[], [0x6a, 0x86]),
        ([0x80, 0x46, 0, 0], &[1], [0x67, 0x00]),
        ([0x80, 0xca, 1, 6], &[], [0x6a, 0x88]),
        ([0x80, 0xca, 2, 7], &[], [0x6a, 0x88]),
        ([0x80, 0xca, 1, 1], &[1], [0x67, 0x00]),
        ([0x80, 0x50, 0x31, 0], &[0; 8], [0x6a, 0x88]),
        ([0x80, 0x50, 0x30, 0], &[0; 7], [0x67, 0x00]),
        ([0x80, 0x32, 0, 0], &[0; 7], [0x67, 0x00]),
        (ERASE, &device[..23], [0x67, 0x00]),
        (ERASE, &nobody, [0x6a, 0x80]),
        (F, &device, [0x67, 0x00]),
        ([0x84, 0x82, 0x13, 0], &[0; 16], [0x69, 0x85]),
    ] {
        assert_eq!(send(&mut card, header, data), status, "{header:x?} {data:x?}");
    }
    for rest in [&[0][..], &[33], &[3, b'a'], &[1, 0], &[[1, b'a'].as_slice(), &[0; 33]].concat()] {
        assert_eq!(send(&mut card, F, &[&device[..], rest].concat()), [0x6a, 0x80], "{rest:x?}");
    }
    assert_eq!(card.transmit(&[0x80, 0x84, 0, 0, 16]).unwrap().len(), 18);
    for malformed in
        [&[0x80][..], &[0x80, 0x46, 0], &[0x80, 0x32, 0, 0, 9, 1], &[0x80, 0x32, 0, 0, 1, 1, 1, 1]]
    {
        assert_eq!(card.transmit(malformed).unwrap(), [0x67, 0x00], "{malformed:x?}");
    }
}

#[test]
fn by_t0_responses_to_data_are_fetched() {
    let keys = StaticKeys::find(VECTORS, "SIM-0001").unwrap();
    let memory = Memory::volatile(Applet::first_memory("SIM-0001").unwrap());
    let mut card = Card::new(Applet::new(memory, keys).unwrap(), Protocol::T0);
    assert_eq!(card.transmit(SELECT).unwrap(), [0x61, 10]);
    assert_eq!(card.transmit(&[0x00, 0xc0, 0, 0, 9]).unwrap(), [0x6c, 10]);
    assert_eq!(card.transmit(&[0x00, 0xc0, 0, 0, 10]).unwrap(), b"\x01\x00SIM-0001\x90\x00");
    assert_eq!(card.transmit(&[0x00, 0xc0, 0, 0, 10]).unwrap(), [0x69, 0x85]);
    assert_eq!(card.transmit(&[0x80, 0xca, 1, 4, 0]).unwrap(), [0x6c, 8]);
    assert_eq!(card.transmit(&[0x80, 0xca, 1, 4, 8]).unwrap(), [0, 0, 0, 0, 0, 0, 0, 0, 0x90, 0x00]);
}

/// What a card says when power comes back.
#[derive(Debug, PartialEq, Eq)]
struct Visible {
    counter: Vec<u8>,
    slots: Vec<u8>,
    roots: Vec<u8>,
    root: Vec<u8>,
    device: Vec<u8>,
}

fn visible(bytes: Vec<u8>) -> (Visible, Card) {
    let mut card = reopen(bytes);
    card.transmit(SELECT).unwrap();
    let tell = |card: &mut Card, p1, p2| send(card, [0x80, 0xca, p1, p2], &[]);
    let visible = Visible {
        counter: tell(&mut card, 1, 4),
        slots: tell(&mut card, 1, 5),
        roots: tell(&mut card, 2, 0),
        root: f(&mut card, exchanges()[0].get("name")),
        device: f(&mut card, &[0; 24]),
    };
    (visible, card)
}

#[test]
fn power_lost_at_any_write_leaves_what_was_before_or_after() {
    let exchange = &exchanges()[0];
    let mut held = selected();
    exchange.play(&mut held);
    send(&mut held, GENERATE, &[]);
    let held = held.applet().memory().bytes().to_vec();
    let empty = Applet::first_memory("SIM-0001").unwrap();
    type Act<'a> = &'a dyn Fn(&mut Card) -> Result<Vec<u8>, PowerLost>;
    let store: Act<'_> = &|card| {
        card.transmit(exchange.get("update"))?;
        card.transmit(exchange.get("authenticate"))?;
        card.transmit(exchange.get("store"))
    };
    let erase: Act<'_> = &|card| card.transmit(&command(ERASE, exchange.get("name")));
    let erase_device: Act<'_> = &|card| card.transmit(&command(ERASE, &[0; 24]));
    let count: Act<'_> = &|card| card.transmit(&command(COUNT, &1u64.to_be_bytes()));
    for (what, start, act) in [
        ("store", &empty, store),
        ("erase", &held, erase),
        ("erase the device key", &held, erase_device),
        ("count", &held, count),
    ] {
        let (before, mut card) = visible(start.clone());
        act(&mut card).unwrap();
        let writes = card.applet().memory().writes();
        let (after, _) = visible(card.applet().memory().bytes().to_vec());
        assert_ne!(before, after, "{what}");
        for write in 1..=writes {
            for moment in [Moment::Before, Moment::Torn, Moment::After] {
                let (_, mut card) = visible(start.clone());
                card.applet().memory().lose_power_at(Fault { write, moment });
                assert_eq!(act(&mut card), Err(PowerLost), "{what} {write} {moment:?}");
                assert_eq!(card.transmit(SELECT), Err(PowerLost), "a card without power answers nothing");
                let bytes = card.applet().memory().bytes().to_vec();
                let (found, mut card) = visible(bytes);
                assert!(found == before || found == after, "{what} {write} {moment:?}: {found:?}");
                let bytes = card.applet().memory().bytes();
                if found.root == [0x6a, 0x88] {
                    let half = [0x11; 4];
                    assert!(
                        !bytes.windows(4).any(|bytes| bytes == half),
                        "a root is left: {what} {write} {moment:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn power_lost_while_the_device_key_is_made_leaves_none_or_one_that_stays() {
    for write in 1..=2 {
        for moment in [Moment::Before, Moment::Torn, Moment::After] {
            let mut card = selected();
            card.applet().memory().lose_power_at(Fault { write, moment });
            assert_eq!(card.transmit(&command(GENERATE, &[])), Err(PowerLost));
            let (found, mut card) = visible(card.applet().memory().bytes().to_vec());
            assert_eq!(send(&mut card, GENERATE, &[]), [0x90, 0x00]);
            let made = f(&mut card, &[0; 24]);
            assert_eq!(made.len(), 34);
            assert!(found.device == made || found.device == [0x6a, 0x88], "{write} {moment:?}");
        }
    }
}

#[test]
fn power_lost_while_mending_is_mended_the_next_time() {
    let exchange = &exchanges()[0];
    let mut card = selected();
    exchange.play(&mut card);
    card.applet().memory().lose_power_at(Fault { write: 2, moment: Moment::Torn });
    assert_eq!(card.transmit(&command(ERASE, exchange.get("name"))), Err(PowerLost));
    let torn = card.applet().memory().bytes().to_vec();
    for write in 1..=2 {
        let mut card = reopen(torn.clone());
        card.applet().memory().lose_power_at(Fault { write, moment: Moment::Torn });
        assert_eq!(card.transmit(SELECT), Err(PowerLost));
        let (found, mut card) = visible(card.applet().memory().bytes().to_vec());
        assert_eq!(found.root, [0x6a, 0x88]);
        assert_eq!(found.slots, [64, 64, 0, 0x90, 0x00]);
        assert!(!card.applet().memory().bytes().contains(&0x11));
    }
}

#[test]
fn a_memory_in_a_file_outlives_the_card_and_is_made_once() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("card");
    let first = || Applet::first_memory("SIM-0001").unwrap();
    let open = || {
        let memory = Memory::open(&path, Applet::MEMORY, first).unwrap();
        let keys = StaticKeys::find(VECTORS, "SIM-0001").unwrap();
        Card::new(Applet::new(memory, keys).unwrap(), Protocol::T1)
    };
    let mut card = open();
    card.transmit(SELECT).unwrap();
    send(&mut card, COUNT, &1u64.to_be_bytes());
    drop(card);
    let mut card = open();
    card.transmit(SELECT).unwrap();
    assert_eq!(send(&mut card, [0x80, 0xca, 1, 4], &[]), [0, 0, 0, 0, 0, 0, 0, 1, 0x90, 0x00]);
    std::fs::write(&path, b"short").unwrap();
    assert!(matches!(Memory::open(&path, Applet::MEMORY, first), Err(MemoryError::Length { found: 5, .. })));
}

#[test]
fn debug_text_shows_no_key() {
    let keys = StaticKeys::find(VECTORS, "SIM-0001").unwrap();
    assert_eq!(format!("{keys:?}"), "StaticKeys { version: 48, .. }");
    assert_eq!(format!("{:?}", selected().applet()), "Applet { numbers: (0, 0), .. }");
}
