//! An allocator that counts, so that "no allocation for each frame" is measured.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // A cell without a destructor: asking for it allocates nothing.
    static ASKED: Cell<u64> = const { Cell::new(0) };
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread how often it is asked for memory, and how much
/// it has given out.
///
/// It counts what Rust code asks for. What a C library allocates by itself does not come by here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

/// How often this thread has asked for memory so far.
///
/// Always 0 in a program whose global allocator is not [`Counting`].
pub fn asked() -> u64 {
    ASKED.get()
}

/// How many bytes this thread has taken so far beyond what it has given back. Wraps where it gives back what
/// another took: only the difference of two readings says something.
///
/// Always 0 in a program whose global allocator is not [`Counting`].
pub fn taken() -> usize {
    TAKEN.get()
}

fn count(more: usize, less: usize) {
    TAKEN.set(TAKEN.get().wrapping_add(more).wrapping_sub(less));
    if more > 0 {
        ASKED.set(ASKED.get() + 1);
    }
}

#[expect(unsafe_code, reason = "a global allocator is an unsafe trait; all calls go on to the system's")]
// SAFETY: each method hands its arguments on unchanged to the system's allocator, which keeps the
// contract; counting touches nothing but two cells of this thread and neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above; the block came from the system's allocator.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
