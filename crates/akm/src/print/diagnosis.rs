//! Why two nodes do not reach each other.

use crate::error::CommandError;
use akm_provision::diagnosis::Finding;
use akm_provision::names::Name;
use serde_json::json;

use super::{say, say_json};

/// Why two nodes do not reach each other.
pub(crate) fn diagnosis(nodes: [&Name; 2], findings: &[Finding], as_json: bool) -> Result<(), CommandError> {
    if as_json {
        let list = findings.iter().map(|finding| {
            json!({
                "cause": finding.cause.name(),
                "asr": finding.asr.as_ref().map(Name::as_str),
                "what": finding.what,
                "to_do": finding.cure,
            })
        });
        let nodes = nodes.map(Name::as_str);
        return say_json(&json!({ "nodes": nodes, "causes": list.collect::<Vec<_>>() }));
    }
    if findings.is_empty() {
        return say(&format!(
            "no cause found: as far as both tell, {} and {} reach each other",
            nodes[0], nodes[1]
        ));
    }
    for finding in findings {
        say(&format!("{}: {}", finding.cause.name(), finding.what))?;
        say(&format!("  to do: {}", finding.cure))?;
    }
    Ok(())
}
