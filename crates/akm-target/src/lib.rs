//! How a stack gets onto a device, and how commands run there.
//!
//! A [`TargetUrl`] names the place, a [`Stack`] is the program to put there, a [`Target`] does it:
//!
//! ```text
//! Stack::load ── release(akmd.toml, DIR) ──> Release ─┐
//!                                                     ▼
//! TargetUrl ── Target::new ──> probe ──> stage ──> switch ──> akmd(..) ──> start
//!                                │         │          │
//!              looks, changes nothing      │          `current` points to the release, in one step
//!                                          uploaded beside it, proved by hash and by `akmd --version`
//! ```
//!
//! Promises: every call may be repeated; what is cut off leaves `current` as it was and is cleared away by the next
//! `stage`; a stack for another architecture is refused before anything is sent; nothing that goes through standard
//! input is logged or seen in a list of processes. Everything comes over one `ssh` command or one local `sh`, so a
//! target needs only a POSIX shell and common tools (BusyBox has them).
//!
//! What it does not do: it knows nothing of AKM. The bytes it carries are the caller's.
//!
//! ```text
//! DIR/releases/<id>/{akmd, akmd.toml, akmd.service, manifest}
//! DIR/releases/.staging-<id>.<n>/     while it is uploaded
//! DIR/current -> releases/<id>
//! DIR/state/  DIR/run/                0700, of akmd
//! ```

mod install;
mod shell;
mod stack;
mod url;

#[cfg(feature = "fuzzing")]
pub use install::fields as answer_fields;
pub use install::{DirKind, InstalledRelease, Probe, Staged, Supervision, Target, unit_name};
pub use shell::{ProcessOutput, Shell};
pub use stack::{Architecture, Release, Stack, StackError, StackFile};
pub use url::{DEFAULT_DIR, SshHost, TargetUrl, TargetUrlError};

/// Why something did not work at a target, named for what the operator can do.
///
/// The text is one line. It never holds what went through standard input.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The host could not be reached or did not let us in: mend that and try again.
    #[error("cannot reach {target}: {reason}")]
    Unreachable {
        /// The target.
        target: String,
        /// What ssh said last.
        reason: String,
        /// What to try.
        hint: String,
    },
    /// We are let in, but not as root.
    #[error("not allowed to install at {target}: {why}")]
    NotRoot {
        /// The target.
        target: String,
        /// The user as whom ssh logs in.
        user: String,
        /// What stands in the way.
        why: &'static str,
    },
    /// Programs are missing here or at the target: install them.
    #[error("{programs} not found on {place}")]
    Missing {
        /// The machine that lacks them.
        place: String,
        /// The programs.
        programs: String,
    },
    /// The stack is built for another machine: take another one.
    #[error("the stack is built for {stack}, but {target} is {machine}")]
    WrongArchitecture {
        /// The target.
        target: String,
        /// What the stack needs.
        stack: String,
        /// What the target is.
        machine: String,
    },
    /// The directory is in use for something else: take another one.
    #[error("{dir} at {target} holds files that are not ours")]
    Occupied {
        /// The target.
        target: String,
        /// The directory.
        dir: String,
    },
    /// Another user could put another program into the directory: give it to the one as whom the stack runs.
    #[error(
        "{dir} at {target}, or a part of it, belongs to another user, who could put another program there"
    )]
    Owned {
        /// The target.
        target: String,
        /// The directory.
        dir: String,
    },
    /// Nothing can be written at the target: make room, or take another directory or user.
    #[error("cannot write {path} at {target}: {why}")]
    Unwritable {
        /// The target.
        target: String,
        /// The path that could not be written.
        path: String,
        /// What stands in the way.
        why: String,
    },
    /// What arrived is not what was sent. Nothing was switched: install again.
    #[error("{what} at {target} is not as the manifest says: nothing of it was used")]
    Damaged {
        /// The target.
        target: String,
        /// The file.
        what: String,
    },
    /// There is no program to run: install one.
    #[error("no stack is installed in {dir} at {target}")]
    Absent {
        /// The target.
        target: String,
        /// The directory.
        dir: String,
    },
    /// A step at the target failed for a reason of its own.
    #[error("could not {what} at {target}: {why}")]
    Failed {
        /// The target.
        target: String,
        /// What was being done.
        what: String,
        /// The last words of what failed.
        why: String,
    },
}
