//! What the commands print.

use akm_client::{NodeStatus, Reply};
use serde_json::json;

use super::{readable, say, say_json};
use crate::error::NodeError;

pub(super) fn status(status: &NodeStatus, as_json: bool) -> Result<(), NodeError> {
    if as_json {
        return say(&serde_json::to_string_pretty(status).expect("a status is plain data"));
    }
    identity(status, false)?;
    say(&format!("listens on          {}", status.listen))?;
    if status.unknown_frames > 0 {
        say(&format!("frames of nobody    {}", status.unknown_frames))?;
    }
    for relationship in &status.relationships {
        let epoch = relationship.epoch.map_or("-".to_owned(), |epoch| epoch.to_string());
        say("")?;
        let title = if relationship.kind == "communication" { "ASR " } else { "" };
        say(&format!("{title}{} ({})", relationship.name, relationship.id))?;
        say(&format!(
            "  {}, generation {}, epoch {epoch}; {} frames sent, {} accepted",
            relationship.phase, relationship.generation, relationship.sent, relationship.accepted
        ))?;
        if let Some(staged) = relationship.staged_generation {
            say(&format!("  generation {staged} waits for its activation"))?;
        }
        if let Some(found) = &relationship.last_found_back {
            let place = |run: Option<u32>, epoch: Option<u32>| match (run, epoch) {
                (None, _) => "no place".to_owned(),
                (Some(run), None) => format!("run {run}, before the first epoch"),
                (Some(run), Some(epoch)) => format!("run {run}, epoch {epoch}"),
            };
            say(&format!(
                "  found back by {}: from {} to {}",
                found.way,
                place(found.run_before, found.epoch_before),
                place(Some(found.run), found.epoch)
            ))?;
        }
        if let Some(trouble) = &relationship.trouble {
            say(&format!("  {trouble}"))?;
        }
        for (reason, count) in &relationship.rejected {
            say(&format!("  {count} dropped: {reason}"))?;
        }
        for member in relationship.members.iter().filter(|member| !member.this) {
            let heard = match member.heard_seconds_ago {
                Some(seconds) => format!("heard {seconds} s ago"),
                None => "not heard since the start".to_owned(),
            };
            let endpoint = member.endpoint.as_deref().unwrap_or("-");
            let name = if member.name.is_empty() { &member.akm_id } else { &member.name };
            say(&format!("  {name} at {endpoint}: {heard}"))?;
        }
    }
    for (relationship, why) in &status.damaged {
        say(&format!("\nset aside {relationship}: {why}"))?;
    }
    Ok(())
}

pub(super) fn identity(status: &NodeStatus, as_json: bool) -> Result<(), NodeError> {
    if as_json {
        let identity = json!({
            "name": status.name,
            "akm_id": status.akm_id,
            "provisioning_relationship_id": status.provisioning_relationship_id,
            "element": status.element,
            "element_description": status.element_description,
            "element_warning": status.element_warning,
            "stack_version": status.stack_version,
            "integrity_code": status.integrity_code,
        });
        return say_json(&identity);
    }
    say(&format!("node                {}", status.name))?;
    say(&format!("AKM ID              {}", status.akm_id))?;
    say(&format!("provisioned by      relationship {}", status.provisioning_relationship_id))?;
    say(&format!("element             {}", status.element))?;
    if !status.element_warning.is_empty() {
        say(&format!("                    {}", status.element_warning))?;
    }
    if let Some(trouble) = &status.element_trouble {
        say(&format!("                    {trouble}"))?;
    }
    say(&format!("stack               {}", status.stack_version))?;
    say(&format!("integrity code      {}", status.integrity_code))
}

pub(super) fn follow_line(reply: &Reply, as_json: bool) -> Result<(), NodeError> {
    if as_json {
        return say(reply.line().trim_end());
    }
    let number = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
    match reply {
        Reply::Message { from, from_name, data, .. } => {
            let name = if from_name.is_empty() { from } else { from_name };
            say(&format!("{name}: {}", readable(data)))
        }
        Reply::Frame { asr, source, sender, epoch, counter, verdict, .. } => say(&format!(
            "{verdict:<18} {source} {} sender {} epoch {} counter {}",
            asr.as_deref().unwrap_or("-"),
            number(sender.map(u32::from)),
            number(*epoch),
            number(*counter)
        )),
        Reply::Lost { count } => {
            eprintln!("akmd: {count} left out here: they came faster than they were read");
            Ok(())
        }
        Reply::Done | Reply::Failed { .. } | Reply::Status(_) => Ok(()),
    }
}
