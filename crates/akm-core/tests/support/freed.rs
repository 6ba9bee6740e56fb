//! An allocator that keeps what is given back while it records, so that a test can look for secrets in
//! it. What a program wipes before it frees is not found; what it forgot is.
//!
//! It sees the heap of Rust code. It does not see the stack, registers, what C libraries allocate, and
//! the buffers of the kernel. A test program that uses it makes `Keeping` its global allocator, and
//! records one thing at a time.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Most blocks that are kept; a recording that frees more fails.
const BLOCKS_MAX: usize = 1 << 20;

static IS_RECORDING: AtomicBool = AtomicBool::new(false);
static BLOCKS: AtomicUsize = AtomicUsize::new(0);
static ADDRESSES: [AtomicUsize; BLOCKS_MAX] = [const { AtomicUsize::new(0) }; BLOCKS_MAX];
static LENGTHS: [AtomicUsize; BLOCKS_MAX] = [const { AtomicUsize::new(0) }; BLOCKS_MAX];
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The system's allocator, except that while a test records nothing is given back to it.
///
/// It leaves `realloc` to the trait, which allocates, copies and frees: so the old place of everything
/// that grows is seen too.
pub struct Keeping;

// SAFETY: memory comes from `System` as asked for. What is not given back is never used again by anybody
// but the reader below.
unsafe impl GlobalAlloc for Keeping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`. Zeroed, so that
        // what is read later was written, and nothing old is found in it.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !IS_RECORDING.load(Ordering::Acquire) {
            // SAFETY: the caller keeps the contract of `dealloc`; the block came from `System`.
            unsafe { System.dealloc(block, layout) };
            return;
        }
        let at = BLOCKS.fetch_add(1, Ordering::AcqRel);
        if at < BLOCKS_MAX {
            LENGTHS[at].store(layout.size(), Ordering::Release);
            ADDRESSES[at].store(block.expose_provenance(), Ordering::Release);
        }
    }
}

/// What was freed during a recording. No other recording begins before this is dropped.
pub struct Freed {
    count: usize,
    _alone: MutexGuard<'static, ()>,
}

/// Does the work and keeps all that is freed meanwhile, on every thread.
pub fn record<T>(work: impl FnOnce() -> T) -> (T, Freed) {
    // A test that failed while it recorded changes nothing for the next one.
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    BLOCKS.store(0, Ordering::Release);
    IS_RECORDING.store(true, Ordering::Release);
    let done = work();
    IS_RECORDING.store(false, Ordering::Release);
    let count = BLOCKS.load(Ordering::Acquire);
    assert!(count <= BLOCKS_MAX, "{count} blocks were freed, more than are kept");
    (done, Freed { count, _alone: alone })
}

impl Freed {
    /// How many blocks were freed.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The lengths of the blocks that hold these bytes.
    pub fn holding(&self, secret: &[u8]) -> Vec<usize> {
        assert!(secret.len() >= 8, "too short to be found for certain");
        self.blocks().filter(|block| contains(block, secret)).map(<[u8]>::len).collect()
    }

    fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|at| {
            let address = ADDRESSES[at].load(Ordering::Acquire);
            let block = std::ptr::with_exposed_provenance::<u8>(address);
            // SAFETY: the block was allocated zeroed with this length and never given back, and whoever
            // freed it does not use it any more.
            unsafe { std::slice::from_raw_parts(block, LENGTHS[at].load(Ordering::Acquire)) }
        })
    }
}

fn contains(block: &[u8], secret: &[u8]) -> bool {
    let first = secret[0];
    block.len() >= secret.len()
        && (0..=block.len() - secret.len()).any(|at| block[at] == first && block[at..].starts_with(secret))
}

/// Fails if a secret was freed without having been wiped, and names each.
#[track_caller]
pub fn check_wiped(freed: &Freed, secrets: &[(String, Vec<u8>)]) {
    let found: Vec<String> = secrets
        .iter()
        .map(|(what, secret)| (what, freed.holding(secret)))
        .filter(|(_, lengths)| !lengths.is_empty())
        .map(|(what, lengths)| format!("{what} in blocks of {lengths:?} bytes"))
        .collect();
    assert!(found.is_empty(), "freed and not wiped: {found:#?}");
}

/// The recorder finds what is there to be found, and only that.
pub fn check_itself() {
    let secret = *b"a secret of thirty-two bytes ...";
    let (kept, freed) = record(|| {
        let mut grown = secret.to_vec();
        grown.reserve_exact(1000);
        grown
    });
    assert_eq!(freed.holding(&secret), [32], "the place where it was before it grew");
    drop(freed);
    let (_, freed) = record(|| drop(kept));
    assert_eq!(freed.holding(&secret), [1032], "the place where it was last");
    drop(freed);
    let (_, freed) = record(|| drop(zeroize::Zeroizing::new(secret.to_vec())));
    assert!(freed.count() > 0 && freed.holding(&secret).is_empty(), "wiped");
}
