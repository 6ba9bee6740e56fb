//! What can be done to a world, and how a trace writes it.

use std::fmt;
use std::time::Duration;

use akm_core::frame::FrameKind;

use crate::line::{Malformed, milliseconds, number};

/// One thing that is done to a world. Nodes and relationships are named by their numbers; what makes
/// no sense where it comes (to start a node that runs) does nothing.
#[expect(missing_docs, reason = "the words of each variant name its fields")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time goes by: frames arrive, timers are served.
    Run(Duration),
    /// An application at a node sends.
    Send { node: usize, relationship: usize },
    /// The same to one other member.
    SendTo { node: usize, relationship: usize, to: usize },
    /// An operator at a node asks for the next epoch.
    Advance { node: usize, relationship: usize },
    /// The module's word reaches a node: the relationship becomes active.
    Activate { node: usize, relationship: usize },
    /// A node's process ends without a word.
    Crash { node: usize },
    /// A node's process will end without a word after this many more steps. The moment before and the
    /// moment after each write, each count of the element, each frame sent and each message delivered
    /// is a step.
    CrashAfter { node: usize, steps: u32 },
    /// A node that is down starts.
    Start { node: usize },
    /// A node's disk takes no more writes, or takes them again.
    DiskFull { node: usize, full: bool },
    /// A node's element does not answer, or answers again.
    ElementSilent { node: usize, silent: bool },
    /// A node's element takes this long for an answer.
    ElementTakes { node: usize, time: Duration },
    /// A node's disk takes this long for a write.
    DiskTakes { node: usize, time: Duration },
    /// A node has another address from here on, and nobody is told.
    Move { node: usize },
    /// The module has a relationship erased at a node that is no member of its latest generation.
    Erase { node: usize, relationship: usize },
    /// Somebody keeps an image of a node's disk.
    Image { node: usize },
    /// Somebody ends a node's process and puts an image back, counted from the latest.
    Restore { node: usize, image: usize },
    /// A copy of a node runs beside it, with a copy of its element and of its disk.
    Clone { node: usize },
    /// The link from one node to another is cut, or mended.
    Cut { from: usize, to: usize, cut: bool },
    /// No frame passes between these nodes and the rest.
    Split { side: Vec<usize> },
    /// All links work.
    Join,
    /// This many of a thousand frames get lost.
    Loss { in_a_thousand: u32 },
    /// This many of a thousand frames arrive twice.
    Duplicate { in_a_thousand: u32 },
    /// Frames take from this to that long.
    Delay { shortest: Duration, longest: Duration },
    /// A node moves on by this many epochs, and nobody hears of it: what happens to the others while
    /// one sleeps, in one step.
    Leap { node: usize, relationship: usize, epochs: u32 },
    /// The intruder sends a frame that was sent before, counted from the latest.
    Replay { frame: usize, to: usize },
    /// The intruder flips bits of one byte of a recorded frame.
    Alter { frame: usize, byte: usize, bits: u8, to: usize },
    /// The intruder has the header key and signs a recorded frame anew, for an epoch this far ahead of
    /// the node that he sends it to.
    Resign { frame: usize, ahead: u32, to: usize },
    /// The intruder has the header key and makes a frame in a member's name, for an epoch this far
    /// ahead of the node that he sends it to.
    Forge { relationship: usize, sender: u16, ahead: u32, to: usize },
    /// The intruder sends random bytes.
    Noise { length: usize, to: usize },
    /// The intruder sends random bytes behind the right version and tag.
    Tagged { relationship: usize, length: usize, to: usize },
    /// A bad member, who has all keys of an issue, sends what it likes to one node. The issue is counted back from the
    /// latest of the relationship.
    Betray { relationship: usize, back: usize, deed: Deed, to: usize },
    /// The place of a relationship at a node is lost, and its process has ended.
    Lose { node: usize, relationship: usize },
    /// All places at a node are lost, and its process has ended. Its element keeps its roots.
    Wipe { node: usize },
    /// The module makes another generation and sends it to the members that run.
    Change { relationship: usize, change: Change },
    /// The module does what is parked, at the nodes that run.
    ModuleWorks,
    /// Somebody keeps a backup of the module.
    ModuleBackup,
    /// The module dies, and its latest backup is put back.
    ModuleRestore,
    /// The faults stop. All speak, and within the stated bound each is heard by each.
    Settle,
    /// The faults stop. One speaks, and within the stated bound it is heard by all.
    SettleAlone { node: usize },
}

/// Another generation of a relationship.
#[expect(missing_docs, reason = "the words of each variant name its fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// With the same members; they are suspected or not.
    Renew { suspect: bool },
    /// With one more.
    Add { node: usize },
    /// Without one.
    Remove { node: usize },
}

/// What a bad member sends. Epochs are so far ahead of the node that it goes to, or behind it.
#[expect(missing_docs, reason = "the words of each variant name its fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A frame in a member's name, under this salt or the one that was last heard of that member.
    Frame { kind: FrameKind, sender: u16, ahead: i64, salt: Option<u64>, counter: u32 },
    /// A request to find back, in a member's name; with a place or without.
    Request { sender: u16, run: u32, ahead: Option<i64> },
    /// An answer in a member's name to a recorded request, counted from the latest frame.
    Answer { frame: usize, responder: u16, run: u32, ahead: Option<i64> },
}

impl std::str::FromStr for Action {
    type Err = Malformed;

    /// Reads one line of a trace.
    fn from_str(line: &str) -> Result<Self, Malformed> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words[..] {
            ["run", time] => Self::Run(milliseconds(time)?),
            ["send", node, relationship] => {
                Self::Send { node: number(node)?, relationship: number(relationship)? }
            }
            ["send", node, relationship, "to", to] => {
                Self::SendTo { node: number(node)?, relationship: number(relationship)?, to: number(to)? }
            }
            ["element", node, "takes", time] => {
                Self::ElementTakes { node: number(node)?, time: milliseconds(time)? }
            }
            ["disk", node, "takes", time] => {
                Self::DiskTakes { node: number(node)?, time: milliseconds(time)? }
            }
            ["move", node] => Self::Move { node: number(node)? },
            ["erase", node, relationship] => {
                Self::Erase { node: number(node)?, relationship: number(relationship)? }
            }
            ["advance", node, relationship] => {
                Self::Advance { node: number(node)?, relationship: number(relationship)? }
            }
            ["activate", node, relationship] => {
                Self::Activate { node: number(node)?, relationship: number(relationship)? }
            }
            ["crash", node] => Self::Crash { node: number(node)? },
            ["crash", node, "after", steps] => {
                Self::CrashAfter { node: number(node)?, steps: number(steps)? }
            }
            ["start", node] => Self::Start { node: number(node)? },
            ["disk", node, "full"] => Self::DiskFull { node: number(node)?, full: true },
            ["disk", node, "good"] => Self::DiskFull { node: number(node)?, full: false },
            ["element", node, "silent"] => Self::ElementSilent { node: number(node)?, silent: true },
            ["element", node, "answers"] => Self::ElementSilent { node: number(node)?, silent: false },
            ["image", node] => Self::Image { node: number(node)? },
            ["restore", node, "image", image] => Self::Restore { node: number(node)?, image: number(image)? },
            ["clone", node] => Self::Clone { node: number(node)? },
            ["link", from, to, "cut"] => Self::Cut { from: number(from)?, to: number(to)?, cut: true },
            ["link", from, to, "good"] => Self::Cut { from: number(from)?, to: number(to)?, cut: false },
            ["split", ref side @ ..] if !side.is_empty() => {
                Self::Split { side: side.iter().map(|node| number(node)).collect::<Result<_, _>>()? }
            }
            ["join"] => Self::Join,
            ["loss", share] => Self::Loss { in_a_thousand: number(share)? },
            ["duplicate", share] => Self::Duplicate { in_a_thousand: number(share)? },
            ["delay", shortest, longest] => {
                let (shortest, longest) = (milliseconds(shortest)?, milliseconds(longest)?);
                if shortest > longest {
                    return Err(Malformed);
                }
                Self::Delay { shortest, longest }
            }
            ["leap", node, relationship, epochs] => Self::Leap {
                node: number(node)?,
                relationship: number(relationship)?,
                epochs: number(epochs)?,
            },
            ["replay", frame, "to", to] => Self::Replay { frame: number(frame)?, to: number(to)? },
            ["alter", frame, "byte", byte, "bits", bits, "to", to] => Self::Alter {
                frame: number(frame)?,
                byte: number(byte)?,
                bits: number(bits)?,
                to: number(to)?,
            },
            ["resign", frame, "ahead", ahead, "to", to] => {
                Self::Resign { frame: number(frame)?, ahead: number(ahead)?, to: number(to)? }
            }
            ["forge", relationship, "sender", sender, "ahead", ahead, "to", to] => Self::Forge {
                relationship: number(relationship)?,
                sender: number(sender)?,
                ahead: number(ahead)?,
                to: number(to)?,
            },
            ["noise", length, "to", to] => Self::Noise { length: number(length)?, to: number(to)? },
            ["tagged", relationship, "noise", length, "to", to] => {
                Self::Tagged { relationship: number(relationship)?, length: number(length)?, to: number(to)? }
            }
            ["betray", relationship, "back", back, ref deed @ .., "to", to] => Self::Betray {
                relationship: number(relationship)?,
                back: number(back)?,
                deed: Deed::read(deed)?,
                to: number(to)?,
            },
            ["lose", node, relationship] => {
                Self::Lose { node: number(node)?, relationship: number(relationship)? }
            }
            ["wipe", node] => Self::Wipe { node: number(node)? },
            ["renew", relationship] => {
                Self::Change { relationship: number(relationship)?, change: Change::Renew { suspect: false } }
            }
            ["suspect", relationship] => {
                Self::Change { relationship: number(relationship)?, change: Change::Renew { suspect: true } }
            }
            ["add", relationship, node] => Self::Change {
                relationship: number(relationship)?,
                change: Change::Add { node: number(node)? },
            },
            ["remove", relationship, node] => Self::Change {
                relationship: number(relationship)?,
                change: Change::Remove { node: number(node)? },
            },
            ["module", "works"] => Self::ModuleWorks,
            ["module", "backup"] => Self::ModuleBackup,
            ["module", "restored"] => Self::ModuleRestore,
            ["settle"] => Self::Settle,
            ["settle", "alone", node] => Self::SettleAlone { node: number(node)? },
            _ => return Err(Malformed),
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(time) => write!(f, "run {}", time.as_millis()),
            Self::Send { node, relationship } => write!(f, "send {node} {relationship}"),
            Self::SendTo { node, relationship, to } => write!(f, "send {node} {relationship} to {to}"),
            Self::ElementTakes { node, time } => write!(f, "element {node} takes {}", time.as_millis()),
            Self::DiskTakes { node, time } => write!(f, "disk {node} takes {}", time.as_millis()),
            Self::Move { node } => write!(f, "move {node}"),
            Self::Erase { node, relationship } => write!(f, "erase {node} {relationship}"),
            Self::Advance { node, relationship } => write!(f, "advance {node} {relationship}"),
            Self::Activate { node, relationship } => write!(f, "activate {node} {relationship}"),
            Self::Crash { node } => write!(f, "crash {node}"),
            Self::CrashAfter { node, steps } => write!(f, "crash {node} after {steps}"),
            Self::Start { node } => write!(f, "start {node}"),
            Self::DiskFull { node, full } => {
                write!(f, "disk {node} {}", if *full { "full" } else { "good" })
            }
            Self::ElementSilent { node, silent } => {
                write!(f, "element {node} {}", if *silent { "silent" } else { "answers" })
            }
            Self::Image { node } => write!(f, "image {node}"),
            Self::Restore { node, image } => write!(f, "restore {node} image {image}"),
            Self::Clone { node } => write!(f, "clone {node}"),
            Self::Cut { from, to, cut } => {
                write!(f, "link {from} {to} {}", if *cut { "cut" } else { "good" })
            }
            Self::Split { side } => {
                f.write_str("split")?;
                side.iter().try_for_each(|node| write!(f, " {node}"))
            }
            Self::Join => f.write_str("join"),
            Self::Loss { in_a_thousand } => write!(f, "loss {in_a_thousand}"),
            Self::Duplicate { in_a_thousand } => write!(f, "duplicate {in_a_thousand}"),
            Self::Delay { shortest, longest } => {
                write!(f, "delay {} {}", shortest.as_millis(), longest.as_millis())
            }
            Self::Leap { node, relationship, epochs } => {
                write!(f, "leap {node} {relationship} {epochs}")
            }
            Self::Replay { frame, to } => write!(f, "replay {frame} to {to}"),
            Self::Alter { frame, byte, bits, to } => {
                write!(f, "alter {frame} byte {byte} bits {bits} to {to}")
            }
            Self::Resign { frame, ahead, to } => write!(f, "resign {frame} ahead {ahead} to {to}"),
            Self::Forge { relationship, sender, ahead, to } => {
                write!(f, "forge {relationship} sender {sender} ahead {ahead} to {to}")
            }
            Self::Noise { length, to } => write!(f, "noise {length} to {to}"),
            Self::Tagged { relationship, length, to } => {
                write!(f, "tagged {relationship} noise {length} to {to}")
            }
            Self::Betray { relationship, back, deed, to } => {
                write!(f, "betray {relationship} back {back} {deed} to {to}")
            }
            Self::Lose { node, relationship } => write!(f, "lose {node} {relationship}"),
            Self::Wipe { node } => write!(f, "wipe {node}"),
            Self::Change { relationship, change } => match change {
                Change::Renew { suspect: false } => write!(f, "renew {relationship}"),
                Change::Renew { suspect: true } => write!(f, "suspect {relationship}"),
                Change::Add { node } => write!(f, "add {relationship} {node}"),
                Change::Remove { node } => write!(f, "remove {relationship} {node}"),
            },
            Self::ModuleWorks => f.write_str("module works"),
            Self::ModuleBackup => f.write_str("module backup"),
            Self::ModuleRestore => f.write_str("module restored"),
            Self::Settle => f.write_str("settle"),
            Self::SettleAlone { node } => write!(f, "settle alone {node}"),
        }
    }
}

impl Deed {
    fn read(words: &[&str]) -> Result<Self, Malformed> {
        let optional = |word: &str| if word == "none" { Ok(None) } else { number(word).map(Some) };
        Ok(match *words {
            ["frame", kind, "sender", sender, "ahead", ahead, "salt", salt, "counter", counter] => {
                Self::Frame {
                    kind: KINDS.iter().find(|(_, name)| *name == kind).ok_or(Malformed)?.0,
                    sender: number(sender)?,
                    ahead: number(ahead)?,
                    salt: if salt == "heard" { None } else { Some(number(salt)?) },
                    counter: number(counter)?,
                }
            }
            ["request", "sender", sender, "run", run, "ahead", ahead] => {
                Self::Request { sender: number(sender)?, run: number(run)?, ahead: optional(ahead)? }
            }
            ["answer", frame, "sender", sender, "run", run, "ahead", ahead] => Self::Answer {
                frame: number(frame)?,
                responder: number(sender)?,
                run: number(run)?,
                ahead: optional(ahead)?,
            },
            _ => return Err(Malformed),
        })
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional =
            |ahead: Option<i64>| ahead.map_or_else(|| "none".to_owned(), |ahead| ahead.to_string());
        match *self {
            Self::Frame { kind, sender, ahead, salt, counter } => {
                let kind = KINDS.iter().find(|(other, _)| *other == kind).map_or("data", |(_, name)| name);
                let salt = salt.map_or_else(|| "heard".to_owned(), |salt| salt.to_string());
                write!(f, "frame {kind} sender {sender} ahead {ahead} salt {salt} counter {counter}")
            }
            Self::Request { sender, run, ahead } => {
                write!(f, "request sender {sender} run {run} ahead {}", optional(ahead))
            }
            Self::Answer { frame, responder, run, ahead } => {
                write!(f, "answer {frame} sender {responder} run {run} ahead {}", optional(ahead))
            }
        }
    }
}

/// Kinds of frames, by their names in a trace.
const KINDS: [(FrameKind, &str); 3] =
    [(FrameKind::Hello, "hello"), (FrameKind::Management, "management"), (FrameKind::Data, "data")];
