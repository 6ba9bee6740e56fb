//! Finding back: fallback through one member, failsafe of all (protocol, section 15).

use alloc::vec::Vec;
use core::time::Duration;

use super::fixture::*;
use crate::policy::JUMP_MAX;
use crate::sds::Tag;
use crate::session::{Event, Phase, Rejection, Session, SessionError, Way};
use crate::tree::{LAST_EPOCH, NO_EPOCH, Place};

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// Members that have all spoken, in epoch 41 and above.
fn group(members: usize) -> Network {
    let mut network = Network::of(members);
    for at in 0..members {
        network.place_at(at, 40);
    }
    for at in 0..members {
        network.tell_all(at, b"here");
    }
    network
}

fn events(outcomes: &[(usize, Outcome)], at: usize) -> Vec<Event> {
    outcomes.iter().filter(|(who, _)| *who == at).flat_map(|(_, outcome)| outcome.events()).collect()
}

/// The one frame that this outcome sends to a member.
fn sent_to(outcome: &Outcome, member: u16) -> Vec<u8> {
    let to = |done: &Done| match done {
        Done::SentTo(to, frame) if *to == member => Some(frame.clone()),
        _ => None,
    };
    outcome.done.iter().find_map(to).expect("something was sent to that member")
}

/// By so much a member moves on from a place that it was given.
const JUMP: u32 = JUMP_MAX as u32;

#[test]
fn a_member_without_place_is_back_after_one_round_trip() {
    let mut network = group(3);
    let epoch = network.epoch(0);
    network.wipe(2);
    assert_eq!(network.phase(2), Phase::WithoutPlace);
    let outcomes = network.together(&[0, 1, 2], MILLISECOND * 10);
    assert_eq!(network.phase(2), Phase::Established);
    assert_eq!((network.run(2), network.epoch(2)), (0, epoch + JUMP));
    let found = network.parties[2].session.found_back().unwrap();
    assert_eq!((found.before, found.run, found.epoch), (None, 0, epoch + JUMP));
    assert!(matches!(found.way, Way::Fallback { .. }));
    assert!(events(&outcomes, 2).contains(&Event::FoundBack(found)));
    assert!(events(&outcomes, 0).contains(&Event::Answered { requester: 2, with_place: true }));
    network.tell_all(2, b"back");
    network.tell_all(0, b"welcome");
}

#[test]
fn a_rolled_back_member_finds_back_too_and_nothing_from_before_is_accepted_again() {
    let mut network = group(3);
    let recorded = network.tell_all(0, b"heard before");
    let old = network.parties[2].disk.clone();
    network.wait(SECOND);
    let hello = network.advance(0).frame();
    network.hear(1, &hello);
    network.hear(2, &hello);
    network.restart_from(2, Disk { rolled_back: true, ..old });
    assert_eq!(network.phase(2), Phase::RolledBack);
    network.together(&[0, 1, 2], MILLISECOND);
    assert_eq!((network.phase(2), network.epoch(2)), (Phase::Established, network.epoch(0) + JUMP));
    for frame in [recorded, hello] {
        assert_eq!(network.drops(2, &frame), Rejection::EpochTooOld);
    }
}

#[test]
fn the_place_is_durable_before_it_is_used_and_a_failed_write_is_tried_again() {
    let mut network = group(2);
    network.wipe(1);
    network.parties[1].disk.writes_left = Some(1);
    let outcomes = network.together(&[0, 1], MILLISECOND * 500);
    assert!(outcomes.iter().any(|(at, outcome)| *at == 1 && outcome.done.contains(&Done::WriteFailed)));
    assert_eq!((network.phase(1), network.epoch(1)), (Phase::Resyncing, NO_EPOCH));
    network.parties[1].disk.writes_left = None;
    network.together(&[0, 1], SECOND * 3);
    assert_eq!(network.phase(1), Phase::Established);
    assert_eq!(network.parties[1].disk.epoch(), network.epoch(1));
}

#[test]
fn of_three_answers_the_greatest_is_taken() {
    let mut network = group(4);
    // One member has moved on and nobody has heard of it.
    for ahead in 1..4 {
        let mut network_of = group(4);
        network_of.wait(SECOND);
        network_of.advance(if ahead == 3 { 0 } else { ahead });
        let furthest = (0..4).map(|at| network_of.epoch(at)).max().unwrap();
        network_of.wipe(3);
        network_of.together(&[0, 1, 2, 3], MILLISECOND);
        assert_eq!(network_of.epoch(3), furthest + JUMP, "{ahead}");
    }
    network.wipe(3);
    let outcome = network.tick(3);
    let asked = outcome.done.iter().filter(|done| matches!(done, Done::SentTo(..))).count();
    assert_eq!(asked, 3);
}

#[test]
fn members_that_do_not_answer_are_waited_for_two_seconds_and_then_others_are_asked() {
    let mut network = group(8);
    network.wipe(7);
    // Only one has a place and is there; member 0 is asked in each round, two others in turn.
    network.together(&[4, 7], minutes(1));
    assert_eq!(network.phase(7), Phase::Established);
    assert_eq!(network.epoch(7), network.epoch(4) + JUMP);
}

#[test]
fn without_anybody_it_says_after_eight_rounds_that_it_needs_its_module_and_goes_on_asking() {
    let mut network = group(3);
    network.wipe(1);
    let outcomes = network.together(&[1], minutes(10));
    let told = events(&outcomes, 1).iter().filter(|event| **event == Event::NeedsModule).count();
    assert_eq!(told, 1);
    assert_eq!(network.phase(1), Phase::WithoutPlace);
    let asked = outcomes.iter().filter(|(_, outcome)| matches!(outcome.done.first(), Some(Done::SentTo(..))));
    assert!((20..60).contains(&asked.count()), "back-off up to 20 seconds");
    network.together(&[0, 1], minutes(1));
    assert_eq!(network.phase(1), Phase::Established);
}

#[test]
fn a_relationship_that_is_not_to_find_back_rests_and_answers_nobody() {
    let mut network = group(2);
    network.wipe(1);
    let request = sent_to(&network.tick(1), 0);
    network.find_back = false;
    network.restart(0);
    network.restart(1);
    assert_eq!(network.parties[1].session.timeout(), None);
    assert_eq!(network.drops(0, &request), Rejection::Malformed);
}

#[test]
fn nobody_adopts_a_place_below_its_own() {
    let mut network = group(3);
    let before = network.epoch(1);
    // Member 1 is ahead of all and hears nothing that it can place.
    network.wait(SECOND);
    network.advance(1);
    let own = network.epoch(1);
    assert!(own > before);
    let mut asked = 0;
    for _ in 0..40 {
        network.wait(SECOND * 5);
        let stray = network.forge(0, 7, 1, 0);
        let mut stray = stray;
        stray[4] ^= 1;
        network.drops(1, &stray);
        let outcomes = network.together(&[0, 1, 2], MILLISECOND);
        asked += outcomes
            .iter()
            .filter(|(at, outcome)| *at == 1 && matches!(outcome.done.first(), Some(Done::SentTo(..))))
            .count();
        assert_eq!((network.run(1), network.epoch(1)), (0, own));
    }
    assert!((3..9).contains(&asked), "a hint is followed, and backs off: {asked}");
    assert_eq!(network.parties[1].session.found_back(), None);
}

#[test]
fn a_hint_moves_a_member_on_that_is_behind_and_hears_nothing_authentic() {
    let mut network = group(3);
    network.wait(SECOND);
    network.advance(0);
    network.wait(SECOND);
    network.advance(0);
    let ahead = network.epoch(0);
    let mut stray = network.forge(0, 7, 1, 0);
    stray[4] ^= 1;
    network.drops(2, &stray);
    network.wait(Duration::from_secs(61));
    network.drops(2, &stray);
    assert_eq!(network.phase(2), Phase::Established, "it keeps its place");
    network.together(&[0, 1, 2], MILLISECOND);
    assert_eq!(network.epoch(2), ahead);
    let found = network.parties[2].session.found_back().unwrap();
    assert_eq!((found.before, found.epoch), (Some((0, ahead - 2)), ahead));
    network.tell_all(2, b"goes on in an epoch of its own");
}

#[test]
fn an_authentic_frame_ends_a_hint() {
    let mut network = group(2);
    let mut stray = network.forge(0, 7, 1, 0);
    stray[4] ^= 1;
    for _ in 0..5 {
        network.drops(1, &stray);
        network.wait(Duration::from_secs(50));
        network.tell_all(0, b"here");
        network.drops(1, &stray);
        assert_eq!(network.tick(1).done, []);
    }
}

#[test]
fn one_requester_is_answered_once_a_second_and_all_together_four_times() {
    let mut network = group(8);
    let mut answers = 0;
    let mut requests = Vec::new();
    for at in 1..8 {
        network.wipe(at);
        requests.push(sent_to(&network.tick(at), 0));
    }
    let mut reasons = Vec::new();
    for request in &requests {
        let outcome = network.hear(0, request);
        answers += outcome.done.iter().filter(|done| matches!(done, Done::SentTo(..))).count();
        reasons.extend(outcome.rejection());
    }
    assert_eq!(answers, 4);
    assert_eq!(reasons, [Rejection::Budget; 3]);
    // Answered requests are not answered again, refused ones are when there is budget.
    network.wait(SECOND);
    let again: Vec<_> = requests.iter().map(|request| network.hear(0, request).rejection()).collect();
    assert_eq!(again[..4], [Some(Rejection::Duplicate); 4]);
    assert_eq!(again[4..], [None; 3]);
    network.wipe(1);
    let one = sent_to(&network.tick(1), 0);
    network.wipe(1);
    let other = sent_to(&network.tick(1), 0);
    assert_eq!(network.hear(0, &one).rejection(), None);
    assert_eq!(network.hear(0, &other).rejection(), Some(Rejection::Budget));
}

#[test]
fn a_flood_of_forged_and_recorded_requests_costs_no_element_call_and_no_honest_frame() {
    let mut network = group(3);
    network.wipe(2);
    let request = sent_to(&network.tick(2), 0);
    network.together(&[0, 1, 2], SECOND * 5);
    network.hear(0, &request);
    network.tell_all(2, b"back");
    network.tell_all(1, b"before");
    let all_calls = |network: &Network| network.parties[0].element.all_calls;
    let before = all_calls(&network);
    for step in 0..2000u32 {
        let mut forged = request.clone();
        // Behind the right header: another nonce.
        forged[28..32].copy_from_slice(&step.to_be_bytes());
        assert_eq!(network.drops(0, &forged), Rejection::NotAuthentic);
        assert_eq!(network.drops(0, &request), Rejection::Duplicate);
        if step % 10 == 0 {
            let honest = network.send(1, &step.to_be_bytes());
            assert!(network.accepts(0, &honest));
            assert!(network.accepts(2, &honest));
        }
    }
    assert_eq!(all_calls(&network), before);
    network.wipe(2);
    network.together(&[0, 1, 2], SECOND * 3);
    assert_eq!(network.phase(2), Phase::Established, "and honest requests are answered");
}

#[test]
fn requests_with_a_wrong_header_signature_for_others_or_to_nobody_with_a_place_are_dropped() {
    let mut network = group(3);
    network.wipe(2);
    let outcome = network.tick(2);
    let (to_0, to_1) = (sent_to(&outcome, 0), sent_to(&outcome, 1));
    assert_eq!(network.drops(0, &unsigned(to_0.clone())), Rejection::HeaderSignature);
    assert_eq!(network.drops(0, &to_1), Rejection::NotAsked);
    assert_eq!(network.drops(2, &to_0), Rejection::OwnFrame);
    network.wipe(1);
    assert_eq!(network.drops(1, &to_1), Rejection::NoPlace);
    let mut short = to_0.clone();
    short.pop();
    assert_eq!(network.drops(0, &short), Rejection::Malformed);
    let mut other_tag = to_0;
    other_tag[4] ^= 1;
    assert_eq!(network.drops(0, &other_tag), Rejection::UnknownTag);
}

#[test]
fn responses_that_nobody_asked_for_come_late_or_are_forged_change_nothing() {
    let mut network = group(3);
    network.wipe(2);
    let asked = network.tick(2);
    let answer = sent_to(&network.hear(0, &sent_to(&asked, 0)), 2);
    let mut forged = answer.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(network.drops(2, &forged), Rejection::NotAuthentic);
    network.restart(2);
    assert_eq!(network.drops(2, &answer), Rejection::NotAsked, "it asks anew after a start");
    network.tick(2);
    assert_eq!(network.drops(2, &answer), Rejection::NotAsked);
    assert_eq!(network.phase(2), Phase::Resyncing);
    assert_eq!(network.drops(1, &answer), Rejection::NotAsked);
}

#[test]
fn forged_responses_cost_ten_calls_a_second_and_only_while_an_answer_is_waited_for() {
    let mut network = group(2);
    network.wipe(1);
    let asked = network.tick(1);
    let answer = sent_to(&network.hear(0, &sent_to(&asked, 0)), 1);
    let before = network.parties[1].element.all_calls;
    for step in 0..100u8 {
        let mut forged = answer.clone();
        forged[45] ^= step + 1;
        network.drops(1, &forged);
    }
    assert_eq!(network.parties[1].element.all_calls - before, 10);
    network.wait(SECOND);
    assert_eq!(network.hear(1, &answer).rejection(), None);
    network.together(&[0, 1], MILLISECOND);
    assert_eq!(network.phase(1), Phase::Established);
}

#[test]
fn in_the_last_epoch_whoever_finds_back_is_used_up() {
    let mut network = group(2);
    network.place_at(0, LAST_EPOCH - 1);
    network.send(0, b"the last");
    network.wipe(1);
    network.together(&[0, 1], MILLISECOND);
    assert_eq!((network.phase(1), network.epoch(1)), (Phase::UsedUp, LAST_EPOCH));
}

#[test]
fn a_staged_member_answers_nobody_and_one_that_lost_its_place_becomes_active_by_finding_back() {
    let mut network = Network::staged(2);
    network.wipe(1);
    network.together(&[0, 1], SECOND * 3);
    assert_eq!(network.phase(1), Phase::Resyncing);
    network.input(0, crate::session::Input::Activate);
    network.send(0, b"active");
    let outcomes = network.together(&[0, 1], SECOND * 10);
    assert!(events(&outcomes, 1).contains(&Event::Activated));
    assert_eq!(network.phase(1), Phase::Established);
    assert!(network.parties[1].disk.active);
}

#[test]
fn a_group_whose_places_are_all_lost_begins_a_run_together() {
    for members in [2, 3, 5] {
        let mut network = group(members);
        let all: Vec<usize> = (0..members).collect();
        let recorded = network.tell_all(0, b"recorded");
        for at in &all {
            network.wipe(*at);
        }
        let outcomes = network.together(&all, minutes(2));
        for at in &all {
            assert_eq!(
                (network.phase(*at), network.failsafes(*at)),
                (Phase::Established, 1),
                "{members}: {at}"
            );
            let found = network.parties[*at].session.found_back().unwrap();
            assert_eq!((found.way, found.before, found.run), (Way::Failsafe, None, network.run(0)));
            assert!(events(&outcomes, *at).contains(&Event::FoundBack(found)));
            let tags: Vec<Tag> = network.parties[*at].session.headers().map(|(_, tag)| tag).collect();
            let session = &network.parties[*at].session;
            assert_eq!(
                tags,
                [session.membership().tag(), session.tag()],
                "it remembers by what its frames were known"
            );
        }
        let run = network.run(0);
        for at in &all {
            network.tell_all(*at, b"in the next run");
            assert_eq!(network.drops((at + 1) % members, &recorded), Rejection::UnknownTag);
        }
        for at in &all {
            network.restart(*at);
            assert_eq!(network.run(*at), run);
        }
        network.tell_all(0, b"after a restart");
    }
}

#[test]
fn a_failsafe_that_lacks_one_member_does_not_come_about_and_says_who_is_needed() {
    let mut network = group(4);
    for at in 0..4 {
        network.wipe(at);
    }
    let outcomes = network.together(&[0, 1, 3], minutes(5));
    assert!(events(&outcomes, 0).contains(&Event::FailsafeMissed { missing: 1 }));
    for at in [0, 1, 3] {
        assert!(events(&outcomes, at).contains(&Event::NeedsModule), "{at}");
        assert_eq!(network.parties[at].disk.place, None);
        assert_eq!(network.phase(at), Phase::WithoutPlace);
    }
    let tries =
        events(&outcomes, 0).iter().filter(|event| matches!(event, Event::FailsafeMissed { .. })).count();
    assert!((1..=3).contains(&tries), "the pauses grow: {tries}");
    network.together(&[0, 1, 2, 3], minutes(20));
    for at in 0..4 {
        assert_eq!((network.phase(at), network.failsafes(at)), (Phase::Established, 1));
    }
}

#[test]
fn as_long_as_one_member_has_a_place_there_is_no_failsafe() {
    let mut network = group(5);
    for at in 0..4 {
        network.wipe(at);
    }
    network.together(&[0, 1, 2, 3], minutes(3));
    assert!((0..4).all(|at| network.parties[at].disk.place.is_none()));
    network.together(&[0, 1, 2, 3, 4], minutes(2));
    for at in 0..5 {
        assert_eq!((network.phase(at), network.run(at)), (Phase::Established, 0), "{at}");
    }
}

#[test]
fn who_has_confirmed_takes_a_place_from_member_0_only_for_a_minute() {
    let mut network = group(4);
    let of_1 = network.parties[1].disk.clone();
    for at in 0..4 {
        network.wipe(at);
    }
    // Member 2 is away, so nothing comes of it; member 3 confirms.
    network.together(&[0, 3], SECOND * 10);
    // Somebody puts the disk of member 1 back.
    network.restart_from(1, of_1);
    network.together(&[1, 3], SECOND * 30);
    assert_ne!(network.phase(3), Phase::Established);
    network.together(&[1, 3], minutes(1));
    assert_eq!((network.phase(3), network.run(3)), (Phase::Established, 0));
}

#[test]
fn member_0_that_dies_after_its_place_is_durable_finishes_after_its_start() {
    let mut network = group(3);
    for at in 0..3 {
        network.wipe(at);
    }
    for _ in 0..200 {
        network.together(&[0, 1, 2], MILLISECOND * 100);
        if network.parties[0].disk.place.is_some() {
            break;
        }
    }
    network.restart(0);
    network.together(&[0, 1, 2], minutes(2));
    assert!((0..3).all(|at| network.failsafes(at) == 1 && network.phase(at) == Phase::Established));
    network.tell_all(1, b"one tree");
}

#[test]
fn a_member_that_comes_back_with_its_old_place_follows_the_run_of_the_others() {
    let mut network = group(3);
    let old = network.parties[2].disk.clone();
    for at in 0..3 {
        network.wipe(at);
    }
    network.together(&[0, 1, 2], minutes(2));
    network.restart_from(2, old);
    assert_eq!((network.phase(2), network.run(2)), (Phase::Established, 0));
    for _ in 0..70 {
        network.wait(SECOND);
        let frame = network.send(0, b"in run 1");
        network.hear(1, &frame);
        network.drops(2, &frame);
    }
    network.together(&[0, 1, 2], SECOND);
    assert_eq!((network.phase(2), network.run(2)), (Phase::Established, network.run(0)));
    let found = network.parties[2].session.found_back().unwrap();
    assert_eq!(found.before.map(|(run, _)| run), Some(0));
    network.tell_all(2, b"followed");
}

#[test]
fn all_three_messages_may_be_lost_and_repeated() {
    let mut network = group(3);
    for at in 0..3 {
        network.wipe(at);
    }
    // Each hears the others only every other ten seconds.
    for _ in 0..60 {
        network.together(&[0, 1], SECOND * 7);
        network.together(&[0, 2], SECOND * 7);
        network.together(&[1, 2], SECOND * 7);
    }
    assert!((0..3).all(|at| network.failsafes(at) == 1 && network.phase(at) == Phase::Established));
}

#[test]
fn a_second_failsafe_takes_the_run_above_the_first_as_long_as_one_member_remembers_it() {
    let mut network = group(2);
    network.wipe(0);
    network.wipe(1);
    network.together(&[0, 1], minutes(2));
    let run = network.run(0);
    assert_eq!(run >> 16, 1);
    let place = network.parties[1].disk.place.clone();
    network.wipe(0);
    network.together(&[0, 1], minutes(1));
    assert_eq!((network.run(0), network.run(1)), (run, run), "a fallback: one has a place");
    assert_eq!(Place::parse(&place.unwrap()).unwrap().run(), run);
}

#[test]
fn a_failsafe_goes_above_all_runs_although_nobody_has_a_place() {
    let mut network = group(3);
    for failsafe in 1..=3 {
        for at in 0..3 {
            network.wipe(at);
        }
        network.together(&[0, 1, 2], minutes(2));
        assert!((0..3).all(|at| network.failsafes(at) == failsafe), "failsafe {failsafe}");
    }
}

#[test]
fn a_failsafe_goes_above_a_run_that_one_member_alone_remembers() {
    for remembers in 0..3 {
        let mut network = group(3);
        for at in 0..3 {
            network.wipe(at);
        }
        network.parties[remembers].disk.run = 0x0007_1234;
        network.restart(remembers);
        network.together(&[0, 1, 2], minutes(2));
        assert!((0..3).all(|at| network.failsafes(at) == 8), "member {remembers}");
    }
}

#[test]
fn without_a_place_nothing_is_sent_for_applications() {
    let mut network = group(2);
    network.wipe(1);
    network.tick(1);
    let refused = network.try_send(1, b"x").result;
    assert_eq!(refused, Err(SessionError::NotActive(Phase::Resyncing)));
}

#[test]
fn what_a_session_keeps_of_finding_back_is_bounded() {
    let mut network = group(8);
    for round in 0..40 {
        network.wipe(1 + round % 7);
        network.together(&[0, 1, 2, 3, 4, 5, 6, 7], SECOND * 4);
    }
    let kept = |session: &Session| session.footprint().resync;
    assert!(network.parties.iter().all(|party| kept(&party.session) <= 3 + 4 + 64 + 7));
    assert!(kept(&network.parties[0].session) > 30);
}

#[test]
fn a_failsafe_of_many_members_comes_about_although_member_0_answers_four_in_a_second() {
    for members in [64, 128, 250] {
        let mut network = Network::of(members);
        let all: Vec<usize> = (0..members).collect();
        for at in &all {
            network.wipe(*at);
        }
        let begun = network.now;
        let together = |network: &Network| all.iter().all(|at| network.failsafes(*at) == 1);
        for _ in 0..120 {
            if together(&network) {
                break;
            }
            network.together(&all, SECOND * 10);
        }
        assert!(together(&network), "{members} members");
        let took = network.now.0 - begun.0;
        assert!(took <= minutes(10), "{members} members: {took:?}");
        assert_eq!(network.parties[0].session.found_back().unwrap().way, Way::Failsafe);
    }
}
