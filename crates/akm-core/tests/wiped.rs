//! Secrets are wiped before their memory is given back: through whole lives of relationships, under
//! every crypto provider of this build.

#[path = "support/freed.rs"]
mod freed;
mod support;

use akm_core::crypto::{CryptoProvider, Suite};
use akm_core::element::RootCheck;
use akm_core::enrolment::Envelope;
use akm_core::frame::{FrameKind, Header};
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::{EpochSecret, PlaceSeal, element_function};
use akm_core::management::{Install, Operation, Request};
use akm_core::policy::Policy;
use akm_core::proof::Proof;
use akm_core::sds::{
    Generation, GenerationSecrets, HostPart, Kind, ParameterDataVector, SynchronizedDataSet,
};
use akm_core::seal::{HostPartSeal, KeysSeal};
use akm_core::secret::{Secret, SecretBytes};
use akm_core::session::{
    Input, Instant, Membership, Options, Output, Record, Session, Standing, Surroundings,
};
use akm_core::tree::Place;
use freed::{check_wiped, record};
use support::{CountingRandom, MemoryElement};
use zeroize::Zeroizing;

#[global_allocator]
static ALLOCATOR: freed::Keeping = freed::Keeping;

const PDV: [u8; 128] = {
    let mut bytes = [0; 128];
    let mut at = 0;
    while at < 128 {
        bytes[at] = (at as u8).wrapping_mul(37).wrapping_add(11);
        at += 1;
    }
    bytes
};

fn providers() -> Vec<&'static dyn CryptoProvider> {
    vec![
        akm_core::crypto::PORTABLE,
        #[cfg(feature = "aws-lc")]
        akm_core::crypto::AWS_LC,
    ]
}

fn sds(kind: Kind, suite: Suite) -> SynchronizedDataSet {
    let policy = match kind {
        Kind::Provisioning => Policy::provisioning(),
        Kind::Communication => Policy::default(),
    };
    SynchronizedDataSet::new(Generation {
        kind,
        relationship: RelationshipId::from_random([3; 16]),
        generation: 1,
        element_version: 1,
        instance: [4; 16],
        suite,
        members: vec![AkmId::from_random([5; 16]), AkmId::from_random([6; 16])],
        policy: policy.emit(),
    })
    .expect("two members")
}

fn secrets(sds: &SynchronizedDataSet) -> GenerationSecrets {
    ParameterDataVector::new(Secret::take(&mut PDV.clone())).derive(sds)
}

/// One end of a relationship, which seals its places as a node does.
struct Member {
    session: Session,
    element: MemoryElement,
    random: CountingRandom,
    seal: PlaceSeal,
    now: Instant,
    /// Salt of each frame that it made, with its sender and epoch.
    salts: Vec<(u32, u16, u64)>,
}

impl Member {
    fn new(provider: &'static dyn CryptoProvider, sds: &SynchronizedDataSet, index: usize) -> Self {
        let GenerationSecrets { element_root, host: HostPart { tree_root, keys } } = secrets(sds);
        let check = RootCheck::of(&element_root);
        let mut element = MemoryElement::holding(sds, element_root);
        let mut random = CountingRandom::default();
        let member = sds.members()[index];
        let membership = Membership::new(sds.clone(), member, check, keys).expect("a member");
        let standing = Standing::Active(Place::before_first(0, tree_root));
        let now = Instant::default();
        let mut surroundings = Surroundings { now, element: &mut element, random: &mut random };
        let options = Options { hello_at_start: false, find_back: false };
        let session =
            Session::start(provider, membership, standing, options, &mut surroundings).expect("a start");
        let seal = PlaceSeal::derive(&mut MemoryElement::with_device_key([9; 32]), 1).expect("a seal");
        Self { session, element, random, seal, now, salts: Vec::new() }
    }

    /// Hands in one input; returns the frames that come out.
    fn handle(&mut self, provider: &'static dyn CryptoProvider, input: Input<'_>) -> Vec<Vec<u8>> {
        let mut surroundings =
            Surroundings { now: self.now, element: &mut self.element, random: &mut self.random };
        self.session.handle(input, &mut surroundings).expect("it is taken");
        let mut frames = Vec::new();
        loop {
            match self.session.poll() {
                Output::Persist(record) => {
                    if let Record::Place(place) = record {
                        let sealed =
                            self.seal.seal(provider, Suite::Aes256Gcm, &[7; 32], &[8; 16], place.expose());
                        let opened =
                            self.seal.open(provider, Suite::Aes256Gcm, &[7; 32], &sealed).expect("ours");
                        assert_eq!(opened.expose()[..], place.expose()[..]);
                    }
                    self.session.persisted();
                }
                Output::Transmit(frame) => {
                    let header = Header::parse(frame).expect("a frame");
                    self.salts.push((header.epoch, header.sender, header.salt));
                    frames.push(frame.to_vec());
                }
                Output::TransmitTo(..) | Output::Deliver(_) | Output::Event(_) => {}
                Output::Idle => return frames,
            }
        }
    }
}

/// Two members through many epochs, a leap and an end; returns the salts of all frames.
fn live(
    provider: &'static dyn CryptoProvider,
    sds: &SynchronizedDataSet,
    body: &[u8],
) -> Vec<(u32, u16, u64)> {
    let kind = match sds.kind() {
        Kind::Provisioning => FrameKind::Management,
        Kind::Communication => FrameKind::Data,
    };
    let mut members = [Member::new(provider, sds, 0), Member::new(provider, sds, 1)];
    for round in 0..12 {
        let [one, other] = &mut members;
        for member in [&mut *one, &mut *other] {
            member.now = member.now + std::time::Duration::from_secs(10);
            let due = member.handle(provider, Input::Timeout);
            assert!(due.is_empty() || round > 0);
        }
        let frames = one.handle(provider, Input::Send(kind, body));
        // A member that is behind is told so at once in a provisioning relationship.
        for frame in frames {
            for reply in other.handle(provider, Input::Frame(&frame)) {
                one.handle(provider, Input::Frame(&reply));
            }
        }
        let mut frames = other.handle(provider, Input::Send(kind, body));
        frames.extend(other.handle(provider, Input::Advance));
        for frame in frames {
            one.handle(provider, Input::Frame(&frame));
        }
    }
    assert_eq!(members[0].session.epoch(), members[1].session.epoch());
    members.into_iter().flat_map(|member| member.salts).collect()
}

/// All that follows from the PDV up to the last epoch that was used.
fn all_secrets(sds: &SynchronizedDataSet, salts: &[(u32, u16, u64)]) -> Vec<(String, Vec<u8>)> {
    let GenerationSecrets { element_root, host: HostPart { tree_root, keys } } = secrets(sds);
    let mut all = vec![
        ("the PDV".to_owned(), PDV.to_vec()),
        ("half of the PDV".to_owned(), PDV[64..].to_vec()),
        ("the element root".to_owned(), element_root.expose().to_vec()),
        ("the tree root".to_owned(), tree_root.expose().to_vec()),
        ("the header key".to_owned(), keys.header_key.expose().to_vec()),
        ("the resync key".to_owned(), keys.resync_key.expose().to_vec()),
        ("the device key".to_owned(), vec![9; 32]),
        (
            "the seal of places".to_owned(),
            element_function(&[9; 32], b"akm1 seal", &1u64.to_be_bytes()).expose().to_vec(),
        ),
    ];
    let mut place = Place::before_first(0, tree_root);
    let last = salts.iter().map(|(epoch, ..)| *epoch).max().expect("frames were made");
    for epoch in 0..=last {
        let leaf = place.leaf(epoch).expect("ahead");
        let context = [1u32.to_be_bytes(), epoch.to_be_bytes()].concat();
        let factor = element_function(element_root.expose(), b"akm1 epoch", &context);
        all.push((format!("leaf {epoch}"), leaf.expose().to_vec()));
        all.push((format!("factor {epoch}"), factor.expose().to_vec()));
        let secret = EpochSecret::derive(leaf, &factor, sds.digest());
        all.push((format!("epoch secret {epoch}"), secret.expose().to_vec()));
        for (_, sender, salt) in salts.iter().filter(|(of, ..)| *of == epoch) {
            let key = secret.sender_key(*sender, *salt);
            all.push((format!("sender key of {sender} in epoch {epoch}"), key.expose().to_vec()));
        }
        place = place.at(epoch).expect("ahead");
        for (at, node) in place.emit().expose()[8..].chunks_exact(32).enumerate() {
            all.push((format!("tree node {at} after epoch {epoch}"), node.to_vec()));
        }
    }
    all
}

#[test]
fn the_recorder_finds_what_was_not_wiped() {
    freed::check_itself();
}

#[test]
fn secret_bytes_that_grow_leave_none_behind() {
    let secret = [0xa5; 16];
    let (length, freed) = record(|| {
        let mut bytes = SecretBytes::with_capacity(16);
        for _ in 0..100 {
            bytes.append(&secret);
        }
        bytes.len()
    });
    assert!(length == 1600 && freed.count() > 3);
    check_wiped(&freed, &[("bytes".to_owned(), secret.to_vec())]);
}

#[test]
fn the_life_of_a_relationship_leaves_no_secret_in_freed_memory() {
    for provider in providers() {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let sds = sds(Kind::Communication, suite);
            let (salts, freed) = record(|| live(provider, &sds, b"a message"));
            assert!(freed.count() > 500 && salts.len() >= 24);
            check_wiped(&freed, &all_secrets(&sds, &salts));
        }
    }
}

#[test]
fn roots_that_travel_in_management_messages_leave_none_behind() {
    for provider in providers() {
        let sds = sds(Kind::Provisioning, Suite::Aes256Gcm);
        // As module and node do it: wrapped, put into a request, sealed, opened, read.
        let (salts, freed) = record(|| {
            let GenerationSecrets { element_root, host } = secrets(&sds);
            let seal = HostPartSeal::by_root(&element_root, &sds);
            let install = Install {
                public_part: sds.emit(),
                wrapped_root: Some(SecretBytes::copy_from(element_root.expose())),
                root_check: RootCheck::of(&element_root),
                host_part: seal.seal(provider, 1, &[5; 16], &host).try_into().expect("its length"),
                label: "line".to_owned(),
                member_labels: vec!["pump".to_owned(), "valve".to_owned()],
                endpoints: vec!["192.0.2.1:47100".to_owned(), String::new()],
            };
            let body = install.emit();
            let (id, operation) = (7, Operation::Install as u8);
            let request = Zeroizing::new(Request { id, operation, body: body.expose(), proof: None }.emit());
            let read = Request::parse(&request).expect("a request");
            let read = Install::parse(read.body).expect("an install");
            let opened = seal.open(provider, 1, &read.host_part).expect("it is for this member");
            let kept = KeysSeal::derive(&mut MemoryElement::with_device_key([9; 32]), &sds).expect("a seal");
            let sealed = kept.seal(provider, &[6; 16], &opened.keys);
            drop(kept.open(provider, &sealed).expect("it was just sealed"));
            drop(read);
            let receipt =
                Proof::receipt(sds.digest(), &opened.digest(), body.expose()).by_root(&element_root);
            let envelope = Envelope {
                node: sds.members()[1],
                name: "pump".to_owned(),
                install: body,
                replaces: None,
                erase: vec![sds.root(RootCheck([1; 4]))],
            };
            drop(Envelope::parse(envelope.emit().expose()).expect("an envelope"));
            drop(receipt);
            live(provider, &sds, &request)
        });
        check_wiped(&freed, &all_secrets(&sds, &salts));
    }
}

#[test]
fn what_a_stranger_or_a_full_disk_makes_a_session_give_up_is_wiped_too() {
    for provider in providers() {
        let sds = sds(Kind::Communication, Suite::Aes256Gcm);
        let ((), freed) = record(|| {
            let mut one = Member::new(provider, &sds, 0);
            let mut other = Member::new(provider, &sds, 1);
            for round in 0..8 {
                let frames = one.handle(provider, Input::Send(FrameKind::Data, b"a message"));
                let mut forged = frames[0].clone();
                *forged.last_mut().expect("a tag") ^= 1;
                other.handle(provider, Input::Frame(&forged));
                let mut surroundings =
                    Surroundings { now: other.now, element: &mut other.element, random: &mut other.random };
                other.session.handle(Input::Frame(&frames[0]), &mut surroundings).expect("it is taken");
                while !matches!(other.session.poll(), Output::Idle) {
                    other.session.persist_failed();
                }
                one.now = one.now + std::time::Duration::from_secs(2);
                one.handle(provider, Input::Advance);
                assert_eq!(one.session.epoch(), round + 1);
            }
            assert_ne!(one.session.epoch(), other.session.epoch());
        });
        let last = vec![(8, 0, 0)];
        check_wiped(&freed, &all_secrets(&sds, &last));
    }
}
