//! Each scenario once as a story that can be followed, step by step.

use akm_core::session::{Phase, Rejection};
use akm_core::tree::LAST_EPOCH;
use akm_sim::{Tally, Trace, World};

/// Members of one relationship that moves on only when it is asked.
const QUIET: &str =
    "suite aes-256-gcm rotate-after 0 rotate-frames 0 advance-interval 100 overlap 1000 active";

struct Tale {
    world: World,
}

impl Tale {
    /// That many members, with counters or without, who have all spoken.
    fn of(members: usize, counter: &str) -> Self {
        let node = format!("node {counter}-counter\n");
        let numbers: Vec<String> = (0..members).map(|member| member.to_string()).collect();
        let relationship = format!("relationship members {} {QUIET}\n", numbers.join(","));
        Self::begins(&format!("seed 11\n{}{relationship}run 1000\n", node.repeat(members)))
    }

    fn begins(text: &str) -> Self {
        let trace = Trace::parse(&format!("akm-sim trace 1\n{text}")).unwrap();
        let (world, result) = World::replay(&trace, true);
        result.unwrap();
        Self { world }
    }

    /// Goes on with these actions, one a line; every invariant holds after each.
    fn goes_on(&mut self, actions: &str) {
        for line in actions.split(';') {
            let action = line.trim().parse().unwrap();
            self.world.act(&action).unwrap_or_else(|violation| panic!("{line}: {violation}"));
        }
    }

    fn epoch(&self, node: usize) -> u32 {
        self.world.epoch(node, 0)
    }

    fn phase(&self, node: usize) -> Phase {
        self.world.phase(node, 0).unwrap()
    }

    fn tally(&self) -> Tally {
        self.world.tally()
    }

    /// How many messages are accepted because of these actions.
    fn accepted(&mut self, actions: &str) -> u64 {
        let before = self.tally().delivered;
        self.goes_on(actions);
        self.tally().delivered - before
    }

    /// How many frames are dropped for a reason because of these actions.
    fn dropped(&mut self, reason: Rejection, actions: &str) -> u64 {
        let before = self.tally().rejected(reason);
        self.goes_on(actions);
        self.tally().rejected(reason) - before
    }
}

#[test]
fn a_sleeper_of_a_million_epochs_is_back_with_the_first_frame_it_hears() {
    let mut tale = Tale::of(3, "with");
    let slept_at = tale.epoch(2);
    tale.goes_on("crash 2; leap 0 0 1000000; run 1000");
    assert!(tale.epoch(1) >= slept_at + 1_000_000);
    tale.goes_on("link 2 0 cut; link 2 1 cut; start 2; run 0");
    assert_eq!(tale.accepted("send 0 0; run 0"), 2);
    assert_eq!(tale.epoch(2), tale.epoch(0));
    tale.goes_on("settle");
}

#[test]
fn a_sleeper_that_speaks_first_is_told_and_heard() {
    let mut tale = Tale::of(3, "with");
    tale.goes_on("crash 2; leap 0 0 1000000; run 5000; start 2; settle alone 2");
    assert!(tale.epoch(2) >= 1_000_000);
}

#[test]
fn all_lose_power_and_start_together_and_hear_each_other() {
    let mut tale = Tale::of(4, "with");
    let before = tale.epoch(0);
    tale.goes_on("crash 0; crash 1; crash 2; crash 3; start 0; start 1; start 2; start 3; settle");
    assert!((0..4).all(|node| tale.epoch(node) > before));
}

#[test]
fn two_that_advance_at_once_are_in_the_same_epoch() {
    let mut tale = Tale::of(2, "with");
    tale.goes_on("delay 10 10; run 1000");
    let before = tale.epoch(0);
    assert_eq!(tale.accepted("advance 0 0; advance 1 0; run 20"), 2, "each accepts the other's hello");
    assert_eq!((tale.epoch(0), tale.epoch(1)), (before + 1, before + 1));
}

#[test]
fn a_sender_that_is_behind_hears_a_hello_and_is_heard() {
    let mut tale = Tale::of(2, "with");
    tale.goes_on("link 0 1 cut; advance 0 0; run 2000; link 0 1 good");
    assert!(tale.epoch(1) < tale.epoch(0));
    assert_eq!(tale.dropped(Rejection::EpochTooOld, "send 1 0; run 0"), 1);
    tale.goes_on("run 1000");
    assert_eq!(tale.epoch(1), tale.epoch(0), "a second at most");
    assert_eq!(tale.accepted("send 1 0; run 0"), 1);
}

#[test]
fn the_halves_of_a_split_network_meet_at_the_higher_epoch() {
    let mut tale = Tale::of(4, "with");
    tale.goes_on("split 0 1; advance 0 0; run 200; advance 0 0; run 200; advance 2 0; run 2000");
    let (higher, lower) = (tale.epoch(1), tale.epoch(3));
    assert!(higher > lower);
    tale.goes_on("settle");
    assert!((0..4).all(|node| tale.epoch(node) == higher));
}

#[test]
fn who_hears_nobody_is_heard_as_long_as_its_epoch_is_open_and_by_all_when_the_link_is_mended() {
    let mut tale = Tale::of(3, "with");
    tale.goes_on("link 0 2 cut; link 1 2 cut; advance 0 0; run 500");
    assert_eq!(tale.accepted("send 2 0; run 0"), 2, "its epoch is closed and still open for receiving");
    assert_eq!(tale.dropped(Rejection::EpochTooOld, "run 2000; send 2 0; run 0"), 2);
    tale.goes_on("settle");
}

#[test]
fn a_disk_from_before_the_latest_start_is_recognised_by_the_counter_and_the_others_go_on() {
    let mut tale = Tale::of(3, "with");
    tale.goes_on("image 2; crash 2; start 2; run 100; restore 2 image 0; start 2");
    assert_eq!(tale.phase(2), Phase::RolledBack);
    assert_eq!(tale.accepted("send 0 0; run 0"), 1, "the third member rests");
    tale.goes_on("settle");
}

#[test]
fn a_disk_from_within_the_latest_start_is_taken_and_frames_since_then_are_accepted_once_more() {
    let mut tale = Tale::of(2, "with");
    tale.goes_on("image 1; advance 0 0; run 100");
    assert_eq!(tale.accepted("replay 0 to 1"), 0);
    tale.goes_on("restore 1 image 0; split 1; start 1");
    assert_eq!(tale.phase(1), Phase::Established);
    assert_eq!(tale.accepted("replay 0 to 1"), 1, "what section 0 of the protocol excepts");
    assert_eq!(tale.accepted("replay 0 to 1"), 0, "and once only");
}

/// What the protocol cannot prevent: without a counter an older disk is not recognised. The node then
/// makes frames under a second salt in an epoch in which the others know it under the first.
#[test]
fn a_disk_that_goes_back_unrecognised_makes_its_node_mute_until_the_next_epoch() {
    let mut tale = Tale::of(2, "without");
    tale.goes_on("image 1; advance 1 0; run 1000; restore 1 image 0; start 1; run 0");
    assert_eq!(tale.epoch(1), tale.epoch(0), "it begins the epoch that it was in");
    assert_eq!(tale.dropped(Rejection::PossibleClone, "send 1 0; run 10000; send 1 0; run 0"), 2);
    assert_eq!(tale.accepted("advance 1 0; run 0"), 1, "the next epoch cures it");
    assert_eq!(tale.accepted("send 1 0; run 0"), 1);
    tale.goes_on("settle");
    assert_eq!(tale.tally().mute, 0);
}

#[test]
fn a_mute_sender_is_excused_from_the_bound_and_only_until_the_next_epoch() {
    let mut tale = Tale::of(2, "without");
    tale.goes_on("image 1; advance 1 0; run 1000; restore 1 image 0; start 1; settle");
    assert_eq!(tale.tally().mute, 1);
    assert!(tale.world.log().contains("node 1 is mute to node 0 in relationship 0 until the next epoch"));
}

#[test]
fn a_copy_that_runs_beside_its_original_is_told_as_a_possible_clone() {
    let mut tale = Tale::of(3, "with");
    // The copy begins an epoch, and the original follows when another member speaks in it.
    tale.goes_on("clone 2; start 3; run 100; send 0 0; run 0");
    assert_eq!(tale.epoch(2), tale.epoch(3));
    assert_eq!(tale.accepted("send 3 0; run 0"), 2);
    assert_eq!(tale.dropped(Rejection::PossibleClone, "send 2 0; run 0"), 2);
    tale.goes_on("settle");
}

#[test]
fn an_element_that_does_not_answer_holds_its_node_up_and_nothing_else() {
    let mut tale = Tale::of(3, "with");
    tale.goes_on("element 2 silent; run 1000");
    let before = tale.epoch(2);
    assert_eq!(tale.accepted("advance 0 0; run 0"), 1, "the third member cannot follow");
    assert_eq!(tale.epoch(2), before);
    assert_eq!(tale.accepted("send 2 0; run 0"), 2, "and goes on in its own epoch");
    tale.goes_on("element 2 answers");
    assert_eq!(tale.accepted("send 0 0; run 0"), 2);
    assert_eq!(tale.epoch(2), tale.epoch(0));
}

#[test]
fn what_a_full_disk_does_not_take_is_neither_sent_nor_accepted() {
    let mut tale = Tale::of(2, "with");
    tale.goes_on("disk 1 full; run 1000");
    let sent = tale.tally().sent;
    tale.goes_on("advance 1 0; run 0");
    assert_eq!(tale.tally().sent, sent);
    assert_eq!(tale.accepted("advance 0 0; run 0"), 0);
    tale.goes_on("disk 1 good");
    assert_eq!(tale.accepted("send 0 0; run 0"), 1);
    tale.goes_on("settle");
}

#[test]
fn a_start_whose_disk_takes_nothing_is_given_up_and_the_next_one_has_lost_nothing() {
    let mut tale = Tale::of(2, "with");
    let before = tale.epoch(1);
    tale.goes_on("crash 1; disk 1 full; start 1; start 1; run 1000");
    assert_eq!(tale.world.phase(1, 0), None, "it does not run");
    tale.goes_on("disk 1 good; start 1");
    assert_eq!((tale.phase(1), tale.epoch(1)), (Phase::Established, before));
    tale.goes_on("settle");
}

#[test]
fn a_process_may_die_at_any_step_of_whatever_it_does() {
    let story =
        "crash 1; start 1; run 100; send 1 0; advance 1 0; run 200; advance 0 0; run 100; send 0 0; run 10";
    let mut steps = 0;
    loop {
        let mut tale = Tale::of(3, "with");
        let before = tale.tally().died;
        tale.goes_on(&format!(
            "crash 1; crash 1 after {steps}; {}; start 1; settle",
            &story["crash 1; ".len()..]
        ));
        steps += 1;
        if tale.tally().died == before + 1 {
            break;
        }
    }
    assert!(steps > 15, "only {steps} steps");
}

#[test]
fn nothing_that_was_recorded_is_accepted_after_a_restart() {
    let mut tale = Tale::of(3, "with");
    tale.goes_on("send 0 0; send 1 0; advance 2 0; run 100; send 0 0; run 100");
    tale.goes_on("split 0; split 1; crash 0; start 0; crash 1; start 1; crash 2; start 2");
    let recorded = tale.tally().sent;
    for frame in 0..recorded {
        for to in 0..3 {
            assert_eq!(tale.accepted(&format!("replay {frame} to {to}")), 0);
        }
    }
}

#[test]
fn forged_epochs_cost_ten_calls_of_the_element_a_second_and_move_nobody() {
    let mut tale = Tale::of(2, "with");
    let before = tale.epoch(1);
    let mut budget = 0;
    for ahead in 1..100 {
        budget += tale.dropped(Rejection::Budget, &format!("forge 0 sender 0 ahead {ahead} to 1; run 1"));
    }
    assert_eq!(budget, 89, "99 forged epochs within a second");
    assert_eq!(tale.epoch(1), before);
    tale.goes_on("settle");
}

#[test]
fn relationships_that_share_a_tag_do_not_hear_each_others_frames() {
    let relationship = format!("relationship members 0,1 {QUIET}\n");
    let mut tale = Tale::begins(&format!(
        "seed 5\nnode with-counter\nnode with-counter\n{relationship}{relationship}one-tag\nrun 1000\n"
    ));
    assert_eq!(tale.accepted("send 0 0; run 0"), 1);
    assert_eq!(tale.accepted("send 1 1; run 0"), 1);
    tale.goes_on("settle");
    assert_eq!(tale.tally().rejected(Rejection::NotAuthentic), 0);
}

#[test]
fn a_staged_member_becomes_active_by_the_first_frame_it_hears() {
    let staged = QUIET.replace("active", "staged");
    let mut tale = Tale::begins(&format!(
        "seed 5\nnode with-counter\nnode with-counter\nrelationship members 0,1 {staged}\nrun 1000\n"
    ));
    assert_eq!((tale.phase(0), tale.phase(1)), (Phase::Staged, Phase::Staged));
    tale.goes_on("activate 0 0; run 1000");
    assert_eq!(tale.phase(1), Phase::Established);
    tale.goes_on("crash 1; start 1");
    assert_eq!(tale.phase(1), Phase::Established);
}

#[test]
fn at_the_end_of_a_generation_whoever_has_spoken_goes_on_and_others_are_used_up() {
    let mut tale = Tale::of(2, "with");
    let left = LAST_EPOCH - tale.epoch(0) - 1;
    tale.goes_on(&format!("leap 0 0 {left}; run 100"));
    assert_eq!((tale.epoch(0), tale.epoch(1)), (LAST_EPOCH, LAST_EPOCH));
    assert_eq!(tale.phase(0), Phase::Established);
    tale.goes_on("crash 0; start 0");
    assert_eq!(tale.phase(0), Phase::UsedUp);
    tale.goes_on("settle");
}
