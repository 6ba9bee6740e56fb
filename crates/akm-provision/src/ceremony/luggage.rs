//! What travels after an element that was filled here: the state of its node, from the station to the target.

use std::fs;
use std::io;
use std::path::Path;

use akm_disk::{DiskError, durable};
use akm_target::{Target, TargetUrl};
use zeroize::Zeroizing;

use super::FIRST_AT_TARGET;
use crate::error::Error;
use crate::error::ceremony::{Device, Refusal, Taken};
use crate::store::{MemberState, Node, Store};

/// The state of a node in its station, and the file that makes it one.
const STATE: &str = "state";
const IDENTITY: &str = "state/identity";

/// Steps at the station need no address of their own: nothing runs there.
pub(super) const NO_ADDRESS: &str = "127.0.0.1:17100";

/// Whether this node's element was filled here, and its target has not proved yet that it is there.
pub fn is_filled(store: &Store, node: &Node) -> Result<bool, Error> {
    let relationship = store.relationship(node.relationship)?;
    let mut members = relationship.iter().flat_map(|relationship| &relationship.members);
    Ok(node.station.is_some()
        && members.any(|member| member.node == node.id && member.state == MemberState::Installed))
}

/// Whether the ceremony has not come to its target yet.
pub(super) fn is_at_station(node: &Node) -> bool {
    node.station.as_deref().is_some_and(|station| url_of(station).is_ok_and(|url| url == node.target))
}

/// Sends the state after its element, where it has not arrived: the stack at the target must not run.
///
/// From here on no other target gets it: whatever becomes of this command, it may be at this one.
pub(super) fn deliver(store: &Store, node: &Node, target: &Target) -> Result<(), Error> {
    if is_at_station(node) {
        return Ok(());
    }
    let Some(luggage) = pack(node)? else { return Ok(()) };
    store.complete_step(node.id, FIRST_AT_TARGET)?;
    let node = store.node(node.id)?;
    // Another command may have chosen another target just before.
    if node.target != *target.url() {
        return Err(is_elsewhere(&node));
    }
    Ok(target.deliver_state(&luggage)?)
}

/// The state that travels with the element, as a tar archive; `None` if it has arrived and none is left here.
fn pack(node: &Node) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let Some(station) = &node.station else { return Ok(None) };
    let state = station.join(STATE);
    let failed = |source: io::Error| -> Error { DiskError::system("cannot pack", &state)(source).into() };
    if !station.join(IDENTITY).try_exists().map_err(failed)? {
        return Ok(None);
    }
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive.append_dir_all(".", &state).map_err(failed)?;
    archive.into_inner().map(|bytes| Some(Zeroizing::new(bytes))).map_err(failed)
}

/// Removes what is here of a node that has proved to be at its target, or that is given up. Repeating changes nothing:
/// the node keeps its station until that is so in the store too.
pub(super) fn clear(node: &Node) -> Result<(), Error> {
    let Some(station) = &node.station else { return Ok(()) };
    let gone = |path: &Path, removed: io::Result<()>| -> Result<(), DiskError> {
        match removed {
            // Durably: once the store has forgotten it nobody looks for it here.
            Ok(()) => durable::sync_directory_of(path),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(DiskError::system("cannot remove", station)(source)),
        }
    };
    // First: what is left of a state if this is cut off is none that could travel.
    let identity = station.join(IDENTITY);
    gone(&identity, fs::remove_file(&identity))?;
    Ok(gone(station, fs::remove_dir_all(station))?)
}

/// The node as it was before its target was chosen, if its state has never left the station.
pub(super) fn not_sent(store: &Store, node: &Node) -> Result<Option<Node>, Error> {
    let Some(station) = node.station.as_deref().filter(|station| station.join(IDENTITY).exists()) else {
        return Ok(None);
    };
    let completed = store.ceremony(node.id)?.map_or(0, |ceremony| ceremony.completed);
    let is_here = completed < FIRST_AT_TARGET && !is_at_station(node);
    if !is_here {
        return Ok(None);
    }
    Ok(Some(Node { target: url_of(station)?, ssh_config: None, ..node.clone() }))
}

/// The target of the node is settled: what was sent there goes to no other.
pub(super) fn is_elsewhere(node: &Node) -> Error {
    Refusal::from(Taken::Sent { name: node.name.clone(), target: node.target.to_string() }).into()
}

pub(super) fn url_of(station: &Path) -> Result<TargetUrl, Error> {
    format!("local:{}", station.display())
        .parse()
        .map_err(|error| Refusal::from(Device::Target(error)).into())
}
