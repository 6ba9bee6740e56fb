//! Hands the present generation of an ASR to its members, and lets it become active.

use akm_core::element::RootCheck;
use akm_core::frame::{OVERHEAD, STREAM_MAX};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::management::{Install, Outcome};
use akm_element::wrap;

use super::{MemberReport, find_status, for_each, not_in_store};
use crate::ceremony::{Heals, renew_over};
use crate::error::relationship::{Lacks, Members, Refusal};
use crate::error::{Away, Error, Unfinished};
use crate::keyring::Keyring;
use crate::link::{Link, LinkError};
use crate::mint::{self, Minted, seal_host_part};
use crate::names::Timestamp;
use crate::store::{MemberState, Node, Relationship, Store, StoreError};

/// Room in a stream frame for what an install request holds beside its lists.
const INSTALL_REST: usize = 2048;

/// How often a generation is made anew because a member holds a later one.
const ATTEMPTS: u32 = 3;

/// The nodes that answer, and why others do not.
pub(super) struct Reached<'a> {
    links: Vec<(AkmId, Link<'a>)>,
    away: Vec<(AkmId, Error)>,
}

/// What nodes say of a relationship: a module that was restored goes above it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    generation: u32,
    element_version: u32,
}

/// What the next generation of an ASR shall be.
pub(super) struct Next {
    pub(super) members: Vec<AkmId>,
    pub(super) policy: Vec<u8>,
    /// Whether somebody may have the present root who shall not have the next.
    pub(super) raise: bool,
    /// Whether somebody may have had control of members: then each gets it only after a generation of its own provisioning
    /// relationship.
    pub(super) suspect: bool,
}

/// Takes the locks of all these nodes and connects to them.
pub(super) fn reach<'a>(store: &'a Store, nodes: &[Node]) -> Result<Reached<'a>, Error> {
    // Nodes are locked in one order by all commands, so that no two wait for each other.
    let mut by_id: Vec<&Node> = nodes.iter().collect();
    by_id.sort_by_key(|node| node.id);
    let mut held = Vec::new();
    for node in by_id {
        held.push((node, Link::lock(store, node)?));
    }
    let mut reached = Reached { links: Vec::new(), away: Vec::new() };
    for (id, result) in for_each(held, |(node, lock)| (node.id, Link::connect(store, node, lock))) {
        match result {
            Ok(link) => reached.links.push((id, link)),
            Err(error) => reached.is_away(store, id, error.into())?,
        }
    }
    Ok(reached)
}

impl<'a> Reached<'a> {
    fn is_away(&mut self, store: &Store, id: AkmId, error: Error) -> Result<(), Error> {
        store.note_absence(id, &error.to_string(), Timestamp::now())?;
        self.away.push((id, error));
        Ok(())
    }

    /// Does something at all that were reached; who fails at it counts as away.
    fn each<T: Send>(
        &mut self,
        store: &Store,
        work: impl Fn(AkmId, &mut Link<'a>) -> Result<T, Error> + Sync,
    ) -> Result<Vec<(AkmId, T)>, Error> {
        let links = std::mem::take(&mut self.links);
        let mut done = Vec::new();
        for (id, link, result) in for_each(links, |(id, mut link)| {
            let result = work(id, &mut link);
            (id, link, result)
        }) {
            match result {
                Ok(value) => {
                    done.push((id, value));
                    self.links.push((id, link));
                }
                Err(error) => self.is_away(store, id, error)?,
            }
        }
        Ok(done)
    }

    /// What the nodes that were reached hold of a relationship.
    pub(super) fn listen(&mut self, store: &Store, id: RelationshipId) -> Result<Heard, Error> {
        let mut heard = Heard::default();
        for (_, all) in self.each(store, |_, link| Ok(link.status()?))? {
            for status in all.into_iter().filter(|status| status.relationship == id) {
                heard.generation = heard.generation.max(status.generation).max(status.highest);
                heard.element_version = heard.element_version.max(status.element_version);
            }
        }
        Ok(heard)
    }
}

/// Makes the next generation in the store, above all that the store knows and that was heard. The element version rises
/// where it must, and where the module does not hold the present root.
pub(super) fn make_next(
    store: &Store,
    present: &Relationship,
    next: Next,
    heard: Heard,
) -> Result<Relationship, Error> {
    let id = present.id();
    let version = present.sds.element_version();
    let was_overtaken = heard.generation > present.sds.generation() || heard.element_version > version;
    let raise = next.raise || was_overtaken || store.element_root(id, version)?.is_none();
    let highest = |what: &'static str, one: u32, other: u32| {
        one.max(other).checked_add(1).ok_or(Refusal::Lacks(Lacks::Number { what }))
    };
    let element_version =
        if raise { highest("element version", version, heard.element_version)? } else { version };
    let generation = highest("generation", present.sds.generation(), heard.generation)?;
    let Minted { sds, secrets } = mint::next(id, generation, element_version, next.members, next.policy)
        .map_err(|error| Refusal::from(Members::Invalid(error)))?;
    let is_lacking = present.members.iter().any(|member| member.state == MemberState::Pending);
    let suspect = next.suspect || present.suspected && is_lacking;
    store.add_generation_for(&sds, &secrets, Timestamp::now(), suspect)?;
    store.relationship(id)?.ok_or_else(|| not_in_store(format!("ASR {id}")))
}

/// Installs at every member that was reached and lacks it; once all have acknowledged, or the operator's word is given,
/// activates at every member that was reached.
///
/// Returns how each member in `nodes` stands. [`Unfinished::Parked`] if it is, [`Unfinished::BeginsLater`] if one that has it was
/// not told.
pub(super) fn bring_forward(
    store: &Store,
    asr: &Relationship,
    nodes: &[Node],
    mut reached: Reached<'_>,
    without_absent: bool,
) -> Result<Vec<MemberReport>, Error> {
    let mut asr = asr.clone();
    for attempt in 1.. {
        let texts = Texts::of(store, &asr)?;
        let states: Vec<_> = asr.members.iter().map(|member| (member.node, member.state)).collect();
        let handed_out = reached.each(store, |id, link| {
            erase_leftovers(store, link)?;
            if !states.contains(&(id, MemberState::Pending)) {
                return Ok(true);
            }
            heal_first(store, link, &asr)?;
            let installed = install_at(store, link, &asr, &texts)?;
            if installed {
                store.set_member_state(asr.id(), id, MemberState::Installed)?;
            }
            Ok(installed)
        })?;
        if handed_out.iter().all(|(_, installed)| *installed) {
            break;
        }
        if attempt == ATTEMPTS {
            return Err(Refusal::from(Lacks::Overtaken).into());
        }
        // This store is older than what members hold.
        let heard = reached.listen(store, asr.id())?;
        let members = asr.sds.members().to_vec();
        let (policy, suspect) = (asr.sds.policy().to_vec(), asr.suspected);
        let next = Next { members, policy, raise: true, suspect };
        asr = make_next(store, &asr, next, heard)?;
    }
    let id = asr.id();
    let present = |store: &Store| -> Result<Relationship, Error> {
        store.relationship(id)?.ok_or_else(|| not_in_store(format!("ASR {id}")))
    };
    let now = present(store)?;
    let pending = now.members.iter().filter(|member| member.state == MemberState::Pending).count();
    let may_begin = pending == 0 || now.released || without_absent && pending < now.members.len();
    if !may_begin {
        return Err(Unfinished::Parked {
            asr: name_of(&now),
            generation: now.sds.generation(),
            away: by_name(nodes, reached.away),
        }
        .into());
    }
    if pending == 0 {
        store.acknowledge_relationship(id)?;
        store.erase_secrets(id)?;
    }
    store.release_generation(id)?;
    let states: Vec<_> = now.members.iter().map(|member| (member.node, member.state)).collect();
    let statuses = reached.each(store, |node, link| {
        if states.contains(&(node, MemberState::Installed)) {
            link.activate(&now.sds)?;
            store.set_member_state(id, node, MemberState::Active)?;
        }
        let all = link.status()?;
        find_status(&all, id, link.node())
    })?;
    for (node, _) in &statuses {
        store.forget_absence(*node)?;
    }
    let now = present(store)?;
    if now.members.iter().all(|member| member.state == MemberState::Active) {
        store.activate_relationship(id)?;
    }
    if pending == 0 && !reached.away.is_empty() {
        return Err(Unfinished::BeginsLater {
            asr: name_of(&now),
            generation: now.sds.generation(),
            away: by_name(nodes, reached.away),
        }
        .into());
    }
    let report = |node: &Node| {
        let status = statuses.iter().find(|(id, _)| *id == node.id).map(|(_, status)| Ok(*status));
        let at = reached.away.iter().position(|(id, _)| *id == node.id);
        (status, at)
    };
    let found: Vec<_> = nodes.iter().map(|node| (node.clone(), report(node))).collect();
    let mut away: Vec<_> = reached.away.into_iter().map(|(_, error)| Some(error)).collect();
    Ok(found
        .into_iter()
        .map(|(node, (status, at))| {
            let error = at.and_then(|at| away[at].take());
            let missing = || Refusal::from(Lacks::NotAsked { name: node.name.clone() }).into();
            let status = status.unwrap_or_else(|| Err(error.unwrap_or_else(missing)));
            MemberReport { status, node }
        })
        .collect())
}

/// A member that somebody may have had control of gets a generation of its own provisioning relationship, before its share of
/// an ASR that was renewed for that: else whoever had it could read on.
fn heal_first(store: &Store, link: &mut Link<'_>, asr: &Relationship) -> Result<(), Error> {
    if !asr.suspected || Heals::of(link.node()) == Heals::No {
        return Ok(());
    }
    let own = store.relationship(link.node().relationship)?;
    if own.is_some_and(|own| own.sds.generation() > 1 && own.made_at >= asr.made_at) {
        return Ok(());
    }
    renew_over(store, link).map(|_| ())
}

/// Has a node erase the ASRs that ended, or that it left, also those that did while it was away.
pub(super) fn erase_leftovers(store: &Store, link: &mut Link<'_>) -> Result<(), Error> {
    let node = link.node().id;
    for leftover in store.leftovers_of_node(node)? {
        link.erase(leftover.relationship)?;
        store.mark_erased(leftover.relationship, node)?;
    }
    Ok(())
}

/// What operators call the members, and where they are, in the order of the SDS.
struct Texts {
    labels: Vec<String>,
    endpoints: Vec<String>,
}

impl Texts {
    fn of(store: &Store, asr: &Relationship) -> Result<Self, StoreError> {
        let mut texts = Self { labels: Vec::new(), endpoints: Vec::new() };
        for member in asr.sds.members() {
            let node = store.node_by_id(*member)?;
            let endpoint = node.as_ref().and_then(|node| node.endpoint.as_ref()?.resolve().ok());
            texts.endpoints.push(endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default());
            texts.labels.push(node.map(|node| node.name.to_string()).unwrap_or_default());
        }
        Ok(texts)
    }
}

/// Installs the present generation at a node; false if the node holds a later one.
fn install_at(store: &Store, link: &mut Link<'_>, asr: &Relationship, texts: &Texts) -> Result<bool, Error> {
    let with_root = !store.has_element_root(asr.id(), asr.sds.element_version(), link.node().id)?;
    match try_install(store, link, asr, texts, with_root) {
        Err(TryInstall::Link(LinkError::Refused { outcome: Outcome::Conflict, .. }))
            if asr.sds.generation() > 1 =>
        {
            Ok(false)
        }
        // Its element lost what it had acknowledged.
        Err(TryInstall::Link(LinkError::Refused { outcome: Outcome::NotHeld, .. })) if !with_root => {
            try_install(store, link, asr, texts, true)?;
            Ok(true)
        }
        result => Ok(result.map(|()| true)?),
    }
}

enum TryInstall {
    Link(LinkError),
    Other(Error),
}

impl From<TryInstall> for Error {
    fn from(error: TryInstall) -> Self {
        match error {
            TryInstall::Link(error) => error.into(),
            TryInstall::Other(error) => error,
        }
    }
}

fn try_install(
    store: &Store,
    link: &mut Link<'_>,
    asr: &Relationship,
    texts: &Texts,
    with_root: bool,
) -> Result<(), TryInstall> {
    let name = asr.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let other = |error: StoreError| TryInstall::Other(error.into());
    let lacks = |lacks: Lacks| TryInstall::Other(Refusal::from(lacks).into());
    let gone = || lacks(Lacks::Secrets { name: name.clone() });
    let root = store.element_root(asr.id(), asr.sds.element_version()).map_err(other)?.ok_or_else(gone)?;
    let root_check = RootCheck::of(&root);
    let wrapped_root = if with_root {
        let element = link
            .node()
            .element
            .clone()
            .ok_or_else(|| lacks(Lacks::Element { name: link.node().name.clone() }))?;
        let material = link.prepare(&asr.sds).map_err(TryInstall::Link)?;
        let keys = Keyring::default().wrap_keys(store, &element).map_err(TryInstall::Other)?;
        let wrapped = wrap(asr.sds.root(root_check), &root, &element, &material, &keys);
        Some(wrapped.map_err(|error| TryInstall::Other(error.into()))?)
    } else {
        None
    };
    let secrets = store.secrets(asr.id()).map_err(other)?;
    let part = secrets.host_part().ok_or_else(gone)?;
    let public_part = asr.sds.emit();
    let listed: usize = texts.labels.iter().chain(&texts.endpoints).map(|text| text.len() + 2).sum();
    // Names are a comfort: where they do not fit into one frame they are left out.
    let fits = public_part.len() + listed + INSTALL_REST + OVERHEAD <= STREAM_MAX;
    let install = Install {
        public_part,
        wrapped_root,
        root_check,
        host_part: seal_host_part(&part, &root, &asr.sds, link.node().id),
        label: name.clone(),
        member_labels: if fits { texts.labels.clone() } else { Vec::new() },
        endpoints: if fits { texts.endpoints.clone() } else { Vec::new() },
    };
    link.install(&asr.sds, &part.digest(), install.emit().expose(), &root).map_err(TryInstall::Link)?;
    if !fits {
        link.set_endpoints(asr.id(), &texts.labels, &texts.endpoints).map_err(TryInstall::Link)?;
    }
    Ok(())
}

/// Who is away, by name and in the order of the SDS, with why.
fn by_name(nodes: &[Node], mut away: Vec<(AkmId, Error)>) -> Vec<Away> {
    let place = |id: AkmId| nodes.iter().position(|node| node.id == id);
    away.sort_by_key(|(id, _)| place(*id));
    away.into_iter()
        .filter_map(|(id, why)| Some(Away { name: nodes.get(place(id)?)?.name.clone(), why }))
        .collect()
}

fn name_of(asr: &Relationship) -> String {
    asr.name.as_ref().map(ToString::to_string).unwrap_or_default()
}
