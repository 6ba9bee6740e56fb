//! How a device becomes a node, another node, and nobody's again.

mod support;

use std::fs;

use akm_core::element::{ElementError, Root};
use akm_core::enrolment::{Envelope, ExistingNode};
use akm_core::sds::Kind;
use akm_node::enrol::{enrol, prepare, reset};
use akm_node::error::{NodeError, Strange};
use akm_node::storage::Storage;

use support::{Device, Link, Module, Relationship, Station, challenge, random_id, random_relationship};

fn existing(module: &Module, relationship: &Relationship) -> ExistingNode {
    let node = relationship.sds.members()[1];
    ExistingNode { node, relationship: relationship.id(), provisioner: module.id }
}

#[test]
fn a_fresh_device_says_what_its_element_is_and_that_it_is_no_node() {
    let device = Device::fresh();
    let preparation = prepare(&device.layout).unwrap();
    assert_eq!(preparation.element, device.description());
    assert_eq!(preparation.element.kind, "software");
    assert_eq!(preparation.stack_version, env!("CARGO_PKG_VERSION"));
    assert_eq!((preparation.node, preparation.leftovers.len()), (None, 0));
    assert_eq!(prepare(&device.layout).unwrap(), preparation, "asking again makes no other element");
    assert!(device.roots().is_empty());
}

#[test]
fn the_receipt_is_the_one_that_the_module_expects() {
    let (device, module) = (Device::fresh(), Module::new());
    let provisioning = module.provision();
    let envelope = provisioning.envelope("pump").emit();
    let receipt = device.enrol(envelope.expose());
    let expected = provisioning.receipt(envelope.expose());
    assert!(receipt.equals(expected.expose()));
    assert_eq!(device.roots(), [provisioning.id()]);

    let preparation = prepare(&device.layout).unwrap();
    assert_eq!(preparation.node, Some(existing(&module, &provisioning)));
    let mut node = device.start();
    assert_eq!(node.identity().name, "pump");
    assert_eq!(node.identity().provisioner, module.id);
    let (_, identity) = Link::of_module(&provisioning).identify(&mut node, challenge());
    assert_eq!(identity.node, provisioning.sds.members()[1]);
}

#[test]
fn the_same_envelope_again_gives_the_same_receipt_and_changes_nothing() {
    let device = Device::fresh();
    let envelope = Module::new().provision().envelope("pump").emit();
    let receipt = device.enrol(envelope.expose());
    let (records, roots, counter) = (device.records(), device.roots(), device.counter());
    assert!(device.enrol(envelope.expose()).equals(receipt.expose()));
    assert_eq!((device.records(), device.roots(), device.counter()), (records, roots, counter));
}

#[test]
fn another_envelope_is_refused_unless_it_replaces_what_is_there() {
    let (mut station, asrs) = Station::with_asrs(1);
    station.stop();
    let records = station.device.records();
    let next = Module::new().provision();
    for replaces in [None, Some(random_relationship()), Some(asrs[0].id())] {
        let envelope = Envelope { replaces, ..next.envelope("taken over") };
        let error = enrol(&station.device.layout, envelope.emit().expose()).unwrap_err();
        assert!(matches!(error, NodeError::AsItIs(_)), "{error:?}");
        assert_eq!(station.device.records(), records);
    }
    station.start();
    assert_eq!(station.phase(&asrs[0]), "Established");
}

#[test]
fn another_content_under_the_same_provisioning_relationship_is_refused() {
    let (device, provisioning) = (Device::fresh(), Module::new().provision());
    device.enrol(provisioning.envelope("pump").emit().expose());
    let records = device.records();
    let other = provisioning.again_as(1).envelope("pump").emit();
    let error = enrol(&device.layout, other.expose()).unwrap_err();
    assert!(matches!(error, NodeError::AsItIs(_)), "{error:?}");
    assert_eq!(device.records(), records);
}

#[test]
fn a_replaced_node_leaves_neither_roots_nor_files() {
    let (mut station, asrs) = Station::with_asrs(2);
    station.stop();
    let device = &station.device;
    assert_eq!(device.roots().len(), 3);
    let next = Module::new().provision();
    let envelope = Envelope { replaces: Some(station.provisioning.id()), ..next.envelope("second life") };
    device.enrol(envelope.emit().expose());
    assert_eq!(device.roots(), [next.id()]);
    assert!(!device.node_dir(station.id()).exists());

    let mut node = device.start();
    assert!(node.find("asr-0").is_err() && node.find(&asrs[1].id().to_string()).is_err());
    let (_, identity) = Link::of_module(&next).identify(&mut node, challenge());
    assert!(!identity.holds_others);
    // The module that lost this node speaks to nobody.
    assert!(station.link.call(&mut node, b"anybody there?").is_empty());
}

#[test]
fn a_root_that_no_module_vouches_for_is_not_erased_in_passing() {
    let (device, stranger) = (Device::fresh(), Module::new().provision());
    device.element().install(stranger.root(), stranger.secrets.element_root.expose()).unwrap();
    assert_eq!(prepare(&device.layout).unwrap().leftovers, [stranger.root()]);

    let provisioning = Module::new().provision();
    let error = enrol(&device.layout, provisioning.envelope("pump").emit().expose()).unwrap_err();
    assert!(matches!(&error, NodeError::Strange(Strange::Root { .. })), "{error:?}");
    assert!(error.to_string().contains(&stranger.id().to_string()), "{error}");
    assert_eq!(device.roots(), [stranger.id()]);
    assert_eq!(prepare(&device.layout).unwrap().node, None);

    let envelope = Envelope { erase: vec![stranger.root()], ..provisioning.envelope("pump") };
    device.enrol(envelope.emit().expose());
    assert_eq!(device.roots(), [provisioning.id()]);
}

#[test]
fn an_envelope_that_makes_no_node_is_refused_before_anything_is_written() {
    let (device, module) = (Device::fresh(), Module::new());
    let provisioning = module.provision();
    let good = || provisioning.envelope("pump");
    let with = |install: akm_core::management::Install| Envelope { install: install.emit(), ..good() };

    let mut cut = good().emit().expose().to_vec();
    cut.pop();
    let mut longer = good().emit().expose().to_vec();
    longer.push(0);
    let asr = Relationship::asr("no provisioning", &[module.id, random_id()]);
    assert_eq!(asr.sds.kind(), Kind::Communication);
    let node = provisioning.sds.members()[1];
    let mut rootless = provisioning.install(node);
    rootless.wrapped_root = None;
    let mut no_sds = provisioning.install(node);
    no_sds.public_part.pop();
    let refused: Vec<Vec<u8>> = vec![
        b"nothing like it".to_vec(),
        cut,
        longer,
        Envelope { install: b"no install".to_vec().into(), ..good() }.emit().expose().to_vec(),
        Envelope { node: random_id(), ..good() }.emit().expose().to_vec(),
        Envelope { node: module.id, ..good() }.emit().expose().to_vec(),
        Envelope { node: asr.sds.members()[1], ..with(asr.install(asr.sds.members()[1])) }
            .emit()
            .expose()
            .to_vec(),
        with(rootless).emit().expose().to_vec(),
        with(no_sds).emit().expose().to_vec(),
    ];
    for envelope in refused {
        let error = enrol(&device.layout, &envelope).unwrap_err();
        assert!(matches!(error, NodeError::Request(_)), "{error:?}");
    }
    assert!(device.records().is_empty() && device.roots().is_empty());
}

#[test]
fn a_root_that_the_element_cannot_unwrap_leaves_the_device_nobodys() {
    let (device, provisioning) = (Device::fresh(), Module::new().provision());
    let mut install = provisioning.install(provisioning.sds.members()[1]);
    install.wrapped_root = Some(vec![7; 31].into());
    let envelope = Envelope { install: install.emit(), ..provisioning.envelope("pump") };
    let error = enrol(&device.layout, envelope.emit().expose()).unwrap_err();
    assert!(matches!(error, NodeError::Element(ElementError::Refused(_))), "{error:?}");
    assert_eq!(prepare(&device.layout).unwrap().node, None);
    assert!(device.roots().is_empty());
}

#[test]
fn an_enrolment_that_cannot_write_leaves_the_old_node_and_can_be_repeated() {
    let next = Module::new().provision();
    let node = next.sds.members()[1];
    // What stands in the way of each write, in the order in which they come.
    let writes = [
        ("element.tmp".to_owned(), true),
        (format!("nodes/{node}"), false),
        ("identity.new".to_owned(), true),
    ];
    for (name, is_dir) in writes {
        let (mut station, asrs) = Station::with_asrs(1);
        station.stop();
        let envelope = Envelope { replaces: Some(station.provisioning.id()), ..next.envelope("next") };
        let obstacle = station.device.state().join(&name);
        if is_dir {
            fs::create_dir(&obstacle).unwrap();
        } else {
            fs::write(&obstacle, b"in the way").unwrap();
        }
        enrol(&station.device.layout, envelope.emit().expose()).expect_err(&name);
        if is_dir {
            fs::remove_dir(&obstacle).unwrap();
        } else {
            fs::remove_file(&obstacle).unwrap();
        }

        station.start();
        assert_eq!(station.phase(&asrs[0]), "Established", "{name}");
        station.stop();
        assert!(!station.device.roots().contains(&next.id()), "{name}");
        station.device.enrol(envelope.emit().expose());
        assert_eq!(station.device.roots(), [next.id()], "{name}");
        assert_eq!(station.device.start().identity().node, node);
    }
}

#[test]
fn preparing_beside_a_running_stack_only_looks() {
    let (device, module) = (Device::fresh(), Module::new());
    let held = Storage::open(&device.layout).unwrap();
    // Nobody made an element yet, and this is not the one to do it.
    assert!(matches!(prepare(&device.layout), Err(NodeError::Element(ElementError::Unavailable(_)))));
    drop(held);

    let provisioning = module.provision();
    device.enrol(provisioning.envelope("pump").emit().expose());
    let leftover = device.node_dir(provisioning.sds.members()[1]).join(".staging-left");
    fs::create_dir(&leftover).unwrap();
    let held = Storage::open(&device.layout).unwrap();
    let preparation = prepare(&device.layout).unwrap();
    assert_eq!(preparation.node, Some(existing(&module, &provisioning)));
    assert!(leftover.exists());
    let error = enrol(&device.layout, provisioning.envelope("pump").emit().expose()).unwrap_err();
    assert!(error.to_string().contains("akmd stop"), "{error}");
    assert!(reset(&device.layout).is_err());
    drop(held);
    prepare(&device.layout).unwrap();
    assert!(!leftover.exists());
}

#[test]
fn a_reset_device_is_nobodys_and_can_be_enrolled_again() {
    let (mut station, _) = Station::with_asrs(1);
    station.stop();
    let device = &station.device;
    let before = device.description();
    reset(&device.layout).unwrap();
    assert!(device.records().is_empty() && device.roots().is_empty());
    assert_eq!(device.description(), before, "the element is the same, only empty");
    assert!(matches!(device.start_refused(), NodeError::AsItIs(_)));
    reset(&device.layout).unwrap();

    let preparation = prepare(&device.layout).unwrap();
    assert_eq!((preparation.node, preparation.leftovers.len()), (None, 0));
    let next = Module::new().provision();
    device.enrol(next.envelope("again").emit().expose());
    assert_eq!(device.start().identity().relationship, next.id());
}

#[test]
fn reset_takes_roots_that_nobody_vouches_for() {
    let (device, stranger) = (Device::fresh(), Module::new().provision());
    device.element().install(stranger.root(), stranger.secrets.element_root.expose()).unwrap();
    reset(&device.layout).unwrap();
    assert!(device.roots().is_empty());
}

#[test]
fn reset_mends_a_device_whose_element_or_identity_is_damaged() {
    for file in ["element", "identity"] {
        let device = Device::fresh();
        device.enrol(Module::new().provision().envelope("pump").emit().expose());
        let path = device.state().join(file);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();

        let error = prepare(&device.layout).unwrap_err();
        assert!(matches!(error, NodeError::Damaged { .. } | NodeError::Element(ElementError::Damaged(_))));
        reset(&device.layout).unwrap();
        assert!(device.records().is_empty() && device.roots().is_empty(), "{file}");
        let next = Module::new().provision();
        device.enrol(next.envelope("mended").emit().expose());
        assert_eq!(device.start().identity().relationship, next.id());
    }
}

#[test]
fn a_node_that_was_given_up_half_way_is_finished_off_by_whoever_comes_next() {
    let (mut station, _) = Station::with_asrs(1);
    station.stop();
    let device = &station.device;
    Storage::open(&device.layout).unwrap().disown().unwrap();
    assert_eq!(device.roots().len(), 2);
    let preparation = prepare(&device.layout).unwrap();
    assert_eq!((preparation.node, preparation.leftovers.len()), (None, 0));
    assert!(device.records().is_empty() && device.roots().is_empty());
    assert!(device.element().roots().unwrap().contains(&Root::Device));
}
