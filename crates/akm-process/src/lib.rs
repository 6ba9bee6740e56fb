//! What every program of AKM does before anything else: see to it that its memory stays its own, and begin its log.
//!
//! ```text
//!   main --> protect --> no core file          a crash leaves no keys behind
//!                   \--> not dumpable          another process of the same user reads no memory
//!                    \-> memory locked         no keys on a swap device, where the system allows it
//!        \-> start_log                         lines on standard error, lost rather than waited for
//!   output --> plain                           words of others command no terminal
//! ```
//!
//! It promises what the kernel promises, against everybody but root on the same machine. It does not
//! wipe anything: secrets wipe themselves.

mod text;

use std::fmt;
use std::io::stderr;

pub use text::{plain, plain_in_line};

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use tracing::Level;

/// Whether the memory of this process can reach a swap device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Every page stays in memory from the moment it is used.
    Locked,
    /// The limit on locked memory is too low to lock all of it, so nothing is locked.
    LimitTooLow,
    /// The system refused.
    Refused,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Locked => "memory is locked: it does not reach a swap device",
            Self::LimitTooLow => {
                "memory is not locked and may reach a swap device: the limit on locked memory (ulimit -l) is not \
                 unlimited"
            }
            Self::Refused => "memory is not locked and may reach a swap device: the system refused",
        })
    }
}

/// Protects this process, and says what became of its memory. To be called first in `main`, before
/// there is a secret or a second thread. Called twice, it does the same again.
///
/// Where the kernel refuses something the program runs all the same: it would be no safer not to run.
/// Children inherit the limit on core files, and nothing else.
pub fn protect() -> Memory {
    // Not dumpable counts also where cores go to a program: that ignores the limit.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    lock_memory()
}

/// Locks all pages, those to come included. Under a finite limit that would make allocations fail once
/// the limit is reached, so then nothing is locked.
fn lock_memory() -> Memory {
    let is_unlimited = getrlimit(Resource::Memlock).current.is_none();
    let is_privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if !is_unlimited && !is_privileged {
        return Memory::LimitTooLow;
    }
    // On fault: what is reserved and never touched costs nothing.
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => Memory::Locked,
        Err(_) => Memory::Refused,
    }
}

/// Begins the log on standard error: warnings for 0, and one level more for each step above. To be called once.
///
/// It has no colours, on a terminal either. It may stand on a disk that is full: a line that is lost stops no program.
pub fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => Level::WARN,
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(stderr)
        .with_target(false)
        .log_internal_errors(false)
        .init();
}
