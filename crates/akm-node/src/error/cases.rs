//! The refusals of `akmd` one by one, by what whoever reads them can do next.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use akm_client::Kind;
use akm_core::cbor::Unreadable;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::session::Phase;
use akm_core::start::StartError;
use akm_host::Refused;
use akm_transport::Endpoint;

use super::AGAIN;

fn one(hint: impl Into<String>) -> Vec<String> {
    vec![hint.into()]
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Damage {
    /// Another user owns it.
    Foreign {
        /// Who owns it.
        owner: u32,
        /// Who runs this program.
        user: u32,
    },
    /// Others may open it.
    Exposed {
        /// Whether it is a directory.
        is_directory: bool,
    },
    /// Something of another kind has its name.
    Misplaced {
        /// What should be there.
        wanted: &'static str,
    },
    /// It has more bytes than whatever belongs there.
    TooLong {
        /// How many it may have.
        most: usize,
    },
    /// It is there already.
    Exists,
    /// It is no configuration.
    Configuration {
        /// What is wrong with it.
        why: String,
    },
    /// It does not say which node this is.
    Identity,
    /// It is whole, and in a form that a later version of `akmd` wrote.
    LaterVersion,
    /// It says that this is a node which holds nothing.
    HoldsNothing {
        /// The node.
        node: AkmId,
        /// Where its relationships should be.
        dir: PathBuf,
    },
    /// No copy of what was installed is there.
    NoCopies,
    /// Neither copy of what was installed is whole.
    Copies {
        /// The name of each, and what is wrong with it.
        copies: [(String, String); 2],
    },
}

impl Damage {
    pub(super) fn hints(&self, path: &Path) -> Vec<String> {
        let path = path.display();
        match self {
            Self::Foreign { user, .. } => {
                one(format!("use that user, or give all of it back (chown -R {user} {path})"))
            }
            Self::Exposed { is_directory } => {
                let mode = if *is_directory { 700 } else { 600 };
                one(format!("chmod {mode} {path}"))
            }
            Self::Misplaced { .. } => one("move away what is in its place"),
            Self::Configuration { .. } => one(
                "put back what the module wrote, or provision the device again (akm provision TARGET --again)",
            ),
            Self::Identity => one(AGAIN),
            Self::LaterVersion => one("install that version again"),
            Self::HoldsNothing { .. } => vec!["put back the one that is wrong".to_owned(), AGAIN.to_owned()],
            Self::TooLong { .. } | Self::Exists | Self::NoCopies | Self::Copies { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { owner, user } => {
                write!(f, "it belongs to user {owner}, and this program runs as user {user}")
            }
            Self::Exposed { .. } => f.write_str("open to other users"),
            Self::Misplaced { wanted } => write!(f, "not a {wanted}"),
            Self::TooLong { most } => write!(f, "longer than {most} bytes"),
            Self::Exists => f.write_str("exists already"),
            Self::Configuration { why } => f.write_str(why),
            Self::Identity => f.write_str("damaged"),
            Self::LaterVersion => f.write_str("of a later version of akmd"),
            Self::HoldsNothing { node, dir } => {
                write!(f, "it says that this is node {node}, and {} holds no relationship", dir.display())
            }
            Self::NoCopies => f.write_str("both copies of what was installed are missing"),
            Self::Copies { copies: [(name, first), (other, second)] } => {
                write!(f, "{name} {first}, and {other} {second}")
            }
        }
    }
}

/// What an element holds that is not this device's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strange {
    /// It is not the element of this node.
    NotOfNode {
        /// Where the element is kept.
        state: PathBuf,
        /// The node.
        node: AkmId,
    },
    /// A root of a relationship that nobody vouches for.
    Root {
        /// The relationship.
        relationship: RelationshipId,
    },
}

impl Strange {
    pub(super) fn hints(&self) -> Vec<String> {
        match self {
            Self::NotOfNode { .. } => vec![
                "put the right one back".to_owned(),
                format!("if that is lost, move this one away and {AGAIN}"),
            ],
            Self::Root { .. } => one("if it may go, run akmd reset on the device"),
        }
    }
}

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOfNode { state, node } => write!(
                f,
                "the element refused: what {} has for an element is not that of node {node}: it holds no root of its \
                 provisioning relationship",
                state.display()
            ),
            Self::Root { relationship } => write!(
                f,
                "the element refused: it holds a root of relationship {relationship}, which no module vouches for"
            ),
        }
    }
}

/// Why a request cannot be met as it is.
#[derive(Debug)]
pub enum Request {
    /// It is none.
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// What comes from the module cannot be read.
    Envelope {
        /// Why not.
        why: Unreadable,
    },
    /// Metrics cannot be shown at that address.
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The message is too long.
    TooLong {
        /// The ASR.
        asr: String,
        /// Bytes that one message carries.
        most: usize,
    },
    /// The node has no such ASR.
    NoAsr {
        /// As the application calls it.
        asr: String,
        /// Whether others are set aside.
        are_set_aside: bool,
    },
    /// The name fits several ASRs.
    SeveralAsrs {
        /// As the application calls it.
        asr: String,
    },
    /// The ASR has no such other member.
    NoMember {
        /// The ASR.
        asr: String,
        /// As the application calls it.
        member: String,
        /// The others, or the first of them.
        others: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// The name fits several members.
    SeveralMembers {
        /// The ASR.
        asr: String,
        /// As the application calls it.
        member: String,
    },
    /// The member is this node.
    Itself {
        /// As the application calls it.
        member: String,
    },
}

impl Request {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Malformed { .. } | Self::Envelope { .. } | Self::Metrics { .. } => Kind::Usage,
            Self::TooLong { .. } => Kind::TooLong,
            Self::NoAsr { .. } => Kind::NoAsr,
            Self::SeveralAsrs { .. } | Self::SeveralMembers { .. } => Kind::Ambiguous,
            Self::NoMember { .. } | Self::Itself { .. } => Kind::NoMember,
        }
    }

    pub(super) fn hints(&self) -> Vec<String> {
        match self {
            Self::TooLong { .. } => one("send it in parts"),
            Self::NoAsr { are_set_aside: true, .. } => {
                one("akmd status shows those that it has, and why others are set aside")
            }
            Self::NoAsr { .. } => one("akmd status shows those that it has"),
            Self::SeveralAsrs { .. } => one("name it by its ID (akmd status shows them)"),
            Self::SeveralMembers { .. } => one("name it by its AKM ID (akmd status shows them)"),
            Self::NoMember { more, .. } if *more > 0 => one("akmd status shows them"),
            Self::Malformed { .. }
            | Self::Envelope { .. }
            | Self::Metrics { .. }
            | Self::NoMember { .. }
            | Self::Itself { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { why } => f.write_str(why),
            Self::Envelope { why } => {
                write!(f, "stack and module do not fit together, the envelope cannot be read: {why}")
            }
            Self::Metrics { address, source } => write!(f, "cannot show metrics at {address}: {source}"),
            Self::TooLong { asr, most } => {
                write!(f, "the text is too long: one message on {asr} carries at most {most} bytes")
            }
            Self::NoAsr { asr, are_set_aside } => {
                let which = if *are_set_aside { " that it can use" } else { "" };
                write!(f, "this node has no relationship {asr}{which}")
            }
            Self::SeveralAsrs { asr } => write!(f, "several relationships are called {asr}"),
            Self::NoMember { asr, member, others, more } => {
                write!(f, "{asr} has no member {member}; the others are {}", others.join(", "))?;
                if *more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            Self::SeveralMembers { asr, member } => write!(f, "several members of {asr} are called {member}"),
            Self::Itself { member } => {
                write!(f, "{member} is this node itself: it sends to other members only")
            }
        }
    }
}

/// Why an ASR does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsrTrouble {
    /// It is installed, and its module has not begun it.
    NotActive,
    /// It has no good place here, or no epoch left.
    Rests {
        /// Where it stands.
        phase: Phase,
        /// Why, where that is known.
        why: Option<String>,
        /// The way out.
        cure: &'static str,
    },
    /// It was erased meanwhile.
    Erased,
    /// It refused.
    Refused(Refused),
}

impl AsrTrouble {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::NotActive => Kind::NotActive,
            Self::Rests { .. } => Kind::Resting,
            Self::Erased => Kind::NoAsr,
            Self::Refused(_) => Kind::Failed,
        }
    }

    pub(super) fn of(&self, asr: &str) -> String {
        match self {
            Self::NotActive => format!("{asr} is installed but not active yet"),
            Self::Rests { phase, why, .. } => {
                let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                format!("{asr} rests here ({phase:?}){why}")
            }
            Self::Erased => format!("{asr} was erased"),
            Self::Refused(refused) => format!("{asr}: {refused}"),
        }
    }

    pub(super) fn hints(&self) -> Vec<String> {
        match self {
            Self::NotActive => one(
                "its module begins it when it has reached all members (akm tasks there shows who is missing)",
            ),
            Self::Rests { cure, .. } => one(*cure),
            Self::Erased | Self::Refused(_) => Vec::new(),
        }
    }
}

/// What is so already, or makes that there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsItIs {
    /// A stack runs.
    Runs {
        /// The directory of the installation.
        dir: PathBuf,
    },
    /// The device is no node.
    NotANode {
        /// The file that would say which.
        identity: PathBuf,
    },
    /// The device is another node.
    IsNode {
        /// Which.
        node: AkmId,
    },
    /// The device holds another content under the same provisioning relationship.
    OtherContent,
}

impl AsItIs {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Runs { .. } => Kind::Running,
            Self::NotANode { .. } => Kind::NotANode,
            Self::IsNode { .. } | Self::OtherContent => Kind::IsANode,
        }
    }

    pub(super) fn hints(&self) -> Vec<String> {
        match self {
            Self::NotANode { .. } => {
                one("put it back if it was lost, else provision the device from its module (akm provision)")
            }
            Self::Runs { .. } | Self::IsNode { .. } | Self::OtherContent => Vec::new(),
        }
    }
}

impl fmt::Display for AsItIs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs { dir } => write!(f, "a stack runs in {} already", dir.display()),
            Self::NotANode { identity } => {
                write!(f, "{} is missing, so this device is not an AKM node", identity.display())
            }
            Self::IsNode { node } => write!(f, "this device is node {node} already"),
            Self::OtherContent => {
                f.write_str("this device holds another content under this provisioning relationship")
            }
        }
    }
}

/// Why a stack does not start, end or answer.
#[derive(Debug)]
pub enum StackTrouble {
    /// Another works in the installation.
    Held {
        /// The directory of the installation.
        dir: PathBuf,
    },
    /// Another works there, and does not come to its end.
    HeldOn {
        /// The directory of the installation.
        dir: PathBuf,
    },
    /// It ended at once.
    Ended {
        /// How.
        status: ExitStatus,
        /// The last that it said.
        last: String,
    },
    /// It does not answer.
    NoAnswer {
        /// Its log.
        log: PathBuf,
    },
    /// It cannot listen where it should.
    Address {
        /// Where.
        listen: Endpoint,
        /// The file that says so.
        config: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Metrics cannot be shown there at this time.
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It is not there yet.
    Waits {
        /// For what.
        why: String,
        /// Until it tries again.
        pause: Duration,
    },
    /// It has ended too often.
    HeldBack,
    /// The element is no element that a node could start on.
    Element(StartError),
    /// A record was not written.
    NotWritten {
        /// Why not.
        why: String,
    },
    /// The system refused something that is no file.
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StackTrouble {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Held { .. } | Self::HeldOn { .. } => Kind::Held,
            Self::NotWritten { .. } => Kind::File,
            Self::Waits { .. } => Kind::NotRunning,
            Self::HeldBack
            | Self::Metrics { .. }
            | Self::Ended { .. }
            | Self::NoAnswer { .. }
            | Self::Address { .. }
            | Self::Element(_)
            | Self::System { .. } => Kind::Failed,
        }
    }

    pub(super) fn hints(&self) -> Vec<String> {
        match self {
            Self::Held { dir } => one(format!("stop it first (akmd stop --dir {})", dir.display())),
            Self::NoAnswer { log } => one(format!("see {}", log.display())),
            Self::Waits { .. } => one("whoever restarts the service does not wait"),
            Self::HeldOn { .. }
            | Self::HeldBack
            | Self::Metrics { .. }
            | Self::Ended { .. }
            | Self::Address { .. }
            | Self::Element(_)
            | Self::NotWritten { .. }
            | Self::System { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for StackTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { dir } => write!(f, "another akmd works in {}", dir.display()),
            Self::HeldOn { dir } => {
                write!(f, "another akmd works in {} and does not come to its end", dir.display())
            }
            Self::Ended { status, last } => write!(f, "the stack ended at once ({status}): {last}"),
            Self::NoAnswer { .. } => f.write_str("the stack does not answer"),
            Self::Address { listen, config, source } => {
                write!(f, "cannot listen on {listen} (UDP and TCP), as {} says: {source}", config.display())
            }
            Self::Metrics { address, source } => write!(f, "cannot show metrics at {address}: {source}"),
            Self::Waits { why, pause } => {
                write!(f, "the stack waits with its start, for {} s: {why}", pause.as_secs())
            }
            Self::HeldBack => f.write_str(
                "it has ended too often without being told to, and each start wears disk and element",
            ),
            Self::Element(error) => error.fmt(f),
            Self::NotWritten { why } => f.write_str(why),
            Self::System { action, source } => write!(f, "{action}: {source}"),
        }
    }
}
