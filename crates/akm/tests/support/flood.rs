//! Forged frames at full speed, and what became of the honest ones meanwhile.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use akm_core::cbor::read_map;
use akm_core::crypto::provider;
use akm_core::frame::{Class, HEADER_LENGTH, Header};
use akm_core::sds::{HeaderKey, SynchronizedDataSet, Tag};
use akm_core::seal::KeysSeal;
use akm_element::software::SoftwareElement;
use serde_json::Value;

use super::plant::{Plant, processes_naming, signal, text_of, wait_until};

/// Honest messages a second.
const HONEST_RATE: u32 = 500;

/// Fewest honest messages of a phase.
const HONEST_MIN: usize = 200;

/// The last message of a phase, sent until it is heard.
const THE_END: &str = "the end";

/// A generator of bytes that nobody has to guess: the same in every run.
#[derive(Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, out: &mut [u8]) {
        for part in out.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            part.copy_from_slice(&bytes[..part.len()]);
        }
    }
}

/// What a former insider of a relationship knows as long as its generation lives: header key and tag.
#[derive(Debug)]
pub(crate) struct Insider {
    header_key: HeaderKey,
    tag: Tag,
}

impl Insider {
    /// Takes both from a node, whose element is not sealed: a disk alone does not give them.
    pub(crate) fn of(plant: &Plant, name: &str, asr: &str) -> Self {
        let status = plant.status(name);
        let node = status["akm_id"].as_str().expect("an AKM ID");
        let relationship = plant.relationship(name, asr)["id"].as_str().expect("an ID").to_owned();
        let state = plant.dir(name).join("state");
        let path = state.join("nodes").join(node).join(relationship).join("g1.installed");
        let bytes = fs::read(path).expect("what was installed");
        let (mut sds, mut sealed) = (None, Vec::new());
        // A checksum of 32 bytes follows.
        read_map(&bytes[..bytes.len() - 32], |key, value| {
            match key {
                1 => sds = SynchronizedDataSet::parse(value.bytes()?).ok(),
                5 => sealed = value.bytes()?.to_vec(),
                _ => value.skip()?,
            }
            Ok(())
        })
        .expect("a record");
        let sds = sds.expect("a public part");
        let mut element = SoftwareElement::open(&state, None).expect("the element");
        let seal = KeysSeal::derive(&mut element, &sds).expect("a device key");
        let keys = seal.open(provider(), &sealed).expect("it is that of this element");
        Self { header_key: keys.header_key, tag: keys.tag }
    }

    /// A frame with a right header signature, and nothing right behind it.
    pub(crate) fn sign(&self, sender: u16, epoch: u32, noise: &mut Noise, frame: &mut Vec<u8>) {
        let header = Header {
            class: Class::Session,
            sender,
            tag: self.tag,
            epoch,
            salt: noise.next(),
            counter: noise.next() as u32 & 0xff,
        };
        frame.clear();
        frame.extend_from_slice(&header.emit(&self.header_key));
        frame.resize(HEADER_LENGTH + 64, 0);
        noise.fill(&mut frame[HEADER_LENGTH..]);
    }

    /// A frame of the right form with the right tag, and nothing else right.
    pub(crate) fn tagged(&self, noise: &mut Noise, frame: &mut Vec<u8>) {
        frame.resize(HEADER_LENGTH + 64, 0);
        noise.fill(frame);
        frame[..2].copy_from_slice(&[0x10, 0]);
        frame[2..4].copy_from_slice(&[0, noise.next() as u8 % 4]);
        frame[4..8].copy_from_slice(&self.tag.0);
    }
}

/// Random bytes of a random length.
pub(crate) fn random_bytes(noise: &mut Noise, frame: &mut Vec<u8>) {
    frame.resize(noise.next() as usize % 1453, 0);
    noise.fill(frame);
}

/// A recorded frame with one field altered: each field in its turn.
pub(crate) fn alter(recorded: &[u8], number: usize, noise: &mut Noise, frame: &mut Vec<u8>) {
    const FIELDS: [(usize, usize); 9] =
        [(0, 1), (1, 2), (2, 4), (4, 8), (8, 12), (12, 20), (20, 24), (24, 28), (28, usize::MAX)];
    frame.clear();
    frame.extend_from_slice(recorded);
    let (from, to) = FIELDS[number % FIELDS.len()];
    let to = to.min(frame.len());
    let at = from + noise.next() as usize % (to - from);
    frame[at] ^= 1 + noise.next() as u8 % 255;
}

/// What a node and the kernel have counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Datagrams that the stack has taken, whatever became of them.
    pub(crate) taken: u64,
    /// Datagrams that found no room in the socket's buffer.
    pub(crate) dropped: u64,
    /// Frames that the stack has made for the ASR.
    pub(crate) made: u64,
    /// Frames dropped because their AEAD did not open.
    pub(crate) not_authentic: u64,
    /// Frames dropped because the budget of element calls was used up.
    pub(crate) budget: u64,
    /// Resident memory, in KiB.
    pub(crate) memory: u64,
}

impl Counts {
    pub(crate) fn of(plant: &Plant, name: &str, asr: &str) -> Self {
        let status = plant.status(name);
        let entries = status["relationships"].as_array().expect("a list");
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let communication = || entries.iter().filter(|entry| entry["kind"] == "communication");
        let rejected =
            |entry: &Value| entry["rejected"].as_object().expect("a map").values().map(number).sum::<u64>();
        let taken = communication().map(|entry| number(&entry["accepted"]) + rejected(entry)).sum::<u64>()
            + number(&status["unknown_frames"]);
        let of_asr = communication().find(|entry| entry["name"] == asr).expect("the ASR");
        let listen: SocketAddr = status["listen"].as_str().expect("text").parse().expect("an address");
        Self {
            taken,
            dropped: kernel_drops(listen.port()),
            made: number(&of_asr["sent"]),
            not_authentic: number(&of_asr["rejected"]["not-authentic"]),
            budget: number(&of_asr["rejected"]["budget"]),
            memory: resident(plant, name),
        }
    }
}

/// Datagrams that the kernel could not put into the buffer of the UDP socket on this port.
fn kernel_drops(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/udp").expect("/proc/net/udp");
    let wanted = format!(":{port:04X}");
    let line = table
        .lines()
        .find(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&wanted)));
    let drops = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
    drops.unwrap_or_else(|| panic!("no socket on port {port}"))
}

/// The process of a node's stack.
pub(crate) fn stack_process(plant: &Plant, name: &str) -> u32 {
    let processes = processes_naming(&plant.dir(name));
    let stacks: Vec<u32> = processes
        .into_iter()
        .filter(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).nth(1) == Some(b"run")
        })
        .collect();
    let [stack] = stacks[..] else { panic!("the stack of {name} is not one process: {stacks:?}") };
    stack
}

/// Resident memory of a node's stack, in KiB.
pub(crate) fn resident(plant: &Plant, name: &str) -> u64 {
    let pid = stack_process(plant, name);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// An application that writes what it hears into a file.
#[derive(Debug)]
struct Recorder {
    child: Child,
    path: PathBuf,
}

impl Recorder {
    fn start(plant: &Plant, name: &str, asr: &str) -> Self {
        let path = plant.place().join(format!("heard-{name}"));
        let mut child = plant
            .akmd_command(name, &["listen", asr, "--json"])
            .stdin(Stdio::null())
            .stdout(File::create(&path).expect("a file"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("akmd can be started");
        let stderr = child.stderr.as_mut().expect("a pipe");
        stderr.read_exact(&mut [0]).expect("a line that says it is listening");
        Self { child, path }
    }

    fn heard(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.path).expect("what was heard");
        // The last line may be half written.
        text.lines().filter_map(|line| Some(text_of(&serde_json::from_str::<Value>(line).ok()?))).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        signal(self.child.id(), "KILL");
        let _ = self.child.wait();
    }
}

/// What came of one phase.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Outcome {
    pub(crate) flood: String,
    pub(crate) forged: u64,
    pub(crate) forged_per_second: u64,
    pub(crate) honest: usize,
    pub(crate) honest_lost: usize,
    /// At the member that is not flooded.
    pub(crate) honest_lost_elsewhere: usize,
    pub(crate) kernel_drops: u64,
    pub(crate) not_authentic: u64,
    pub(crate) over_budget: u64,
    /// Frames that the flooded member made meanwhile.
    pub(crate) drawn: u64,
    pub(crate) memory_kib: u64,
    pub(crate) seconds: f64,
}

/// Three members of an ASR: `a` speaks at a steady rate, `b` is flooded, `c` is not.
pub(crate) struct Arena<'a> {
    plant: &'a Plant,
    asr: &'a str,
    /// Forged frames sent to `b` since it started.
    forged: u64,
}

impl<'a> Arena<'a> {
    /// Nobody but the three has sent anything to `b` since it started.
    pub(crate) fn new(plant: &'a Plant, asr: &'a str) -> Self {
        Self { plant, asr, forged: 0 }
    }

    /// Waits until each datagram that was ever sent to `b` is accounted for: taken by its stack, or dropped by the
    /// kernel. Returns the counts of `b`.
    #[track_caller]
    pub(crate) fn settle(&self) -> Counts {
        let mut at_b = Counts::default();
        let mut sent = 0;
        wait_until("each datagram is accounted for", || {
            let made = ["a", "c"].map(|name| Counts::of(self.plant, name, self.asr).made);
            sent = self.forged + made[0] + made[1];
            at_b = Counts::of(self.plant, "b", self.asr);
            sent == at_b.taken + at_b.dropped
        });
        at_b
    }

    /// Floods `b` with `count` forged frames as fast as they go, while `a` speaks.
    #[track_caller]
    pub(crate) fn phase(
        &mut self,
        flood: &str,
        count: u64,
        mut forge: impl FnMut(u64, &mut Vec<u8>),
    ) -> Outcome {
        let (plant, asr) = (self.plant, self.asr);
        let address = plant.address("b");
        let recorders = ["b", "c"].map(|name| Recorder::start(plant, name, asr));
        let before = self.settle();
        let started = Instant::now();
        let going = AtomicBool::new(true);
        let (spent, said) = thread::scope(|scope| {
            let speaker = scope.spawn(|| speak(plant, asr, flood, &going));
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let mut frame = Vec::new();
            for number in 0..count {
                forge(number, &mut frame);
                socket.send_to(&frame, address).expect("a datagram");
            }
            let spent = started.elapsed();
            going.store(false, Ordering::Relaxed);
            (spent, speaker.join().expect("no panic"))
        });
        self.forged += count;
        let after = self.settle();
        let seconds = started.elapsed().as_secs_f64();
        let [honest_lost, honest_lost_elsewhere] = recorders.map(|recorder| {
            // Once this is heard all before it has been written down.
            wait_until("the end of the phase is heard", || {
                plant.send("a", asr, THE_END);
                recorder.heard().iter().any(|text| text == THE_END)
            });
            let heard: Vec<_> = recorder.heard().into_iter().filter(|text| text != THE_END).collect();
            let distinct: BTreeSet<_> = heard.iter().collect();
            assert_eq!(distinct.len(), heard.len(), "a message was given to an application twice");
            assert!(heard.iter().all(|text| said.contains(text)), "a message was given that nobody sent");
            said.len() - heard.len()
        });
        Outcome {
            flood: flood.to_owned(),
            forged: count,
            forged_per_second: (count as f64 / spent.as_secs_f64()) as u64,
            honest: said.len(),
            honest_lost,
            honest_lost_elsewhere,
            kernel_drops: after.dropped - before.dropped,
            not_authentic: after.not_authentic - before.not_authentic,
            over_budget: after.budget - before.budget,
            drawn: after.made - before.made,
            memory_kib: after.memory,
            seconds,
        }
    }
}

/// Sends messages at a steady rate while `going` holds, and no fewer than [`HONEST_MIN`]; returns them.
fn speak(plant: &Plant, asr: &str, word: &str, going: &AtomicBool) -> BTreeSet<String> {
    let mut child = plant
        .akmd_command("a", &["send", asr, "-", "--lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("akmd can be started");
    let mut lines = child.stdin.take().expect("a pipe");
    let mut texts = BTreeSet::new();
    while going.load(Ordering::Relaxed) || texts.len() < HONEST_MIN {
        let text = format!("{word} {}", texts.len());
        writeln!(lines, "{text}").expect("akmd reads");
        texts.insert(text);
        thread::sleep(Duration::from_secs(1) / HONEST_RATE);
    }
    drop(lines);
    assert!(child.wait().expect("akmd ends").success(), "not all was sent");
    texts
}
