//! Whether a generation that the module sends is taken in, beside those that are held.

use crate::sds::SynchronizedDataSet;

/// Why a generation is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The same or a lower generation with another content is held, or was replaced by what is held.
    #[error("generation {held} is held, and this one is not above it")]
    NotAbove {
        /// The highest that is held.
        held: u32,
    },
    /// Its element version is below one that is held: who was shut out would be let in again.
    #[error("element version {held} is held, and that of this generation is below it")]
    LowerElementVersion {
        /// The highest that is held.
        held: u32,
    },
    /// It belongs to another relationship.
    #[error("it is a generation of another relationship")]
    OtherRelationship,
}

/// What installing a generation comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is held: nothing is to be done, whatever its phase.
    Held,
    /// It is above all that is held: install its root and records, then call [`Lineage::install`](super::Lineage::install).
    Above,
}

/// Judges a generation that the module sends, against all that are held of its relationship. Ask before anything of it
/// is written.
pub(super) fn examine<'a>(
    held: impl IntoIterator<Item = &'a SynchronizedDataSet>,
    offered: &SynchronizedDataSet,
) -> Result<Arrival, NotTaken> {
    let (mut generation, mut version) = (0, 0);
    for held in held {
        if held.relationship() != offered.relationship() {
            return Err(NotTaken::OtherRelationship);
        }
        if held.digest() == offered.digest() {
            return Ok(Arrival::Held);
        }
        generation = generation.max(held.generation());
        version = version.max(held.element_version());
    }
    if offered.generation() <= generation {
        return Err(NotTaken::NotAbove { held: generation });
    }
    if offered.element_version() < version {
        return Err(NotTaken::LowerElementVersion { held: version });
    }
    Ok(Arrival::Above)
}
