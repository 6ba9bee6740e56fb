//! All faults stop, and whoever speaks must be heard within the bound.

use std::collections::BTreeSet;
use std::time::Duration;

use akm_core::session::{Phase, Session};
use akm_core::tree::LAST_EPOCH;

use super::World;
use crate::bound::{self, Pace};
use crate::invariant::{Invariant, Violation};

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
        self.all_find_back(&paces)?;
        let began = self.now;
        self.watch.listen(began);
        let wanted = self.wanted(alone);
        let mut speakers = self.speakers(&wanted, &paces, alone);
        let mut bounds: Vec<(usize, Duration)> =
            (0..paces.len()).map(|at| (at, self.bound(at, paces[at], alone))).collect();
        bounds.sort_by_key(|(_, bound)| *bound);
        let mut mute = Vec::new();
        for (relationship, bound) in bounds {
            self.talk(&wanted, &mut speakers, began + bound)?;
            for late in self.missing(&wanted).iter().filter(|late| late.relationship == relationship) {
                self.is_mute(late, bound)?;
                mute.push(*late);
            }
            let heard = |wanted: &&Wanted| wanted.relationship == relationship;
            for Wanted { from, to, .. } in wanted.iter().filter(heard) {
                let from = self.nodes[*from].identity;
                let issue = self.module.latest(relationship);
                if let Some(heard) = self.watch.heard(issue, from, *to)
                    && !self.watch.spoke_under_fifth_salt(issue, from)
                {
                    self.watch.tally.slowest_of(heard - began, bound);
                }
            }
        }
        self.watch.tally.settled += 1;
        self.cure_mute(&mute, &mut speakers, &paces, alone)?;
        let took = self.now - began;
        self.note(&format!("settled: whoever speaks is heard, after {took:?}"));
        Ok(())
    }

    /// The one excuse: a sender whose disk went back again and again is not heard in an epoch in which it had been heard
    /// under four other salts.
    fn is_mute(&mut self, late: &Wanted, bound: Duration) -> Result<(), Violation> {
        let Wanted { relationship, from, to } = *late;
        let issue = self.module.latest(relationship);
        if !self.watch.spoke_under_fifth_salt(issue, self.nodes[from].identity) {
            return Err(Violation::new(
                Invariant::AllHearAllWithinTheBound,
                format!(
                    "in relationship {relationship} node {to} does not hear node {from} within {bound:?}"
                ),
            ));
        }
        self.note(&format!(
            "node {from} is mute to node {to} in relationship {relationship} until the next epoch: its disk went \
             back, and it makes frames under a fifth salt in the same epoch"
        ));
        Ok(())
    }

    /// Lets the next epoch begin, and demands that whoever was mute is heard within the bound after it.
    fn cure_mute(
        &mut self,
        mute: &[Wanted],
        speakers: &mut [Speaker],
        paces: &[Pace],
        alone: Option<usize>,
    ) -> Result<(), Violation> {
        let began = self.now;
        let mut senders = BTreeSet::new();
        let mut longest = Duration::ZERO;
        for Wanted { relationship, from, .. } in mute {
            if !senders.insert((*relationship, *from)) {
                continue;
            }
            let (policy, pace) = (self.setup.relationships[*relationship].policy, paces[*relationship]);
            let begins = bound::next_epoch(&policy, pace);
            let bound = self.bound(*relationship, pace, alone);
            longest = longest.max(begins + bound);
        }
        self.watch.tally.mute += senders.len() as u64;
        self.talk(mute, speakers, began + longest)?;
        match self.missing(mute).first() {
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
            self.nodes[node].answer_at_once();
            self.watch.slows(node, false);
            self.start(node)?;
            self.run_until(self.now)?;
        }
        // What is parked is done, also where a restored module has to make another generation first. Then the
        // module gives its word to whoever has not become active by then.
        for _ in 0..3 {
            self.module_works()?;
        }
        for relationship in 0..self.setup.relationships.len() {
            for node in self.of_latest(relationship, |phase| phase == Phase::Staged) {
                self.activate(node, relationship)?;
            }
        }
        // What is on the way says where its sender was.
        self.run_until(self.now + delay)?;
        for relationship in 0..self.setup.relationships.len() {
            self.tell_addresses(relationship)?;
        }
        Ok(())
    }

    /// Demands that members without place find back within the bound, if anybody can help them.
    fn all_find_back(&mut self, paces: &[Pace]) -> Result<(), Violation> {
        for (relationship, _) in paces.iter().enumerate() {
            let members = self.issues[self.module.latest(relationship)].members.len();
            if self.is_betrayed(relationship) {
                self.watch.tally.betrayed += 1;
                continue;
            }
            let Some(bound) = self.help(relationship, members) else {
                self.watch.tally.helpless += self.without_place(relationship).len() as u64;
                continue;
            };
            let began = self.now;
            while !self.without_place(relationship).is_empty() {
                if !self.happen_next(began + bound)? {
                    let lost = self.without_place(relationship);
                    return Err(Violation::new(
                        Invariant::FindsBackWithinTheBound,
                        format!(
                            "in relationship {relationship} nodes {lost:?} do not find back within {bound:?}"
                        ),
                    ));
                }
            }
        }
        self.astray_come_back()
    }

    /// Members of the latest generation that look for their place.
    fn without_place(&self, relationship: usize) -> Vec<usize> {
        let lost = |phase| matches!(phase, Phase::WithoutPlace | Phase::RolledBack | Phase::Resyncing);
        self.of_latest(relationship, lost)
    }

    /// The nodes whose relationship is in its latest generation and in such a phase there.
    fn of_latest(&self, relationship: usize, phase: impl Fn(Phase) -> bool) -> Vec<usize> {
        // A module that was restored may have made another of the same number.
        let latest = self.issues[self.module.latest(relationship)].sds.digest();
        let fits = |node: &usize| {
            self.nodes[*node].session(relationship).is_some_and(|session| {
                session.membership().sds().digest() == latest && phase(session.phase())
            })
        };
        (0..self.nodes.len()).filter(fits).collect()
    }

    /// The bound within which members without place find back; `None` if nobody can help them.
    fn help(&self, relationship: usize, members: usize) -> Option<Duration> {
        let lost = self.without_place(relationship);
        if lost.is_empty() || self.has_copies(relationship) {
            return None;
        }
        let have = self.of_latest(relationship, |phase| matches!(phase, Phase::Established | Phase::UsedUp));
        if !have.is_empty() {
            return Some(bound::fallback(members));
        }
        let active = |node: &usize| self.nodes[*node].session(relationship).is_some_and(Session::is_active);
        (lost.len() == members && lost.iter().all(active)).then(|| bound::failsafe(members))
    }

    fn has_copies(&self, relationship: usize) -> bool {
        let members = &self.issues[self.module.latest(relationship)].members;
        members.iter().any(|member| self.nodes.iter().filter(|node| node.identity == *member).count() > 1)
    }

    /// A member whose disk went back to an earlier run hears nothing but frames that it cannot place, and asks
    /// after a minute.
    fn astray_come_back(&mut self) -> Result<(), Violation> {
        for relationship in 0..self.setup.relationships.len() {
            let end = self.now + bound::HINTED;
            if self.is_betrayed(relationship) {
                continue;
            }
            while self.now < end && !self.astray(relationship).is_empty() {
                let next = self.now + Duration::from_secs(1);
                for node in 0..self.nodes.len() {
                    if self.phase(node, relationship) == Some(Phase::Established) {
                        self.send(node, relationship)?;
                    }
                }
                self.run_until(next)?;
            }
        }
        Ok(())
    }

    /// Members that are in an earlier run than others.
    pub(crate) fn astray(&self, relationship: usize) -> Vec<usize> {
        let live = self.of_latest(relationship, |phase| phase == Phase::Established);
        let run = |node: usize| self.nodes[node].session(relationship).map_or(0, Session::run);
        let highest = live.iter().map(|node| run(*node)).max().unwrap_or(0);
        live.into_iter().filter(|node| run(*node) < highest).collect()
    }

    /// Who is to hear whom: members that rest, relationships without epochs and the voice of a member
    /// that is there twice are left out.
    fn wanted(&self, alone: Option<usize>) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for relationship in 0..self.setup.relationships.len() {
            let astray = self.astray(relationship);
            let mut live = self.of_latest(relationship, |phase| phase == Phase::Established);
            live.retain(|node| !astray.contains(node));
            if self.is_used_up(relationship) || self.is_betrayed(relationship) {
                continue;
            }
            for from in live.iter().copied().filter(|from| alone.is_none_or(|alone| alone == *from)) {
                let identity = self.nodes[from].identity;
                if self.nodes.iter().filter(|node| node.identity == identity).count() > 1 {
                    continue;
                }
                // With one that is there twice the module may not get through to say where the others are.
                let is_told = |to: &usize| {
                    let twice = self.nodes.iter().filter(|node| node.identity == self.nodes[*to].identity);
                    twice.count() == 1 || self.knows_addresses(*to, relationship)
                };
                let others = live.iter().filter(|to| **to != from && is_told(to));
                wanted.extend(others.map(|to| Wanted { relationship, from, to: *to }));
            }
        }
        wanted
    }

    /// Whether a bad member has acted in the latest generation: it can make anybody deaf and mute there.
    fn is_betrayed(&self, relationship: usize) -> bool {
        self.watch.is_betrayed(self.module.latest(relationship))
    }

    fn is_used_up(&self, relationship: usize) -> bool {
        let all = self.of_latest(relationship, |_| true);
        let sessions = all.into_iter().filter_map(|node| self.nodes[node].session(relationship));
        let mut epochs = sessions.map(Session::epoch);
        epochs.any(|epoch| epoch == LAST_EPOCH)
    }

    fn speakers(&mut self, wanted: &[Wanted], paces: &[Pace], alone: Option<usize>) -> Vec<Speaker> {
        let mut speakers: Vec<Speaker> = Vec::new();
        // Whoever is there twice speaks too, though nobody has to hear it: it may be ahead.
        let all = |wanted: &Wanted| [Some(wanted.from), Some(wanted.to).filter(|_| alone.is_none())];
        let all = wanted.iter().flat_map(|wanted| all(wanted).map(|node| (wanted.relationship, node)));
        for (relationship, from) in all.filter_map(|(relationship, node)| Some((relationship, node?))) {
            if speakers.iter().any(|speaker| (speaker.node, speaker.relationship) == (from, relationship)) {
                continue;
            }
            let every = paces[relationship].every;
            let first = Duration::from_micros(self.settling.between(0, every.as_micros() as u64));
            let next = self.now + first;
            speakers.push(Speaker { node: from, relationship, next, every });
        }
        speakers
    }

    fn bound(&self, relationship: usize, pace: Pace, alone: Option<usize>) -> Duration {
        let policy = &self.setup.relationships[relationship].policy;
        let bound = if alone.is_some() { bound::alone(policy, pace) } else { bound::all(policy, pace) };
        let slowest = self.nodes.iter().map(|node| node.slowest_element).max().unwrap_or_default();
        bound + bound::paid_back(slowest)
    }

    /// Lets the speakers speak until all that is wanted is heard, or until `end`.
    fn talk(&mut self, wanted: &[Wanted], speakers: &mut [Speaker], end: Duration) -> Result<(), Violation> {
        while !self.missing(wanted).is_empty() {
            let Some(speaker) = speakers.iter_mut().min_by_key(|speaker| speaker.next) else { break };
            if !self.happen_next(speaker.next.min(end))? {
                self.now = self.now.max(speaker.next.min(end));
                if speaker.next > end {
                    break;
                }
                let (node, relationship) = (speaker.node, speaker.relationship);
                speaker.next = self.now + speaker.every;
                self.send(node, relationship)?;
            }
        }
        Ok(())
    }

    /// What was not heard yet, in relationships that have epochs left.
    fn missing(&self, wanted: &[Wanted]) -> Vec<Wanted> {
        let missing = |wanted: &&Wanted| {
            let Wanted { relationship, from, to } = **wanted;
            let issue = self.module.latest(relationship);
            let heard = self.watch.heard(issue, self.nodes[from].identity, to);
            heard.is_none() && !self.is_used_up(relationship)
        };
        wanted.iter().filter(missing).copied().collect()
    }
}
