//! The file through which a test and all programs of a run agree.
//!
//! `AKM_FAULTS` names it. It is 4,096 bytes, mapped by each program: numbers of eight bytes in the order of
//! the machine, then the directory whose files count. `AKM_FAULTS_LOG` names a file to which a line is added
//! for each counted call.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::place::Place;

/// Calls counted so far.
const COUNTED: usize = 0;
/// The number of the call at which the order is carried out; 0: none is.
const AT: usize = 1;
/// What is done there: the orders of the module `fault`.
const ORDER: usize = 2;
/// The error number, for orders that fail.
const ERROR: usize = 3;
/// How often the order was carried out.
const CARRIED_OUT: usize = 4;
/// What is so since then: 0 nothing, 1 every program dies, 2 the disk is full.
const SINCE: usize = 5;
/// Whether calls that reach other processes count too.
const OUTWARD: usize = 6;
/// Length of the directory that follows.
const SCOPE_LENGTH: usize = 7;
const SCOPE: usize = 64;
const LENGTH: usize = 4096;

static MAPPED: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static PROGRAM: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());
static COMMAND: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Maps the file of the run that this program takes part in, if a test started it.
///
/// # Safety
///
/// `values` are `arguments` pointers to texts that live as long as the program.
pub(crate) unsafe fn take_part(arguments: c_int, values: *const *const c_char) {
    // SAFETY: by the contract of this function.
    let argument = |at: c_int| unsafe { (at < arguments).then(|| *values.offset(at as isize)) };
    PROGRAM.store(argument(0).unwrap_or(ptr::null()).cast_mut(), Ordering::Relaxed);
    COMMAND.store(argument(1).unwrap_or(ptr::null()).cast_mut(), Ordering::Relaxed);
    // SAFETY: system calls with a path that the environment keeps; the mapping stays until the program ends,
    // and is shared only as atomic numbers and as bytes that nobody writes any more.
    unsafe {
        let path = libc::getenv(c"AKM_FAULTS".as_ptr());
        if path.is_null() {
            return;
        }
        let file = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDWR | libc::O_CLOEXEC, 0);
        let Ok(file) = c_int::try_from(file) else { return };
        if file < 0 {
            return;
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let mapped = libc::mmap(ptr::null_mut(), LENGTH, protection, libc::MAP_SHARED, file, 0);
        libc::close(file);
        if mapped == libc::MAP_FAILED {
            return;
        }
        MAPPED.store(mapped.cast(), Ordering::Release);
    }
}

/// The mapped file of this run.
#[derive(Clone, Copy)]
pub(crate) struct Control(*mut u8);

impl Control {
    /// The run that this program takes part in; none if no test started it.
    pub(crate) fn of_this_run() -> Option<Self> {
        let mapped = MAPPED.load(Ordering::Acquire);
        (!mapped.is_null()).then_some(Self(mapped))
    }

    fn number(&self, at: usize) -> &AtomicU64 {
        // SAFETY: within the mapping, aligned to eight bytes, and used by everybody as an atomic only.
        unsafe { &*self.0.add(at * 8).cast::<AtomicU64>() }
    }

    /// Counts a call, and returns its number, from 1.
    pub(crate) fn count(&self) -> u64 {
        self.number(COUNTED).fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether this call is the one.
    pub(crate) fn is_turn(&self, call: u64) -> bool {
        let at = self.number(AT).load(Ordering::SeqCst);
        at != 0 && call == at
    }

    /// Whether the order holds from its call on.
    pub(crate) fn is_due(&self, call: u64) -> bool {
        let at = self.number(AT).load(Ordering::SeqCst);
        at != 0 && call >= at
    }

    pub(crate) fn order(&self) -> u64 {
        self.number(ORDER).load(Ordering::SeqCst)
    }

    pub(crate) fn error(&self) -> c_int {
        c_int::try_from(self.number(ERROR).load(Ordering::SeqCst)).unwrap_or(libc::EIO)
    }

    pub(crate) fn note_carried_out(&self) {
        self.number(CARRIED_OUT).fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn since(&self) -> u64 {
        self.number(SINCE).load(Ordering::SeqCst)
    }

    pub(crate) fn set_since(&self, state: u64) {
        self.number(SINCE).store(state, Ordering::SeqCst);
    }

    pub(crate) fn counts_outward(&self) -> bool {
        self.number(OUTWARD).load(Ordering::SeqCst) != 0
    }

    /// Whether a path is the directory of this run, or lies below it.
    pub(crate) fn covers(&self, path: &[u8]) -> bool {
        let length = usize::try_from(self.number(SCOPE_LENGTH).load(Ordering::SeqCst)).unwrap_or(0);
        let length = length.min(LENGTH - SCOPE);
        // SAFETY: within the mapping; the test wrote these bytes before any program began.
        let scope = unsafe { std::slice::from_raw_parts(self.0.add(SCOPE), length) };
        path.strip_prefix(scope).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    }

    /// Writes a line about a call: its number, who makes it, its kind, its bytes, its paths.
    pub(crate) fn log(&self, call: u64, kind: &str, bytes: usize, places: &[&Place]) {
        // SAFETY: the name ends in a zero; the programs of a run change no variables while others run.
        let path = unsafe { libc::getenv(c"AKM_FAULTS_LOG".as_ptr()) };
        if path.is_null() {
            return;
        }
        let mut line = [0_u8; 2 * 4096 + 256];
        let mut rest = &mut line[..];
        let process = std::process::id();
        let _ = write!(rest, "{call}\t{process}\t");
        let (name, command) = program();
        let _ = rest.write_all(name);
        let _ = rest.write_all(b" ");
        let _ = rest.write_all(command);
        let _ = write!(rest, "\t{kind}\t{bytes}");
        for place in places {
            let _ = rest.write_all(b"\t");
            let _ = rest.write_all(place.path());
        }
        let _ = rest.write_all(b"\n");
        let left = rest.len();
        let used = line.len() - left;
        // SAFETY: system calls with a path that the environment keeps, and with bytes of this function.
        unsafe {
            let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC;
            let file = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, 0);
            let Ok(file) = c_int::try_from(file) else { return };
            if file >= 0 {
                libc::syscall(libc::SYS_write, file, line.as_ptr().cast::<c_void>(), used);
                libc::close(file);
            }
        }
    }
}

/// Whether the program is the provisioning module.
pub(crate) fn is_module() -> bool {
    program().0 == b"akm"
}

/// What the program is called, and the command that it carries out where it has such: `akmd run`, `mv`.
fn program() -> (&'static [u8], &'static [u8]) {
    let text = |pointer: &AtomicPtr<c_char>| {
        let pointer = pointer.load(Ordering::Relaxed);
        // SAFETY: an argument of the program, which lives as long as it does.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
    };
    let path = text(&PROGRAM).unwrap_or_default();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let has_commands = matches!(name, b"akm" | b"akmd");
    (name, text(&COMMAND).filter(|_| has_commands).unwrap_or_default())
}
