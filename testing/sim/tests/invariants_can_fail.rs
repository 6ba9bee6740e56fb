//! Each invariant is broken on purpose, by hosts with one flaw, and is named. The same world without
//! the flaw keeps all of them.

use akm_sim::{Flaw, Invariant, Trace, run};

/// Three members, of which the first has an element without a counter.
const WORLD: &str = "akm-sim trace 1
seed 7
node without-counter
node with-counter
node with-counter
relationship members 0,1,2 suite aes-256-gcm rotate-after 0 rotate-frames 0 advance-interval 100 overlap 1000 active
run 100
send 0 0
run 100
";

/// A flaw, what is done, and what that breaks.
const BROKEN: [(Flaw, &str, Invariant); 22] = [
    (
        Flaw::StuckGenerators,
        "image 0\nrestore 0 image 0\nstart 0\nrun 10\nrestore 0 image 0\nstart 0\nrun 10",
        Invariant::NoKeyAndNonceTwice,
    ),
    (Flaw::DeliversTwice, "", Invariant::NothingDeliveredTwice),
    (Flaw::SpoilsMessages, "", Invariant::NothingDeliveredThatNoMemberSent),
    (Flaw::RepeatsItselfAfterStart, "crash 1\nstart 1", Invariant::NothingFromBeforeTheStart),
    (Flaw::ForgetsWrites, "crash 0\nstart 0", Invariant::EpochsNeverGoBack),
    (Flaw::SkipsPersist, "", Invariant::DurableBeforeUse),
    (
        Flaw::IgnoresCounter,
        "image 1\ncrash 1\nstart 1\nrestore 1 image 0\nstart 1",
        Invariant::OldImageRecognised,
    ),
    // It dies after it counted and before it wrote, and again.
    (
        Flaw::CountsFirst,
        "crash 1\ncrash 1 after 2\nstart 1\nstart 1\nrun 10\ncrash 1\nstart 1",
        Invariant::NoPlaceLost,
    ),
    (Flaw::HoardsFrames, "replay 0 to 1", Invariant::StateBounded),
    (Flaw::AsksForEachFrame, "", Invariant::ElementSpared),
    (Flaw::WritesForEachFrame, "replay 0 to 1", Invariant::DiskSpared),
    (Flaw::ForgetsActivation, "", Invariant::PhasesAlongEdges),
    (Flaw::RetriesBehindTheBack, "element 0 silent\nadvance 0 0", Invariant::RefusalsChangeNothing),
    (Flaw::SleepsThroughTimers, "", Invariant::TimersMoveOn),
    (Flaw::DeafToLaterEpochs, "split 0\nleap 1 0 5\njoin\nsettle", Invariant::AllHearAllWithinTheBound),
    (Flaw::DeafToLaterEpochs, "leap 1 0 5\nsettle alone 0", Invariant::AllHearAllWithinTheBound),
    (
        Flaw::MislaysPlaces,
        "split 0\nleap 0 0 3000\nrun 200\ncrash 0\njoin\nstart 0\nrun 5000",
        Invariant::NobodyAdoptsALowerPlace,
    ),
    (
        Flaw::MislaysPlaces,
        "crash 0\nwipe 1\nwipe 2\nstart 0\nstart 1\nstart 2\nrun 60000",
        Invariant::FailsafeOfAllOrNone,
    ),
    (Flaw::SwallowsRequests, "wipe 1\nstart 1\nsettle", Invariant::FindsBackWithinTheBound),
    (
        Flaw::KeepsRemovedMembers,
        "remove 0 2\nrun 100\nsend 0 0\nrun 100",
        Invariant::RemovedMemberOpensNothing,
    ),
    (
        Flaw::ClosesAtOnce,
        "delay 100 100\nsend 0 0\nsend 1 0\nrenew 0\nrun 1000",
        Invariant::NoMessageLostByAdding,
    ),
    (Flaw::FallsOver, "split 0\nsend 0 0\njoin\nalter 0 byte 40 bits 1 to 1", Invariant::NothingBringsItDown),
];

fn trace(actions: &str) -> Trace {
    Trace::parse(&format!("{WORLD}{actions}\n")).unwrap()
}

#[test]
fn each_flaw_breaks_the_invariant_that_is_there_for_it() {
    for (flaw, actions, invariant) in BROKEN {
        let mut broken = trace(actions);
        broken.setup.flaw = Some(flaw);
        let violation = run(&broken).expect_err(flaw.name());
        assert_eq!(violation.invariant, invariant, "{}: {violation}", flaw.name());
    }
}

#[test]
fn without_a_flaw_the_same_worlds_keep_every_promise() {
    for (_, actions, _) in BROKEN {
        assert_eq!(run(&trace(actions)).map(|_| ()), Ok(()), "{actions}");
    }
}

#[test]
fn no_invariant_is_left_out_and_no_flaw() {
    for invariant in Invariant::ALL {
        assert!(BROKEN.iter().any(|(_, _, broken)| *broken == invariant), "{}", invariant.name());
    }
    for flaw in Flaw::ALL {
        assert!(BROKEN.iter().any(|(breaks, _, _)| *breaks == flaw), "{}", flaw.name());
    }
}
