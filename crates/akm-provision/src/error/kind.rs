//! The kinds of refusals: the words that scripts test.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $word:literal,)*) => {
        /// What kind of refusal something is. Its word never changes; the text beside it may.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])* $name,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// It failed for a reason that nothing here can tell apart.
    Failed = "failed",
    /// A file or directory of the module cannot be used.
    File = "file",
    /// Store or vault are damaged, of a later program, or not of one backup.
    ModuleDamaged = "module-damaged",
    /// The vault does not open with this passphrase, or with none.
    VaultClosed = "vault-closed",
    /// The program for the node is missing, or is none.
    NoStack = "no-stack",
    /// The target is of another architecture than the stack.
    WrongArchitecture = "wrong-architecture",
    /// The target lacks what an installation needs, or its directory is in use.
    TargetUnfit = "target-unfit",
    /// Something went wrong at the target.
    TargetFailed = "target-failed",
    /// The device is the node of another module.
    AnotherModule = "another-module",
    /// The node understood, and refused.
    NodeRefused = "node-refused",
    /// The secrets that this takes are gone.
    CredentialsGone = "credentials-gone",
    /// The node is a member of ASRs.
    IsMember = "is-member",
    /// A member of the ASR is no node any more.
    MemberGone = "member-gone",
    /// The command line is malformed, or what it orders does not fit together.
    Usage = "usage",
    /// The node is being made or removed.
    NotActive = "not-active",
    /// Several are meant: name one.
    Ambiguous = "ambiguous",
    /// It is so already.
    Exists = "exists",
    /// There is nothing to do.
    NothingToDo = "nothing-to-do",
    /// An element refused, or does not answer.
    ElementRefused = "element-refused",
    /// The element is somebody else's.
    ElementOfAnother = "element-of-another",
    /// A node is not what was installed.
    NotAsInstalled = "not-as-installed",
    /// Whoever answers does not prove to be the node.
    NotProven = "not-proven",
    /// A member does not hold the ASR, or rests in it.
    Resting = "resting",
    /// A ceremony was cut off.
    Interrupted = "interrupted",
    /// A ceremony waits until the element is in its target.
    Waits = "waits",
    /// A change of an ASR waits for members that are away.
    Parked = "parked",
    /// Members that have a generation were not told to begin.
    BeginsLater = "begins-later",
    /// A target or a node cannot be reached.
    Unreachable = "unreachable",
    /// Another command holds it.
    Held = "held",
    /// The name is that of something else.
    OtherName = "other-name",
    /// Something else is at this target.
    OtherTarget = "other-target",
    /// The ASR has other members.
    OtherMembers = "other-members",
    /// The ASR has another policy.
    OtherPolicy = "other-policy",
    /// The node has, or began with, another element.
    OtherElement = "other-element",
    /// There is no such node.
    NoNode = "no-node",
    /// There is no such ASR.
    NoAsr = "no-asr",
    /// There is no module.
    NoModule = "no-module",
}

impl Kind {
    /// Whether what was begun merely failed, so that going on is the next thing: nobody refused, and nothing is away.
    pub(crate) const fn is_mere_failure(self) -> bool {
        matches!(
            self,
            Self::Failed
                | Self::File
                | Self::ModuleDamaged
                | Self::VaultClosed
                | Self::NoStack
                | Self::WrongArchitecture
                | Self::TargetUnfit
                | Self::TargetFailed
                | Self::AnotherModule
                | Self::NodeRefused
                | Self::CredentialsGone
        )
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
