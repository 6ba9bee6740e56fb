//! Real crashes: SIGKILL exactly when a program is about to make its n-th system call of a kind.
//!
//! `strace` counts the calls of each thread and of each kind by itself. So an undisturbed run tells
//! which calls there are, and each is named by its kind and its number among these: see [`calls_in`]
//! and [`killed_at`]. A program that works in several threads is killed by [`killed_after`], which
//! counts them all.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::plant::{Done, run, signal};

/// What changes a disk for good.
pub(crate) const DURABLE: &str =
    "?fsync,?fdatasync,?rename,?renameat,?renameat2,?unlink,?unlinkat,?rmdir,?ftruncate";

/// What reaches other programs and other machines.
pub(crate) const OUTWARD: &str = "?clone,?clone3,?fork,?vfork,?wait4,?waitid,?connect,?sendto";

/// The program, which must be there.
pub(crate) fn strace() -> &'static str {
    let found = Command::new("strace").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok_and(|status| status.success()), "install strace: these tests kill programs with it");
    "strace"
}

/// Options that write each call of these kinds into a file.
pub(crate) fn logging(calls: &str, log: &Path) -> Vec<String> {
    let log = log.to_str().expect("a path in UTF-8");
    ["-qq", "-o", log, "-e", &format!("trace={calls}")].map(str::to_owned).to_vec()
}

/// A call of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// What it is called.
    pub(crate) kind: String,
    /// Its number among the calls of this kind, from 1.
    pub(crate) number: usize,
    /// As it stands in the log.
    pub(crate) text: String,
}

/// Options that kill with a call, before it is carried out.
pub(crate) fn killing(call: &Call) -> Vec<String> {
    let Call { kind, number, .. } = call;
    let (trace, inject) = (format!("trace={kind}"), format!("inject={kind}:signal=KILL:when={number}"));
    ["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(str::to_owned).to_vec()
}

/// The same command under `strace` with these options.
pub(crate) fn under(options: &[String], command: &Command) -> Command {
    let mut traced = Command::new(strace());
    traced.args(options).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        traced.current_dir(directory);
    }
    traced
}

/// Runs a command whose main thread is killed at this call; children go on unharmed.
pub(crate) fn killed_at(call: &Call, command: &Command) -> Done {
    run(&mut under(&killing(call), command))
}

/// The calls in a log, in their order; of the thread that made the most, where several were followed.
pub(crate) fn calls_in(log: &Path) -> Vec<Call> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut threads: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (thread, call) in text.lines().filter_map(call_of) {
        threads.entry(thread).or_default().push(call);
    }
    let busiest = threads.into_values().max_by_key(Vec::len).unwrap_or_default();
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    busiest
        .into_iter()
        .map(|text| {
            let kind = text.split('(').next().unwrap_or_default();
            let number = numbers.entry(kind).or_default();
            *number += 1;
            Call { kind: kind.to_owned(), number: *number, text: text.to_owned() }
        })
        .collect()
}

/// Thread (empty where only one is followed) and call of a line.
fn call_of(line: &str) -> Option<(&str, &str)> {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let (thread, call) = (&line[..digits], line[digits..].trim_start());
    call.starts_with(|first: char| first.is_ascii_lowercase()).then_some((thread, call))
}

/// Runs a command and kills it after the `n`-th call of all its threads; `None` if it made fewer.
///
/// Each such call stops the whole program, which then goes on or is killed.
pub(crate) fn killed_after(calls: &str, n: usize, command: &Command, log: &Path) -> Option<Done> {
    let inject = format!("inject={calls}:signal=STOP");
    let mut options = logging(calls, log);
    options.extend(["-f".to_owned(), "-e".to_owned(), inject]);
    let _ = fs::remove_file(log);
    let mut child = under(&options, command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace can be started");
    let mut handled = 0;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let stops: Vec<&str> = text.lines().filter(|line| line.contains(" --- SIGSTOP {")).collect();
        if let Some(thread) = stops.get(handled).and_then(|line| line.split(' ').next()?.parse().ok()) {
            handled += 1;
            signal(thread, if handled == n { "KILL" } else { "CONT" });
            continue;
        }
        if let Some(status) = child.try_wait().expect("strace can be waited for") {
            let done = Done { code: status.code(), stdout: String::new(), stderr: String::new() };
            return (handled >= n).then_some(done);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A stack that is the real `akmd`, except that one of its commands can be told to run under `strace`.
///
/// It is a script, so it is quickly installed, and the integrity code covers it like any program.
#[derive(Debug)]
pub(crate) struct Saboteur {
    place: PathBuf,
}

impl Saboteur {
    /// A stack below this directory, in front of the program.
    pub(crate) fn new(place: &Path, akmd: &Path) -> Self {
        let place = place.join("saboteur");
        fs::create_dir_all(&place).expect("a directory for the stack");
        let quoted = |path: &Path| format!("'{}'", path.to_str().expect("a path in UTF-8"));
        let script = format!(
            "#!/bin/sh\n\
             command=$1\n\
             case \" $* \" in *' --prepare '*) command=prepare ;; esac\n\
             order={}/$command\n\
             [ -f \"$order\" ] || exec {akmd} \"$@\"\n\
             set -f\n\
             read -r options <\"$order\"\n\
             rm \"$order\"\n\
             exec strace $options -- {akmd} \"$@\"\n",
            quoted(&place),
            akmd = quoted(akmd),
        );
        fs::write(place.join("akmd"), script).expect("the stack can be written");
        strace();
        Self { place }
    }

    /// The program to install.
    pub(crate) fn stack(&self) -> String {
        self.place.join("akmd").to_str().expect("a path in UTF-8").to_owned()
    }

    /// Has the next run of a command (`prepare`, `enroll`, `run`) go under `strace` with these options.
    pub(crate) fn order(&self, command: &str, options: &[String]) {
        assert!(options.iter().all(|option| !option.contains(char::is_whitespace)), "{options:?}");
        fs::write(self.place.join(command), options.join(" ") + "\n").expect("the order can be written");
    }

    /// Whether the command has not been run since the order.
    pub(crate) fn waits_for(&self, command: &str) -> bool {
        self.place.join(command).exists()
    }
}
