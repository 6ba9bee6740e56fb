//! Answers to the modules, over the provisioning relationships (protocol, section 11).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use akm_core::cbor::Unreadable;
use akm_core::element::{Root, SecureElement};
use akm_core::id::RelationshipId;
use akm_core::lineage::{Arrival, Lineage};
use akm_core::management::{
    ActivateRequest, EraseRequest, Install, Opaque, Operation, Outcome, PrepareRequest, ReportRequest,
    Request, Response, SetEndpoints, StatusAnswer, StatusRequest,
};
use akm_core::policy::Policy;
use akm_core::proof::Proof;
use akm_core::sds::{HostPart, Kind, SynchronizedDataSet};
use akm_core::seal::{HostPartSeal, KeysSeal};
use akm_core::session::{
    Membership, Options, Phase, RandomSource, Session, Standing, Surroundings as Around,
};
use akm_core::tree::Place;

use crate::Endpoint;
use crate::ask::{Answer, Question, astray};
use crate::door::{Refused, Surroundings};
use crate::event::Event;
use crate::installed::Installed;
use crate::node::Node;
use crate::persist::Write;
use crate::proving::Asked;
use crate::relationship::{Known, Relationship};
use crate::task::{Hand, Stop};

fn malformed<E>(_: E) -> Stop {
    Stop::Refused(Outcome::Malformed, "the request cannot be read".to_string())
}

pub(crate) fn unreadable(why: Unreadable) -> Stop {
    match why {
        Unreadable::Malformed => malformed(why),
        Unreadable::Unsupported { .. } | Unreadable::Format { .. } => {
            Stop::Refused(Outcome::Unsupported, why.to_string())
        }
    }
}

fn conflict(why: String) -> Stop {
    Stop::Refused(Outcome::Conflict, why)
}

pub(crate) fn not_held(relationship: RelationshipId) -> Stop {
    Stop::Refused(Outcome::NotHeld, format!("no relationship {relationship} here"))
}

impl Node {
    /// Whether a request may change what the node holds.
    pub(crate) fn changes_something(request: &[u8]) -> bool {
        let operation =
            Request::parse(request).ok().and_then(|request| Operation::from_number(request.operation));
        use Operation::{Activate, Erase, Install, SetEndpoints};
        matches!(operation, Some(Install | Activate | Erase | SetEndpoints))
    }

    /// Carries out a request of a module whose proof was right; `None`: it waits. Repeating one does no harm.
    pub(crate) fn answer(
        &mut self,
        hand: &mut Hand,
        asked: &Asked<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Option<Response> {
        let Asked { of, id, operation, body, .. } = *asked;
        let result = match Operation::from_number(operation) {
            Some(Operation::Identify) => self.identify(hand, asked, surroundings),
            Some(Operation::Prepare) => prepare(hand, body),
            Some(Operation::Install) => self.install(hand, of.through, body, surroundings),
            Some(Operation::Activate) => self.activate(hand, body),
            Some(Operation::Erase) => self.erase(hand, asked),
            Some(Operation::Status) => self.status_page(body),
            Some(Operation::SetEndpoints) => self.set_endpoints(hand, body),
            Some(Operation::Report) => self.report_on(body, surroundings),
            None => {
                Err(Stop::Refused(Outcome::Unsupported, format!("no operation {operation} in this stack")))
            }
        };
        let (outcome, body, reason) = match result {
            Ok(body) => (Outcome::Done, body, String::new()),
            Err(Stop::Refused(outcome, reason)) => (outcome, Vec::new(), reason),
            Err(Stop::Waits) => return None,
        };
        Some(Response { id, outcome, body, reason, proof: None })
    }

    fn install(
        &mut self,
        hand: &mut Hand,
        through: RelationshipId,
        body: &[u8],
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Vec<u8>, Stop> {
        let install = Install::parse(body).map_err(unreadable)?;
        let sds = SynchronizedDataSet::parse(&install.public_part).map_err(malformed)?;
        let id = sds.relationship();
        check_lists(&install, sds.members().len())?;
        let unsupported = |why: &str| Stop::Refused(Outcome::Unsupported, why.to_string());
        let is_provisioning = self.identity.is_provisioned_by(id);
        match sds.kind() {
            Kind::Provisioning if id != through => {
                return Err(unsupported("another provisioning relationship comes by enrolment"));
            }
            Kind::Communication if is_provisioning => {
                return Err(conflict("a provisioning relationship has this ID".to_string()));
            }
            Kind::Provisioning | Kind::Communication => {}
        }
        if sds.index_of(self.identity.node()).is_none() {
            return Err(conflict("this node is not a member".to_string()));
        }
        if Policy::parse(sds.policy()).is_err() {
            return Err(unsupported(
                "the policy is not understood by this version of the stack: update the stack first",
            ));
        }
        if let Some(why) = self.set_aside.get(&(id, sds.generation())) {
            return Err(conflict(format!("held, but damaged: {why}")));
        }
        let root = sds.root(install.root_check);
        if self.holds_another_root(&sds, root) {
            return Err(conflict(format!(
                "another element root is held under version {}",
                sds.element_version()
            )));
        }
        let arrival = self.lineage(id).map_or(Ok(Arrival::Above), |lineage| lineage.examine(&sds));
        let arrival = arrival.map_err(|not_taken| conflict(not_taken.to_string()))?;
        let digest = *sds.digest();
        let host_part = match arrival {
            Arrival::Held => self.check_held(hand, &install, &sds, root)?,
            // What is damaged stood there too.
            Arrival::Above if sds.generation() <= self.highest(id) => {
                return Err(conflict("a later generation is held, but damaged".to_string()));
            }
            Arrival::Above => {
                if is_provisioning {
                    self.check_follows(&sds)?;
                }
                self.install_above(hand, install, sds, surroundings)?
            }
        };
        let receipt = Proof::receipt(&digest, &host_part, body);
        let receipt = hand.compute(|element| receipt.by_element(element, root))?;
        Ok(Opaque(receipt.expose().to_vec()).emit())
    }

    /// Another generation of the provisioning relationship over which it comes has the same members, and a root of its own.
    fn check_follows(&self, sds: &SynchronizedDataSet) -> Result<(), Stop> {
        let id = sds.relationship();
        let held = self.relationships.get(&id);
        let in_force = held.and_then(|held| held.lineage.in_force());
        let (session, _) = in_force.ok_or_else(|| not_held(id))?;
        if session.membership().sds().members() != sds.members() {
            return Err(conflict("the members of a provisioning relationship stay".to_string()));
        }
        let version = held.map_or(0, Relationship::element_version);
        if sds.element_version() <= version {
            return Err(conflict(format!("element version {version} is held, and this one is not above it")));
        }
        Ok(())
    }

    /// Whether a generation that is held names another root under this element version.
    fn holds_another_root(&self, sds: &SynchronizedDataSet, root: Root) -> bool {
        let sessions = self.lineage(sds.relationship()).into_iter().flat_map(Lineage::sessions);
        let mut held = sessions.map(Session::membership);
        held.any(|held| held.sds().element_version() == sds.element_version() && held.root() != root)
    }

    /// Opens the host part of an install under a root that the element holds.
    fn open_host_part(
        &self,
        hand: &mut Hand,
        install: &Install,
        sds: &SynchronizedDataSet,
        root: Root,
    ) -> Result<HostPart, Stop> {
        let seal = hand.compute(|element| HostPartSeal::by_element(element, root, sds))?;
        let index = sds.index_of(self.identity.node()).unwrap_or_default();
        seal.open(self.provider, index, &install.host_part).map_err(|_| {
            let why = "the host part does not open under the element root";
            Stop::Refused(Outcome::Element, why.to_string())
        })
    }

    /// What is held comes once more: it must be the same. Returns SHA-256 of its host part.
    fn check_held(
        &self,
        hand: &mut Hand,
        install: &Install,
        sds: &SynchronizedDataSet,
        root: Root,
    ) -> Result<[u8; 32], Stop> {
        let host_part = self.open_host_part(hand, install, sds, root)?.digest();
        let held = self.lineage(sds.relationship()).and_then(|lineage| lineage.entry(sds.generation()));
        match held {
            Some((_, known)) if known.host_part == host_part => Ok(host_part),
            _ => Err(conflict("another host part is held of this generation".to_string())),
        }
    }

    /// Keeps a generation that is above all that are held of its relationship. Returns SHA-256 of its host part.
    fn install_above(
        &mut self,
        hand: &mut Hand,
        install: Install,
        sds: SynchronizedDataSet,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<[u8; 32], Stop> {
        let (id, root) = (sds.relationship(), sds.root(install.root_check));
        let is_known = self.highest(id) > 0;
        let had_root = hand.roots()?.contains(&root);
        match &install.wrapped_root {
            Some(wrapped) => {
                hand.ask(Question::Install { root, wrapped: wrapped.expose().to_vec().into() })?;
            }
            None if had_root => {}
            None => {
                let why = format!("no such element root of version {} here", sds.element_version());
                return Err(Stop::Refused(Outcome::NotHeld, why));
            }
        }
        let part = match self.open_host_part(hand, &install, &sds, root) {
            Err(refused @ Stop::Refused(..)) if !had_root => {
                let _ = hand.ask_anyway(Question::Erase(root))?;
                return Err(refused);
            }
            opened => opened?,
        };
        let keys = hand.compute(|element| KeysSeal::derive(element, &sds))?;
        let (mut for_keys, mut for_place) = ([0; 16], [0; 16]);
        let mut random = hand.tape.over(surroundings.random);
        random.fill(&mut for_keys);
        random.fill(&mut for_place);
        let sealed_keys = keys.seal(self.provider, &for_keys, &part.keys);
        let place = Place::before_first(0, part.tree_root.duplicate());
        let seal = self.seal.as_ref().ok_or(Stop::Waits)?;
        let (suite, digest) = (sds.suite(), sds.digest());
        let sealed = seal.seal(self.provider, suite, digest, &for_place, place.emit().expose());
        let mut installed = Installed::of(install, sds, &part, sealed_keys, false);
        self.keep_what_was_learnt(&mut installed);
        let written = Write::Install { installed: Box::new(installed.clone()), sealed, beside: is_known };
        if let Err(failed) = hand.write_anyway(written)? {
            // Best effort: what stays behind alone is erased at the next start.
            if is_known {
                self.tidy(id);
            } else if !had_root {
                let _ = hand.ask_anyway(Question::Erase(root))?;
            }
            return Err(Stop::storage(&failed));
        }
        let host_part = installed.host_part;
        self.take_on(hand, installed, place, surroundings)?;
        Ok(host_part)
    }

    /// Where this node has heard members of an earlier generation counts more than what the module knows.
    fn keep_what_was_learnt(&self, installed: &mut Installed) {
        let Some((before, known)) = self.lineage(installed.sds.relationship()).and_then(Lineage::in_force)
        else {
            return;
        };
        installed.endpoints.resize(installed.sds.members().len(), String::new());
        let members = before.membership().sds().members();
        for (member, (endpoint, heard)) in members.iter().zip(known.endpoints.iter().zip(&known.heard)) {
            if let (Some(at), Some(endpoint), Some(_)) = (installed.sds.index_of(*member), endpoint, heard) {
                installed.endpoints[usize::from(at)] = endpoint.to_string();
            }
        }
    }

    /// Starts the session of a generation that was written, and puts it among the others.
    fn take_on(
        &mut self,
        hand: &mut Hand,
        installed: Installed,
        place: Place,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), Stop> {
        let (keys, of) = (installed.keys(), (installed.sds.relationship(), installed.sds.generation()));
        let Installed { sds, root_check, host_part, label, member_labels, endpoints, .. } = installed;
        let kind = sds.kind();
        let membership = Membership::new(sds, self.identity.node(), root_check, keys)
            .map_err(|error| Stop::Refused(Outcome::Storage, error.to_string()))?;
        let (provider, standing) = (self.provider, Standing::Staged(place));
        let options = options_of(kind);
        let (now, random) = (surroundings.now, &mut *surroundings.random);
        let session = hand.compute(|element: &mut dyn SecureElement| {
            Session::start(provider, membership, standing, options, &mut Around { now, element, random })
        })?;
        let known = Known::new(&session, host_part, label, member_labels, &endpoints);
        let relationship =
            self.relationships.entry(of.0).or_insert_with(|| Relationship::new(kind, Lineage::default()));
        let taken = relationship.lineage.install(session, known);
        taken.map_err(|not_taken| conflict(not_taken.to_string()))?;
        self.tell(of, Event::Installed);
        self.list_tags(of.0);
        self.schedule(of.0);
        Ok(())
    }

    fn activate(&mut self, hand: &mut Hand, body: &[u8]) -> Result<Vec<u8>, Stop> {
        let ActivateRequest { relationship, generation, follow } =
            ActivateRequest::parse(body).map_err(unreadable)?;
        if self.identity.is_provisioned_by(relationship) {
            let why = "a provisioning relationship begins with the first frame in it";
            return Err(Stop::Refused(Outcome::Unsupported, why.to_string()));
        }
        let phase_of = |node: &Self| {
            let (session, _) = node.lineage(relationship)?.entry(generation)?;
            Some(session.phase())
        };
        if phase_of(self).is_none() {
            return Err(not_held(relationship));
        }
        if follow && let Some(held) = self.relationships.get_mut(&relationship) {
            held.lineage.fill_stock(generation, self.now);
        }
        match hand.activate(relationship, generation)? {
            Ok(()) | Err(Refused::NotRecorded(_)) => {}
            Err(refused) => return Err(Stop::Refused(Outcome::Storage, refused.to_string())),
        }
        let is_followed = self
            .lineage(relationship)
            .and_then(Lineage::active)
            .is_some_and(|active| active.membership().sds().generation() > generation);
        match phase_of(self) {
            Some(Phase::Established | Phase::UsedUp) => Ok(Vec::new()),
            Some(Phase::Staged) if is_followed => Ok(Vec::new()),
            Some(Phase::Staged) => {
                let why = "the node could not record that it is active";
                Err(Stop::Refused(Outcome::Storage, why.to_string()))
            }
            phase => Err(conflict(format!("the relationship rests here ({phase:?})"))),
        }
    }

    fn erase(&mut self, hand: &mut Hand, asked: &Asked<'_>) -> Result<Vec<u8>, Stop> {
        let through = asked.of.through;
        let relationship = match EraseRequest::parse(asked.body).map_err(unreadable)? {
            EraseRequest::Relationship(relationship) => relationship,
            EraseRequest::Everything => {
                // The answer still goes out under this relationship; the rest follows after it.
                asked.prove_done(hand)?;
                hand.write(Write::Disown)?;
                self.disowned = true;
                self.tell((through, 0), Event::Disowned);
                return Ok(Vec::new());
            }
        };
        if self.identity.is_provisioned_by(relationship) {
            let is_only = self.identity.provisioning().len() == 1;
            let (outcome, why) = match is_only {
                true => (Outcome::Conflict, "no other relationship provisions this node: erase everything"),
                false => (Outcome::Unsupported, "this stack does not erase a provisioning relationship"),
            };
            return Err(Stop::Refused(outcome, why.to_string()));
        }
        if let Some(held) = self.relationships.get_mut(&relationship) {
            held.leaves = true;
        }
        match erase_records_and_roots(hand, relationship) {
            Ok(()) => {}
            Err(Stop::Waits) => return Err(Stop::Waits),
            Err(refused) => {
                if let Some(held) = self.relationships.get_mut(&relationship) {
                    held.leaves = false;
                    self.stirred.insert(relationship);
                }
                return Err(refused);
            }
        }
        self.set_aside.retain(|(id, _), _| *id != relationship);
        self.tell((relationship, 0), Event::Erased);
        self.schedule_at(relationship, None);
        if let Some(erased) = self.relationships.remove(&relationship) {
            self.unlist_tags(relationship, &erased);
            self.refuse_all(relationship, erased);
        }
        Ok(Vec::new())
    }

    fn status_page(&mut self, body: &[u8]) -> Result<Vec<u8>, Stop> {
        let StatusRequest { after, most } = StatusRequest::parse(body).map_err(unreadable)?;
        let (relationships, more) = self.page(after, usize::from(most));
        Ok(StatusAnswer { relationships, more }.emit())
    }

    fn report_on(&self, body: &[u8], surroundings: &Surroundings<'_>) -> Result<Vec<u8>, Stop> {
        let ReportRequest { relationship, member } = ReportRequest::parse(body).map_err(unreadable)?;
        let answer = self.report(relationship, member, surroundings).ok_or_else(|| not_held(relationship))?;
        Ok(answer.emit())
    }

    fn set_endpoints(&mut self, hand: &mut Hand, body: &[u8]) -> Result<Vec<u8>, Stop> {
        let SetEndpoints { relationship, entries } = SetEndpoints::parse(body).map_err(unreadable)?;
        // The module lists the members of the generation that it made last.
        let latest = self.lineage(relationship).and_then(|lineage| lineage.entries().next_back());
        let (session, known) = latest.ok_or_else(|| not_held(relationship))?;
        let of = (relationship, session.membership().sds().generation());
        let own = usize::from(session.membership().index());
        let mut endpoints = known.endpoints.clone();
        let mut labels = known.member_labels.clone();
        labels.resize(endpoints.len(), String::new());
        for (index, label, endpoint) in entries {
            let at = usize::from(index);
            let place = endpoint_of(&endpoint)?;
            if at >= endpoints.len() {
                return Err(malformed(()));
            }
            labels[at] = label;
            if at != own {
                endpoints[at] = place;
            }
        }
        hand.write(Write::Endpoints { of, labels: labels.clone(), endpoints: endpoints.clone() })?;
        let held = self.relationships.get_mut(&relationship);
        let known =
            held.and_then(|held| held.lineage.data_mut(of.1)).ok_or_else(|| not_held(relationship))?;
        (known.member_labels, known.endpoints) = (labels, endpoints);
        Ok(Vec::new())
    }
}

/// Names and endpoints are listed for all members or for none, and each endpoint is one.
fn check_lists(install: &Install, members: usize) -> Result<(), Stop> {
    let lengths = [install.member_labels.len(), install.endpoints.len()];
    if lengths.iter().any(|length| ![0, members].contains(length)) {
        return Err(malformed(()));
    }
    install.endpoints.iter().try_for_each(|endpoint| endpoint_of(endpoint).map(drop))
}

/// Where a member is, as it stands in a message; an empty text: not known.
fn endpoint_of(text: &str) -> Result<Option<Endpoint>, Stop> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(malformed),
    }
}

fn prepare(hand: &mut Hand, body: &[u8]) -> Result<Vec<u8>, Stop> {
    PrepareRequest::parse(body).map_err(unreadable)?;
    match hand.ask(Question::Prepare)? {
        Answer::Bytes(material) => Ok(Opaque(material.to_vec()).emit()),
        _ => Err(Stop::element(&astray())),
    }
}

fn erase_records_and_roots(hand: &mut Hand, relationship: RelationshipId) -> Result<(), Stop> {
    hand.write(Write::Erase { relationship })?;
    for root in hand.roots()? {
        if matches!(root, Root::Relationship { id, .. } if id == relationship) {
            hand.ask(Question::Erase(root))?;
        }
    }
    hand.write(Write::Forget { relationship })
}

/// How a session of this kind behaves at a node. In a provisioning relationship nobody is there to hear a hello until the
/// module calls.
pub(crate) fn options_of(kind: Kind) -> Options {
    let is_asr = kind == Kind::Communication;
    Options { hello_at_start: is_asr, find_back: is_asr }
}
