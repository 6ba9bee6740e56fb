//! Everything there is in a simulation, and the next thing that happens in it.

mod acts;
mod changes;
mod settle;
mod steps;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use akm_core::session::{Phase, Session};
use akm_core::tree::NO_EPOCH;
use akm_host::{Endpoint, Stream};

use crate::bad_member::BadMember;
use crate::disk::Disk;
use crate::element::Element;
use crate::flaw::Flaw;
use crate::happening::Happening;
use crate::intruder::Intruder;
use crate::invariant::{Invariant, Violation};
use crate::issue::Issue;
use crate::link::Link;
use crate::module::Module;
use crate::network::{Flight, Network};
use crate::node::Node;
use crate::process::{Aftermath, Sending};
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
    /// The module's end of each node's provisioning relationship, by its identity.
    links: Vec<Link>,
    /// What nodes said over streams and nobody has heard yet.
    replies: Vec<(Stream, Vec<u8>)>,
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
    Answer { node: usize },
    Timer { node: usize },
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
        let (mut nodes, mut links) = (Vec::new(), Vec::new());
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
            let provisioning = Issue::provisioning(setup.seed, number);
            node.install(&provisioning);
            links.push(Link::new(provisioning, Random::stream(setup.seed, Part::Link, number)));
            for (at, issue) in issues.iter().enumerate() {
                if issue.members.contains(&number) {
                    node.install(issue);
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
            links,
            replies: Vec::new(),
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
        self.nodes[node].session(relationship).map(Session::phase)
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
        let due = |node: usize| self.nodes[node].due().map(|due| (due, node));
        let Some((due, node)) = (0..self.nodes.len()).filter_map(due).min() else { return Ok(()) };
        self.now = self.now.max(due);
        self.at(node, |node, now, issues, aftermath| node.fire(now, issues, aftermath))
    }

    pub(crate) fn crash(&mut self, node: usize) -> Result<(), Violation> {
        self.at(node, |node, _, issues, aftermath| node.crash(issues, aftermath))
    }

    pub(crate) fn start(&mut self, node: usize) -> Result<(), Violation> {
        self.at(node, |node, now, issues, aftermath| node.start(now, issues, aftermath))
    }

    /// An application at a node sends to all others.
    pub(crate) fn send(&mut self, node: usize, relationship: usize) -> Result<(), Violation> {
        self.send_to(node, relationship, None)
    }

    /// The same to one of them.
    pub(crate) fn send_to(
        &mut self,
        node: usize,
        relationship: usize,
        to: Option<usize>,
    ) -> Result<(), Violation> {
        self.messages += 1;
        let message = format!("message {}", self.messages);
        self.at(node, |node, now, issues, aftermath| {
            node.send(now, relationship, to, message.as_bytes(), issues, aftermath);
        })
    }

    /// An operator at a node asks for the next epoch.
    pub(crate) fn advance(&mut self, node: usize, relationship: usize) -> Result<(), Violation> {
        self.at(node, |node, now, issues, aftermath| node.advance(now, relationship, issues, aftermath))
    }

    /// A frame arrives at a node.
    pub(crate) fn arrives(&mut self, to: usize, from: Endpoint, frame: &[u8]) -> Result<(), Violation> {
        self.at(to, |node, now, issues, aftermath| node.receive(now, from, frame, issues, aftermath))
    }

    /// Does something to a node, and carries on from there.
    pub(crate) fn at(
        &mut self,
        node: usize,
        does: impl FnOnce(&mut Node, Duration, &[Issue], &mut Aftermath),
    ) -> Result<(), Violation> {
        let mut aftermath = Aftermath::default();
        does(&mut self.nodes[node], self.now, &self.issues, &mut aftermath);
        self.carry_on(node, aftermath)
    }

    /// Shows the watch what happened at a node, and sends what it made on its way.
    fn carry_on(&mut self, node: usize, aftermath: Aftermath) -> Result<(), Violation> {
        for happening in &aftermath.happenings {
            let is_told = !matches!(happening, Happening::Stands { .. } | Happening::Rests { .. });
            if self.log.is_some() && is_told {
                self.note(&format!("node {node}  {happening}"));
            }
            self.watch.see(self.now, node, happening)?;
        }
        let from = self.nodes[node].address;
        for Sending { issue, to, of_session, frame } in aftermath.frames {
            let Issue { relationship, members, .. } = &self.issues[issue];
            // Who was removed still hears what goes over the wire.
            let was_removed = |node: usize| {
                let mut issues = self.issues.iter().filter(|issue| issue.relationship == *relationship);
                !members.contains(&node) && issues.any(|issue| issue.members.contains(&node))
            };
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                let Node { identity, address, .. } = &self.nodes[other];
                if to.contains(address) || of_session && was_removed(*identity) {
                    self.network.send(self.now, (node, from), other, &frame);
                }
            }
            self.intruder.record(issue, frame);
        }
        self.replies.extend(aftermath.replies);
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
        let nodes = || self.nodes.iter().enumerate();
        let due = |(node, its): (usize, &Node)| Some((its.due()?.max(self.now), Next::Timer { node }));
        let timer = nodes().filter_map(due).min_by_key(|(due, _)| *due);
        let due =
            |(node, its): (usize, &Node)| Some((its.answers_at()?.max(self.now), Next::Answer { node }));
        let answer = nodes().filter_map(due).min_by_key(|(due, _)| *due);
        let arrival = self.network.due().map(|due| (due.max(self.now), Next::Arrival));
        // Of several at the same time the frame comes first.
        let next = [arrival, answer, timer].into_iter().flatten().min_by_key(|(due, _)| *due);
        let Some((due, next)) = next.filter(|(due, _)| *due <= end) else { return Ok(false) };
        self.now = due;
        match next {
            Next::Arrival => {
                let Flight { from, to, frame, .. } = self.network.arrive().expect("it is due");
                self.arrives(to, from, &frame)?;
            }
            Next::Answer { node } => {
                self.at(node, |node, now, issues, aftermath| node.be_answered(now, issues, aftermath))?;
            }
            Next::Timer { node } => {
                self.at(node, |node, now, issues, aftermath| node.fire(now, issues, aftermath))?;
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
