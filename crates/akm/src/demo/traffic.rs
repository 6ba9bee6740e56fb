//! All members of one ASR talk at once, while its epochs move on and while one of them is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::installation::{Installation, settle};
use super::report::Stage;
use super::scratch::{PATIENCE, Scratch};
use super::talk::{Line, Subscription, Talker, number_of, numbered, text_of};
use crate::error::CommandError;
use crate::print::milliseconds;

/// Time between two messages of one member.
const PACE: Duration = Duration::from_millis(10);

/// How often epochs are asked for meanwhile.
const LOOK: Duration = Duration::from_millis(250);

/// When nothing more arrives for this long, what is missing is lost.
const QUIET: Duration = Duration::from_secs(1);

/// Messages of each member to each other that show that traffic flows.
const FLOW: usize = 50;

/// Epochs that the others move on by while one member is away.
const AWAY: u32 = 10;

/// How often members that should hear each other are given the chance to.
const CALLS: u32 = 5;

/// Numbered messages between the members of one ASR, and what became of them.
pub(super) struct Traffic<'a> {
    scratch: &'a Scratch,
    nodes: &'a [Installation<'a>],
    asr: &'static str,
    /// What listens at each member; `None` while its stack does not run.
    ears: Vec<Option<Subscription>>,
    /// The number that each member says next.
    next: Vec<u64>,
    heard: Heard,
}

/// What each member heard of each other: no number twice.
struct Heard {
    names: Vec<&'static str>,
    /// By receiver, then by sender.
    numbers: Vec<Vec<BTreeSet<u64>>>,
    /// Lines that `akmd listen` left out.
    left_out: u64,
}

/// What was said to all others, and heard by them.
struct Tally {
    sent: u64,
    arrived: u64,
    /// How many messages the member said that said the fewest.
    fewest_said: u64,
    members: Vec<Value>,
}

/// How many messages each member heard of each other, by receiver and sender.
type Counts = Vec<Vec<usize>>;

impl<'a> Traffic<'a> {
    /// Listens at every member.
    pub(super) fn begin(
        scratch: &'a Scratch,
        nodes: &'a [Installation<'a>],
        asr: &'static str,
    ) -> Result<Self, CommandError> {
        let ears = nodes
            .iter()
            .map(|node| Subscription::listen(scratch, node, asr).map(Some))
            .collect::<Result<_, _>>()?;
        let heard = Heard {
            names: nodes.iter().map(|node| node.name).collect(),
            numbers: vec![vec![BTreeSet::new(); nodes.len()]; nodes.len()],
            left_out: 0,
        };
        Ok(Self { scratch, nodes, asr, ears, next: vec![0; nodes.len()], heard })
    }

    /// Lets all talk until every member has moved on by so many epochs.
    pub(super) fn rotate(&mut self, stage: &mut Stage, epochs: u32) -> Result<(), CommandError> {
        let everybody: Vec<usize> = (0..self.nodes.len()).collect();
        let members: Vec<_> = self.nodes.iter().collect();
        let first = settle(self.scratch, self.asr, &members)?;
        let refused_before = self.refused()?;
        let said_before = self.next.clone();
        let heard_before = self.heard.counts();
        stage.tell(&format!(
            "{} begins in epoch {first}; each member says something every {} ms",
            self.asr,
            PACE.as_millis()
        ));
        let started = Instant::now();
        let talkers = self.talk(everybody.iter().copied())?;
        let last = self.until_epoch(stage, &everybody, first, epochs)?;
        let took = started.elapsed();
        self.finish(talkers)?;
        self.until_quiet()?;

        let rate = f64::from(last - first) / took.as_secs_f64();
        stage.check(
            last - first >= epochs,
            &format!(
                "every member moved on by {} epochs in {} ({rate:.0} a second)",
                last - first,
                milliseconds(took)
            ),
        )?;
        let tally = self.tally(stage, &said_before, &heard_before);
        stage.tell(&self.why_lost(tally.sent - tally.arrived, &refused_before)?);
        let fewest = tally.fewest_said / 2;
        stage.check(
            self.heard.lacking(&everybody, &heard_before, fewest as usize).is_empty(),
            "meanwhile every member heard most of what each other said, nothing twice or altered",
        )?;
        self.all_hear_all(stage)?;
        stage.fact("epochs", json!({ "from": first, "to": last }));
        stage.fact("sent", json!(tally.sent));
        stage.fact("arrived", json!(tally.arrived));
        stage.fact("members", Value::Array(tally.members));
        stage.result(
            u64::from(last - first),
            format!("epochs, while {} of {} messages arrived", tally.arrived, tally.sent),
        );
        Ok(())
    }

    /// Kills one member's stack under traffic, lets the others go on, and starts it again.
    pub(super) fn kill_and_restart(&mut self, stage: &mut Stage, victim: usize) -> Result<(), CommandError> {
        let node = &self.nodes[victim];
        let name = node.name;
        let everybody: Vec<usize> = (0..self.nodes.len()).collect();
        let others: Vec<usize> = everybody.iter().copied().filter(|at| *at != victim).collect();
        let mut talkers = self.talk(everybody.iter().copied())?;
        self.until_flow(&everybody, FLOW)?;

        let before = epoch_of(node, self.asr)?;
        let stack = self.scratch.stack_process(&node.dir);
        let stack = stack.ok_or_else(|| CommandError::failed(format!("the stack of {name} is not found")))?;
        kill_process(stack, Signal::KILL)
            .map_err(|error| CommandError::failed(format!("cannot kill the stack of {name}: {error}")))?;
        let killed = Instant::now();
        stage.tell(&format!(
            "process {}, the stack of {name}, is killed with SIGKILL in epoch {before}",
            stack.as_raw_nonzero()
        ));
        self.next[victim] = talkers.remove(&victim).expect("all talk").bereft(self.scratch)?;
        self.close_ear(victim)?;
        stage.check(
            node.exit_code(&["status"])? == Some(7),
            &format!("akmd says that no stack runs at {name}"),
        )?;
        self.until_flow(&others, FLOW)?;
        self.until_epoch(stage, &others, before, AWAY)?;
        let meanwhile = epoch_of(&self.nodes[others[0]], self.asr)?;
        stage.check(
            meanwhile > before,
            &format!("the others go on without it, up to epoch {meanwhile} so far"),
        )?;
        let away = killed.elapsed();

        let started = Instant::now();
        node.run(&["run", "--detach"])?;
        self.ears[victim] = Some(Subscription::listen(self.scratch, node, self.asr)?);
        let restarted = epoch_of(node, self.asr)?;
        let again = self.talk([victim])?;
        talkers.extend(again);
        self.until_flow(&everybody, 1)?;
        let back = started.elapsed();
        let after = epoch_of(node, self.asr)?;
        stage.check(
            restarted >= before && after > meanwhile,
            &format!(
                "{name} is back after {}: it knew epoch {before}, and is in epoch {after}",
                milliseconds(back)
            ),
        )?;
        self.until_flow(&everybody, FLOW)?;
        self.finish(talkers)?;
        self.until_quiet()?;
        self.all_hear_all(stage)?;
        stage.passed("nothing was delivered twice or altered");
        let heard: usize = self.heard.counts()[victim].iter().sum();
        stage.tell(&format!(
            "{name} was away for {} and has heard {heard} messages in all",
            milliseconds(away)
        ));
        stage.fact("milliseconds_away", json!(away.as_millis() as u64));
        stage.fact("milliseconds_until_back", json!(back.as_millis() as u64));
        stage.fact(
            "epochs",
            json!({ "killed": before, "others": meanwhile, "restarted": restarted, "back": after }),
        );
        stage.result(1, format!("member killed; back by itself after {}", milliseconds(back)));
        Ok(())
    }

    fn talk(
        &self,
        members: impl IntoIterator<Item = usize>,
    ) -> Result<BTreeMap<usize, Talker>, CommandError> {
        members
            .into_iter()
            .map(|at| Ok((at, Talker::begin(&self.nodes[at], self.asr, self.next[at], PACE)?)))
            .collect()
    }

    fn finish(&mut self, talkers: BTreeMap<usize, Talker>) -> Result<(), CommandError> {
        for (at, talker) in talkers {
            self.next[at] = talker.finish(self.scratch)?;
        }
        Ok(())
    }

    /// Waits until the last of these members has moved on so far; returns the epoch that it is in.
    fn until_epoch(
        &mut self,
        stage: &Stage,
        members: &[usize],
        first: u32,
        epochs: u32,
    ) -> Result<u32, CommandError> {
        let started = Instant::now();
        let (mut last, mut moved, mut told) = (first, Instant::now(), 0);
        loop {
            let looked = Instant::now();
            while looked.elapsed() < LOOK {
                self.scratch.go_on()?;
                self.collect()?;
                std::thread::sleep(PACE);
            }
            let mut lowest = u32::MAX;
            for node in members.iter().map(|at| &self.nodes[*at]) {
                lowest = lowest.min(epoch_of(node, self.asr)?);
            }
            if lowest < last {
                return Err(CommandError::failed(format!("an epoch went back, from {last} to {lowest}")));
            }
            if lowest > last {
                (last, moved) = (lowest, Instant::now());
            }
            if last - first >= epochs {
                return Ok(last);
            }
            if moved.elapsed() > PATIENCE {
                return Err(CommandError::failed(format!("epochs do not move on from {last}")));
            }
            let quarter = 4 * (last - first) / epochs;
            if quarter > told {
                told = quarter;
                stage.tell(&format!("epoch {last} after {}", milliseconds(started.elapsed())));
            }
        }
    }

    /// Takes what has arrived at every member.
    fn collect(&mut self) -> Result<bool, CommandError> {
        let mut some = false;
        for (at, ear) in self.ears.iter().enumerate() {
            let Some(ear) = ear else { continue };
            for line in ear.drain()? {
                some = true;
                self.heard.take(at, line)?;
            }
        }
        Ok(some)
    }

    /// Waits until nothing more arrives.
    fn until_quiet(&mut self) -> Result<(), CommandError> {
        let mut latest = Instant::now();
        while latest.elapsed() < QUIET {
            self.scratch.go_on()?;
            if self.collect()? {
                latest = Instant::now();
            }
            std::thread::sleep(PACE);
        }
        Ok(())
    }

    /// Waits until each of these members has heard so many more messages of each other.
    fn until_flow(&mut self, members: &[usize], more: usize) -> Result<(), CommandError> {
        let before = self.heard.counts();
        let names: Vec<&str> = members.iter().map(|at| self.nodes[*at].name).collect();
        let what = format!("{} hear each other", names.join(", "));
        let scratch = self.scratch;
        scratch.wait_until(&what, || {
            self.collect()?;
            Ok(self.heard.lacking(members, &before, more).is_empty())
        })
    }

    /// Every member says one more message, until each has heard each other.
    fn all_hear_all(&mut self, stage: &Stage) -> Result<(), CommandError> {
        let members: Vec<usize> = (0..self.nodes.len()).collect();
        let before = self.heard.counts();
        let mut lacking = Vec::new();
        for call in 1..=CALLS {
            for (at, node) in self.nodes.iter().enumerate() {
                node.send(self.asr, &numbered(node.name, self.next[at]))?;
                self.next[at] += 1;
            }
            let called = Instant::now();
            while called.elapsed() < 2 * QUIET {
                self.scratch.go_on()?;
                self.collect()?;
                lacking = self.heard.lacking(&members, &before, 1);
                if lacking.is_empty() {
                    let at = if call == 1 {
                        "at the first call".to_owned()
                    } else {
                        format!("after {call} calls")
                    };
                    stage.passed(&format!("every member hears every other, {at}"));
                    return Ok(());
                }
                std::thread::sleep(PACE);
            }
        }
        let pairs: Vec<String> = lacking
            .iter()
            .map(|(to, from)| format!("{} does not hear {}", self.nodes[*to].name, self.nodes[*from].name))
            .collect();
        Err(CommandError::failed(pairs.join(", ")))
    }

    /// Takes the last that arrived at a member whose stack is gone.
    fn close_ear(&mut self, at: usize) -> Result<(), CommandError> {
        let Some(ear) = self.ears[at].take() else { return Ok(()) };
        for line in ear.bereft(self.scratch)? {
            self.heard.take(at, line)?;
        }
        Ok(())
    }

    /// Counts what was said and heard since then, and tells it for each member.
    fn tally(&self, stage: &Stage, said_before: &[u64], heard_before: &Counts) -> Tally {
        let counts = self.heard.counts();
        let said: Vec<u64> = self.next.iter().zip(said_before).map(|(next, before)| next - before).collect();
        let mut tally = Tally {
            sent: 0,
            arrived: 0,
            fewest_said: said.iter().copied().min().unwrap_or(0),
            members: Vec::new(),
        };
        for (at, node) in self.nodes.iter().enumerate() {
            let expected = said.iter().sum::<u64>() - said[at];
            let heard = counts[at].iter().sum::<usize>() - heard_before[at].iter().sum::<usize>();
            let heard = heard as u64;
            stage.tell(&format!(
                "{} said {}; heard {heard} of the {expected} that the others said, {} lost",
                node.name,
                said[at],
                expected - heard
            ));
            tally.sent += expected;
            tally.arrived += heard;
            tally.members.push(json!({
                "node": node.name,
                "sent": said[at],
                "heard": heard,
                "lost": expected - heard,
            }));
        }
        tally
    }

    /// Frames that were dropped at all members together, by reason.
    fn refused(&self) -> Result<BTreeMap<String, u64>, CommandError> {
        let mut sum = BTreeMap::new();
        for node in self.nodes {
            for (reason, count) in node.asr(self.asr)?.rejected {
                *sum.entry(reason).or_default() += count;
            }
        }
        Ok(sum)
    }

    /// What became of the messages that did not arrive, as far as the members know.
    fn why_lost(&self, lost: u64, before: &BTreeMap<String, u64>) -> Result<String, CommandError> {
        let refused = self.refused()?.into_iter().filter_map(|(reason, count)| {
            let more = count - before.get(&reason).copied().unwrap_or(0);
            (more > 0).then(|| format!("{more} {reason}"))
        });
        let refused: Vec<String> = refused.collect();
        let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
        let left_out = self.heard.left_out;
        Ok(format!(
            "{lost} lost in all; frames dropped by members: {refused}; lines not read in time: {left_out}"
        ))
    }
}

impl Heard {
    /// Takes a line; an error if it is not exactly what its sender said, or was heard before.
    fn take(&mut self, receiver: usize, line: Line) -> Result<(), CommandError> {
        let (from, data) = match line {
            Line::Message { from_name, data } => (from_name, data),
            Line::Lost { count } => {
                self.left_out += count;
                return Ok(());
            }
            Line::Frame { .. } | Line::Failed { .. } => return Ok(()),
        };
        let (text, to) = (text_of(&data), self.names[receiver]);
        let sender = self.names.iter().position(|name| *name == from).filter(|sender| *sender != receiver);
        let number = sender.and_then(|sender| Some((sender, number_of(&from, &text)?)));
        let Some((sender, number)) = number else {
            return Err(CommandError::failed(format!(
                "{to} heard {text:?} from {from:?}, which nobody said"
            )));
        };
        if !self.numbers[receiver][sender].insert(number) {
            return Err(CommandError::failed(format!("{to} heard {text:?} twice")));
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        self.numbers.iter().map(|by_sender| by_sender.iter().map(BTreeSet::len).collect()).collect()
    }

    /// The pairs (receiver, sender) of these members with fewer than so many more messages.
    fn lacking(&self, members: &[usize], before: &Counts, more: usize) -> Vec<(usize, usize)> {
        let pairs = members.iter().flat_map(|to| members.iter().map(move |from| (*to, *from)));
        pairs
            .filter(|(to, from)| to != from && self.numbers[*to][*from].len() < before[*to][*from] + more)
            .collect()
    }
}

/// The epoch that a node is in.
fn epoch_of(node: &Installation<'_>, asr: &str) -> Result<u32, CommandError> {
    let status = node.asr(asr)?;
    match status.epoch {
        Some(epoch) if status.phase == "Established" => Ok(epoch),
        _ => Err(CommandError::failed(format!("{asr} is {} at {}", status.phase, node.name))),
    }
}
