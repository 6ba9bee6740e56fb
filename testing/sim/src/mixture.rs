//! How often what happens in a scenario.

use std::time::Duration;

use akm_core::frame::FrameKind;

use crate::action::{Action, Change, Deed};
use crate::random::Random;
use crate::setup::Setup;

/// What kinds of things happen, and how often each.
#[derive(Clone, Debug)]
pub(crate) struct Mixture(Vec<(Kind, u32)>);

/// A kind of things that happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Time goes by.
    Time,
    /// An application sends.
    Talk,
    /// The next epoch is asked for.
    Advance,
    /// A process dies or starts.
    Crash,
    /// A disk fills up or has room again.
    Disk,
    /// An element falls silent or answers again.
    Element,
    /// An image of a disk is made or put back.
    Image,
    /// The network becomes better or worse.
    Network,
    /// Links are cut and mended.
    Links,
    /// The intruder sends.
    Intrusion,
    /// A member moves on far, alone.
    Leap,
    /// A copy of a node is made.
    Clone,
    /// The module gives its word.
    Activate,
    /// A place is lost, or all at a node.
    Loss,
    /// The module makes another generation.
    Change,
    /// The module works, dies, and is restored.
    Module,
    /// A bad member sends.
    Betrayal,
    /// An element or a disk takes its time.
    Latency,
    /// A node has another address.
    Move,
}

impl Mixture {
    /// Members talk, and time goes by.
    pub(crate) fn peace() -> Self {
        Self(vec![(Kind::Time, 10), (Kind::Talk, 12), (Kind::Activate, 1), (Kind::Advance, 1)])
    }

    /// Everything there is.
    pub(crate) fn everything() -> Self {
        Self::peace()
            .with(Kind::Advance, 3)
            .with(Kind::Crash, 5)
            .with(Kind::Disk, 2)
            .with(Kind::Element, 2)
            .with(Kind::Image, 2)
            .with(Kind::Network, 3)
            .with(Kind::Links, 2)
            .with(Kind::Intrusion, 10)
            .with(Kind::Leap, 1)
            .with(Kind::Latency, 2)
            .with(Kind::Move, 1)
            .with(Kind::Clone, 0)
    }

    /// The same with one kind this often.
    pub(crate) fn with(mut self, kind: Kind, weight: u32) -> Self {
        self.0.retain(|(other, _)| *other != kind);
        self.0.push((kind, weight));
        self
    }

    /// Something that a bad member does.
    pub(crate) fn betrayal(random: &mut Random, setup: &Setup) -> Action {
        let to = random.below(setup.nodes.len());
        betrayal(random, setup, 0, to)
    }

    /// Something of one of the kinds.
    pub(crate) fn draw(&self, random: &mut Random, setup: &Setup) -> Vec<Action> {
        let total: u32 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(total as usize) as u32;
        let kind = self.0.iter().find(|(_, weight)| {
            let found = at < *weight;
            at = at.saturating_sub(*weight);
            found
        });
        kind.expect("the number is below the sum of the weights").0.draw(random, setup)
    }
}

impl Kind {
    fn draw(self, random: &mut Random, setup: &Setup) -> Vec<Action> {
        let node = random.below(setup.nodes.len());
        let to = random.below(setup.nodes.len());
        let relationship = random.below(setup.relationships.len());
        match self {
            Self::Time => {
                let most = random.pick(&[5, 50, 500, 1500, 4000]);
                vec![Action::Run(Duration::from_millis(random.between(0, most)))]
            }
            Self::Talk if random.chance(200) => vec![Action::SendTo { node, relationship, to }],
            Self::Talk => (0..random.between(1, 3)).map(|_| Action::Send { node, relationship }).collect(),
            Self::Advance => vec![Action::Advance { node, relationship }],
            Self::Activate => vec![Action::Activate { node, relationship }],
            Self::Crash => match random.below(4) {
                0 => vec![Action::Crash { node }, Action::Start { node }],
                1 => vec![Action::Start { node }],
                2 => vec![Action::CrashAfter { node, steps: random.between(0, 9) as u32 }],
                _ => vec![
                    Action::Crash { node },
                    Action::CrashAfter { node, steps: random.between(0, 5) as u32 },
                    Action::Start { node },
                    Action::Start { node },
                ],
            },
            Self::Disk => vec![Action::DiskFull { node, full: random.chance(500) }],
            Self::Element => vec![Action::ElementSilent { node, silent: random.chance(500) }],
            Self::Image if random.chance(500) => vec![Action::Image { node }],
            Self::Image => {
                vec![Action::Restore { node, image: random.below(3) }, Action::Start { node }]
            }
            Self::Network => vec![match random.below(3) {
                0 => Action::Loss { in_a_thousand: random.pick(&[0, 50, 300, 900]) },
                1 => Action::Duplicate { in_a_thousand: random.pick(&[0, 100, 1000]) },
                _ => Action::Delay {
                    shortest: Duration::ZERO,
                    longest: Duration::from_millis(random.pick(&[0, 10, 200, 3000, 20_000])),
                },
            }],
            Self::Links => vec![match random.below(4) {
                0 => Action::Join,
                1 => Action::Split { side: (0..=node).collect() },
                _ => Action::Cut { from: node, to, cut: random.chance(700) },
            }],
            Self::Intrusion => vec![intrusion(random, setup, relationship, to)],
            Self::Leap => {
                // Together no further than the stock reaches, which a member may follow at once.
                let epochs = random.pick(&[1, 2, 5, 1000, 20_000]);
                vec![Action::Leap { node, relationship, epochs }]
            }
            Self::Clone => vec![Action::Clone { node }],
            Self::Loss => match random.below(3) {
                0 => vec![Action::Lose { node, relationship }, Action::Start { node }],
                1 => vec![Action::Wipe { node }, Action::Start { node }],
                _ => vec![Action::Wipe { node }],
            },
            Self::Change if random.chance(150) => vec![Action::Erase { node, relationship }],
            Self::Change => vec![Action::Change {
                relationship,
                change: match random.below(5) {
                    0 => Change::Renew { suspect: true },
                    1 => Change::Add { node },
                    2 => Change::Remove { node },
                    _ => Change::Renew { suspect: false },
                },
            }],
            Self::Latency => {
                let time = Duration::from_millis(random.pick(&[0, 3, 30, 300, 2000, 30_000]));
                if random.chance(500) {
                    vec![Action::ElementTakes { node, time }]
                } else {
                    vec![Action::DiskTakes { node, time }]
                }
            }
            Self::Move => vec![Action::Move { node }],
            Self::Betrayal => betrayals(random, setup, relationship, to),
            Self::Module => match random.below(6) {
                0 => vec![Action::ModuleBackup],
                1 => vec![Action::ModuleRestore],
                _ => vec![Action::ModuleWorks],
            },
        }
    }
}

fn intrusion(random: &mut Random, setup: &Setup, relationship: usize, to: usize) -> Action {
    // Mostly something fresh, sometimes something very old.
    let most = random.pick(&[3, 10, 10_000]);
    let frame = random.below(most);
    match random.below(12) {
        0..=4 => Action::Replay { frame, to },
        5..=6 => {
            let byte = random.below(64);
            Action::Alter { frame, byte, bits: random.between(1, 255) as u8, to }
        }
        7 => Action::Resign { frame, ahead: random.between(0, 3) as u32, to },
        8..=9 => {
            let members = setup.relationships[relationship].members.len();
            let sender = random.below(members + 1) as u16;
            let ahead = random.pick(&[0, 1, 2, 3, 5, 8, 1000, 1_000_000_000]);
            Action::Forge { relationship, sender, ahead, to }
        }
        10 => Action::Noise { length: random.below(200), to },
        _ => Action::Tagged { relationship, length: random.pick(&[45, 60, 200, 1452, 1453]), to },
    }
}

/// Mostly one thing. Sometimes what was done to others before: many epochs one after the other, or many salts in the name
/// of one member.
fn betrayals(random: &mut Random, setup: &Setup, relationship: usize, to: usize) -> Vec<Action> {
    let sender = random.below(setup.relationships[relationship].members.len()) as u16;
    let frame = |ahead: i64, salt: Option<u64>| {
        let deed = Deed::Frame { kind: FrameKind::Data, sender, ahead, salt, counter: 0 };
        Action::Betray { relationship, back: 0, deed, to }
    };
    match random.below(12) {
        0 => (0..random.between(5, 30)).map(|_| frame(1, None)).collect(),
        1 => (0..random.between(3, 8)).map(|salt| frame(0, Some(salt))).collect(),
        _ => vec![betrayal(random, setup, relationship, to)],
    }
}

fn betrayal(random: &mut Random, setup: &Setup, relationship: usize, to: usize) -> Action {
    let members = setup.relationships[relationship].members.len();
    let sender = random.below(members + 1) as u16;
    let run = random.pick(&[0, 0, 1, 2, u32::MAX]);
    let ahead = random.pick(&[-1000, -5, -2, -1, 0, 0, 1, 1, 2, 5, 1000, 1_000_000_000, i64::from(u32::MAX)]);
    let place = Some(ahead).filter(|_| random.chance(600));
    let deed = match random.below(8) {
        0..=4 => Deed::Frame {
            kind: random.pick(&[FrameKind::Data, FrameKind::Data, FrameKind::Hello, FrameKind::Management]),
            sender,
            ahead,
            salt: Some(random.pick(&[0, 1, 2, 3, 4, u64::MAX])).filter(|_| random.chance(600)),
            counter: random.pick(&[0, 0, 1, 2, 1023, 1024, 5000, u32::MAX]),
        },
        5 => Deed::Request { sender, run, ahead: place },
        _ => Deed::Answer { frame: random.below(10), responder: sender, run, ahead: place },
    };
    Action::Betray { relationship, back: random.pick(&[0, 0, 1, 2]), deed, to }
}
