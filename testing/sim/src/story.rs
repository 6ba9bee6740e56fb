//! A trace in the making, and what most scenarios do with it.

use std::time::Duration;

use akm_core::crypto::Suite;
use akm_core::policy::{JUMP_MAX, Policy};

use crate::action::Action;
use crate::mixture::Mixture;
use crate::random::{Part, Random};
use crate::setup::{NodeSetup, RelationshipSetup, Setup};
use crate::trace::Trace;

/// A trace in the making.
pub(crate) struct Story {
    pub(crate) random: Random,
    pub(crate) trace: Trace,
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::stream(seed, Part::Scenario, 0);
        let members = random.between(2, 5) as usize;
        let policy = some_policy(&mut random);
        let mut setup = Setup::of(seed, members, policy);
        for node in &mut setup.nodes {
            node.counter = random.chance(600);
        }
        let relationship = &mut setup.relationships[0];
        relationship.active = random.chance(850);
        relationship.suite = random.pick(&[Suite::Aes256Gcm, Suite::ChaCha20Poly1305]);
        Self { random, trace: Trace { setup, actions: Vec::new() } }
    }

    pub(crate) fn members(&self) -> usize {
        self.trace.setup.nodes.len()
    }

    pub(crate) fn member(&mut self) -> usize {
        self.random.below(self.members())
    }

    pub(crate) fn policy(&mut self) -> &mut Policy {
        &mut self.trace.setup.relationships[0].policy
    }

    pub(crate) fn all_active(&mut self) {
        self.trace.setup.relationships[0].active = true;
    }

    pub(crate) fn all_count(&mut self, counter: bool) {
        self.trace.setup.nodes.iter_mut().for_each(|node| node.counter = counter);
    }

    pub(crate) fn does(&mut self, action: Action) {
        self.trace.actions.push(action);
    }

    pub(crate) fn waits(&mut self, least: u64, most: u64) {
        let time = self.random.between(least, most);
        self.does(Action::Run(Duration::from_millis(time)));
    }

    /// That many things happen, of these kinds.
    pub(crate) fn happens(&mut self, least: u64, most: u64, mixture: &Mixture) {
        let end = self.trace.actions.len() + self.random.between(least, most) as usize;
        while self.trace.actions.len() < end {
            let actions = mixture.draw(&mut self.random, &self.trace.setup);
            self.trace.actions.extend(actions);
        }
    }

    /// Members talk for a while, and nothing goes wrong.
    pub(crate) fn talk(&mut self, least: u64, most: u64) {
        self.happens(least, most, &Mixture::peace());
    }

    pub(crate) fn settles(&mut self) {
        self.does(Action::Settle);
    }

    pub(crate) fn settles_somehow(&mut self) {
        let alone = self.random.chance(300);
        let node = self.member();
        self.does(if alone { Action::SettleAlone { node } } else { Action::Settle });
    }
}

pub(crate) fn some_policy(random: &mut Random) -> Policy {
    let milliseconds = Duration::from_millis;
    Policy {
        rotate_after: milliseconds(random.pick(&[0, 1000, 3000, 10_000])),
        rotate_frames: random.pick(&[0, 0, 1, 3, 20]),
        advance_interval: milliseconds(random.pick(&[0, 100, 500, 1000])),
        overlap: milliseconds(random.pick(&[0, 200, 2000, 5000])),
        jump: random.pick(&[JUMP_MAX, JUMP_MAX, 3, 0]),
        ..Policy::default()
    }
}

/// Several relationships at the nodes that there are; half of the time all with one tag.
pub(crate) fn add_relationships(story: &mut Story) {
    for _ in 0..story.random.between(1, 3) {
        let mut members: Vec<usize> = (0..story.members()).collect();
        while members.len() > 2 && story.random.chance(400) {
            let out = story.random.below(members.len());
            members.remove(out);
        }
        let relationship = RelationshipSetup {
            members,
            policy: some_policy(&mut story.random),
            suite: story.random.pick(&[Suite::Aes256Gcm, Suite::ChaCha20Poly1305]),
            active: story.random.chance(700),
        };
        story.trace.setup.relationships.push(relationship);
    }
    story.trace.setup.one_tag = story.random.chance(500);
}

/// Nodes beside the members, who may be added.
pub(crate) fn add_nodes(story: &mut Story) {
    for _ in 0..story.random.between(1, 2) {
        let counter = story.random.chance(600);
        story.trace.setup.nodes.push(NodeSetup { counter });
    }
}
