//! The epochs that a member can use: the one that it is in, those that are closed and still open for receiving, and
//! those that somebody claims to be in.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use zeroize::Zeroizing;

use super::buffer::Buffer;
use super::{Instant, RandomSource, Rejection};
use crate::crypto::hash::sha256;
use crate::crypto::{AeadKey, CryptoProvider, Suite, TAG_LENGTH};
use crate::frame::{Class, FrameKind, HEADER_LENGTH, Header, OVERHEAD};
use crate::keys::EpochSecret;
use crate::replay::{ReplayWindow, Replayed};
use crate::sds::{HeaderKey, Tag};
use crate::secret::Secret;

/// Closed epochs that stay open for receiving.
const CLOSED_MAX: usize = 4;

/// Epochs whose keys are kept until a frame of them authenticates, beside those that are pinned.
const UNPROVEN_MAX: usize = 4;

/// The epochs that a member most likely hears next: the one after its place, and the one in which a member begins that has
/// jumped. Nobody keeps them out by naming others.
pub(super) type Pinned = [Option<u32>; 2];

/// Salts of one sender that are accepted in an epoch.
const SALTS_OF_ONE: usize = 4;

/// Beyond one salt for each member, so many further ones are accepted in an epoch, and as many more as there are members.
const FURTHER_SALTS: usize = 64;

/// Most frames under one key, whatever the policy says.
const FRAMES_PER_KEY: u32 = 1 << 28;

/// Most bytes under one key.
const BYTES_PER_KEY: u64 = 1 << 38;

/// All epochs of a member, and what its keys are made with.
pub(super) struct Epochs {
    pub(super) current: Option<Current>,
    closed: VecDeque<OpenEpoch>,
    over: Over,
    unproven: VecDeque<Unproven>,
    /// Of the pinned ones those for which the element failed.
    failed: Vec<u32>,
    /// The latest epoch in which each member was heard.
    heard: BTreeMap<u16, u32>,
    /// Randomness of the element, mixed into all that is drawn in this start.
    seed: Secret<32>,
    /// Whether this start has made its first frame, in an epoch of its own.
    pub(super) own: bool,
}

/// The epoch that this member is in.
pub(super) struct Current {
    pub(super) epoch: OpenEpoch,
    /// This member as a sender in it, since its first frame there.
    pub(super) sending: Option<Sending>,
}

/// An epoch whose frames are accepted.
pub(super) struct OpenEpoch {
    pub(super) number: u32,
    pub(super) secret: EpochSecret,
    /// Members that were heard in it, each once for each salt that it was heard under.
    pub(super) senders: BTreeMap<(u16, u64), Sender>,
    /// How many of these are not the first of their member.
    further: usize,
    /// Members that came with more salts than are accepted.
    crowded: BTreeSet<u16>,
    /// When a closed epoch stops receiving; `None` for the current one.
    closes: Option<Instant>,
}

/// A member that was heard in an epoch under one salt.
pub(super) struct Sender {
    /// `None` while it is lent.
    pub(super) ear: Option<Ear>,
}

/// What comes of an authentic frame under a salt that its sender was not heard under.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Salt {
    /// The only one of its sender.
    First,
    /// One more: two devices run on one member's state, it was set back, or somebody lies about its name.
    Further,
    /// There is no room for it, and whether that is so for the first time for this sender.
    Refused { first: bool },
}

/// What opens the frames of one member under one salt, each once.
pub(super) struct Ear {
    key: Box<dyn AeadKey>,
    window: ReplayWindow,
}

/// This member as a sender in one epoch: with the salt, key and nonce of each of its frames.
pub(super) struct Sending {
    pub(super) salt: u64,
    key: Box<dyn AeadKey>,
    pub(super) counter: u32,
    pub(super) bytes: u64,
}

/// What is the same in every header of this member in a run.
pub(super) struct Signature<'s> {
    pub(super) key: &'s HeaderKey,
    pub(super) tag: Tag,
    pub(super) sender: u16,
}

/// An epoch that somebody claims to be in, until a frame of it authenticates.
pub(super) struct Unproven {
    pub(super) number: u32,
    pub(super) secret: EpochSecret,
    /// What it cost to ask the element on a stranger's word.
    pub(super) cost: Option<Duration>,
}

impl Epochs {
    /// Of a member that starts, with randomness of its element.
    pub(super) fn new(seed: Secret<32>) -> Self {
        Self {
            current: None,
            closed: VecDeque::new(),
            over: Over::default(),
            unproven: VecDeque::new(),
            failed: Vec::new(),
            heard: BTreeMap::new(),
            seed,
            own: false,
        }
    }

    /// As after a start: nothing is open, and the first frame is made in an epoch of its own.
    pub(super) fn start_over(&mut self) {
        self.current = None;
        self.closed.clear();
        self.over.clear();
        self.unproven.clear();
        self.failed.clear();
        self.heard.clear();
        self.own = false;
    }

    /// Goes over to an epoch. The one before stays open for receiving for the overlap.
    pub(super) fn enter(&mut self, epoch: OpenEpoch, overlap: Duration, now: Instant) {
        self.unproven.retain(|unproven| unproven.number > epoch.number);
        self.failed.clear();
        if let Some(left) = self.current.replace(Current { epoch, sending: None }) {
            if self.closed.len() == CLOSED_MAX
                && let Some(oldest) = self.closed.pop_front()
            {
                self.over.take(oldest, now);
            }
            self.closed.push_back(OpenEpoch { closes: Some(now + overlap), ..left.epoch });
        }
    }

    /// Forgets closed epochs whose overlap is over.
    pub(super) fn close_expired(&mut self, now: Instant) {
        // They close in the order in which they began.
        let expired = |epoch: &OpenEpoch| epoch.closes.is_some_and(|closes| closes <= now);
        while self.closed.front().is_some_and(expired) {
            if let Some(epoch) = self.closed.pop_front() {
                self.over.take(epoch, now);
            }
        }
    }

    /// Some time has passed in which nothing else was to be done: wipes keys of epochs that are over.
    pub(super) fn wipe_some(&mut self, now: Instant) {
        self.over.go_on(now);
    }

    /// When an epoch closes, or keys are to be wiped.
    pub(super) fn expiry(&self) -> Option<Instant> {
        let closing = self.closed.iter().filter_map(|epoch| epoch.closes).min();
        [closing, self.over.due()].into_iter().flatten().min()
    }

    /// An epoch whose frames are accepted.
    pub(super) fn open_mut(&mut self, number: u32) -> Option<&mut OpenEpoch> {
        match &mut self.current {
            Some(current) if current.epoch.number == number => Some(&mut current.epoch),
            _ => self.closed.iter_mut().find(|closed| closed.number == number),
        }
    }

    /// This epoch, or the current one, if its frames are accepted at this time.
    pub(super) fn open_at(&self, number: Option<u32>, now: Instant) -> Option<&OpenEpoch> {
        let current = self.current.as_ref().map(|current| current.epoch.number);
        let number = number.or(current)?;
        self.open().find(|epoch| epoch.number == number && epoch.closes.is_none_or(|closes| now < closes))
    }

    pub(super) fn is_current(&self, number: u32) -> bool {
        self.current.as_ref().is_some_and(|current| current.epoch.number == number)
    }

    /// All epochs whose frames are accepted.
    pub(super) fn open(&self) -> impl Iterator<Item = &OpenEpoch> {
        self.current.iter().map(|current| &current.epoch).chain(&self.closed)
    }

    #[cfg(test)]
    pub(super) fn closed(&self) -> usize {
        self.closed.len()
    }

    /// Members heard in an epoch that is over, whose keys are not wiped yet.
    pub(super) fn over(&self) -> usize {
        self.over.len()
    }

    /// Keeps the secret of an epoch until a frame of it authenticates, or, unless it is pinned, four others came after it.
    pub(super) fn cache(&mut self, unproven: Unproven, pinned: Pinned) {
        let at = self.make_room(unproven.number, pinned);
        self.put_back(at, unproven);
    }

    /// Sees to it that one more can be cached, and says at which place.
    pub(super) fn make_room(&mut self, number: u32, pinned: Pinned) -> usize {
        let is_pinned = |number: u32| pinned.contains(&Some(number));
        let most = if is_pinned(number) { UNPROVEN_MAX } else { UNPROVEN_MAX - 1 };
        while self.unproven.iter().filter(|unproven| !is_pinned(unproven.number)).count() > most {
            let oldest = self.unproven.iter().position(|unproven| !is_pinned(unproven.number));
            oldest.and_then(|oldest| self.unproven.remove(oldest));
        }
        self.unproven.len()
    }

    /// An epoch has authenticated: what it cost to ask for those up to it, which there were.
    pub(super) fn take_costs_until(&mut self, number: u32) -> Duration {
        let passed = self.unproven.iter_mut().filter(|unproven| unproven.number <= number);
        passed.filter_map(|unproven| unproven.cost.take()).sum()
    }

    /// Whether the element may be asked for an epoch whoever names it: it is pinned, and the element did not fail.
    pub(super) fn is_exempt(&self, number: u32, pinned: Pinned) -> bool {
        pinned.contains(&Some(number)) && !self.failed.contains(&number)
    }

    /// The element failed for a pinned epoch.
    pub(super) fn fail(&mut self, number: u32) {
        if !self.failed.contains(&number) {
            self.failed.push(number);
        }
    }

    /// Caches at a place that [`Epochs::make_room`] or [`Epochs::take_unproven`] gave just before.
    pub(super) fn put_back(&mut self, at: usize, unproven: Unproven) {
        self.unproven.insert(at, unproven);
    }

    /// Takes what is cached of an epoch, and its place there.
    pub(super) fn take_unproven(&mut self, number: u32) -> Option<(usize, Unproven)> {
        let at = self.unproven.iter().position(|unproven| unproven.number == number)?;
        Some((at, self.unproven.remove(at)?))
    }

    /// How many epochs are cached.
    pub(super) fn cached(&self) -> usize {
        self.unproven.len()
    }

    /// Notes an authentic frame, which is above all under its salt or is not. Returns whether no later one of its sender
    /// was heard before.
    pub(super) fn hear(&mut self, sender: u16, epoch: u32, is_above: bool) -> bool {
        let latest = self.heard.entry(sender).or_insert(epoch);
        let newest = epoch > *latest || (epoch == *latest && is_above);
        *latest = epoch.max(*latest);
        newest
    }

    /// Members of whom the latest epoch is remembered.
    pub(super) fn heard(&self) -> usize {
        self.heard.len()
    }

    /// 32 bytes for this purpose, of which none can be predicted although the system's generator or the element's is
    /// weak.
    pub(super) fn draw(&self, purpose: &[u8], random: &mut dyn RandomSource) -> [u8; 32] {
        let mut system = Zeroizing::new([0; 32]);
        random.fill(&mut system[..]);
        sha256(&[purpose, self.seed.expose(), &system[..]])
    }

    /// A number from 0 to 65,535 that another member does not have for the same epoch, and this one has once for each
    /// purpose: for what members are to do one after the other.
    pub(super) fn share(&self, purpose: &[u8], epoch: u32) -> u16 {
        let [high, low, ..] = sha256(&[purpose, self.seed.expose(), &epoch.to_be_bytes()]);
        u16::from_be_bytes([high, low])
    }

    /// A salt.
    pub(super) fn draw_salt(&self, random: &mut dyn RandomSource) -> u64 {
        u64::from_be_bytes(*self.draw(b"", random).first_chunk().expect("8 of 32 bytes"))
    }
}

impl Current {
    /// Whether the limit of the cipher allows no further frame with so long a body.
    pub(super) fn is_used_up(&self, next: usize) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.is_used_up(next))
    }
}

impl OpenEpoch {
    pub(super) fn new(number: u32, secret: EpochSecret) -> Self {
        let (senders, crowded) = (BTreeMap::new(), BTreeSet::new());
        Self { number, secret, senders, further: 0, crowded, closes: None }
    }

    /// A frame under a salt that its sender was not heard under has just authenticated. Of so many members.
    pub(super) fn hear(&mut self, header: &Header, key: Box<dyn AeadKey>, members: usize) -> Salt {
        let of_sender = (header.sender, 0)..=(header.sender, u64::MAX);
        let salts = self.senders.range(of_sender).count();
        let has_room = salts < SALTS_OF_ONE && self.further < members + FURTHER_SALTS;
        if salts > 0 && !has_room {
            return Salt::Refused { first: self.crowded.insert(header.sender) };
        }
        let mut window = ReplayWindow::default();
        window.update(header.counter);
        self.senders.insert((header.sender, header.salt), Sender { ear: Some(Ear { key, window }) });
        if salts == 0 {
            return Salt::First;
        }
        self.further += 1;
        Salt::Further
    }
}

impl Ear {
    /// Opens another frame of it into `buffer`, which then holds kind and body. Returns whether it is above all before it.
    #[inline]
    pub(super) fn open(
        &mut self,
        header: &Header,
        frame: &[u8],
        buffer: &mut Buffer,
    ) -> Result<bool, Rejection> {
        match self.window.check(header.counter) {
            Err(Replayed::Duplicate) => Err(Rejection::Duplicate),
            Err(Replayed::TooOld) => Err(Rejection::CounterTooOld),
            Ok(()) => {
                open(&*self.key, header, frame, buffer)?;
                Ok(self.window.update(header.counter))
            }
        }
    }
}

/// Opens a frame into `buffer`, which then holds kind and body.
pub(super) fn open(
    key: &dyn AeadKey,
    header: &Header,
    frame: &[u8],
    buffer: &mut Buffer,
) -> Result<(), Rejection> {
    let (associated, sealed) = frame.split_at(HEADER_LENGTH);
    let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG_LENGTH);
    buffer.clear();
    buffer.extend_from_slice(ciphertext);
    let tag = tag.try_into().expect("16 bytes");
    key.open(&header.nonce(), associated, buffer, tag).map_err(|_| Rejection::NotAuthentic)
}

impl Sending {
    /// Makes the key of this member for a salt that was just drawn.
    pub(super) fn new(
        epoch: &OpenEpoch,
        sender: u16,
        salt: u64,
        provider: &dyn CryptoProvider,
        suite: Suite,
    ) -> Self {
        let key = epoch.secret.sender_key(sender, salt);
        Self { salt, key: provider.aead(suite, key.expose()), counter: 0, bytes: 0 }
    }

    /// Whether the limit of the cipher allows no further frame with so long a body.
    pub(super) fn is_used_up(&self, next: usize) -> bool {
        self.counter >= FRAMES_PER_KEY || self.bytes + (next + OVERHEAD) as u64 > BYTES_PER_KEY
    }

    #[inline]
    /// Seals the next frame behind those that are there. Each call uses another nonce.
    pub(super) fn seal(
        &mut self,
        signature: &Signature<'_>,
        epoch: u32,
        kind: FrameKind,
        body: &[u8],
        frames: &mut Vec<u8>,
    ) {
        let &Signature { key, tag, sender } = signature;
        let (salt, counter) = (self.salt, self.counter);
        let header = Header { class: Class::Session, sender, tag, epoch, salt, counter };
        let mut head = [0; HEADER_LENGTH + 1];
        header.write(key, head.first_chunk_mut().expect("a header fits"));
        head[HEADER_LENGTH] = kind as u8;
        let start = frames.len();
        frames.reserve(OVERHEAD + body.len());
        frames.extend_from_slice(&head);
        frames.extend_from_slice(body);
        frames.extend_from_slice(&[0; TAG_LENGTH]);
        let frame = &mut frames[start..];
        let (associated, sealed) = frame.split_at_mut(HEADER_LENGTH);
        let (plaintext, tag) = sealed.split_at_mut(1 + body.len());
        tag.copy_from_slice(&self.key.seal(&header.nonce(), associated, plaintext));
        self.counter += 1;
        self.bytes += frame.len() as u64;
    }
}

/// What is left of an epoch that is over: of each member that was heard in it a key, to be wiped.
///
/// Wiping takes time for each of them, and there may be thousands. So the input that ends an epoch wipes them only where
/// they are few; otherwise the inputs do that [`Session::timeout`](super::Session::timeout) then asks for.
#[derive(Default)]
pub(super) struct Over {
    senders: BTreeMap<(u16, u64), Sender>,
    /// When the next of them are wiped.
    due: Option<Instant>,
}

/// So many are few.
const FEW: usize = 4;

/// So many are wiped by an input that is there for it.
const WIPED_AT_ONCE: usize = 128;

impl Over {
    /// An epoch is over: its secret is wiped here and now. So is what is left of the one before.
    pub(super) fn take(&mut self, epoch: OpenEpoch, now: Instant) {
        self.senders = epoch.senders;
        self.due = Some(now);
        if self.senders.len() <= FEW {
            self.clear();
        }
    }

    /// Some time has passed in which nothing else was to be done.
    pub(super) fn go_on(&mut self, now: Instant) {
        for _ in 0..WIPED_AT_ONCE {
            self.senders.pop_first();
        }
        self.due = (!self.senders.is_empty()).then_some(now);
    }

    /// Wipes all at once.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn len(&self) -> usize {
        self.senders.len()
    }
}
