//! The one place where a root is born: generations are made here, and nothing else draws secrets for them.
//!
//! ```text
//!   system's random bytes -> parameter data vector -> element root, host part
//! ```
//!
//! What is made stands in memory only. It is for the caller to save it before anything of it leaves the module.

use akm_core::crypto::{Suite, provider};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::policy::Policy;
use akm_core::sds::{
    ElementRoot, Generation, GenerationSecrets, HostPart, InvalidSds, Kind, ParameterDataVector,
    SynchronizedDataSet,
};
use akm_core::seal::{HostPartSeal, SEALED_HOST_PART_LENGTH};
use akm_core::secret::Secret;
use akm_element::random;

/// What all generations of this module are sealed with.
const SUITE: Suite = Suite::Aes256Gcm;

/// A generation that was just made.
#[derive(Debug)]
pub struct Minted {
    /// Its public part.
    pub sds: SynchronizedDataSet,
    /// Its secrets.
    pub secrets: GenerationSecrets,
}

/// An AKM ID that no node has.
pub fn akm_id() -> AkmId {
    AkmId::from_random(random())
}

/// The provisioning relationship of a node with the root of the module.
pub fn provisioning(root: AkmId, node: AkmId) -> Result<Minted, InvalidSds> {
    mint(Generation {
        kind: Kind::Provisioning,
        relationship: RelationshipId::from_random(random()),
        generation: 1,
        element_version: 1,
        instance: random(),
        suite: SUITE,
        members: vec![root, node],
        policy: Policy::provisioning().emit(),
    })
}

/// The first generation of an ASR.
pub fn asr(members: Vec<AkmId>, policy: &Policy) -> Result<Minted, InvalidSds> {
    mint(Generation {
        kind: Kind::Communication,
        relationship: RelationshipId::from_random(random()),
        generation: 1,
        element_version: 1,
        instance: random(),
        suite: SUITE,
        members,
        policy: policy.emit(),
    })
}

/// A later generation of an ASR. Its element root is of use only if its element version is above those before.
pub fn next(
    relationship: RelationshipId,
    generation: u32,
    element_version: u32,
    members: Vec<AkmId>,
    policy: Vec<u8>,
) -> Result<Minted, InvalidSds> {
    mint(Generation {
        kind: Kind::Communication,
        relationship,
        generation,
        element_version,
        instance: random(),
        suite: SUITE,
        members,
        policy,
    })
}

/// A later generation of a provisioning relationship, between the same two.
pub fn next_provisioning(
    before: &SynchronizedDataSet,
    generation: u32,
    element_version: u32,
) -> Result<Minted, InvalidSds> {
    mint(Generation {
        kind: Kind::Provisioning,
        relationship: before.relationship(),
        generation,
        element_version,
        instance: random(),
        suite: SUITE,
        members: before.members().to_vec(),
        policy: Policy::provisioning().emit(),
    })
}

fn mint(generation: Generation) -> Result<Minted, InvalidSds> {
    let sds = SynchronizedDataSet::new(generation)?;
    let secrets = ParameterDataVector::new(Secret::take(&mut random())).derive(&sds);
    Ok(Minted { sds, secrets })
}

/// Seals the host part of a generation for one member, so that it opens under the element root alone.
pub fn seal_host_part(
    part: &HostPart,
    root: &ElementRoot,
    sds: &SynchronizedDataSet,
    member: AkmId,
) -> [u8; SEALED_HOST_PART_LENGTH] {
    // What is sealed for somebody else opens at nobody.
    let index = sds.index_of(member).unwrap_or(u16::MAX);
    let sealed = HostPartSeal::by_root(root, sds).seal(provider(), index, &random(), part);
    sealed.try_into().expect("a sealed host part has one length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_generations_share_a_root() {
        let members = [1, 2].map(|number| AkmId::from_random([number; 16])).to_vec();
        let policy = Policy::provisioning();
        let first = asr(members.clone(), &policy).unwrap();
        let again = asr(members.clone(), &policy).unwrap();
        assert_ne!(first.sds.relationship(), again.sds.relationship());
        let later = next(first.sds.relationship(), 2, 2, members, policy.emit()).unwrap();
        for other in [&again, &later] {
            assert!(!first.secrets.element_root.equals(other.secrets.element_root.expose()));
            assert!(!first.secrets.host.tree_root.equals(other.secrets.host.tree_root.expose()));
        }
    }

    #[test]
    fn a_provisioning_relationship_binds_the_root_and_the_node() {
        let [root, node] = [1, 2].map(|number| AkmId::from_random([number; 16]));
        let minted = provisioning(root, node).unwrap();
        assert_eq!((minted.sds.kind(), minted.sds.members()), (Kind::Provisioning, &[root, node][..]));
        assert_eq!((minted.sds.generation(), minted.sds.element_version()), (1, 1));
    }
}
