//! How the node of an installation starts: what is done around the start of the node itself.

use std::collections::BTreeMap;
use std::thread;

use akm_core::element::ElementError;
use akm_core::session::Instant;
use akm_core::start::StartError;
use akm_element::SystemRandom;
use akm_host::{StartFailed, Surroundings};
use tracing::info;

use super::disk::read_all;
use super::element::ElementThread;
use super::words::cure;
use super::{Network, Nobody, Node};
use crate::config::Config;
use crate::error::{AsItIs, NodeError, StackTrouble};
use crate::layout::Layout;
use crate::storage::Storage;

/// Places that are written at the same time.
const WRITES_AT_ONCE: usize = 16;

/// Fewer relationships than this are not worth a thread.
const FEWEST_OF_A_THREAD: usize = 16;

impl Node {
    /// Starts the node of an installation: finishes what a crash cut off, takes up all places under
    /// the next value of the element's counter, and starts the sessions.
    ///
    /// A relationship that cannot be read is set aside and told; the others go on.
    pub fn start(layout: &Layout) -> Result<Self, NodeError> {
        let config = Config::load(layout)?;
        let storage = Storage::open(layout)?;
        let identity = storage.identity()?;
        let not_a_node = || AsItIs::NotANode { identity: storage.identity_path() };
        if identity.is_none() && !storage.is_disowned() {
            // It may not even have an element yet.
            return Err(not_a_node().into());
        }
        let mut element = config.element.open(storage.state_dir())?;
        storage.tidy(identity.as_ref(), &mut *element)?;
        let identity = identity.ok_or_else(not_a_node)?;
        let found = read_all(&storage, &identity, cure)?;
        let element = ElementThread::spawn(element, layout).map_err(NodeError::system("cannot start"))?;
        let host = akm_host::Node::start(
            akm_host::Identity::of_one(identity.node, identity.relationship, identity.provisioner),
            env!("CARGO_PKG_VERSION").to_owned(),
            found,
            &mut Surroundings { now: Instant::default(), random: &mut SystemRandom },
        );
        let mut node = Self {
            layout: layout.clone(),
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
