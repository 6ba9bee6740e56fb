//! The module's end of a stream (protocol, section 11.1): what is asked on it, and which answers count.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::{IdentifyAnswer, IdentifyRequest, NodeIdentity, Operation, Outcome, Request, Response};
use crate::id::{AkmId, RelationshipId};
use crate::proof::{Proof, StreamBinding};
use crate::sds::ElementRoot;

/// The module's end of a stream. It begins with `identify`, proves each later request, and takes no answer whose proof is
/// not right, by the module's own copy of the element root.
///
/// A module has one request at a time under way.
pub struct ModuleStream {
    node: AkmId,
    relationship: RelationshipId,
    root: ElementRoot,
    binding: Option<StreamBinding>,
    last: u64,
    asked: Option<Asked>,
}

/// What is under way.
#[derive(Clone, Copy)]
struct Asked {
    id: u64,
    operation: u8,
    /// Where it is the first `identify`.
    challenge: Option<[u8; 32]>,
}

/// What a message of the node comes to.
#[derive(Debug)]
pub enum Taken {
    /// It does not answer what is under way.
    Nothing,
    /// It says that it answers what is under way, and nothing proves it: that counts for as little.
    Forged,
    /// The stream has begun: this is the node, and its element took part. What was answered, and what that says.
    Begun(Box<NodeIdentity>, Response),
    /// The node's answer, with the proof of its element.
    Answer(Response),
    /// The node says that it cannot begin the stream, and why. Nothing proves that.
    NotBegun(Response),
    /// The node does not know the proof of the request as one of this stream: another stream has to be opened.
    /// Nothing proves that.
    Unproven,
}

impl ModuleStream {
    /// A stream on which nothing was said yet. `root` is that of the generation that it belongs to.
    pub fn new(node: AkmId, relationship: RelationshipId, root: ElementRoot) -> Self {
        Self { node, relationship, root, binding: None, last: 0, asked: None }
    }

    /// Whether the node has proven itself on it.
    pub fn has_begun(&self) -> bool {
        self.binding.is_some()
    }

    /// Begins it, or begins another in its place: the first `identify`. The challenge must be fresh.
    pub fn begin(&mut self, challenge: [u8; 32]) -> Vec<u8> {
        self.binding = None;
        self.last = 1;
        let operation = Operation::Identify as u8;
        self.asked = Some(Asked { id: self.last, operation, challenge: Some(challenge) });
        let body = IdentifyRequest { challenge }.emit();
        Request { id: self.last, operation, body: &body, proof: None }.emit()
    }

    /// The next request, with its proof; `None` if the stream has not begun, or has no request left.
    pub fn request(&mut self, operation: u8, body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let binding = self.binding.as_ref()?;
        let id = self.last.checked_add(1)?;
        let proof = Proof::request(&binding.nonce, id, operation, body).by_root(&self.root);
        self.last = id;
        self.asked = Some(Asked { id, operation, challenge: None });
        Some(Request { id, operation, body, proof: Some(*proof.expose()) }.emit().into())
    }

    /// Takes what the node says.
    pub fn take(&mut self, message: &[u8]) -> Taken {
        let Ok(response) = Response::parse(message) else { return Taken::Nothing };
        let Some(asked) = self.asked else { return Taken::Nothing };
        if response.outcome == Outcome::Unproven && [0, asked.id].contains(&response.id) {
            return Taken::Unproven;
        }
        if response.id != asked.id {
            return Taken::Nothing;
        }
        match (asked.challenge, self.binding) {
            (Some(challenge), _) => self.take_first(&challenge, response),
            (None, Some(binding)) => {
                let Asked { id, operation, .. } = asked;
                let proof = Proof::answer(&binding, id, operation, response.outcome as u8, response.said());
                let is_right = |proof: &[u8; 32], expected: &ElementRoot| expected.equals(proof);
                if !response.proof.is_some_and(|said| is_right(&said, &proof.by_root(&self.root))) {
                    return Taken::Forged;
                }
                self.asked = None;
                Taken::Answer(response)
            }
            (None, None) => Taken::Nothing,
        }
    }

    fn take_first(&mut self, challenge: &[u8; 32], response: Response) -> Taken {
        if response.outcome != Outcome::Done {
            return Taken::NotBegun(response);
        }
        let Ok(answer) = IdentifyAnswer::parse(&response.body) else { return Taken::Forged };
        let Some(identity) = self.identity(challenge, &answer) else { return Taken::Forged };
        self.binding = Some(StreamBinding { challenge: *challenge, nonce: identity.stream_nonce });
        self.asked = None;
        Taken::Begun(Box::new(identity), response)
    }

    /// What the node says of itself, if its element took part in the answer to this challenge.
    pub fn identity(&self, challenge: &[u8; 32], answer: &IdentifyAnswer) -> Option<NodeIdentity> {
        let proof = Proof::identify(challenge, self.node, self.relationship, &answer.identity);
        if !proof.by_root(&self.root).equals(&answer.proof) {
            return None;
        }
        let identity = NodeIdentity::parse(&answer.identity).ok()?;
        let is_it = (identity.node, identity.relationship) == (self.node, self.relationship);
        is_it.then_some(identity)
    }
}

impl core::fmt::Debug for ModuleStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ModuleStream").field("node", &self.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{Description, Protection};
    use crate::management::Level;
    use crate::secret::Secret;
    use alloc::string::String;

    const NONCE: [u8; 16] = [5; 16];
    const CHALLENGE: [u8; 32] = [6; 32];

    fn root() -> ElementRoot {
        Secret::take(&mut [1; 32])
    }

    fn ids() -> (AkmId, RelationshipId) {
        (AkmId::from_bytes([2; 16]).unwrap(), RelationshipId::from_bytes([3; 16]).unwrap())
    }

    /// What a node says of itself, proven under this root for this challenge.
    fn identified(root: &ElementRoot, challenge: [u8; 32], id: u64) -> Response {
        let (node, relationship) = ids();
        let element = Description {
            kind: String::new(),
            manufacturer: String::new(),
            serial: String::new(),
            firmware: String::new(),
            protection: Protection::Software,
            sealed: false,
            counter: false,
        };
        let identity = NodeIdentity {
            node,
            relationship,
            element,
            stack_version: String::new(),
            integrity: [0; 32],
            level: Level::Factory,
            holds_others: false,
            stream_nonce: NONCE,
        };
        let identity = identity.emit();
        let proof = *Proof::identify(&challenge, node, relationship, &identity).by_root(root).expose();
        let body = IdentifyAnswer { identity, proof }.emit();
        Response { id, outcome: Outcome::Done, body, reason: String::new(), proof: None }
    }

    fn begun() -> ModuleStream {
        let (node, relationship) = ids();
        let mut stream = ModuleStream::new(node, relationship, root());
        assert!(stream.request(6, b"").is_none());
        let first = stream.begin(CHALLENGE);
        let first = Request::parse(&first).unwrap();
        assert_eq!((first.operation, first.proof), (Operation::Identify as u8, None));
        assert!(matches!(stream.take(&identified(&root(), CHALLENGE, first.id).emit()), Taken::Begun(..)));
        stream
    }

    #[test]
    fn only_the_element_that_was_challenged_begins_a_stream() {
        let (node, relationship) = ids();
        let mut stream = ModuleStream::new(node, relationship, root());
        stream.begin(CHALLENGE);
        let other = Secret::take(&mut [9; 32]);
        for forged in [identified(&other, CHALLENGE, 1), identified(&root(), [7; 32], 1)] {
            assert!(matches!(stream.take(&forged.emit()), Taken::Forged));
        }
        assert!(!stream.has_begun());
        let right = identified(&root(), CHALLENGE, 1).emit();
        assert!(matches!(stream.take(&right), Taken::Begun(..)));
        assert!(matches!(stream.take(&right), Taken::Nothing), "once");
    }

    #[test]
    fn attack_1_answers_that_were_forged_or_stocked_are_not_taken() {
        let mut stream = begun();
        let asked = stream.request(6, b"body").unwrap();
        let asked = Request::parse(&asked).unwrap();
        let expected = Proof::request(&NONCE, asked.id, 6, b"body").by_root(&root());
        assert!(expected.equals(&asked.proof.unwrap()));

        let binding = StreamBinding { challenge: CHALLENGE, nonce: NONCE };
        let answer = |binding: &StreamBinding, id: u64, operation: u8, outcome: Outcome| {
            let (body, reason) = match outcome {
                Outcome::Done => (Vec::from(b"answer"), String::new()),
                _ => (Vec::new(), String::from("reason")),
            };
            let mut response = Response { id, outcome, body, reason, proof: None };
            let proof = Proof::answer(binding, id, operation, outcome as u8, response.said());
            response.proof = Some(*proof.by_root(&root()).expose());
            response
        };
        let right = answer(&binding, asked.id, 6, Outcome::Done);
        let mut altered = right.clone();
        altered.body.push(0);
        let mut refused_instead = right.clone();
        refused_instead.outcome = Outcome::Conflict;
        let stocked = StreamBinding { challenge: [0; 32], nonce: NONCE };
        for forged in [
            Response { proof: None, ..right.clone() },
            Response { proof: Some([0; 32]), ..right.clone() },
            altered,
            refused_instead,
            answer(&stocked, asked.id, 6, Outcome::Done),
            answer(&binding, asked.id, 7, Outcome::Done),
            answer(&binding, asked.id + 1, 6, Outcome::Done),
        ] {
            assert!(matches!(stream.take(&forged.emit()), Taken::Forged | Taken::Nothing), "{forged:?}");
        }
        assert!(matches!(stream.take(&right.emit()), Taken::Answer(_)));
        assert!(matches!(stream.take(&right.emit()), Taken::Nothing), "once");

        let next = stream.request(6, b"body").unwrap();
        let next = Request::parse(&next).unwrap().id;
        assert!(next > asked.id);
        let refusal = answer(&binding, next, 6, Outcome::Conflict);
        assert!(matches!(stream.take(&refusal.emit()), Taken::Answer(_)));
    }

    #[test]
    fn a_node_that_does_not_know_the_stream_has_another_opened() {
        let mut stream = begun();
        let asked = stream.request(6, b"").unwrap();
        let id = Request::parse(&asked).unwrap().id;
        for id in [0, id] {
            let (outcome, reason) = (Outcome::Unproven, String::from("no"));
            let response = Response { id, outcome, body: Vec::new(), reason, proof: None };
            assert!(matches!(stream.take(&response.emit()), Taken::Unproven));
        }
    }
}
