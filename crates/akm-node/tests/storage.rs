//! What stands on the disk, and who may see it.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use akm_core::frame::FrameKind;
use akm_node::error::NodeError;
use akm_node::layout::Layout;
use akm_node::storage::{IdentityRecord, Storage};

use support::{Device, Link, Station, address, private_modes, random_id, random_relationship};

#[test]
fn the_state_is_made_for_its_owner_alone() {
    let place = tempfile::tempdir().unwrap();
    let layout = Layout::new(place.path());
    assert!(!Storage::is_held(&layout).unwrap());
    let storage = Storage::open(&layout).unwrap();
    assert_eq!(fs::metadata(layout.state()).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(private_modes(&layout.state()), [""; 0]);
    assert_eq!(storage.identity().unwrap(), None);
}

#[test]
fn all_that_a_running_node_writes_is_private() {
    let (mut station, asrs) = Station::with_asrs(2);
    let other = asrs[0].sds.members().iter().copied().find(|member| *member != station.id()).unwrap();
    let frame = Link::of(&asrs[0], other).seal(FrameKind::Data, b"from elsewhere");
    station.take(&frame, address(5001));
    station.send("asr-1", b"moves on");
    station.restart();
    assert_eq!(private_modes(&station.device.state()), [""; 0]);
}

#[test]
fn no_secret_of_a_relationship_stands_in_clear() {
    let (mut station, asrs) = Station::with_asrs(1);
    station.send("asr-0", b"moves on");
    let records = station.device.records();
    assert!(records.iter().any(|(path, _)| path.ends_with("g1.place")));
    for relationship in [&station.provisioning, &asrs[0]] {
        let secrets = &relationship.secrets;
        let keys = &secrets.host.keys;
        let (root, tree_root) = (secrets.element_root.expose(), secrets.host.tree_root.expose());
        for secret in [&root[..], tree_root, keys.header_key.expose(), keys.resync_key.expose()] {
            for (path, bytes) in &records {
                let is_secret = |window: &[u8]| window == secret;
                assert!(!bytes.windows(secret.len()).any(is_secret), "{}", path.display());
            }
        }
    }
}

#[test]
fn a_place_that_was_left_opens_nowhere_on_the_disk() {
    let (mut station, asrs) = Station::with_asrs(1);
    let place = station.device.place(station.id(), asrs[0].id());
    let first = fs::read(&place).unwrap();
    station.send("asr-0", b"moves on");
    let second = fs::read(&place).unwrap();
    assert_eq!(first[..8], second[..8], "sealed in the same start");
    assert_ne!(first[8..24], second[8..24], "under another key");
    let names = fs::read_dir(place.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["g1.active", "g1.copy", "g1.installed", "g1.place"], "no copy of the old one is left");
}

#[test]
fn the_state_is_held_by_one_at_a_time() {
    let device = Device::fresh();
    let held = Storage::open(&device.layout).unwrap();
    assert!(Storage::is_held(&device.layout).unwrap());
    assert!(Storage::try_open(&device.layout).unwrap().is_none());
    let error = Storage::open(&device.layout).unwrap_err();
    assert!(error.to_string().contains("akmd stop --dir"), "{error}");
    drop(held);
    assert!(!Storage::is_held(&device.layout).unwrap());
    Storage::open(&device.layout).unwrap();
}

#[test]
fn a_state_that_is_no_directory_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let layout = Layout::new(place.path());
    fs::write(layout.state(), b"").unwrap();
    assert!(matches!(Storage::open(&layout), Err(NodeError::Damaged { .. })));
    fs::remove_file(layout.state()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), layout.state()).unwrap();
    assert!(matches!(Storage::open(&layout), Err(NodeError::Damaged { .. })));
}

#[test]
fn an_identity_reads_back_and_any_altered_byte_is_told() {
    let device = Device::fresh();
    let storage = Storage::open(&device.layout).unwrap();
    let identity = IdentityRecord {
        node: random_id(),
        relationship: random_relationship(),
        provisioner: random_id(),
        name: "Pumpe 3, Süd".to_owned(),
    };
    storage.adopt(&identity).unwrap();
    assert_eq!(storage.identity().unwrap(), Some(identity.clone()));
    assert_eq!(Storage::identity_of_running(&device.layout).unwrap(), Some(identity));

    let path = device.state().join("identity");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 0x20;
        fs::write(&path, altered).unwrap();
        assert!(matches!(storage.identity(), Err(NodeError::Damaged { .. })), "byte {at}");
        fs::write(&path, &good[..at]).unwrap();
        assert!(matches!(storage.identity(), Err(NodeError::Damaged { .. })), "cut at {at}");
    }
}

#[test]
fn damaged_endpoints_fall_back_to_those_that_were_installed() {
    let (mut station, asrs) = Station::with_asrs(1);
    let other = asrs[0].sds.members().iter().copied().find(|member| *member != station.id()).unwrap();
    let frame = Link::of(&asrs[0], other).seal(FrameKind::Data, b"from elsewhere");
    station.take(&frame, address(5001));
    station.stop();
    let endpoints = station.device.relationship_dir(station.id(), asrs[0].id()).join("endpoints");
    let mut bytes = fs::read(&endpoints).unwrap();
    bytes[3] ^= 1;
    fs::write(&endpoints, bytes).unwrap();
    station.start();
    station.send("asr-0", b"to where you were");
    assert_eq!(station.network.datagrams[0].0, address(9000));
}

#[test]
fn a_crash_in_the_middle_of_a_write_leaves_the_old_content() {
    let (mut station, asrs) = Station::with_asrs(1);
    let place = station.device.place(station.id(), asrs[0].id());
    station.stop();
    // What was under way when the power went.
    fs::write(place.with_file_name("g1.place.new"), b"half a pla").unwrap();
    fs::write(station.device.state().join("identity.new"), b"half an iden").unwrap();
    station.start();
    assert_eq!(station.phase(&asrs[0]), "Established");
    station.send("asr-0", b"and on");
    assert!(!place.with_file_name("g1.place.new").exists());
}

#[test]
fn a_start_removes_what_cut_off_writes_left_and_nothing_else() {
    let (mut station, asrs) = Station::with_asrs(1);
    let dir = station.device.relationship_dir(station.id(), asrs[0].id());
    station.stop();
    let left =
        ["endpoints.new", "g1.place.new", "g1.found.new", "g2.endpoints.new"].map(|name| dir.join(name));
    let identity = station.device.state().join("identity.new");
    let foreign = [dir.join("notes.new"), station.device.state().join("notes.new")];
    for path in left.iter().chain([&identity]).chain(&foreign) {
        fs::write(path, b"half a rec").unwrap();
    }
    // Nothing of ours, and in nobody's way.
    fs::create_dir(dir.join("g1.active.new")).unwrap();
    station.start();
    for path in left.iter().chain([&identity]) {
        assert!(!path.exists(), "{}", path.display());
    }
    for path in foreign.iter().chain([&dir.join("g1.active.new")]) {
        assert!(path.exists(), "{}", path.display());
    }
    assert_eq!(station.phase(&asrs[0]), "Established");
}
