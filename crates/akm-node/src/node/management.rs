//! Answers to the module, over the provisioning relationship (protocol, section 8).

use akm_core::element::ElementError;
use akm_core::id::RelationshipId;
use akm_core::keys::{identify_proof, install_receipt};
use akm_core::lineage::{self, Arrival};
use akm_core::management::{
    ActivateRequest, EraseRequest, IdentifyAnswer, IdentifyRequest, Identity, Install, Opaque, Operation,
    Outcome, PAGE_MAX, PrepareRequest, ReportAnswer, ReportRequest, Request, Response, SetEndpoints,
    StatusAnswer, StatusRequest,
};
use akm_core::policy::Policy;
use akm_core::sds::{Kind, SynchronizedDataSet};
use akm_core::session::{Input, Phase, Standing};
use akm_core::tree::Place;
use tracing::info;

use super::{Network, Node, seal_place};
use crate::error::NodeError;
use crate::storage::Installed;

/// A request that was not carried out: the outcome, and why.
type Refused = (Outcome, String);

fn malformed<E>(_: E) -> Refused {
    (Outcome::Malformed, "the request cannot be read".to_owned())
}

fn element_failed(error: ElementError) -> Refused {
    (Outcome::Element, error.to_string())
}

fn node_failed(error: NodeError) -> Refused {
    match error {
        NodeError::Element(error) => element_failed(error),
        other => (Outcome::Storage, other.to_string()),
    }
}

fn not_held(relationship: RelationshipId) -> Refused {
    (Outcome::NotHeld, format!("no relationship {relationship} here"))
}

impl Node {
    /// Carries out a request of the module. Repeating one does no harm.
    pub(super) fn answer(&mut self, request: &[u8], network: &mut dyn Network) -> Response {
        let Ok(Request { id, operation, body }) = Request::parse(request) else {
            let (outcome, reason) = malformed(());
            return Response { id: 0, outcome, body: Vec::new(), reason };
        };
        let result = match Operation::from_number(operation) {
            Some(Operation::Identify) => self.identify(body),
            Some(Operation::Prepare) => self.prepare(body),
            Some(Operation::Install) => self.install(body),
            Some(Operation::Activate) => self.activate(body, network),
            Some(Operation::Erase) => self.erase(body),
            Some(Operation::Status) => self.status_page(body),
            Some(Operation::SetEndpoints) => self.set_endpoints(body),
            Some(Operation::Report) => self.report_on(body),
            None => Err((Outcome::Unsupported, format!("no operation {operation} in this stack"))),
        };
        match result {
            Ok(body) => Response { id, outcome: Outcome::Done, body, reason: String::new() },
            Err((outcome, reason)) => Response { id, outcome, body: Vec::new(), reason },
        }
    }

    fn identify(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let IdentifyRequest { challenge } = IdentifyRequest::parse(body).map_err(malformed)?;
        let description = self.element.description();
        let (relationships, more) = self.page(None, PAGE_MAX);
        let integrity = self.layout.integrity(&description.identity()).map_err(node_failed)?;
        let identity = Identity {
            node: self.identity.node,
            relationship: self.identity.relationship,
            element: description,
            stack_version: env!("CARGO_PKG_VERSION").to_owned(),
            integrity,
            relationships,
            more,
        }
        .emit();
        let root = self
            .relationships
            .get(&self.in_force(self.identity.relationship).unwrap_or((self.identity.relationship, 0)))
            .ok_or_else(|| not_held(self.identity.relationship))?
            .session
            .membership()
            .root();
        let (node, relationship) = (self.identity.node, self.identity.relationship);
        let proof = identify_proof(&mut *self.element, root, &challenge, node, relationship, &identity)
            .map_err(element_failed)?;
        Ok(IdentifyAnswer { identity, proof: *proof.expose() }.emit())
    }

    fn prepare(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        PrepareRequest::parse(body).map_err(malformed)?;
        Ok(Opaque(self.element.prepare().map_err(element_failed)?).emit())
    }

    fn install(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let install = Install::parse(body).map_err(malformed)?;
        let sds = SynchronizedDataSet::parse(&install.public_part).map_err(malformed)?;
        let id = sds.relationship();
        if sds.kind() != Kind::Communication {
            return Err((Outcome::Unsupported, "a provisioning relationship comes by enrolment".to_owned()));
        }
        if sds.index_of(self.identity.node).is_none() {
            return Err((Outcome::Conflict, "this node is not a member".to_owned()));
        }
        if Policy::parse(sds.policy()).is_err() {
            return Err((
                Outcome::Unsupported,
                "the policy is not understood by this version of the stack: update the stack first"
                    .to_owned(),
            ));
        }
        let held = (id, sds.generation());
        if let Some(why) = self.damaged.get(&held) {
            return Err((Outcome::Conflict, format!("held, but damaged: {why}")));
        }
        let root = sds.root();
        let all = self.generations(id).map(|held| &self.relationships[&held].sds);
        match lineage::examine(all, &sds) {
            Ok(Arrival::Held) => {}
            // What is damaged stood there too.
            Ok(Arrival::Above) if held.1 <= self.highest(id) => {
                return Err((Outcome::Conflict, "a later generation is held, but damaged".to_owned()));
            }
            Ok(Arrival::Above) => self.install_new(install, sds)?,
            Err(not_taken) => return Err((Outcome::Conflict, not_taken.to_string())),
        }
        let receipt = install_receipt(&mut *self.element, root, body).map_err(element_failed)?;
        Ok(Opaque(receipt.expose().to_vec()).emit())
    }

    /// Keeps a generation that is above all that are held of its relationship.
    fn install_new(&mut self, install: Install, sds: SynchronizedDataSet) -> Result<(), Refused> {
        let (id, root) = (sds.relationship(), sds.root());
        let node = self.identity.node;
        let before = self.in_force(id);
        let beside = self.highest(id) > 0;
        let had_root = self.element.roots().map_err(element_failed)?.contains(&root);
        match &install.wrapped_root {
            Some(wrapped) => self.element.install(root, wrapped.expose()).map_err(element_failed)?,
            None if had_root => {}
            None if !self.storage.holds(node, id) => return Err(malformed(())),
            None => {
                let why = format!("no element root of version {} here", sds.element_version());
                return Err((Outcome::NotHeld, why));
            }
        }
        let (mut installed, tree_root) = Installed::of(install, sds, false);
        if let Some(before) = before {
            self.keep_what_was_learnt(before, &mut installed);
        }
        let place = Place::before_first(0, tree_root);
        let sealed = seal_place(&self.seal, &installed.sds, place.emit().expose());
        let written = if beside {
            self.storage.install_beside(node, &installed, &sealed)
        } else {
            self.storage.install(node, &installed, &sealed)
        };
        if let Err(error) = written {
            // Best effort: what stays behind alone is erased at the next start.
            if beside {
                let _ = self.try_tidy(id);
            } else if !had_root && !self.storage.holds(node, id) {
                let _ = self.element.erase(root);
            }
            return Err(node_failed(error));
        }
        info!(relationship = %id, label = installed.label, generation = installed.sds.generation(), "installed");
        self.take_on(installed, Standing::Staged(place)).map_err(node_failed)
    }

    /// Where this node has heard members of an earlier generation counts more than what the module knows.
    fn keep_what_was_learnt(&self, before: (RelationshipId, u32), installed: &mut Installed) {
        let before = &self.relationships[&before];
        installed.endpoints.resize(installed.sds.members().len(), String::new());
        for (member, (endpoint, heard)) in
            before.sds.members().iter().zip(before.endpoints.iter().zip(&before.heard))
        {
            if let (Some(at), Some(endpoint), Some(_)) = (installed.sds.index_of(*member), endpoint, heard) {
                installed.endpoints[usize::from(at)] = endpoint.to_string();
            }
        }
    }

    fn activate(&mut self, body: &[u8], network: &mut dyn Network) -> Result<Vec<u8>, Refused> {
        let ActivateRequest { relationship, generation } = ActivateRequest::parse(body).map_err(malformed)?;
        let held = (relationship, generation);
        if !self.relationships.contains_key(&held) {
            return Err(not_held(relationship));
        }
        self.drive(held, Input::Activate, network, &mut Vec::new())
            .map_err(|error| (Outcome::Storage, error.to_string()))?;
        match self.relationships.get(&held).map(|held| held.session.phase()) {
            Some(Phase::Established | Phase::UsedUp) => Ok(Vec::new()),
            Some(Phase::Staged) => {
                Err((Outcome::Storage, "the node could not record that it is active".to_owned()))
            }
            phase => Err((Outcome::Conflict, format!("the relationship rests here ({phase:?})"))),
        }
    }

    fn erase(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let EraseRequest { relationship } = EraseRequest::parse(body).map_err(malformed)?;
        if relationship == self.identity.relationship {
            // The answer still goes out under this relationship; the rest follows after it.
            self.storage.disown().map_err(node_failed)?;
            self.disowned = true;
            info!("erased by the module");
            return Ok(Vec::new());
        }
        self.storage.erase(self.identity.node, relationship, &mut *self.element).map_err(node_failed)?;
        self.damaged.retain(|(id, _), _| *id != relationship);
        let erased: Vec<_> = self.generations(relationship).collect();
        for held in erased {
            self.schedule_at(held, None);
            let Some(erased) = self.relationships.remove(&held) else { continue };
            if let Some(due) = erased.timer {
                self.timers.remove(&(due, held));
            }
            self.unlist_tags(held, &erased.tags);
        }
        self.former.retain(|_, former| former.relationship != relationship);
        info!(%relationship, "erased");
        Ok(Vec::new())
    }

    fn status_page(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let StatusRequest { after, most } = StatusRequest::parse(body).map_err(malformed)?;
        let (relationships, more) = self.page(after, usize::from(most));
        Ok(StatusAnswer { relationships, more }.emit())
    }

    fn report_on(&self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let ReportRequest { relationship, member } = ReportRequest::parse(body).map_err(malformed)?;
        let held = self.in_force(relationship).ok_or_else(|| not_held(relationship))?;
        let entry = &self.relationships[&held];
        let at = entry.sds.index_of(member).map(usize::from);
        let report = entry.report(relationship, None);
        Ok(ReportAnswer {
            is_member: at.is_some(),
            endpoint: at.and_then(|at| entry.endpoints[at]).map(|at| at.to_string()).unwrap_or_default(),
            heard: at.and_then(|at| entry.heard[at]).map(|heard| heard.elapsed().as_secs()),
            sent: report.sent,
            accepted: report.accepted,
            rejected: report.rejected.into_iter().collect(),
            sent_ago: entry.sent_at.map(|sent| sent.elapsed().as_secs()),
            up: self.clock.elapsed().as_secs(),
            rolled_back: entry.rolled_back,
        }
        .emit())
    }

    fn set_endpoints(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let SetEndpoints { relationship, entries } = SetEndpoints::parse(body).map_err(malformed)?;
        let node = self.identity.node;
        // The module lists the members of the generation that it made last.
        let latest = self.generations(relationship).next_back().ok_or_else(|| not_held(relationship))?;
        let held = self.relationships.get_mut(&latest).ok_or_else(|| not_held(relationship))?;
        let members = held.endpoints.len();
        let own = usize::from(held.session.membership().index());
        let mut labels = held.member_labels.clone();
        labels.resize(members, String::new());
        let mut endpoints = held.endpoint_texts();
        for (index, label, endpoint) in entries {
            let at = usize::from(index);
            let is_endpoint = endpoint.is_empty() || endpoint.parse::<std::net::SocketAddr>().is_ok();
            if at >= members || !is_endpoint {
                return Err(malformed(()));
            }
            labels[at] = label;
            if at != own {
                endpoints[at] = endpoint;
            }
        }
        self.storage
            .save_endpoints(node, relationship, latest.1, &labels, &endpoints)
            .map_err(node_failed)?;
        held.endpoints = endpoints.iter().map(|text| text.parse().ok()).collect();
        held.member_labels = labels;
        Ok(Vec::new())
    }
}
