//! How often what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use akm_core::session::{Event, Rejection, Way};

use crate::happening::{Found, Happening};

/// How often what happened in one world or in many: shows that the runs reach what they are to test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Worlds.
    pub runs: u64,
    /// Inputs that were handed to sessions.
    pub inputs: u64,
    /// Frames made.
    pub sent: u64,
    /// Messages given to applications, hellos included.
    pub delivered: u64,
    /// Starts that were carried through.
    pub starts: u64,
    /// Processes that ended without a word.
    pub died: u64,
    /// Of them, during a start.
    pub died_at_start: u64,
    /// Epochs that began.
    pub epochs: u64,
    /// Records that the disk did not take.
    pub not_written: u64,
    /// Inputs that a session refused.
    pub refused: u64,
    /// Places that were recognised as rolled back.
    pub rolled_back: u64,
    /// Frames dropped, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Times that the world settled.
    pub settled: u64,
    /// Senders that somebody did not hear until the next epoch, since they came with too many salts.
    pub mute: u64,
    /// Times that somebody told of a possible clone.
    pub clones: u64,
    /// Fallbacks, counted at each member.
    pub fallbacks: u64,
    /// Failsafes, counted at each member.
    pub failsafes: u64,
    /// Tries of a failsafe that lacked a member.
    pub failsafes_missed: u64,
    /// Generations that a module made after the first.
    pub changes: u64,
    /// Generations that became active at a member.
    pub activated: u64,
    /// Generations that a member erased.
    pub erased: u64,
    /// What bad members sent.
    pub betrayals: u64,
    /// Relationships that were not held to the bound as a bad member had acted in their latest generation.
    pub betrayed: u64,
    /// Members without place that nobody could help, when a world settled.
    pub helpless: u64,
    /// The longest time until a member was heard that was not mute, as parts of a thousand of the bound.
    pub slowest: u64,
    pub(crate) starting: bool,
}

impl Tally {
    pub(crate) fn count(&mut self, happening: &Happening) {
        match happening {
            Happening::Starts => self.starting = true,
            Happening::Counted { .. } => {
                self.starts += 1;
                self.starting = false;
            }
            Happening::Died => {
                self.died += 1;
                self.died_at_start += u64::from(std::mem::take(&mut self.starting));
            }
            Happening::DidNotStart { .. } => self.starting = false,
            Happening::Found { found: Found::RolledBack, .. } => self.rolled_back += 1,
            Happening::Given { .. } => self.inputs += 1,
            Happening::Refused { .. } => self.refused += 1,
            Happening::NotWritten { .. } => self.not_written += 1,
            Happening::Sent { .. } => self.sent += 1,
            Happening::Delivered { .. } => self.delivered += 1,
            Happening::Dropped { reason, .. } => {
                *self.rejected.entry(reason.name()).or_default() += 1;
            }
            Happening::Told { event: Event::FoundBack(found), .. } => match found.way {
                Way::Fallback { .. } => self.fallbacks += 1,
                Way::Failsafe => self.failsafes += 1,
            },
            Happening::Told { event: Event::PossibleClone { .. }, .. } => self.clones += 1,
            Happening::Told { event: Event::FailsafeMissed { .. }, .. } => self.failsafes_missed += 1,
            Happening::Told { event: Event::Activated, .. } => self.activated += 1,
            Happening::Erased { .. } => self.erased += 1,
            Happening::Told { event: Event::EpochBegan { .. }, .. } => self.epochs += 1,
            _ => {}
        }
    }

    /// How often a frame was dropped for this reason.
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.rejected.get(reason.name()).copied().unwrap_or(0)
    }

    /// Somebody was heard after this time, of what the bound allows.
    pub(crate) fn slowest_of(&mut self, took: Duration, allowed: Duration) {
        let share = took.as_micros() * 1000 / allowed.as_micros().max(1);
        self.slowest = self.slowest.max(share as u64);
    }

    /// Adds the numbers of another world.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.inputs += other.inputs;
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.starts += other.starts;
        self.died += other.died;
        self.died_at_start += other.died_at_start;
        self.epochs += other.epochs;
        self.not_written += other.not_written;
        self.refused += other.refused;
        self.rolled_back += other.rolled_back;
        for (reason, times) in &other.rejected {
            *self.rejected.entry(reason).or_default() += times;
        }
        self.settled += other.settled;
        self.mute += other.mute;
        self.clones += other.clones;
        self.fallbacks += other.fallbacks;
        self.failsafes += other.failsafes;
        self.failsafes_missed += other.failsafes_missed;
        self.changes += other.changes;
        self.activated += other.activated;
        self.erased += other.erased;
        self.helpless += other.helpless;
        self.betrayals += other.betrayals;
        self.betrayed += other.betrayed;
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} runs, {} inputs, {} epochs", self.runs, self.inputs, self.epochs)?;
        writeln!(f, "{} frames sent, {} accepted", self.sent, self.delivered)?;
        writeln!(
            f,
            "{} starts, {} deaths ({} of them during a start), {} rolled back",
            self.starts, self.died, self.died_at_start, self.rolled_back
        )?;
        writeln!(f, "{} writes failed, {} inputs refused", self.not_written, self.refused)?;
        writeln!(
            f,
            "{} fallbacks, {} members by failsafe ({} tries lacked somebody), {} without help",
            self.fallbacks, self.failsafes, self.failsafes_missed, self.helpless
        )?;
        writeln!(
            f,
            "{} generations made after the first, {} activations, {} erased",
            self.changes, self.activated, self.erased
        )?;
        writeln!(
            f,
            "{} things sent by bad members, who spoiled {} times the latest generation",
            self.betrayals, self.betrayed
        )?;
        f.write_str("dropped:")?;
        self.rejected.iter().try_for_each(|(reason, times)| write!(f, " {reason} {times}"))?;
        writeln!(f)?;
        write!(
            f,
            "settled {} times, the slowest in {} % of the bound; mute until the next epoch: {}",
            self.settled,
            self.slowest.div_ceil(10),
            self.mute
        )
    }
}
