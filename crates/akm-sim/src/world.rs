use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use akm_core::frame::FrameKind;
use akm_core::session::{Input, Phase};
use akm_core::tree::{LAST_EPOCH, NO_EPOCH};

use crate::action::Action;
use crate::disk::Disk;
use crate::element::Element;
use crate::flaw::Flaw;
use crate::happening::Happening;
use crate::intruder::Intruder;
use crate::invariant::{Invariant, Violation};
use crate::module::{Change, Module};
use crate::network::Network;
use crate::node::{Node, Outcome};
use crate::random::{Part, Random};
use crate::relationship::Relationship;
use crate::setup::Setup;
use crate::tally::Tally;
use crate::trace::Trace;
use crate::watch::Watch;

/// Nodes, their relationships, the network between them, an intruder, the time, and somebody who sees
/// it all.
#[derive(Debug)]
pub struct World {
    pub(crate) setup: Setup,
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) relationships: Vec<Relationship>,
    pub(crate) network: Network,
    pub(crate) watch: Watch,
    pub(crate) settling: Random,
    pub(crate) module: Module,
    backup: Module,
    intruder: Intruder,
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
        let relationships = Relationship::issue(setup);
        let mut watch = Watch::new(setup.flaw == Some(Flaw::MislaysPlaces));
        for (number, relationship) in relationships.iter().enumerate() {
            let overlap = setup.relationships[number].policy.overlap;
            watch.issued(number, relationship.members.clone(), 1, 1, overlap);
        }
        let module = Module::new(&relationships);
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
            for (at, relationship) in relationships.iter().enumerate() {
                if relationship.members.contains(&number) {
                    node.install(at, relationship);
                    of_this_node.push((at, relationship.active));
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
            relationships,
            network: Network::new(Random::stream(setup.seed, Part::Network, 0)),
            watch,
            settling: Random::stream(setup.seed, Part::Settling, 0),
            intruder: Intruder::new(Random::stream(setup.seed, Part::Intruder, 0)),
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
        self.nodes[node].session(relationship).map_or(NO_EPOCH, akm_core::session::Session::epoch)
    }

    /// The run of a relationship at a node; 0 without a session.
    pub fn run(&self, node: usize, relationship: usize) -> u32 {
        self.nodes[node].session(relationship).map_or(0, akm_core::session::Session::run)
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

    /// Does one thing to the world, and checks all invariants.
    pub fn act(&mut self, action: &Action) -> Result<(), Violation> {
        if self.log.is_some() {
            self.note(&format!("---- {action}"));
        }
        if !self.names_what_is_there(action) {
            return Ok(());
        }
        match action {
            Action::Run(time) => self.run_until(self.now + *time)?,
            Action::Send { node, relationship } => self.send(*node, *relationship)?,
            Action::Advance { node, relationship } => self.input(*node, *relationship, Input::Advance)?,
            Action::Activate { node, relationship } => self.input(*node, *relationship, Input::Activate)?,
            Action::Crash { node } => self.crash(*node)?,
            Action::CrashAfter { node, steps } => self.nodes[*node].dies_after(Some(*steps)),
            Action::Start { node } => self.start(*node)?,
            Action::DiskFull { node, full } => self.nodes[*node].disk.fill_up(*full),
            Action::ElementSilent { node, silent } => self.nodes[*node].element.fall_silent(*silent),
            Action::Image { node } => {
                let image = self.nodes[*node].disk.clone();
                self.images[*node].push(image);
                self.watch.imaged(*node);
            }
            Action::Restore { node, image } => self.restore(*node, *image)?,
            Action::Clone { node } => self.clone_node(*node),
            Action::Cut { from, to, cut } => self.network.cut(*from, *to, *cut),
            Action::Split { side } => self.network.split(side, self.nodes.len()),
            Action::Join => self.network.join(),
            Action::Loss { in_a_thousand } => self.network.loss = *in_a_thousand,
            Action::Duplicate { in_a_thousand } => self.network.duplication = *in_a_thousand,
            Action::Delay { shortest, longest } => self.network.delay = (*shortest, *longest),
            Action::Leap { node, relationship, epochs } => {
                self.crash(*node)?;
                let mut outcome = Outcome::default();
                let issue = self.issue_on_disk(*node, *relationship);
                if let Some(issue) = issue {
                    self.nodes[*node].leap(issue, &self.relationships[issue], *epochs, &mut outcome);
                }
                self.carry_on(*node, outcome)?;
                self.start(*node)?;
            }
            Action::Replay { frame, to } => {
                let frame = self.intruder.recorded(*frame).map(|(_, frame)| frame);
                self.intrude(*to, frame)?;
            }
            Action::Alter { frame, byte, bits, to } => {
                let frame = self.intruder.alter(*frame, *byte, *bits);
                self.intrude(*to, frame)?;
            }
            Action::Resign { frame, ahead, to } => {
                let Some((relationship, _)) = self.intruder.recorded(*frame) else { return Ok(()) };
                let epoch = self.ahead(*to, self.relationships[relationship].lineage, *ahead);
                let frame = self.intruder.resign(*frame, epoch, &self.relationships);
                self.intrude(*to, frame)?;
            }
            Action::Forge { relationship, sender, ahead, to } => {
                let epoch = self.ahead(*to, *relationship, *ahead);
                let frame = self.intruder.forge(
                    &self.relationships[self.module.latest(*relationship)],
                    *sender,
                    epoch,
                );
                self.intrude(*to, Some(frame))?;
            }
            Action::Noise { length, to } => {
                let frame = self.intruder.noise(*length);
                self.intrude(*to, Some(frame))?;
            }
            Action::Tagged { relationship, length, to } => {
                let frame =
                    self.intruder.tagged(&self.relationships[self.module.latest(*relationship)], *length);
                self.intrude(*to, Some(frame))?;
            }
            Action::Lose { node, relationship } => self.lose(*node, Some(*relationship))?,
            Action::Wipe { node } => self.lose(*node, None)?,
            Action::Change { relationship, change } => self.change(*relationship, *change)?,
            Action::ModuleWorks => self.module_works()?,
            Action::ModuleBackup => self.backup = self.module.clone(),
            Action::ModuleRestore => {
                let Self { module, backup, nodes, .. } = self;
                module.restore(backup, nodes.len());
            }
            Action::Settle => self.settle(None)?,
            Action::SettleAlone { node } => self.settle(Some(*node))?,
        }
        Ok(())
    }

    /// Whether the nodes and relationships that an action names exist.
    fn names_what_is_there(&self, action: &Action) -> bool {
        let (nodes, relationships): (&[usize], &[usize]) = match action {
            Action::Send { node, relationship }
            | Action::Advance { node, relationship }
            | Action::Activate { node, relationship }
            | Action::Leap { node, relationship, .. }
            | Action::Forge { relationship, to: node, .. }
            | Action::Lose { node, relationship }
            | Action::Change { relationship, change: Change::Add { node } | Change::Remove { node } }
            | Action::Tagged { relationship, to: node, .. } => (&[*node], &[*relationship]),
            Action::Change { relationship, change: Change::Renew { .. } } => (&[], &[*relationship]),
            Action::Crash { node }
            | Action::CrashAfter { node, .. }
            | Action::Start { node }
            | Action::DiskFull { node, .. }
            | Action::ElementSilent { node, .. }
            | Action::Image { node }
            | Action::Restore { node, .. }
            | Action::Clone { node }
            | Action::Replay { to: node, .. }
            | Action::Alter { to: node, .. }
            | Action::Resign { to: node, .. }
            | Action::Wipe { node }
            | Action::Noise { to: node, .. }
            | Action::SettleAlone { node } => (&[*node], &[]),
            Action::Cut { from, to, .. } => (&[*from, *to], &[]),
            Action::Split { side } => (side, &[]),
            Action::Run(_)
            | Action::Join
            | Action::Loss { .. }
            | Action::Duplicate { .. }
            | Action::Delay { .. }
            | Action::ModuleWorks
            | Action::ModuleBackup
            | Action::ModuleRestore
            | Action::Settle => (&[], &[]),
        };
        nodes.iter().all(|node| *node < self.nodes.len())
            && relationships.iter().all(|number| *number < self.setup.relationships.len())
    }

    /// The epoch that lies this far ahead of a node.
    fn ahead(&self, node: usize, relationship: usize, ahead: u32) -> u32 {
        let epoch = self.epoch(node, relationship);
        let next = if epoch == NO_EPOCH { 0 } else { epoch };
        next.saturating_add(ahead).min(LAST_EPOCH)
    }

    /// The highest generation of a relationship that is active on the disk of a node, or the highest.
    fn issue_on_disk(&self, node: usize, lineage: usize) -> Option<usize> {
        let disk = &self.nodes[node].disk;
        let issues = disk.installed().filter(|issue| self.relationships[*issue].lineage == lineage);
        issues.max_by_key(|issue| (disk.is_active(*issue), self.relationships[*issue].sds.generation()))
    }

    fn lose(&mut self, node: usize, lineage: Option<usize>) -> Result<(), Violation> {
        self.crash(node)?;
        for issue in 0..self.relationships.len() {
            if lineage.is_none_or(|lineage| self.relationships[issue].lineage == lineage) {
                self.nodes[node].disk.lose_place(issue);
                self.watch.lost(node, issue);
            }
        }
        Ok(())
    }

    /// The module's word for a generation, at a node.
    pub(crate) fn activate(&mut self, node: usize, lineage: usize, generation: u32) -> Result<(), Violation> {
        let staged = self.nodes[node].lineage(lineage).and_then(akm_core::lineage::Lineage::staged);
        if staged.is_some_and(|staged| staged.membership().sds().generation() == generation) {
            self.input(node, lineage, Input::Activate)?;
        }
        Ok(())
    }

    fn restore(&mut self, node: usize, back: usize) -> Result<(), Violation> {
        let Some(last) = self.images[node].len().checked_sub(1) else { return Ok(()) };
        let image = last - back.min(last);
        self.crash(node)?;
        self.nodes[node].disk.restore(&self.images[node][image]);
        self.watch.restored(node, image);
        Ok(())
    }

    fn clone_node(&mut self, node: usize) {
        let number = self.nodes.len();
        let element = Random::stream(self.setup.seed, Part::Element, number);
        let system = Random::stream(self.setup.seed, Part::System, number);
        let copy = self.nodes[node].copy(element, system);
        self.nodes.push(copy);
        self.images.push(Vec::new());
        self.watch.cloned(node);
    }

    pub(crate) fn crash(&mut self, node: usize) -> Result<(), Violation> {
        let mut outcome = Outcome::default();
        self.nodes[node].crash(&mut outcome);
        self.carry_on(node, outcome)
    }

    pub(crate) fn start(&mut self, node: usize) -> Result<(), Violation> {
        let mut outcome = Outcome::default();
        self.nodes[node].start(self.now, &self.relationships, &mut outcome);
        self.carry_on(node, outcome)
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
        let mut outcome = Outcome::default();
        self.nodes[node].drive(self.now, relationship, input, &self.relationships, &mut outcome);
        self.carry_on(node, outcome)
    }

    /// The intruder's frames arrive at once.
    fn intrude(&mut self, to: usize, frame: Option<Vec<u8>>) -> Result<(), Violation> {
        let mut outcome = Outcome::default();
        if let Some(frame) = frame {
            self.nodes[to].receive(self.now, &frame, &self.relationships, &mut outcome);
        }
        self.carry_on(to, outcome)
    }

    /// Shows the watch what happened at a node, and sends what it made on its way.
    pub(crate) fn carry_on(&mut self, node: usize, outcome: Outcome) -> Result<(), Violation> {
        for happening in &outcome.happenings {
            if self.log.is_some() && !matches!(happening, Happening::Stands { .. }) {
                self.note(&format!("node {node}  {happening}"));
            }
            self.watch.see(self.now, node, happening)?;
        }
        for (relationship, member, frame) in outcome.frames {
            let Relationship { lineage, members, .. } = &self.relationships[relationship];
            let only = member.map(|member| members[usize::from(member)]);
            // Who was removed still hears what goes over the wire.
            let ever = |node: usize| {
                let mut issues = self.relationships.iter().filter(|issue| issue.lineage == *lineage);
                issues.any(|issue| issue.members.contains(&node))
            };
            for to in (0..self.nodes.len()).filter(|to| *to != node) {
                let identity = self.nodes[to].identity;
                if only.map_or_else(|| ever(identity), |only| only == identity) {
                    self.network.send(self.now, node, to, &frame);
                }
            }
            self.intruder.record(relationship, frame);
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
                let mut outcome = Outcome::default();
                self.nodes[flight.to].receive(self.now, &flight.frame, &self.relationships, &mut outcome);
                self.carry_on(flight.to, outcome)?;
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
