//! ASRs, and how their members stand.

use akm_provision::error::Kind;
use akm_provision::names::Name;
use akm_provision::view::{Asr, Ended, Member, Members, Standing};

use super::{row, say, say_json, table, trouble};
use crate::error::{CommandError, exit_code};

/// All ASRs.
pub(crate) fn asrs(asrs: &[Asr], as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(&asrs);
    }
    let mut rows = vec![row(&["NAME", "RELATIONSHIP", "STATUS", "GENERATION", "MEMBERS"])];
    for asr in asrs {
        rows.push(row(&[
            asr.name.as_ref().map_or("-", Name::as_str),
            &asr.relationship_id.to_string(),
            asr.status,
            &asr.generation.to_string(),
            &asr.members.join(", "),
        ]));
    }
    table(&rows)
}

/// One ASR, as its members see it.
pub(crate) fn members(shown: &Members<CommandError>, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(shown);
    }
    let Members { asr, relationship_id, status, members } = shown;
    let id = relationship_id.map(|id| id.to_string()).unwrap_or_default();
    say(&format!("ASR {asr} ({id}) is {status}"))?;
    let mut rows = vec![row(&["MEMBER", "GENERATION", "EPOCH", "PHASE"])];
    for member in members {
        rows.push(match &member.standing {
            Ok(standing) => {
                let [generation, epoch, phase] = standing_cells(standing);
                vec![member.node.to_string(), generation, epoch, phase]
            }
            Err(_) => row(&[member.node.as_str(), "-", "-", "not reached"]),
        });
    }
    table(&rows)?;
    for member in members {
        match &member.standing {
            Ok(Standing { rests: Some(how), .. }) => trouble(&resting(asr, &member.node, how)),
            Ok(_) => {}
            Err(error) => trouble(error),
        }
    }
    Ok(())
}

/// A member does not send in an ASR.
fn resting(asr: &Name, node: &Name, how: &str) -> CommandError {
    CommandError::new(Kind::Resting, format!("node {node} rests in this ASR: {how}"))
        .hint("akmd status on the device says why")
        .hint(format!("a new generation has it back: akm asr renew {asr}"))
}

/// What a command that shows a member exits with: 0 if all is well.
pub(crate) fn member_exit_code(member: &Member<CommandError>) -> u8 {
    match &member.standing {
        Ok(Standing { rests: Some(_), .. }) => exit_code(Kind::Resting),
        Ok(_) => 0,
        Err(error) => error.exit_code(),
    }
}

/// An ASR that is over.
pub(crate) fn deleted(ended: &Ended, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return say_json(ended);
    }
    say(&format!("ASR {} has ended", ended.asr))
}

/// Generation, epoch and phase as a table shows them.
pub(super) fn standing_cells(standing: &Standing) -> [String; 3] {
    let Standing { generation, epoch, phase, .. } = standing;
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let is_damaged = *generation == 0;
    [
        number((!is_damaged).then_some(*generation)),
        number(*epoch),
        if is_damaged { "damaged".to_owned() } else { format!("{phase:?}") },
    ]
}
