//! ASRs, and how their members stand.

use akm_core::id::{AkmId, RelationshipId};
use akm_core::management::RelationshipStatus;
use akm_core::session::Phase;
use akm_core::tree::NO_EPOCH;
use serde::{Serialize, Serializer};

use super::{part, text};
use crate::error::Error;
use crate::names::{Name, Timestamp};
use crate::relationship::{MemberReport, rests};
use crate::store::{Store, StoreError};

/// The word for an ASR that is over.
const ENDED: &str = "ended";

/// An ASR as the module knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asr {
    /// Its name.
    pub name: Option<Name>,
    /// Its relationship ID.
    #[serde(serialize_with = "text")]
    pub relationship_id: RelationshipId,
    /// Where it stands, in a word.
    pub status: &'static str,
    /// Its present generation.
    pub generation: u32,
    /// The names of its members, in their order; an AKM ID where the module knows no name.
    pub members: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// All ASRs, by name.
pub(crate) fn asrs(store: &Store) -> Result<Vec<Asr>, StoreError> {
    let mut listed = Vec::new();
    for asr in store.asrs()? {
        let mut members = Vec::new();
        for member in &asr.members {
            let node = store.node_by_id(member.node)?;
            members.push(node.map_or_else(|| member.node.to_string(), |node| node.name.to_string()));
        }
        members.sort_unstable();
        listed.push(Asr {
            relationship_id: asr.id(),
            status: asr.standing(),
            generation: asr.sds.generation(),
            members,
            created_at: asr.created_at,
            name: asr.name,
        });
    }
    Ok(listed)
}

/// How a relationship stands at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The generation in force; 0 if the node cannot read its record.
    pub generation: u32,
    /// The epoch, if it has one.
    pub epoch: Option<u32>,
    /// Counts failsafes.
    pub run: u32,
    /// The phase.
    #[serde(serialize_with = "phase")]
    pub phase: Phase,
    /// Why it does not send there, in a few words; `None` if it does, or will by itself.
    pub rests: Option<&'static str>,
}

impl From<&RelationshipStatus> for Standing {
    fn from(status: &RelationshipStatus) -> Self {
        Self {
            generation: status.generation,
            epoch: (status.epoch != NO_EPOCH).then_some(status.epoch),
            run: status.run,
            phase: status.phase,
            rests: rests(status),
        }
    }
}

fn phase<S: Serializer>(phase: &Phase, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{phase:?}"))
}

/// An ASR as each of its members sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(bound(serialize = "R: Serialize"))]
pub struct Members<R = Error> {
    /// Its name.
    pub asr: Name,
    /// Its relationship ID; empty in JSON where it has ended.
    #[serde(serialize_with = "text_or_nothing")]
    pub relationship_id: Option<RelationshipId>,
    /// Where it stands at the module, in a word.
    pub status: &'static str,
    /// Its members, by name.
    pub members: Vec<Member<R>>,
}

/// A member of an ASR.
#[derive(Clone, Debug, Serialize)]
#[serde(bound(serialize = "R: Serialize"))]
pub struct Member<R = Error> {
    /// Its name.
    pub node: Name,
    /// Its AKM ID.
    #[serde(serialize_with = "text")]
    pub akm_id: AkmId,
    /// How the ASR stands there, or why it could not be asked.
    #[serde(flatten, serialize_with = "part")]
    pub standing: Result<Standing, R>,
}

impl Members {
    /// The ASR of this name, with what its members say.
    pub(crate) fn of(store: &Store, asr: &Name, reports: Vec<MemberReport>) -> Result<Self, StoreError> {
        let found = store.asr_by_name(asr)?;
        let mut members: Vec<Member> = reports
            .into_iter()
            .map(|MemberReport { node, status }| Member {
                node: node.name,
                akm_id: node.id,
                standing: status.map(|status| Standing::from(&status)),
            })
            .collect();
        // By name: the order of the SDS is that of random identifiers.
        members.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(Self {
            asr: asr.clone(),
            relationship_id: found.as_ref().map(|asr| asr.id()),
            status: found.map_or(ENDED, |asr| asr.standing()),
            members,
        })
    }
}

impl<R> Members<R> {
    /// The same with what was refused as somebody shows it.
    pub fn refused_as<Q>(self, show: impl Fn(R) -> Q) -> Members<Q> {
        let Self { asr, relationship_id, status, members } = self;
        let shown =
            |Member { node, akm_id, standing }| Member { node, akm_id, standing: standing.map_err(&show) };
        Members { asr, relationship_id, status, members: members.into_iter().map(shown).collect() }
    }
}

fn text_or_nothing<S: Serializer>(id: &Option<RelationshipId>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_str(""),
    }
}

/// An ASR that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Its name.
    pub asr: Name,
    /// The word for where it stands.
    pub status: &'static str,
}

impl Ended {
    /// The ASR of this name is over.
    pub(crate) fn new(asr: Name) -> Self {
        Self { asr, status: ENDED }
    }
}
