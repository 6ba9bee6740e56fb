//! What becomes of a counted call.

use std::ffi::{c_char, c_int};

use crate::control::{self, Control};
use crate::place::Place;

/// Run by the loader before the program begins.
#[used]
#[unsafe(link_section = ".init_array")]
static PROGRAM_BEGINS: extern "C" fn(c_int, *const *const c_char) = program_begins;

/// The kind of the call that a program's begin counts as.
const BEGIN: &str = "begin";

/// Orders of a test, by their numbers in the control file.
mod order {
    /// The call fails and changes nothing; the program goes on.
    pub(super) const FAIL: u64 = 1;
    /// The program is killed before the call.
    pub(super) const DIE: u64 = 2;
    /// Every program is killed: this one before the call, the others before their next.
    pub(super) const ALL_DIE: u64 = 3;
    /// Half of the bytes are written; then every program is killed.
    pub(super) const TEAR: u64 = 4;
    /// From this call on each call that writes bytes writes half of them, and says so.
    pub(super) const ALL_SHORT: u64 = 5;
    /// The disk is full: this call writes half of its bytes, and nothing that takes space is done any more.
    pub(super) const FULL: u64 = 6;
}

/// What is so since the order was carried out.
mod since {
    pub(super) const ALL_DIE: u64 = 1;
    pub(super) const FULL: u64 = 2;
}

extern "C" fn program_begins(arguments: c_int, values: *const *const c_char) {
    // SAFETY: what the loader hands over are the arguments of the program, which live as long as it does.
    unsafe { control::take_part(arguments, values) };
    judge_outward(BEGIN);
}

/// A call that changes files.
pub(crate) struct Call<'a> {
    /// The function, without what distinguishes its variants.
    pub(crate) kind: &'static str,
    /// How many bytes it writes; 0 where it writes none.
    pub(crate) bytes: usize,
    /// Whether it needs space on the disk.
    pub(crate) takes_space: bool,
    /// The files; the call counts if one of them lies below the directory of the run.
    pub(crate) places: &'a [Option<Place>],
}

/// How the call is carried out.
pub(crate) enum Verdict {
    /// As it was asked.
    Whole,
    /// Not at all, with this error number.
    Not(c_int),
    /// With this many bytes.
    Part(usize),
    /// With this many bytes, and the program is killed.
    PartAndDie(usize),
}

/// Counts a call and says what becomes of it; does not return where the program is to die before it.
pub(crate) fn judge(call: &Call<'_>) -> Verdict {
    let Some(control) = Control::of_this_run() else { return Verdict::Whole };
    let mut covered = call.places.iter().flatten().filter(|place| control.covers(place.path()));
    let (Some(first), second) = (covered.next(), covered.next()) else { return Verdict::Whole };
    if control.since() == since::ALL_DIE {
        die();
    }
    let number = control.count();
    match second {
        Some(second) => control.log(number, call.kind, call.bytes, &[first, second]),
        None => control.log(number, call.kind, call.bytes, &[first]),
    }
    if control.order() == order::ALL_SHORT {
        if control.is_due(number) && call.bytes > 1 {
            control.note_carried_out();
            return Verdict::Part(call.bytes / 2);
        }
        return Verdict::Whole;
    }
    if control.is_turn(number) {
        return carry_out(control, call);
    }
    if control.since() == since::FULL && call.takes_space {
        return Verdict::Not(libc::ENOSPC);
    }
    Verdict::Whole
}

fn carry_out(control: Control, call: &Call<'_>) -> Verdict {
    control.note_carried_out();
    match control.order() {
        order::FAIL => Verdict::Not(control.error()),
        order::DIE => die(),
        order::TEAR if call.bytes > 1 => {
            control.set_since(since::ALL_DIE);
            Verdict::PartAndDie(call.bytes / 2)
        }
        order::ALL_DIE | order::TEAR => {
            control.set_since(since::ALL_DIE);
            die();
        }
        order::FULL => {
            control.set_since(since::FULL);
            match call.bytes {
                0 | 1 if call.takes_space => Verdict::Not(libc::ENOSPC),
                0 | 1 => Verdict::Whole,
                bytes => Verdict::Part(bytes / 2),
            }
        }
        _ => Verdict::Whole,
    }
}

/// Counts a call that reaches other processes. It can only be one to die at. How often a stack asks whether
/// another answers depends on time, so beside the begin of programs only those of the module count.
pub(crate) fn judge_outward(kind: &'static str) {
    let Some(control) = Control::of_this_run() else { return };
    if control.since() == since::ALL_DIE {
        die();
    }
    if !control.counts_outward() || (kind != BEGIN && !control::is_module()) {
        return;
    }
    let number = control.count();
    control.log(number, kind, 0, &[]);
    if control.is_turn(number) && matches!(control.order(), order::DIE | order::ALL_DIE) {
        if control.order() == order::ALL_DIE {
            control.set_since(since::ALL_DIE);
        }
        control.note_carried_out();
        die();
    }
}

/// Ends the program as a crash of it would: it can neither notice nor clean up.
pub(crate) fn die() -> ! {
    loop {
        // SAFETY: signals this process, which ends by it.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}
