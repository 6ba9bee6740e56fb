//! The protocol's vectors, valid and invalid, under every crypto provider of this build.

mod support;

use akm_core::crypto::{CryptoProvider, Suite};
use akm_core::frame::{Class, FrameKind, HEADER_LENGTH, Header, header_signature};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::{self, EpochSecret, PlaceSeal};
use akm_core::resync::{InvalidResync, Outside, Response, ResyncRequest};
use akm_core::sds::{Generation, GenerationSecrets, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::secret::Secret;
use akm_core::session::{Input, Membership, Options, Output, Rejection, Session, Standing, Surroundings};
use akm_core::tree::Place;
use serde_json::Value;
use support::{CountingRandom, MemoryElement};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/akm-v1.json")).expect("the vectors are JSON")
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a hex text");
    assert!(text.len().is_multiple_of(2));
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("bytes of the right length")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn list(value: &Value) -> &Vec<Value> {
    let list = value.as_array().expect("a list");
    assert!(!list.is_empty());
    list
}

fn providers() -> Vec<&'static dyn CryptoProvider> {
    vec![
        akm_core::crypto::PORTABLE,
        #[cfg(feature = "aws-lc")]
        akm_core::crypto::AWS_LC,
    ]
}

fn sds(vector: &Value) -> (SynchronizedDataSet, GenerationSecrets) {
    let sds = SynchronizedDataSet::new(Generation {
        kind: if number(&vector["kind"]) == 1 { Kind::Provisioning } else { Kind::Communication },
        relationship: RelationshipId::from_bytes(array(&vector["relationship_id"])).unwrap(),
        generation: number(&vector["generation"]) as u32,
        element_version: number(&vector["element_version"]) as u32,
        instance: array(&vector["instance"]),
        suite: Suite::from_number(number(&vector["suite"]) as u16).unwrap(),
        members: list(&vector["members"]).iter().map(|id| AkmId::from_bytes(array(id)).unwrap()).collect(),
        policy: bytes(&vector["policy"]),
    })
    .unwrap();
    let secrets = ParameterDataVector::new(Secret::take(&mut array(&vector["pdv"]))).derive(&sds);
    (sds, secrets)
}

#[test]
fn element_function() {
    for vector in list(&vectors()["element_function"]) {
        let label = vector["label"].as_str().unwrap();
        let out =
            keys::element_function(&array(&vector["key"]), label.as_bytes(), &bytes(&vector["context"]));
        assert_eq!(out.expose()[..], bytes(&vector["out"]));
    }
}

#[test]
fn header_signatures() {
    for vector in list(&vectors()["header_signature"]) {
        let key = Secret::take(&mut array(&vector["key"]));
        assert_eq!(header_signature(&key, &bytes(&vector["data"]))[..], bytes(&vector["out"]));
    }
}

#[test]
fn synchronized_data_sets_and_their_secrets() {
    for vector in list(&vectors()["sds"]) {
        let (sds, secrets) = sds(vector);
        assert_eq!(sds.emit(), bytes(&vector["public"]));
        assert_eq!(SynchronizedDataSet::parse(&sds.emit()).unwrap(), sds);
        assert_eq!(sds.digest()[..], bytes(&vector["digest"]));
        assert_eq!(secrets.element_root.expose()[..], bytes(&vector["element_root"]));
        assert_eq!(secrets.tree_root.expose()[..], bytes(&vector["tree_root"]));
        assert_eq!(secrets.header_key.expose()[..], bytes(&vector["header_key"]));
        assert_eq!(secrets.tag.0[..], bytes(&vector["tag"]));
    }
}

#[test]
fn an_sds_cut_short_or_drawn_out_is_refused_at_every_length() {
    for vector in list(&vectors()["sds"]) {
        let public = bytes(&vector["public"]);
        for length in 0..public.len() {
            assert!(SynchronizedDataSet::parse(&public[..length]).is_err(), "{length}");
        }
        let mut longer = public.clone();
        longer.push(0);
        assert!(SynchronizedDataSet::parse(&longer).is_err());
    }
}

#[test]
fn leaves_and_covers_of_the_epoch_tree() {
    let tree = &vectors()["tree"];
    let root = || Place::before_first(0, Secret::take(&mut array(&tree["root"])));
    for vector in list(&tree["leaves"]) {
        let leaf = root().leaf(number(&vector["epoch"]) as u32).unwrap();
        assert_eq!(leaf.expose()[..], bytes(&vector["leaf"]));
    }
    for vector in list(&tree["covers"]) {
        let epoch = number(&vector["epoch"]) as u32;
        let place = root().at(epoch).unwrap_or_else(root);
        let nodes = list(&vector["nodes"]);
        let mut expected = [0u32.to_be_bytes(), epoch.to_be_bytes()].concat();
        expected.push(nodes.len() as u8);
        for node in nodes {
            expected.push(number(&node["depth"]) as u8);
            expected.extend_from_slice(&(number(&node["index"]) as u32).to_be_bytes());
            expected.extend_from_slice(&bytes(&node["key"]));
        }
        assert_eq!(place.emit().expose()[..], expected);
        assert_eq!(Place::parse(&expected).unwrap().emit().expose()[..], expected);
    }
}

#[test]
fn header_key_and_tag_of_later_runs() {
    let vectors = vectors();
    for vector in list(&vectors["runs"]) {
        let (sds, secrets) = sds(&vectors["sds"][number(&vector["sds"]) as usize]);
        let mut element = MemoryElement::holding(&sds, secrets.element_root);
        let root = element.root();
        let (header_key, tag) =
            keys::run_header(&mut element, root, sds.digest(), number(&vector["run"]) as u32).unwrap();
        assert_eq!(header_key.expose()[..], bytes(&vector["header_key"]));
        assert_eq!(tag.0[..], bytes(&vector["tag"]));
    }
}

#[test]
fn frames_from_the_leaf_to_the_last_byte() {
    let vectors = vectors();
    for vector in list(&vectors["frames"]) {
        let (sds, secrets) = sds(&vectors["sds"][number(&vector["sds"]) as usize]);
        let (sender, epoch) = (number(&vector["sender"]) as u16, number(&vector["epoch"]) as u32);
        let salt = u64::from_be_bytes(array(&vector["salt"]));
        let place = Place::before_first(0, secrets.tree_root);
        let leaf = place.leaf(epoch).unwrap();
        assert_eq!(leaf.expose()[..], bytes(&vector["leaf"]));
        let mut element = MemoryElement::holding(&sds, secrets.element_root);
        let root = element.root();
        let factor = keys::epoch_factor(&mut element, root, sds.generation(), epoch).unwrap();
        assert_eq!(factor.expose()[..], bytes(&vector["epoch_factor"]));
        let secret = EpochSecret::derive(leaf, &factor, sds.digest());
        assert_eq!(secret.expose()[..], bytes(&vector["epoch_secret"]));
        let key = secret.sender_key(sender, salt);
        assert_eq!(key.expose()[..], bytes(&vector["sender_key"]));

        let header = Header {
            class: Class::Session,
            sender,
            tag: secrets.tag,
            epoch,
            salt,
            counter: number(&vector["counter"]) as u32,
        };
        let head = header.emit(&secrets.header_key);
        assert_eq!(head[..], bytes(&vector["header"]));
        let frame = bytes(&vector["frame"]);
        assert_eq!(Header::parse(&frame), Ok(header));
        for provider in providers() {
            let aead = provider.aead(sds.suite(), key.expose());
            let mut sealed = vec![number(&vector["kind"]) as u8];
            sealed.extend_from_slice(&bytes(&vector["body"]));
            let plain = sealed.clone();
            let tag = aead.seal(&header.nonce(), &head, &mut sealed);
            assert_eq!([&head[..], &sealed, &tag].concat(), frame);
            aead.open(&header.nonce(), &head, &mut sealed, &tag).unwrap();
            assert_eq!(sealed, plain);
        }
    }
}

/// A session of one member that has heard nothing yet.
fn receiver(
    vectors: &Value,
    of_frame: &Value,
    member: usize,
    provider: &'static dyn CryptoProvider,
) -> (Session, MemoryElement, CountingRandom) {
    let (sds, secrets) = sds(&vectors["sds"][number(&of_frame["sds"]) as usize]);
    let place = Place::before_first(0, secrets.tree_root);
    let (mut element, mut random) =
        (MemoryElement::holding(&sds, secrets.element_root), CountingRandom::default());
    let node = sds.members()[member];
    // The policies of the vectors are opaque bytes.
    let policy = akm_core::policy::Policy::default();
    let membership = Membership::with_policy(sds, node, secrets.header_key, secrets.tag, policy).unwrap();
    let mut surroundings =
        Surroundings { now: Default::default(), element: &mut element, random: &mut random };
    let options = Options { hello_at_start: false, find_back: false };
    let session =
        Session::start(provider, membership, Standing::Active(place), options, &mut surroundings).unwrap();
    (session, element, random)
}

/// What a session makes of one frame: the payload, or why it was dropped.
fn receive(
    (session, element, random): &mut (Session, MemoryElement, CountingRandom),
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

#[test]
fn a_session_delivers_the_frames_and_drops_each_again() {
    let vectors = vectors();
    for vector in list(&vectors["frames"]) {
        for provider in providers() {
            let member = usize::from(number(&vector["sender"]) == 0);
            let mut receiver = receiver(&vectors, vector, member, provider);
            let frame = bytes(&vector["frame"]);
            let kind = FrameKind::from_number(number(&vector["kind"]) as u8).unwrap();
            assert_eq!(receive(&mut receiver, &frame), Ok((kind, bytes(&vector["body"]))));
            assert_eq!(receive(&mut receiver, &frame), Err(Rejection::Duplicate));
        }
    }
}

#[test]
fn invalid_frames_are_dropped_for_the_stated_reason() {
    let vectors = vectors();
    assert_eq!(HEADER_LENGTH, 28);
    for provider in providers() {
        for vector in list(&vectors["invalid_frames"]) {
            let of_frame = &vectors["frames"][number(&vector["of_frame"]) as usize];
            let why = vector["why"].as_str().unwrap();
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
            let mut receiver = receiver(&vectors, of_frame, 0, provider);
            assert_eq!(receive(&mut receiver, &bytes(&vector["frame"])), Err(expected), "{why}");
        }
    }
}

#[test]
fn sealed_places() {
    for vector in list(&vectors()["sealed_place"]) {
        let suite = Suite::from_number(number(&vector["suite"]) as u16).unwrap();
        let mut element = MemoryElement::with_device_key(array(&vector["device_key"]));
        let seal = PlaceSeal::derive(&mut element, number(&vector["s"])).unwrap();
        let (digest, random) = (array(&vector["digest"]), array(&vector["random"]));
        let (plain, out) = (bytes(&vector["plain"]), bytes(&vector["out"]));
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

#[test]
fn identify_proof_and_receipt() {
    let vectors = vectors();
    let vector = &vectors["identify"];
    let (sds, secrets) = sds(&vectors["sds"][0]);
    assert_eq!(secrets.element_root.expose()[..], bytes(&vector["element_root"]));
    let mut element = MemoryElement::holding(&sds, secrets.element_root);
    let root = element.root();
    let proof = keys::identify_proof(
        &mut element,
        root,
        &array(&vector["challenge"]),
        AkmId::from_bytes(array(&vector["akm_id"])).unwrap(),
        RelationshipId::from_bytes(array(&vector["relationship_id"])).unwrap(),
        &bytes(&vector["answer"]),
    )
    .unwrap();
    assert_eq!(proof.expose()[..], bytes(&vector["proof"]));

    let vector = &vectors["receipt"];
    let mut element = MemoryElement::holding(&sds, Secret::take(&mut array(&vector["element_root"])));
    let receipt = keys::install_receipt(&mut element, root, &bytes(&vector["request"])).unwrap();
    assert_eq!(receipt.expose()[..], bytes(&vector["receipt"]));
}

/// Which element holds the root of the resync vectors, and what else they share.
struct Resync {
    vector: Value,
    sds: SynchronizedDataSet,
    header_key: akm_core::sds::HeaderKey,
    tree_root: akm_core::sds::TreeRoot,
    element: MemoryElement,
}

impl Resync {
    fn new() -> Self {
        let vectors = vectors();
        let vector = vectors["resync"].clone();
        let (sds, secrets) = sds(&vectors["sds"][number(&vector["sds"]) as usize]);
        let element = MemoryElement::holding(&sds, secrets.element_root);
        Self { vector, sds, header_key: secrets.header_key, tree_root: secrets.tree_root, element }
    }

    fn frame(&self, name: &str) -> Vec<u8> {
        bytes(&self.vector[name]["frame"])
    }

    fn nonces(&self) -> ([u8; 16], [u8; 16]) {
        (array(&self.vector["nonce_r"]), array(&self.vector["nonce_p"]))
    }

    /// What the header shows, and where in the tag, sender and salt stand.
    fn header(&self, name: &str) -> (Header, (akm_core::sds::Tag, u16, u64)) {
        let header = Header::parse(&self.frame(name)).unwrap();
        assert_eq!(header.tag, keys::resync_tag(self.sds.digest()));
        assert_eq!(header.tag.0[..], bytes(&self.vector["tag"]));
        (header, (header.tag, header.sender, header.salt))
    }

    fn request_key(&mut self, name: &str) -> Secret<32> {
        let sender = self.header(name).0.sender;
        let root = self.element.root();
        let requests = keys::ResyncRequestRoot::derive(&mut self.element, root, self.sds.digest()).unwrap();
        let key = requests.request_key(sender, &self.nonces().0);
        assert_eq!(key.expose()[..], bytes(&self.vector[name]["key"]));
        key
    }

    fn response_key(&mut self, name: &str) -> Secret<32> {
        let requester = self.header("request_no_place").0.sender;
        let responder = self.header(name).0.sender;
        let (request_nonce, response_nonce) = self.nonces();
        let pair = keys::ResyncPair { requester, responder, request_nonce, response_nonce };
        let root = self.element.root();
        let key = keys::resync_response_key(&mut self.element, root, self.sds.digest(), &pair).unwrap();
        assert_eq!(key.expose()[..], bytes(&self.vector[name]["key"]));
        key
    }
}

const REQUESTS: [&str; 3] = ["request_no_place", "request_with_place", "request_confirm"];
const RESPONSES: [&str; 3] = ["response_place", "response_epoch_only", "response_challenge"];

#[test]
fn resync_requests_from_the_element_to_the_last_byte() {
    let mut resync = Resync::new();
    for name in REQUESTS {
        let key = resync.request_key(name);
        let frame = resync.frame(name);
        let (header, head) = resync.header(name);
        let Ok(Outside::Request(outside)) = Outside::parse(&header, &frame) else { panic!("{name}") };
        let (nonce, _) = resync.nonces();
        assert_eq!(outside.nonce(), nonce);
        for provider in providers() {
            let key = provider.aead(resync.sds.suite(), key.expose());
            let request = outside.open(&*key).unwrap();
            assert_eq!(request.has_place, name == "request_with_place");
            let challenge = (name == "request_confirm").then(|| array(&resync.vector["challenge"]));
            assert_eq!(request.challenge, challenge);
            assert_eq!(request.seal(&*key, &resync.header_key, head, &nonce), frame);
        }
    }
}

#[test]
fn resync_responses_from_the_element_to_the_last_byte() {
    let mut resync = Resync::new();
    for name in RESPONSES {
        let key = resync.response_key(name);
        let frame = resync.frame(name);
        let (header, head) = resync.header(name);
        let Ok(Outside::Response(outside)) = Outside::parse(&header, &frame) else { panic!("{name}") };
        let (request_nonce, response_nonce) = resync.nonces();
        assert_eq!((outside.request_nonce(), outside.response_nonce()), (request_nonce, response_nonce));
        for provider in providers() {
            let key = provider.aead(resync.sds.suite(), key.expose());
            let response = outside.open(&*key).unwrap();
            match (&response, name) {
                (Response::Place(place), "response_place") => {
                    let root = Place::before_first(place.run(), resync.tree_root.duplicate());
                    assert_eq!(
                        place.emit().expose()[..],
                        root.at(place.epoch()).unwrap().emit().expose()[..]
                    );
                }
                (Response::Position { .. }, "response_epoch_only") => {}
                (Response::Challenge(challenge), "response_challenge") => {
                    assert_eq!(challenge[..], bytes(&resync.vector["challenge"]));
                }
                other => panic!("{other:?}"),
            }
            let sealed = response.seal(&*key, &resync.header_key, head, &request_nonce, &response_nonce);
            assert_eq!(sealed, frame);
        }
    }
}

#[test]
fn a_resync_frame_with_any_bit_flipped_is_refused() {
    let mut resync = Resync::new();
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
    let mut resync = Resync::new();
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
        let frame = request.seal(&*key, &resync.header_key, head, &nonce);
        let header = Header::parse(&frame).unwrap();
        let Ok(Outside::Request(outside)) = Outside::parse(&header, &frame) else { panic!("{request:?}") };
        let opened = outside.open(&*key);
        assert_eq!(opened, if meaning { Ok(request) } else { Err(InvalidResync::Meaningless) });
    }
}
