//! Secrets: wiped when dropped, never printed, compared in constant time.

use alloc::boxed::Box;
use core::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn debug_text_shows_the_length_and_no_byte() {
        assert_eq!(format!("{:?}", Secret::take(&mut [0xab; 32])), "Secret<32>");
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
