//! What only a holder of all secrets of a generation can make: frames that no session makes, and a look into
//! those that one does, with keys that are not the session's.

use std::collections::BTreeMap;

use akm_core::crypto::provider;
use akm_core::element::RootCheck;
use akm_core::frame::{Class, HEADER_LENGTH, Header};
use akm_core::keys::{EpochSecret, epoch_factor};
use akm_core::sds::{GenerationSecrets, ParameterDataVector, SynchronizedDataSet};
use akm_core::secret::Secret;
use akm_core::session::Membership;
use akm_core::tree::Place;

use super::parts::{Generator, MemoryElement};

/// All secrets of a generation, the epochs as far as they were needed.
pub struct Secrets {
    sds: SynchronizedDataSet,
    generation: GenerationSecrets,
    before_first: Place,
    epochs: BTreeMap<u32, EpochSecret>,
}

impl Secrets {
    pub fn new(sds: &SynchronizedDataSet) -> Self {
        let derive = || ParameterDataVector::new(Secret::fill(|pdv| pdv.fill(0x42))).derive(sds);
        Self {
            sds: sds.clone(),
            generation: derive(),
            before_first: Place::before_first(0, derive().host.tree_root),
            epochs: BTreeMap::new(),
        }
    }

    /// The place at an epoch, or before the first.
    pub fn place(&self, epoch: u32) -> Place {
        let read = |place: &Place| Place::parse(place.emit().expose()).expect("what is emitted is read");
        self.before_first.at(epoch).unwrap_or_else(|| read(&self.before_first))
    }

    /// An element that holds the root.
    pub fn element(&self, seed: u64, stuck: bool) -> MemoryElement {
        MemoryElement {
            root: self.sds.root(RootCheck::of(&self.generation.element_root)),
            key: *self.generation.element_root.expose(),
            calls: 0,
            fails: false,
            random: Generator { seed, stuck },
        }
    }

    /// What a member is given for its host.
    pub fn membership(&self, sds: &SynchronizedDataSet, index: usize) -> Membership {
        let GenerationSecrets { element_root, host } = &self.generation;
        let (member, check) = (sds.members()[index], RootCheck::of(element_root));
        Membership::new(sds.clone(), member, check, host.keys.duplicate())
            .expect("it is a member, and the policy is one that is understood")
    }

    pub fn header(&self, sender: u16, epoch: u32, salt: u64, counter: u32) -> Header {
        Header { class: Class::Session, sender, tag: self.generation.host.keys.tag, epoch, salt, counter }
    }

    /// A right header and nothing behind it.
    pub fn forge(&self, header: &Header, length: usize) -> Vec<u8> {
        [&header.emit(&self.generation.host.keys.header_key)[..], &vec![0xaa; length]].concat()
    }

    /// An authentic frame; `None` if there is no such epoch.
    pub fn seal(&mut self, header: &Header, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.sender_key(header)?;
        let head = header.emit(&self.generation.host.keys.header_key);
        let mut buffer = plain.to_vec();
        let aead = provider().aead(self.sds.suite(), key.expose());
        let tag = aead.seal(&header.nonce(), &head, &mut buffer);
        Some([&head[..], &buffer, &tag].concat())
    }

    /// What a member's frame says.
    ///
    /// # Panics
    ///
    /// If it does not open.
    pub fn open(&mut self, header: &Header, frame: &[u8]) -> Vec<u8> {
        let key = self.sender_key(header).expect("an epoch has a key");
        let (head, sealed) = frame.split_at(HEADER_LENGTH);
        let (ciphertext, tag) = sealed.split_last_chunk().expect("a frame has a tag");
        let mut plain = ciphertext.to_vec();
        let aead = provider().aead(self.sds.suite(), key.expose());
        aead.open(&header.nonce(), head, &mut plain, tag).expect("a member's frame opens");
        plain
    }

    fn sender_key(&mut self, header: &Header) -> Option<Secret<32>> {
        let epoch = header.epoch;
        if let Some(secret) = self.epochs.get(&epoch) {
            return Some(secret.sender_key(header.sender, header.salt));
        }
        let leaf = self.before_first.leaf(epoch)?;
        let mut element = self.element(0, false);
        let root = element.root;
        let factor = epoch_factor(&mut element, root, self.sds.generation(), epoch).expect("it answers");
        let secret = EpochSecret::derive(leaf, &factor, self.sds.digest());
        Some(self.epochs.entry(epoch).or_insert(secret).sender_key(header.sender, header.salt))
    }
}
