//! What the command line looks like.

use std::path::PathBuf;

use akm_core::policy::Policy;
use clap::{Args, Parser, Subcommand};

use crate::error::CommandError;
use crate::names::parse_duration;

#[derive(Parser)]
#[command(
    name = "akm",
    version,
    about = "The AKM provisioning module: makes devices into nodes, and relationships between nodes",
    after_help = "Examples:\n  akm init --name plant\n  akm provision local:./n1 --name pump\n  akm provision ssh://root@10.0.0.7 --name valve\n  \
                  akm asr create line pump valve\n  akm verify --all\n\n\
                  Exit codes:\n  0  done\n  1  failed\n  2  usage\n  3  exists already, or nothing to do\n  \
                  4  the element refused, or is not ours\n  5  verification failed\n  \
                  6  parked or interrupted: run the same command again\n  7  not reachable\n  \
                  8  held by another command"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
    /// The home of the module (otherwise $AKM_HOME, or ~/.local/share/akm)
    #[arg(long, global = true, env = "AKM_HOME", value_name = "DIR")]
    pub(super) home: Option<PathBuf>,
    /// Read the passphrase of the vault from this file instead of the terminal
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say more on standard error; up to three times
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make this machine the AKM root and a provisioning module
    #[command(
        after_help = "Examples:\n  akm init --name plant\n  akm init --name plant --vault tpm:device:/dev/tpmrm0"
    )]
    Init {
        /// What the module is called; otherwise the host name
        #[arg(long)]
        name: Option<String>,
        /// Seal the vault under a passphrase instead of a key file
        #[arg(long)]
        passphrase: bool,
        /// Let this secure element make the vault key; it must be plugged in for every command
        #[arg(long, value_name = "ELEMENT", conflicts_with_all = ["passphrase", "passphrase_file"])]
        vault: Option<String>,
    },
    /// Make a target into an AKM node: create, save, install, store, verify
    #[command(
        after_help = "Examples:\n  akm provision local:./n1 --name pump\n  akm provision ssh://pi@10.0.0.7 --name valve --listen 0.0.0.0:47100\n  \
                      akm provision --resume\n  akm provision local:./n1 --again\n  \
                      akm provision ssh://root@10.0.0.7 --element tpm:device:/dev/tpmrm0\n  \
                      akm provision --attach 'card:Swissbit' --card-keys keys --name boiler\n  \
                      akm provision ssh://root@10.0.0.8 --resume boiler"
    )]
    Provision(ProvisionArguments),
    /// Ask nodes who they are, and compare
    #[command(after_help = "Examples:\n  akm verify pump\n  akm verify --all")]
    Verify {
        /// Name of a node
        node: Option<String>,
        /// All active nodes
        #[arg(long, conflicts_with = "node")]
        all: bool,
    },
    /// Nodes
    #[command(after_help = "Examples:\n  akm node list\n  akm node remove pump")]
    #[command(subcommand)]
    Node(NodeCommand),
    /// AKM security relationships
    #[command(
        after_help = "Examples:\n  akm asr create line pump valve\n  akm asr add line boiler\n  akm asr show line"
    )]
    #[command(subcommand)]
    Asr(AsrCommand),
    /// Why two nodes do not reach each other, and what to do
    #[command(after_help = "Examples:\n  akm diagnose pump valve\n  akm diagnose pump valve --asr line")]
    Diagnose {
        /// Name of a node
        one: String,
        /// Name of the other
        other: String,
        /// Look at this ASR only
        #[arg(long, value_name = "NAME")]
        asr: Option<String>,
    },
    /// Stay running: carry parked work on, renew ASRs in which members found back
    #[command(after_help = "Examples:\n  akm serve\n  akm serve --metrics 127.0.0.1:9464 --every 5m")]
    Serve {
        /// Show /health and /metrics over HTTP at this address, which must be on loopback
        #[arg(long, value_name = "ADDR:PORT")]
        metrics: Option<std::net::SocketAddr>,
        /// Ask all nodes how they stand once in this time
        #[arg(long, value_name = "TIME", default_value = "1m")]
        every: String,
    },
    /// What is parked for nodes that were away
    #[command(after_help = "Examples:\n  akm tasks\n  akm tasks --json")]
    Tasks,
    /// Secure elements at this machine
    #[command(
        after_help = "Examples:\n  akm element list\n  akm element show tpm:device:/dev/tpmrm0\n  akm element test tpm:device:/dev/tpmrm0"
    )]
    #[command(subcommand)]
    Element(ElementCommand),
    /// Show the whole of it with a throw-away module and four local targets
    #[command(after_help = "Examples:\n  akm demo\n  akm demo --keep")]
    Demo {
        /// Keep the files, and say where
        #[arg(long)]
        keep: bool,
    },
}

#[derive(Args)]
pub(super) struct ProvisionArguments {
    /// local:DIR or ssh://[user@]host[:port][/dir]
    pub(super) target: Option<String>,
    /// What the node is called; otherwise a name is made from the target
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The node's element, as the target reaches it: software, tpm:device:PATH, tpm:swtpm:host=HOST,port=PORT, a
    /// PKCS#11 URI, or card:READER; otherwise the one that the device has, or software
    #[arg(long)]
    pub(super) element: Option<String>,
    /// Fill this element here, where it is plugged in, before it goes into its target
    #[arg(
        long,
        value_name = "ELEMENT",
        requires = "name",
        conflicts_with_all = ["target", "element", "listen", "endpoint", "ssh_config", "again", "resume"]
    )]
    pub(super) attach: Option<String>,
    /// The file with the static keys of the card, where the element is one; the module keeps them sealed
    #[arg(long, value_name = "FILE")]
    pub(super) card_keys: Option<PathBuf>,
    /// The akmd to install; otherwise the one beside this program
    #[arg(long, value_name = "PATH")]
    pub(super) stack: Option<PathBuf>,
    /// Where the stack listens, UDP and TCP; otherwise a free port (local) or 0.0.0.0:47100 (ssh)
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<String>,
    /// Where the module and other nodes reach it; otherwise made from the target
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) endpoint: Option<String>,
    /// Configuration for ssh, instead of your own
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_config: Option<PathBuf>,
    /// Make a device that was provisioned before into a new node; the old relationship is erased
    #[arg(long)]
    pub(super) again: bool,
    /// Go on where a ceremony was cut off; without a name, with the only one. With a target: the element that was
    /// filled here is in it by now
    #[arg(long, value_name = "NODE", num_args = 0..=1, conflicts_with_all = ["name", "again"])]
    pub(super) resume: Option<Option<String>>,
}

#[derive(Subcommand)]
pub(super) enum NodeCommand {
    /// All nodes, the root first
    #[command(after_help = "Examples:\n  akm node list\n  akm node list --json")]
    List,
    /// One node, with the journal of its ceremony
    #[command(after_help = "Example:\n  akm node show pump")]
    Show {
        /// Name of the node
        node: String,
    },
    /// Put a new device in the place of a node that is lost, in all its ASRs; the old one is shut out
    #[command(
        after_help = "Examples:\n  akm node replace pump ssh://root@10.0.0.9\n  akm node replace pump local:./n9 --name pump2"
    )]
    Replace {
        /// Name of the node that is lost
        old: String,
        #[command(flatten)]
        order: Box<ReplaceArguments>,
    },
    /// Erase a node's credentials and stack, and remove it from the module
    #[command(after_help = "Examples:\n  akm node remove pump\n  akm node remove pump --force")]
    Remove {
        /// Name of the node
        node: String,
        /// Even if it cannot be reached, or is a member of ASRs
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args)]
pub(super) struct ReplaceArguments {
    /// local:DIR or ssh://[user@]host[:port][/dir] of the new device
    pub(super) target: String,
    /// What the new node is called; otherwise as the old one
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The new node's element, as the target reaches it; otherwise software
    #[arg(long)]
    pub(super) element: Option<String>,
    /// The file with the static keys of the card, where the element is one; the module keeps them sealed
    #[arg(long, value_name = "FILE")]
    pub(super) card_keys: Option<PathBuf>,
    /// The akmd to install; otherwise the one beside this program
    #[arg(long, value_name = "PATH")]
    pub(super) stack: Option<PathBuf>,
    /// Where the stack listens, UDP and TCP; otherwise a free port (local) or 0.0.0.0:47100 (ssh)
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<String>,
    /// Where the module and other nodes reach it; otherwise made from the target
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) endpoint: Option<String>,
    /// Configuration for ssh, instead of your own
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_config: Option<PathBuf>,
}

impl ReplaceArguments {
    /// The same as an order to provision.
    pub(super) fn as_provision(&self) -> ProvisionArguments {
        ProvisionArguments {
            target: Some(self.target.clone()),
            name: self.name.clone(),
            element: self.element.clone(),
            attach: None,
            card_keys: self.card_keys.clone(),
            stack: self.stack.clone(),
            listen: self.listen.clone(),
            endpoint: self.endpoint.clone(),
            ssh_config: self.ssh_config.clone(),
            again: false,
            resume: None,
        }
    }
}

#[derive(Subcommand)]
pub(super) enum AsrCommand {
    /// Make an ASR between two or more active nodes; the same command again goes on with a parked one
    #[command(after_help = "Example:\n  akm asr create line pump valve --rotate-after 10m")]
    Create {
        /// Name of the ASR
        name: String,
        /// Names of the members
        #[arg(required = true)]
        members: Vec<String>,
        #[command(flatten)]
        policy: PolicyArguments,
    },
    /// All ASRs
    #[command(after_help = "Examples:\n  akm asr list\n  akm asr list --json")]
    List,
    /// One ASR, as each member sees it
    #[command(after_help = "Example:\n  akm asr show line")]
    Show {
        /// Name of the ASR
        name: String,
    },
    /// Let nodes join an ASR; no message between the others is lost
    #[command(after_help = "Example:\n  akm asr add line boiler")]
    Add {
        /// Name of the ASR
        name: String,
        /// Names of the nodes
        #[arg(required = true)]
        members: Vec<String>,
        #[command(flatten)]
        absent: AbsentArguments,
    },
    /// Shut members out of an ASR: they open nothing that is sent after the change
    #[command(
        after_help = "Examples:\n  akm asr remove line boiler\n  akm asr remove line boiler --without-absent"
    )]
    Remove {
        /// Name of the ASR
        name: String,
        /// Names of the members
        #[arg(required = true)]
        members: Vec<String>,
        #[command(flatten)]
        absent: AbsentArguments,
    },
    /// Give an ASR fresh keys
    #[command(after_help = "Examples:\n  akm asr renew line\n  akm asr renew line --suspect")]
    Renew {
        /// Name of the ASR
        name: String,
        /// Somebody may have had control of a member: new roots in all elements too; frames in flight are lost
        #[arg(long)]
        suspect: bool,
        #[command(flatten)]
        absent: AbsentArguments,
    },
    /// Change when the members of an ASR move on; what is not named stays
    #[command(after_help = "Example:\n  akm asr policy line --rotate-after 10m")]
    Policy {
        /// Name of the ASR
        name: String,
        #[command(flatten)]
        policy: PolicyChangeArguments,
        #[command(flatten)]
        absent: AbsentArguments,
    },
    /// End an ASR; its members erase it
    #[command(after_help = "Example:\n  akm asr delete line")]
    Delete {
        /// Name of the ASR
        name: String,
    },
}

#[derive(Args)]
pub(super) struct AbsentArguments {
    /// Begin although members are away; they get the change when they are next reached, and hear nothing until then
    #[arg(long)]
    pub(super) without_absent: bool,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub(super) struct PolicyChangeArguments {
    /// Leave an epoch when it is this old
    #[arg(long, value_name = "TIME")]
    rotate_after: Option<String>,
    /// Leave an epoch after this many frames of one member; 0: only at the limit of the cipher
    #[arg(long, value_name = "N")]
    rotate_frames: Option<u32>,
    /// A member moves on by itself at most once in this time
    #[arg(long, value_name = "TIME")]
    advance_interval: Option<String>,
    /// How long frames of an epoch, or of a generation, that was left are still taken in
    #[arg(long, value_name = "TIME")]
    overlap: Option<String>,
}

impl PolicyChangeArguments {
    /// The policy with what was named changed.
    pub(super) fn change(&self, mut policy: Policy) -> Result<Policy, CommandError> {
        if let Some(text) = &self.rotate_after {
            policy.rotate_after = duration("rotate-after", text)?;
        }
        if let Some(frames) = self.rotate_frames {
            policy.rotate_frames = frames;
        }
        if let Some(text) = &self.advance_interval {
            policy.advance_interval = duration("advance-interval", text)?;
        }
        if let Some(text) = &self.overlap {
            policy.overlap = duration("overlap", text)?;
        }
        Ok(policy)
    }
}

pub(super) fn duration(option: &str, text: &str) -> Result<std::time::Duration, CommandError> {
    let duration =
        parse_duration(text).map_err(|error| CommandError::Usage(format!("--{option} {text}: {error}")))?;
    if duration.as_millis() == 0 {
        return Err(CommandError::Usage(format!("--{option} {text}: at least 1ms")));
    }
    Ok(duration)
}

#[derive(Args)]
pub(super) struct PolicyArguments {
    /// Leave an epoch when it is this old
    #[arg(long, value_name = "TIME", default_value = "1h")]
    rotate_after: String,
    /// Leave an epoch after this many frames of one member; 0: only at the limit of the cipher
    #[arg(long, value_name = "N", default_value_t = 0)]
    rotate_frames: u32,
    /// A member moves on by itself at most once in this time
    #[arg(long, value_name = "TIME", default_value = "1s")]
    advance_interval: String,
}

impl PolicyArguments {
    pub(super) fn policy(&self) -> Result<Policy, CommandError> {
        Ok(Policy {
            rotate_after: duration("rotate-after", &self.rotate_after)?,
            rotate_frames: self.rotate_frames,
            advance_interval: duration("advance-interval", &self.advance_interval)?,
            ..Policy::default()
        })
    }
}

#[derive(Subcommand)]
pub(super) enum ElementCommand {
    /// The elements that this machine has
    #[command(after_help = "Examples:\n  akm element list\n  akm element list --json")]
    List,
    /// What an element says of itself; changes nothing
    #[command(after_help = "Example:\n  akm element show tpm:device:/dev/tpmrm0")]
    Show {
        /// The element, as in --element
        element: String,
    },
    /// Try everything that AKM asks of an element; not for one that a node uses
    #[command(
        after_help = "Examples:\n  akm element test tpm:device:/dev/tpmrm0\n  akm element test card:Swissbit --card-keys keys"
    )]
    Test {
        /// The element, as in --element
        element: String,
        /// The file with the static keys of the card, where the element is one
        #[arg(long, value_name = "FILE")]
        card_keys: Option<PathBuf>,
    },
}
