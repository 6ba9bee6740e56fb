//! A model check of the shipped node: every order of steps of two and three members, up to a bound, with every
//! invariant of the simulation checked after each step.
//!
//! What it leaves out:
//! - Depth and number of states are bounded, as each test says; what is further away is for the random runs.
//! - Worlds count as the same if phases, places, timers, what is kept, and the headers of frames on the way are the
//!   same. Salts and nonces are drawn, and which ones does not count.
//! - Time passes only from timer to timer, and a process dies only between inputs, not between outputs
//!   (`a_process_may_die_at_any_step_of_whatever_it_does` has those).
//! - At most one frame arrives twice, at most one process dies or loses its place, at most one node moves, at most two
//!   messages are sent and at most one generation is made, on each path.
//! - Disks and elements work and answer at once; the module reaches everybody; there is no intruder, and one
//!   relationship.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use akm_sim::{Step, Trace, World};
use stateright::{Checker, Model, Property};

const RELATIONSHIP: &str =
    "suite aes-256-gcm rotate-after 0 rotate-frames 0 advance-interval 100 overlap 1000 active";

/// For frames that arrive only when a step says so.
const NEVER: &str = "delay 1000000000 1000000000";

/// A world after some actions, and what may happen in it.
struct Members {
    begins: Trace,
    members: usize,
    advances: bool,
    /// Whether applications send, nodes move, and the module makes a generation.
    changes: bool,
    /// Most fallbacks, failsafes, activations and erased generations on any path.
    most: Arc<[AtomicU64; 4]>,
}

/// A world by the steps that lead to it.
#[derive(Clone, Debug, PartialEq)]
struct Reached {
    steps: Vec<Step>,
    outline: u64,
    on_the_way: usize,
    violation: Option<String>,
}

impl Hash for Reached {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let changes = self.times(|step| matches!(step, Step::Renew | Step::Remove { .. }));
        let moves = self.times(|step| matches!(step, Step::Move { .. }));
        let sends = self.times(|step| matches!(step, Step::Send { .. }));
        (self.outline, &self.violation, self.twice(), self.accidents(), changes, moves, sends).hash(state);
    }
}

impl Reached {
    fn twice(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::ArriveTwice { .. })).count()
    }

    fn times(&self, like: impl Fn(&Step) -> bool) -> usize {
        self.steps.iter().filter(|step| like(step)).count()
    }

    fn accidents(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Restart { .. } | Step::Wipe { .. })).count()
    }
}

impl Members {
    /// The same, in whose worlds more happens than that members talk and die.
    fn that_change(self) -> Self {
        Self { changes: true, ..self }
    }

    fn new(members: usize, advances: bool, actions: &str) -> Self {
        let numbers: Vec<String> = (0..members).map(|member| member.to_string()).collect();
        let text = format!(
            "akm-sim trace 1\nseed 3\n{}relationship members {} {RELATIONSHIP}\n{actions}\n",
            "node with-counter\n".repeat(members),
            numbers.join(","),
        );
        let begins = Trace::parse(&text).expect("a trace");
        Self { begins, members, advances, changes: false, most: Arc::default() }
    }

    fn reach(&self, steps: Vec<Step>) -> Reached {
        let (mut world, begun) = World::replay(&self.begins, false);
        let taken = begun.and_then(|()| steps.iter().try_for_each(|step| world.take(*step)));
        let (outline, on_the_way, tally) = (world.outline(), world.on_the_way(), world.tally());
        let violation = taken.err().map(|violation| format!("{violation}: {steps:?}"));
        let reached = [tally.fallbacks, tally.failsafes, tally.activated, tally.erased];
        for (most, reached) in self.most.iter().zip(reached) {
            most.fetch_max(reached, Ordering::Relaxed);
        }
        Reached { steps, outline, on_the_way, violation }
    }
}

impl Model for Members {
    type State = Reached;
    type Action = Step;

    fn init_states(&self) -> Vec<Reached> {
        vec![self.reach(Vec::new())]
    }

    fn actions(&self, state: &Reached, actions: &mut Vec<Step>) {
        actions.push(Step::Timer);
        for frame in 0..state.on_the_way {
            actions.extend([Step::Arrive { frame }, Step::Lose { frame }]);
            if state.twice() == 0 {
                actions.push(Step::ArriveTwice { frame });
            }
        }
        for node in 0..self.members {
            if self.advances {
                actions.push(Step::Advance { node });
            }
            if self.changes && state.times(|step| matches!(step, Step::Move { .. })) == 0 {
                actions.push(Step::Move { node });
            }
            if self.changes && state.times(|step| matches!(step, Step::Send { .. })) < 2 {
                actions.push(Step::Send { node });
            }
            let made = state.times(|step| matches!(step, Step::Renew | Step::Remove { .. }));
            if self.changes && made == 0 && self.members > 2 {
                actions.push(Step::Remove { node });
            }
            if self.changes && made == 0 && node == 0 {
                actions.push(Step::Renew);
            }
            if state.accidents() == 0 {
                actions.extend([Step::Restart { node }, Step::Wipe { node }]);
            }
        }
    }

    fn next_state(&self, last: &Reached, step: Step) -> Option<Reached> {
        if last.violation.is_some() {
            return None;
        }
        let mut steps = last.steps.clone();
        steps.push(step);
        Some(self.reach(steps))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("every invariant holds", |_, state: &Reached| {
            if let Some(violation) = &state.violation {
                eprintln!("{violation}");
            }
            state.violation.is_none()
        })]
    }
}

/// Checks up to these bounds, and that the steps reach so many fallbacks, failsafes, activations and erased generations
/// on some path.
fn check(model: Members, depth: usize, states: usize, wanted: [u64; 4]) {
    let most = Arc::clone(&model.most);
    let checker = model.checker().threads(2).target_max_depth(depth).target_state_count(states);
    let checker = checker.spawn_bfs().join();
    println!(
        "{} states, {} of them unlike, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    let most = [0, 1, 2, 3].map(|at| most[at].load(Ordering::Relaxed));
    assert!(most.iter().zip(wanted).all(|(most, wanted)| *most >= wanted), "reached: {most:?}");
}

#[test]
fn two_members_talk_die_and_lose_their_places() {
    check(Members::new(2, true, NEVER), 7, 12_000, [1, 0, 0, 0]);
}

#[test]
fn three_members_of_whom_one_has_lost_its_place() {
    let begins = format!("run 1000\n{NEVER}\nwipe 2\nstart 2");
    check(Members::new(3, false, &begins), 9, 8_000, [1, 0, 0, 0]);
}

#[test]
fn two_members_that_have_both_lost_their_places() {
    // Member 1 has been challenged, and its confirmation is on the way.
    let begins = format!("run 1000\ndelay 100 100\nwipe 0\nwipe 1\nstart 0\nstart 1\nrun 3195\n{NEVER}");
    check(Members::new(2, false, &begins), 10, 25_000, [0, 2, 0, 0]);
}

#[test]
fn two_members_move_send_die_and_are_given_a_new_generation() {
    check(Members::new(2, false, &format!("run 1000\n{NEVER}")).that_change(), 8, 24_000, [0, 0, 2, 2]);
}

#[test]
fn three_members_of_whom_one_is_removed_and_its_relationship_erased() {
    check(Members::new(3, false, &format!("run 1000\n{NEVER}")).that_change(), 6, 10_000, [0, 0, 3, 3]);
}
