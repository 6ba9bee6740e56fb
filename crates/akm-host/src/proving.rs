//! How a module and this node prove themselves to each other in each message (protocol, section 11.1).
//!
//! ```text
//!   frame -- take_request --+-- first: waits, then begins the stream -----------------> respond
//!                           |
//!                           +-- others: check the proof -- carry out -- prove answer -> respond
//! ```

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use akm_core::frame::FrameKind;
use akm_core::id::RelationshipId;
use akm_core::management::{IdentifyAnswer, IdentifyRequest, NodeIdentity, Outcome, Request, Response};
use akm_core::proof::{Proof, STREAM_NONCE_LENGTH, StreamBinding};
use akm_core::session::RandomSource;
use zeroize::Zeroizing;

use crate::ask::{Answer, Question, astray};
use crate::door::{Stream, Surroundings};
use crate::limits::REQUESTS_AT_ONCE;
use crate::management::{not_held, unreadable};
use crate::node::Node;
use crate::outbox::{Buffer, Queued};
use crate::relationship::{Given, Origin};
use crate::stream::{First, OfStream, Said};
use crate::task::{Hand, Stop, Work};

/// A request whose proof is right.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) of: &'a OfStream,
    /// `None` where its stream has ended meanwhile: then nobody is told what came of it.
    pub(crate) binding: Option<StreamBinding>,
    pub(crate) id: u64,
    pub(crate) operation: u8,
    pub(crate) body: &'a [u8],
}

impl Asked<'_> {
    /// Has the answer proven that it is done, before that is so: for what erases the root itself.
    pub(crate) fn prove_done(&self, hand: &mut Hand) -> Result<(), Stop> {
        let Some(binding) = self.binding else { return Ok(()) };
        let proof = Proof::answer(&binding, self.id, self.operation, Outcome::Done as u8, &[]);
        hand.compute(|element| proof.by_element(element, self.of.root)).map(drop)
    }
}

impl Node {
    /// Takes a request of the module of this relationship.
    pub(crate) fn take_request(
        &mut self,
        through: RelationshipId,
        stream: Stream,
        request: Buffer,
        surroundings: &mut Surroundings<'_>,
    ) {
        let in_force = self.relationships.get(&through).and_then(|held| held.lineage.in_force());
        let Some((session, _)) = in_force else {
            self.outbox.push(Queued::Handled(stream));
            return;
        };
        let generation = session.membership().sds().generation();
        let root = session.membership().root();
        self.end_streams_below(through, generation);
        match self.streams.look_at((through, generation), root, stream, &request, surroundings.now) {
            // It is handled when its turn has come.
            Said::Waits => {}
            Said::Nothing => self.outbox.push(Queued::Handled(stream)),
            Said::Again(response) => self.respond(through, stream, &response, surroundings),
            Said::Closes { another_waits } => {
                self.hang_up(stream);
                if another_waits {
                    self.outbox.push(Queued::Handled(stream));
                }
            }
            Said::Unproven(id) => self.refuse_unproven(through, stream, id, surroundings),
            Said::Check(of) if self.tasks.requests() >= REQUESTS_AT_ONCE => {
                // Whoever asked asks again.
                self.streams.let_go(&of);
                self.outbox.push(Queued::Handled(stream));
            }
            Said::Check(of) => self.begin_task(Work::Check { of, request }),
        }
    }

    /// Answers `identify` on new streams, as many as may be.
    pub(crate) fn begin_streams(&mut self, surroundings: &mut Surroundings<'_>) {
        while !self.streams.none_wait() && self.tasks.requests() < REQUESTS_AT_ONCE {
            let Some((first, given_up)) = self.streams.next_first(surroundings.now, surroundings.random)
            else {
                return;
            };
            if let Some(given_up) = given_up {
                self.outbox.push(Queued::Close(given_up));
            }
            self.begin_task(Work::Begin { first });
        }
    }

    /// Ends the streams of generations of a relationship below this one.
    pub(crate) fn end_streams_below(&mut self, through: RelationshipId, generation: u32) {
        for stream in self.streams.end_below(through, generation) {
            self.outbox.push(Queued::Handled(stream));
        }
    }

    /// Closes the connections of streams whose time is over.
    pub(crate) fn end_streams(&mut self, surroundings: &Surroundings<'_>) {
        for stream in self.streams.end_overdue(surroundings.now) {
            self.outbox.push(Queued::Close(stream));
        }
    }

    /// Answers the first request of a stream. Whether that is done.
    pub(crate) fn begin_stream(
        &mut self,
        hand: &mut Hand,
        first: &First,
        surroundings: &mut Surroundings<'_>,
    ) -> bool {
        let First { of, id, challenge } = first;
        // Drawn where it is first needed, for the answer.
        let nonce = |hand: &mut Hand, random: &mut dyn RandomSource| {
            let mut nonce = [0; STREAM_NONCE_LENGTH];
            hand.tape.over(random).fill(&mut nonce);
            nonce
        };
        let answer = match self.identity_for(hand, of, challenge, nonce, surroundings) {
            Ok(answer) => answer,
            Err(Stop::Waits) => return false,
            Err(Stop::Refused(outcome, reason)) => {
                let response = Response { id: *id, outcome, body: Vec::new(), reason, proof: None };
                if self.streams.is_open(of) {
                    self.streams.close(of.stream);
                    self.respond(of.through, of.stream, &response.emit(), surroundings);
                } else {
                    self.outbox.push(Queued::Handled(of.stream));
                }
                return true;
            }
        };
        let nonce = nonce(hand, surroundings.random);
        let (outcome, reason) = (Outcome::Done, String::new());
        let response = Response { id: *id, outcome, body: answer.emit(), reason, proof: None };
        let response = Buffer::new(response.emit());
        if self.streams.begun(of, nonce, &response, surroundings.now) {
            self.respond(of.through, of.stream, &response, surroundings);
        } else {
            self.outbox.push(Queued::Handled(of.stream));
        }
        true
    }

    /// Answers a later `identify`.
    pub(crate) fn identify(
        &mut self,
        hand: &mut Hand,
        asked: &Asked<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Vec<u8>, Stop> {
        let IdentifyRequest { challenge } = IdentifyRequest::parse(asked.body).map_err(unreadable)?;
        let nonce = asked.binding.map_or([0; STREAM_NONCE_LENGTH], |binding| binding.nonce);
        let answer = self.identity_for(hand, asked.of, &challenge, |_, _| nonce, surroundings)?;
        Ok(answer.emit())
    }

    fn identity_for(
        &mut self,
        hand: &mut Hand,
        of: &OfStream,
        challenge: &[u8; 32],
        nonce: impl FnOnce(&mut Hand, &mut dyn RandomSource) -> [u8; STREAM_NONCE_LENGTH],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<IdentifyAnswer, Stop> {
        let through = of.through;
        let provisioning = self.identity.provisioning().get(&through).ok_or_else(|| not_held(through))?;
        let level = provisioning.level;
        let integrity = match hand.ask(Question::Integrity)? {
            Answer::Integrity(Ok(integrity)) => *integrity,
            Answer::Integrity(Err(why)) => return Err(Stop::Refused(Outcome::Storage, why.clone())),
            _ => return Err(Stop::element(&astray())),
        };
        let node = self.identity.node();
        if hand.composed.is_none() {
            let held = self.relationships.keys().chain(self.set_aside.keys().map(|(id, _)| id));
            let holds_others = held.into_iter().any(|id| *id != through);
            let element = self.description.clone().ok_or_else(|| Stop::element(&astray()))?;
            let identity = NodeIdentity {
                node,
                relationship: through,
                element,
                stack_version: self.stack_version.clone(),
                integrity,
                level,
                holds_others,
                stream_nonce: nonce(hand, surroundings.random),
            };
            hand.composed = Some(identity.emit());
        }
        let identity = hand.composed.clone().unwrap_or_default();
        let proof = Proof::identify(challenge, node, through, &identity);
        let proof = hand.compute(|element| proof.by_element(element, of.root))?;
        Ok(IdentifyAnswer { identity, proof: *proof.expose() })
    }

    /// Checks the proof of a request; if it is right the request is carried out next. Whether that is done.
    pub(crate) fn check_request(
        &mut self,
        hand: &mut Hand,
        of: &OfStream,
        request: &Buffer,
        surroundings: &mut Surroundings<'_>,
    ) -> bool {
        let parsed = Request::parse(request).ok();
        let proven = parsed.and_then(|Request { id, operation, body, proof }| {
            let nonce = self.streams.binding(of)?.nonce;
            Some((id, proof?, Proof::request(&nonce, id, operation, body)))
        });
        let Some((id, said, proof)) = proven else {
            // Its stream has ended.
            self.outbox.push(Queued::Handled(of.stream));
            return true;
        };
        match hand.compute(|element| proof.by_element(element, of.root)) {
            Err(Stop::Waits) => false,
            Err(Stop::Refused(..)) => {
                // Nobody can say whether it is right: whoever asked asks again.
                self.streams.let_go(of);
                self.outbox.push(Queued::Handled(of.stream));
                true
            }
            Ok(expected) if !expected.equals(&said) => {
                self.refuse_unproven(of.through, of.stream, id, surroundings);
                true
            }
            Ok(_) => {
                match self.streams.proven(of, id, said) {
                    Some(is_first) => {
                        if is_first {
                            self.outbox.push(Queued::Proven(of.stream));
                        }
                        self.begin_task(Work::Request { of: *of, request: request.clone() });
                    }
                    None => self.outbox.push(Queued::Handled(of.stream)),
                }
                true
            }
        }
    }

    /// Carries out a request whose proof was right, and proves the answer. Whether that is done.
    pub(crate) fn serve_request(
        &mut self,
        hand: &mut Hand,
        of: &OfStream,
        request: &Buffer,
        surroundings: &mut Surroundings<'_>,
    ) -> bool {
        let binding = self.streams.binding(of);
        let Ok(Request { id, operation, body, .. }) = Request::parse(request) else { return true };
        if hand.response.is_none() {
            let asked = Asked { of, binding, id, operation, body };
            match self.answer(hand, &asked, surroundings) {
                Some(response) => hand.response = Some(response),
                None => return false,
            }
        }
        let proven = match (&hand.response, binding) {
            (Some(response), Some(binding)) => {
                let outcome = response.outcome as u8;
                let proof = Proof::answer(&binding, id, operation, outcome, response.said());
                hand.compute(|element| proof.by_element(element, of.root))
            }
            _ => Err(Stop::Refused(Outcome::Unproven, "its stream has ended".to_string())),
        };
        let response = match (proven, hand.response.take()) {
            (Err(Stop::Waits), response) => {
                hand.response = response;
                return false;
            }
            (Ok(proof), Some(response)) => Some(Response { proof: Some(*proof.expose()), ..response }.emit()),
            _ => None,
        };
        let response = response.map(Zeroizing::new);
        self.streams.answered(of, response.as_ref());
        match response {
            Some(response) => self.respond(of.through, of.stream, &response, surroundings),
            None => self.outbox.push(Queued::Handled(of.stream)),
        }
        true
    }

    /// Says something over a stream, in answer to the frame that is being handled.
    fn respond(
        &mut self,
        through: RelationshipId,
        stream: Stream,
        response: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) {
        let given = Given::Send { to: None, kind: FrameKind::Management, body: response };
        self.give(through, &given, Origin::Response(stream), surroundings);
    }

    /// Says that a request is not proven, as the last thing on this connection.
    fn refuse_unproven(
        &mut self,
        through: RelationshipId,
        stream: Stream,
        id: u64,
        surroundings: &mut Surroundings<'_>,
    ) {
        self.streams.close(stream);
        let reason = "this request is not proven to belong to this stream".to_string();
        let response = Response { id, outcome: Outcome::Unproven, body: Vec::new(), reason, proof: None };
        let given = Given::Send { to: None, kind: FrameKind::Management, body: &response.emit() };
        self.give(through, &given, Origin::LastWord(stream), surroundings);
    }

    fn hang_up(&mut self, stream: Stream) {
        self.streams.close(stream);
        self.outbox.push(Queued::Close(stream));
        self.outbox.push(Queued::Handled(stream));
    }
}
