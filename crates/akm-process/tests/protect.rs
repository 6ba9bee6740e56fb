//! One process, one test: what is protected stays so for its whole life.

use akm_process::{Memory, protect};

fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line of this name");
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn a_protected_process_dumps_nothing_and_says_truly_whether_its_memory_is_locked() {
    let memory = protect();
    assert_eq!(protect(), memory, "repeating changes nothing");

    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    let dumpable = rustix::process::dumpable_behavior().expect("the kernel tells");
    assert_eq!(dumpable, rustix::process::DumpableBehavior::NotDumpable);

    // What is touched after the call is locked too, and no allocation fails for it.
    let touched = vec![1_u8; 32 << 20];
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let locked = number(&status, "VmLck:");
    match memory {
        Memory::Locked => assert!(locked >= 32 << 10, "{locked} KiB are locked"),
        Memory::LimitTooLow | Memory::Refused => assert_eq!(locked, 0, "{memory}"),
    }
    assert!(touched.iter().all(|byte| *byte == 1));
    assert!(memory.to_string().starts_with("memory is"));
}
