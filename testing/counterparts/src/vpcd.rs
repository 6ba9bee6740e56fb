//! pcscd with virtual readers (vpcd), and cards in them that are programs (`akm-card`).
//!
//! Each process has a pcscd of its own, with a socket and ports of its own, beside whatever else runs on the machine. The
//! client library looks for the socket in the environment, once in a process; so there is one pcscd at a time in each, and tests
//! of one process wait for each other.

#![allow(
    unsafe_code,
    reason = "the client library finds its socket by the environment, which is unsafe to set"
)]

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use akm_core::element::ElementError;

use akm_element::card::{CardElement, CardSpec};

use crate::ports::Ports;

/// The service.
pub const PCSCD: &str = "/usr/sbin/pcscd";
/// Its driver for virtual readers.
pub const DRIVER: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";
const LIBRARY_VARIABLE: &str = "PCSCLITE_CSOCK_NAME";
const PATIENCE: Duration = Duration::from_secs(30);

/// Static keys of every card, as a line for `--card-keys`.
pub const CARD_KEYS: &str = "* 30 000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f \
                             202122232425262728292a2b2c2d2e2f\n";

/// Two virtual readers, as specs name them.
pub const READERS: [&str; 2] = ["AKM virtual reader 00 00", "AKM virtual reader 00 01"];

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A pcscd with two virtual readers. It ends when this is dropped.
#[derive(Debug)]
pub struct Vpcd {
    process: Child,
    place: tempfile::TempDir,
    ports: [u16; 2],
    _reserved: Ports,
    // Released after the process is gone.
    _turn: MutexGuard<'static, ()>,
}

impl Vpcd {
    /// Starts it, and points this process and the children that it starts later to it.
    pub fn start() -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for path in [PCSCD, DRIVER] {
            assert!(
                Path::new(path).exists(),
                "{path} is missing: apt-get install pcscd vsmartcard-vpcd libpcsclite1"
            );
        }
        let place = tempfile::tempdir().expect("a temporary directory");
        let reserved = Ports::reserve(2);
        // The driver takes the second for its second reader.
        let ports = [reserved.first(), reserved.first() + 1];
        let config = place.path().join("config");
        fs::create_dir(&config).expect("a directory");
        fs::write(
            config.join("readers"),
            format!(
                "FRIENDLYNAME \"AKM virtual reader\"\nDEVICENAME /dev/null:0x{port:04X}\nLIBPATH {DRIVER}\n\
                 CHANNELID 0x{port:04X}\n",
                port = ports[0]
            ),
        )
        .expect("a file of readers");
        let process = spawn(place.path());
        let mut vpcd = Self { process, place, ports, _reserved: reserved, _turn: turn };
        vpcd.wait_until_ready();
        vpcd
    }

    /// Ends pcscd, and every card's stay in a reader with it.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(socket_path());
    }

    /// Starts it again after [`Vpcd::stop`], with the same readers.
    pub fn start_again(&mut self) {
        self.stop();
        self.process = spawn(self.place.path());
        self.wait_until_ready();
    }

    /// The socket, for programs that are started with an environment of their own: `(variable, value)`.
    pub fn environment(&self) -> (&'static str, PathBuf) {
        (LIBRARY_VARIABLE, socket_path().to_owned())
    }

    /// Whether pcscd is told to be ready by what it writes, and answers.
    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if log.contains("daemon ready") && UnixStream::connect(socket_path()).is_ok() {
                return;
            }
            if let Some(status) = self.process.try_wait().expect("pcscd can be waited for") {
                panic!(
                    "pcscd ended ({status}). If another one runs that it minds: systemctl stop pcscd.socket pcscd.service. It \
                     said:\n{log}"
                );
            }
            assert!(Instant::now() < deadline, "pcscd is not ready. It said:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = fs::File::open(self.place.path().join("log")) {
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A card that is in no reader yet, with the keys of [`CARD_KEYS`].
    pub fn card(&self, serial: &str) -> TestCard {
        let keys = self.place.path().join("keys");
        fs::write(&keys, CARD_KEYS).expect("a file of keys");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("it is closed to others");
        TestCard {
            program: program(),
            state: self.place.path().join(format!("card-{serial}")),
            keys,
            serial: serial.into(),
            ports: self.ports,
            arguments: Vec::new(),
            process: None,
        }
    }
}

impl Drop for Vpcd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(place: &Path) -> Child {
    let socket = socket_path();
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).expect("pcscd's socket");
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).expect("the socket is closed to others");
    let log = fs::File::create(place.join("log")).expect("a log");
    // As systemd starts it: with the socket as the first descriptor after the three. Then it makes none of its own, and
    // minds no other pcscd.
    Command::new("sh")
        .args(["-c", "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"", PCSCD])
        .args(["--foreground", "--info", "--config"])
        .arg(place.join("config"))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log.try_clone().expect("the log twice"))
        .stderr(log)
        .spawn()
        .expect("sh starts")
}

/// A card that is a program.
#[derive(Debug)]
pub struct TestCard {
    program: PathBuf,
    state: PathBuf,
    keys: PathBuf,
    serial: String,
    ports: [u16; 2],
    arguments: Vec<String>,
    process: Option<Child>,
}

impl TestCard {
    /// The file of its static keys, for `--card-keys`.
    pub fn keys(&self) -> &Path {
        &self.keys
    }

    /// More arguments for the program, from the next insertion on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// Puts it into one of [`READERS`]. Returns at once; [`wait_for`] what shall be seen.
    pub fn insert(&mut self, reader: usize) {
        self.remove();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[reader]));
        let process = Command::new(&self.program)
            .arg("--vpcd")
            .arg(address.to_string())
            .arg("--state")
            .arg(&self.state)
            .arg("--keys")
            .arg(&self.keys)
            .args(["--serial", &self.serial])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .spawn()
            .expect("akm-card starts");
        self.process = Some(process);
    }

    /// Pulls it out.
    pub fn remove(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Waits for its program to end: with code 3 if power was lost as its arguments said.
    pub fn end(&mut self) -> Option<ExitStatus> {
        let process = self.process.as_mut()?;
        Some(wait_for("akm-card ends", || {
            process.try_wait().expect("akm-card can be waited for").ok_or("it still runs")
        }))
    }
}

impl Drop for TestCard {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Tries until it succeeds, or too much time has passed.
pub fn wait_for<R, E: std::fmt::Debug>(what: &str, mut attempt: impl FnMut() -> Result<R, E>) -> R {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(result) => return result,
            Err(error) => assert!(Instant::now() < deadline, "it did not come about: {what}: {error:?}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the card in one of [`READERS`] answers, and returns its serial number.
pub fn wait_for_card(reader: usize) -> String {
    wait_for("a card in the reader", || CardElement::describe(&spec(reader))).serial
}

/// Waits until pcscd has seen that a reader is empty. A card that is put in before that is taken for the one that was there,
/// protocol and all.
pub fn wait_until_empty(reader: usize) {
    wait_for("an empty reader", || match CardElement::describe(&spec(reader)) {
        Err(ElementError::Unavailable(why)) if why.starts_with("there is no card in") => Ok(()),
        other => Err(other),
    });
}

fn spec(reader: usize) -> CardSpec {
    READERS[reader].parse().expect("a part of a reader's name")
}

/// The socket of this process's pcscd: always the same, since the client library looks once.
fn socket_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("akm-pcscd-{}", std::process::id()));
        // SAFETY: done once, before this process loads the client library; the other threads of a test's process read the
        // environment through `std` only, which keeps a lock.
        unsafe { std::env::set_var(LIBRARY_VARIABLE, &path) };
        path
    })
}

/// The card's program, beside the tests of this workspace.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let built = test.ancestors().skip(1).take(2).map(|directory| directory.join("akm-card"));
    built.clone().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "akm-card is not built: cargo build -p akm-card (`make test` does); looked for {:?}",
            built.collect::<Vec<_>>()
        )
    })
}
