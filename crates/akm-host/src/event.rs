//! What happens to a node, for whoever watches: data, no words.

use alloc::string::String;

use akm_core::session::{self, SessionError};

/// What happened. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session says so.
    Session(session::Event),
    /// A frame of a generation that is gone was dropped; its sender is told.
    OldGeneration,
    /// A generation was installed.
    Installed,
    /// A generation ended, as a later one followed it.
    Ended,
    /// A relationship was erased.
    Erased,
    /// The module has erased the node.
    Disowned,
    /// A generation has no good place at the start.
    Rests(Rest),
    /// A generation is of no use, and is left alone.
    SetAside(Aside),
    /// A frame could not be received, by the fault of this node.
    NotReceived(SessionError),
    /// A relationship could not act when its time had come.
    NotMovedOn(SessionError),
    /// A response could not be sent to the module.
    NotAnswered(SessionError),
    /// A record could not be written: what rests on it is not sent, and is tried again.
    NotRecorded(String),
    /// Records can be written again.
    RecordedAgain,
    /// Where a member is is not remembered across a start.
    EndpointsNotKept(String),
    /// What is left of a generation that ended could not be erased: the next start does it.
    NotTidied(String),
    /// The element does not answer.
    ElementGone(String),
    /// The element answers again.
    ElementBack,
}

/// Why a relationship has no good place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// There is none.
    Missing,
    /// It fails its own checks.
    Damaged,
    /// It cannot be read.
    Unreadable(String),
    /// It is from another start than the element's counter says.
    RolledBack,
}

/// Why a generation is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Aside {
    /// Its records cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Its records are missing, and it is that of a module.
    #[error("its records are missing")]
    Missing,
    /// The start could not be recorded in it: it counts as rolled back from here on.
    #[error(
        "{0}; the start of this stack could not be recorded in it, so it counts as rolled back from here on"
    )]
    NotRecorded(String),
    /// No session can be begun with it.
    #[error("{0}")]
    Unusable(String),
}
