//! An installation as the ceremony leaves it before enrolment.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use akm_core::element::{Description, ProvisionableElement, Root};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::secret::Secret;
use akm_element::ElementSpec;
use akm_node::enrol;
use akm_node::error::NodeError;
use akm_node::layout::Layout;
use akm_node::node::Node;
use tempfile::TempDir;

const RELEASE: &str = "releases/0123456789abcdef";

/// A device with a stack and no identity; all of it goes when this is dropped.
pub(crate) struct Device {
    place: TempDir,
    pub(crate) layout: Layout,
}

impl Device {
    pub(crate) fn fresh() -> Self {
        let place = tempfile::tempdir().expect("a directory for the test");
        let dir = place.path();
        fs::create_dir_all(dir.join(RELEASE)).expect("a release");
        fs::write(dir.join(RELEASE).join("akmd"), b"the program").expect("a program");
        fs::write(dir.join(RELEASE).join("akmd.toml"), "listen = \"127.0.0.1:1\"\nelement = \"software\"\n")
            .expect("a configuration");
        symlink(RELEASE, dir.join("current")).expect("the release in use");
        fs::DirBuilder::new().mode(0o700).create(dir.join("state")).expect("a state directory");
        let layout = Layout::new(dir);
        Self { place, layout }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.layout.state()
    }

    /// What is kept of one node.
    pub(crate) fn node_dir(&self, node: AkmId) -> PathBuf {
        self.state().join("nodes").join(node.to_string())
    }

    /// What is kept of one relationship.
    pub(crate) fn relationship_dir(&self, node: AkmId, relationship: RelationshipId) -> PathBuf {
        self.node_dir(node).join(relationship.to_string())
    }

    /// The sealed place of one relationship.
    pub(crate) fn place(&self, node: AkmId, relationship: RelationshipId) -> PathBuf {
        self.relationship_dir(node, relationship).join("g1.place")
    }

    #[track_caller]
    pub(crate) fn start(&self) -> Node {
        Node::start(&self.layout).unwrap_or_else(|error| panic!("the node starts: {error}"))
    }

    /// Why a start is refused.
    #[track_caller]
    pub(crate) fn start_refused(&self) -> NodeError {
        match Node::start(&self.layout) {
            Ok(_) => panic!("this is no node, and yet it started"),
            Err(error) => error,
        }
    }

    #[track_caller]
    pub(crate) fn enrol(&self, envelope: &[u8]) -> Secret<32> {
        enrol::enrol(&self.layout, envelope).unwrap_or_else(|error| panic!("the device enrols: {error}"))
    }

    /// The element as a program finds it that comes next.
    pub(crate) fn element(&self) -> Box<dyn ProvisionableElement> {
        "software".parse::<ElementSpec>().expect("a kind of element").create(&self.state()).expect("it opens")
    }

    pub(crate) fn description(&self) -> Description {
        self.element().description()
    }

    /// The relationships whose roots the element holds.
    pub(crate) fn roots(&self) -> Vec<RelationshipId> {
        let roots = self.element().roots().expect("the element answers");
        roots
            .into_iter()
            .filter_map(|root| match root {
                Root::Relationship { id, .. } => Some(id),
                Root::Device => None,
            })
            .collect()
    }

    pub(crate) fn counter(&self) -> u64 {
        self.element().counter().expect("it has a counter").value().expect("the element answers")
    }

    /// All files of the state with their content, the lock and the element's own file left out.
    pub(crate) fn records(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(&self.state(), &mut found);
        found.retain(|(path, _)| !path.ends_with("lock") && !path.ends_with("element"));
        found.sort();
        found
    }
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
}

/// What below this directory its owner shares with others.
pub(crate) fn private_modes(dir: &Path) -> Vec<String> {
    let mut shared = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let mode = fs::symlink_metadata(&path).expect("its mode").permissions().mode() & 0o7777;
        let (wanted, is_dir) = if path.is_dir() { (0o700, true) } else { (0o600, false) };
        if mode != wanted {
            shared.push(format!("{} has mode {mode:04o}", path.display()));
        }
        if is_dir {
            shared.extend(private_modes(&path));
        }
    }
    shared
}
