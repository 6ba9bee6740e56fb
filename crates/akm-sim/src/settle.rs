use std::time::Duration;

use akm_core::session::{Input, Phase, Session};
use akm_core::tree::LAST_EPOCH;

use crate::bound::{self, Pace};
use crate::invariant::{Invariant, Violation};
use crate::world::World;

/// That one member is to hear another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    relationship: usize,
    from: usize,
    to: usize,
}

/// Somebody who speaks, and when next.
#[derive(Clone, Copy, Debug)]
struct Speaker {
    node: usize,
    relationship: usize,
    next: Duration,
    every: Duration,
}

impl World {
    /// Stops all faults, lets all members speak or one alone, and demands that they are heard within the
    /// bound. The network stays calm afterwards.
    pub(crate) fn settle(&mut self, alone: Option<usize>) -> Result<(), Violation> {
        let setups = self.setup.relationships.iter();
        let paces: Vec<Pace> = setups.map(|setup| Pace::of(&setup.policy, setup.members.len())).collect();
        let delay = paces.iter().map(|pace| pace.delay).min().unwrap_or_default();
        self.stop_faults(delay)?;
        let began = self.now;
        self.watch.listen(began);
        let wanted = self.wanted(alone);
        let mut speakers = self.speakers(&wanted, &paces);
        let bounds: Vec<Duration> = (0..paces.len()).map(|at| self.bound(at, paces[at], alone)).collect();
        self.talk(&wanted, &mut speakers, &bounds, began)?;
        let missing = self.missing(&wanted, &bounds, began);
        self.tell_how_long(&wanted, &bounds, began);
        if missing.is_empty() {
            return Ok(());
        }
        // A sender whose disk went back is not heard in an epoch in which it had been heard before.
        for Wanted { relationship, from, to } in &missing {
            let epoch = self.epoch(*from, *relationship);
            if self.watch.salts(*relationship, self.nodes[*from].identity, epoch) < 2 {
                return Err(Violation::new(
                    Invariant::AllHearAllWithinTheBound,
                    format!(
                        "in relationship {relationship} node {to} does not hear node {from} within {:?}",
                        bounds[*relationship]
                    ),
                ));
            }
        }
        self.cure_mute(&missing, &mut speakers, &paces, &bounds)
    }

    /// Lets the next epoch begin, and demands that whoever was mute is heard.
    fn cure_mute(
        &mut self,
        missing: &[Wanted],
        speakers: &mut [Speaker],
        paces: &[Pace],
        bounds: &[Duration],
    ) -> Result<(), Violation> {
        let began = self.now;
        let mut longer = bounds.to_vec();
        let mut asked = Vec::new();
        for Wanted { relationship, from, to } in missing {
            self.note(&format!(
                "node {from} is mute to node {to} in relationship {relationship} until the next epoch: its disk \
                 went back, and it makes frames in epoch {} under another salt than before",
                self.epoch(*from, *relationship)
            ));
            let policy = self.setup.relationships[*relationship].policy;
            match bound::next_epoch(&policy, paces[*relationship]) {
                Some(begins) => longer[*relationship] = bounds[*relationship] + begins,
                None if !asked.contains(relationship) => {
                    asked.push(*relationship);
                    self.input(*from, *relationship, Input::Advance)?;
                }
                None => {}
            }
        }
        let mut mute: Vec<_> = missing.iter().map(|wanted| (wanted.relationship, wanted.from)).collect();
        mute.dedup();
        self.watch.tally.mute += mute.len() as u64;
        self.talk(missing, speakers, &longer, began)?;
        match self.missing(missing, &longer, began).first() {
            None => Ok(()),
            Some(Wanted { relationship, from, to }) => Err(Violation::new(
                Invariant::AllHearAllWithinTheBound,
                format!(
                    "in relationship {relationship} node {to} does not hear node {from} in the next epoch either"
                ),
            )),
        }
    }

    fn stop_faults(&mut self, delay: Duration) -> Result<(), Violation> {
        self.network.calm(self.now, delay);
        for node in 0..self.nodes.len() {
            self.nodes[node].dies_after(None);
            self.nodes[node].disk.fill_up(false);
            self.nodes[node].element.fall_silent(false);
            if self.nodes[node].left_one_out() {
                // The operator sees that a relationship was left out, and starts the node again.
                self.crash(node)?;
            }
            self.start(node)?;
        }
        // The module gives its word to whoever has not become active by then.
        for relationship in 0..self.relationships.len() {
            for node in 0..self.nodes.len() {
                self.input(node, relationship, Input::Activate)?;
            }
        }
        Ok(())
    }

    /// Who is to hear whom: members that rest, relationships without epochs and the voice of a member
    /// that is there twice are left out.
    fn wanted(&self, alone: Option<usize>) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for relationship in 0..self.relationships.len() {
            let live: Vec<usize> = (0..self.nodes.len())
                .filter(|node| self.phase(*node, relationship) == Some(Phase::Established))
                .collect();
            if self.is_used_up(relationship) {
                continue;
            }
            for from in live.iter().copied().filter(|from| alone.is_none_or(|alone| alone == *from)) {
                let identity = self.nodes[from].identity;
                if self.nodes.iter().filter(|node| node.identity == identity).count() > 1 {
                    continue;
                }
                let others = live.iter().filter(|to| **to != from);
                wanted.extend(others.map(|to| Wanted { relationship, from, to: *to }));
            }
        }
        wanted
    }

    fn is_used_up(&self, relationship: usize) -> bool {
        let sessions = self.nodes.iter().filter_map(|node| node.session(relationship));
        let mut epochs = sessions.map(Session::epoch);
        epochs.any(|epoch| epoch == LAST_EPOCH)
    }

    fn speakers(&mut self, wanted: &[Wanted], paces: &[Pace]) -> Vec<Speaker> {
        let mut speakers: Vec<Speaker> = Vec::new();
        for Wanted { relationship, from, .. } in wanted {
            if speakers.iter().any(|speaker| (speaker.node, speaker.relationship) == (*from, *relationship)) {
                continue;
            }
            let every = paces[*relationship].every;
            let first = Duration::from_micros(self.settling.between(0, every.as_micros() as u64));
            let next = self.now + first;
            speakers.push(Speaker { node: *from, relationship: *relationship, next, every });
        }
        speakers
    }

    fn bound(&self, relationship: usize, pace: Pace, alone: Option<usize>) -> Duration {
        let policy = &self.setup.relationships[relationship].policy;
        if alone.is_some() { bound::alone(policy, pace) } else { bound::all(policy, pace) }
    }

    /// Lets the speakers speak until all that is wanted is heard, or the longest bound is over.
    fn talk(
        &mut self,
        wanted: &[Wanted],
        speakers: &mut [Speaker],
        bounds: &[Duration],
        began: Duration,
    ) -> Result<(), Violation> {
        let end = began + bounds.iter().max().copied().unwrap_or_default();
        for speaker in speakers.iter_mut() {
            speaker.next = speaker.next.max(self.now);
        }
        while !self.missing(wanted, bounds, began).is_empty() {
            let Some(speaker) = speakers.iter_mut().min_by_key(|speaker| speaker.next) else { break };
            let next = speaker.next.min(end);
            if !self.happen_next(next)? {
                self.now = next;
                if next == end {
                    break;
                }
                let (node, relationship) = (speaker.node, speaker.relationship);
                speaker.next += speaker.every;
                self.send(node, relationship)?;
            }
        }
        Ok(())
    }

    /// What was not heard within its bound.
    fn missing(&self, wanted: &[Wanted], bounds: &[Duration], began: Duration) -> Vec<Wanted> {
        let heard_in_time = |wanted: &&Wanted| {
            let Wanted { relationship, from, to } = **wanted;
            let from = self.nodes[from].identity;
            let heard = self.watch.heard(relationship, from, to);
            heard.is_some_and(|heard| heard <= began + bounds[relationship]) || self.is_used_up(relationship)
        };
        wanted.iter().filter(|wanted| !heard_in_time(wanted)).copied().collect()
    }

    fn tell_how_long(&mut self, wanted: &[Wanted], bounds: &[Duration], began: Duration) {
        for Wanted { relationship, from, to } in wanted {
            let from = self.nodes[*from].identity;
            if let Some(heard) = self.watch.heard(*relationship, from, *to) {
                self.watch.tally.slowest_of(heard - began, bounds[*relationship]);
            }
        }
        self.watch.tally.settled += 1;
        let took = self.now - began;
        self.note(&format!("settled: all are heard that can be, after {took:?}"));
    }
}
