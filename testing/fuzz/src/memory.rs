//! How much memory a call takes: an allocator that counts for each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread has allocated and not freed; below zero if it freed what others allocated.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most that it has held since the measurement began.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that ends still frees; nobody measures there any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory but two
// thread-local cells without destructors, which allocate nothing.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, and the block came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old block lives until the new one is filled.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `realloc`, and the block came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What a call did to the memory of its thread, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The most that it held at one time, beyond what was held before.
    pub most: usize,
    /// What it left behind; below zero if it freed more than it took.
    pub left: isize,
}

/// Measures a call.
pub fn measure<T>(call: impl FnOnce() -> T) -> (T, Use) {
    let before = HELD.get();
    MOST.set(before);
    let result = call();
    let most = (MOST.get() - before).unsigned_abs();
    (result, Use { most, left: HELD.get() - before })
}

/// Calls a reader of `length` bytes and holds it to its bound: 4 KiB, and `times` the input.
///
/// # Panics
///
/// If it takes more.
pub fn within<T>(times: usize, length: usize, call: impl FnOnce() -> T) -> T {
    let (result, Use { most, .. }) = measure(call);
    let bound = 4096 + times * length;
    assert!(most <= bound, "reading {length} bytes took {most} bytes of memory, above the bound of {bound}");
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_takes_and_leaves_is_counted() {
        let (kept, used) = measure(|| {
            drop(vec![0u8; 10_000]);
            vec![0u8; 100]
        });
        assert_eq!(used, Use { most: 10_000, left: kept.capacity() as isize });
    }

    #[test]
    #[should_panic(expected = "above the bound of 4106")]
    fn a_reader_that_believes_a_length_is_found_out() {
        within(1, 10, || drop(vec![0u8; 5000]));
    }
}
