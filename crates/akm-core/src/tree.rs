//! The epoch tree (protocol, section 4): one leaf for each epoch of a generation.
//!
//! From the root every leaf follows; from a [`Place`] only those of later epochs. Moving on erases
//! what was passed, so that a place that leaks opens no earlier epoch.

use alloc::vec::Vec;

use crate::crypto::hash::hmac_sha256;
use crate::sds::TreeRoot;
use crate::secret::{Secret, SecretBytes};

/// Says that no epoch has begun; never the number of an epoch.
pub const NO_EPOCH: u32 = u32::MAX;

/// The last epoch of a generation.
pub const LAST_EPOCH: u32 = u32::MAX - 1;

const DEPTH: u8 = 32;
/// Length of a key in an encoded place.
pub(crate) const KEY_LENGTH: usize = 32;

/// What stands before the keys: run and epoch.
pub(crate) const POSITION_LENGTH: usize = 4 + 4;

/// Orders epochs, with [`NO_EPOCH`] below all others.
pub(crate) fn rank(epoch: u32) -> u32 {
    epoch.wrapping_add(1)
}

/// Why bytes are not an encoded place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the epoch tree")]
pub struct InvalidPlace;

/// Where a node stands in a generation: `(run, epoch, cover)`.
///
/// The cover is the smallest set of tree nodes from which all later leaves follow and no earlier.
#[derive(Debug)]
pub struct Place {
    run: u32,
    epoch: u32,
    cover: Vec<TreeNode>,
}

#[derive(Debug)]
struct TreeNode {
    depth: u8,
    index: u32,
    key: Secret<32>,
}

impl TreeNode {
    fn covers(&self, epoch: u32) -> bool {
        prefix(epoch, self.depth) == self.index
    }

    fn child(&self, bit: u8) -> Self {
        Self {
            depth: self.depth + 1,
            index: (self.index << 1) | u32::from(bit),
            key: hmac_sha256(self.key.expose(), &[b"akm1 tree", &[bit]]),
        }
    }

    fn duplicate(&self) -> Self {
        Self { depth: self.depth, index: self.index, key: self.key.duplicate() }
    }
}

/// The `depth` highest bits of an epoch: the index of the tree node above it at that depth.
fn prefix(epoch: u32, depth: u8) -> u32 {
    if depth == 0 { 0 } else { epoch >> (DEPTH - depth) }
}

/// Depth and index of each tree node in the cover after `epoch`, ascending by first leaf.
fn cover_shape(epoch: u32) -> impl Iterator<Item = (u8, u32)> {
    let root = (epoch == NO_EPOCH).then_some((0, 0));
    let siblings = (1..=DEPTH).rev().filter_map(move |depth| {
        let index = prefix(epoch, depth);
        (index & 1 == 0).then_some((depth, index | 1))
    });
    root.into_iter().chain(siblings)
}

impl Place {
    /// The place before the first epoch of a run.
    pub fn before_first(run: u32, root: TreeRoot) -> Self {
        Self { run, epoch: NO_EPOCH, cover: Vec::from([TreeNode { depth: 0, index: 0, key: root }]) }
    }

    /// Counts failsafes, from 0.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The latest epoch, or [`NO_EPOCH`].
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The first epoch that a member at this place may still begin; `None` when all are used up.
    pub fn next_epoch(&self) -> Option<u32> {
        match self.epoch {
            NO_EPOCH => Some(0),
            LAST_EPOCH => None,
            epoch => Some(epoch + 1),
        }
    }

    /// Whether `epoch` lies ahead of this place.
    pub fn is_ahead(&self, epoch: u32) -> bool {
        epoch <= LAST_EPOCH && (self.epoch == NO_EPOCH || epoch > self.epoch)
    }

    /// A later epoch, as it is seen from here; `None` if the epoch does not lie ahead.
    pub fn ahead(&self, epoch: u32) -> Option<Ahead<'_>> {
        if !self.is_ahead(epoch) {
            return None;
        }
        let above = self.cover.iter().find(|node| node.covers(epoch))?;
        Some(Ahead { place: self, above, epoch })
    }

    /// The first epoch that a member at this place may still begin, as it is seen from here.
    pub fn next(&self) -> Option<Ahead<'_>> {
        self.ahead(self.next_epoch()?)
    }

    /// The leaf of a later epoch; `None` if the epoch does not lie ahead. At most 32 hashes.
    pub fn leaf(&self, epoch: u32) -> Option<Secret<32>> {
        self.ahead(epoch).map(|ahead| ahead.leaf())
    }

    /// The place at a later epoch; `None` if the epoch does not lie ahead. At most 64 hashes.
    ///
    /// This place stays as it is: drop it, which wipes what was passed, when the other is durable.
    pub fn at(&self, epoch: u32) -> Option<Self> {
        self.ahead(epoch).map(|ahead| ahead.place())
    }

    /// A second copy, for a member that has none.
    pub fn duplicate(&self) -> Self {
        Self { run: self.run, epoch: self.epoch, cover: self.cover.iter().map(TreeNode::duplicate).collect() }
    }

    /// The place as it is stored: `u32 run || u32 epoch || n x key`. How many keys there are, and where in the tree they
    /// stand, follows from the epoch.
    pub fn emit(&self) -> SecretBytes {
        let mut bytes = SecretBytes::with_capacity(POSITION_LENGTH + self.cover.len() * KEY_LENGTH);
        bytes.append(&self.run.to_be_bytes());
        bytes.append(&self.epoch.to_be_bytes());
        for node in &self.cover {
            bytes.append(node.key.expose());
        }
        bytes
    }

    /// How many keys it has.
    pub fn keys(&self) -> usize {
        self.cover.len()
    }

    /// Reads a place. It has exactly as many keys as belong to its epoch.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPlace> {
        let (position, keys) = bytes.split_at_checked(POSITION_LENGTH).ok_or(InvalidPlace)?;
        let (run, epoch) = position.split_at(4);
        let run = u32::from_be_bytes(run.try_into().expect("4 bytes"));
        let epoch = u32::from_be_bytes(epoch.try_into().expect("4 bytes"));
        if keys.len() != cover_shape(epoch).count() * KEY_LENGTH {
            return Err(InvalidPlace);
        }
        let cover = keys.chunks_exact(KEY_LENGTH).zip(cover_shape(epoch));
        let cover = cover.map(|(key, (depth, index))| {
            let key = Secret::copy_from(key).ok_or(InvalidPlace)?;
            Ok(TreeNode { depth, index, key })
        });
        Ok(Self { run, epoch, cover: cover.collect::<Result<_, _>>()? })
    }
}

/// An epoch that lies ahead of a place: leaf and place of it can be made.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<'p> {
    place: &'p Place,
    /// The tree node of the cover from which its leaf follows.
    above: &'p TreeNode,
    epoch: u32,
}

impl Ahead<'_> {
    /// The number of the epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Its leaf. At most 32 hashes.
    pub fn leaf(&self) -> Secret<32> {
        let mut node = self.above.duplicate();
        while node.depth < DEPTH {
            node = node.child((prefix(self.epoch, node.depth + 1) & 1) as u8);
        }
        node.key
    }

    /// The place at it. At most 64 hashes.
    pub fn place(&self) -> Place {
        let first_leaf = |node: &TreeNode| u64::from(node.index) << (DEPTH - node.depth);
        let mut siblings = Vec::new();
        let mut node = self.above.duplicate();
        while node.depth < DEPTH {
            let bit = (prefix(self.epoch, node.depth + 1) & 1) as u8;
            if bit == 0 {
                siblings.push(node.child(1));
            }
            node = node.child(bit);
        }
        let start = first_leaf(self.above);
        let beyond = self.place.cover.iter().filter(|other| first_leaf(other) > start);
        let cover = siblings.into_iter().rev().chain(beyond.map(TreeNode::duplicate)).collect();
        Place { run: self.place.run, epoch: self.epoch, cover }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Place {
        Place::before_first(0, Secret::take(&mut [9; 32]))
    }

    #[test]
    fn what_was_passed_cannot_be_made_again() {
        let place = start().at(1000).unwrap();
        for epoch in [0, 1, 999, 1000] {
            assert!(place.leaf(epoch).is_none());
            assert!(place.at(epoch).is_none());
        }
        assert!(place.leaf(1001).is_some());
    }

    #[test]
    fn the_last_epoch_has_no_next_and_the_reserved_number_is_no_epoch() {
        let place = start().at(LAST_EPOCH).unwrap();
        assert_eq!(place.next_epoch(), None);
        assert!(place.leaf(NO_EPOCH).is_none());
        assert!(start().leaf(NO_EPOCH).is_none());
        assert_eq!(start().next_epoch(), Some(0));
    }

    #[test]
    fn a_place_with_more_or_fewer_keys_than_its_epoch_has_is_refused() {
        let place = start().at(5).unwrap();
        assert_eq!(place.keys(), 30, "one for each zero bit");
        let place = place.emit();
        let mut other_epoch = place.expose().to_vec();
        other_epoch[7] = 7;
        assert_eq!(Place::parse(&other_epoch).unwrap_err(), InvalidPlace);
        let mut longer = place.expose().to_vec();
        longer.push(0);
        assert_eq!(Place::parse(&longer).unwrap_err(), InvalidPlace);
        assert!((0..place.len()).all(|length| Place::parse(&place.expose()[..length]).is_err()));
        assert_eq!(start().keys(), 1, "the root alone");
        assert_eq!(start().at(LAST_EPOCH).unwrap().keys(), 1, "the leaf that belongs to no epoch");
    }

    proptest! {
        #[test]
        fn every_path_to_an_epoch_gives_the_same_leaf_and_place(mut stops in proptest::collection::vec(0..=LAST_EPOCH, 1..6)) {
            stops.sort_unstable();
            stops.dedup();
            let last = *stops.last().unwrap();
            let direct = start();
            let mut place = start();
            for &stop in &stops[..stops.len() - 1] {
                place = Place::parse(place.at(stop).unwrap().emit().expose()).unwrap();
            }
            prop_assert!(place.leaf(last).unwrap().equals(direct.leaf(last).unwrap().expose()));
            prop_assert!(place.at(last).unwrap().emit().equals(direct.at(last).unwrap().emit().expose()));
        }

        #[test]
        fn bytes_of_the_right_length_read_back_the_same_and_of_any_other_do_not(
            run: u32,
            epoch: u32,
            key: [u8; 32],
            other in 0..1100usize,
        ) {
            let mut bytes = [run.to_be_bytes(), epoch.to_be_bytes()].concat();
            for _ in cover_shape(epoch) {
                bytes.extend_from_slice(&key);
            }
            let place = Place::parse(&bytes).unwrap();
            prop_assert_eq!((place.run(), place.epoch()), (run, epoch));
            prop_assert!(place.emit().equals(&bytes));
            let length = bytes.len();
            bytes.resize(other, 0);
            prop_assert_eq!(Place::parse(&bytes).is_ok(), other == length);
        }
    }
}
