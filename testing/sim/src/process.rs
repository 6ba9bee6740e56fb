//! What a process holds, what it does step by step, each of which may be its last, and what came of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use akm_core::id::RelationshipId;
use akm_core::lineage::Lineage;
use akm_core::session::Session;
use akm_host::{Endpoint, GenerationId, Known, Question, Rest, Stream, Ticket, Write};

use crate::happening::{Found, Happening, Stands};
use crate::host::Host;
use crate::issue::is_provisioning;

/// What lives in memory. Its clock begins at zero.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) began: Duration,
    pub(crate) host: Host,
    /// What the element is asked and has not answered, and when it will.
    pub(crate) questions: VecDeque<(Duration, Ticket, Question)>,
    /// What the disk is to write and has not, and when it will have.
    pub(crate) writes: VecDeque<(Duration, Ticket, Write)>,
    /// The issue of each generation that is held, or was.
    pub(crate) issues: BTreeMap<GenerationId, usize>,
    /// What applications want and have not got, in their order; messages with their words.
    pub(crate) wishes: BTreeMap<u64, (RelationshipId, Option<Vec<u8>>)>,
    pub(crate) wished: u64,
    /// Messages that are given to the application, until it is seen which frame they came in.
    pub(crate) given: VecDeque<(GenerationId, Vec<u8>)>,
    /// How each session stood when that was last told.
    pub(crate) stands: BTreeMap<usize, Stands>,
    pub(crate) is_counted: bool,
    /// Bytes of frames that a flawed host keeps.
    pub(crate) hoard: usize,
}

impl Process {
    /// The issue in which messages of a relationship go out.
    pub(crate) fn in_force(&self, relationship: RelationshipId) -> Option<usize> {
        let (session, _) = self.host.node().lineage(relationship)?.in_force()?;
        self.issue(relationship, session)
    }

    /// The message that the oldest frame in a relationship carries which an application wanted sent.
    pub(crate) fn next_message(&mut self, relationship: RelationshipId) -> Option<Vec<u8>> {
        let mut wishes = self.wishes.values_mut().filter(|(of, _)| *of == relationship);
        wishes.find_map(|(_, message)| message.take())
    }

    /// Tells what the sessions of this process begin with.
    pub(crate) fn tell_what_was_found(&self, aftermath: &mut Aftermath) {
        for (id, lineage) in self.lineages() {
            for (session, known) in lineage.entries() {
                let Some(issue) = self.issue(id, session) else { continue };
                let found = match &known.rests {
                    None => Found::Good {
                        run: session.run(),
                        epoch: session.epoch(),
                        active: session.is_active(),
                    },
                    Some(Rest::RolledBack) => Found::RolledBack,
                    Some(_) => Found::Lost,
                };
                aftermath.happenings.push(Happening::Found { issue, found });
            }
        }
    }

    /// Tells how the sessions stand, where that has changed.
    pub(crate) fn tell_how_it_stands(&mut self, aftermath: &mut Aftermath) {
        let mut changed = Vec::new();
        let host_bytes = self.host.node().bytes_waiting() + self.hoard;
        for (id, lineage) in self.lineages() {
            for session in lineage.sessions() {
                let Some(issue) = self.issue(id, session) else { continue };
                let (phase, epoch, footprint) = (session.phase(), session.epoch(), session.footprint());
                let stands = Stands { phase, epoch, footprint, host_bytes };
                if self.stands.get(&issue) != Some(&stands) {
                    changed.push((issue, stands));
                }
            }
        }
        for (issue, stands) in changed {
            self.stands.insert(issue, stands.clone());
            aftermath.happenings.push(Happening::Stands { issue, stands });
        }
    }

    /// The relationships of applications, once the node runs.
    fn lineages(&self) -> impl Iterator<Item = (RelationshipId, &Lineage<Known>)> {
        let node = self.host.node();
        let all = node.relationships().filter(|(id, ..)| node.is_running() && !is_provisioning(*id));
        all.map(|(id, _, lineage)| (id, lineage))
    }

    fn issue(&self, relationship: RelationshipId, session: &Session) -> Option<usize> {
        let generation = session.membership().sds().generation();
        self.issues.get(&(relationship, generation)).copied()
    }
}

/// What came of something that was done to a node.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// What happened, in order.
    pub happenings: Vec<Happening>,
    /// What it sends.
    pub frames: Vec<Sending>,
    /// What it says over streams.
    pub replies: Vec<(Stream, Vec<u8>)>,
}

/// A frame of an issue on its way to some endpoints.
#[derive(Debug)]
pub struct Sending {
    /// Whose frame it is.
    pub issue: usize,
    /// Where it goes.
    pub to: Vec<Endpoint>,
    /// Whether it is a frame of a session, and not one to find back by.
    pub of_session: bool,
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// The process is no more.
pub(crate) struct Died;

/// How many more steps a process lives.
#[derive(Debug, Default)]
pub(crate) struct Steps(pub(crate) Option<u32>);

impl Steps {
    /// One more step of a process; it may be its last.
    pub(crate) fn step(&mut self) -> Result<(), Died> {
        match &mut self.0 {
            Some(0) => Err(Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}
