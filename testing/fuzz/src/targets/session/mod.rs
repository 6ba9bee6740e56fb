//! The session engine as a whole: two or three real sessions with a virtual clock. The input says what the
//! network, the disks, the elements, strangers and members that do what they like do to them; named
//! invariants hold after every step.

mod parts;
mod secrets;
mod world;

use std::time::Duration;

use akm_core::frame::FrameKind;
use akm_core::policy::Policy;
use akm_core::sds::Kind;
use akm_core::session::Input;
use akm_core::tree::{LAST_EPOCH, NO_EPOCH};

use crate::reader::Reader;
use parts::Writing;
use world::{Settings, World};

/// Longer inputs repeat themselves.
const STEPS_MAX: usize = 400;

/// Four bytes of settings, then steps: what, at which member, and what that needs.
pub fn run(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let mut world = World::new(&settings(&mut reader));
    for _ in 0..STEPS_MAX {
        if reader.is_empty() {
            break;
        }
        step(&mut world, &mut reader);
        world.check();
    }
    world.all_find_together_again();
    true
}

fn settings(reader: &mut Reader<'_>) -> Settings {
    let [flags, policy, place, generators] = reader.array();
    let choose = |choices: [u64; 4], shift: u8| choices[usize::from(policy >> shift & 3)];
    let provisioning = flags & 1 != 0;
    let policy = Policy {
        rotate_after: Duration::from_millis(choose([0, 3000, 3_600_000, u64::MAX], 0)),
        rotate_frames: choose([0, 1, 5, u64::from(u32::MAX)], 2) as u32,
        advance_interval: Duration::from_millis(choose([1000, 0, 500, u64::MAX], 4)),
        overlap: Duration::from_millis(choose([2000, 0, 5000, u64::MAX], 6)),
        datagram_max: 200,
        ..Policy::default()
    };
    let epochs = [NO_EPOCH, 0, 1000, (1 << 31) - 2, LAST_EPOCH - 3, LAST_EPOCH - 1, LAST_EPOCH];
    Settings {
        kind: if provisioning { Kind::Provisioning } else { Kind::Communication },
        members: if provisioning || flags & 2 == 0 { 2 } else { 3 },
        chacha: flags & 4 != 0,
        active: flags & 8 == 0,
        hello_at_start: flags & 16 != 0,
        policy,
        // The members may stand at different places.
        places: [place % 7, place / 7 % 7, place / 49 % 7].map(|at| epochs[usize::from(at)]),
        stuck: [generators & 1 != 0, generators & 2 != 0],
    }
}

fn step(world: &mut World, reader: &mut Reader<'_>) {
    let what = reader.u8();
    let at = reader.below(world.members());
    match what % 24 {
        0..=2 => {
            let length = reader.below(40);
            world.send(at, length);
        }
        3 => world.input(at, Input::Advance),
        4..=7 => {
            let back = reader.below(8);
            world.arrive(at, back);
        }
        8 => {
            let back = usize::from(reader.u16());
            world.arrive(at, back);
        }
        9 => {
            let [back, place, change] = reader.array();
            world.arrive_altered(at, usize::from(back), usize::from(place), change);
        }
        10 => {
            let [sender, ahead, salt, length] = reader.array();
            let epoch = epoch_near(world, at, ahead, reader);
            world.forge(at, u16::from(sender % 5), epoch, salt, usize::from(length));
        }
        11 | 12 => {
            let [sender, ahead, salt, counter, kind] = reader.array();
            let epoch = epoch_near(world, at, ahead, reader);
            let length = reader.below(16);
            let body = reader.bytes(length);
            world.insider(u16::from(sender) % world.members() as u16, epoch, salt, counter, kind, body);
        }
        13 => {
            let length = usize::from(reader.u16() % 300);
            let frame = reader.bytes(length);
            world.input(at, Input::Frame(frame));
        }
        14 | 15 => world.live(Duration::from_millis(u64::from(reader.u16() % 8192))),
        16 => world.pass(Duration::from_secs(u64::from(reader.u32()))),
        17 => world.input(at, Input::Activate),
        18 => {
            let writing = [Writing::Works, Writing::Fails, Writing::KillsBefore, Writing::KillsAfter];
            let which = reader.below(4);
            world.disk(at, writing[which]);
        }
        19 => {
            let fails = reader.below(2) == 1;
            world.element(at, fails);
        }
        20 => world.restart(at),
        21 => world.input(at, Input::Timeout),
        22 => {
            let which = reader.below(4);
            world.impatient(at, which);
        }
        _ => match reader.below(8) {
            0 => world.lose_place(at),
            1..=3 => {
                let kinds = [FrameKind::Hello, FrameKind::Data, FrameKind::Management];
                let kind = kinds[reader.below(3)];
                let length = usize::from(reader.u16() % 512);
                world.send_as(at, kind, &vec![0x55; length]);
            }
            _ => {
                let sender = reader.u8();
                world.repeat_everything(at, usize::from(sender));
            }
        },
    }
}

/// An epoch beside that of a member, or any.
fn epoch_near(world: &World, at: usize, ahead: u8, reader: &mut Reader<'_>) -> u32 {
    match ahead {
        0..=200 => world.epoch(at).wrapping_add(u32::from(ahead % 8)).wrapping_sub(2),
        _ => reader.u32(),
    }
}

/// Stories in the language of the steps: talk, loss, restart, a stranger, a clone, a full disk, the end of
/// a generation.
pub fn seeds() -> Vec<Vec<u8>> {
    let talk: &[u8] = &[0, 0, 5, 4, 1, 0, 0, 1, 7, 4, 0, 0, 0, 0, 3, 4, 1, 0];
    let restart: &[u8] = &[20, 0, 0, 0, 9, 4, 1, 0, 4, 1, 3, 20, 1, 0, 1, 2, 4, 0, 0];
    let stranger: &[u8] = &[10, 1, 0, 3, 9, 20, 10, 1, 0, 4, 9, 20, 9, 1, 0, 30, 1, 13, 1, 0, 4, 1, 2, 3, 4];
    let insider: &[u8] = &[11, 0, 0, 3, 1, 0, 1, 3, 7, 7, 7, 4, 1, 0, 12, 0, 0, 3, 2, 0, 1, 0, 4, 1, 0];
    let disk: &[u8] = &[18, 1, 1, 4, 1, 0, 18, 1, 0, 4, 1, 0, 18, 0, 2, 3, 0, 18, 0, 3, 3, 0, 14, 0, 15, 255];
    let time: &[u8] = &[14, 0, 16, 0, 21, 0, 16, 0, 0, 0, 1, 0, 21, 1, 3, 0, 14, 0, 31, 255, 19, 0, 1, 3, 0];
    let odd: &[u8] =
        &[22, 0, 0, 22, 1, 1, 22, 0, 2, 22, 0, 3, 23, 0, 1, 1, 1, 0, 17, 1, 23, 1, 5, 0, 8, 1, 0, 9];
    // Both move on by turns and hear each other, while no closed epoch runs out.
    let march = [&[0, 0b1101_0000, 0, 0][..], &[3, 0, 4, 1, 0, 3, 1, 4, 0, 0].repeat(20)].concat();
    let settings: [[u8; 4]; 8] = [
        [0, 0, 0, 0],
        [2, 0b0010_0101, 0, 0],
        [1, 0b0100_0000, 0, 0],
        [6, 0b1010_1001, 1, 1],
        [10, 0, 0, 2],
        [16, 0b0001_0101, 3 + 3 * 7 + 3 * 49, 3],
        [0, 0b0001_0100, 4 + 5 * 7, 0],
        [18, 0b1111_1111, 6 + 2 * 7, 0],
    ];
    settings
        .iter()
        .map(|settings| [settings, talk, restart, stranger, talk, insider, disk, time, odd, talk].concat())
        .chain([[&[0; 4], talk, disk, talk].concat(), march])
        .collect()
}
