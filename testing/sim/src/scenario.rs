//! Stories that happen otherwise with each seed.

use std::time::Duration;

use akm_core::tree::LAST_EPOCH;

use crate::action::{Action, Change};
use crate::mixture::{Kind, Mixture};
use crate::setup::NodeSetup;
use crate::story::{Story, add_nodes, add_relationships};
use crate::trace::Trace;

/// A story that happens otherwise with each seed.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is about, in a line.
    pub about: &'static str,
    tell: fn(&mut Story),
}

impl Scenario {
    /// The trace of a seed.
    pub fn trace(&self, seed: u64) -> Trace {
        let mut story = Story::new(seed);
        (self.tell)(&mut story);
        story.trace
    }

    /// The scenario of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|scenario| scenario.name == name)
    }

    /// All of them.
    pub const ALL: [Self; 30] = [
        Self { name: "anything", about: "every fault there is, mixed", tell: anything },
        Self {
            name: "bad-network",
            about: "frames are delayed, lost, repeated and out of order",
            tell: bad_network,
        },
        Self {
            name: "split-halves",
            about: "the halves of a split network move on and meet",
            tell: split_halves,
        },
        Self { name: "one-way", about: "links work in one direction only", tell: one_way },
        Self { name: "crashes", about: "processes die at every step and start again", tell: crashes },
        Self { name: "all-restart", about: "all members lose power and start together", tell: all_restart },
        Self {
            name: "sleeper",
            about: "a member comes back after the others moved on by a million epochs",
            tell: sleeper,
        },
        Self {
            name: "advance-at-once",
            about: "members begin the next epoch at the same time",
            tell: advance_at_once,
        },
        Self { name: "behind", about: "a sender that is behind speaks alone and is told so", tell: behind },
        Self {
            name: "old-image-with-counter",
            about: "a disk goes back, and the element's counter shows it unless it was of this start",
            tell: old_image_with_counter,
        },
        Self {
            name: "old-image-without-counter",
            about: "a disk goes back and nothing shows it; salts keep nonces apart",
            tell: old_image_without_counter,
        },
        Self { name: "silent-element", about: "elements do not answer for a while", tell: silent_element },
        Self { name: "full-disk", about: "disks take no writes for a while", tell: full_disk },
        Self {
            name: "full-disk-at-start",
            about: "a start whose disk takes nothing is given up, and the next one has lost nothing",
            tell: full_disk_at_start,
        },
        Self {
            name: "intruder",
            about: "frames are replayed, altered and forged, with the header key too",
            tell: intruder,
        },
        Self {
            name: "many-relationships",
            about: "nodes are members of several relationships, which may share a tag",
            tell: many_relationships,
        },
        Self { name: "clone", about: "two devices run on one member's state", tell: clone },
        Self { name: "last-epochs", about: "a generation comes to its end", tell: last_epochs },
        Self { name: "lost-places", about: "members lose their places and find back", tell: lost_places },
        Self {
            name: "all-lost",
            about: "all members lose their places, and some are away for a while",
            tell: all_lost,
        },
        Self {
            name: "all-re-imaged",
            about: "all disks go back to an image, and the elements count or do not",
            tell: all_reimaged,
        },
        Self {
            name: "lost-among-strangers",
            about: "members find back while requests are replayed and forged",
            tell: lost_among_strangers,
        },
        Self {
            name: "generations",
            about: "members are added, removed and suspected while all talk",
            tell: generations,
        },
        Self {
            name: "generations-and-faults",
            about: "the same while processes die, disks fill up and links are cut",
            tell: generations_and_faults,
        },
        Self {
            name: "slow-elements",
            about: "elements and disks take their time, up to half a minute",
            tell: slow_elements,
        },
        Self {
            name: "slow-and-faults",
            about: "the same while generations change, processes die and places are lost",
            tell: slow_and_faults,
        },
        Self {
            name: "moving",
            about: "nodes have other addresses, and others are heard from there",
            tell: moving,
        },
        Self {
            name: "bad-member",
            about: "a member sends what it likes with all keys, and is removed",
            tell: bad_member,
        },
        Self {
            name: "bad-member-and-faults",
            about: "the same while processes die, places are lost and links are cut",
            tell: bad_member_and_faults,
        },
        Self {
            name: "module-restored",
            about: "the module dies and an old backup of it is put back",
            tell: module_restored,
        },
    ];
}

fn anything(story: &mut Story) {
    if story.random.chance(300) {
        add_relationships(story);
    }
    for _ in 0..story.random.between(1, 3) {
        story.happens(20, 60, &Mixture::everything());
        story.settles_somehow();
    }
}

fn bad_network(story: &mut Story) {
    let mixture = Mixture::peace().with(Kind::Network, 6);
    for _ in 0..2 {
        story.happens(40, 80, &mixture);
        story.settles_somehow();
    }
}

fn split_halves(story: &mut Story) {
    story.talk(4, 10);
    let half = story.random.between(1, story.members() as u64 - 1) as usize;
    story.does(Action::Split { side: (0..half).collect() });
    story.happens(20, 60, &Mixture::peace().with(Kind::Advance, 6).with(Kind::Crash, 2));
    story.does(Action::Join);
    story.settles_somehow();
}

fn one_way(story: &mut Story) {
    story.talk(4, 10);
    for _ in 0..2 {
        story.happens(20, 50, &Mixture::peace().with(Kind::Links, 6).with(Kind::Advance, 3));
        story.settles_somehow();
    }
}

fn crashes(story: &mut Story) {
    let mixture = Mixture::peace().with(Kind::Crash, 12).with(Kind::Advance, 4);
    for _ in 0..2 {
        story.happens(30, 60, &mixture);
        story.settles_somehow();
    }
}

fn all_restart(story: &mut Story) {
    story.talk(10, 30);
    for node in 0..story.members() {
        story.does(Action::Crash { node });
    }
    story.waits(0, 5000);
    for node in 0..story.members() {
        story.does(Action::Start { node });
        if story.random.chance(300) {
            story.waits(0, 20);
        }
    }
    story.settles_somehow();
}

fn sleeper(story: &mut Story) {
    story.talk(4, 10);
    let sleeper = story.member();
    let awake = (sleeper + 1) % story.members();
    let switched_off = story.random.chance(500);
    if switched_off {
        story.does(Action::Crash { node: sleeper });
    } else {
        story.does(Action::Split { side: vec![sleeper] });
    }
    for _ in 0..story.random.between(1, 3) {
        // Together no further than the stock reaches, which a member may follow at once.
        let epochs = story.random.between(100_000, 340_000) as u32;
        story.does(Action::Leap { node: awake, relationship: 0, epochs });
        story.waits(100, 2000);
        story.talk(4, 10);
    }
    if switched_off {
        story.does(Action::Start { node: sleeper });
    }
    story.does(Action::Join);
    if story.random.chance(500) {
        story.does(Action::SettleAlone { node: sleeper });
    }
    story.settles();
}

fn advance_at_once(story: &mut Story) {
    story.all_active();
    story.talk(4, 10);
    let longest = story.random.between(0, 50);
    story.does(Action::Delay { shortest: Duration::ZERO, longest: Duration::from_millis(longest) });
    for _ in 0..story.random.between(3, 12) {
        for node in 0..story.members() {
            if story.random.chance(700) {
                story.does(Action::Advance { node, relationship: 0 });
            }
        }
        story.waits(0, 1500);
        story.talk(0, 4);
    }
    story.settles();
}

fn behind(story: &mut Story) {
    story.all_active();
    let one = story.member();
    let other = (one + 1) % story.members();
    story.talk(4, 10);
    for _ in 0..story.random.between(1, 3) {
        // It does not hear that the others move on.
        for from in (0..story.members()).filter(|from| *from != one) {
            story.does(Action::Cut { from, to: one, cut: true });
        }
        for _ in 0..story.random.between(1, 6) {
            story.does(Action::Advance { node: other, relationship: 0 });
            story.waits(500, 3000);
            story.does(Action::Send { node: one, relationship: 0 });
        }
        story.does(Action::SettleAlone { node: one });
    }
}

fn old_image_with_counter(story: &mut Story) {
    story.all_count(true);
    old_image(story);
}

fn old_image_without_counter(story: &mut Story) {
    story.all_count(false);
    old_image(story);
}

fn old_image(story: &mut Story) {
    let node = story.member();
    story.talk(4, 10);
    let mixture = Mixture::peace().with(Kind::Advance, 4).with(Kind::Intrusion, 4);
    for _ in 0..story.random.between(1, 3) {
        story.does(Action::Image { node });
        if story.random.chance(500) {
            let others: Vec<usize> = (0..story.members()).filter(|other| *other != node).collect();
            story.does(Action::Split { side: others });
        }
        story.happens(5, 30, &mixture);
        if story.random.chance(300) {
            story.does(Action::Crash { node });
            story.does(Action::Start { node });
            story.happens(2, 10, &mixture);
        }
        story.does(Action::Join);
        let image = story.random.below(2);
        story.does(Action::Restore { node, image });
        story.does(Action::Start { node });
        story.happens(5, 20, &mixture);
        story.settles_somehow();
    }
}

fn silent_element(story: &mut Story) {
    let mixture = Mixture::peace()
        .with(Kind::Element, 6)
        .with(Kind::Advance, 3)
        .with(Kind::Crash, 1)
        .with(Kind::Intrusion, 2);
    for _ in 0..2 {
        story.happens(30, 60, &mixture);
        story.settles_somehow();
    }
}

fn full_disk(story: &mut Story) {
    let mixture = Mixture::peace()
        .with(Kind::Disk, 6)
        .with(Kind::Advance, 3)
        .with(Kind::Crash, 2)
        .with(Kind::Network, 1);
    for _ in 0..2 {
        story.happens(30, 60, &mixture);
        story.settles_somehow();
    }
}

fn full_disk_at_start(story: &mut Story) {
    story.all_count(true);
    story.all_active();
    let node = story.member();
    story.talk(6, 12);
    story.does(Action::Crash { node });
    story.does(Action::DiskFull { node, full: true });
    for _ in 0..story.random.between(1, 3) {
        story.does(Action::Start { node });
        story.talk(2, 6);
    }
    story.settles();
}

fn intruder(story: &mut Story) {
    let mixture = Mixture::peace().with(Kind::Intrusion, 30).with(Kind::Advance, 3).with(Kind::Crash, 1);
    for _ in 0..2 {
        story.happens(60, 140, &mixture);
        story.settles_somehow();
    }
}

fn many_relationships(story: &mut Story) {
    add_relationships(story);
    story.happens(40, 80, &Mixture::everything().with(Kind::Clone, 0));
    story.settles_somehow();
}

fn clone(story: &mut Story) {
    story.trace.setup.nodes.push(NodeSetup { counter: true });
    let last = story.members() - 1;
    story.trace.setup.relationships[0].members.push(last);
    story.all_active();
    story.talk(4, 20);
    let node = story.member();
    story.does(Action::Clone { node });
    let copy = story.members();
    story.does(Action::Start { node: copy });
    let mixture = Mixture::peace().with(Kind::Advance, 2).with(Kind::Intrusion, 3).with(Kind::Crash, 2);
    for _ in 0..story.random.between(5, 15) {
        story.happens(1, 3, &mixture);
        story.does(Action::Send { node: copy, relationship: 0 });
    }
    story.settles();
}

fn lost_places(story: &mut Story) {
    story.all_active();
    story.talk(6, 20);
    let mixture = Mixture::peace().with(Kind::Loss, 6).with(Kind::Advance, 3).with(Kind::Crash, 2);
    for _ in 0..2 {
        story.happens(20, 50, &mixture);
        story.settles_somehow();
    }
}

fn all_lost(story: &mut Story) {
    story.all_active();
    story.talk(4, 10);
    let mut away = Vec::new();
    for node in 0..story.members() {
        story.does(Action::Wipe { node });
        if story.random.chance(200) {
            away.push(node);
        } else {
            story.does(Action::Start { node });
        }
    }
    if story.random.chance(300) {
        let longest = story.random.pick(&[10, 200, 1500]);
        story.does(Action::Delay { shortest: Duration::ZERO, longest: Duration::from_millis(longest) });
        story.does(Action::Loss { in_a_thousand: 200 });
    }
    let most = story.random.pick(&[5_000, 30_000, 120_000]);
    story.waits(0, most);
    story.happens(0, 20, &Mixture::peace().with(Kind::Crash, 3).with(Kind::Links, 2).with(Kind::Loss, 1));
    for node in away {
        story.does(Action::Start { node });
    }
    story.settles();
    story.talk(2, 10);
    story.settles();
}

fn all_reimaged(story: &mut Story) {
    story.all_active();
    story.talk(2, 10);
    for node in 0..story.members() {
        story.does(Action::Image { node });
    }
    story.happens(5, 20, &Mixture::peace().with(Kind::Crash, 3).with(Kind::Advance, 3));
    for node in 0..story.members() {
        if story.random.chance(900) {
            story.does(Action::Crash { node });
            story.does(Action::Start { node });
        }
        story.does(Action::Restore { node, image: 0 });
    }
    for node in 0..story.members() {
        story.does(Action::Start { node });
    }
    story.waits(0, 90_000);
    story.settles();
}

fn lost_among_strangers(story: &mut Story) {
    story.all_active();
    story.talk(4, 10);
    let mixture = Mixture::peace().with(Kind::Loss, 4).with(Kind::Intrusion, 30).with(Kind::Network, 2);
    for _ in 0..2 {
        story.happens(40, 80, &mixture);
        story.settles_somehow();
    }
}

fn generations(story: &mut Story) {
    story.all_active();
    add_nodes(story);
    story.talk(4, 10);
    let mixture = Mixture::peace().with(Kind::Change, 2).with(Kind::Module, 3).with(Kind::Advance, 2);
    for _ in 0..2 {
        story.happens(20, 50, &mixture);
        story.settles_somehow();
    }
}

fn generations_and_faults(story: &mut Story) {
    story.all_active();
    add_nodes(story);
    let mixture = Mixture::everything().with(Kind::Change, 3).with(Kind::Module, 4).with(Kind::Loss, 2);
    for _ in 0..2 {
        story.happens(20, 60, &mixture);
        story.settles_somehow();
    }
}

fn slow_elements(story: &mut Story) {
    let mixture = Mixture::peace().with(Kind::Latency, 6).with(Kind::Advance, 4).with(Kind::Intrusion, 4);
    for _ in 0..2 {
        story.happens(40, 80, &mixture);
        story.settles_somehow();
    }
}

fn slow_and_faults(story: &mut Story) {
    story.all_active();
    add_nodes(story);
    let mixture = Mixture::everything()
        .with(Kind::Latency, 10)
        .with(Kind::Change, 3)
        .with(Kind::Module, 3)
        .with(Kind::Loss, 2);
    for _ in 0..2 {
        story.happens(30, 70, &mixture);
        story.settles_somehow();
    }
}

fn moving(story: &mut Story) {
    let mixture = Mixture::peace().with(Kind::Move, 8).with(Kind::Advance, 2).with(Kind::Crash, 2);
    for _ in 0..2 {
        story.happens(30, 60, &mixture);
        story.settles_somehow();
    }
}

fn bad_member(story: &mut Story) {
    story.all_active();
    if story.random.chance(500) {
        add_relationships(story);
    }
    story.talk(4, 10);
    story.happens(40, 90, &Mixture::peace().with(Kind::Betrayal, 20).with(Kind::Advance, 2));
    story.settles_somehow();
    // Removed it still has the keys that it had.
    let node = story.member();
    story.does(Action::Change { relationship: 0, change: Change::Remove { node } });
    story.does(Action::Change { relationship: 0, change: Change::Renew { suspect: true } });
    story.waits(0, 3000);
    for _ in 0..story.random.between(5, 20) {
        let Action::Betray { relationship, back, deed, to } =
            Mixture::betrayal(&mut story.random, &story.trace.setup)
        else {
            continue;
        };
        story.does(Action::Betray { relationship, back: back + 1, deed, to });
        story.talk(0, 2);
    }
    story.settles_somehow();
}

fn bad_member_and_faults(story: &mut Story) {
    story.all_active();
    add_nodes(story);
    let mixture = Mixture::everything()
        .with(Kind::Betrayal, 30)
        .with(Kind::Change, 2)
        .with(Kind::Module, 3)
        .with(Kind::Loss, 4);
    for _ in 0..2 {
        story.happens(30, 80, &mixture);
        story.settles_somehow();
    }
}

fn module_restored(story: &mut Story) {
    story.all_active();
    add_nodes(story);
    story.talk(4, 10);
    let mixture = Mixture::peace().with(Kind::Change, 3).with(Kind::Module, 2).with(Kind::Crash, 2);
    for _ in 0..story.random.between(1, 3) {
        story.does(Action::ModuleBackup);
        story.happens(5, 20, &mixture);
        story.does(Action::ModuleRestore);
        story.happens(5, 20, &mixture);
        story.settles_somehow();
    }
}

fn last_epochs(story: &mut Story) {
    story.all_active();
    story.policy().rotate_after = Duration::ZERO;
    story.policy().jump = 0;
    story.talk(2, 6);
    let left = story.random.between(0, 6) as u32;
    // All of them: so far nobody follows.
    for epochs in [LAST_EPOCH / 2, LAST_EPOCH / 2 - left - 60] {
        for node in 0..story.members() {
            story.does(Action::Leap { node, relationship: 0, epochs });
        }
        story.waits(0, 2000);
    }
    story.happens(
        10,
        40,
        &Mixture::peace().with(Kind::Advance, 8).with(Kind::Crash, 3).with(Kind::Intrusion, 4),
    );
    story.settles();
}
