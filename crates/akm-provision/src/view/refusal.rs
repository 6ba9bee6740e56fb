//! Why something was not done, as a face shows it.

use serde::Serialize;

use crate::error::Kind;

/// Why something was not done: a word for scripts, one line of what happened, and the ways out, the likeliest first.
///
/// The ways out are those of the face that shows it, such as commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub kind: Kind,
    /// What happened, with all causes.
    pub error: String,
    /// What can be done about it.
    pub hints: Vec<String>,
}
