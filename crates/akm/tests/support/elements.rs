//! Real elements for whole nodes: each kind started for one test, and how a command names it.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use akm_counterparts::softhsm::{PIN, SoftHsm};
use akm_counterparts::swtpm::Swtpm;
use akm_counterparts::vpcd::{CARD_KEYS, READERS, TestCard, Vpcd, wait_for_card};
use akm_element::ElementSpec;

use super::plant::Done;

/// An element that a test started; it ends with the value.
pub(crate) enum Real {
    Token(SoftHsm),
    Tpm(Swtpm),
    /// A TPM that can be killed at a command.
    Mortal(MortalTpm),
    /// A card in the first of two readers; the service ends after it.
    Card(TestCard, Vpcd),
}

impl Real {
    pub(crate) fn token() -> Self {
        let store = SoftHsm::new();
        store.token("akm");
        Self::Token(store)
    }

    pub(crate) fn tpm() -> Self {
        Self::Tpm(Swtpm::start())
    }

    pub(crate) fn card() -> Self {
        let service = Vpcd::start();
        let mut card = service.card("0001");
        card.insert(0);
        wait_for_card(0);
        Self::Card(card, service)
    }

    /// What `--element` takes.
    pub(crate) fn spec(&self) -> String {
        match self {
            Self::Token(store) => store.spec("akm"),
            Self::Tpm(swtpm) => swtpm.spec(),
            Self::Mortal(tpm) => tpm.spec(),
            Self::Card(..) => format!("card:{}", READERS[0]),
        }
    }

    /// Its kind, as an element calls itself.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "pkcs11",
            Self::Tpm(_) | Self::Mortal(_) => "tpm",
            Self::Card(..) => "card",
        }
    }

    /// Whether it has a counter.
    pub(crate) fn counts(&self) -> bool {
        !matches!(self, Self::Token(_))
    }

    /// What a command that wraps for it takes beside its name.
    pub(crate) fn keys(&self) -> Vec<String> {
        match self {
            Self::Card(card, _) => vec!["--card-keys".to_owned(), card.keys().to_string_lossy().into_owned()],
            _ => Vec::new(),
        }
    }

    /// What must stand nowhere but in the file that the operator named: PIN and static keys.
    pub(crate) fn secrets(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Token(_) => vec![PIN.as_bytes().to_vec()],
            Self::Tpm(_) | Self::Mortal(_) => Vec::new(),
            Self::Card(..) => {
                let line: Vec<&str> = CARD_KEYS.split_whitespace().collect();
                let keys = &line[2..];
                assert_eq!(keys.len(), 3, "ENC, MAC and DEK");
                let bytes = |text: &str| {
                    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
                    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
                };
                keys.iter().flat_map(|text| [text.as_bytes().to_vec(), bytes(text)]).collect()
            }
        }
    }

    /// It holds no root, no key and no counter of a node. Nobody may be connected to it.
    #[track_caller]
    pub(crate) fn check_is_empty(&self) {
        match self {
            // Each object is a file; the one that stays is the token itself.
            Self::Token(store) => {
                let tokens = fs::read_dir(store.tokens()).unwrap().map(|token| token.unwrap().path());
                let files =
                    tokens.flat_map(|token| fs::read_dir(token).unwrap().map(|file| file.unwrap().path()));
                let objects: Vec<_> = files
                    .filter(|file| file.extension().is_some_and(|extension| extension == "object"))
                    .filter(|file| !file.ends_with("token.object"))
                    .collect();
                assert!(objects.is_empty(), "left in the token: {objects:?}");
            }
            // The storage key stays, and holds nothing.
            Self::Tpm(swtpm) | Self::Mortal(MortalTpm { swtpm, .. }) => {
                let handles = |kind: &str| {
                    let (listed, said) = swtpm.tool("tpm2_getcap", &[&format!("handles-{kind}")]);
                    assert!(listed, "{said}");
                    said.lines().filter(|line| line.trim_start().starts_with("- 0x")).count()
                };
                let held = ["nv-index", "persistent", "transient", "loaded-session"].map(handles);
                assert_eq!(held, [0, 1, 0, 0], "counters, keys that stay, keys and sessions that do not");
            }
            Self::Card(..) => {
                let place = tempfile::tempdir().unwrap();
                let spec: ElementSpec = self.spec().parse().unwrap();
                let roots = spec.create(place.path()).and_then(|mut card| card.roots());
                assert_eq!(roots.expect("the card tells its roots"), []);
            }
        }
    }

    /// What programs must find in their environment to see it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        match self {
            Self::Token(store) => vec![store.environment()],
            Self::Tpm(_) | Self::Mortal(_) => Vec::new(),
            Self::Card(_, service) => vec![service.environment()],
        }
    }
}

/// A TPM behind a line that a test listens on: at a chosen command it is killed, as if its power had gone.
pub(crate) struct MortalTpm {
    pub(crate) swtpm: Swtpm,
    port: u16,
    orders: Sender<u64>,
    reached: Receiver<Sender<()>>,
}

impl MortalTpm {
    pub(crate) fn start() -> Self {
        let swtpm = Swtpm::start();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let (orders, taken) = channel();
        let (reaching, reached) = channel();
        let behind = swtpm.port();
        // It ends with the test's process.
        thread::spawn(move || {
            let mut left = None;
            // One at a time, as swtpm serves them.
            for client in listener.incoming() {
                left = taken.try_iter().last().or(left);
                let _ = carry(client.expect("a connection"), behind, &mut left, &reaching);
            }
        });
        Self { swtpm, port, orders, reached }
    }

    pub(crate) fn spec(&self) -> String {
        format!("tpm:swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Runs a command during which the TPM is killed when it has got its `at`-th command; then starts it again.
    #[track_caller]
    pub(crate) fn killed_at(&mut self, at: u64, command: &mut Command) -> Done {
        self.orders.send(at).expect("the line is there");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("the command can be started");
        let reached = self.reached.recv_timeout(Duration::from_secs(60));
        self.swtpm.kill();
        let reached = reached.map(|goes_on| goes_on.send(()));
        let done = Done::of(child.wait_with_output().expect("the command can be waited for"));
        assert!(reached.is_ok(), "no {at} commands came: {done:?}");
        self.swtpm.restart();
        done
    }
}

/// Carries commands and answers. After the command with which none is `left` it waits until the TPM is dead.
fn carry(
    mut client: TcpStream,
    behind: u16,
    left: &mut Option<u64>,
    reaching: &Sender<Sender<()>>,
) -> io::Result<()> {
    let mut tpm = TcpStream::connect(("127.0.0.1", behind))?;
    loop {
        pass_on(&mut client, &mut tpm)?;
        *left = left.map(|left| left - 1);
        if *left == Some(0) {
            *left = None;
            let (goes_on, killed) = channel();
            let _ = reaching.send(goes_on);
            let _ = killed.recv();
            return Ok(());
        }
        pass_on(&mut tpm, &mut client)?;
    }
}

/// Passes a command or an answer on: its length is in its head.
fn pass_on(from: &mut TcpStream, to: &mut TcpStream) -> io::Result<()> {
    let mut frame = vec![0; 10];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes(frame[2..6].try_into().expect("four bytes")) as usize;
    frame.resize(length.max(10), 0);
    from.read_exact(&mut frame[10..])?;
    to.write_all(&frame)
}
