//! Why an ASR is not made or changed.

use akm_core::sds::InvalidSds;

use super::Kind;
use crate::names::Name;
use crate::store::NodeStatus;

/// Why an ASR is not made or changed: by what whoever ordered it can do next.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no ASR of this name.
    #[error("there is no ASR {name}")]
    Unknown {
        /// The name.
        name: Name,
    },
    /// It is there as it was ordered.
    #[error("ASR {name} exists already")]
    Exists {
        /// Its name.
        name: Name,
    },
    /// One of this name is there, and is another.
    #[error("ASR {name} {} with other members or another policy", if *.parked { "is parked" } else { "exists already" })]
    Another {
        /// Its name.
        name: Name,
        /// Whether the members are others; else the policy is.
        members: bool,
        /// Whether it waits for members.
        parked: bool,
    },
    /// It is so already.
    #[error("{}", .state.of(.name))]
    AsItIs {
        /// The name of the ASR.
        name: String,
        /// What is so.
        state: AsItIs,
    },
    /// The members that were named make no ASR.
    #[error(transparent)]
    Members(#[from] Members),
    /// A member is no node any more: it has to be taken out first.
    #[error("{member} is no node any more")]
    MemberGone {
        /// The name of the ASR.
        asr: String,
        /// The member.
        member: String,
    },
    /// The member does not hold the ASR.
    #[error("node {name} does not hold this relationship")]
    NotHeld {
        /// The member.
        name: Name,
    },
    /// The member cannot be asked: it is no node in force.
    #[error("node {name} is {status}")]
    NotInForce {
        /// The member.
        name: Name,
        /// Where it stands.
        status: NodeStatus,
    },
    /// What the module holds is not enough to hand out a generation.
    #[error(transparent)]
    Lacks(#[from] Lacks),
}

/// What is so already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsItIs {
    /// The policy.
    Policy,
    /// All of them are members.
    Members,
    /// None of them is a member.
    NoMembers,
    /// The new node has the place.
    Replaced,
}

impl AsItIs {
    fn of(self, name: &str) -> String {
        match self {
            Self::Policy => format!("ASR {name} has this policy already"),
            Self::Members => format!("all of them are members of ASR {name} already"),
            Self::NoMembers => format!("none of them is a member of ASR {name}"),
            Self::Replaced => format!("ASR {name} has the new node already"),
        }
    }
}

/// Why the members that were named make no ASR.
#[derive(Debug, thiserror::Error)]
pub enum Members {
    /// An ASR of one would serve nobody.
    #[error("an ASR needs at least two members")]
    TooFew {
        /// The ASR that would be left with fewer, if there is one.
        left: Option<String>,
    },
    /// More than there is room for.
    #[error("an ASR has at most {most} members")]
    TooMany {
        /// The most.
        most: usize,
    },
    /// The module takes part in no ASR.
    #[error("{name} is the module itself, which takes part in no ASR: name nodes")]
    Module {
        /// The name of the module.
        name: Name,
    },
    /// One is named twice.
    #[error("{name} is named twice: each member once")]
    Twice {
        /// Who.
        name: Name,
    },
    /// It is none of them.
    #[error("ASR {asr} has no member {name}")]
    None {
        /// The ASR.
        asr: String,
        /// Who is no member.
        name: Name,
    },
    /// They make no valid public part.
    #[error(transparent)]
    Invalid(#[from] InvalidSds),
}

/// What is lacking to hand out a generation.
#[derive(Debug, thiserror::Error)]
pub enum Lacks {
    /// The secrets of the ASR.
    #[error("the secrets of ASR {name} are gone")]
    Secrets {
        /// The ASR.
        name: String,
    },
    /// The description of a member's element.
    #[error("the element of node {name} is not known")]
    Element {
        /// The member.
        name: Name,
    },
    /// A number that was not used yet.
    #[error("no {what} is left")]
    Number {
        /// Of what.
        what: &'static str,
    },
    /// Members hold a later generation, again and again.
    #[error("members hold a later generation, again and again: does another module change this ASR?")]
    Overtaken,
    /// A node holds a later generation of its provisioning relationship, again and again.
    #[error(
        "node {name} holds a later generation of its provisioning relationship, again and again: does another module \
         change it?"
    )]
    NodeOvertaken {
        /// The node.
        name: Name,
    },
    /// Something that the store should hold.
    #[error("the store does not hold {what}")]
    InStore {
        /// What.
        what: String,
    },
    /// A policy that can be read.
    #[error("the policy of ASR {name} is of a later akm")]
    Policy {
        /// The ASR.
        name: String,
    },
    /// The answer of a member.
    #[error("node {name} was not asked")]
    NotAsked {
        /// The member.
        name: Name,
    },
}

impl Refusal {
    /// What kind of refusal this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NoAsr,
            Self::Exists { .. } => Kind::Exists,
            Self::Another { members: true, .. } => Kind::OtherMembers,
            Self::Another { .. } => Kind::OtherPolicy,
            Self::AsItIs { .. } => Kind::NothingToDo,
            Self::Members(_) => Kind::Usage,
            Self::MemberGone { .. } => Kind::MemberGone,
            Self::NotHeld { .. } => Kind::Resting,
            Self::NotInForce { .. } => Kind::Failed,
            Self::Lacks(Lacks::Secrets { .. }) => Kind::CredentialsGone,
            Self::Lacks(Lacks::InStore { .. }) => Kind::ModuleDamaged,
            Self::Lacks(_) => Kind::Failed,
        }
    }
}
