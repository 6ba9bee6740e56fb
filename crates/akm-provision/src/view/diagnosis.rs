//! Why two nodes do not reach each other, where a face shows it.

use serde::{Serialize, Serializer};

use crate::diagnosis::{Cause, Finding};
use crate::names::Name;

/// Why two nodes do not reach each other, the gravest cause first; nothing where none was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The two.
    pub nodes: [Name; 2],
    /// What stands between them.
    pub causes: Vec<CauseShown>,
}

/// One cause; what was found and what to do about it are in the words of the face that shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseShown {
    /// Its name.
    #[serde(serialize_with = "name")]
    pub cause: Cause,
    /// The ASR that it is about; absent where it is about a node as a whole.
    pub asr: Option<Name>,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub to_do: String,
}

impl CauseShown {
    /// A finding in these words.
    pub fn new(finding: &Finding, what: String, to_do: String) -> Self {
        Self { cause: finding.cause(), asr: finding.asr().cloned(), what, to_do }
    }
}

fn name<S: Serializer>(cause: &Cause, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cause.name())
}
