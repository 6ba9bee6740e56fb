//! Everything there is in a simulation, and the next thing that happens in it.

mod acts;
mod changes;
mod settle;
mod steps;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use akm_core::frame::FrameKind;
use akm_core::session::{Input, Phase, Session};
use akm_core::tree::NO_EPOCH;

use crate::bad_member::BadMember;
use crate::disk::Disk;
use crate::element::Element;
use crate::flaw::Flaw;
use crate::happening::Happening;
use crate::intruder::Intruder;
use crate::invariant::{Invariant, Violation};
use crate::issue::Issue;
use crate::module::Module;
use crate::network::Network;
use crate::node::Node;
use crate::process::Aftermath;
use crate::random::{Part, Random};
use crate::setup::Setup;
use crate::tally::Tally;
use crate::trace::Trace;
use crate::watch::Watch;
pub use steps::Step;

/// Nodes, their relationships, the network between them, an intruder, the time, and somebody who sees
/// it all.
#[derive(Debug)]
pub struct World {
    pub(crate) setup: Setup,
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) issues: Vec<Issue>,
    pub(crate) network: Network,
    pub(crate) watch: Watch,
    pub(crate) settling: Random,
    pub(crate) module: Module,
    backup: Module,
    intruder: Intruder,
    bad_member: BadMember,
    images: Vec<Vec<Disk>>,
    messages: u64,
    /// How often a session was served at this time.
    served: (Duration, usize),
    log: Option<String>,
}

/// What is the next to happen by itself.
enum Next {
    Arrival,
    Timer { node: usize, relationship: usize },
}

impl World {
    /// A world in which nothing has happened but provisioning. All nodes are switched off.
    pub fn new(setup: &Setup) -> Self {
        let issues = Issue::first(setup);
        let mut watch = Watch::new(setup.flaw == Some(Flaw::MislaysPlaces));
        for (number, issue) in issues.iter().enumerate() {
            let overlap = setup.relationships[number].policy.overlap;
            watch.issued(number, issue.members.clone(), 1, 1, overlap);
        }
        let module = Module::new(&issues);
        let mut nodes = Vec::new();
        for (number, wanted) in setup.nodes.iter().enumerate() {
            let element = Element::new(wanted.counter, Random::stream(setup.seed, Part::Element, number));
            let mut system = Random::stream(setup.seed, Part::System, number);
            let stuck = setup.flaw == Some(Flaw::StuckGenerators);
            if stuck {
                system = system.stuck();
            }
            let mut node = Node::new(number, element, system, setup.flaw);
            if stuck {
                node.element.break_generator();
            }
            let mut of_this_node = Vec::new();
            for (at, issue) in issues.iter().enumerate() {
                if issue.members.contains(&number) {
                    node.install(at, issue);
                    of_this_node.push((at, issue.active));
                }
            }
            watch.provisioned(number, wanted.counter, &of_this_node);
            nodes.push(node);
        }
        Self {
            setup: setup.clone(),
            backup: module.clone(),
            module,
            now: Duration::ZERO,
            images: vec![Vec::new(); nodes.len()],
            nodes,
            issues,
            network: Network::new(Random::stream(setup.seed, Part::Network, 0)),
            watch,
            settling: Random::stream(setup.seed, Part::Settling, 0),
            intruder: Intruder::new(Random::stream(setup.seed, Part::Intruder, 0)),
            bad_member: BadMember::new(Random::stream(setup.seed, Part::BadMember, 0)),
            messages: 0,
            served: (Duration::ZERO, 0),
            log: None,
        }
    }

    /// The world of a trace after all its actions, with the event log if that is wanted, and the first
    /// violation, if any. A panic is one too.
    pub fn replay(trace: &Trace, logged: bool) -> (Self, Result<(), Violation>) {
        let mut world = Self::new(&trace.setup);
        world.log = logged.then(String::new);
        let result = catch_unwind(AssertUnwindSafe(|| {
            world.start_all()?;
            trace.actions.iter().try_for_each(|action| world.act(action))
        }));
        let result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Violation::new(Invariant::NothingBringsItDown, text.unwrap_or("a panic without words")))
        });
        if let Err(violation) = &result {
            world.note(&format!("VIOLATED {violation}"));
        }
        (world, result)
    }

    /// What happened, one line each, for a person to read; empty if it was not wanted.
    pub fn log(&self) -> &str {
        self.log.as_deref().unwrap_or_default()
    }

    /// How often what happened.
    pub fn tally(&self) -> Tally {
        Tally { runs: 1, ..self.watch.tally.clone() }
    }

    /// A node, by its number.
    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// The epoch of a relationship at a node in memory; "none yet" without a session.
    pub fn epoch(&self, node: usize, relationship: usize) -> u32 {
        self.nodes[node].session(relationship).map_or(NO_EPOCH, Session::epoch)
    }

    /// The run of a relationship at a node; 0 without a session.
    pub fn run(&self, node: usize, relationship: usize) -> u32 {
        self.nodes[node].session(relationship).map_or(0, Session::run)
    }

    /// Where a relationship stands at a node; `None` without a session.
    pub fn phase(&self, node: usize, relationship: usize) -> Option<Phase> {
        self.nodes[node].session(relationship).map(akm_core::session::Session::phase)
    }

    pub(crate) fn note(&mut self, text: &str) {
        if let Some(log) = &mut self.log {
            let seconds = self.now.as_secs_f64();
            log.push_str(&format!("{seconds:>12.6}  {text}\n"));
        }
    }

    pub(crate) fn start_all(&mut self) -> Result<(), Violation> {
        (0..self.nodes.len()).try_for_each(|node| self.start(node))
    }

    /// Serves the timer that is due first.
    pub(crate) fn first_timer(&mut self) -> Result<(), Violation> {
        let due = |node: usize| self.nodes[node].due().map(|(due, relationship)| (due, node, relationship));
        let Some((due, node, relationship)) = (0..self.nodes.len()).filter_map(due).min() else {
            return Ok(());
        };
        self.now = self.now.max(due);
        self.input(node, relationship, Input::Timeout)
    }

    pub(crate) fn crash(&mut self, node: usize) -> Result<(), Violation> {
        let mut aftermath = Aftermath::default();
        self.nodes[node].crash(&mut aftermath);
        self.carry_on(node, aftermath)
    }

    pub(crate) fn start(&mut self, node: usize) -> Result<(), Violation> {
        let mut aftermath = Aftermath::default();
        self.nodes[node].start(self.now, &self.issues, &mut aftermath);
        self.carry_on(node, aftermath)
    }

    pub(crate) fn send(&mut self, node: usize, relationship: usize) -> Result<(), Violation> {
        self.messages += 1;
        let message = format!("message {}", self.messages);
        self.input(node, relationship, Input::Send(FrameKind::Data, message.as_bytes()))
    }

    pub(crate) fn input(
        &mut self,
        node: usize,
        relationship: usize,
        input: Input<'_>,
    ) -> Result<(), Violation> {
        let mut aftermath = Aftermath::default();
        self.nodes[node].drive(self.now, relationship, input, &self.issues, &mut aftermath);
        self.carry_on(node, aftermath)
    }

    /// Shows the watch what happened at a node, and sends what it made on its way.
    pub(crate) fn carry_on(&mut self, node: usize, aftermath: Aftermath) -> Result<(), Violation> {
        for happening in &aftermath.happenings {
            if self.log.is_some() && !matches!(happening, Happening::Stands { .. }) {
                self.note(&format!("node {node}  {happening}"));
            }
            self.watch.see(self.now, node, happening)?;
        }
        for (issue, member, frame) in aftermath.frames {
            let Issue { relationship, members, .. } = &self.issues[issue];
            let only = member.map(|member| members[usize::from(member)]);
            // Who was removed still hears what goes over the wire.
            let ever = |node: usize| {
                let mut issues = self.issues.iter().filter(|issue| issue.relationship == *relationship);
                issues.any(|issue| issue.members.contains(&node))
            };
            for to in (0..self.nodes.len()).filter(|to| *to != node) {
                let identity = self.nodes[to].identity;
                if only.map_or_else(|| ever(identity), |only| only == identity) {
                    self.network.send(self.now, node, to, &frame);
                }
            }
            self.intruder.record(issue, frame);
        }
        Ok(())
    }

    /// Lets the time go by.
    pub(crate) fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        while self.happen_next(end)? {}
        self.now = self.now.max(end);
        Ok(())
    }

    /// The next thing that happens by itself, if it does so by `end`.
    pub(crate) fn happen_next(&mut self, end: Duration) -> Result<bool, Violation> {
        let timers = self.nodes.iter().enumerate().filter_map(|(node, its)| {
            let (due, relationship) = its.due()?;
            Some((due.max(self.now), Next::Timer { node, relationship }))
        });
        let timer = timers.min_by_key(|(due, _)| *due);
        let arrival = self.network.due().map(|due| (due.max(self.now), Next::Arrival));
        // Of two at the same time the frame comes first.
        let next = [arrival, timer].into_iter().flatten().min_by_key(|(due, _)| *due);
        let Some((due, next)) = next.filter(|(due, _)| *due <= end) else { return Ok(false) };
        self.now = due;
        match next {
            Next::Arrival => {
                let flight = self.network.arrive().expect("it is due");
                let mut aftermath = Aftermath::default();
                self.nodes[flight.to].receive(self.now, &flight.frame, &self.issues, &mut aftermath);
                self.carry_on(flight.to, aftermath)?;
            }
            Next::Timer { node, relationship } => {
                self.input(node, relationship, Input::Timeout)?;
                self.timers_move_on(node)?;
            }
        }
        Ok(true)
    }

    fn timers_move_on(&mut self, node: usize) -> Result<(), Violation> {
        let (at, times) = self.served;
        self.served = (self.now, if at == self.now { times + 1 } else { 1 });
        // At one moment each session may have its hello, its trigger and the end of each overlap.
        let most = self.nodes.len() * self.setup.relationships.len() * TIMERS_OF_A_SESSION;
        if self.served.1 > most {
            return Err(Violation::new(
                Invariant::TimersMoveOn,
                format!("node {node} asks for the same time again and again"),
            ));
        }
        Ok(())
    }
}

/// Reasons for which one session may want to be called at one moment.
const TIMERS_OF_A_SESSION: usize = 16;
