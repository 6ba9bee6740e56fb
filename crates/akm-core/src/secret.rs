//! Secrets: wiped when dropped, never printed, compared in constant time.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::{fmt, mem};

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// `N` secret bytes.
///
/// They live on the heap, so that moving the value leaves no copy behind, and are wiped on drop.
/// There is no `Clone`, no `PartialEq` and no `Display`; `Debug` prints the length only.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes the bytes over and wipes the array that they came from.
    pub fn take(bytes: &mut [u8; N]) -> Self {
        let secret = Self(Box::new(*bytes));
        bytes.zeroize();
        secret
    }

    /// Copies the bytes of a slice that its owner wipes. `None` if its length is not `N`.
    pub fn copy_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != N {
            return None;
        }
        Some(Self::fill(|out| out.copy_from_slice(bytes)))
    }

    /// Lets `write` make the bytes in place.
    pub fn fill(write: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Box::new([0; N]));
        write(&mut secret.0);
        secret
    }

    /// Like [`Secret::fill`], for a source that can fail. What was written is wiped on failure.
    pub fn try_fill<E>(write: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0; N]));
        write(&mut secret.0)?;
        Ok(secret)
    }

    /// The bytes, for the one computation that needs them.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// A second copy, where a secret rightly has two owners. Named so that each use is seen.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Compares in constant time.
    pub fn equals(&self, other: &[u8]) -> bool {
        self.0[..].ct_eq(other).into()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>")
    }
}

/// Secret bytes of a length that is not known before: wrapped roots, management bodies, places.
///
/// Like [`Secret`] they live on the heap, are wiped on drop, and have no `Clone`, no `PartialEq` and no `Display`;
/// `Debug` prints the name only. Where they grow, what they leave behind is wiped.
#[derive(Default)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// None yet, with room for so many: as many as it will be, so that they need not move.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// So many zeros, to be written over.
    pub fn zeros(length: usize) -> Self {
        Self(alloc::vec![0; length])
    }

    /// Copies the bytes of a slice that its owner wipes.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes, for the one computation that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be changed in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Adds bytes behind those that are there.
    pub fn append(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Makes room for so many more.
    pub fn reserve(&mut self, more: usize) {
        let needed = self.0.len() + more;
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(2 * self.0.capacity()));
            larger.extend_from_slice(&self.0);
            mem::replace(&mut self.0, larger).zeroize();
        }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many there is room for where they are.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second copy, where they rightly have two owners. Named so that each use is seen.
    pub fn duplicate(&self) -> Self {
        Self::copy_from(&self.0)
    }

    /// Compares in constant time.
    pub fn equals(&self, other: &[u8]) -> bool {
        self.0[..].ct_eq(other).into()
    }
}

/// Takes bytes over.
impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn debug_text_shows_the_length_and_no_byte() {
        assert_eq!(format!("{:?}", Secret::take(&mut [0xab; 32])), "Secret<32>");
    }

    #[test]
    fn debug_text_of_secret_bytes_shows_neither_bytes_nor_how_many() {
        assert_eq!(format!("{:?}", SecretBytes::copy_from(&[0xab; 32])), "SecretBytes");
    }

    #[test]
    fn secret_bytes_that_grow_are_all_there() {
        let mut bytes = SecretBytes::with_capacity(2);
        for byte in 0..100 {
            bytes.append(&[byte, byte]);
        }
        let expected: Vec<u8> = (0..100).flat_map(|byte| [byte, byte]).collect();
        assert!(bytes.equals(&expected) && bytes.duplicate().equals(&expected));
        assert_eq!((bytes.len(), bytes.is_empty()), (200, false));
    }

    #[test]
    fn taking_a_secret_wipes_its_source() {
        let mut source = [7; 16];
        let secret = Secret::take(&mut source);
        assert_eq!(source, [0; 16]);
        assert!(secret.equals(&[7; 16]));
        assert!(!secret.equals(&[7; 15]));
    }

    #[test]
    fn a_slice_of_another_length_is_refused() {
        assert!(Secret::<32>::copy_from(&[0; 31]).is_none());
    }
}
