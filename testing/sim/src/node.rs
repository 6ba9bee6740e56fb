//! A device: what it holds, how it starts, and what it hears.

use std::collections::BTreeMap;
use std::time::Duration;

use akm_core::crypto;
use akm_core::element::{ElementError, ProvisionableElement, Root};
use akm_core::frame::Header;
use akm_core::keys::{PlaceSeal, sealed_start};
use akm_core::lineage::{Arrival, Lineage};
use akm_core::sds::{GenerationSecrets, SynchronizedDataSet};
use akm_core::session::{Input, Instant, Membership, Options, Session, Standing, Surroundings};
use akm_core::start::{SealedPlace, Start, StartError};
use akm_core::tree::{LAST_EPOCH, Place};

use crate::disk::{Disk, DiskFull};
use crate::drive::{Hand, stands};
use crate::element::Element;
use crate::flaw::Flaw;
use crate::happening::{Delivered, Found, Happening};
use crate::issue::{Issue, id_of_node};
use crate::process::{Aftermath, Died, seal_place, step};
use crate::random::Random;

/// A device: its element, its disk, and the process that may run on it.
#[derive(Debug)]
pub struct Node {
    /// Which node it is, to others. A clone has the identity of its original.
    pub identity: usize,
    /// Its element.
    pub element: Element,
    /// Its disk.
    pub disk: Disk,
    system: Random,
    process: Option<Process>,
    /// How many more steps its process lives.
    dies_after: Option<u32>,
    flaw: Option<Flaw>,
    /// What the disk held when the process began.
    disk_at_start: Disk,
    /// The last message that an application was given.
    last_message: Option<(usize, Header, Delivered)>,
}

/// What lives in memory. Its clock begins at zero.
#[derive(Debug)]
struct Process {
    began: Duration,
    seal: PlaceSeal,
    lineages: BTreeMap<usize, Lineage>,
    /// Bytes of frames that the host keeps.
    hoard: usize,
}

/// Why there is no process after a start.
enum NoStart {
    Died,
    Trouble(String),
}

impl Node {
    /// A node that was provisioned with its issues and has never been started.
    pub fn new(identity: usize, element: Element, system: Random, flaw: Option<Flaw>) -> Self {
        Self {
            identity,
            element,
            disk: Disk::default(),
            system,
            process: None,
            dies_after: None,
            flaw,
            disk_at_start: Disk::default(),
            last_message: None,
        }
    }

    /// Takes in an issue, as a node does that its module sends one.
    pub fn install(&mut self, number: usize, issue: &Issue) {
        let sds = &issue.sds;
        let GenerationSecrets { tree_root, .. } = issue.secrets();
        self.element
            .install(root_of(sds), issue.element_root().expose())
            .expect("a new element takes a root");
        let seal = PlaceSeal::derive(&mut self.element, 0).expect("a new element answers");
        let place = Place::before_first(0, tree_root).emit();
        let sealed = seal_place(&seal, &mut self.system, sds, &place);
        self.disk.install(number, sealed).expect("a new disk has room");
        if issue.active {
            self.disk.write_active(number).expect("a new disk has room");
        }
    }

    /// A copy of this device, switched off.
    pub fn copy(&self, random: Random, system: Random) -> Self {
        let element = self.element.copy(random);
        Self { disk: self.disk.clone(), ..Self::new(self.identity, element, system, self.flaw) }
    }

    /// Whether a process runs.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The generations of a relationship, while a process runs.
    pub fn lineage(&self, relationship: usize) -> Option<&Lineage> {
        self.process.as_ref()?.lineages.get(&relationship)
    }

    /// The session of a relationship in which messages go out, or which waits to become that.
    pub fn session(&self, relationship: usize) -> Option<&Session> {
        let lineage = self.lineage(relationship)?;
        lineage.active().or(lineage.staged())
    }

    /// When the first of its sessions wants to be called, and which.
    pub fn due(&self) -> Option<(Duration, usize)> {
        let process = self.process.as_ref()?;
        let due =
            |(number, lineage): (&usize, &Lineage)| Some((process.began + lineage.timeout()?.0, *number));
        process.lineages.iter().filter_map(due).min()
    }

    /// Lets the process end without a word after this many more steps.
    pub fn dies_after(&mut self, steps: Option<u32>) {
        self.dies_after = steps;
    }

    /// Ends the process without a word.
    pub fn crash(&mut self, aftermath: &mut Aftermath) {
        if self.process.take().is_some() {
            self.ended(aftermath);
        }
    }

    fn ended(&mut self, aftermath: &mut Aftermath) {
        self.process = None;
        self.dies_after = None;
        if self.flaw == Some(Flaw::ForgetsWrites) {
            self.disk = self.disk_at_start.clone();
        }
        aftermath.happenings.push(Happening::Died);
    }

    /// Starts, if it does not run (protocol, section 6): takes up all places, counts, then begins the
    /// sessions.
    pub fn start(&mut self, now: Duration, issues: &[Issue], aftermath: &mut Aftermath) {
        if self.process.is_some() {
            return;
        }
        aftermath.happenings.push(Happening::Starts);
        self.disk_at_start = self.disk.clone();
        match self.try_start(now, issues, aftermath) {
            Ok(process) => self.process = Some(process),
            Err(NoStart::Died) => self.ended(aftermath),
            Err(NoStart::Trouble(why)) => aftermath.happenings.push(Happening::DidNotStart { why }),
        }
        if let Some((issue, header, delivery)) = self.last_message.clone()
            && self.flaw == Some(Flaw::RepeatsItselfAfterStart)
        {
            aftermath.happenings.push(Happening::Delivered { issue, header, delivery });
        }
    }

    fn try_start(
        &mut self,
        now: Duration,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) -> Result<Process, NoStart> {
        let Self { element, flaw, .. } = self;
        let start = Start::begin(element)?;
        if let Some(counter) = element.counter().filter(|_| *flaw == Some(Flaw::CountsFirst)) {
            counter.count_up()?;
        }
        let standings = self.take_up_places(&start, issues, aftermath)?;
        let Self { element, system, dies_after, flaw, .. } = self;
        step(dies_after)?;
        let seal = if *flaw == Some(Flaw::CountsFirst) {
            PlaceSeal::derive(element, start.seal().start())?
        } else {
            start.count_up(element)?
        };
        aftermath.happenings.push(Happening::Counted { count: element.count() });
        step(dies_after)?;
        let mut sessions: BTreeMap<usize, Vec<(Session, ())>> = BTreeMap::new();
        for (number, standing) in standings {
            let issue = &issues[number];
            let mut surroundings = Surroundings { now: Instant(Duration::ZERO), element, random: system };
            let session = session(self.identity, issue, standing, &mut surroundings)?;
            aftermath.happenings.push(stands(number, &session, 0, Vec::new()));
            sessions.entry(issue.relationship).or_default().push((session, ()));
        }
        let lineages =
            sessions.into_iter().map(|(number, sessions)| (number, Lineage::resume(sessions))).collect();
        Ok(Process { began: now, seal, lineages, hoard: 0 })
    }

    /// The module sends a generation to this node, which runs.
    pub fn take_in(
        &mut self,
        now: Duration,
        number: usize,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) -> Result<Arrival, NotInstalled> {
        let issue = &issues[number];
        let sds = &issue.sds;
        let Self { element, disk, system, .. } = self;
        let process = self.process.as_mut().ok_or(NotInstalled::Trouble)?;
        let lineage = process.lineages.get(&issue.relationship);
        if let Some(lineage) = lineage {
            match lineage.examine(sds) {
                Ok(Arrival::Held) => return Ok(Arrival::Held),
                Ok(Arrival::Above) => {}
                Err(_) => return Err(NotInstalled::NotAbove),
            }
        }
        let trouble = |_| NotInstalled::Trouble;
        let root = root_of(sds);
        let used = lineage
            .is_some_and(|lineage| lineage.sessions().any(|session| session.membership().root() == root));
        if !used {
            // What an installation that was cut off left behind.
            element.erase(root).map_err(trouble)?;
        }
        element.install(root, issue.element_root().expose()).map_err(trouble)?;
        // The session first: what fails here has written nothing.
        let instant = Instant(now - process.began);
        let place = Place::before_first(0, issue.secrets().tree_root);
        let sealed = seal_place(&process.seal, system, sds, &place.emit());
        let mut surroundings = Surroundings { now: instant, element, random: system };
        let session = session(self.identity, issue, Standing::Staged(place), &mut surroundings);
        let session = session.map_err(trouble)?;
        disk.install(number, sealed).map_err(|DiskFull| NotInstalled::Trouble)?;
        aftermath.happenings.push(Happening::Installed { issue: number });
        aftermath.happenings.push(stands(number, &session, 0, Vec::new()));
        let lineage = process.lineages.entry(issue.relationship);
        let lineage = lineage.or_default();
        lineage.install(session, ()).expect("it was examined");
        Ok(Arrival::Above)
    }

    /// Judges all places, and writes the good ones again.
    fn take_up_places(
        &mut self,
        start: &Start,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) -> Result<Vec<(usize, Standing)>, NoStart> {
        let Self { element, disk, system, dies_after, flaw, .. } = self;
        let mut standings = Vec::new();
        let installed: Vec<usize> = disk.installed().collect();
        for number in installed {
            let issue = &issues[number];
            let sds = &issue.sds;
            let sealed = disk.place(number).map(<[u8]>::to_vec);
            let mut examined = match &sealed {
                Some(sealed) if *flaw == Some(Flaw::IgnoresCounter) => {
                    open_whatever_it_is(element, sds, sealed)?
                }
                sealed => start.examine(crypto::provider(), sds, sealed.as_deref()),
            };
            if *flaw == Some(Flaw::MislaysPlaces) && self.identity == 0 {
                examined = SealedPlace::Missing;
            }
            let active = disk.is_active(number) && *flaw != Some(Flaw::ForgetsActivation);
            let (found, place) = match examined {
                SealedPlace::Missing | SealedPlace::Damaged => {
                    (Found::Lost, Err(Standing::WithoutPlace { active }))
                }
                SealedPlace::RolledBack => (Found::RolledBack, Err(Standing::RolledBack { active })),
                SealedPlace::Good(place) => {
                    (Found::Good { run: place.run(), epoch: place.epoch(), active }, Ok(place))
                }
            };
            aftermath.happenings.push(Happening::Found { issue: number, found });
            let standing = match place {
                Err(rests) => rests,
                Ok(place) => {
                    if start.rewrites() {
                        let sealed = seal_place(start.seal(), system, sds, &place.emit());
                        step(dies_after)?;
                        disk.write_place(number, sealed)?;
                        aftermath.happenings.push(Happening::PlaceWritten {
                            issue: number,
                            run: place.run(),
                            epoch: place.epoch(),
                            start: start.seal().start(),
                        });
                        step(dies_after)?;
                    }
                    if active { Standing::Active(place) } else { Standing::Staged(place) }
                }
            };
            standings.push((number, standing));
        }
        Ok(standings)
    }

    /// Takes bytes off the network. What no relationship claims is shown to all, which count it.
    pub fn receive(&mut self, now: Duration, frame: &[u8], issues: &[Issue], aftermath: &mut Aftermath) {
        let Some(process) = &self.process else { return };
        let claimed = relationship_of(process, frame).filter(|number| {
            let tag = Header::parse(frame).map(|header| header.tag);
            let of_closing = process.lineages[number].closing().any(|closing| Ok(closing.tag()) == tag);
            !(of_closing && self.flaw == Some(Flaw::ClosesAtOnce))
        });
        if let Some(number) = claimed {
            self.drive(now, number, Input::Frame(frame), issues, aftermath);
            return;
        }
        let header = Header::parse(frame).ok();
        aftermath.happenings.push(Happening::Unclaimed { header });
        let lineages: Vec<usize> = process.lineages.keys().copied().filter(|_| header.is_some()).collect();
        for number in lineages {
            if self.flaw != Some(Flaw::ClosesAtOnce) {
                self.drive(now, number, Input::Frame(frame), issues, aftermath);
            }
        }
    }

    /// Hands an input to a session and carries out what comes of it. Without a process, or a session
    /// for that relationship, nothing happens.
    pub fn drive(
        &mut self,
        now: Duration,
        number: usize,
        input: Input<'_>,
        issues: &[Issue],
        aftermath: &mut Aftermath,
    ) {
        let Some(process) = &mut self.process else { return };
        let Some(lineage) =
            process.lineages.get_mut(&number).filter(|lineage| lineage.sessions().count() > 0)
        else {
            return;
        };
        let hand = Hand {
            number,
            issues,
            lineage,
            now: Instant(now - process.began),
            seal: &process.seal,
            hoard: &mut process.hoard,
            element: &mut self.element,
            disk: &mut self.disk,
            system: &mut self.system,
            dies_after: &mut self.dies_after,
            last_message: &mut self.last_message,
            flaw: self.flaw,
        };
        if hand.drive(input, aftermath).is_err() {
            self.ended(aftermath);
        }
    }

    /// Moves the place of an issue on by that many epochs, while the node is switched off. Without
    /// a good place, an element that answers and a disk with room nothing happens.
    pub fn leap(&mut self, number: usize, issue: &Issue, epochs: u32, aftermath: &mut Aftermath) {
        let sds = &issue.sds;
        let Some(sealed) = self.disk.place(number).map(<[u8]>::to_vec) else { return };
        let Some(start) = sealed_start(&sealed) else { return };
        let Ok(seal) = PlaceSeal::derive(&mut self.element, start) else { return };
        let Ok(place) = seal.open(crypto::provider(), sds.suite(), sds.digest(), &sealed) else { return };
        let place = Place::parse(&place).expect("what a node sealed is a place");
        let Some(next) = place.next_epoch().filter(|_| epochs > 0) else { return };
        let epoch = next.saturating_add(epochs - 1).min(LAST_EPOCH);
        let place = place.at(epoch).expect("the epoch is ahead");
        let sealed = seal_place(&seal, &mut self.system, sds, &place.emit());
        if self.disk.write_place(number, sealed).is_ok() {
            let run = place.run();
            aftermath.happenings.push(Happening::PlaceWritten { issue: number, run, epoch, start });
        }
    }
}

/// Why a node did not take in a generation.
pub enum NotInstalled {
    /// It holds a higher one, or the same with another content.
    NotAbove,
    /// It is not there, its element does not answer, or its disk takes nothing.
    Trouble,
}

/// The name of the element root of a generation.
fn root_of(sds: &SynchronizedDataSet) -> Root {
    Root::Relationship { id: sds.relationship(), version: sds.element_version() }
}

fn session(
    identity: usize,
    issue: &Issue,
    standing: Standing,
    surroundings: &mut Surroundings<'_>,
) -> Result<Session, ElementError> {
    let GenerationSecrets { header_key, .. } = issue.secrets();
    let membership = Membership::new(issue.sds.clone(), id_of_node(identity), header_key, issue.tag)
        .expect("it is a member, and the policy is one of ours");
    let options = Options { hello_at_start: true, find_back: true };
    Session::start(crypto::provider(), membership, standing, options, surroundings)
}

impl From<Died> for NoStart {
    fn from(_: Died) -> Self {
        Self::Died
    }
}

impl From<ElementError> for NoStart {
    fn from(error: ElementError) -> Self {
        Self::Trouble(error.to_string())
    }
}

impl From<StartError> for NoStart {
    fn from(error: StartError) -> Self {
        Self::Trouble(error.to_string())
    }
}

impl From<DiskFull> for NoStart {
    fn from(DiskFull: DiskFull) -> Self {
        Self::Trouble(String::from("the disk takes nothing"))
    }
}

/// The relationship that claims a frame: by its tag, and where several share it by header signature.
fn relationship_of(process: &Process, frame: &[u8]) -> Option<usize> {
    let tag = Header::parse(frame).ok()?.tag;
    let mut candidates = process.lineages.iter().filter(|(_, lineage)| lineage.listens_to(tag));
    let (first, _) = candidates.next()?;
    if candidates.next().is_none() {
        return Some(*first);
    }
    process.lineages.iter().find(|(_, lineage)| lineage.claims(frame)).map(|(number, _)| *number)
}

/// Opens a place under the seal of whatever start it names.
fn open_whatever_it_is(
    element: &mut Element,
    sds: &SynchronizedDataSet,
    sealed: &[u8],
) -> Result<SealedPlace, ElementError> {
    let seal = PlaceSeal::derive(element, sealed_start(sealed).unwrap_or_default())?;
    let place = seal.open(crypto::provider(), sds.suite(), sds.digest(), sealed).ok();
    let place = place.and_then(|place| Place::parse(&place).ok());
    Ok(place.map_or(SealedPlace::Damaged, SealedPlace::Good))
}
