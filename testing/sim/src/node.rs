//! A device: its element, its disk, its address, and the shipped node that may run on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use akm_core::crypto;
use akm_core::element::ProvisionableElement;
use akm_core::frame::Header;
use akm_core::keys::{PlaceSeal, sealed_start};
use akm_core::lineage::Lineage;
use akm_core::session::{RandomSource, Session};
use akm_core::tree::{LAST_EPOCH, Place};
use akm_host::{Endpoint, GenerationId, Identity, Input, Known, Stream, Wish, Write};

use crate::disk::Disk;
use crate::element::Element;
use crate::flaw::Flaw;
use crate::happening::{Delivered, Given, Happening};
use crate::host::{self, Host};
use crate::issue::{Issue, MODULE, address, id_of_node, is_provisioning, provisioning_id, relationship_id};
use crate::process::{Aftermath, Died, Process, Steps};
use crate::random::Random;

/// A device, and the process that may run on it.
#[derive(Debug)]
pub struct Node {
    /// Which node it is, to others. A clone has the identity of its original.
    pub identity: usize,
    /// Its element.
    pub element: Element,
    /// Its disk.
    pub disk: Disk,
    /// Where it is.
    pub address: Endpoint,
    moved: u16,
    /// How long its element takes for an answer.
    pub element_takes: Duration,
    /// The longest that it ever took.
    pub slowest_element: Duration,
    /// How long its disk takes for a write.
    pub disk_takes: Duration,
    pub(crate) system: Random,
    pub(crate) process: Option<Process>,
    pub(crate) steps: Steps,
    pub(crate) flaw: Option<Flaw>,
    /// What the disk held when the process began.
    disk_at_start: Disk,
    /// The last message that an application was given.
    pub(crate) last_message: Option<(usize, Header, Delivered)>,
}

impl Node {
    /// A node that knows its module and has never been started.
    pub fn new(identity: usize, element: Element, system: Random, flaw: Option<Flaw>) -> Self {
        Self {
            identity,
            element,
            disk: Disk::default(),
            address: address(identity, 0),
            moved: 0,
            element_takes: Duration::ZERO,
            slowest_element: Duration::ZERO,
            disk_takes: Duration::ZERO,
            system,
            process: None,
            steps: Steps::default(),
            flaw,
            disk_at_start: Disk::default(),
            last_message: None,
        }
    }

    /// Takes in an issue, as a node has it that its module has sent one.
    pub fn install(&mut self, issue: &Issue) {
        let root = issue.element_root();
        self.element.install(issue.root(), root.expose()).expect("a new element takes a root");
        let seal = PlaceSeal::derive(&mut self.element, 0).expect("a new element answers");
        let place = Place::before_first(0, issue.host_part().tree_root).emit();
        let sealed = seal_place(&seal, &mut self.system, issue, place.expose());
        let installed = Box::new(issue.installed(self.identity, &mut self.element));
        self.disk.write(Write::Install { installed, sealed, beside: true }).expect("a new disk has room");
    }

    /// It has another address from here on.
    pub fn moves(&mut self) {
        self.moved += 1;
        self.address = address(self.identity, self.moved);
    }

    /// A copy of this device, switched off, at the same address.
    pub fn copy(&self, random: Random, system: Random) -> Self {
        let element = self.element.copy(random);
        let new = Self::new(self.identity, element, system, self.flaw);
        Self { disk: self.disk.clone(), address: self.address, ..new }
    }

    /// Whether a process is there, be it in its start.
    pub fn is_there(&self) -> bool {
        self.process.is_some()
    }

    /// Whether its node runs.
    pub fn runs(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.host.node().is_running())
    }

    /// The generations of a relationship, while its node runs.
    pub fn lineage(&self, relationship: usize) -> Option<&Lineage<Known>> {
        let node = self.process.as_ref()?.host.node();
        node.lineage(relationship_id(relationship)).filter(|_| node.is_running())
    }

    /// The session of a relationship in which messages go out, or which waits to become that.
    pub fn session(&self, relationship: usize) -> Option<&Session> {
        Some(self.lineage(relationship)?.in_force()?.0)
    }

    /// When its node wants to be called.
    pub fn due(&self) -> Option<Duration> {
        let process = self.process.as_ref()?;
        Some(process.began + process.host.node().timeout()?.0)
    }

    /// When its element or its disk answers next.
    pub fn answers_at(&self) -> Option<Duration> {
        let process = self.process.as_ref()?;
        let question = process.questions.front().map(|(due, ..)| *due);
        let write = process.writes.front().map(|(due, ..)| *due);
        question.into_iter().chain(write).min()
    }

    /// Whether its element or its disk takes time.
    pub fn is_slow(&self) -> bool {
        !self.element_takes.is_zero() || !self.disk_takes.is_zero()
    }

    /// From here on element and disk answer at once, also what they were asked before.
    pub fn answer_at_once(&mut self) {
        (self.element_takes, self.disk_takes) = (Duration::ZERO, Duration::ZERO);
        if let Some(process) = &mut self.process {
            process.questions.iter_mut().for_each(|(due, ..)| *due = Duration::ZERO);
            process.writes.iter_mut().for_each(|(due, ..)| *due = Duration::ZERO);
        }
    }

    /// Lets the process end without a word after this many more steps.
    pub fn dies_after(&mut self, steps: Option<u32>) {
        self.steps = Steps(steps);
    }

    /// Ends the process without a word.
    pub fn crash(&mut self, issues: &[Issue], aftermath: &mut Aftermath) {
        if self.process.is_some() {
            self.ended(issues, aftermath);
        }
    }

    /// The process is thrown away with all that it was not answered. Of what it had asked for, some was done.
    pub(crate) fn ended(&mut self, issues: &[Issue], aftermath: &mut Aftermath) {
        self.steps = Steps::default();
        if let Some(mut process) = self.process.take() {
            let writes = std::mem::take(&mut process.writes);
            let done = self.system.below(writes.len() + 1);
            for (_, _, write) in writes.into_iter().take(done) {
                // Nobody hears of it.
                let _ = self.write(&mut process, write, issues, aftermath);
            }
            let questions = std::mem::take(&mut process.questions);
            let asked = self.system.below(questions.len() + 1);
            for (_, _, question) in questions.into_iter().take(asked) {
                let _ = host::answer(&mut self.element, &self.disk, &question, self.flaw);
                self.note_count(&mut process, &question, aftermath);
            }
        }
        if self.flaw == Some(Flaw::ForgetsWrites) {
            self.disk = self.disk_at_start.clone();
        }
        aftermath.happenings.push(Happening::Died);
    }

    /// Starts, if it does not run (protocol, section 6).
    pub fn start(&mut self, now: Duration, issues: &[Issue], aftermath: &mut Aftermath) {
        if self.process.is_some() {
            return;
        }
        aftermath.happenings.push(Happening::Starts);
        self.disk_at_start = self.disk.clone();
        let (node, relationship) = (id_of_node(self.identity), provisioning_id(self.identity));
        let identity = Identity::of_one(node, relationship, id_of_node(MODULE));
        let found = host::found_on(&self.disk, self.identity, self.flaw);
        let generations = self.disk.generations();
        let numbers =
            generations.filter_map(|(of, sds)| Some((of, issue_of(issues, sds.digest())?))).collect();
        self.process = Some(Process {
            began: now,
            host: Host::start(identity, found, self.flaw, &mut self.system),
            questions: VecDeque::new(),
            writes: VecDeque::new(),
            issues: numbers,
            wishes: BTreeMap::new(),
            wished: 0,
            given: VecDeque::new(),
            stands: BTreeMap::new(),
            is_counted: false,
            hoard: 0,
        });
        self.go_on(now, None, issues, aftermath);
        if let Some((issue, header, delivery)) = self.last_message.clone()
            && self.flaw == Some(Flaw::RepeatsItselfAfterStart)
        {
            aftermath.happenings.push(Happening::Delivered { issue, header, delivery });
        }
    }

    /// Takes bytes off the network.
    pub fn receive(
        &mut self,
        now: Duration,
        from: Endpoint,
        frame: &[u8],
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) {
        let Some(process) = &self.process else { return };
        let header = Header::parse(frame).ok();
        if process.host.closes_at_once(frame) {
            aftermath.happenings.push(Happening::Unclaimed { header });
            return;
        }
        aftermath.happenings.push(Happening::Given { what: Given::Datagram(header) });
        if let Some(header) = header.filter(|_| self.flaw == Some(Flaw::AsksForEachFrame)) {
            for _ in 0..2 {
                // Whether it answers does not matter: it was asked.
                let epoch = header.epoch;
                let issue = process.issues.values().next().copied();
                aftermath.happenings.push(Happening::Asked { issue, epoch });
            }
        }
        if self.flaw == Some(Flaw::WritesForEachFrame) {
            for _ in 0..WRITES_OF_A_FLAW {
                self.disk
                    .write(Write::KeepGenerations {
                        relationship: provisioning_id(self.identity),
                        kept: BTreeSet::from([1]),
                    })
                    .ok();
            }
        }
        self.go_on(now, Some(Input::Datagram { from, frame }), issues, aftermath);
    }

    /// An application sends to all other members, or to one.
    pub fn send(
        &mut self,
        now: Duration,
        relationship: usize,
        to: Option<usize>,
        body: &[u8],
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) {
        let Some(process) = &mut self.process else { return };
        let id = relationship_id(relationship);
        process.wished += 1;
        process.wishes.insert(process.wished, (id, Some(body.to_vec())));
        let wish = Wish(process.wished);
        aftermath.happenings.push(Happening::Given { what: Given::Send });
        let input = Input::Send { wish, relationship: id, to: to.map(id_of_node), body };
        self.go_on(now, Some(input), issues, aftermath);
    }

    /// An operator asks for the next epoch.
    pub fn advance(
        &mut self,
        now: Duration,
        relationship: usize,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) {
        if self.process.is_none() {
            return;
        }
        aftermath.happenings.push(Happening::Given { what: Given::Advance });
        self.advance_again(now, relationship, issues, aftermath);
        let refused = aftermath.happenings.iter().any(|told| matches!(told, Happening::Refused { .. }));
        if refused && self.flaw == Some(Flaw::RetriesBehindTheBack) {
            self.element.fall_silent(false);
            self.advance_again(now, relationship, issues, aftermath);
            self.element.fall_silent(true);
        }
    }

    fn advance_again(
        &mut self,
        now: Duration,
        relationship: usize,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) {
        let Some(process) = &mut self.process else { return };
        let relationship = relationship_id(relationship);
        process.wished += 1;
        process.wishes.insert(process.wished, (relationship, None));
        let wish = Wish(process.wished);
        self.go_on(now, Some(Input::Advance { wish, relationship }), issues, aftermath);
    }

    /// A frame of the module comes over a stream.
    pub fn hear_module(
        &mut self,
        now: Duration,
        stream: Stream,
        frame: &[u8],
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) {
        if self.process.is_none() {
            return;
        }
        aftermath.happenings.push(Happening::Given { what: Given::Module });
        self.go_on(now, Some(Input::StreamFrame { stream, frame }), issues, aftermath);
    }

    /// Nobody listens at a stream any more.
    pub fn close_stream(
        &mut self,
        now: Duration,
        stream: Stream,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) {
        self.go_on(now, Some(Input::StreamClosed { stream }), issues, aftermath);
    }

    /// Its time has come.
    pub fn fire(&mut self, now: Duration, issues: &[Issue], aftermath: &mut Aftermath) {
        aftermath.happenings.push(Happening::Given { what: Given::Timeout });
        self.go_on(now, Some(Input::Timeout), issues, aftermath);
    }

    /// Its element or its disk answers.
    pub fn be_answered(&mut self, now: Duration, issues: &[Issue], aftermath: &mut Aftermath) {
        aftermath.happenings.push(Happening::Given { what: Given::Answer });
        self.go_on(now, None, issues, aftermath);
    }

    /// Moves the place of an issue on by that many epochs, while the node is switched off. Without a good place, an
    /// element that answers and a disk with room nothing happens.
    pub fn leap(&mut self, number: usize, issue: &Issue, epochs: u32, aftermath: &mut Aftermath) {
        let sds = &issue.sds;
        let of = issue.id();
        let Some(sealed) = self.disk.place(of).map(<[u8]>::to_vec) else { return };
        let Some(start) = sealed_start(&sealed) else { return };
        let Ok(seal) = PlaceSeal::derive(&mut self.element, start) else { return };
        let Ok(place) = seal.open(crypto::provider(), sds.suite(), sds.digest(), &sealed) else { return };
        let place = Place::parse(place.expose()).expect("what a node sealed is a place");
        let Some(next) = place.next_epoch().filter(|_| epochs > 0) else { return };
        let epoch = next.saturating_add(epochs - 1).min(LAST_EPOCH);
        let place = place.at(epoch).expect("the epoch is ahead");
        let sealed = seal_place(&seal, &mut self.system, issue, place.emit().expose());
        let run = place.run();
        if self.disk.write(Write::Place { of, run, epoch, sealed }).is_ok() {
            aftermath.happenings.push(Happening::PlaceWritten { issue: number, run, epoch, start });
        }
    }

    /// Carries a write out, and tells what changed by it.
    pub(crate) fn write(
        &mut self,
        process: &mut Process,
        write: Write,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) -> Result<(), akm_host::WriteFailed> {
        let told = &mut aftermath.happenings;
        let number = |process: &Process, of: &GenerationId| process.issues.get(of).copied();
        let concerns = match &write {
            Write::Place { of, epoch, .. } => number(process, of).map(|issue| (issue, Some(*epoch))),
            Write::Active { of } | Write::FoundBack { of, .. } => {
                number(process, of).map(|issue| (issue, None))
            }
            _ => None,
        };
        let before: BTreeSet<GenerationId> = self.disk.generations().map(|(of, _)| of).collect();
        let happening = match &write {
            Write::Place { of, run, epoch, sealed } => number(process, of).map(|issue| {
                let start = sealed_start(sealed).unwrap_or_default();
                Happening::PlaceWritten { issue, run: *run, epoch: *epoch, start }
            }),
            Write::Active { of } => number(process, of).map(|issue| Happening::ActiveWritten { issue }),
            Write::FoundBack { of, found } => {
                number(process, of).map(|issue| Happening::Noted { issue, found: *found })
            }
            Write::Install { installed, .. } => {
                let of = (installed.sds.relationship(), installed.sds.generation());
                issue_of(issues, installed.sds.digest()).map(|issue| {
                    process.issues.insert(of, issue);
                    Happening::Installed { issue }
                })
            }
            _ => None,
        };
        let provisioned = |of: &GenerationId| is_provisioning(of.0);
        if let Err(failed) = self.disk.write(write) {
            if let Some((issue, epoch)) = concerns {
                told.push(Happening::NotWritten { issue, epoch });
            }
            return Err(failed);
        }
        let after: BTreeSet<GenerationId> = self.disk.generations().map(|(of, _)| of).collect();
        for of in before.difference(&after).filter(|of| !provisioned(of)) {
            if let Some(issue) = number(process, of) {
                told.push(Happening::Erased { issue });
            }
        }
        told.extend(happening);
        Ok(())
    }

    /// Takes note that the element has counted.
    pub(crate) fn note_count(
        &mut self,
        process: &mut Process,
        question: &akm_host::Question,
        aftermath: &mut Aftermath,
    ) {
        if matches!(question, akm_host::Question::CountUp) {
            process.is_counted = true;
            aftermath.happenings.push(Happening::Counted { count: self.element.count() });
        }
    }

    fn go_on(
        &mut self,
        now: Duration,
        input: Option<Input<'_>>,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) {
        let Some(mut process) = self.process.take() else { return };
        let result = self.drive(&mut process, now, input, issues, aftermath);
        if matches!(result, Ok(None)) {
            process.tell_how_it_stands(aftermath);
            let (calls, writes) = (self.element.calls(), self.disk.writes());
            aftermath.happenings.push(Happening::Rests { calls, writes });
        }
        self.process = Some(process);
        match result {
            Err(Died) => self.ended(issues, aftermath),
            Ok(None) => {}
            Ok(Some(why)) => {
                self.process = None;
                self.steps = Steps::default();
                aftermath.happenings.push(Happening::DidNotStart { why });
            }
        }
    }
}

/// What a flawed host writes for each frame.
const WRITES_OF_A_FLAW: usize = 10;

/// The number of the issue of this digest.
pub(crate) fn issue_of(issues: &[Issue], digest: &[u8; 32]) -> Option<usize> {
    issues.iter().position(|issue| issue.sds.digest() == digest)
}

/// Seals an encoded place under a key of its own.
fn seal_place(seal: &PlaceSeal, system: &mut Random, issue: &Issue, place: &[u8]) -> Vec<u8> {
    let mut random = [0; 16];
    system.fill(&mut random);
    seal.seal(crypto::provider(), issue.sds.suite(), issue.sds.digest(), &random, place)
}
