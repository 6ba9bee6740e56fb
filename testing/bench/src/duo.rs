//! Two members of one relationship, of as many as there are, their elements and disks in memory.

use std::time::Duration;

use akm_core::crypto::{CryptoProvider, Suite};
use akm_core::element::{ElementError, Label, Root, RootCheck, SecureElement};
use akm_core::frame::FrameKind;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::element_function;
use akm_core::policy::Policy;
use akm_core::sds::{Generation, GenerationSecrets, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::secret::Secret;
use akm_core::session::{
    Footprint, Input, Instant, Membership, Options, Output, RandomSource, Session, Standing, Surroundings,
};
use akm_core::tree::Place;
use akm_element::{SystemRandom, random};

use crate::error::BenchError;

/// The element function in memory.
pub(crate) struct MemoryElement(pub(crate) Secret<32>);

impl SecureElement for MemoryElement {
    fn derive(&mut self, _root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        Ok(element_function(self.0.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        SystemRandom.fill(out);
        Ok(())
    }
}

/// A relationship, as a rule of two.
pub struct Duo {
    provider: &'static dyn CryptoProvider,
    sds: SynchronizedDataSet,
    secrets: GenerationSecrets,
}

/// One of the two: a session and what it needs.
pub struct Member {
    session: Session,
    element: MemoryElement,
    now: Instant,
}

impl Duo {
    /// A relationship of two that moves on only when it is asked to, then at once.
    pub fn new(provider: &'static dyn CryptoProvider, suite: Suite) -> Self {
        Self::among(provider, suite, 2)
    }

    /// The same, of this many members.
    pub fn among(provider: &'static dyn CryptoProvider, suite: Suite, members: usize) -> Self {
        let policy =
            Policy { rotate_after: Duration::ZERO, advance_interval: Duration::ZERO, ..Policy::default() };
        let sds = SynchronizedDataSet::new(Generation {
            kind: Kind::Communication,
            relationship: RelationshipId::from_random(random()),
            generation: 1,
            element_version: 1,
            instance: random(),
            suite,
            members: (0..members).map(|_| AkmId::from_random(random())).collect(),
            policy: policy.emit(),
        })
        .expect("two to 4,096 members make a relationship");
        let secrets = ParameterDataVector::new(Secret::take(&mut random())).derive(&sds);
        Self { provider, sds, secrets }
    }

    /// The place before the first epoch.
    pub fn first_place(&self) -> Place {
        Place::before_first(0, self.secrets.host.tree_root.duplicate())
    }

    /// A member that starts from this place.
    pub fn member(&self, index: usize, place: Place) -> Member {
        let options = Options { hello_at_start: false, find_back: false };
        self.start(index, Standing::Active(place), options)
    }

    /// A member that finds back through others and helps them to; without a place it looks for one.
    pub fn member_that_finds_back(&self, index: usize, place: Option<Place>) -> Member {
        let standing = place.map_or(Standing::WithoutPlace { active: true, run: 0 }, Standing::Active);
        self.start(index, standing, Options { hello_at_start: false, find_back: true })
    }

    fn start(&self, index: usize, standing: Standing, options: Options) -> Member {
        let secrets = &self.secrets;
        let mut element = MemoryElement(secrets.element_root.duplicate());
        let (member, check) = (self.sds.members()[index], RootCheck::of(&secrets.element_root));
        let membership = Membership::new(self.sds.clone(), member, check, secrets.host.keys.duplicate())
            .expect("it is in the list");
        let mut surroundings =
            Surroundings { now: Instant::default(), element: &mut element, random: &mut SystemRandom };
        let session = Session::start(self.provider, membership, standing, options, &mut surroundings)
            .expect("an element in memory answers");
        Member { session, element, now: Instant::default() }
    }
}

impl Member {
    /// Hands an input in and carries out what comes of it; records are durable at once. Frames and payloads go
    /// to `out`.
    pub fn handle(&mut self, input: Input<'_>, mut out: impl FnMut(&[u8])) -> Result<(), BenchError> {
        let mut surroundings =
            Surroundings { now: self.now, element: &mut self.element, random: &mut SystemRandom };
        self.session.handle(input, &mut surroundings).map_err(BenchError::product)?;
        loop {
            match self.session.poll() {
                Output::Idle => return Ok(()),
                Output::Transmit(frame) | Output::TransmitTo(_, frame) => out(frame),
                Output::Deliver(delivery) => out(delivery.payload),
                Output::Persist(_) => self.session.persisted(),
                Output::Event(_) => {}
            }
        }
    }

    /// Its clock goes on by so much.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Seals a body.
    pub fn send(&mut self, body: &[u8], out: impl FnMut(&[u8])) -> Result<(), BenchError> {
        self.handle(Input::Send(FrameKind::Data, body), out)
    }

    /// Seals a body into a vector of its own.
    pub fn frame(&mut self, body: &[u8]) -> Result<Vec<u8>, BenchError> {
        let mut sealed = Vec::new();
        self.send(body, |frame| sealed = frame.to_vec())?;
        Ok(sealed)
    }

    /// Hears a frame.
    pub fn hear(&mut self, frame: &[u8], out: impl FnMut(&[u8])) -> Result<(), BenchError> {
        self.handle(Input::Frame(frame), out)
    }

    /// How many frames it delivered.
    pub fn delivered(&self) -> u64 {
        self.session.delivered()
    }

    /// How many frames it made.
    pub fn transmitted(&self) -> u64 {
        self.session.transmitted()
    }

    /// What it holds.
    pub fn footprint(&self) -> Footprint {
        self.session.footprint()
    }

    /// Its epoch.
    pub fn epoch(&self) -> u32 {
        self.session.epoch()
    }
}
