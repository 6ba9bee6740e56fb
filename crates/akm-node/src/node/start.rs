//! How a node starts (protocol, section 6).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::thread;

use akm_core::crypto;
use akm_core::element::{ProvisionableElement, Root};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::PlaceSeal;
use akm_core::sds::{Kind, SynchronizedDataSet};
use akm_core::session::{Membership, Options, Session, Standing, Surroundings};
use akm_core::start::{SealedPlace, Start, StartError};
use akm_core::tree::Place;
use tracing::{error, info};

use super::{Node, Relationship, SystemRandom, seal_place};
use crate::config::Config;
use crate::error::NodeError;
use crate::layout::Layout;
use crate::storage::{Installed, Storage};

/// Places that are written at the same time.
const WRITES_AT_ONCE: usize = 16;

/// Fewer relationships than this are not worth a thread.
const FEWEST_OF_A_THREAD: usize = 16;

/// What the sealed place of a relationship says at a start; where it is of no use, why.
enum FoundPlace {
    Good(Place),
    Lost(String),
    RolledBack(String),
    /// Good, but it could not be written under this start: using it would break the next one.
    NotRecorded(NodeError),
}

impl Node {
    /// Starts the node of an installation: finishes what a crash cut off, takes up all places under
    /// the next value of the element's counter, and starts the sessions.
    ///
    /// A relationship that cannot be read is set aside and told; the others go on.
    pub fn start(layout: &Layout) -> Result<Self, NodeError> {
        let config = Config::load(layout)?;
        let storage = Storage::open(layout)?;
        let identity = storage.identity()?;
        let not_a_node = || {
            NodeError::NothingToDo(format!(
                "{} is missing, so this device is not an AKM node: put it back if it was lost, else provision the \
                 device from its module (akm provision)",
                storage.identity_path().display()
            ))
        };
        if identity.is_none() && !storage.is_disowned() {
            // It may not even have an element yet.
            return Err(not_a_node());
        }
        let mut element = config.element.open(storage.state_dir())?;
        storage.tidy(identity.as_ref(), &mut *element)?;
        let identity = identity.ok_or_else(not_a_node)?;
        let mut damaged = BTreeMap::new();
        let mut installed = Vec::new();
        for found in storage.relationships(identity.node)? {
            match found.installed {
                Ok(content) => installed.push(content),
                Err(error) => {
                    let error = format!("{error}; {}", cure(found.relationship == identity.relationship));
                    error!(relationship = %found.relationship, "set aside: {error}");
                    damaged.insert((found.relationship, found.generation), error);
                }
            }
        }
        if installed.iter().all(|content: &Installed| content.sds.relationship() != identity.relationship) {
            let all = (identity.relationship, 0)..=(identity.relationship, u32::MAX);
            if damaged.range(all).next().is_none() {
                let error = format!("its records are missing: {}", cure(true));
                error!(relationship = %identity.relationship, "the provisioning relationship is set aside: {error}");
                damaged.insert((identity.relationship, 0), error);
            }
        }
        let unfinished = drop_superseded(&mut installed);
        let (seal, places) = take_up_places(&storage, &mut *element, identity.node, &installed)?;
        let mut node = Self {
            layout: layout.clone(),
            config,
            storage,
            element,
            element_trouble: None,
            seal,
            identity,
            relationships: BTreeMap::new(),
            damaged,
            by_tag: HashMap::new(),
            former: HashMap::new(),
            timers: BTreeSet::new(),
            clock: std::time::Instant::now(),
            unknown_frames: 0,
            disowned: false,
        };
        for (installed, place) in installed.into_iter().zip(places) {
            let held = (installed.sds.relationship(), installed.sds.generation());
            if let Err(error) = node.begin(installed, place) {
                let error = format!("{error}; {}", cure(held.0 == node.identity.relationship));
                error!(relationship = %held.0, "set aside: {error}");
                node.damaged.insert(held, error);
            }
        }
        for relationship in unfinished.into_iter().chain(node.with_strange_roots()?) {
            node.try_tidy(relationship)?;
        }
        info!(node = %node.identity.node, relationships = node.relationships.len(), "started");
        Ok(node)
    }

    fn begin(&mut self, installed: Installed, place: FoundPlace) -> Result<(), NodeError> {
        let id = (installed.sds.relationship(), installed.sds.generation());
        let rolled_back = matches!(place, FoundPlace::RolledBack(_));
        let (standing, why) = match place {
            FoundPlace::Lost(why) => (Standing::WithoutPlace { active: installed.active }, Some(why)),
            FoundPlace::RolledBack(why) => (Standing::RolledBack { active: installed.active }, Some(why)),
            FoundPlace::NotRecorded(error) => {
                // The element has counted: under the next count this place will be one of an earlier start.
                return Err(NodeError::Failed(format!(
                    "{error}; the start of this stack could not be recorded in it, so it counts as rolled back from \
                     here on"
                )));
            }
            FoundPlace::Good(place) if installed.active => (Standing::Active(place), None),
            FoundPlace::Good(place) => (Standing::Staged(place), None),
        };
        self.take_on(installed, standing)?;
        let is_provisioning = id.0 == self.identity.relationship;
        if let (Some(why), Some(relationship)) = (why, self.relationships.get_mut(&id)) {
            let why = format!("{why}; {}", cure_of_place(is_provisioning));
            error!(relationship = %id.0, label = relationship.label, "rests: {why}");
            relationship.rests = Some(why);
            relationship.rolled_back = rolled_back;
        }
        Ok(())
    }

    /// Starts the session of a relationship and puts it among the others.
    pub(crate) fn take_on(&mut self, installed: Installed, standing: Standing) -> Result<(), NodeError> {
        let Installed { sds, header_key, tag, label, member_labels, endpoints, active: _ } = installed;
        let id = (sds.relationship(), sds.generation());
        let (member_labels, endpoints) =
            self.storage.load_endpoints(self.identity.node, id.0, id.1).unwrap_or((member_labels, endpoints));
        let is_asr = sds.kind() == Kind::Communication;
        // In a provisioning relationship nobody is there to hear a hello until the module calls.
        let options = Options { hello_at_start: is_asr, find_back: is_asr };
        let membership = Membership::new(sds, self.identity.node, header_key, tag)
            .map_err(|error| NodeError::Failed(error.to_string()))?;
        let now = self.now();
        let mut surroundings = Surroundings { now, element: &mut *self.element, random: &mut SystemRandom };
        let session = Session::start(crypto::provider(), membership, standing, options, &mut surroundings)?;
        let due = session.timeout();
        let found_back = self.storage.found_back(self.identity.node, id.0, id.1);
        let mut relationship = Relationship::new(session, label, member_labels, &endpoints);
        relationship.found_back = found_back;
        self.relationships.insert(id, relationship);
        self.list_tags(id);
        self.schedule_at(id, due);
        Ok(())
    }
}

impl Node {
    /// The relationships of which the element holds a root that none of their generations needs, where that is sure.
    fn with_strange_roots(&mut self) -> Result<BTreeSet<RelationshipId>, NodeError> {
        let strange = self.element.roots()?.into_iter().filter_map(|root| match root {
            Root::Relationship { id, version } => {
                let needed = self
                    .generations(id)
                    .any(|held| self.relationships[&held].sds.element_version() == version);
                (!needed && self.in_force(id).is_some()).then_some(id)
            }
            Root::Device => None,
        });
        Ok(strange.collect())
    }
}

/// Of each relationship the generations before the one in force are over: a crash came before they were erased, or
/// before their overlap had ended. Returns the relationships of which something is to be erased.
fn drop_superseded(installed: &mut Vec<Installed>) -> BTreeSet<RelationshipId> {
    let mut in_force = BTreeMap::new();
    for content in installed.iter().filter(|content| content.active) {
        let highest = in_force.entry(content.sds.relationship()).or_insert(0);
        *highest = content.sds.generation().max(*highest);
    }
    let mut unfinished = BTreeSet::new();
    installed.retain(|content| {
        let id = content.sds.relationship();
        let over = in_force.get(&id).is_some_and(|highest| content.sds.generation() < *highest);
        if over {
            unfinished.insert(id);
        }
        !over
    });
    unfinished
}

/// Writes all good places under this start, then counts up: a crash at any point leaves places that
/// the next start accepts.
fn take_up_places(
    storage: &Storage,
    element: &mut dyn ProvisionableElement,
    node: AkmId,
    installed: &[Installed],
) -> Result<(PlaceSeal, Vec<FoundPlace>), NodeError> {
    let start = Start::begin(element)?;
    let take_up = |content: &Installed| {
        let sds = &content.sds;
        let (relationship, generation) = (sds.relationship(), sds.generation());
        let path = storage.place_path(node, relationship, generation);
        let found = match storage.load_place(node, relationship, generation) {
            Ok(sealed) => examine(&start, sds, sealed.as_deref(), &path),
            Err(error) => FoundPlace::Lost(error.to_string()),
        };
        let written = match &found {
            FoundPlace::Good(place) if start.rewrites() => {
                let sealed = seal_place(start.seal(), sds, place.emit().expose());
                storage.save_place(node, relationship, generation, &sealed)
            }
            _ => Ok(()),
        };
        match written {
            Ok(()) => Ok(found),
            // Nothing has been counted yet: all of it can be done again once the disk takes it.
            Err(error) if error.is_of_the_disk() => Err(error),
            Err(error) => Ok(FoundPlace::NotRecorded(error)),
        }
    };
    let places = for_each(installed, take_up).into_iter().collect::<Result<_, _>>()?;
    let seal = start.count_up(element).map_err(|error| match error {
        StartError::Element(error) => error.into(),
        StartError::CounterMoved => NodeError::Failed(error.to_string()),
    })?;
    Ok((seal, places))
}

/// Does the same for all, many at once where there are many, and keeps the order: file systems make the writes of
/// several threads durable together.
fn for_each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = (items.len() / FEWEST_OF_A_THREAD).clamp(1, WRITES_AT_ONCE);
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let work = &work;
    thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(items.len().div_ceil(threads))
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<R>>()))
            .collect();
        let done = parts.into_iter().flat_map(|part| match part.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.collect()
    })
}

fn examine(start: &Start, sds: &SynchronizedDataSet, sealed: Option<&[u8]>, path: &Path) -> FoundPlace {
    let path = path.display();
    match start.examine(crypto::provider(), sds, sealed) {
        SealedPlace::Good(place) => FoundPlace::Good(place),
        SealedPlace::Missing if sealed.is_none() => FoundPlace::Lost(format!("{path} is missing")),
        SealedPlace::Missing | SealedPlace::Damaged => FoundPlace::Lost(format!("{path} is damaged")),
        SealedPlace::RolledBack => FoundPlace::RolledBack(format!(
            "{path} is not from the latest start: it, or the element, is from an older image of the disk"
        )),
    }
}

/// What is to be done about records that are of no use.
fn cure(is_provisioning: bool) -> &'static str {
    if is_provisioning {
        "the module cannot reach this node any more: provision the device again there (akm provision TARGET --again)"
    } else {
        "its module mends it with a new generation (akm asr renew)"
    }
}

/// What is to be done about a place that is of no use.
fn cure_of_place(is_provisioning: bool) -> &'static str {
    if is_provisioning {
        cure(true)
    } else {
        "the other members are asked for theirs; if that does not help, its module mends it (akm asr renew)"
    }
}
