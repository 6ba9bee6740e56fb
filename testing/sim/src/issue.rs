//! A generation of a relationship, with the secrets that the module has of it.

use std::net::SocketAddr;

use akm_core::crypto::{Suite, provider};
use akm_core::element::{Root, RootCheck, SecureElement};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::management::Install;
use akm_core::policy::Policy;
use akm_core::sds::{
    ElementRoot, Generation, GenerationSecrets, HostPart, Kind, ParameterDataVector, SynchronizedDataSet, Tag,
};
use akm_core::seal::{HostPartSeal, KeysSeal};
use akm_core::secret::Secret;
use akm_core::session::RandomSource;
use akm_host::{Endpoint, GenerationId, Installed};

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
        let sds = SynchronizedDataSet::new(Generation {
            kind: Kind::Communication,
            relationship: relationship_id(number),
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
        issue.tag = issue.secrets().host.keys.tag;
        issue
    }

    /// The provisioning relationship of a node.
    pub fn provisioning(seed: u64, node: usize) -> Self {
        let mut random = Random::stream(seed, Part::Provisioning, node);
        let mut instance = [0; 16];
        random.fill(&mut instance);
        let members = vec![MODULE, node];
        let sds = SynchronizedDataSet::new(Generation {
            kind: Kind::Provisioning,
            relationship: provisioning_id(node),
            generation: 1,
            element_version: 1,
            instance,
            suite: Suite::Aes256Gcm,
            members: members.iter().map(|member| id_of_node(*member)).collect(),
            policy: Policy::provisioning().emit(),
        })
        .expect("a module and a node");
        let relationship = usize::MAX;
        let active = true;
        let mut issue = Self { relationship, members, active, sds, tag: Tag([0; 4]), random, root_of: None };
        issue.tag = issue.secrets().host.keys.tag;
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
        made.tag = made.secrets().host.keys.tag;
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

    /// The name of that root in an element.
    pub fn root(&self) -> Root {
        self.sds.root(RootCheck::of(&self.element_root()))
    }

    /// What goes to the host of each member.
    pub fn host_part(&self) -> HostPart {
        let mut part = self.secrets().host;
        part.keys.tag = self.tag;
        part
    }

    /// Its relationship and generation.
    pub fn id(&self) -> GenerationId {
        (self.sds.relationship(), self.sds.generation())
    }

    /// What the module sends of it to a member, with where the members are.
    pub fn message(&self, member: usize, endpoints: Vec<String>) -> Install {
        let index = self.sds.index_of(id_of_node(member)).unwrap_or(u16::MAX);
        let mut random = [0; 16];
        self.random.clone().fill(&mut random);
        let seal = HostPartSeal::by_root(&self.element_root(), &self.sds);
        let host_part = seal.seal(provider(), index, &random, &self.host_part());
        Install {
            public_part: self.sds.emit(),
            wrapped_root: Some(self.element_root().expose().to_vec().into()),
            root_check: RootCheck::of(&self.element_root()),
            host_part: host_part.try_into().expect("a sealed host part has one length"),
            label: format!("relationship {}", self.relationship),
            member_labels: self.labels(),
            endpoints,
        }
    }

    /// What a member with this element keeps of it.
    pub fn installed(&self, member: usize, element: &mut dyn SecureElement) -> Installed {
        let addresses = self.members.iter().map(|member| address(*member, 0).to_string());
        let message = self.message(member, addresses.collect());
        let seal = KeysSeal::derive(element, &self.sds).expect("a new element answers");
        let (sds, part) = (self.sds.clone(), self.host_part());
        let sealed = seal.seal(provider(), &[member as u8; 16], &part.keys);
        Installed::of(message, sds, &part, sealed, self.active)
    }

    /// What its members are called.
    pub fn labels(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("node {member}")).collect()
    }

    /// The secrets of its generation, as often as somebody needs them.
    pub fn secrets(&self) -> GenerationSecrets {
        let mut random = self.random.clone();
        ParameterDataVector::new(Secret::fill(|vector| random.fill(vector))).derive(&self.sds)
    }
}

/// The number of the module among the nodes.
pub const MODULE: usize = usize::MAX - 1;

/// The ID of the relationship of this number.
pub fn relationship_id(number: usize) -> RelationshipId {
    RelationshipId::from_bytes((u128::MAX - number as u128).to_be_bytes()).expect("not zero")
}

/// The ID of the provisioning relationship of a node.
pub fn provisioning_id(node: usize) -> RelationshipId {
    RelationshipId::from_bytes((node as u128 + 1).to_be_bytes()).expect("not zero")
}

/// Whether this is a provisioning relationship.
pub fn is_provisioning(id: RelationshipId) -> bool {
    u128::from_be_bytes(*id.as_bytes()) < u128::MAX / 2
}

/// The address of a node after it has moved so many times.
pub fn address(node: usize, moves: u16) -> Endpoint {
    let [high, low] = (node as u16 + 1).to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 47_100 + moves)).into()
}

/// Where the intruder is: no node is there.
pub fn elsewhere() -> Endpoint {
    SocketAddr::from(([192, 0, 2, 66], 6666)).into()
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
