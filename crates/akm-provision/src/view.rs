//! Every answer of the module as data: the one place from which text, `--json` and any other face are made.
//!
//! ```text
//!   module, element    who the module is; what elements are here
//!   node, asr, task    what there is, and how it stands
//!   ceremony           what was made, replaced or removed
//!   refusal, diagnosis why not, in the words of the face that shows it
//! ```
//!
//! The names of the fields are those of the JSON, which scripts rely on: a field may come, none goes or means another
//! thing. What only a text needs is left out there.
//!
//! An answer of which parts can fail holds a `Result` for each. As the module gives it, such a part is an
//! [`Error`](crate::error::Error); `refused_as` makes of it what a face shows, such as a [`Refusal`].

mod asr;
mod ceremony;
mod diagnosis;
mod element;
mod module;
mod node;
mod refusal;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use asr::asrs;
pub use asr::{Asr, Ended, Member, Members, Standing};
pub use ceremony::{PlaceTaken, Provisioned, ProvisioningRenewed, Removal, Replaced, Step};
pub use diagnosis::{CauseShown, Diagnosis};
pub use element::{Check, Element, ElementShown, ElementTest, ListedElement, protection_word};
pub use module::Module;
pub use node::{
    Held, HeldRelationship, JournalEntry, Node, NodeShown, Nodes, Proof, Resting, Root, Verification,
};
pub use refusal::Refusal;
pub use task::Task;

pub use crate::store::{NodeStatus, RelationshipState};

use std::fmt::Display;

use akm_core::text::hexadecimal;
use serde::{Serialize, Serializer};

/// A value in the text form that it has everywhere.
fn text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The same; null where there is none.
fn optional_text<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// Bytes in hexadecimal.
fn hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hexadecimal(bytes))
}

/// The same; null where there are none.
fn optional_hex<S: Serializer>(bytes: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.as_ref().map(|bytes| hexadecimal(bytes)).serialize(serializer)
}

/// A part of an answer: what was asked for, or why not, in its place.
fn part<T: Serialize, R: Serialize, S: Serializer>(
    part: &Result<T, R>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match part {
        Ok(value) => value.serialize(serializer),
        Err(refusal) => refusal.serialize(serializer),
    }
}

/// The same; null where it was not asked for.
fn optional_part<T: Serialize, R: Serialize, S: Serializer>(
    asked: &Option<Result<T, R>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match asked {
        Some(asked) => part(asked, serializer),
        None => serializer.serialize_none(),
    }
}
