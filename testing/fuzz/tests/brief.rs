//! Every target over its kept corpus and some thousand inputs made from it, on any toolchain.
//!
//! The seed is printed; `AKM_FUZZ_SEED` sets it, which makes the same inputs again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use akm_fuzz::{Mutator, TARGETS, Target, corpus, find};

/// Inputs made for each target.
const MUTATED: usize = 20_000;

/// A kept corpus stays small enough to be looked at.
const FILES_MAX: usize = 200;
const LENGTH_MAX: usize = 16 * 1024;

fn seed() -> u64 {
    match std::env::var("AKM_FUZZ_SEED") {
        Ok(text) => text.parse().expect("AKM_FUZZ_SEED is a number"),
        Err(_) => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).expect("the system gives random bytes");
            u64::from_be_bytes(bytes)
        }
    }
}

/// Runs one input; if that fails keeps it and says where it is.
fn run(target: &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|panic| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failed-{}", target.name));
        std::fs::write(&path, input).expect("the input that failed can be kept");
        eprintln!("to run it again: cargo run -p akm-fuzz -- {} {}", target.name, path.display());
        resume_unwind(panic)
    })
}

fn brief(name: &str) {
    let target = find(name).expect("each test is named for a target");
    let seed = seed();
    println!("AKM_FUZZ_SEED={seed}");
    let kept = corpus::load(name).expect("the corpus is there");
    assert!(!kept.is_empty() && kept.len() <= FILES_MAX, "{} files", kept.len());
    assert!(kept.iter().all(|input| input.len() <= LENGTH_MAX), "a file of the corpus is too long");
    for seed in (target.seeds)() {
        assert!(run(target, &seed), "a seed is refused, so the target does not get past its reader");
    }
    let accepted = kept.iter().filter(|input| run(target, input)).count();
    assert!(accepted > 0, "nothing of the corpus is accepted");
    assert!(target.takes_anything || accepted < kept.len(), "nothing of the corpus is refused");
    let inputs: Vec<Vec<u8>> = kept.into_iter().chain((target.seeds)()).collect();
    let mut mutator = Mutator::new(seed);
    for _ in 0..MUTATED / target.weight {
        run(target, &mutator.mutate(&inputs));
    }
}

macro_rules! briefly {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                brief(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_run() {
            let here = [$(stringify!($name)),*];
            let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(here[..], all[..]);
        }
    };
}

briefly! {
    frame
    place
    sealed_place
    sds
    policy
    management
    enrolment
    node_identity
    node_installed
    node_endpoints
    element_content
    element_file
    tpm_state
    token_material
    card_script
    vault_file
    stream
    local_api
    configuration
    target_url
    element_spec
    names
    stack
    target_answer
    session
}
