//! A whole machine with systemd, sshd and a TPM: `qemu` and `swtpm`, on loopback.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use akm_counterparts::ports;
use tempfile::TempDir;

use crate::support::plant::{Done, Listener, follow, run};

/// Makes the disk where there is none, and prints where it is.
const MAKE_IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/test-machine-image");

/// The program of the stack, as it is installed where the URL names no directory.
const AKMD: &str = "/opt/akm/current/akmd";

/// Where the kernel gives no processor to it, a machine takes most of a minute to start.
const STARTED_WITHIN: Duration = Duration::from_secs(300);

/// Where the kernel gives a processor, its first line is there within a second.
const TRIED_FOR: Duration = Duration::from_secs(10);

/// The name of the machine in `known_hosts`.
const HOST: &str = "test-machine";

/// A machine with a disk and a TPM of its own, reached at 127.0.0.1. All of it ends and goes when this is dropped, and
/// its processes also when the thread that made them ends.
///
/// To the machine this computer's loopback is 10.0.2.2: what listens on 127.0.0.1 is reached there.
#[derive(Debug)]
pub(crate) struct Machine {
    place: TempDir,
    image: PathBuf,
    ssh_port: u16,
    node_port: u16,
    tpm: Option<Child>,
    processor: Option<Child>,
}

impl Machine {
    /// A machine as it comes: nothing of AKM on its disk or in its TPM. Returns when ssh lets root in.
    pub(crate) fn new() -> Self {
        for (program, package) in [
            ("qemu-system-x86_64", "qemu-system-x86"),
            ("swtpm", "swtpm"),
            ("setpriv", "util-linux"),
            ("ssh", "openssh-client"),
        ] {
            let here = Command::new(program).arg("--version").output().is_ok();
            assert!(here, "{program} is missing; run: apt-get install {package}");
        }
        let place = tempfile::tempdir().expect("a directory for the machine");
        let image = image();
        // What is not written takes no room, and where the file system can, nothing is copied.
        let copied = Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([image.join("disk.img"), place.path().join("disk.img")])
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "no copy of the disk: is there room for 1 GiB?");
        let (ssh_port, node_port) = (ports::port(), ports::port());
        let mut machine = Self { place, image, ssh_port, node_port, tpm: None, processor: None };
        machine.write_ssh_config();
        machine.switch_on();
        machine
    }

    /// Switches it on, TPM first. Returns when ssh lets root in.
    pub(crate) fn switch_on(&mut self) {
        assert!(self.processor.is_none(), "it is on");
        if self.tpm.is_none() {
            self.start_tpm();
        }
        self.processor = Some(self.start_processor());
        assert!(self.is_started(""), "it has ended: {}", self.said());
    }

    /// Takes the power away: nothing is said to anybody.
    pub(crate) fn switch_off(&mut self) {
        end(&mut self.processor);
        end(&mut self.tpm);
    }

    /// Kills the TPM under a machine that runs. It has none then, until it is switched off and on.
    pub(crate) fn kill_tpm(&mut self) {
        end(&mut self.tpm);
    }

    /// Puts another TPM in, fresh from the factory, and returns the old one; the machine is off.
    pub(crate) fn exchange_tpm(&mut self) -> PathBuf {
        assert!(self.tpm.is_none(), "it is on");
        let old = self.place.path().join("old-tpm");
        fs::rename(self.tpm_dir(), &old).expect("the TPM can be taken out");
        old
    }

    /// Puts a TPM back that was taken out; the machine is off.
    pub(crate) fn put_back_tpm(&mut self, old: &Path) {
        assert!(self.tpm.is_none(), "it is on");
        fs::remove_dir_all(self.tpm_dir()).expect("the other TPM can be thrown away");
        fs::rename(old, self.tpm_dir()).expect("the TPM can be put back");
    }

    /// How many commands the TPM was given since it was switched on.
    pub(crate) fn tpm_commands(&self) -> usize {
        let log = fs::read(self.place.path().join("tpm.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).matches("SWTPM_IO_Read").count()
    }

    /// Has its system restart. Returns when ssh lets root in again.
    pub(crate) fn reboot(&mut self) {
        let before = self.boot();
        // The connection may be gone before the answer is here.
        let _ = self.shell("systemctl reboot");
        self.expect_start_after(&before);
    }

    /// Presses the reset button: its system is told nothing. Returns when ssh lets root in again.
    pub(crate) fn reset(&mut self) {
        let before = self.boot();
        let stream = UnixStream::connect(self.place.path().join("control")).expect("qemu is there");
        let mut answers = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        let mut ask = |command: &str| {
            writeln!(&stream, "{{\"execute\":\"{command}\"}}").expect("qemu listens");
            let answer = answers.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"return\"")));
            assert!(answer.is_some(), "qemu does not {command}");
        };
        ask("qmp_capabilities");
        ask("system_reset");
        self.expect_start_after(&before);
    }

    /// Runs a command in it, as root.
    pub(crate) fn shell(&self, command: &str) -> Done {
        run(&mut self.shell_command(command))
    }

    /// Runs the stack's program in it.
    pub(crate) fn akmd(&self, arguments: &str) -> Done {
        self.shell(&format!("{AKMD} {arguments}"))
    }

    /// Listens in it in the background for so many messages, for at most a minute of silence.
    pub(crate) fn listen(&self, asr: &str, count: u32) -> Listener {
        let listen = format!("{AKMD} listen {asr} --count {count} --patience 60 --json");
        follow(&mut self.shell_command(&listen))
    }

    /// What `akm` calls it.
    pub(crate) fn target(&self) -> String {
        format!("ssh://root@127.0.0.1:{}", self.ssh_port)
    }

    /// Where the port 17100 of the machine is reached from here.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.node_port)
    }

    /// The configuration of ssh that knows it and is let in (`ssh -F`).
    pub(crate) fn ssh_config(&self) -> String {
        self.place.path().join("ssh_config").to_string_lossy().into_owned()
    }

    fn shell_command(&self, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", &self.ssh_config(), "-T", &format!("root@{HOST}"), command]);
        ssh
    }

    fn boot(&self) -> String {
        self.shell("cat /proc/sys/kernel/random/boot_id").expect(0).stdout
    }

    fn expect_start_after(&mut self, before: &str) {
        assert!(self.is_started(before), "it has ended: {}", self.said());
    }

    /// Waits until ssh lets root in, in another run of the system than `before`. False if the machine has ended.
    fn is_started(&mut self, before: &str) -> bool {
        let begin = Instant::now();
        loop {
            let done = self.shell("cat /proc/sys/kernel/random/boot_id");
            if done.code == Some(0) && done.stdout != before {
                return true;
            }
            let processor = self.processor.as_mut().expect("it is on");
            if processor.try_wait().expect("its state can be asked").is_some() {
                self.processor = None;
                return false;
            }
            assert!(begin.elapsed() < STARTED_WITHIN, "it does not start: {}\n{}", done.stderr, self.said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The last words of the machine, and of the program that it is.
    fn said(&self) -> String {
        let read = |name| fs::read(self.place.path().join(name)).unwrap_or_default();
        let (console, processor) = (read("console"), read("processor"));
        let console = String::from_utf8_lossy(&console[console.len().saturating_sub(2000)..]).into_owned();
        format!("{}\nits console ends with:\n{console}", String::from_utf8_lossy(&processor))
    }

    fn tpm_dir(&self) -> PathBuf {
        self.place.path().join("tpm")
    }

    fn start_tpm(&mut self) {
        let (socket, log) = (self.place.path().join("tpm.socket"), self.place.path().join("tpm.log"));
        let _ = fs::remove_file(&socket);
        let _ = fs::remove_file(&log);
        fs::create_dir_all(self.tpm_dir()).expect("a directory for the TPM");
        let tpm = bound("swtpm")
            .args(["socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", self.tpm_dir().display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--log")
            .arg(format!("level=20,file={}", log.display()))
            .stderr(Stdio::null())
            .spawn();
        self.tpm = Some(tpm.expect("swtpm can be started"));
        let begin = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "swtpm does not listen on {}",
                socket.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn start_processor(&self) -> Child {
        let file = |name: &str| self.place.path().join(name).display().to_string();
        let made = |name: &str| self.image.join(name).display().to_string();
        let (ssh, node) = (self.ssh_port, self.node_port);
        let said = fs::File::create(self.place.path().join("processor")).expect("a file for what qemu says");
        bound("qemu-system-x86_64")
            .args([
                "-machine",
                &format!("q35,accel={}", accelerator(&self.image)),
                "-cpu",
                "qemu64",
                "-m",
                "512",
            ])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-kernel", &made("kernel"), "-initrd", &made("initrd")])
            .args(["-append", "root=/dev/vda rw console=ttyS0 panic=-1"])
            // What its system has made durable is in this computer's memory: that outlives the machine.
            .arg("-drive")
            .arg(format!("file={},format=raw,if=virtio,cache=unsafe", file("disk.img")))
            .arg("-netdev")
            .arg(format!(
                "user,id=network,hostfwd=tcp:127.0.0.1:{ssh}-:22,hostfwd=tcp:127.0.0.1:{node}-:17100,\
                 hostfwd=udp:127.0.0.1:{node}-:17100"
            ))
            .args(["-device", "virtio-net-pci,netdev=network", "-device", "virtio-rng-pci"])
            .args(["-chardev", &format!("socket,id=tpm,path={}", file("tpm.socket"))])
            .args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"])
            .args(["-serial", &format!("file:{}", file("console"))])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", file("control"))])
            .stderr(said)
            .spawn()
            .expect("qemu can be started")
    }

    fn write_ssh_config(&self) {
        let made = |name: &str| self.image.join(name).display().to_string();
        let config = format!(
            "Host *\n HostName 127.0.0.1\n Port {}\n HostKeyAlias {HOST}\n UserKnownHostsFile {}\n \
             GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n IdentityFile {}\n IdentitiesOnly yes\n \
             IdentityAgent none\n BatchMode yes\n ConnectTimeout 10\n ServerAliveInterval 5\n \
             ServerAliveCountMax 6\n",
            self.ssh_port,
            made("known_hosts"),
            made("key")
        );
        fs::write(self.ssh_config(), config).expect("a configuration of ssh");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the machine: {}", self.said());
            let journal = self.shell("journalctl -q --no-pager -u 'akmd*' -n 40");
            eprintln!("what its stack has told:\n{}", journal.stdout);
        }
        self.switch_off();
    }
}

/// What the processor is: one of this computer, where the kernel and who runs this allow it and a system starts on it; else
/// software. There are computers with a `/dev/kvm` on which no kernel gets to its first line.
fn accelerator(image: &Path) -> &'static str {
    static CHOSEN: OnceLock<&str> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let place = tempfile::tempdir().expect("a directory for the trial");
        let console = place.path().join("console");
        let mut trial = bound("qemu-system-x86_64")
            .args(["-machine", "q35,accel=kvm", "-cpu", "qemu64", "-m", "256"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .arg("-kernel")
            .arg(image.join("kernel"))
            .args(["-append", "console=ttyS0 panic=-1"])
            .args(["-serial", &format!("file:{}", console.display())])
            .stderr(Stdio::null())
            .spawn()
            .expect("qemu can be started");
        let begin = Instant::now();
        let starts = loop {
            if fs::read(&console).is_ok_and(|said| String::from_utf8_lossy(&said).contains("Linux version")) {
                break true;
            }
            let has_ended = trial.try_wait().expect("its state can be asked").is_some();
            if has_ended || begin.elapsed() > TRIED_FOR {
                break false;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        end(&mut Some(trial));
        if starts { "kvm" } else { "tcg" }
    })
}

/// Where the disk and what belongs to it are.
fn image() -> PathBuf {
    let done = run(&mut Command::new(MAKE_IMAGE)).expect(0);
    PathBuf::from(done.stdout.trim_end())
}

/// A program that ends when the thread that starts it does, however that comes.
fn bound(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn end(process: &mut Option<Child>) {
    if let Some(mut process) = process.take() {
        let _ = process.kill();
        let _ = process.wait();
    }
}
