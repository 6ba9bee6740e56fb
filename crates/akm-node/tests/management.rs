//! What a node does for its module, and for nobody else.

mod support;

use std::fs;

use akm_core::crypto::hash::sha256;
use akm_core::frame::FrameKind;
use akm_core::keys::element_function;
use akm_core::management::{
    IdentifyRequest, Level, Opaque, Operation, Outcome, PrepareRequest, Request, Response, SetEndpoints,
    Taken,
};
use akm_core::session::Phase;
use akm_node::storage::Storage;

use support::{
    Link, Module, Prompt, Recorded, Relationship, Station, address, challenge, exchange, private_modes,
    random_id, random_relationship,
};

#[test]
fn the_proof_of_identify_verifies_under_the_root_and_covers_every_byte() {
    let (mut station, asrs) = Station::with_asrs(2);
    let (node_id, provisioning) = (station.id(), station.provisioning.id());
    let challenge = challenge();
    let (link, node) = station.both();
    let (answer, identity) = link.identify(node, challenge);

    let root = &station.provisioning.secrets.element_root;
    let proof = |challenge: &[u8; 32], bytes: &[u8]| {
        let context = sha256(&[challenge, node_id.as_bytes(), provisioning.as_bytes(), &sha256(&[bytes])]);
        *element_function(root.expose(), b"akm1 identify", &context).expose()
    };
    assert_eq!(answer.proof, proof(&challenge, &answer.identity));
    assert_ne!(answer.proof, proof(&[0; 32], &answer.identity));
    let mut altered = answer.identity.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_ne!(answer.proof, proof(&challenge, &altered));

    assert_eq!((identity.node, identity.relationship), (node_id, provisioning));
    assert_eq!(identity.element, station.device.description());
    let status = station.node().status().unwrap();
    assert_eq!(status.element_warning, "software: protects nothing from root on this machine");
    assert_eq!(identity.stack_version, env!("CARGO_PKG_VERSION"));
    let integrity = station.device.layout.integrity(&identity.element.identity()).unwrap();
    assert_eq!(identity.integrity, integrity);
    assert_eq!((identity.level, identity.holds_others), (Level::Factory, true));
    let mut held = [provisioning, asrs[0].id(), asrs[1].id()];
    held.sort();
    let (link, node) = station.both();
    let page = link.status(node, None, 10);
    assert_eq!(page.relationships.iter().map(|entry| entry.relationship).collect::<Vec<_>>(), held);
    assert!(!page.more && page.relationships.iter().all(|entry| entry.phase == Phase::Established));
}

#[test]
fn a_changed_stack_shows_in_the_integrity_code_and_endpoints_do_not() {
    let (mut station, asrs) = Station::with_asrs(1);
    let (link, node) = station.both();
    let before = link.identify(node, challenge()).1.integrity;
    let entries = vec![(0, "moved".to_owned(), "127.0.0.1:5".to_owned())];
    link.done(node, Operation::SetEndpoints, &SetEndpoints { relationship: asrs[0].id(), entries }.emit());
    assert_eq!(link.identify(node, challenge()).1.integrity, before);
    fs::write(station.device.layout.stack().join("akmd"), b"another program").unwrap();
    let (link, node) = station.both();
    assert_ne!(link.identify(node, challenge()).1.integrity, before);
}

#[test]
fn an_installed_relationship_is_acknowledged_by_the_element_and_staged() {
    let mut station = Station::new(1);
    let asr = Relationship::asr("asr", &[station.id(), random_id()]);
    let (link, node) = station.both();
    let prepare = PrepareRequest { relationship: asr.id(), element_version: 1 }.emit();
    let material = Opaque::parse(&link.done(node, Operation::Prepare, &prepare)).unwrap();
    assert_eq!(Opaque::parse(&link.done(node, Operation::Prepare, &prepare)).unwrap(), material);

    let body = asr.install(node.identity().node).emit();
    let receipt = Opaque::parse(&link.done(node, Operation::Install, body.expose())).unwrap();
    let expected = asr.receipt(body.expose());
    assert!(expected.equals(&receipt.0));
    assert_eq!(station.phase(&asr), "Staged");
    let refused = station.node().send("asr", None, b"too early", &mut Recorded::default()).unwrap_err();
    assert!(refused.to_string().contains("not active yet"), "{refused}");
    assert_eq!(private_modes(&station.device.state()), [""; 0]);

    // Staged it stays, whatever happens, until the module says so.
    station.restart();
    assert_eq!(station.phase(&asr), "Staged");
    let (link, node) = station.both();
    assert_eq!(link.activate(node, &asr).outcome, Outcome::Done);
    assert_eq!(station.phase(&asr), "Established");
    station.restart();
    assert_eq!(station.phase(&asr), "Established");
}

#[test]
fn every_operation_can_be_repeated_without_harm() {
    let (mut station, asrs) = Station::with_asrs(1);
    station.send("asr-0", b"moves the place on");
    let epoch = station.report(&asrs[0]).epoch;
    let body = asrs[0].install(station.id()).emit();
    let entries = vec![(0, "moved".to_owned(), String::new())];
    let endpoints = SetEndpoints { relationship: asrs[0].id(), entries }.emit();
    let (link, node) = station.both();
    let receipts = [0; 2].map(|_| link.done(node, Operation::Install, body.expose()));
    assert_eq!(receipts[0], receipts[1]);
    for _ in 0..2 {
        assert_eq!(link.activate(node, &asrs[0]).outcome, Outcome::Done);
        link.done(node, Operation::SetEndpoints, &endpoints);
        assert!(link.identify(node, challenge()).1.holds_others);
        assert_eq!(link.status(node, None, 10).relationships.len(), 2);
    }
    assert_eq!(station.report(&asrs[0]).epoch, epoch, "installing again did not put the place back");
    station.send("asr-0", b"in the same epoch");
    assert_eq!(station.report(&asrs[0]).epoch, epoch);

    let (link, node) = station.both();
    for _ in 0..2 {
        assert_eq!(link.erase(node, asrs[0].id()).outcome, Outcome::Done);
        assert_eq!(link.status(node, None, 10).relationships.len(), 1);
    }
    assert_eq!(station.device.roots(), [station.provisioning.id()]);
    assert!(!station.device.relationship_dir(station.id(), asrs[0].id()).exists());
    // What was erased can be given again.
    station.make_member(&asrs[0]);
    assert_eq!(station.phase(&asrs[0]), "Established");
    let (link, node) = station.both();
    assert_eq!(link.erase(node, asrs[0].id()).outcome, Outcome::Done);
}

#[test]
fn a_request_that_cannot_be_met_says_why_and_changes_nothing() {
    let (mut station, asrs) = Station::with_asrs(1);
    let (own, other) = (station.id(), random_id());
    let unrooted = Relationship::asr("short root", &[own, other]);
    let mut short = unrooted.install(own);
    short.wrapped_root = Some(vec![7; 31].into());
    let mut without = unrooted.install(own);
    without.wrapped_root = None;
    let mut provisioning = Relationship::provisioning(random_id(), own).install(own);
    provisioning.label = "smuggled".to_owned();
    let install = |relationship: &Relationship| relationship.install(own).emit().expose().to_vec();
    let listed = |labels: usize, endpoints: &[&str]| {
        let mut install = unrooted.install(own);
        install.member_labels = vec!["label".to_owned(); labels];
        install.endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
        install.emit().expose().to_vec()
    };
    let refused = [
        ("another content", Operation::Install, install(&asrs[0].again_as(1)), Outcome::Conflict),
        (
            "another root under the same version",
            Operation::Install,
            install(&asrs[0].again_as(2)),
            Outcome::Conflict,
        ),
        (
            "an unknown policy",
            Operation::Install,
            install(&Relationship::with_unknown_policy("later", &[own, other])),
            Outcome::Unsupported,
        ),
        (
            "not a member",
            Operation::Install,
            install(&Relationship::asr("others", &[other, random_id()])),
            Outcome::Conflict,
        ),
        ("kind 1", Operation::Install, provisioning.emit().expose().to_vec(), Outcome::Unsupported),
        ("a short root", Operation::Install, short.emit().expose().to_vec(), Outcome::Element),
        ("no root", Operation::Install, without.emit().expose().to_vec(), Outcome::NotHeld),
        ("one name", Operation::Install, listed(1, &[""; 2]), Outcome::Malformed),
        ("three names", Operation::Install, listed(3, &[""; 2]), Outcome::Malformed),
        ("one endpoint", Operation::Install, listed(2, &["127.0.0.1:6"]), Outcome::Malformed),
        ("three endpoints", Operation::Install, listed(0, &[""; 3]), Outcome::Malformed),
        ("nonsense for an endpoint", Operation::Install, listed(2, &["", "nonsense"]), Outcome::Malformed),
        (
            "an unknown relationship",
            Operation::Activate,
            PrepareRequest { relationship: random_relationship(), element_version: 1 }.emit(),
            Outcome::NotHeld,
        ),
        (
            "another generation",
            Operation::Activate,
            PrepareRequest { relationship: asrs[0].id(), element_version: 2 }.emit(),
            Outcome::NotHeld,
        ),
        (
            "endpoints of an unknown relationship",
            Operation::SetEndpoints,
            SetEndpoints { relationship: random_relationship(), entries: Vec::new() }.emit(),
            Outcome::NotHeld,
        ),
        (
            "an endpoint of nobody",
            Operation::SetEndpoints,
            SetEndpoints {
                relationship: asrs[0].id(),
                entries: vec![
                    (0, "label".to_owned(), "127.0.0.1:6".to_owned()),
                    (2, "label".to_owned(), String::new()),
                ],
            }
            .emit(),
            Outcome::Malformed,
        ),
        (
            "an endpoint that is none",
            Operation::SetEndpoints,
            SetEndpoints {
                relationship: asrs[0].id(),
                entries: vec![(1, "label".to_owned(), "somewhere:6".to_owned())],
            }
            .emit(),
            Outcome::Malformed,
        ),
    ];
    let number = |operation: Operation| operation as u8;
    let mut cases: Vec<_> = refused
        .into_iter()
        .map(|(what, operation, body, outcome)| (what, number(operation), body, outcome))
        .collect();
    let operations = 1..=number(Operation::SetEndpoints);
    cases.extend(operations.map(|number| ("no body", number, Vec::new(), Outcome::Malformed)));
    cases.push(("operation 0", 0, Vec::new(), Outcome::Unsupported));
    cases.push(("operation 200", 200, vec![0xa0], Outcome::Unsupported));

    let roots = station.device.roots();
    let files = |station: &Station| -> Vec<_> {
        station.device.records().into_iter().map(|(path, _)| path).collect()
    };
    let before = files(&station);
    let members = |station: &mut Station| -> Vec<_> {
        let members = station.report(&asrs[0]).members.into_iter();
        members.map(|member| (member.name, member.endpoint)).collect()
    };
    let known = members(&mut station);
    for (what, operation, body, outcome) in cases {
        let (link, node) = station.both();
        let response = link.ask_number(node, operation, &body);
        assert_eq!(response.outcome, outcome, "{what}: {}", response.reason);
        assert!(response.body.is_empty(), "{what}");
    }
    assert_eq!(station.device.roots(), roots);
    assert_eq!(files(&station), before);
    assert_eq!(members(&mut station), known);
    assert_eq!(station.phase(&asrs[0]), "Established");
}

#[test]
fn a_request_that_cannot_be_split_is_not_proven_and_ends_the_stream() {
    let mut station = Station::new(1);
    let (link, node) = station.both();
    for message in [&b""[..], b"help", &[0xa1, 0x00, 0x01]] {
        link.begin(node);
        let answers = link.call(node, message);
        let response = Response::parse(&answers[0]).unwrap();
        assert_eq!((answers.len(), response.id, response.outcome), (1, 0, Outcome::Unproven));
        assert_eq!(response.proof, None);
        let request = link.stream.request(Operation::Status as u8, b"").unwrap();
        assert!(link.call(node, &request).is_empty(), "nothing more is said on it");
    }
}

#[test]
fn a_relationship_that_cannot_be_written_is_not_installed_and_leaves_no_root() {
    let mut station = Station::new(1);
    let asr = Relationship::asr("asr", &[station.id(), random_id()]);
    let staging = station.device.node_dir(station.id()).join(format!(".staging-{}", asr.id()));
    fs::write(&staging, b"in the way").unwrap();
    assert_eq!(station.install(&asr), Outcome::Storage);
    assert_eq!(station.device.roots(), [station.provisioning.id()]);
    fs::remove_file(&staging).unwrap();
    station.make_member(&asr);
}

#[test]
fn a_relationship_rests_until_its_activation_is_written() {
    let mut station = Station::new(1);
    let asr = Relationship::asr("asr", &[station.id(), random_id()]);
    station.install(&asr);
    let obstacle = station.device.relationship_dir(station.id(), asr.id()).join("g1.active.new");
    fs::create_dir(&obstacle).unwrap();
    let (link, node) = station.both();
    assert_eq!(link.activate(node, &asr).outcome, Outcome::Storage);
    assert_eq!(station.phase(&asr), "Staged");
    fs::remove_dir(&obstacle).unwrap();
    let (link, node) = station.both();
    assert_eq!(link.activate(node, &asr).outcome, Outcome::Done);
}

#[test]
fn what_an_erasure_that_was_cut_off_left_does_not_stop_the_next_one() {
    let (mut station, asrs) = Station::with_asrs(1);
    let left = station.device.node_dir(station.id()).join(format!(".erased-{}", asrs[0].id()));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("g1.installed"), b"of an earlier life").unwrap();
    let (link, node) = station.both();
    let response = link.erase(node, asrs[0].id());
    assert_eq!(response.outcome, Outcome::Done, "{}", response.reason);
    assert!(!left.exists());
}

#[test]
fn the_first_authentic_frame_activates_what_was_staged() {
    let mut stations = [Station::new(4001), Station::new(4002)];
    let ids = [stations[0].id(), stations[1].id()];
    let asr = Relationship::asr("pair", &ids).at(ids[0], &stations[0].address.to_string());
    stations[0].install(&asr);
    stations[1].make_member(&asr);
    stations[1].send("pair", b"the module has not come to you yet");
    exchange(&mut stations);
    assert_eq!(stations[0].phase(&asr), "Established");
    assert_eq!(stations[0].network.messages.len(), 1);
    stations[0].restart();
    assert_eq!(stations[0].phase(&asr), "Established");
}

#[test]
fn pages_of_the_status_list_every_relationship_once() {
    let (mut station, asrs) = Station::with_asrs(4);
    let mut wanted: Vec<_> = asrs.iter().map(Relationship::id).chain([station.provisioning.id()]).collect();
    wanted.sort();
    let (link, node) = station.both();
    for most in [1, 2, 3, 5, 1000] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = link.status(node, after, most);
            assert!(page.relationships.len() <= usize::from(most));
            found.extend(page.relationships.iter().map(|entry| entry.relationship));
            after = found.last().copied();
            if !page.more {
                break;
            }
            assert!(!page.relationships.is_empty());
        }
        assert_eq!(found, wanted, "in pages of {most}");
    }
    assert!(link.status(node, wanted.last().copied(), 10).relationships.is_empty());
}

#[test]
fn frames_go_where_the_module_says_the_members_are() {
    let (mut station, asrs) = Station::with_asrs(1);
    let other = usize::from(asrs[0].sds.index_of(station.id()) == Some(0));
    let entries = vec![
        (other as u16, "other".to_owned(), address(7001).to_string()),
        ((1 - other) as u16, "self".to_owned(), address(7002).to_string()),
    ];
    let body = SetEndpoints { relationship: asrs[0].id(), entries }.emit();
    let (link, node) = station.both();
    link.done(node, Operation::SetEndpoints, &body);
    for _ in 0..2 {
        station.send("asr-0", b"over there");
        let sent: Vec<_> = station.network.datagrams.drain(..).map(|(to, _)| to).collect();
        assert_eq!(sent, [address(7001)], "to the other one, and not to itself");
        let members = station.report(&asrs[0]).members;
        assert_eq!((members[other].name.as_str(), members[1 - other].name.as_str()), ("other", "self"));
        station.restart();
    }
}

#[test]
fn the_source_of_the_newest_frame_is_where_a_member_is() {
    let mut station = Station::new(4001);
    let other = random_id();
    let asr = Relationship::asr("asr", &[station.id(), other]).at(other, "127.0.0.1:9");
    station.make_member(&asr);
    let mut member = Link::of(&asr, other);
    let frames = [b"1", b"2"].map(|body| member.seal(FrameKind::Data, body));
    station.take(&frames[1], address(5001));
    // An older one that comes late says nothing about where its sender is, nor does one that is altered.
    station.take(&frames[0], address(5002));
    let mut altered = member.seal(FrameKind::Data, b"3");
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(station.take(&altered, address(5003)), "not-authentic");
    station.restart();
    station.send("asr", b"where you are");
    assert_eq!(station.network.datagrams[0].0, address(5001));
}

#[test]
fn a_message_to_one_member_goes_to_that_member_alone() {
    let mut station = Station::new(1);
    let (press, oven) = (random_id(), random_id());
    let asr = Relationship::asr("line", &[station.id(), press, oven])
        .at(press, "127.0.0.1:9001")
        .at(oven, "127.0.0.1:9002");
    station.make_member(&asr);
    station.send("line", b"to all");
    station.network.datagrams.clear();
    let label = format!("label of {oven}");
    for name in [label, oven.to_string()] {
        station.send_to("line", &name, b"to the oven").unwrap();
        let went: Vec<_> = station.network.datagrams.drain(..).map(|(to, _)| to).collect();
        assert_eq!(went, [address(9002)], "{name}");
    }
    let own = format!("label of {}", station.id());
    let mut refusal = |name: &str| station.send_to("line", name, b"to nobody").unwrap_err().to_string();
    assert!(refusal(&own).contains("is this node itself"));
    let wrong = refusal("stove");
    assert!(wrong.contains("no member stove"), "{wrong}");
    for member in [press, oven] {
        assert!(wrong.contains(&format!("label of {member}")), "{wrong}");
    }
    assert!(!wrong.contains(&own), "{wrong}");
    assert!(station.network.datagrams.is_empty());
}

#[test]
fn erasing_everything_means_the_whole_node_and_the_only_module_cannot_erase_itself_alone() {
    let (mut station, _) = Station::with_asrs(2);
    let (own, provisioning) = (station.id(), station.provisioning.id());
    let (link, node) = station.both();
    assert!(!node.is_disowned());
    assert_eq!(link.erase(node, provisioning).outcome, Outcome::Conflict);
    assert!(!node.is_disowned());
    assert_eq!(link.erase_everything(node).outcome, Outcome::Done);
    assert!(node.is_disowned());
    node.finish_erasure().unwrap();
    assert!(station.device.roots().is_empty());
    assert!(station.device.records().is_empty());
    assert!(!station.device.node_dir(own).exists());
    station.stop();
    assert!(matches!(station.device.start_refused(), akm_node::error::NodeError::AsItIs(_)));
}

#[test]
fn a_node_that_was_erased_takes_frames_no_more() {
    let (mut station, asrs) = Station::with_asrs(1);
    let other = asrs[0].sds.members().iter().copied().find(|member| *member != station.id()).unwrap();
    let frame = Link::of(&asrs[0], other).seal(FrameKind::Data, b"anybody there?");
    let (link, node) = station.both();
    link.erase_everything(node);
    node.finish_erasure().unwrap();
    assert_eq!(station.take(&frame, address(9)), "unknown-tag");
    station.fire();
    assert!(station.node().timeout().is_none());
    let (link, node) = station.both();
    assert!(link.call(node, b"and you?").is_empty());
}

#[test]
fn an_erasure_that_was_cut_off_after_its_answer_is_finished_by_the_next_start() {
    let (mut station, _) = Station::with_asrs(1);
    let (link, node) = station.both();
    link.erase_everything(node);
    station.stop();
    assert_eq!(station.device.roots().len(), 2);
    assert!(matches!(station.device.start_refused(), akm_node::error::NodeError::AsItIs(_)));
    assert!(station.device.roots().is_empty() && station.device.records().is_empty());
    assert!(!Storage::open(&station.device.layout).unwrap().is_disowned());
}

#[test]
fn requests_in_a_communication_relationship_are_never_answered() {
    let mut station = Station::new(4001);
    let other = random_id();
    let asr = Relationship::asr("asr", &[station.id(), other]).at(other, "127.0.0.1:9");
    station.make_member(&asr);
    let body = IdentifyRequest { challenge: challenge() }.emit();
    let request = Request { id: 1, operation: Operation::Identify as u8, body: &body, proof: None }.emit();
    let mut member = Link::of(&asr, other);

    // As data it is an application's, wherever it comes in.
    let as_data = member.seal(FrameKind::Data, &request);
    assert!(station.node().handle_stream_frame(&as_data, &mut Recorded::default()).is_empty());
    assert_eq!(station.take(&as_data, address(9)), "accepted");
    assert_eq!(station.network.messages[0].2, request);
    // As management it has no place here, though it is sealed as it should be.
    let plaintext = [&[FrameKind::Management as u8][..], &request].concat();
    let forged = member.forge(&asr, other, 7, &plaintext);
    assert!(station.node().handle_stream_frame(&forged, &mut Recorded::default()).is_empty());
    assert_eq!(station.take(&forged, address(9)), "unexpected-kind");
    assert_eq!(station.network.messages.len(), 1);
    assert!(station.network.datagrams.is_empty());
}

#[test]
fn a_provisioning_relationship_has_no_business_in_datagrams() {
    let (mut station, asrs) = Station::with_asrs(1);
    let body = akm_core::management::EraseRequest::Relationship(asrs[0].id()).emit();
    let request = Request { id: 1, operation: Operation::Erase as u8, body: &body, proof: None }.emit();
    let frame = station.link.seal(FrameKind::Management, &request);
    assert_eq!(station.take(&frame, address(9)), "unknown-tag");
    assert_eq!(station.phase(&asrs[0]), "Established");
}

#[test]
fn another_module_is_not_heard() {
    let (mut station, asrs) = Station::with_asrs(1);
    let stranger = Relationship::provisioning(Module::new().id, station.id());
    let mut link = Link::of_module(&stranger);
    let body = akm_core::management::EraseRequest::Relationship(asrs[0].id()).emit();
    let request = Request { id: 1, operation: Operation::Erase as u8, body: &body, proof: None }.emit();
    assert!(link.call(station.node(), &request).is_empty());
    assert_eq!(station.phase(&asrs[0]), "Established");
}

#[test]
fn a_replayed_request_is_not_carried_out_twice() {
    let mut station = Station::new(1);
    let asr = Relationship::asr("asr", &[station.id(), random_id()]);
    let body = akm_core::management::EraseRequest::Relationship(asr.id()).emit();
    let mut network = Recorded::default();
    // The node answers the first in an epoch of its own, which the second is sent in.
    let frames = [true, false].map(|is_first| {
        let (link, node) = station.both();
        let request = match is_first {
            true => link.stream.begin(challenge()).into(),
            false => link.stream.request(Operation::Erase as u8, &body).unwrap(),
        };
        let frame = link.seal(FrameKind::Management, &request);
        let replies = node.handle_stream_frame(&frame, &mut network);
        let answers = link.open(&replies);
        assert!(matches!(link.stream.take(&answers[0]), Taken::Begun(..) | Taken::Answer(_)));
        frame
    });

    station.make_member(&asr);
    assert!(station.node().handle_stream_frame(&frames[1], &mut network).is_empty());
    // By a hello a module that is behind would learn of the epoch.
    let replies = station.node().handle_stream_frame(&frames[0], &mut network);
    assert!(station.link.open(&replies).is_empty());
    let reports = station.node().status().unwrap().relationships;
    let rejected = &reports.iter().find(|report| report.kind == "provisioning").unwrap().rejected;
    assert_eq!((rejected["duplicate"], rejected["epoch-too-old"]), (1, 1));
    assert_eq!(station.phase(&asr), "Established");

    station.restart();
    for frame in &frames {
        let replies = station.node().handle_stream_frame(frame, &mut network);
        assert!(station.link.open(&replies).is_empty());
    }
    assert_eq!(station.phase(&asr), "Established");
}
