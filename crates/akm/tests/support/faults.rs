//! Faults at the n-th durable call of a run of real programs.
//!
//! The library `akm-faults` is preloaded into a command; whatever that starts inherits it. An undisturbed
//! run tells which calls there are ([`Run::calls`]); a [`Sweep`] then tries its orders at each of them, and
//! fails if one was not reached.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::plant::AKM;

/// Length of the file through which the programs of a run agree, and where its numbers are in it.
const LENGTH: usize = 4096;
const COUNTED: u64 = 0;
const AT: u64 = 1;
const CARRIED_OUT: u64 = 4;
const SINCE: u64 = 5;
const SCOPE: usize = 64;

/// The errors of a disk that is full, and of one that fails.
const FULL: u64 = 28;
const BROKEN: u64 = 5;

/// What is done at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// The call fails as it would on a disk that has no space, or where it takes none, that is broken.
    Fail,
    /// The call fails with the other error of the two.
    FailOtherwise,
    /// The program is killed before the call; others go on.
    Die,
    /// Nothing is done any more by any program, as if the power had gone.
    AllDie,
    /// Half of the bytes are written, and nothing after that.
    Tear,
    /// Half of the bytes are written, and from then on the disk is full.
    Full,
    /// This and all further calls write half of what they are given, and say so.
    Short,
}

impl Order {
    fn number(self) -> u64 {
        match self {
            Self::Fail | Self::FailOtherwise => 1,
            Self::Die => 2,
            Self::AllDie => 3,
            Self::Tear => 4,
            Self::Short => 5,
            Self::Full => 6,
        }
    }

    /// Whether it ends the program.
    pub(crate) fn kills(self) -> bool {
        matches!(self, Self::Die | Self::AllDie | Self::Tear)
    }

    /// Whether it is worth trying at such a call.
    fn suits(self, call: &Call) -> bool {
        match self {
            Self::Die | Self::AllDie => true,
            Self::Fail | Self::FailOtherwise => call.is_durable(),
            Self::Tear | Self::Short => call.bytes > 1,
            Self::Full => call.takes_space(),
        }
    }
}

/// Whether the long variant of the sweeps was asked for: `AKM_SWEEP=full`.
pub(crate) fn everything() -> bool {
    std::env::var("AKM_SWEEP").is_ok_and(|wanted| wanted == "full")
}

/// A call that was counted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// The program: `akm provision`, `akmd run`, `mv`.
    pub(crate) program: String,
    /// What it does: `write`, `sync`, `rename`, ...
    pub(crate) kind: String,
    /// How many bytes it writes.
    pub(crate) bytes: usize,
    /// The file that it changes, or both that it has to do with; empty where it reaches another process.
    pub(crate) path: String,
}

impl Call {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let number = fields.next()?.parse().ok()?;
        let _process = fields.next()?;
        Some(Self {
            number,
            program: fields.next()?.trim().to_owned(),
            kind: fields.next()?.to_owned(),
            bytes: fields.next()?.parse().ok()?,
            path: fields.collect::<Vec<_>>().join(" to "),
        })
    }

    /// Whether it changes a file, rather than reach another process.
    pub(crate) fn is_durable(&self) -> bool {
        !self.path.is_empty()
    }

    /// Whether a full disk refuses it.
    fn takes_space(&self) -> bool {
        matches!(self.kind.as_str(), "write" | "create" | "empty" | "mkdir" | "link")
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, program, kind, bytes, path } = self;
        write!(f, "call {number}: {program}: {kind} {path}")?;
        if *bytes > 0 { write!(f, " ({bytes} bytes)") } else { Ok(()) }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// What changes files.
    Files,
    /// That, the begin of each program, and where the module reaches other processes.
    FilesAndProcesses,
}

/// One run of programs, counted, with at most one order.
#[derive(Debug)]
pub(crate) struct Run {
    place: TempDir,
    control: File,
    closed: OnceCell<u64>,
}

impl Run {
    /// Counts calls on files below this directory, and disturbs nothing.
    pub(crate) fn undisturbed(scope: &Path, counted: Counted) -> Self {
        Self::new(scope, counted, [0; 3])
    }

    fn new(scope: &Path, counted: Counted, [at, order, error]: [u64; 3]) -> Self {
        let place = tempfile::tempdir().expect("a directory for the counts");
        let scope = scope.canonicalize().expect("the directory of the run");
        let scope = scope.to_str().expect("a path in UTF-8").as_bytes();
        let outward = u64::from(counted == Counted::FilesAndProcesses);
        let mut bytes = Vec::with_capacity(LENGTH);
        for number in [0, at, order, error, 0, 0, outward, scope.len() as u64] {
            bytes.extend(number.to_ne_bytes());
        }
        assert_eq!(bytes.len(), SCOPE);
        bytes.extend(scope);
        bytes.resize(LENGTH, 0);
        fs::write(place.path().join("control"), bytes).expect("the counts can be written");
        fs::write(place.path().join("log"), "").expect("the log can be written");
        let control = OpenOptions::new().read(true).write(true).open(place.path().join("control"));
        Self { control: control.expect("the counts can be opened"), place, closed: OnceCell::new() }
    }

    /// Has a command, and all that it starts, take part.
    pub(crate) fn on<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("LD_PRELOAD", library())
            .env("AKM_FAULTS", self.place.path().join("control"))
            .env("AKM_FAULTS_LOG", self.place.path().join("log"))
    }

    /// A file of this run, beside what is counted, for what a program says.
    pub(crate) fn output(&self) -> PathBuf {
        self.place.path().join("output")
    }

    fn number(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, at * 8).expect("the counts can be read");
        u64::from_ne_bytes(bytes)
    }

    /// How many calls there were so far.
    pub(crate) fn counted(&self) -> u64 {
        self.closed.get().copied().unwrap_or_else(|| self.number(COUNTED))
    }

    /// Whether the order was carried out.
    pub(crate) fn is_carried_out(&self) -> bool {
        self.number(CARRIED_OUT) > 0
    }

    /// Ends an undisturbed run: what programs do after this is not part of it.
    pub(crate) fn close(&self) {
        let closed = self.counted();
        assert!(self.closed.set(closed).is_ok(), "a run is closed once");
    }

    /// Waits for a call that programs make by themselves; they may not, where they work side by side.
    pub(crate) fn soon_carried_out(&self) -> bool {
        let started = Instant::now();
        while !self.is_carried_out() && started.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.is_carried_out()
    }

    /// Nothing goes wrong any more, and there is room on a disk that was full: for programs that still run.
    pub(crate) fn mend(&self) {
        for at in [AT, SINCE] {
            self.control.write_all_at(&0_u64.to_ne_bytes(), at * 8).expect("the counts can be written");
        }
    }

    /// The calls so far, in their order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let text = fs::read_to_string(self.place.path().join("log")).expect("the log can be read");
        let mut calls: Vec<_> =
            text.lines().map(|line| Call::parse(line).unwrap_or_else(|| panic!("{line}"))).collect();
        calls.sort_by_key(|call| call.number);
        calls.retain(|call| call.number <= self.counted());
        calls
    }
}

/// The library that is preloaded.
fn library() -> PathBuf {
    let library = Path::new(AKM).with_file_name("libakm_faults.so");
    assert!(library.is_file(), "{} is missing: run cargo build --workspace first", library.display());
    library
}

/// An order at a call of an undisturbed run.
#[derive(Clone)]
pub(crate) struct Point {
    /// The call, as it was undisturbed.
    pub(crate) call: Call,
    /// What happens there.
    pub(crate) order: Order,
    counted: Counted,
}

impl Point {
    /// A run in which it happens.
    pub(crate) fn run(&self, scope: &Path) -> Run {
        let errors = if self.call.takes_space() { [FULL, BROKEN] } else { [BROKEN, FULL] };
        let error = errors[usize::from(self.order == Order::FailOtherwise)];
        Run::new(scope, self.counted, [self.call.number, self.order.number(), error])
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}", self.order, self.call)
    }
}

/// All calls of an undisturbed run, to be tried one by one.
#[derive(Debug)]
pub(crate) struct Sweep {
    what: &'static str,
    calls: Vec<Call>,
    counted: Counted,
}

impl Sweep {
    /// The calls of a run that has ended. Each of `files` must be part of the path of one of them, else
    /// something that is written escapes the sweep.
    #[track_caller]
    pub(crate) fn over(what: &'static str, run: &Run, counted: Counted, files: &[&str]) -> Self {
        let calls = run.calls();
        assert_eq!(calls.len() as u64, run.counted(), "each counted call is in the log");
        for (call, number) in calls.iter().zip(1..) {
            assert_eq!(call.number, number, "{call:?}");
        }
        for file in files {
            assert!(
                calls.iter().any(|call| call.path.contains(file)),
                "{what}: no call changes {file}: {calls:#?}"
            );
        }
        Self { what, calls, counted }
    }

    /// Only the calls that this accepts.
    pub(crate) fn only(mut self, accept: impl Fn(&Call) -> bool) -> Self {
        self.calls.retain(|call| accept(call));
        self
    }

    /// The calls.
    pub(crate) fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Tries at each call all orders of `always` that suit it, and one of `in_turn`; all of these too where
    /// [`everything`] is wanted. `trial` says whether the order was carried out. All are tried, also after some
    /// went wrong.
    #[track_caller]
    pub(crate) fn carry_out(
        &self,
        always: &[Order],
        in_turn: &[Order],
        mut trial: impl FnMut(&Point) -> bool,
    ) {
        let mut tried: BTreeMap<Order, usize> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (call, turn) in self.calls.iter().zip(0..) {
            for order in orders_for(call, turn, always, in_turn) {
                let point = Point { call: call.clone(), order, counted: self.counted };
                // Where programs work side by side a call may be missing from one run and not from the next.
                let reached = catch_unwind(AssertUnwindSafe(|| (0..5).any(|_| trial(&point))));
                match reached {
                    Ok(true) => *tried.entry(order).or_default() += 1,
                    Ok(false) => wrong.push(format!("never came to {point:?}")),
                    Err(_) => wrong.push(format!("{point:?}")),
                }
            }
        }
        eprintln!("{}: {} calls; {tried:?}", self.what, self.calls.len());
        assert!(wrong.is_empty(), "{}: {} went wrong:\n{}", self.what, wrong.len(), wrong.join("\n"));
        for order in always {
            let suited = self.calls.iter().filter(|call| order.suits(call)).count();
            assert!(tried.get(order) >= Some(&suited.max(1)), "{}: {order:?} at {suited} calls", self.what);
        }
        for order in in_turn {
            assert!(tried.contains_key(order), "{}: {order:?} was never its turn", self.what);
        }
    }
}

/// What is tried at a call, the `turn`-th of its sweep.
fn orders_for(call: &Call, turn: usize, always: &[Order], in_turn: &[Order]) -> Vec<Order> {
    let suited =
        |orders: &[Order]| orders.iter().copied().filter(|order| order.suits(call)).collect::<Vec<_>>();
    let (mut orders, more) = (suited(always), suited(in_turn));
    if everything() {
        orders.extend(more);
    } else if !more.is_empty() {
        orders.push(more[turn % more.len()]);
    }
    orders
}
