//! What a node keeps on its disk (protocol, section 6).
//!
//! ```text
//!   state/lock                                   held by whoever works on the state
//!   state/identity                               who this node is; replacing it is the switch of an enrolment
//!   state/nodes/AKM-ID/RELATIONSHIP-ID/
//!       g1.installed, g1.copy                    public part, sealed keys, tag, labels: written once, twice
//!       g1.place                                 the sealed place, rewritten at each epoch
//!       g1.active                                present when the generation is active
//!       g1.found                                 how often this node found back, if it did
//!       endpoints                                where the members of generation 1 are
//!       g2.installed, g2.copy, ..., g2.endpoints the same of another generation, beside it
//!   state/nodes/AKM-ID/.staging-..., .erased-... cut off or under way: finished or removed by `tidy`
//! ```
//!
//! Every write is atomic and durable: a draft (`NAME.new`), `fsync`, `rename`, `fsync` of the directory. A draft that a
//! crash left is overwritten by the next write of that file, or removed by `tidy`.
//! `identity` and the installed copies end in a SHA-256, so that damage is recognised.

mod records;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use akm_core::element::{ProvisionableElement, Root};
use akm_core::id::{AkmId, RelationshipId};
use akm_disk::Lock;
use akm_disk::directory::make_directory;
use akm_disk::durable::{self, draft_of, remove_directory, rename, replace};
use akm_disk::private::Links;

use crate::error::{Damage, NodeError, StackTrouble, Strange};
use crate::layout::Layout;

pub use akm_host::Installed;
use records::load_all;
pub use records::{
    IdentityRecord, NotRead, emit_endpoints, emit_installed, parse_endpoints, parse_installed,
};

const STAGING: &str = ".staging-";
const ERASED: &str = ".erased-";

/// The state of a node, under its lock.
#[derive(Debug)]
pub struct Storage {
    state: PathBuf,
    /// Held as long as this exists; the kernel lets go of it when the process ends.
    _lock: Lock,
}

/// A generation of a relationship as it was found on the disk.
#[derive(Debug)]
pub struct Found {
    /// Its ID, by the name of its directory.
    pub relationship: RelationshipId,
    /// Its generation, by the names of its files; 0 if there are none.
    pub generation: u32,
    /// What was installed, or why it cannot be read.
    pub installed: Result<Installed, NodeError>,
}

impl Storage {
    /// Opens the state, makes it if there is none, and locks it.
    pub fn open(layout: &Layout) -> Result<Self, NodeError> {
        Ok(Self::try_open(layout)?.ok_or_else(|| StackTrouble::Held { dir: layout.dir().to_owned() })?)
    }

    /// Like [`Storage::open`]; `None` if another process holds the state.
    pub fn try_open(layout: &Layout) -> Result<Option<Self>, NodeError> {
        let state = layout.state();
        make_directory(&state, Links::Refused)?;
        let Some(lock) = Lock::try_acquire(&state.join("lock"))? else { return Ok(None) };
        make_directory(&state.join("nodes"), Links::Refused)?;
        Ok(Some(Self { state, _lock: lock }))
    }

    /// Whether an `akmd` works on the state at this moment.
    pub fn is_held(layout: &Layout) -> Result<bool, NodeError> {
        Ok(Lock::is_held(&layout.state().join("lock"))?)
    }

    /// The directory of the element, if the element keeps files.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Who this node is; `None` before enrolment and after it was erased.
    pub fn identity(&self) -> Result<Option<IdentityRecord>, NodeError> {
        read_identity(&self.state)
    }

    /// Where that stands.
    pub fn identity_path(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// Who the node is whose state another process holds; a look, nothing more.
    pub fn identity_of_running(layout: &Layout) -> Result<Option<IdentityRecord>, NodeError> {
        read_identity(&layout.state())
    }

    /// Makes this the node's identity, in one step. What belongs to another is erased by `tidy`.
    pub fn adopt(&self, identity: &IdentityRecord) -> Result<(), NodeError> {
        Ok(replace(&self.identity_path(), &identity.emit())?)
    }

    /// Gives the identity up; the rest is erased by `tidy`. Repeating changes nothing.
    pub fn disown(&self) -> Result<(), NodeError> {
        // In this order: an element with roots, and neither identity nor mark, would be a stranger's.
        replace(&self.state.join("disowned"), b"")?;
        Ok(durable::remove_file(&self.identity_path())?)
    }

    /// All generations of all relationships of a node. A copy of what was installed that is damaged is written anew
    /// from the other.
    pub fn relationships(&self, node: AkmId) -> Result<Vec<Found>, NodeError> {
        let dir = self.node_dir(node);
        let mut found = Vec::new();
        for (name, path) in entries(&dir)? {
            let Ok(relationship) = name.parse::<RelationshipId>() else { continue };
            found.extend(load_all(&path, relationship).into_iter().map(|(generation, installed)| Found {
                relationship,
                generation,
                installed,
            }));
        }
        found.sort_by_key(|found| (found.relationship, found.generation));
        Ok(found)
    }

    /// Keeps the first generation of a relationship that comes to this node, with its first place. It appears as a
    /// whole or not at all.
    pub fn install(&self, node: AkmId, installed: &Installed, sealed_place: &[u8]) -> Result<(), NodeError> {
        let node_dir = self.node_dir(node);
        make_directory(&node_dir, Links::Refused)?;
        let relationship = installed.sds.relationship();
        let staging = node_dir.join(format!("{STAGING}{relationship}"));
        remove_directory(&staging)?;
        make_directory(&staging, Links::Refused)?;
        write_generation(&staging, installed, sealed_place)?;
        // Left by a write that failed after it had been done.
        let place = self.relationship_dir(node, relationship);
        let erased = node_dir.join(format!("{ERASED}{relationship}"));
        if place.exists() {
            remove_directory(&erased)?;
            rename(&place, &erased)?;
        }
        rename(&staging, &place)?;
        // It is installed: what cannot be removed is by the next start.
        let _ = remove_directory(&erased);
        Ok(())
    }

    /// Keeps another generation beside those that are held. It counts as soon as one of its copies is there.
    pub fn install_beside(
        &self,
        node: AkmId,
        installed: &Installed,
        sealed_place: &[u8],
    ) -> Result<(), NodeError> {
        let dir = self.relationship_dir(node, installed.sds.relationship());
        write_generation(&dir, installed, sealed_place)
    }

    /// Removes what is there of all generations but these. Repeating changes nothing.
    pub fn keep_generations(
        &self,
        node: AkmId,
        relationship: RelationshipId,
        kept: &BTreeSet<u32>,
    ) -> Result<(), NodeError> {
        let mut removed = false;
        let dir = self.relationship_dir(node, relationship);
        // First what opens most.
        for of_place in [true, false] {
            for (name, path) in entries(&dir)? {
                let generation = generation_of(&name).filter(|generation| !kept.contains(generation));
                if generation.is_some() && (!of_place || name.ends_with(".place")) {
                    fs::remove_file(&path).map_err(NodeError::file("cannot remove", &path))?;
                    removed = true;
                }
            }
        }
        if removed {
            durable::sync_directory_of(&dir.join("any"))?;
        }
        Ok(())
    }

    /// Whether the disk holds something under this relationship.
    pub fn holds(&self, node: AkmId, relationship: RelationshipId) -> bool {
        self.relationship_dir(node, relationship).exists()
    }

    /// Removes what an enrolment that was cut off left of a node that is not the identity.
    pub fn forget(&self, node: AkmId) -> Result<(), NodeError> {
        Ok(remove_directory(&self.node_dir(node))?)
    }

    /// Where the sealed place of a generation is.
    pub fn place_path(&self, node: AkmId, relationship: RelationshipId, generation: u32) -> PathBuf {
        self.relationship_dir(node, relationship).join(format!("g{generation}.place"))
    }

    /// The sealed place of a generation; `None` if there is none.
    pub fn load_place(
        &self,
        node: AkmId,
        relationship: RelationshipId,
        generation: u32,
    ) -> Result<Option<Vec<u8>>, NodeError> {
        let path = self.place_path(node, relationship, generation);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NodeError::File { action: "cannot read", path, source }),
        }
    }

    /// Replaces the sealed place of a generation.
    pub fn save_place(
        &self,
        node: AkmId,
        relationship: RelationshipId,
        generation: u32,
        sealed: &[u8],
    ) -> Result<(), NodeError> {
        Ok(replace(&self.place_path(node, relationship, generation), sealed)?)
    }

    /// Remembers that a generation is active.
    pub fn save_active(
        &self,
        node: AkmId,
        relationship: RelationshipId,
        generation: u32,
    ) -> Result<(), NodeError> {
        Ok(replace(&self.relationship_dir(node, relationship).join(format!("g{generation}.active")), b"")?)
    }

    /// Remembers that this node found back once more in a generation, to this run: so that its module hears of it, and so
    /// that a failsafe of members that have lost their places goes above all runs that there were.
    pub fn save_found_back(
        &self,
        node: AkmId,
        relationship: RelationshipId,
        generation: u32,
        run: u32,
    ) -> Result<(), NodeError> {
        let (count, highest) = self.found_back(node, relationship, generation);
        let path = self.relationship_dir(node, relationship).join(format!("g{generation}.found"));
        let (count, run) = (count.saturating_add(1), highest.max(run));
        let record = u64::from(count) << 32 | u64::from(run);
        Ok(replace(&path, &record.to_be_bytes())?)
    }

    /// How often this node found back in a generation, and the highest run that it found back to.
    pub fn found_back(&self, node: AkmId, relationship: RelationshipId, generation: u32) -> (u32, u32) {
        let path = self.relationship_dir(node, relationship).join(format!("g{generation}.found"));
        let Ok(found) = fs::read(path) else { return (0, 0) };
        // Damage counts as once: better a generation too many than none.
        found.try_into().map_or((1, 0), |bytes| {
            let record = u64::from_be_bytes(bytes);
            ((record >> 32) as u32, record as u32)
        })
    }

    /// Remembers where the members of a generation are.
    pub fn save_endpoints(
        &self,
        node: AkmId,
        relationship: RelationshipId,
        generation: u32,
        labels: &[String],
        endpoints: &[String],
    ) -> Result<(), NodeError> {
        let path = self.relationship_dir(node, relationship).join(endpoints_file(generation));
        Ok(replace(&path, &emit_endpoints(labels, endpoints))?)
    }

    /// Labels and endpoints as last saved; `None` if never saved or damaged: the installed ones
    /// serve.
    pub fn load_endpoints(
        &self,
        node: AkmId,
        relationship: RelationshipId,
        generation: u32,
    ) -> Option<(Vec<String>, Vec<String>)> {
        let dir = self.relationship_dir(node, relationship);
        let bytes = fs::read(dir.join(endpoints_file(generation))).ok()?;
        parse_endpoints(&bytes)
    }

    /// Takes all records of a relationship out of use, in one step. Repeating changes nothing.
    pub fn take_out_of_use(&self, node: AkmId, relationship: RelationshipId) -> Result<(), NodeError> {
        let erased = self.erased_dir(node, relationship);
        let dir = self.relationship_dir(node, relationship);
        if dir.exists() {
            // Left where the relationship was erased, or replaced, once before in this start.
            remove_directory(&erased)?;
            rename(&dir, &erased)?;
        }
        Ok(())
    }

    /// Removes what was taken out of use. Repeating changes nothing.
    pub fn remove_erased(&self, node: AkmId, relationship: RelationshipId) -> Result<(), NodeError> {
        Ok(remove_directory(&self.erased_dir(node, relationship))?)
    }

    /// Finishes or undoes what a crash cut off: what was staged goes, drafts go, what was being erased is
    /// erased, and the element keeps no root that no relationship of this node uses.
    ///
    /// Nothing is erased for an identity of which the disk holds no relationship, or the element no root: none was
    /// ever adopted before these were there, so one of the three is another's, or gone.
    pub fn tidy(
        &self,
        identity: Option<&IdentityRecord>,
        element: &mut dyn ProvisionableElement,
    ) -> Result<(), NodeError> {
        let disowned = self.state.join("disowned");
        if identity.is_none() && !disowned.exists() {
            // Before the first enrolment nothing is known of what the element holds.
            return Ok(());
        }
        let nodes = self.state.join("nodes");
        let mut kept = BTreeSet::new();
        if let Some(identity) = identity {
            let dir = self.node_dir(identity.node);
            let held = entries(&dir)?;
            kept.extend(held.iter().filter_map(|(name, _)| name.parse::<RelationshipId>().ok()));
            if kept.is_empty() {
                let damage = Damage::HoldsNothing { node: identity.node, dir };
                return Err(NodeError::Damaged { path: self.identity_path(), damage });
            }
            // It ends with the identity and never before; its directory may come back.
            kept.insert(identity.relationship);
            for (_, path) in held.iter().filter(|(name, path)| name.starts_with(STAGING) && path.is_dir()) {
                remove_directory(path)?;
            }
        }
        let roots = element.roots()?;
        if let Some(identity) = identity {
            let is_own =
                |root: &Root| matches!(root, Root::Relationship { id, .. } if *id == identity.relationship);
            if !roots.iter().any(is_own) {
                return Err(Strange::NotOfNode { state: self.state.clone(), node: identity.node }.into());
            }
        }
        for root in roots {
            if let Root::Relationship { id, .. } = root
                && !kept.contains(&id)
            {
                element.erase(root)?;
            }
        }
        for (name, path) in entries(&nodes)? {
            // What is no directory is none of ours.
            if !path.is_dir() {
                continue;
            }
            if identity.is_none_or(|identity| name != identity.node.to_string()) {
                remove_directory(&path)?;
                continue;
            }
            for (name, path) in entries(&path)? {
                if name.starts_with(ERASED) && path.is_dir() {
                    remove_directory(&path)?;
                } else if name.parse::<RelationshipId>().is_ok() {
                    discard_drafts(&path);
                }
            }
        }
        // Drafts count for nothing: one that cannot be removed keeps no node from its work.
        let _ = durable::discard(&draft_of(&self.identity_path()));
        Ok(durable::remove_file(&disowned)?)
    }

    /// Whether the node gave its identity up, and may still hold what belonged to it.
    pub fn is_disowned(&self) -> bool {
        self.state.join("disowned").exists()
    }

    fn node_dir(&self, node: AkmId) -> PathBuf {
        self.state.join("nodes").join(node.to_string())
    }

    fn erased_dir(&self, node: AkmId, relationship: RelationshipId) -> PathBuf {
        self.node_dir(node).join(format!("{ERASED}{relationship}"))
    }

    fn relationship_dir(&self, node: AkmId, relationship: RelationshipId) -> PathBuf {
        self.node_dir(node).join(relationship.to_string())
    }
}

/// Writes the files of a generation; what makes it count comes last.
fn write_generation(dir: &Path, installed: &Installed, sealed_place: &[u8]) -> Result<(), NodeError> {
    let generation = installed.sds.generation();
    let bytes = emit_installed(installed);
    replace(&dir.join(format!("g{generation}.place")), sealed_place)?;
    if installed.active {
        replace(&dir.join(format!("g{generation}.active")), b"")?;
    }
    replace(&dir.join(format!("g{generation}.copy")), &bytes)?;
    Ok(replace(&dir.join(format!("g{generation}.installed")), &bytes)?)
}

/// Removes what writes that were cut off left in a relationship's directory. That counts for nothing: what cannot be
/// removed stays.
fn discard_drafts(dir: &Path) {
    for (_, path) in entries(dir).unwrap_or_default() {
        let record = path.with_extension("");
        let is_of_record = record.file_name().and_then(|name| generation_of(name.to_str()?)).is_some();
        if is_of_record && path == draft_of(&record) {
            let _ = durable::discard(&path);
        }
    }
}

/// The generation that a file in a relationship's directory belongs to, by its name.
fn generation_of(name: &str) -> Option<u32> {
    match name.split_once('.') {
        Some((stem, _)) => stem.strip_prefix('g')?.parse().ok(),
        None => (name == endpoints_file(1)).then_some(1),
    }
}

/// Where the endpoints of a generation stand.
fn endpoints_file(generation: u32) -> String {
    if generation == 1 { "endpoints".to_owned() } else { format!("g{generation}.endpoints") }
}

fn read_identity(state: &Path) -> Result<Option<IdentityRecord>, NodeError> {
    let path = state.join("identity");
    match fs::read(&path) {
        Ok(bytes) => IdentityRecord::parse(&bytes).map(Some).map_err(|why| {
            let damage = match why {
                NotRead::Damaged | NotRead::Revision1 => Damage::Identity,
                NotRead::LaterVersion => Damage::LaterVersion,
            };
            NodeError::Damaged { damage, path }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NodeError::File { action: "cannot read", path, source }),
    }
}

/// Erases all roots of a relationship, whatever their element version.
pub fn erase_roots(
    element: &mut dyn ProvisionableElement,
    relationship: RelationshipId,
) -> Result<(), NodeError> {
    for root in element.roots()? {
        if matches!(root, Root::Relationship { id, .. } if id == relationship) {
            element.erase(root)?;
        }
    }
    Ok(())
}

/// The entries of a directory, of whatever kind; none if it does not exist.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, NodeError> {
    let reading = match fs::read_dir(dir) {
        Ok(reading) => reading,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(NodeError::File { action: "cannot read", path: dir.to_owned(), source }),
    };
    let mut found = Vec::new();
    for entry in reading {
        let entry = entry.map_err(NodeError::file("cannot read", dir))?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(found)
}
