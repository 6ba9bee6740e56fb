//! How the node of an installation starts: what is done around the start of the node itself.

use std::collections::BTreeMap;
use std::thread;

use akm_core::element::ElementError;
use akm_core::session::Instant;
use akm_core::start::StartError;
use akm_element::SystemRandom;
use akm_host::{Found, StartFailed, Surroundings};
use tracing::info;

use super::disk::read_all;
use super::element::{Element, ElementThread};
use super::words::cure;
use super::{Network, Nobody, Node};
use crate::config::Config;
use crate::error::{AsItIs, NodeError, StackTrouble};
use crate::layout::Layout;
use crate::storage::{IdentityRecord, Storage};

/// Places that are written at the same time.
const WRITES_AT_ONCE: usize = 16;

/// Fewer relationships than this are not worth a thread.
const FEWEST_OF_A_THREAD: usize = 16;

/// All that a start needs before it is counted: the state under its lock, the configuration, the element, and what the
/// disk holds.
pub struct Prepared {
    layout: Layout,
    config: Config,
    // Closed before the lock in `storage` is let go of.
    element: Element,
    storage: Storage,
    identity: IdentityRecord,
    found: Vec<Found>,
}

impl Prepared {
    /// Finishes what a crash cut off, and reads what the disk holds. Nothing is counted.
    pub fn of(layout: &Layout, config: Config, storage: Storage) -> Result<Self, NodeError> {
        let identity = whose(&storage)?;
        let mut element = config.element.open(storage.state_dir())?;
        storage.tidy(identity.as_ref(), &mut *element)?;
        let identity = identity.ok_or_else(|| not_a_node(&storage))?;
        let found = read_all(&storage, &identity, cure)?;
        Ok(Self { layout: layout.clone(), config, element, storage, identity, found })
    }

    /// Takes up all places under the next value of the element's counter, and starts the sessions: the start is counted.
    ///
    /// A relationship that cannot be read is set aside and told; the others go on.
    pub fn start(self) -> Result<Node, NodeError> {
        let Self { layout, config, element, storage, identity, found } = self;
        let element = ElementThread::spawn(element, &layout).map_err(NodeError::system("cannot start"))?;
        let host = akm_host::Node::start(
            akm_host::Identity::of_one(identity.node, identity.relationship, identity.provisioner),
            env!("CARGO_PKG_VERSION").to_owned(),
            found,
            &mut Surroundings { now: Instant::default(), random: &mut SystemRandom },
        );
        let mut node = Node {
            layout,
            config,
            element,
            storage,
            identity,
            host,
            set_aside: BTreeMap::new(),
            clock: std::time::Instant::now(),
            not_written: None,
            not_started: None,
            wishes: 0,
        };
        let network: &mut dyn Network = &mut Nobody;
        node.carry_out(network);
        node.wait_for_element(network);
        if let Some(why) = node.not_started.take() {
            return Err(node.not_started(why));
        }
        let relationships =
            node.host.relationships().map(|(_, _, lineage)| lineage.sessions().count()).sum::<usize>();
        info!(node = %node.identity.node, relationships, "started");
        Ok(node)
    }
}

/// Whose state this is: refused where it is nobody's, and `None` where a node gave its identity up and something of it
/// may be left.
pub fn whose(storage: &Storage) -> Result<Option<IdentityRecord>, NodeError> {
    let identity = storage.identity()?;
    if identity.is_none() && !storage.is_disowned() {
        // It may not even have an element yet.
        return Err(not_a_node(storage));
    }
    Ok(identity)
}

fn not_a_node(storage: &Storage) -> NodeError {
    AsItIs::NotANode { identity: storage.identity_path() }.into()
}

impl Node {
    /// Starts the node of an installation that nothing else is to be prepared for.
    pub fn start(layout: &Layout) -> Result<Self, NodeError> {
        let config = Config::load(layout)?;
        Prepared::of(layout, config, Storage::open(layout)?)?.start()
    }

    fn not_started(&mut self, why: StartFailed) -> NodeError {
        match why {
            StartFailed::Element(StartError::Element(error)) => error.into(),
            StartFailed::Element(moved @ StartError::CounterMoved) => StackTrouble::Element(moved).into(),
            StartFailed::Disk(failed) => self.written_in_vain(&failed),
        }
    }

    /// Erases what is left after the module erased the node.
    pub fn finish_erasure(&mut self) -> Result<(), NodeError> {
        self.host.forget();
        let gone = || ElementError::Unavailable("its thread ended".to_owned());
        let mut element = self.element.stop().ok_or_else(gone)?;
        self.storage.tidy(None, &mut *element)
    }
}

/// Does the same for all, many at once where there are many, and keeps the order: file systems make the writes of
/// several threads durable together.
pub(super) fn for_each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
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
