//! Bytes of a frame on their way through a session.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use zeroize::Zeroize;

/// Bytes of a frame on their way through a session; wiped on drop.
///
/// On its way from spare to queue to host and back a buffer changes hands five times. Boxed, it does so
/// as one word; a vector of three words, copied as soon as it is written, makes the processor wait each time.
#[derive(Default)]
pub(super) struct Buffer(
    #[expect(clippy::box_collection, reason = "see above: for a small frame it is a tenth of all the time")]
    Box<Vec<u8>>,
);

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
