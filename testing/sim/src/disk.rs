//! A disk in memory, and images of it.

use std::collections::{BTreeMap, BTreeSet};

/// What a node's disk holds of its relationships, by their number: sealed places, and which of them
/// are active. A copy of it is an image.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    installed: BTreeSet<usize>,
    places: BTreeMap<usize, Vec<u8>>,
    active: BTreeSet<usize>,
    full: bool,
}

/// No room: nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFull;

impl Disk {
    /// Records that a generation is installed, and its first sealed place.
    pub fn install(&mut self, issue: usize, sealed: Vec<u8>) -> Result<(), DiskFull> {
        self.room()?;
        self.installed.insert(issue);
        self.places.insert(issue, sealed);
        Ok(())
    }

    /// What is installed.
    pub fn installed(&self) -> impl Iterator<Item = usize> {
        self.installed.iter().copied()
    }

    /// Erases all of a generation.
    pub fn erase(&mut self, issue: usize) -> Result<(), DiskFull> {
        self.room()?;
        self.installed.remove(&issue);
        self.active.remove(&issue);
        self.places.remove(&issue);
        Ok(())
    }

    /// A place is gone, whoever did that.
    pub fn lose_place(&mut self, issue: usize) {
        self.places.remove(&issue);
    }

    /// The sealed place of a relationship.
    pub fn place(&self, relationship: usize) -> Option<&[u8]> {
        self.places.get(&relationship).map(Vec::as_slice)
    }

    /// Puts a sealed place in the stead of the one before: all of it or nothing.
    pub fn write_place(&mut self, relationship: usize, sealed: Vec<u8>) -> Result<(), DiskFull> {
        self.room()?;
        self.places.insert(relationship, sealed);
        Ok(())
    }

    /// Whether a relationship is active.
    pub fn is_active(&self, relationship: usize) -> bool {
        self.active.contains(&relationship)
    }

    /// Records that a relationship is active.
    pub fn write_active(&mut self, relationship: usize) -> Result<(), DiskFull> {
        self.room()?;
        self.active.insert(relationship);
        Ok(())
    }

    /// From here on there is no room, or room again.
    pub fn fill_up(&mut self, full: bool) {
        self.full = full;
    }

    /// Puts the content of an image in the stead of everything; whether there is room stays.
    pub fn restore(&mut self, image: &Self) {
        *self = Self { full: self.full, ..image.clone() };
    }

    fn room(&self) -> Result<(), DiskFull> {
        if self.full { Err(DiskFull) } else { Ok(()) }
    }
}
