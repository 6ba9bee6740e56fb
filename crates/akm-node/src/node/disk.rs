//! What a node wants written, on the disk.

use akm_host::{Endpoint, Found, StoredGeneration, Write};

use super::for_each;
use crate::error::NodeError;
use crate::storage::{IdentityRecord, Storage};

/// Writes for which threads are worth their while are at least as many.
const FEWEST_AT_ONCE: usize = 16;

/// Carries out writes in their order; places of one start at the same time.
pub(super) fn carry_out(
    storage: &Storage,
    identity: &IdentityRecord,
    writes: &[Write],
) -> Vec<Result<(), NodeError>> {
    let all_places = writes.iter().all(|write| matches!(write, Write::Place { .. }));
    if all_places && writes.len() >= FEWEST_AT_ONCE {
        // Of each generation there is one.
        return for_each(writes, |write| write_one(storage, identity, write));
    }
    writes.iter().map(|write| write_one(storage, identity, write)).collect()
}

fn write_one(storage: &Storage, identity: &IdentityRecord, write: &Write) -> Result<(), NodeError> {
    let node = identity.node;
    match write {
        Write::Place { of, sealed, .. } => storage.save_place(node, of.0, of.1, sealed),
        Write::Active { of } => storage.save_active(node, of.0, of.1),
        Write::FoundBack { of, found } => storage.save_found_back(node, of.0, of.1, found.run),
        Write::Endpoints { of, labels, endpoints } => {
            storage.save_endpoints(node, of.0, of.1, labels, &texts_of(endpoints))
        }
        Write::Install { installed, sealed, beside: true } => storage.install_beside(node, installed, sealed),
        Write::Install { installed, sealed, beside: false } => storage.install(node, installed, sealed),
        Write::KeepGenerations { relationship, kept } => storage.keep_generations(node, *relationship, kept),
        Write::Erase { relationship } => storage.take_out_of_use(node, *relationship),
        Write::Forget { relationship } => storage.remove_erased(node, *relationship),
        Write::Disown => storage.disown(),
    }
}

/// Endpoints as they are stored: an empty text where nothing is known.
fn texts_of(endpoints: &[Option<Endpoint>]) -> Vec<String> {
    endpoints
        .iter()
        .map(|endpoint| endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default())
        .collect()
}

/// All generations that the disk holds, with their places and what stands beside them. What cannot be read is told in
/// words that end with `cure`.
pub(super) fn read_all(
    storage: &Storage,
    identity: &IdentityRecord,
    cure: impl Fn(bool) -> &'static str,
) -> Result<Vec<Found>, NodeError> {
    let node = identity.node;
    let found = storage.relationships(node)?.into_iter().map(|found| {
        let (relationship, generation) = (found.relationship, found.generation);
        let content = match found.installed {
            Ok(installed) => Ok(StoredGeneration {
                installed,
                place: storage.load_place(node, relationship, generation).map_err(|error| error.to_string()),
                found_back: storage.found_back(node, relationship, generation).0,
                run: storage.found_back(node, relationship, generation).1,
                learnt: storage.load_endpoints(node, relationship, generation),
            }),
            Err(error) => Err(format!("{error}; {}", cure(relationship == identity.relationship))),
        };
        Found { relationship, generation, content }
    });
    Ok(found.collect())
}
