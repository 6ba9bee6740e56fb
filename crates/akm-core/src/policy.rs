//! The policy of a relationship: when its members move on, and what they may send.
//!
//! It travels as deterministic CBOR in the SDS, so all members have the same one. The CDDL is in
//! `docs/akm.cddl`.

use alloc::vec::Vec;
use core::time::Duration;

use crate::cbor::{Malformed, read_map, write};

/// Smallest datagram limit: an empty data frame still fits.
pub const DATAGRAM_MIN: u16 = 64;

/// Most epochs by which a member that may have been set back moves on.
pub const JUMP_MAX: u16 = 1024;

/// How the members of a relationship behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// An epoch older than this is left; zero: never by age.
    pub rotate_after: Duration,
    /// After this many frames of its own in one epoch a member moves on; zero: only at the limit of
    /// the cipher.
    pub rotate_frames: u32,
    /// A member moves on by itself at most once in this time.
    pub advance_interval: Duration,
    /// For this long a closed epoch stays open for receiving.
    pub overlap: Duration,
    /// Longest datagram frame, in bytes.
    pub datagram_max: u16,
    /// A member that may have been set back moves on by so many epochs before it accepts or sends anything. Without effect
    /// in a provisioning relationship.
    pub jump: u16,
    /// Members do not move: each is where the module says. Without effect in a provisioning relationship.
    pub fixed_endpoints: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rotate_after: Duration::from_secs(3600),
            rotate_frames: 0,
            advance_interval: Duration::from_secs(1),
            overlap: Duration::from_secs(5),
            datagram_max: 1452,
            jump: JUMP_MAX,
            fixed_endpoints: false,
        }
    }
}

impl Policy {
    /// The policy of a provisioning relationship: it moves on with every start, not by age, because
    /// between commands nobody is there to hear of it. No epoch overlaps the next: a stream keeps the
    /// order, and a module that was restored from a backup is told at once that it is behind.
    pub fn provisioning() -> Self {
        Self { rotate_after: Duration::ZERO, overlap: Duration::ZERO, ..Self::default() }
    }

    /// Reads a policy. No bytes at all mean the default.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut policy = Self::default();
        if bytes.is_empty() {
            return Ok(policy);
        }
        read_map(bytes, |key, decoder| {
            match key {
                0 => policy.rotate_after = Duration::from_millis(decoder.u64()?),
                1 => policy.rotate_frames = decoder.u32()?,
                2 => policy.advance_interval = Duration::from_millis(decoder.u64()?),
                3 => policy.overlap = Duration::from_millis(decoder.u64()?),
                4 => policy.datagram_max = decoder.u16()?,
                5 => policy.jump = decoder.u16()?,
                6 => policy.fixed_endpoints = decoder.bool()?,
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let in_bounds = policy.datagram_max >= DATAGRAM_MIN && policy.jump <= JUMP_MAX;
        if !in_bounds || policy.emit() != bytes {
            return Err(Malformed);
        }
        Ok(policy)
    }

    /// The policy as it stands in an SDS. Every value is written, so that a later stack with other
    /// defaults reads the same.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(7)?;
            e.u8(0)?.u64(self.rotate_after.as_millis() as u64)?;
            e.u8(1)?.u32(self.rotate_frames)?;
            e.u8(2)?.u64(self.advance_interval.as_millis() as u64)?;
            e.u8(3)?.u64(self.overlap.as_millis() as u64)?;
            e.u8(4)?.u16(self.datagram_max)?;
            e.u8(5)?.u16(self.jump)?;
            e.u8(6)?.bool(self.fixed_endpoints)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote() {
        let policy =
            Policy { rotate_after: Duration::from_millis(1500), rotate_frames: 7, ..Policy::default() };
        assert_eq!(Policy::parse(&policy.emit()), Ok(policy));
        let of_a_plant = Policy { jump: 0, fixed_endpoints: true, ..policy };
        assert_eq!(Policy::parse(&of_a_plant.emit()), Ok(of_a_plant));
        assert_eq!(Policy::parse(&[]), Ok(Policy::default()));
    }

    #[test]
    fn a_policy_that_this_stack_does_not_understand_is_refused() {
        let unknown = write(|e| {
            e.map(1)?.u8(9)?.u8(1)?;
            Ok(())
        });
        assert_eq!(Policy::parse(&unknown), Err(Malformed));
        let mut trailing = Policy::default().emit();
        trailing.push(0);
        assert_eq!(Policy::parse(&trailing), Err(Malformed));
    }

    #[test]
    fn a_jump_beyond_the_most_is_refused() {
        let policy = Policy { jump: JUMP_MAX + 1, ..Policy::default() };
        assert_eq!(Policy::parse(&policy.emit()), Err(Malformed));
    }

    #[test]
    fn other_encodings_of_the_same_values_are_refused() {
        let mut long_form = Policy::default().emit();
        // Key 0 as a two-byte integer is valid CBOR, but not deterministic.
        long_form.splice(1..2, [0x18, 0x00]);
        assert_eq!(Policy::parse(&long_form), Err(Malformed));
    }
}
