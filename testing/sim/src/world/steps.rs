//! Steps of a world in which nothing happens by itself, for the model check.

use std::hash::{DefaultHasher, Hash, Hasher};

use akm_core::frame::{Class, Header};
use akm_core::lineage::Lineage;

use super::World;
use crate::action::{Action, Change};
use crate::invariant::Violation;

/// One step of a world in which nothing happens by itself: for whoever tries every order of steps. Frames are
/// named by their place among all that are on the way.
#[expect(missing_docs, reason = "the words of each variant name its fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A frame arrives.
    Arrive { frame: usize },
    /// A frame arrives, and will once more.
    ArriveTwice { frame: usize },
    /// A frame gets lost.
    Lose { frame: usize },
    /// The time of the session comes that is due first.
    Timer,
    /// A member begins the next epoch.
    Advance { node: usize },
    /// An application sends to all others.
    Send { node: usize },
    /// A node has another address.
    Move { node: usize },
    /// The module makes a generation with the same members, installs it, and gives its word.
    Renew,
    /// The module makes one without this member, which then has the relationship erased.
    Remove { node: usize },
    /// A process dies and starts again.
    Restart { node: usize },
    /// The same, and its places are gone.
    Wipe { node: usize },
}

impl World {
    /// Takes a step, and checks all invariants.
    pub fn take(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Arrive { frame } => self.arrive(frame, false),
            Step::ArriveTwice { frame } => self.arrive(frame, true),
            Step::Lose { frame } => {
                self.network.take(frame);
                Ok(())
            }
            Step::Timer => self.first_timer(),
            Step::Advance { node } => self.advance(node, 0),
            Step::Send { node } => self.send(node, 0),
            Step::Move { node } => self.act(&Action::Move { node }),
            Step::Renew => self.change(0, Change::Renew { suspect: false }),
            Step::Remove { node } => {
                self.change(0, Change::Remove { node })?;
                self.erase(node, 0)
            }
            Step::Restart { node } => {
                self.crash(node)?;
                self.start(node)
            }
            Step::Wipe { node } => {
                self.act(&Action::Wipe { node })?;
                self.start(node)
            }
        }
    }

    fn arrive(&mut self, frame: usize, again: bool) -> Result<(), Violation> {
        let Some(flight) = self.network.take(frame) else { return Ok(()) };
        if again {
            self.network.put_back(&flight);
        }
        self.arrives(flight.to, flight.from, &flight.frame)
    }

    /// How many frames are on the way.
    pub fn on_the_way(&self) -> usize {
        self.network.flights().count()
    }

    /// What tells worlds apart for whoever tries every order of steps: phases, places, timers and what is
    /// kept, and the frames on the way by what their headers say. Which salt or nonce was drawn does not count.
    pub fn outline(&self) -> u64 {
        let mut outline = DefaultHasher::new();
        for node in &self.nodes {
            (node.runs(), node.address).hash(&mut outline);
            node.due().map(|due| due.saturating_sub(self.now)).hash(&mut outline);
            for (of, _) in node.disk.generations() {
                (of.1, node.disk.place(of).map(<[u8]>::len), node.disk.is_active(of)).hash(&mut outline);
            }
            for (session, known) in node.lineage(0).into_iter().flat_map(Lineage::entries) {
                session.membership().sds().generation().hash(&mut outline);
                (session.phase() as u8, session.run(), session.epoch(), session.is_active())
                    .hash(&mut outline);
                known.endpoints.hash(&mut outline);
                format!("{:?}", session.footprint()).hash(&mut outline);
            }
        }
        let mut frames: Vec<_> = self
            .network
            .flights()
            .map(|flight| {
                let header = Header::parse(&flight.frame).expect("members send frames");
                // Which round of asking a frame belongs to shows in its age.
                let age = (header.class == Class::Resync).then(|| self.now.saturating_sub(flight.since));
                let Header { sender, tag, epoch, counter, .. } = header;
                (flight.to, sender, tag.0, epoch, counter, flight.frame.len(), age)
            })
            .collect();
        frames.sort_unstable();
        frames.hash(&mut outline);
        outline.finish()
    }
}
