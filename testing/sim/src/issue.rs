//! A generation of a relationship, with the secrets that the module has of it.

use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::{
    ElementRoot, Generation, GenerationSecrets, Kind, ParameterDataVector, SynchronizedDataSet, Tag,
};
use akm_core::secret::Secret;
use akm_core::session::RandomSource;

use crate::random::{Part, Random};
use crate::setup::{RelationshipSetup, Setup};

/// A generation of a relationship, as its module made it. Each has a number of its own, the first ones that
/// of their relationship.
#[derive(Debug)]
pub struct Issue {
    /// The number of the relationship.
    pub relationship: usize,
    /// The numbers of its members, by index.
    pub members: Vec<usize>,
    /// Whether it is active from the beginning.
    pub active: bool,
    /// The public part.
    pub sds: SynchronizedDataSet,
    /// The tag that its frames bear.
    pub tag: Tag,
    random: Random,
    /// The generation that brought the element root, if it was not this one.
    root_of: Option<Box<(Random, SynchronizedDataSet)>>,
}

impl Issue {
    /// Makes the first generation of each relationship of a setup.
    pub fn first(setup: &Setup) -> Vec<Self> {
        let mut issued: Vec<Self> = Vec::new();
        for (number, wanted) in setup.relationships.iter().enumerate() {
            let mut made = Self::new(setup.seed, number, wanted);
            if let Some(first) = issued.first().filter(|_| setup.one_tag) {
                made.tag = first.tag;
            }
            issued.push(made);
        }
        issued
    }

    fn new(seed: u64, number: usize, wanted: &RelationshipSetup) -> Self {
        let mut random = Random::stream(seed, Part::Module, number);
        let mut instance = [0; 16];
        random.fill(&mut instance);
        let id = u128::MAX - number as u128;
        let sds = SynchronizedDataSet::new(Generation {
            kind: Kind::Communication,
            relationship: RelationshipId::from_bytes(id.to_be_bytes()).expect("not zero"),
            generation: 1,
            element_version: 1,
            instance,
            suite: wanted.suite,
            members: wanted.members.iter().map(|member| id_of_node(*member)).collect(),
            policy: wanted.policy.emit(),
        })
        .expect("a setup has two members or more, in ascending order");
        let mut issue = Self {
            relationship: number,
            members: wanted.members.clone(),
            active: wanted.active,
            sds,
            tag: Tag([0; 4]),
            random,
            root_of: None,
        };
        issue.tag = issue.secrets().tag;
        issue
    }

    /// The next generation after this one, or one above it.
    pub fn next(&self, mut random: Random, generation: u32, version: u32, members: &[usize]) -> Self {
        let mut instance = [0; 16];
        random.fill(&mut instance);
        let sds = SynchronizedDataSet::new(Generation {
            kind: Kind::Communication,
            relationship: self.sds.relationship(),
            generation,
            element_version: version,
            instance,
            suite: self.sds.suite(),
            members: members.iter().map(|member| id_of_node(*member)).collect(),
            policy: self.sds.policy().to_vec(),
        })
        .expect("two members or more, each once");
        let root_of = (version == self.sds.element_version()).then(|| match &self.root_of {
            Some(first) => first.clone(),
            None => Box::new((self.random.clone(), self.sds.clone())),
        });
        let (relationship, members) = (self.relationship, members.to_vec());
        let mut made = Self { relationship, members, active: false, sds, tag: Tag([0; 4]), random, root_of };
        made.tag = made.secrets().tag;
        made
    }

    /// The root for the elements of its members.
    pub fn element_root(&self) -> ElementRoot {
        match &self.root_of {
            None => self.secrets().element_root,
            Some(first) => {
                let (mut random, sds) = (first.0.clone(), &first.1);
                ParameterDataVector::new(Secret::fill(|vector| random.fill(vector))).derive(sds).element_root
            }
        }
    }

    /// The secrets of its generation, as often as somebody needs them.
    pub fn secrets(&self) -> GenerationSecrets {
        let mut random = self.random.clone();
        ParameterDataVector::new(Secret::fill(|vector| random.fill(vector))).derive(&self.sds)
    }
}

/// The AKM ID of a node of this number. They ascend with the numbers, so that members stand in the
/// same order in a setup and in an SDS.
pub fn id_of_node(number: usize) -> AkmId {
    AkmId::from_bytes((number as u128 + 1).to_be_bytes()).expect("not zero")
}

/// The number of the node of an AKM ID.
pub fn node_of_id(id: AkmId) -> usize {
    (u128::from_be_bytes(*id.as_bytes()) - 1) as usize
}
