//! Running programs keep their memory to themselves: no core file, nothing for another process of the
//! same user, no swap where memory may be locked.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use akm_counterparts::ports::Ports;
use support::plant::{AKM, Done, akmd_program, processes_naming, run, signal, wait_until};
use tempfile::TempDir;

/// The user `nobody`, as whom the programs run where the tests run as root.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Programs, home and node of an ordinary user; all processes end when this is dropped.
struct Ordinary {
    place: TempDir,
    ports: Ports,
}

impl Ordinary {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory for the test");
        let ordinary = Self { place, ports: Ports::reserve(4) };
        ordinary.give(ordinary.place(), 0o700);
        // Where the programs of this build are, an ordinary user may have no access.
        let programs = ordinary.place().join("bin");
        fs::create_dir(&programs).expect("a directory");
        ordinary.give(&programs, 0o700);
        for program in [PathBuf::from(AKM), akmd_program()] {
            let copy = programs.join(program.file_name().expect("a name"));
            fs::copy(&program, &copy).expect("a copy");
            ordinary.give(&copy, 0o700);
        }
        ordinary
    }

    fn place(&self) -> &Path {
        self.place.path()
    }

    fn path(&self, name: &str) -> String {
        self.place().join(name).display().to_string()
    }

    fn give(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
        if is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("its owner");
        }
    }

    /// A command as the ordinary user, after this preparation by a shell.
    fn after(&self, preparation: &str, program: &str, arguments: &[&str]) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            let user = NOBODY.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        let program = match program {
            "akm" | "akmd" => self.path(&format!("bin/{program}")),
            other => other.to_owned(),
        };
        command
            .args(["-c", &format!("{preparation}\nexec \"$@\""), "sh", &program])
            .args(arguments)
            .env("AKM_HOME", self.path("home"))
            .envs([self.ports.environment()])
            .current_dir(self.place());
        command
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        self.after("", program, arguments)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Done {
        run(&mut self.command(program, arguments))
    }

    /// Starts something that waits; where a core may be written, its working directory is `cores`.
    fn start(&self, program: &str, arguments: &[&str]) -> Child {
        let preparation = "cd cores && { ulimit -c unlimited || ulimit -c \"$(ulimit -H -c)\"; } 2>/dev/null";
        self.after(preparation, program, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    }

    /// With a node in `n1`, whose stack runs in the background.
    fn with_node() -> Self {
        let ordinary = Self::new();
        let cores = ordinary.place().join("cores");
        fs::create_dir(&cores).expect("a directory");
        ordinary.give(&cores, 0o700);
        ordinary.run("akm", &["init", "--name", "plant"]).expect(0);
        let target = format!("local:{}", ordinary.path("n1"));
        ordinary.run("akm", &["provision", &target, "--name", "n1"]).expect(0);
        ordinary
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        for pid in processes_naming(self.place()) {
            signal(pid, "KILL");
        }
    }
}

/// A running program of ours: one that is another's yet, such as a shell on its way to it, is waited for.
#[track_caller]
fn wait_for_program(pid: u32, name: &str) {
    wait_until(&format!("{name} runs"), || {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // It protects itself first of all, so who waits for input is past that.
        program.trim() == name && !core_limit(pid).contains(&"unlimited".to_owned())
    });
}

/// Soft and hard limit on core files.
fn core_limit(pid: u32) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    line.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

/// The programs of a module and a node, each where it holds or awaits secrets.
fn programs(ordinary: &Ordinary) -> Vec<(&'static str, Child)> {
    let fifo = ordinary.path("fifo");
    ordinary.run("mkfifo", &["-m", "600", &fifo]).expect(0);
    let (home, other, n1) = (ordinary.path("other"), ordinary.path("n2"), ordinary.path("n1"));
    ordinary.run("akmd", &["stop", "--dir", &n1]).expect(0);
    let programs = vec![
        ("akm", ordinary.start("akm", &["init", "--home", &home, "--passphrase-file", &fifo])),
        ("akmd", ordinary.start("akmd", &["enroll", "--dir", &other])),
        ("akmd", ordinary.start("akmd", &["run", "--dir", &n1])),
    ];
    for (name, child) in &programs {
        wait_for_program(child.id(), name);
    }
    wait_until("the stack answers", || ordinary.run("akmd", &["status", "--dir", &n1]).code == Some(0));
    programs
}

#[test]
fn another_process_of_the_same_user_reads_no_memory_and_no_environment() {
    let ordinary = Ordinary::with_node();
    let background = processes_naming(&ordinary.place().join("n1"))[0];
    let check = |what: &str, pid: u32| {
        let own = format!("/proc/{pid}");
        for file in ["environ", "maps", "mem"] {
            let owner = fs::metadata(format!("{own}/{file}")).expect("it runs").uid();
            assert_eq!(owner, 0, "{what}: {own}/{file} belongs to root");
            let read = ordinary.run("head", &["-c", "1", &format!("{own}/{file}")]);
            assert_eq!(read.code, Some(1), "{what}: {file} can be read");
            assert!(read.stderr.contains("ermission denied"), "{what}: {}", read.stderr);
        }
        let attached = ordinary.run("strace", &["-p", &pid.to_string()]);
        assert_ne!(attached.code, Some(0));
        assert!(attached.stderr.contains("not permitted"), "{what}: {}", attached.stderr);
    };
    check("a stack in the background", background);
    let mut programs = programs(&ordinary);
    for (name, child) in &programs {
        check(name, child.id());
    }

    // Another program of that user hides nothing: so it is ours that do.
    let mut open = ordinary.command("sleep", &["60"]).spawn().expect("it starts");
    wait_until("it runs", || {
        ordinary.run("head", &["-c", "1", &format!("/proc/{}/environ", open.id())]).code == Some(0)
    });
    for child in programs.iter_mut().map(|(_, child)| child).chain([&mut open]) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
fn a_program_that_is_killed_hard_leaves_no_core() {
    let ordinary = Ordinary::with_node();
    let cores = ordinary.place().join("cores");
    let count = || fs::read_dir(&cores).expect("the directory").count();

    // The system would write one, unless it gives cores to a program or allows none at all.
    let mut other = ordinary.start("sleep", &["60"]);
    wait_until("it runs", || {
        fs::read_to_string(format!("/proc/{}/comm", other.id())).is_ok_and(|name| name == "sleep\n")
    });
    let allowed = core_limit(other.id());
    signal(other.id(), "ABRT");
    let dumped = other.wait().expect("it ends").core_dumped();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    assert!(dumped || allowed[0] == "0" || pattern.starts_with(['|', '/', '@']), "{allowed:?} {pattern}");
    for entry in fs::read_dir(&cores).expect("the directory") {
        fs::remove_file(entry.expect("a core").path()).expect("it goes");
    }

    let background = processes_naming(&ordinary.place().join("n1"))[0];
    assert_eq!(core_limit(background), ["0", "0"]);
    for name in ["ABRT", "SEGV"] {
        let programs = programs_anew(&ordinary, name);
        for (program, mut child) in programs {
            assert_eq!(core_limit(child.id()), ["0", "0"], "{program}");
            // The first SIGSEGV that nothing caused only takes away the handler of the language.
            wait_until("it ends", || {
                signal(child.id(), name);
                child.try_wait().expect("it can be waited for").is_some()
            });
            let status = child.wait().expect("it ended");
            assert!(status.signal().is_some() && !status.core_dumped(), "{program}: {status}");
        }
        assert_eq!(count(), 0, "a core after SIG{name}");
    }
}

/// The same again, after the first were killed.
fn programs_anew(ordinary: &Ordinary, round: &str) -> Vec<(&'static str, Child)> {
    if round != "ABRT" {
        fs::remove_file(ordinary.path("fifo")).expect("the pipe");
    }
    programs(ordinary)
}

#[test]
fn memory_is_locked_where_it_may_be_and_the_program_runs_where_it_may_not() {
    let ordinary = Ordinary::with_node();
    let n1 = ordinary.path("n1");
    let stop = || ordinary.run("akmd", &["stop", "--dir", &n1]).expect(0);
    let locked = |preparation: &str| {
        let mut stack = ordinary
            .after(preparation, "akmd", &["run", "--dir", &n1, "-v"])
            .stdin(Stdio::null())
            .stderr(fs::File::create(ordinary.place().join("log")).expect("a log"))
            .spawn()
            .expect("it starts");
        wait_until("it answers", || ordinary.run("akmd", &["status", "--dir", &n1]).code == Some(0));
        let status = fs::read_to_string(format!("/proc/{}/status", stack.id())).expect("its status");
        let limits = fs::read_to_string(format!("/proc/{}/limits", stack.id())).expect("its limits");
        stop();
        assert!(stack.wait().expect("it ends").success());
        let line = status.lines().find(|line| line.starts_with("VmLck:")).expect("a line");
        let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        let limit = limits.lines().find(|line| line.starts_with("Max locked memory")).expect("a line");
        (kib, limit.split_whitespace().nth(3).expect("a limit").to_owned())
    };
    let log = || fs::read_to_string(ordinary.place().join("log")).expect("a log");
    stop();

    let (kib, _) = locked("ulimit -l 64");
    assert_eq!(kib, 0);
    assert!(log().contains("memory is not locked"), "{}", log());

    // Raised as far as it goes: an ordinary user gets no further than the hard limit.
    let (kib, limit) = locked("ulimit -l unlimited 2>/dev/null || ulimit -l \"$(ulimit -H -l)\"");
    assert_eq!(kib > 0, limit == "unlimited", "{kib} KiB locked, limit {limit}");
    assert_eq!(log().contains("memory is locked"), kib > 0, "{}", log());
}
