//! The words by which programs tell one refusal from another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)+) => {
        /// What kind of refusal it is. The words are a contract, the texts of refusals are not.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Kind {
            $($(#[$doc])* #[serde(rename = $word)] $kind,)+
            /// A word that this version does not know: look at the exit code.
            #[default]
            #[serde(other, rename = "other")]
            Other,
        }

        impl Kind {
            /// All that a stack says.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                    Self::Other => "other",
                }
            }
        }
    };
}

kinds! {
    /// Something failed that has no kind of its own.
    Failed = "failed",
    /// A file cannot be read or written.
    File = "file",
    /// A file is damaged, missing, open to others, or something else is in its place.
    Damaged = "damaged",
    /// Another `akmd` works in the installation.
    Held = "held",
    /// The ASR is installed, and its module has not begun it.
    NotActive = "not-active",
    /// The ASR has no good place here, or cannot move on.
    Resting = "resting",
    /// The element is not there when the stack starts; it may be soon.
    ElementAway = "element-away",
    /// Nothing came within the time given.
    Silent = "silent",
    /// This user may not talk to the stack.
    NotPermitted = "not-permitted",
    /// The stack says what this version does not understand.
    NotUnderstood = "not-understood",
    /// The request or command line is malformed, or does not fit together.
    Usage = "usage",
    /// The message is longer than one frame carries.
    TooLong = "too-long",
    /// The node has no such ASR.
    NoAsr = "no-asr",
    /// The ASR has no such other member.
    NoMember = "no-member",
    /// The name fits several.
    Ambiguous = "ambiguous",
    /// The stack runs already.
    Running = "running",
    /// The device is no node.
    NotANode = "not-a-node",
    /// The device is a node already, and not this one.
    IsANode = "is-a-node",
    /// The element refused, or does not answer.
    ElementRefused = "element-refused",
    /// The element holds what is another's.
    ElementOfAnother = "element-of-another",
    /// No stack runs, or it stopped.
    NotRunning = "not-running",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_its_word_in_json_and_a_later_word_is_another() {
        for kind in Kind::ALL {
            let word = format!("{:?}", kind.as_str());
            assert_eq!(serde_json::to_string(kind).unwrap(), word);
            assert_eq!(serde_json::from_str::<Kind>(&word).unwrap(), *kind);
        }
        assert_eq!(serde_json::from_str::<Kind>("\"of-a-later-version\"").unwrap(), Kind::Other);
    }
}
