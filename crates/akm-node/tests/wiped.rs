//! A node wipes its secrets before it gives memory back: through enrolment, starts, ASRs and their end.

#[path = "../../akm-core/tests/support/freed.rs"]
mod freed;
mod support;

use std::fs;

use akm_core::frame::FrameKind;
use akm_core::keys::{EpochSecret, element_function};
use akm_core::management::{ActivateRequest, EraseRequest, Operation, Taken};
use akm_core::tree::Place;
use akm_node::enrol;
use akm_node::node::Node;
use freed::{Freed, check_wiped, record};
use support::{Device, Link, Module, Prompt, Recorded, Relationship, address, challenge, random_id};

#[global_allocator]
static ALLOCATOR: freed::Keeping = freed::Keeping;

/// More epochs than the story has.
const EPOCHS: u32 = 24;

/// What follows from the secrets of a relationship, up to the keys of its epochs.
fn secrets_of(relationship: &Relationship) -> Vec<(String, Vec<u8>)> {
    let secrets = &relationship.secrets;
    let root = secrets.element_root.expose();
    let mut all = vec![
        ("element root".to_owned(), root.to_vec()),
        ("tree root".to_owned(), secrets.host.tree_root.expose().to_vec()),
        ("header key".to_owned(), secrets.host.keys.header_key.expose().to_vec()),
        ("resync key".to_owned(), secrets.host.keys.resync_key.expose().to_vec()),
    ];
    let mut place = Place::before_first(0, secrets.host.tree_root.duplicate());
    for epoch in 0..EPOCHS {
        let leaf = place.leaf(epoch).expect("ahead");
        let context = [1u32.to_be_bytes(), epoch.to_be_bytes()].concat();
        let factor = element_function(root, b"akm1 epoch", &context);
        all.push((format!("leaf {epoch}"), leaf.expose().to_vec()));
        all.push((format!("factor {epoch}"), factor.expose().to_vec()));
        let secret = EpochSecret::derive(leaf, &factor, relationship.sds.digest());
        all.push((format!("epoch secret {epoch}"), secret.expose().to_vec()));
        place = place.at(epoch).expect("ahead");
        for (at, node) in place.emit().expose()[8..].chunks_exact(32).enumerate() {
            all.push((format!("tree node {at} after epoch {epoch}"), node.to_vec()));
        }
    }
    for (what, _) in &mut all {
        *what = format!("{what} of {}", relationship.label);
    }
    all
}

/// The device key, as it stands in the file of an element that is not sealed.
fn device_key(device: &Device) -> (String, Vec<u8>) {
    let file = fs::read(device.state().join("element")).expect("the element");
    // The first byte string of 32 bytes: the roots come after it.
    let at = file.windows(3).position(|head| head == [2, 0x58, 0x20]).expect("a device key");
    ("device key".to_owned(), file[at + 3..at + 35].to_vec())
}

/// Lets the node do something with a frame that the module made before the recording.
fn ask(link: &mut Link, node: &mut Node, operation: Operation, body: &[u8], secrets: &[(String, Vec<u8>)]) {
    link.streams += 1;
    let first = link.stream.begin(challenge());
    assert!(matches!(say(link, node, &first, secrets), Taken::Begun(..)));
    let request = link.stream.request(operation as u8, body).expect("the stream has begun");
    assert!(matches!(say(link, node, &request, secrets), Taken::Answer(_)), "no answer to {operation:?}");
}

/// Says something to the node; what it answers.
fn say(link: &mut Link, node: &mut Node, message: &[u8], secrets: &[(String, Vec<u8>)]) -> Taken {
    // A node that has just started tells the module of its epoch; then it is asked again.
    for _ in 0..2 {
        let frame = link.seal(FrameKind::Management, message);
        let stream = akm_node::node::Stream(link.streams);
        let (replies, freed) = record(|| node.handle_frame_of(stream, &frame, &mut Recorded::default()));
        check_wiped(&freed, secrets);
        drop(freed);
        if let Some(answer) = link.open(&replies).pop() {
            return link.stream.take(&answer);
        }
    }
    panic!("no answer");
}

fn recorded<T>(secrets: &[(String, Vec<u8>)], work: impl FnOnce() -> T) -> T {
    let (done, freed): (T, Freed) = record(work);
    assert!(freed.count() > 0);
    check_wiped(&freed, secrets);
    done
}

#[test]
fn the_recorder_finds_what_was_not_wiped() {
    freed::check_itself();
}

#[test]
fn the_life_of_a_node_leaves_no_secret_in_freed_memory() {
    let device = Device::fresh();
    let provisioning = Module::new().provision();
    let other = random_id();
    let asr = Relationship::asr_without_jump("line", &[provisioning.sds.members()[1], other])
        .at(other, &address(9000).to_string());
    let mut secrets = [secrets_of(&provisioning), secrets_of(&asr)].concat();
    let envelope = provisioning.envelope("station").emit();

    let (_, freed) = record(|| {
        enrol::prepare(&device.layout).expect("a preparation");
        enrol::enrol(&device.layout, envelope.expose()).expect("it enrols")
    });
    secrets.push(device_key(&device));
    check_wiped(&freed, &secrets);
    drop(freed);

    let mut link = Link::of_module(&provisioning);
    let mut node = recorded(&secrets, || device.start());
    ask(
        &mut link,
        &mut node,
        Operation::Install,
        asr.install(provisioning.sds.members()[1]).emit().expose(),
        &secrets,
    );
    let activate = ActivateRequest { relationship: asr.id(), generation: 1, follow: false };
    ask(&mut link, &mut node, Operation::Activate, &activate.emit(), &secrets);

    let mut member = Link::of(&asr, other);
    for round in 0..4 {
        let text = format!("message {round}");
        let network = recorded(&secrets, || {
            let mut network = Recorded::default();
            node.send("line", None, text.as_bytes(), &mut network).expect("it is sent");
            network
        });
        for (_, frame) in &network.datagrams {
            member.open(std::slice::from_ref(frame));
        }
        let (mut frames, _) = member.handle(akm_core::session::Input::Advance);
        frames.push(member.seal(FrameKind::Data, b"an answer"));
        recorded(&secrets, || {
            for frame in &frames {
                node.handle_datagram(frame, address(9000), &mut Recorded::default());
            }
        });
        // A start of the node: its places are written anew, its sessions begin anew.
        node = recorded(&secrets, || {
            drop(node);
            device.start()
        });
    }
    let status = recorded(&secrets, || node.status().expect("a status"));
    assert!(status.relationships.iter().all(|entry| entry.epoch.is_none_or(|epoch| epoch < EPOCHS)));

    let erase = EraseRequest::Relationship(asr.id());
    ask(&mut link, &mut node, Operation::Erase, &erase.emit(), &secrets);
    let erase = EraseRequest::Everything;
    ask(&mut link, &mut node, Operation::Erase, &erase.emit(), &secrets);
    assert!(node.is_disowned());
    recorded(&secrets, || {
        node.finish_erasure().expect("the rest is erased");
        drop(node);
    });
}
