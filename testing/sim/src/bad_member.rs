//! A member that does what it likes: it has all keys of an issue, and the real engine asks it nothing.

use akm_core::crypto::{self, TAG_LENGTH};
use akm_core::element::{ElementError, Label, Root, SecureElement};
use akm_core::frame::{Class, FrameKind, HEADER_LENGTH, Header, OVERHEAD};
use akm_core::keys::{
    EpochSecret, ResyncPair, ResyncRequestRoot, element_function, epoch_factor, resync_response_key,
    resync_tag,
};
use akm_core::resync::{NONCE, Outside, Response, ResyncRequest};
use akm_core::sds::{ElementRoot, HostPart};
use akm_core::secret::Secret;
use akm_core::session::RandomSource;
use akm_core::tree::{NO_EPOCH, Place};

use crate::issue::Issue;
use crate::random::Random;

/// Somebody who was made a member, knows what its element knows, and sends in whatever name it likes.
#[derive(Debug)]
pub struct BadMember {
    random: Random,
}

/// What it puts into the header of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The index in whose name it is sent.
    pub sender: u16,
    /// The epoch.
    pub epoch: u32,
    /// The salt.
    pub salt: u64,
    /// The counter.
    pub counter: u32,
}

/// What it says of where a member stands.
#[derive(Clone, Copy, Debug)]
pub struct Stance {
    /// The run.
    pub run: u32,
    /// The epoch, or [`NO_EPOCH`] for a member without place.
    pub epoch: u32,
}

impl BadMember {
    /// One that has done nothing yet.
    pub fn new(random: Random) -> Self {
        Self { random }
    }

    /// A frame of run 0 in whatever name, rightly sealed; `None` where there is no such epoch.
    pub fn frame(&self, issue: &Issue, claim: Claim, kind: FrameKind, body: &[u8]) -> Option<Vec<u8>> {
        let Claim { sender, epoch, salt, counter } = claim;
        let (sds, part) = (&issue.sds, issue.host_part());
        let mut keys = Keys(issue.element_root());
        let leaf = Place::before_first(0, part.tree_root).leaf(epoch)?;
        let factor = epoch_factor(&mut keys, issue.root(), sds.generation(), epoch).ok()?;
        let key = EpochSecret::derive(leaf, &factor, sds.digest()).sender_key(sender, salt);
        let header = Header { class: Class::Session, sender, tag: issue.tag, epoch, salt, counter };
        let mut frame = Vec::with_capacity(OVERHEAD + body.len());
        frame.extend_from_slice(&header.emit(&part.keys.header_key));
        frame.push(kind as u8);
        frame.extend_from_slice(body);
        frame.extend_from_slice(&[0; TAG_LENGTH]);
        let (associated, sealed) = frame.split_at_mut(HEADER_LENGTH);
        let (plaintext, tag) = sealed.split_at_mut(1 + body.len());
        let key = crypto::provider().aead(sds.suite(), key.expose());
        tag.copy_from_slice(&key.seal(&header.nonce(), associated, plaintext));
        Some(frame)
    }

    /// A request to find back, in whatever name, of a member that stands wherever it likes.
    pub fn request(&mut self, issue: &Issue, sender: u16, asked: u16, stance: Stance) -> Option<Vec<u8>> {
        let sds = &issue.sds;
        let mut keys = Keys(issue.element_root());
        let mut nonce = [0; NONCE];
        self.random.fill(&mut nonce);
        let of_host = issue.host_part().keys;
        let root =
            ResyncRequestRoot::derive(&mut keys, issue.root(), sds.digest(), &of_host.resync_key).ok()?;
        let key = crypto::provider().aead(sds.suite(), root.request_key(sender, &nonce).expose());
        let Stance { run, epoch } = stance;
        let request = ResyncRequest { asked, has_place: epoch != NO_EPOCH, run, epoch, challenge: None };
        let outside = (resync_tag(sds.digest()), sender, self.random.next());
        Some(request.seal(&*key, &of_host.header_key, outside, &nonce))
    }

    /// An answer to a request that was heard, which gives its sender a place wherever it likes; `None` if what was heard
    /// is no request.
    pub fn answer(&mut self, issue: &Issue, heard: &[u8], responder: u16, stance: Stance) -> Option<Vec<u8>> {
        let header = Header::parse(heard).ok()?;
        let Ok(Outside::Request(request)) = Outside::parse(&header, heard) else { return None };
        let (sds, HostPart { tree_root, keys: of_host }) = (&issue.sds, issue.host_part());
        let mut keys = Keys(issue.element_root());
        let requests =
            ResyncRequestRoot::derive(&mut keys, issue.root(), sds.digest(), &of_host.resync_key).ok()?;
        let key = requests.request_key(header.sender, &request.nonce());
        let key = crypto::provider().aead(sds.suite(), key.expose());
        let (_, request_body) = request.open(&*key).ok()?;
        let mut response_nonce = [0; NONCE];
        self.random.fill(&mut response_nonce);
        let pair = ResyncPair {
            requester: header.sender,
            responder,
            request_nonce: request.nonce(),
            response_nonce,
            request_body,
        };
        let key =
            resync_response_key(&mut keys, issue.root(), sds.digest(), &of_host.resync_key, &pair).ok()?;
        let key = crypto::provider().aead(sds.suite(), key.expose());
        let Stance { run, epoch } = stance;
        let response = match Place::before_first(run, tree_root).at(epoch) {
            Some(place) => Response::Place(place),
            None => Response::Position { run, epoch },
        };
        let outside = (resync_tag(sds.digest()), responder, self.random.next());
        Some(response.seal(&*key, &of_host.header_key, outside, &pair.request_nonce, &response_nonce))
    }
}

/// What its element answers, without the element.
struct Keys(ElementRoot);

impl SecureElement for Keys {
    fn derive(&mut self, _: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        Ok(element_function(self.0.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        out.fill(0);
        Ok(())
    }
}
