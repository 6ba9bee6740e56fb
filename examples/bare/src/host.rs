//! What a host without an operating system's library gives the core: memory, randomness, an element.

use alloc::string::String;
use core::panic::PanicInfo;

use akm_core::element::{ElementError, Label, Root, SecureElement};
use akm_core::keys::element_function;
use akm_core::secret::Secret;
use akm_core::session::RandomSource;
use linked_list_allocator::LockedHeap;

/// All the memory that two sessions and their keys get, in bytes.
pub const HEAP_LENGTH: usize = 64 * 1024;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

/// Gives the allocator its memory; before this nothing can be allocated.
pub fn begin() {
    static mut MEMORY: [u8; HEAP_LENGTH] = [0; HEAP_LENGTH];
    #[expect(unsafe_code, reason = "an allocator is given memory by its address")]
    // SAFETY: this is the only use of the array, `main` calls it once, and it lives as long as the program.
    unsafe {
        HEAP.lock().init((&raw mut MEMORY).cast(), HEAP_LENGTH);
    }
}

/// Bytes that are allocated at this moment.
pub fn heap_used() -> usize {
    HEAP.lock().used()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    abort()
}

fn abort() -> ! {
    #[expect(unsafe_code, reason = "a C function")]
    // SAFETY: it takes nothing and does not return.
    unsafe {
        libc::abort()
    }
}

/// Named by the landing pads of the precompiled `alloc`. This program does not unwind, so it is never called.
#[expect(unsafe_code, reason = "the precompiled library finds it by this name")]
// SAFETY: no unwinder is linked that would call it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Where the landing pads of the precompiled `alloc` would go on; without unwinding nobody gets there.
#[expect(unsafe_code, reason = "the precompiled library finds it by this name")]
// SAFETY: it does not return, as its callers expect.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    abort()
}

/// Writes text to standard output, as well as that goes.
pub fn say(text: &str) {
    #[expect(unsafe_code, reason = "a C function")]
    // SAFETY: pointer and length are those of `text`, which outlives the call.
    unsafe {
        libc::write(libc::STDOUT_FILENO, text.as_ptr().cast(), text.len());
    }
}

/// The generator of the system.
pub struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        let mut filled = 0;
        while filled < out.len() {
            let rest = &mut out[filled..];
            #[expect(unsafe_code, reason = "a C function")]
            // SAFETY: pointer and length are those of `rest`, which nobody else uses meanwhile.
            let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            // Interrupted by a signal: again. Without randomness no key is safe.
            filled += usize::try_from(got).unwrap_or(0);
        }
    }
}

/// An element in memory, for one relationship.
pub struct MemoryElement {
    /// The name of the one root.
    pub root: Root,
    /// The root.
    pub key: Secret<32>,
}

impl SecureElement for MemoryElement {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        if root != self.root {
            return Err(ElementError::NoSuchRoot);
        }
        if context.len() > akm_core::keys::CONTEXT_LENGTH {
            return Err(ElementError::Refused(String::from("the context is too long")));
        }
        Ok(element_function(self.key.expose(), label.as_bytes(), context))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        SystemRandom.fill(out);
        Ok(())
    }
}
