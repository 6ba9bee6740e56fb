//! Where a call works: the path of a file, as the system sees it.

use std::ffi::{CStr, c_char, c_int};
use std::io::Write;

/// A path without links in its directories. It needs no memory of the program.
pub(crate) struct Place {
    path: [u8; libc::PATH_MAX as usize],
    length: usize,
}

impl Place {
    pub(crate) fn path(&self) -> &[u8] {
        &self.path[..self.length]
    }

    /// What a descriptor is open on; none for what is no file.
    pub(crate) fn of_descriptor(descriptor: c_int) -> Option<Self> {
        let mut link = [0_u8; 32];
        // The last byte stays zero.
        let _ = write!(&mut link[..31], "/proc/self/fd/{descriptor}");
        let mut place = Self { path: [0; libc::PATH_MAX as usize], length: 0 };
        // SAFETY: a text that ends in a zero, and a buffer with its length.
        let length = unsafe {
            let to = place.path.as_mut_ptr();
            libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, link.as_ptr(), to, place.path.len())
        };
        place.length = usize::try_from(length).unwrap_or(0);
        (place.path().first() == Some(&b'/')).then_some(place)
    }

    /// What a path means below an open directory; none if its parent is not there.
    ///
    /// # Safety
    ///
    /// `path` is null or a text that ends in a zero.
    pub(crate) unsafe fn of_path(directory: c_int, path: *const c_char) -> Option<Self> {
        if path.is_null() {
            return None;
        }
        // SAFETY: by the contract of this function.
        let path = unsafe { CStr::from_ptr(path) }.to_bytes();
        let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
        let begin = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (parent, name) = (&path[..begin], &path[begin..end]);
        let mut text = [0_u8; libc::PATH_MAX as usize];
        let parent = if parent.is_empty() { b"." } else { parent };
        text.get_mut(..parent.len())?.copy_from_slice(parent);
        *text.last_mut()? = 0;
        // SAFETY: a text that ends in a zero.
        let opened = unsafe {
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
            libc::syscall(libc::SYS_openat, directory, text.as_ptr(), flags, 0)
        };
        let opened = c_int::try_from(opened).ok().filter(|opened| *opened >= 0)?;
        let place = Self::of_descriptor(opened);
        // SAFETY: opened right above, by this function alone.
        unsafe { libc::close(opened) };
        let mut place = place?;
        let mut rest = &mut place.path[place.length..];
        rest.write_all(b"/").and_then(|()| rest.write_all(name)).ok()?;
        place.length += 1 + name.len();
        Some(place)
    }
}
