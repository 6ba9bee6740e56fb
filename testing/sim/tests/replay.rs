//! A trace repeats a run byte for byte, reads back as it was written, and is shrunk to what matters.

use std::process::{Command, Output};

use akm_sim::{Failure, Flaw, InvalidTrace, Invariant, Scenario, Trace, World, run, shrink};

fn log_of(trace: &Trace) -> String {
    let (world, result) = World::replay(trace, true);
    result.unwrap();
    world.log().to_owned()
}

fn akm_sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_akm-sim")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Some run in which this flaw breaks this invariant first.
fn broken(flaw: Flaw, invariant: Invariant) -> Failure {
    let scenario = Scenario::named("anything").unwrap();
    let failures = (0..100).filter_map(|seed| {
        let mut trace = scenario.trace(seed);
        trace.setup.flaw = Some(flaw);
        let violation = run(&trace).err().filter(|violation| violation.invariant == invariant)?;
        Some(Failure { trace, violation, scenario: scenario.name, seed })
    });
    failures.max_by_key(|failure| failure.trace.actions.len()).expect("it breaks one of a hundred")
}

#[test]
fn the_same_trace_twice_gives_the_same_event_log() {
    for scenario in &Scenario::ALL {
        let trace = scenario.trace(42);
        let log = log_of(&trace);
        assert!(log.lines().count() > 20, "{}", scenario.name);
        assert_eq!(log, log_of(&trace), "{}", scenario.name);
        assert_ne!(log, log_of(&scenario.trace(43)), "{}", scenario.name);
    }
}

#[test]
fn a_trace_reads_back_as_it_was_written() {
    for scenario in &Scenario::ALL {
        for seed in 0..50 {
            let trace = scenario.trace(seed);
            assert_eq!(Trace::parse(&trace.to_string()), Ok(trace));
        }
    }
}

#[test]
fn what_is_no_trace_is_refused_with_its_line() {
    let text = "akm-sim trace 1\nnode with-counter\n# a comment\nnod without-counter\n";
    let refused = InvalidTrace::Line { line: 4, text: "nod without-counter".to_owned() };
    assert_eq!(Trace::parse(text), Err(refused));
    assert_eq!(Trace::parse("send 0 0\n"), Err(InvalidTrace::Format));
    assert_eq!(Trace::parse("akm-sim trace 1\nnode with-counter\n"), Err(InvalidTrace::Empty));
}

#[test]
fn a_failing_trace_is_shrunk_to_actions_that_all_matter() {
    let Failure { trace, violation, .. } = broken(Flaw::ForgetsWrites, Invariant::EpochsNeverGoBack);
    let shrunk = shrink(&trace, violation.invariant);
    let fails = |trace: &Trace| run(trace).is_err_and(|other| other.invariant == violation.invariant);
    assert!(fails(&shrunk));
    assert!(shrunk.actions.len() * 4 < trace.actions.len(), "{shrunk}");
    for at in 0..shrunk.actions.len() {
        let mut shorter = shrunk.clone();
        shorter.actions.remove(at);
        assert!(!fails(&shorter), "action {at} does not matter in {shrunk}");
    }
}

#[test]
fn a_failure_is_written_down_and_replaying_it_shows_what_broke() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("failure.trace");
    let failure = broken(Flaw::SkipsPersist, Invariant::DurableBeforeUse);
    let told = failure.report(&file);
    let name = file.to_str().unwrap();
    assert!(told.contains(&format!("cargo run -p akm-sim -- replay {name}")), "{told}");
    let replayed = akm_sim(&["replay", name]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(text(&replayed.stderr).contains("breaks durable-before-use"));
    assert!(text(&replayed.stdout).contains("VIOLATED durable-before-use"));
}

#[test]
fn a_failure_that_cannot_be_written_down_can_be_printed_again() {
    let directory = tempfile::tempdir().unwrap();
    let told = broken(Flaw::SkipsPersist, Invariant::DurableBeforeUse).report(directory.path());
    assert!(told.contains("cargo run -p akm-sim -- trace anything"), "{told}");
}

#[test]
fn the_command_prints_a_trace_that_it_replays_the_same_way_twice() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("some.trace");
    let trace = akm_sim(&["trace", "crashes", "3"]);
    std::fs::write(&file, &trace.stdout).unwrap();
    let [one, two] = [(); 2].map(|()| akm_sim(&["replay", file.to_str().unwrap()]));
    assert_eq!((one.status.code(), &one.stdout), (Some(0), &two.stdout));
    assert!(text(&one.stdout).contains("every invariant holds"));
}

#[test]
fn the_command_runs_a_scenario_and_tells_its_seed() {
    let ran = akm_sim(&["run", "--runs", "5", "--seed", "9", "--scenario", "sleeper"]);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).starts_with("seed 9\n5 runs"));
}

#[test]
fn the_command_lists_the_scenarios_and_refuses_others() {
    let listed = akm_sim(&["scenarios"]);
    assert_eq!(text(&listed.stdout).lines().count(), Scenario::ALL.len());
    let refused = akm_sim(&["run", "--scenario", "none"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("`akm-sim scenarios` lists them"));
    let refused = akm_sim(&["replay", "/nonexistent/trace"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("/nonexistent/trace"));
}
