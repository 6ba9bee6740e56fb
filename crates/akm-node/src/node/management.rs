//! Answers to the module, over the provisioning relationship (protocol, section 8).

use akm_core::element::ElementError;
use akm_core::id::RelationshipId;
use akm_core::keys::{identify_proof, install_receipt};
use akm_core::management::{
    ActivateRequest, EraseRequest, IdentifyAnswer, IdentifyRequest, Identity, Install, Opaque, Operation,
    Outcome, PAGE_MAX, PrepareRequest, Request, Response, SetEndpoints, StatusAnswer, StatusRequest,
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
            .get(&self.identity.relationship)
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
        if let Some(why) = self.damaged.get(&id) {
            return Err((Outcome::Conflict, format!("held, but damaged: {why}")));
        }
        let root = sds.root();
        if let Some(held) = self.relationships.get(&id) {
            let held = held.session.membership().sds();
            if held.digest() != sds.digest() {
                return Err(if sds.generation() <= held.generation() {
                    (Outcome::Conflict, "another content is held for this or a later generation".to_owned())
                } else {
                    (Outcome::Unsupported, "this stack does not change generations yet".to_owned())
                });
            }
        } else {
            let wrapped = install.wrapped_root.as_ref().ok_or_else(|| malformed(()))?;
            self.element.install(root, wrapped).map_err(element_failed)?;
            let (installed, tree_root) = Installed::of(install, sds, false);
            let place = Place::before_first(0, tree_root);
            let sealed = seal_place(&self.seal, &installed.sds, &place.emit());
            if let Err(error) = self.storage.install(self.identity.node, &installed, &sealed) {
                // Best effort: what stays behind alone is erased at the next start.
                if !self.storage.holds(self.identity.node, id) {
                    let _ = self.element.erase(root);
                }
                return Err(node_failed(error));
            }
            info!(relationship = %id, label = installed.label, "installed");
            self.take_on(installed, Standing::Staged(place)).map_err(node_failed)?;
        }
        let receipt = install_receipt(&mut *self.element, root, body).map_err(element_failed)?;
        Ok(Opaque(receipt.expose().to_vec()).emit())
    }

    fn activate(&mut self, body: &[u8], network: &mut dyn Network) -> Result<Vec<u8>, Refused> {
        let ActivateRequest { relationship, generation } = ActivateRequest::parse(body).map_err(malformed)?;
        let held = self.relationships.get(&relationship).ok_or_else(|| not_held(relationship))?;
        if held.generation() != generation {
            return Err(not_held(relationship));
        }
        self.drive(relationship, Input::Activate, network, &mut Vec::new())
            .map_err(|error| (Outcome::Storage, error.to_string()))?;
        match self.relationships.get(&relationship).map(|held| held.session.phase()) {
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
        self.damaged.remove(&relationship);
        self.schedule_at(relationship, None);
        if let Some(erased) = self.relationships.remove(&relationship)
            && let Some(ids) = self.by_tag.get_mut(&erased.session.tag())
        {
            ids.retain(|id| *id != relationship);
        }
        info!(%relationship, "erased");
        Ok(Vec::new())
    }

    fn status_page(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let StatusRequest { after, most } = StatusRequest::parse(body).map_err(malformed)?;
        let (relationships, more) = self.page(after, usize::from(most));
        Ok(StatusAnswer { relationships, more }.emit())
    }

    fn set_endpoints(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let SetEndpoints { relationship, entries } = SetEndpoints::parse(body).map_err(malformed)?;
        let node = self.identity.node;
        let held = self.relationships.get_mut(&relationship).ok_or_else(|| not_held(relationship))?;
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
        self.storage.save_endpoints(node, relationship, &labels, &endpoints).map_err(node_failed)?;
        held.endpoints = endpoints.iter().map(|text| text.parse().ok()).collect();
        held.member_labels = labels;
        Ok(Vec::new())
    }
}
