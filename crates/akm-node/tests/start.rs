//! How a node starts: with all that it had, less what is damaged, and never with what is old.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use akm_core::element::ElementError;
use akm_core::frame::Header;
use akm_core::management::RelationshipStatus;
use akm_core::session::Phase;
use akm_node::error::{AsItIs, NodeError};
use akm_node::node::Node;

use support::{
    Device, Module, Prompt, Recorded, Relationship, Station, address, exchange, random_relationship,
    two_stations,
};

#[test]
fn a_device_that_was_never_enrolled_is_told_what_to_do() {
    let device = Device::fresh();
    let error = device.start_refused();
    assert!(matches!(&error, NodeError::AsItIs(AsItIs::NotANode { .. })), "{error:?}");
    device.description();
    assert!(matches!(device.start_refused(), NodeError::AsItIs(_)));
}

#[test]
fn the_counter_goes_up_by_one_with_each_start() {
    let mut station = Station::new(1);
    for starts in 1..4 {
        assert_eq!(station.device.counter(), starts);
        station.restart();
    }
    station.stop();
    station.device.enrol(station.provisioning.envelope("station").emit().expose());
    assert_eq!(station.device.counter(), 4, "enrolling is no start");
}

#[test]
fn one_state_serves_one_stack() {
    let station = Station::new(1);
    let error = station.device.start_refused();
    assert!(error.to_string().contains("akmd stop"), "{error}");
    assert_eq!(station.device.counter(), 1);
}

/// The relationship rests in this phase after the next start, and all others go on.
#[track_caller]
fn rests(station: &mut Station, asrs: &[Relationship], phase: &str) {
    station.start();
    assert_eq!(station.phase(&asrs[0]), phase);
    let refused = station.node().send("asr-0", None, b"no", &mut Recorded::default()).unwrap_err();
    assert!(refused.to_string().contains(phase), "{refused}");
    goes_on(station, &asrs[1]);
}

/// This ASR sends, and the module is answered.
#[track_caller]
fn goes_on(station: &mut Station, asr: &Relationship) {
    assert_eq!(station.phase(asr), "Established");
    station.send(&asr.label, b"still here");
    assert_eq!(station.network.datagrams.pop().expect("a datagram").0, address(9001));
    let (link, node) = station.both();
    link.status(node, None, 10);
}

#[test]
fn a_place_from_another_start_is_rolled_back_and_the_others_go_on() {
    let (mut station, asrs) = Station::with_asrs(2);
    let place = station.device.place(station.id(), asrs[0].id());
    let old = fs::read(&place).unwrap();
    station.restart();
    station.stop();
    fs::write(&place, old).unwrap();
    rests(&mut station, &asrs, "RolledBack");
    // Time does not heal it.
    station.stop();
    rests(&mut station, &asrs, "RolledBack");
}

#[test]
fn a_start_that_was_cut_off_before_it_counted_is_no_roll_back() {
    let (mut station, asrs) = Station::with_asrs(2);
    station.stop();
    // As after a crash: some places, or all, are those of the start that never counted up.
    let (element, first) = (station.device.state().join("element"), &asrs[0]);
    let place = station.device.place(station.id(), first.id());
    let (counter, taken_up_before) = (fs::read(&element).unwrap(), fs::read(&place).unwrap());
    for cut_off_half_way in [true, false] {
        station.start();
        station.stop();
        fs::write(&element, &counter).unwrap();
        if cut_off_half_way {
            fs::write(&place, &taken_up_before).unwrap();
        }
        assert_eq!(station.device.counter(), 1);
    }
    station.start();
    assert_eq!(station.phase(first), "Established");
    goes_on(&mut station, &asrs[1]);
}

#[test]
fn a_lost_or_damaged_place_is_told_and_the_others_go_on() {
    for what in ["lost", "empty", "altered", "no file"] {
        let (mut station, asrs) = Station::with_asrs(2);
        station.stop();
        let place = station.device.place(station.id(), asrs[0].id());
        let mut bytes = fs::read(&place).unwrap();
        fs::remove_file(&place).unwrap();
        match what {
            "empty" => fs::write(&place, b"").unwrap(),
            "altered" => {
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&place, bytes).unwrap();
            }
            "no file" => fs::create_dir(&place).unwrap(),
            _ => {}
        }
        rests(&mut station, &asrs, "WithoutPlace");
        assert!(station.node().status().unwrap().damaged.is_empty(), "{what}");
    }
}

#[test]
fn the_place_of_one_relationship_does_not_open_another() {
    let (mut station, asrs) = Station::with_asrs(2);
    station.stop();
    let [first, second] = [0, 1].map(|at: usize| station.device.place(station.id(), asrs[at].id()));
    fs::copy(second, first).unwrap();
    rests(&mut station, &asrs, "WithoutPlace");
}

#[test]
fn either_copy_of_what_was_installed_serves() {
    for copy in ["g1.installed", "g1.copy"] {
        let (mut station, asrs) = Station::with_asrs(2);
        station.stop();
        let path = station.device.relationship_dir(station.id(), asrs[1].id()).join(copy);
        fs::write(path, b"damaged").unwrap();
        station.start();
        goes_on(&mut station, &asrs[1]);
    }
}

#[test]
fn without_either_copy_a_relationship_is_set_aside_by_name() {
    let (mut station, asrs) = Station::with_asrs(2);
    station.stop();
    let dir = station.device.relationship_dir(station.id(), asrs[0].id());
    for copy in ["g1.installed", "g1.copy"] {
        let mut bytes = fs::read(dir.join(copy)).unwrap();
        bytes[40] ^= 1;
        fs::write(dir.join(copy), bytes).unwrap();
    }
    station.start();
    let status = station.node().status().unwrap();
    assert_eq!(status.damaged.keys().collect::<Vec<_>>(), [&asrs[0].id().to_string()]);
    goes_on(&mut station, &asrs[1]);
    // The module sees it among the others, page by page, in their order.
    let mut told = Vec::new();
    loop {
        let (link, node) = station.both();
        let page = link.status(node, told.last().map(|last: &RelationshipStatus| last.relationship), 1);
        told.extend(page.relationships);
        if !page.more {
            break;
        }
    }
    let mut all = vec![station.provisioning.id(), asrs[0].id(), asrs[1].id()];
    all.sort();
    assert_eq!(told.iter().map(|status| status.relationship).collect::<Vec<_>>(), all);
    for status in told {
        let is_set_aside = status.relationship == asrs[0].id();
        assert_eq!(status.generation, u32::from(!is_set_aside), "{status:?}");
        assert_eq!(status.phase == Phase::WithoutPlace, is_set_aside, "{status:?}");
    }
    // Its root stays until the module decides.
    assert!(station.device.roots().contains(&asrs[0].id()));

    // The module cannot install over it, and can erase it.
    assert_eq!(station.install(&asrs[0]), akm_core::management::Outcome::Conflict);
    let (link, node) = station.both();
    assert_eq!(link.erase(node, asrs[0].id()).outcome, akm_core::management::Outcome::Done);
    assert!(node.status().unwrap().damaged.is_empty());
    assert!(!dir.exists());
    assert!(!station.device.roots().contains(&asrs[0].id()));
}

#[test]
fn a_place_that_cannot_be_taken_up_is_not_used() {
    let (mut station, asrs) = Station::with_asrs(2);
    station.stop();
    let place = station.device.place(station.id(), asrs[0].id());
    fs::create_dir(place.with_file_name("g1.place.new")).unwrap();
    station.start();
    let status = station.node().status().unwrap();
    let why = &status.damaged[&asrs[0].id().to_string()];
    assert!(why.contains("g1.place") && why.contains("counts as rolled back from here on"), "{why}");
    goes_on(&mut station, &asrs[1]);
}

#[test]
fn a_damaged_identity_says_what_to_do() {
    let device = Device::fresh();
    device.enrol(Module::new().provision().envelope("pump").emit().expose());
    fs::write(device.state().join("identity"), b"somebody").unwrap();
    let error = device.start_refused();
    assert!(matches!(error, NodeError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("akmd reset"), "{error}");
}

#[test]
fn an_element_that_is_gone_stops_the_node_and_nothing_is_made_in_its_place() {
    let mut station = Station::new(1);
    station.stop();
    let element = station.device.state().join("element");
    fs::remove_file(&element).unwrap();
    let error = station.device.start_refused();
    assert!(matches!(error, NodeError::Element(ElementError::Unavailable(_))), "{error:?}");
    assert!(!element.exists());
}

#[test]
fn what_a_crash_left_is_gone_after_the_next_start() {
    let (mut station, asrs) = Station::with_asrs(2);
    station.stop();
    let (device, node) = (&station.device, station.provisioning.sds.members()[1]);
    let own = device.node_dir(node);
    // Half installed, half erased, a root whose record was never written, and a node that was never adopted.
    let staged = own.join(format!(".staging-{}", random_relationship()));
    let erased = own.join(format!(".erased-{}", asrs[0].id()));
    let never_adopted = device.state().join("nodes").join(random_relationship().to_string());
    fs::create_dir(&staged).unwrap();
    fs::write(staged.join("g1.installed"), b"half").unwrap();
    fs::rename(device.relationship_dir(node, asrs[0].id()), &erased).unwrap();
    fs::create_dir_all(never_adopted.join("half")).unwrap();
    let orphan = Module::new().provision();
    device.element().install(orphan.root(), orphan.secrets.element_root.expose()).unwrap();

    station.start();
    for left in [staged, erased, never_adopted] {
        assert!(!left.exists(), "{}", left.display());
    }
    let mut roots = station.device.roots();
    roots.sort();
    let mut wanted = [station.provisioning.id(), asrs[1].id()];
    wanted.sort();
    assert_eq!(roots, wanted);
    goes_on(&mut station, &asrs[1]);
}

#[test]
fn a_state_directory_that_is_open_to_others_is_refused() {
    let mut station = Station::new(1);
    station.stop();
    let (state, nodes) = (station.device.state(), station.device.state().join("nodes"));
    for dir in [&state, &nodes] {
        for mode in [0o750, 0o701, 0o777] {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
            let error = station.device.start_refused();
            assert!(error.to_string().contains(&format!("chmod 700 {}", dir.display())), "{error}");
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(station.device.counter(), 1);
    station.start();
}

#[test]
fn two_nodes_talk_and_after_a_restart_old_frames_are_refused_and_new_ones_flow() {
    let (mut stations, asr) = two_stations();
    stations[1].send("pair", b"before");
    let carried = exchange(&mut stations);
    stations[0].send("pair", b"back");
    exchange(&mut stations);
    assert_eq!(stations[0].delivered(), ["before"]);
    assert_eq!(stations[1].delivered(), ["back"]);
    let (source, old) = (stations[1].address, carried[0].1.clone());
    assert_eq!(stations[0].take(&old, source), "duplicate");

    stations[0].restart();
    assert_eq!(stations[0].take(&old, source), "epoch-too-old");
    assert!(stations[0].delivered().is_empty());
    let known = stations[0].report(&asr).epoch.unwrap();
    // It says hello by itself, late by a drawn part of some milliseconds.
    let said = (0..5000).find_map(|_| {
        stations[0].fire();
        let carried = exchange(&mut stations);
        std::thread::sleep(Duration::from_millis(1));
        (!carried.is_empty()).then_some(carried)
    });
    let carried = said.expect("it says hello");
    assert!(Header::parse(&carried[0].1).unwrap().epoch > known, "its first frame is in an epoch of its own");
    assert_eq!(stations[1].report(&asr).epoch, stations[0].report(&asr).epoch);

    stations[1].send("pair", b"after");
    stations[0].send("pair", b"back again");
    exchange(&mut stations);
    assert_eq!(stations[0].delivered(), ["after"]);
    assert_eq!(stations[1].delivered(), ["back again"]);
    assert_eq!(stations[0].take(&old, source), "epoch-too-old");
}

#[test]
fn a_member_that_was_off_while_epochs_moved_on_comes_back_by_itself() {
    let (mut stations, asr) = two_stations();
    stations[0].stop();
    for _ in 0..20 {
        let mut network = Recorded::default();
        stations[1].node().advance("pair", &mut network).unwrap();
    }
    // What a member hears at its start cannot be behind it, also where its element does not tell an old disk from the latest.
    let far = stations[1].report(&asr).epoch;
    stations[0].start();
    stations[0].fire();
    exchange(&mut stations);
    stations[1].send("pair", b"welcome");
    exchange(&mut stations);
    assert_eq!(stations[0].delivered(), ["welcome"]);
    assert!(stations[0].report(&asr).epoch > far);
    assert_eq!(stations[0].report(&asr).epoch, stations[1].report(&asr).epoch);
    stations[0].send("pair", b"thanks");
    exchange(&mut stations);
    assert_eq!(stations[1].delivered(), ["thanks"]);
}

#[test]
fn what_cannot_be_recorded_is_neither_sent_nor_accepted() {
    let obstacles: [fn(&Station, &Relationship); 2] = [
        |station, asr| {
            let place = station.device.place(station.id(), asr.id());
            fs::create_dir(place.with_file_name("g1.place.new")).unwrap();
        },
        |station, asr| {
            fs::remove_dir_all(station.device.relationship_dir(station.id(), asr.id())).unwrap();
        },
    ];
    for obstruct in obstacles {
        let (mut stations, asr) = two_stations();
        let known = stations[0].report(&asr).epoch;
        stations[1].node().advance("pair", &mut Recorded::default()).unwrap();
        stations[1].send("pair", b"in a later epoch");
        let (_, frame) = stations[1].network.datagrams.pop().unwrap();
        obstruct(&stations[0], &asr);

        let source = stations[1].address;
        assert_eq!(stations[0].take(&frame, source), "not-recorded");
        let mut network = Recorded::default();
        let node: &mut Node = stations[0].node();
        assert!(matches!(node.advance("pair", &mut network), Err(NodeError::File { .. })));
        assert!(network.datagrams.is_empty());
        assert_eq!(stations[0].report(&asr).epoch, known);
        assert!(stations[0].delivered().is_empty());
    }
}

#[test]
fn a_message_whose_epoch_cannot_be_recorded_is_an_error_and_goes_out_once_that_is_mended() {
    let (mut stations, asr) = two_stations();
    stations[0].restart();
    let obstacle = stations[0].device.place(stations[0].id(), asr.id()).with_file_name("g1.place.new");
    fs::create_dir(&obstacle).unwrap();
    let mut network = Recorded::default();
    let refused = stations[0].node().send("pair", None, b"first", &mut network);
    assert!(matches!(refused, Err(NodeError::File { .. })), "{refused:?}");
    assert!(network.datagrams.is_empty());

    fs::remove_dir(&obstacle).unwrap();
    stations[0].send("pair", b"second");
    exchange(&mut stations);
    assert_eq!(stations[1].delivered(), ["second"]);
}

#[test]
fn among_very_many_each_relationship_meets_its_own_fate() {
    // Enough for several threads to take up the places.
    let (mut station, asrs) = Station::with_asrs(70);
    let old = fs::read(station.device.place(station.id(), asrs[7].id())).unwrap();
    station.restart();
    station.stop();
    fs::write(station.device.place(station.id(), asrs[7].id()), old).unwrap();
    fs::remove_file(station.device.place(station.id(), asrs[40].id())).unwrap();
    fs::write(station.device.place(station.id(), asrs[69].id()), b"torn").unwrap();
    for _ in 0..2 {
        station.start();
        for (at, asr) in asrs.iter().enumerate() {
            let phase = match at {
                7 => "RolledBack",
                40 | 69 => "WithoutPlace",
                _ => "Established",
            };
            assert_eq!(station.phase(asr), phase, "{}", asr.label);
        }
        station.stop();
    }
}

#[test]
fn a_node_in_many_relationships_hears_others_between_their_first_frames() {
    let (mut station, asrs) = Station::with_asrs(40);
    station.restart();
    let mut turns = 0;
    while station.node().timeout().is_some_and(|due| due <= std::time::Instant::now()) {
        let before = station.network.datagrams.len();
        station.fire();
        assert!((1..asrs.len()).contains(&(station.network.datagrams.len() - before)));
        turns += 1;
    }
    assert_eq!(station.network.datagrams.len(), asrs.len(), "each says hello once");
    assert!(turns > 1);
}
