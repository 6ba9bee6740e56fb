//! The module's side: what it issues, and its end of a provisioning relationship.

use std::collections::BTreeMap;
use std::time::Duration;

use akm_core::crypto::{self, Suite};
use akm_core::element::{ElementError, Label, Root, RootCheck, SecureElement};
use akm_core::enrolment::Envelope;
use akm_core::frame::FrameKind;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::element_function;
use akm_core::management::{
    ActivateRequest, EraseRequest, IdentifyAnswer, IdentifyRequest, Install, ModuleStream, NodeIdentity,
    Operation, Outcome, Response, StatusAnswer, StatusRequest, Taken,
};
use akm_core::policy::Policy;
use akm_core::proof::Proof;
use akm_core::sds::{Generation, GenerationSecrets, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::seal::HostPartSeal;
use akm_core::secret::{Secret, SecretBytes};
use akm_core::session::{
    Input, Instant, Membership, Options, Output, RandomSource, Session, Standing, Surroundings,
};
use akm_core::tree::Place;
use akm_node::node::{Node, Stream};

use super::network::{Prompt, Recorded};

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

pub(crate) fn random_id() -> AkmId {
    AkmId::from_random(random())
}

pub(crate) fn random_relationship() -> RelationshipId {
    RelationshipId::from_random(random())
}

pub(crate) fn challenge() -> [u8; 32] {
    random()
}

struct Random;

impl RandomSource for Random {
    fn fill(&mut self, out: &mut [u8]) {
        getrandom::fill(out).expect("random bytes");
    }
}

/// An element that lives as long as the test.
#[derive(Default)]
struct MemoryElement(BTreeMap<Root, Secret<32>>);

impl SecureElement for MemoryElement {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        let key = self.0.get(&root).ok_or(ElementError::NoSuchRoot)?;
        Ok(element_function(key.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        Random.fill(out);
        Ok(())
    }
}

/// One generation of a relationship with all its secrets.
pub(crate) struct Relationship {
    pub(crate) sds: SynchronizedDataSet,
    pub(crate) secrets: GenerationSecrets,
    pub(crate) label: String,
    /// In the order of the SDS.
    pub(crate) endpoints: Vec<String>,
}

impl Relationship {
    fn issue(kind: Kind, members: &[AkmId], policy: Vec<u8>, label: &str) -> Self {
        Self::issue_as(random_relationship(), (1, 1), kind, members, policy, label)
    }

    fn issue_as(
        relationship: RelationshipId,
        (generation, element_version): (u32, u32),
        kind: Kind,
        members: &[AkmId],
        policy: Vec<u8>,
        label: &str,
    ) -> Self {
        let sds = SynchronizedDataSet::new(Generation {
            kind,
            relationship,
            generation,
            element_version,
            instance: random(),
            suite: Suite::Aes256Gcm,
            members: members.to_vec(),
            policy,
        })
        .expect("these members make a relationship");
        let secrets = ParameterDataVector::new(Secret::take(&mut random())).derive(&sds);
        Self { sds, secrets, label: label.to_owned(), endpoints: vec![String::new(); members.len()] }
    }

    /// A provisioning relationship.
    pub(crate) fn provisioning(module: AkmId, node: AkmId) -> Self {
        Self::issue(Kind::Provisioning, &[module, node], Policy::provisioning().emit(), "provisioning")
    }

    /// A communication relationship whose members move on only when they are asked to.
    pub(crate) fn asr(label: &str, members: &[AkmId]) -> Self {
        Self::asr_that_rotates_after(Duration::ZERO, label, members)
    }

    /// A communication relationship whose members move on by age, or with zero only when they are asked to.
    pub(crate) fn asr_that_rotates_after(age: Duration, label: &str, members: &[AkmId]) -> Self {
        let policy = Policy { rotate_after: age, advance_interval: Duration::ZERO, ..Policy::default() };
        Self::issue(Kind::Communication, members, policy.emit(), label)
    }

    /// A communication relationship in which each start goes on where the one before was.
    pub(crate) fn asr_without_jump(label: &str, members: &[AkmId]) -> Self {
        let policy = Policy {
            rotate_after: Duration::ZERO,
            advance_interval: Duration::ZERO,
            jump: 0,
            ..Policy::default()
        };
        Self::issue(Kind::Communication, members, policy.emit(), label)
    }

    /// A communication relationship with a policy that comes from a later stack.
    pub(crate) fn with_unknown_policy(label: &str, members: &[AkmId]) -> Self {
        Self::issue(Kind::Communication, members, vec![0xa1, 0x09, 0x01], label)
    }

    /// The next generation; with the same element version it has the same element root.
    pub(crate) fn followed_by(&self, element_version: u32) -> Self {
        let mut next = self.issue_again(self.sds.generation() + 1, element_version);
        if element_version == self.sds.element_version() {
            next.secrets.element_root = self.secrets.element_root.duplicate();
        }
        next
    }

    /// Another content under the same ID, at this generation.
    pub(crate) fn again_as(&self, generation: u32) -> Self {
        self.issue_again(generation, self.sds.element_version())
    }

    fn issue_again(&self, generation: u32, element_version: u32) -> Self {
        let mut again = Self::issue_as(
            self.id(),
            (generation, element_version),
            self.sds.kind(),
            self.sds.members(),
            self.sds.policy().to_vec(),
            &self.label,
        );
        again.endpoints.clone_from(&self.endpoints);
        again
    }

    /// Says where a member is.
    pub(crate) fn at(mut self, member: AkmId, endpoint: &str) -> Self {
        let index = self.sds.index_of(member).expect("a member");
        self.endpoints[usize::from(index)] = endpoint.to_owned();
        self
    }

    pub(crate) fn id(&self) -> RelationshipId {
        self.sds.relationship()
    }

    pub(crate) fn root(&self) -> Root {
        self.sds.root(RootCheck::of(&self.secrets.element_root))
    }

    /// What brings it to this member.
    pub(crate) fn install(&self, member: AkmId) -> Install {
        let index = self.sds.index_of(member).unwrap_or(u16::MAX);
        let seal = HostPartSeal::by_root(&self.secrets.element_root, &self.sds);
        let host_part = seal.seal(crypto::provider(), index, &random(), &self.secrets.host);
        Install {
            public_part: self.sds.emit(),
            wrapped_root: Some(SecretBytes::copy_from(self.secrets.element_root.expose())),
            root_check: RootCheck::of(&self.secrets.element_root),
            host_part: host_part.try_into().expect("a sealed host part has one length"),
            label: self.label.clone(),
            member_labels: self.sds.members().iter().map(|member| format!("label of {member}")).collect(),
            endpoints: self.endpoints.clone(),
        }
    }

    pub(crate) fn first_place(&self) -> Place {
        Place::before_first(0, self.secrets.host.tree_root.duplicate())
    }

    /// The receipt of a member that took it in.
    pub(crate) fn receipt(&self, body: &[u8]) -> Secret<32> {
        let proof = Proof::receipt(self.sds.digest(), &self.secrets.host.digest(), body);
        proof.by_root(&self.secrets.element_root)
    }

    pub(crate) fn envelope(&self, name: &str) -> Envelope {
        Envelope {
            node: self.sds.members()[1],
            name: name.to_owned(),
            install: self.install(self.sds.members()[1]).emit(),
            replaces: None,
            erase: Vec::new(),
        }
    }
}

/// A provisioning module, as far as its nodes see it.
pub(crate) struct Module {
    pub(crate) id: AkmId,
}

impl Module {
    pub(crate) fn new() -> Self {
        Self { id: random_id() }
    }

    /// A provisioning relationship with a node that is about to be made.
    pub(crate) fn provision(&self) -> Relationship {
        Relationship::provisioning(self.id, random_id())
    }
}

/// The module's end of a provisioning relationship, or a member's of another.
pub(crate) struct Link {
    session: Session,
    element: MemoryElement,
    began: std::time::Instant,
    pub(crate) stream: ModuleStream,
    /// Names the connection over which it speaks.
    pub(crate) streams: u64,
}

impl Link {
    /// The end of member `member`.
    pub(crate) fn of(relationship: &Relationship, member: AkmId) -> Self {
        let secrets = &relationship.secrets;
        let mut element =
            MemoryElement(BTreeMap::from([(relationship.root(), secrets.element_root.duplicate())]));
        let check = RootCheck::of(&secrets.element_root);
        let membership =
            Membership::new(relationship.sds.clone(), member, check, secrets.host.keys.duplicate())
                .expect("a member");
        let mut surroundings =
            Surroundings { now: Instant::default(), element: &mut element, random: &mut Random };
        let session = Session::start(
            crypto::provider(),
            membership,
            Standing::Active(relationship.first_place()),
            Options { hello_at_start: false, find_back: false },
            &mut surroundings,
        )
        .expect("the session starts");
        let (node, root) = (relationship.sds.members()[1], secrets.element_root.duplicate());
        let stream = ModuleStream::new(node, relationship.id(), root);
        Self { session, element, began: std::time::Instant::now(), stream, streams: 1 }
    }

    /// The module's end.
    pub(crate) fn of_module(relationship: &Relationship) -> Self {
        Self::of(relationship, relationship.sds.members()[0])
    }

    /// Hands an input in; returns the frames and the payloads that come out.
    pub(crate) fn handle(&mut self, input: Input<'_>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let now = Instant(self.began.elapsed());
        let mut surroundings = Surroundings { now, element: &mut self.element, random: &mut Random };
        self.session.handle(input, &mut surroundings).expect("the session takes the input");
        let (mut frames, mut payloads) = (Vec::new(), Vec::new());
        loop {
            match self.session.poll() {
                Output::Persist(_) => self.session.persisted(),
                Output::Transmit(frame) | Output::TransmitTo(_, frame) => frames.push(frame.to_vec()),
                Output::Deliver(delivery) => {
                    if delivery.kind != FrameKind::Hello {
                        payloads.push(delivery.payload.to_vec());
                    }
                }
                Output::Event(_) => {}
                Output::Idle => return (frames, payloads),
            }
        }
    }

    /// The one frame that carries this body.
    pub(crate) fn seal(&mut self, kind: FrameKind, body: &[u8]) -> Vec<u8> {
        let (mut frames, _) = self.handle(Input::Send(kind, body));
        assert_eq!(frames.len(), 1, "one body, one frame");
        frames.remove(0)
    }

    /// What the frames that came back say.
    pub(crate) fn open(&mut self, replies: &[Vec<u8>]) -> Vec<Vec<u8>> {
        replies.iter().flat_map(|frame| self.handle(Input::Frame(frame)).1).collect()
    }

    /// Sends bytes as a management message. A node that has started since answers the first frame
    /// with a hello only: the message goes out once more.
    pub(crate) fn call(&mut self, node: &mut Node, message: &[u8]) -> Vec<Vec<u8>> {
        let mut network = Recorded::default();
        for _ in 0..2 {
            let frame = self.seal(FrameKind::Management, message);
            let replies = node.handle_frame_of(Stream(self.streams), &frame, &mut network);
            let answers = self.open(&replies);
            if !answers.is_empty() {
                return answers;
            }
        }
        Vec::new()
    }

    /// Begins a stream.
    #[track_caller]
    pub(crate) fn begin(&mut self, node: &mut Node) {
        self.streams += 1;
        let first = self.stream.begin(challenge());
        let answers = self.call(node, &first);
        let begun = answers.iter().any(|answer| matches!(self.stream.take(answer), Taken::Begun(..)));
        assert!(begun, "the node proves itself");
    }

    /// Asks, and reads the answer: over another stream, if that over which it was asked before has ended.
    #[track_caller]
    pub(crate) fn ask_number(&mut self, node: &mut Node, operation: u8, body: &[u8]) -> Response {
        let response = self.try_to_ask(node, operation, body).or_else(|| {
            self.begin(node);
            self.try_to_ask(node, operation, body)
        });
        let response = response.expect("one proven answer to one request");
        assert_eq!(response.reason.is_empty(), response.outcome == Outcome::Done, "{}", response.reason);
        response
    }

    fn try_to_ask(&mut self, node: &mut Node, operation: u8, body: &[u8]) -> Option<Response> {
        let request = self.stream.request(operation, body)?;
        let answers = self.call(node, &request);
        answers.iter().find_map(|answer| match self.stream.take(answer) {
            Taken::Answer(response) => Some(response),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, node: &mut Node, operation: Operation, body: &[u8]) -> Response {
        self.ask_number(node, operation as u8, body)
    }

    /// Asks for what must be done; returns the body of the answer.
    #[track_caller]
    pub(crate) fn done(&mut self, node: &mut Node, operation: Operation, body: &[u8]) -> Vec<u8> {
        let response = self.ask(node, operation, body);
        assert_eq!(response.outcome, Outcome::Done, "{}", response.reason);
        response.body
    }

    #[track_caller]
    pub(crate) fn install(&mut self, node: &mut Node, relationship: &Relationship) -> Response {
        let body = relationship.install(node.identity().node).emit();
        self.ask(node, Operation::Install, body.expose())
    }

    #[track_caller]
    pub(crate) fn activate(&mut self, node: &mut Node, relationship: &Relationship) -> Response {
        let (relationship, generation) = (relationship.id(), relationship.sds.generation());
        let body = ActivateRequest { relationship, generation, follow: false };
        self.ask(node, Operation::Activate, &body.emit())
    }

    /// Installs and activates.
    #[track_caller]
    pub(crate) fn make_member(&mut self, node: &mut Node, relationship: &Relationship) {
        assert_eq!(self.install(node, relationship).outcome, Outcome::Done);
        assert_eq!(self.activate(node, relationship).outcome, Outcome::Done);
    }

    #[track_caller]
    pub(crate) fn erase(&mut self, node: &mut Node, relationship: RelationshipId) -> Response {
        self.ask(node, Operation::Erase, &EraseRequest::Relationship(relationship).emit())
    }

    #[track_caller]
    pub(crate) fn erase_everything(&mut self, node: &mut Node) -> Response {
        self.ask(node, Operation::Erase, &EraseRequest::Everything.emit())
    }

    #[track_caller]
    pub(crate) fn identify(
        &mut self,
        node: &mut Node,
        challenge: [u8; 32],
    ) -> (IdentifyAnswer, NodeIdentity) {
        let body = self.done(node, Operation::Identify, &IdentifyRequest { challenge }.emit());
        let answer = IdentifyAnswer::parse(&body).expect("an answer");
        let identity = NodeIdentity::parse(&answer.identity).expect("an identity");
        (answer, identity)
    }

    #[track_caller]
    pub(crate) fn status(
        &mut self,
        node: &mut Node,
        after: Option<RelationshipId>,
        most: u16,
    ) -> StatusAnswer {
        let body = self.done(node, Operation::Status, &StatusRequest { after, most }.emit());
        StatusAnswer::parse(&body).expect("a page")
    }

    /// How a frame of this relationship is sealed by whoever knows its keys, whatever its kind.
    pub(crate) fn forge(
        &mut self,
        relationship: &Relationship,
        sender: AkmId,
        epoch: u32,
        plaintext: &[u8],
    ) -> Vec<u8> {
        use akm_core::frame::{Class, Header};
        use akm_core::keys::{EpochSecret, epoch_factor};
        let sds = &relationship.sds;
        let factor = epoch_factor(&mut self.element, relationship.root(), sds.generation(), epoch)
            .expect("the element answers");
        let leaf = relationship.first_place().leaf(epoch).expect("an epoch of this generation");
        let secret = EpochSecret::derive(leaf, &factor, sds.digest());
        let sender = sds.index_of(sender).expect("a member");
        let salt = u64::from_be_bytes(random());
        let tag = relationship.secrets.host.keys.tag;
        let header = Header { class: Class::Session, sender, tag, epoch, salt, counter: 0 };
        let mut frame = header.emit(&relationship.secrets.host.keys.header_key).to_vec();
        let mut sealed = plaintext.to_vec();
        let key = crypto::provider().aead(sds.suite(), secret.sender_key(sender, salt).expose());
        let aead_tag = key.seal(&header.nonce(), &frame, &mut sealed);
        frame.extend_from_slice(&sealed);
        frame.extend_from_slice(&aead_tag);
        frame
    }
}
