//! The protocol's vectors, valid and invalid, under every crypto provider of this build. Nothing in the file is left
//! unread.

mod support;

use std::cell::RefCell;
use std::collections::BTreeSet;

use akm_core::crypto::hash::{expand, sha256};
use akm_core::crypto::{CryptoProvider, Suite};
use akm_core::element::{Label, RootCheck};
use akm_core::frame::{Class, FrameKind, HEADER_LENGTH, Header, header_signature};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::{self, EpochSecret, PlaceSeal, element_function};
use akm_core::proof::{Proof, StreamBinding};
use akm_core::resync::{InvalidResync, Outside, REQUEST_LENGTH, RESPONSE_MAX, Response, ResyncRequest};
use akm_core::sds::{
    Generation, GenerationSecrets, HostPart, Kind, ParameterDataVector, SynchronizedDataSet,
};
use akm_core::seal::{HostPartSeal, KeysSeal, SEALED_HOST_PART_LENGTH, SEALED_KEYS_LENGTH};
use akm_core::secret::Secret;
use akm_core::session::{Input, Membership, Options, Output, Rejection, Session, Standing, Surroundings};
use akm_core::tree::{InvalidPlace, Place};
use serde_json::Value;
use support::{CountingRandom, MemoryElement};

/// A part of the file, which notes what of it is read.
#[derive(Clone)]
struct Vector<'f> {
    value: &'f Value,
    path: String,
    read: &'f RefCell<BTreeSet<String>>,
}

impl<'f> Vector<'f> {
    /// Hands the whole file to a check.
    fn check(check: fn(&Vector<'_>)) -> BTreeSet<String> {
        let read = RefCell::default();
        let value = file();
        check(&Vector { value: &value, path: String::new(), read: &read });
        read.into_inner()
    }

    fn of(&self, key: &str) -> Self {
        let value = self.value.get(key).unwrap_or_else(|| panic!("{} has no {key}", self.path));
        Self { value, path: format!("{}/{key}", self.path), read: self.read }
    }

    fn list(&self) -> Vec<Self> {
        let list = self.value.as_array().expect("a list");
        assert!(!list.is_empty(), "{}", self.path);
        (0..list.len()).map(|at| self.item(at)).collect()
    }

    fn item(&self, at: usize) -> Self {
        Self { value: &self.value[at], path: format!("{}/{at}", self.path), read: self.read }
    }

    /// The part of another section that a vector names by its place there.
    fn item_of(&self, key: &str, section: &Self) -> Self {
        section.item(self.of(key).number() as usize)
    }

    fn text(&self) -> &'f str {
        self.read.borrow_mut().insert(self.path.clone());
        self.value.as_str().expect("a text")
    }

    fn bytes(&self) -> Vec<u8> {
        let text = self.text();
        assert!(text.len().is_multiple_of(2));
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn array<const N: usize>(&self) -> [u8; N] {
        self.bytes().try_into().expect("bytes of the right length")
    }

    fn secret<const N: usize>(&self) -> Secret<N> {
        Secret::take(&mut self.array())
    }

    fn number(&self) -> u64 {
        self.read.borrow_mut().insert(self.path.clone());
        self.value.as_u64().expect("a number")
    }

    fn suite(&self) -> Suite {
        Suite::from_number(self.of("suite").number() as u16).unwrap()
    }
}

fn file() -> Value {
    serde_json::from_str(include_str!("vectors/akm-v1.json")).expect("the vectors are JSON")
}

/// The paths of all texts and numbers below a value.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| leaves(value, &format!("{path}/{at}"), found));
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// Each check is a test of its own, and one of those that leave nothing unread.
macro_rules! checks {
    ($($test:ident => $check:ident,)*) => {
        $(#[test]
        fn $test() {
            Vector::check($check);
        })*

        const CHECKS: &[fn(&Vector<'_>)] = &[$($check),*];
    };
}

checks! {
    the_file_is_that_of_revision_2 => revision,
    element_function_of_the_protocol => element_functions,
    header_signatures => signatures,
    synchronized_data_sets_and_their_secrets => data_sets,
    an_sds_cut_short_or_drawn_out_is_refused_at_every_length => damaged_data_sets,
    leaves_and_covers_of_the_epoch_tree => tree,
    encoded_places => places,
    places_of_another_length_are_refused => invalid_places,
    header_key_and_tag_of_later_runs => runs,
    frames_from_the_leaf_to_the_last_byte => frames,
    a_session_delivers_the_frames_and_drops_each_again => delivered_frames,
    invalid_frames_are_dropped_for_the_stated_reason => invalid_frames,
    exported_keys => exports,
    sealed_places => places_under_seals,
    identify_proof_and_receipt => identify_and_receipts,
    proofs_of_requests_and_answers => request_and_answer_proofs,
    sealed_host_parts => host_parts,
    root_checks => checks_of_roots,
    sealed_keys_of_what_is_installed => installed,
    resync_requests_from_the_element_to_the_last_byte => resync_requests,
    resync_responses_from_the_element_to_the_last_byte => resync_responses,
}

#[test]
fn nothing_in_the_file_is_left_unread() {
    let read: BTreeSet<String> = CHECKS.iter().flat_map(|check| Vector::check(*check)).collect();
    let mut there = BTreeSet::new();
    leaves(&file(), "", &mut there);
    let unread: Vec<&String> = there.difference(&read).collect();
    assert!(unread.is_empty(), "{unread:#?}");
}

fn providers() -> Vec<&'static dyn CryptoProvider> {
    vec![
        akm_core::crypto::PORTABLE,
        #[cfg(feature = "aws-lc")]
        akm_core::crypto::AWS_LC,
    ]
}

fn sds(vector: &Vector<'_>) -> (SynchronizedDataSet, GenerationSecrets) {
    let sds = SynchronizedDataSet::new(Generation {
        kind: if vector.of("kind").number() == 1 { Kind::Provisioning } else { Kind::Communication },
        relationship: RelationshipId::from_bytes(vector.of("relationship_id").array()).unwrap(),
        generation: vector.of("generation").number() as u32,
        element_version: vector.of("element_version").number() as u32,
        instance: vector.of("instance").array(),
        suite: vector.suite(),
        members: vector
            .of("members")
            .list()
            .iter()
            .map(|id| AkmId::from_bytes(id.array()).unwrap())
            .collect(),
        policy: vector.of("policy").bytes(),
    })
    .unwrap();
    let secrets = ParameterDataVector::new(vector.of("pdv").secret()).derive(&sds);
    (sds, secrets)
}

/// The data set that a vector names.
fn sds_of(file: &Vector<'_>, vector: &Vector<'_>) -> (SynchronizedDataSet, GenerationSecrets) {
    sds(&vector.item_of("sds", &file.of("sds")))
}

fn revision(file: &Vector<'_>) {
    assert!(file.of("note").text().contains("revision 2"));
}

fn element_functions(file: &Vector<'_>) {
    for vector in file.of("element_function").list() {
        let label = vector.of("label").text();
        let out =
            element_function(&vector.of("key").array(), label.as_bytes(), &vector.of("context").bytes());
        assert_eq!(out.expose()[..], vector.of("out").bytes());
    }
}

fn signatures(file: &Vector<'_>) {
    for vector in file.of("header_signature").list() {
        let key = vector.of("key").secret();
        assert_eq!(header_signature(&key, &vector.of("data").bytes())[..], vector.of("out").bytes());
    }
}

fn data_sets(file: &Vector<'_>) {
    for vector in file.of("sds").list() {
        let (sds, GenerationSecrets { element_root, host }) = sds(&vector);
        assert_eq!(sds.emit(), vector.of("public").bytes());
        assert_eq!(SynchronizedDataSet::parse(&sds.emit()).unwrap(), sds);
        assert_eq!(sds.digest()[..], vector.of("digest").bytes());
        assert_eq!(element_root.expose()[..], vector.of("element_root").bytes());
        assert_eq!(host.tree_root.expose()[..], vector.of("tree_root").bytes());
        assert_eq!(host.keys.header_key.expose()[..], vector.of("header_key").bytes());
        assert_eq!(host.keys.tag.0[..], vector.of("tag").bytes());
        assert_eq!(host.keys.resync_key.expose()[..], vector.of("resync_key").bytes());
    }
}

fn damaged_data_sets(file: &Vector<'_>) {
    for vector in file.of("sds").list() {
        let public = vector.of("public").bytes();
        for length in 0..public.len() {
            assert!(SynchronizedDataSet::parse(&public[..length]).is_err(), "{length}");
        }
        let mut longer = public.clone();
        longer.push(0);
        assert!(SynchronizedDataSet::parse(&longer).is_err());
    }
}

fn tree(file: &Vector<'_>) {
    let tree = file.of("tree");
    let root = || Place::before_first(0, tree.of("root").secret());
    for vector in tree.of("leaves").list() {
        let leaf = root().leaf(vector.of("epoch").number() as u32).unwrap();
        assert_eq!(leaf.expose()[..], vector.of("leaf").bytes());
    }
    for vector in tree.of("covers").list() {
        let epoch = vector.of("epoch").number() as u32;
        let place = root().at(epoch).unwrap_or_else(root);
        let mut expected = [0u32.to_be_bytes(), epoch.to_be_bytes()].concat();
        let mut first_leaves = Vec::new();
        for node in vector.of("nodes").list() {
            let (depth, index) = (node.of("depth").number(), node.of("index").number());
            first_leaves.push(index << (32 - depth));
            expected.extend_from_slice(&node.of("key").bytes());
        }
        assert!(
            first_leaves.is_sorted() && u64::from(place.next_epoch().unwrap_or(u32::MAX)) == first_leaves[0]
        );
        assert_eq!(place.keys(), first_leaves.len());
        assert_eq!(place.emit().expose()[..], expected);
        assert_eq!(Place::parse(&expected).unwrap().emit().expose()[..], expected);
    }
}

fn places(file: &Vector<'_>) {
    for vector in file.of("places").list() {
        let encoded = vector.of("encoded").bytes();
        let place = Place::parse(&encoded).unwrap();
        let stands = (vector.of("run").number() as u32, vector.of("epoch").number() as u32);
        assert_eq!((place.run(), place.epoch()), stands);
        assert_eq!(place.emit().expose()[..], encoded);
    }
    // Those of one run come from one root: the way from the first of them leads to all.
    let encoded: Vec<Vec<u8>> =
        file.of("places").list().iter().map(|vector| vector.of("encoded").bytes()).collect();
    let first = Place::parse(&encoded[0]).unwrap();
    for bytes in &encoded[1..] {
        let place = Place::parse(bytes).unwrap();
        if place.run() == first.run() {
            assert_eq!(first.at(place.epoch()).unwrap().emit().expose()[..], *bytes);
        }
    }
}

fn invalid_places(file: &Vector<'_>) {
    for vector in file.of("invalid_places").list() {
        let why = vector.of("why").text();
        assert_eq!(Place::parse(&vector.of("encoded").bytes()).unwrap_err(), InvalidPlace, "{why}");
    }
}

fn runs(file: &Vector<'_>) {
    for vector in file.of("runs").list() {
        let (sds, secrets) = sds_of(file, &vector);
        let mut element = MemoryElement::holding(&sds, secrets.element_root);
        let root = element.root();
        let run = vector.of("run").number() as u32;
        let (header_key, tag) = keys::run_header(&mut element, root, sds.digest(), run).unwrap();
        assert_eq!(header_key.expose()[..], vector.of("header_key").bytes());
        assert_eq!(tag.0[..], vector.of("tag").bytes());
    }
}

/// The secret of the epoch of a frame, each step of the way compared.
fn epoch_secret(file: &Vector<'_>, frame: &Vector<'_>) -> EpochSecret {
    let (sds, secrets) = sds_of(file, frame);
    let epoch = frame.of("epoch").number() as u32;
    let leaf = Place::before_first(0, secrets.host.tree_root).leaf(epoch).unwrap();
    assert_eq!(leaf.expose()[..], frame.of("leaf").bytes());
    let mut element = MemoryElement::holding(&sds, secrets.element_root);
    let root = element.root();
    let factor = keys::epoch_factor(&mut element, root, sds.generation(), epoch).unwrap();
    assert_eq!(factor.expose()[..], frame.of("epoch_factor").bytes());
    let secret = EpochSecret::derive(leaf, &factor, sds.digest());
    assert_eq!(secret.expose()[..], frame.of("epoch_secret").bytes());
    secret
}

fn frames(file: &Vector<'_>) {
    for vector in file.of("frames").list() {
        let (sds, secrets) = sds_of(file, &vector);
        let sender = vector.of("sender").number() as u16;
        let salt = u64::from_be_bytes(vector.of("salt").array());
        let key = epoch_secret(file, &vector).sender_key(sender, salt);
        assert_eq!(key.expose()[..], vector.of("sender_key").bytes());

        let header = Header {
            class: Class::Session,
            sender,
            tag: secrets.host.keys.tag,
            epoch: vector.of("epoch").number() as u32,
            salt,
            counter: vector.of("counter").number() as u32,
        };
        let head = header.emit(&secrets.host.keys.header_key);
        assert_eq!(head[..], vector.of("header").bytes());
        let frame = vector.of("frame").bytes();
        assert_eq!(Header::parse(&frame), Ok(header));
        for provider in providers() {
            let aead = provider.aead(sds.suite(), key.expose());
            let mut sealed = vec![vector.of("kind").number() as u8];
            sealed.extend_from_slice(&vector.of("body").bytes());
            let plain = sealed.clone();
            let tag = aead.seal(&header.nonce(), &head, &mut sealed);
            assert_eq!([&head[..], &sealed, &tag].concat(), frame);
            aead.open(&header.nonce(), &head, &mut sealed, &tag).unwrap();
            assert_eq!(sealed, plain);
        }
    }
}

type Receiver = (Session, MemoryElement, CountingRandom);

/// A session of one member that has heard nothing yet.
fn receiver(
    file: &Vector<'_>,
    of_frame: &Vector<'_>,
    member: usize,
    before: Option<u32>,
    provider: &'static dyn CryptoProvider,
) -> Receiver {
    let (sds, secrets) = sds_of(file, of_frame);
    // Nobody follows as far as from the first epoch to the last.
    let root = Place::before_first(0, secrets.host.tree_root);
    let place = before.and_then(|before| root.at(before)).unwrap_or(root);
    let check = RootCheck::of(&secrets.element_root);
    let (mut element, mut random) =
        (MemoryElement::holding(&sds, secrets.element_root), CountingRandom::default());
    let node = sds.members()[member];
    // The policies of the vectors are opaque bytes.
    let policy = akm_core::policy::Policy::default();
    let membership = Membership::with_policy(sds, node, check, secrets.host.keys, policy).unwrap();
    let mut surroundings =
        Surroundings { now: Default::default(), element: &mut element, random: &mut random };
    let options = Options { hello_at_start: false, find_back: false };
    let session =
        Session::start(provider, membership, Standing::Active(place), options, &mut surroundings).unwrap();
    (session, element, random)
}

/// The epoch before that of a frame, if it says one.
fn before(frame: &[u8]) -> Option<u32> {
    Header::parse(frame).ok()?.epoch.checked_sub(1)
}

/// What a session makes of one frame: the payload, or why it was dropped.
fn receive(
    (session, element, random): &mut Receiver,
    frame: &[u8],
) -> Result<(FrameKind, Vec<u8>), Rejection> {
    session
        .handle(Input::Frame(frame), &mut Surroundings { now: Default::default(), element, random })
        .unwrap();
    let mut result = None;
    loop {
        match session.poll() {
            Output::Persist(_) => session.persisted(),
            Output::Deliver(delivery) => result = Some(Ok((delivery.kind, delivery.payload.to_vec()))),
            Output::Event(akm_core::session::Event::Rejected { reason, .. }) => result = Some(Err(reason)),
            Output::Event(_) => {}
            Output::Transmit(_) | Output::TransmitTo(..) => panic!("nothing is to be sent"),
            Output::Idle => return result.expect("every frame is delivered or dropped"),
        }
    }
}

fn delivered_frames(file: &Vector<'_>) {
    for vector in file.of("frames").list() {
        for provider in providers() {
            let member = usize::from(vector.of("sender").number() == 0);
            let frame = vector.of("frame").bytes();
            let mut receiver = receiver(file, &vector, member, before(&frame), provider);
            let kind = FrameKind::from_number(vector.of("kind").number() as u8).unwrap();
            assert_eq!(receive(&mut receiver, &frame), Ok((kind, vector.of("body").bytes())));
            assert_eq!(receive(&mut receiver, &frame), Err(Rejection::Duplicate));
        }
    }
}

fn invalid_frames(file: &Vector<'_>) {
    assert_eq!(HEADER_LENGTH, 28);
    assert!(file.of("invalid_frames_note").text().contains("member 0"));
    for provider in providers() {
        for vector in file.of("invalid_frames").list() {
            let of_frame = vector.item_of("of_frame", &file.of("frames"));
            let why = vector.of("why").text();
            let expected = match why {
                "shorter than header, kind and AEAD tag"
                | "unknown version"
                | "unknown class"
                | "reserved byte not zero" => Rejection::Malformed,
                "sender is not a member" => Rejection::NotAMember,
                "unknown tag" => Rejection::UnknownTag,
                "header signature wrong" => Rejection::HeaderSignature,
                "cut by one byte" => Rejection::NotAuthentic,
                other if other.ends_with("not authentic") => Rejection::NotAuthentic,
                other => panic!("no such reason: {other}"),
            };
            let frame = vector.of("frame").bytes();
            let mut receiver = receiver(file, &of_frame, 0, before(&frame), provider);
            assert_eq!(receive(&mut receiver, &frame), Err(expected), "{why}");
        }
    }
}

fn exports(file: &Vector<'_>) {
    for frame in file.of("frames").list() {
        let secret = epoch_secret(file, &frame).export_secret();
        assert_eq!(secret.expose()[..], frame.of("export_secret").bytes());
    }
    for vector in file.of("exported").list() {
        let frame = vector.item_of("of_frame", &file.of("frames"));
        let (label, context) = (vector.of("label").text(), vector.of("context").bytes());
        let (length, expected) = (vector.of("length").number() as u8, vector.of("key").bytes());
        let secret = epoch_secret(file, &frame).export_secret();
        assert_eq!(secret.key(label, &context, length).unwrap().expose(), expected);

        // What an application gets of a member that heard the frame.
        let epoch = frame.of("epoch").number() as u32;
        let member = usize::from(frame.of("sender").number() == 0);
        let provider = akm_core::crypto::provider();
        let mut receiver = receiver(file, &frame, member, epoch.checked_sub(1), provider);
        let now = Default::default();
        assert!(receiver.0.export(Some(epoch), label, &context, length, now).is_err(), "it was not heard");
        receive(&mut receiver, &frame.of("frame").bytes()).unwrap();
        for named in [None, Some(epoch)] {
            let exported = receiver.0.export(named, label, &context, length, now).unwrap();
            assert_eq!((exported.epoch, exported.key.expose()), (epoch, &expected[..]));
        }
    }
}

fn places_under_seals(file: &Vector<'_>) {
    for vector in file.of("sealed_place").list() {
        let suite = vector.suite();
        let mut element = MemoryElement::with_device_key(vector.of("device_key").array());
        let seal = PlaceSeal::derive(&mut element, vector.of("s").number()).unwrap();
        let (digest, random) = (vector.of("digest").array(), vector.of("random").array());
        let (plain, out) = (vector.of("plain").bytes(), vector.of("out").bytes());
        assert_eq!(Place::parse(&plain).unwrap().emit().expose()[..], plain);
        for provider in providers() {
            assert_eq!(seal.seal(provider, suite, &digest, &random, &plain), out);
            assert_eq!(seal.open(provider, suite, &digest, &out).unwrap().expose()[..], plain);
            for at in 0..out.len() {
                let mut damaged = out.clone();
                damaged[at] ^= 1;
                assert!(seal.open(provider, suite, &digest, &damaged).is_err(), "{at}");
            }
        }
    }
}

/// An element with the root of a vector, compared with that of the data set at this place.
fn element_of(file: &Vector<'_>, vector: &Vector<'_>, at: usize) -> (MemoryElement, Secret<32>) {
    let (sds, secrets) = sds(&file.of("sds").item(at));
    assert_eq!(secrets.element_root.expose()[..], vector.of("element_root").bytes());
    (MemoryElement::holding(&sds, secrets.element_root.duplicate()), secrets.element_root)
}

/// A proof is the same for the node, which asks its element, and for the module, which has the root.
fn assert_proves(proof: &Proof, element: &mut MemoryElement, root: &Secret<32>, expected: &[u8]) {
    let name = element.root();
    assert_eq!(proof.by_element(element, name).unwrap().expose()[..], *expected);
    assert!(proof.by_root(root).equals(expected));
}

fn identify_and_receipts(file: &Vector<'_>) {
    let vector = file.of("identify");
    let (mut element, root) = element_of(file, &vector, 0);
    let proof = Proof::identify(
        &vector.of("challenge").array(),
        AkmId::from_bytes(vector.of("akm_id").array()).unwrap(),
        RelationshipId::from_bytes(vector.of("relationship_id").array()).unwrap(),
        &vector.of("answer").bytes(),
    );
    assert_proves(&proof, &mut element, &root, &vector.of("proof").bytes());

    for vector in file.of("receipts").list() {
        let (sds, GenerationSecrets { element_root, host }) = sds_of(file, &vector);
        let mut element = MemoryElement::holding(&sds, element_root.duplicate());
        let proof = Proof::receipt(sds.digest(), &host.digest(), &vector.of("request").bytes());
        assert_proves(&proof, &mut element, &element_root, &vector.of("receipt").bytes());
    }
}

fn request_and_answer_proofs(file: &Vector<'_>) {
    for vector in file.of("request_proofs").list() {
        let (mut element, root) = element_of(file, &vector, 0);
        let proof = Proof::request(
            &vector.of("stream_nonce").array(),
            vector.of("request_id").number(),
            vector.of("operation").number() as u8,
            &vector.of("body").bytes(),
        );
        assert_proves(&proof, &mut element, &root, &vector.of("proof").bytes());
    }
    for vector in file.of("answer_proofs").list() {
        let (mut element, root) = element_of(file, &vector, 0);
        let stream = StreamBinding {
            challenge: vector.of("challenge").array(),
            nonce: vector.of("stream_nonce").array(),
        };
        let proof = Proof::answer(
            &stream,
            vector.of("request_id").number(),
            vector.of("operation").number() as u8,
            vector.of("outcome").number() as u8,
            &vector.of("answer").bytes(),
        );
        assert_proves(&proof, &mut element, &root, &vector.of("proof").bytes());
    }
}

fn host_parts(file: &Vector<'_>) {
    for vector in file.of("host_parts").list() {
        let (sds, GenerationSecrets { element_root, host }) = sds_of(file, &vector);
        let index = vector.of("index").number() as u16;
        let (random, sealed) = (vector.of("random").array(), vector.of("sealed").bytes());
        assert_eq!(host.emit().expose()[..], vector.of("host_part").bytes());
        assert_eq!(sealed.len(), SEALED_HOST_PART_LENGTH);
        let root = element_function(element_root.expose(), Label::Install.as_bytes(), sds.digest());
        let key = expand::<32>(&root, &[b"akm1 host part", &index.to_be_bytes(), &random]);
        assert_eq!(key.expose()[..], vector.of("key").bytes());

        let mut element = MemoryElement::holding(&sds, element_root.duplicate());
        let name = element.root();
        let of_module = HostPartSeal::by_root(&element_root, &sds);
        let of_node = HostPartSeal::by_element(&mut element, name, &sds).unwrap();
        for provider in providers() {
            assert_eq!(of_module.seal(provider, index, &random, &host), sealed);
            let opened = of_node.open(provider, index, &sealed).unwrap();
            assert_eq!(opened.emit().expose()[..], vector.of("host_part").bytes());
            assert_eq!(opened.digest(), sha256(&[&vector.of("host_part").bytes()]));
            assert!(of_node.open(provider, index ^ 1, &sealed).is_err(), "it is for another member");
            for at in 0..sealed.len() {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert!(of_node.open(provider, index, &damaged).is_err(), "{at}");
                assert!(of_node.open(provider, index, &sealed[..at]).is_err(), "{at}");
            }
        }
    }
}

fn checks_of_roots(file: &Vector<'_>) {
    for vector in file.of("root_checks").list() {
        let (_, secrets) = sds_of(file, &vector);
        assert_eq!(RootCheck::of(&secrets.element_root).0[..], vector.of("check").bytes());
    }
}

fn installed(file: &Vector<'_>) {
    for vector in file.of("installed").list() {
        let (sds, GenerationSecrets { host: HostPart { keys, .. }, .. }) = sds_of(file, &vector);
        let mut element = MemoryElement::with_device_key(vector.of("device_key").array());
        let seal = KeysSeal::derive(&mut element, &sds).unwrap();
        let (random, sealed) = (vector.of("random").array(), vector.of("sealed").bytes());
        assert_eq!(sealed.len(), SEALED_KEYS_LENGTH);
        for provider in providers() {
            assert_eq!(seal.seal(provider, &random, &keys), sealed);
            assert!(seal.open(provider, &sealed).unwrap().emit().equals(keys.emit().expose()));
            for at in 0..sealed.len() {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert!(seal.open(provider, &damaged).is_err(), "{at}");
                assert!(seal.open(provider, &sealed[..at]).is_err(), "{at}");
            }
        }
    }
}

/// Which element holds the root of the resync vectors, and what else they share.
struct Resync<'f> {
    vector: Vector<'f>,
    sds: SynchronizedDataSet,
    host: HostPart,
    element: MemoryElement,
}

impl<'f> Resync<'f> {
    fn of(file: &Vector<'f>) -> Self {
        let vector = file.of("resync");
        let (sds, secrets) = sds_of(file, &vector);
        let element = MemoryElement::holding(&sds, secrets.element_root);
        Self { vector, sds, host: secrets.host, element }
    }

    fn frame(&self, name: &str) -> Vec<u8> {
        self.vector.of(name).of("frame").bytes()
    }

    fn nonces(&self) -> ([u8; 16], [u8; 16]) {
        (self.vector.of("nonce_r").array(), self.vector.of("nonce_p").array())
    }

    /// What the header shows, and where in the tag, sender and salt stand.
    fn header(&self, name: &str) -> (Header, (akm_core::sds::Tag, u16, u64)) {
        let header = Header::parse(&self.frame(name)).unwrap();
        assert_eq!(header.tag, keys::resync_tag(self.sds.digest()));
        assert_eq!(header.tag.0[..], self.vector.of("tag").bytes());
        (header, (header.tag, header.sender, header.salt))
    }

    fn request_key(&mut self, name: &str) -> Secret<32> {
        let sender = self.header(name).0.sender;
        let (root, resync_key) = (self.element.root(), &self.host.keys.resync_key);
        let requests =
            keys::ResyncRequestRoot::derive(&mut self.element, root, self.sds.digest(), resync_key).unwrap();
        let key = requests.request_key(sender, &self.nonces().0);
        assert_eq!(key.expose()[..], self.vector.of(name).of("key").bytes());
        key
    }

    /// A request, opened, and the hash of its whole plaintext.
    fn request(&mut self, name: &str) -> (ResyncRequest, [u8; 32]) {
        let key = self.request_key(name);
        let key = akm_core::crypto::provider().aead(self.sds.suite(), key.expose());
        let (frame, header) = (self.frame(name), self.header(name).0);
        let Ok(Outside::Request(outside)) = Outside::parse(&header, &frame) else { panic!("{name}") };
        outside.open(&*key).unwrap()
    }

    /// The key of a response: those to a request with place, or with a confirmation, follow from that request.
    fn response_key(&mut self, name: &str) -> Secret<32> {
        let answered = match name {
            "response_epoch_only" => "request_with_place",
            "response_finish" => "request_confirm",
            _ => "request_no_place",
        };
        let (_, request_body) = self.request(answered);
        let requester = self.header(answered).0.sender;
        let responder = self.header(name).0.sender;
        let (request_nonce, response_nonce) = self.nonces();
        let pair = keys::ResyncPair { requester, responder, request_nonce, response_nonce, request_body };
        let (root, resync_key) = (self.element.root(), &self.host.keys.resync_key);
        let key =
            keys::resync_response_key(&mut self.element, root, self.sds.digest(), resync_key, &pair).unwrap();
        assert_eq!(key.expose()[..], self.vector.of(name).of("key").bytes());
        key
    }
}

const REQUESTS: [&str; 3] = ["request_no_place", "request_with_place", "request_confirm"];
const RESPONSES: [&str; 4] =
    ["response_place", "response_epoch_only", "response_challenge", "response_finish"];

fn resync_requests(file: &Vector<'_>) {
    let mut resync = Resync::of(file);
    for name in REQUESTS {
        let key = resync.request_key(name);
        let frame = resync.frame(name);
        assert_eq!(frame.len(), REQUEST_LENGTH);
        let (header, head) = resync.header(name);
        let Ok(Outside::Request(outside)) = Outside::parse(&header, &frame) else { panic!("{name}") };
        let (nonce, _) = resync.nonces();
        assert_eq!(outside.nonce(), nonce);
        for provider in providers() {
            let key = provider.aead(resync.sds.suite(), key.expose());
            let (request, digest) = outside.open(&*key).unwrap();
            assert_eq!(digest, request.digest());
            assert_eq!(request.has_place, name == "request_with_place");
            let challenge = (name == "request_confirm").then(|| resync.vector.of("challenge").array());
            assert_eq!(request.challenge, challenge);
            assert_eq!(request.seal(&*key, &resync.host.keys.header_key, head, &nonce), frame);
        }
    }
}

fn resync_responses(file: &Vector<'_>) {
    let mut resync = Resync::of(file);
    for name in RESPONSES {
        let key = resync.response_key(name);
        let frame = resync.frame(name);
        assert!(frame.len() <= RESPONSE_MAX && RESPONSE_MAX < REQUEST_LENGTH);
        let (header, head) = resync.header(name);
        let Ok(Outside::Response(outside)) = Outside::parse(&header, &frame) else { panic!("{name}") };
        let (request_nonce, response_nonce) = resync.nonces();
        assert_eq!((outside.request_nonce(), outside.response_nonce()), (request_nonce, response_nonce));
        for provider in providers() {
            let key = provider.aead(resync.sds.suite(), key.expose());
            let response = outside.open(&*key).unwrap();
            match (&response, name) {
                (Response::Place(place), "response_place") => {
                    let root = Place::before_first(place.run(), resync.host.tree_root.duplicate());
                    assert_eq!(
                        place.emit().expose()[..],
                        root.at(place.epoch()).unwrap().emit().expose()[..]
                    );
                }
                // The first place of a run whose tree root was drawn.
                (Response::Place(place), "response_finish") => assert_eq!(place.keys(), 1),
                (Response::Position { .. }, "response_epoch_only") => {}
                (Response::Challenge(challenge), "response_challenge") => {
                    assert_eq!(challenge[..], resync.vector.of("challenge").bytes());
                }
                other => panic!("{other:?}"),
            }
            let header_key = &resync.host.keys.header_key;
            let sealed = response.seal(&*key, header_key, head, &request_nonce, &response_nonce);
            assert_eq!(sealed, frame);
        }
    }
}

#[test]
fn a_resync_frame_with_any_bit_flipped_is_refused() {
    let (value, read) = (file(), RefCell::default());
    let mut resync = Resync::of(&Vector { value: &value, path: String::new(), read: &read });
    for name in REQUESTS.into_iter().chain(RESPONSES) {
        let request = name.starts_with("request");
        let key = if request { resync.request_key(name) } else { resync.response_key(name) };
        let key = akm_core::crypto::provider().aead(resync.sds.suite(), key.expose());
        let frame = resync.frame(name);
        for at in 0..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 1;
            let Ok(header) = Header::parse(&damaged) else { continue };
            let error = match Outside::parse(&header, &damaged) {
                Ok(Outside::Request(outside)) => outside.open(&*key).unwrap_err(),
                Ok(Outside::Response(outside)) => outside.open(&*key).unwrap_err(),
                Err(error) => error,
            };
            assert_ne!(error, InvalidResync::Meaningless, "{name} at {at}");
        }
        for length in 45..frame.len() {
            let header = Header::parse(&frame[..length]).unwrap();
            match Outside::parse(&header, &frame[..length]) {
                Ok(Outside::Request(_)) => panic!("{name}: a request has one length"),
                Ok(Outside::Response(outside)) => assert!(outside.open(&*key).is_err(), "{name}: {length}"),
                Err(error) => assert_eq!(error, InvalidResync::Malformed, "{name}: {length}"),
            }
        }
    }
}

#[test]
fn authentic_resync_requests_that_mean_nothing_are_refused() {
    let (value, read) = (file(), RefCell::default());
    let mut resync = Resync::of(&Vector { value: &value, path: String::new(), read: &read });
    let key = resync.request_key("request_no_place");
    let key = akm_core::crypto::provider().aead(resync.sds.suite(), key.expose());
    let good = ResyncRequest { asked: 1, has_place: false, run: 0, epoch: u32::MAX, challenge: None };
    let (_, head) = resync.header("request_no_place");
    let (nonce, _) = resync.nonces();
    for (meaning, request) in [
        (true, good),
        (true, ResyncRequest { run: 7, ..good }),
        (true, ResyncRequest { challenge: Some([1; 16]), ..good }),
        (true, ResyncRequest { has_place: true, epoch: 9, ..good }),
        (false, ResyncRequest { epoch: 9, ..good }),
        (false, ResyncRequest { has_place: true, epoch: 9, challenge: Some([1; 16]), ..good }),
    ] {
        let frame = request.seal(&*key, &resync.host.keys.header_key, head, &nonce);
        let header = Header::parse(&frame).unwrap();
        let Ok(Outside::Request(outside)) = Outside::parse(&header, &frame) else { panic!("{request:?}") };
        let opened = outside.open(&*key).map(|(request, _)| request);
        assert_eq!(opened, if meaning { Ok(request) } else { Err(InvalidResync::Meaningless) });
    }
}
