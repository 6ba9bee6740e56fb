//! Calls that change regular files, directories and links.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("positions in files are taken to have 64 bits everywhere");

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{AT_FDCWD, AT_REMOVEDIR, gid_t, iovec, mode_t, off_t, size_t, ssize_t, uid_t};

use crate::fault::{Call, Verdict, die, judge};
use crate::place::Place;

/// Most pieces of a gathering write that are cut; a longer one is written as a whole.
const PIECES: usize = 16;

/// Defines functions of the C library.
macro_rules! stand_in {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block)*) => {$(
        /// As in the C library, counted.
        ///
        /// # Safety
        ///
        /// As in the C library.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            // SAFETY: the arguments are those of the caller, who keeps the contract of this function.
            unsafe { $body }
        }
    )*};
}

/// A path below a directory, or a descriptor.
macro_rules! at {
    ($directory:expr, $path:expr) => {
        Place::of_path($directory, $path)
    };
    ($descriptor:expr) => {
        Place::of_descriptor($descriptor)
    };
}

/// A call that is carried out as a whole or not at all.
fn whole<const N: usize>(
    kind: &'static str,
    takes_space: bool,
    places: [Option<Place>; N],
    carry_out: impl FnOnce() -> i64,
) -> c_int {
    match keeping_error(|| judge(&Call { kind, bytes: 0, takes_space, places: &places })) {
        Verdict::Not(error) => fail(error),
        _ => carry_out() as c_int,
    }
}

/// A call that writes bytes.
fn bytes(
    kind: &'static str,
    descriptor: c_int,
    length: size_t,
    carry_out: impl FnOnce(size_t) -> i64,
) -> ssize_t {
    let verdict = keeping_error(|| {
        judge(&Call { kind, bytes: length, takes_space: true, places: &[Place::of_descriptor(descriptor)] })
    });
    match verdict {
        Verdict::Whole => carry_out(length) as ssize_t,
        Verdict::Not(error) => fail(error) as ssize_t,
        Verdict::Part(part) => carry_out(part) as ssize_t,
        Verdict::PartAndDie(part) => {
            carry_out(part);
            die();
        }
    }
}

/// The looking around of this library does not show in the error number of the program.
fn keeping_error<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the error number of this thread.
    unsafe {
        let error = *libc::__errno_location();
        let result = work();
        *libc::__errno_location() = error;
        result
    }
}

fn fail(error: c_int) -> c_int {
    // SAFETY: the error number of this thread.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// Opens a file; counted if that can make or empty one.
///
/// # Safety
///
/// `path` is null or a text that ends in a zero.
unsafe fn open_file(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the path is the caller's.
    let open = || unsafe { libc::syscall(libc::SYS_openat, directory, path, flags, mode) };
    let is_temporary = flags & libc::O_TMPFILE == libc::O_TMPFILE;
    if flags & (libc::O_CREAT | libc::O_TRUNC) == 0 && !is_temporary {
        return open() as c_int;
    }
    let kind = if flags & libc::O_CREAT == 0 && !is_temporary { "empty" } else { "create" };
    // SAFETY: the path is the caller's.
    let place = unsafe { Place::of_path(directory, path) };
    whole(kind, true, [place], open)
}

/// Writes the first `most` bytes of the pieces.
///
/// # Safety
///
/// `pieces` are as many as `count` says.
unsafe fn gather(
    pieces: *const iovec,
    count: c_int,
    most: size_t,
    write: impl FnOnce(*const iovec, c_int) -> i64,
) -> i64 {
    let mut cut = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES];
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 || count > PIECES {
        return write(pieces, count as c_int);
    }
    // SAFETY: the caller's pieces, as many as he says.
    let given = unsafe { std::slice::from_raw_parts(pieces, count) };
    let mut left = most;
    for (piece, given) in cut.iter_mut().zip(given) {
        *piece = iovec { iov_base: given.iov_base, iov_len: given.iov_len.min(left) };
        left -= piece.iov_len;
    }
    write(cut.as_ptr(), count as c_int)
}

/// The bytes of all pieces.
///
/// # Safety
///
/// `pieces` are as many as `count` says.
unsafe fn length_of(pieces: *const iovec, count: c_int) -> size_t {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        return 0;
    }
    // SAFETY: the caller's pieces, as many as he says.
    unsafe { std::slice::from_raw_parts(pieces, count) }.iter().map(|piece| piece.iov_len).sum()
}

// Where a function of the C library takes a mode only for some flags, a caller that gives none leaves
// whatever its register holds, and the system does not look at it.
stand_in! {
    write(file: c_int, from: *const c_void, length: size_t) -> ssize_t {
        bytes("write", file, length, |length| libc::syscall(libc::SYS_write, file, from, length))
    }
    pwrite(file: c_int, from: *const c_void, length: size_t, at: off_t) -> ssize_t {
        bytes("write", file, length, |length| libc::syscall(libc::SYS_pwrite64, file, from, length, at))
    }
    pwrite64(file: c_int, from: *const c_void, length: size_t, at: off_t) -> ssize_t {
        pwrite(file, from, length, at)
    }
    writev(file: c_int, pieces: *const iovec, count: c_int) -> ssize_t {
        bytes("write", file, length_of(pieces, count), |length| {
            gather(pieces, count, length, |pieces, count| libc::syscall(libc::SYS_writev, file, pieces, count))
        })
    }
    pwritev(file: c_int, pieces: *const iovec, count: c_int, at: off_t) -> ssize_t {
        bytes("write", file, length_of(pieces, count), |length| {
            gather(pieces, count, length, |pieces, count| {
                libc::syscall(libc::SYS_pwritev, file, pieces, count, at, 0)
            })
        })
    }
    pwritev64(file: c_int, pieces: *const iovec, count: c_int, at: off_t) -> ssize_t {
        pwritev(file, pieces, count, at)
    }
    copy_file_range(from: c_int, from_at: *mut off_t, to: c_int, to_at: *mut off_t, length: size_t, flags: c_uint)
        -> ssize_t {
        bytes("write", to, length, |length| {
            libc::syscall(libc::SYS_copy_file_range, from, from_at, to, to_at, length, flags)
        })
    }
    sendfile(to: c_int, from: c_int, at: *mut off_t, length: size_t) -> ssize_t {
        bytes("write", to, length, |length| libc::syscall(libc::SYS_sendfile, to, from, at, length))
    }
    sendfile64(to: c_int, from: c_int, at: *mut off_t, length: size_t) -> ssize_t {
        sendfile(to, from, at, length)
    }
    fsync(file: c_int) -> c_int {
        whole("sync", false, [at!(file)], || libc::syscall(libc::SYS_fsync, file))
    }
    fdatasync(file: c_int) -> c_int {
        whole("sync", false, [at!(file)], || libc::syscall(libc::SYS_fdatasync, file))
    }
    syncfs(file: c_int) -> c_int {
        whole("sync", false, [at!(file)], || libc::syscall(libc::SYS_syncfs, file))
    }
    ftruncate(file: c_int, length: off_t) -> c_int {
        whole("truncate", false, [at!(file)], || libc::syscall(libc::SYS_ftruncate, file, length))
    }
    ftruncate64(file: c_int, length: off_t) -> c_int {
        ftruncate(file, length)
    }
    truncate(path: *const c_char, length: off_t) -> c_int {
        whole("truncate", false, [at!(AT_FDCWD, path)], || libc::syscall(libc::SYS_truncate, path, length))
    }
    truncate64(path: *const c_char, length: off_t) -> c_int {
        truncate(path, length)
    }
    open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        open_file(AT_FDCWD, path, flags, mode)
    }
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        open_file(AT_FDCWD, path, flags, mode)
    }
    openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        open_file(directory, path, flags, mode)
    }
    openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        open_file(directory, path, flags, mode)
    }
    __open_2(path: *const c_char, flags: c_int) -> c_int {
        open_file(AT_FDCWD, path, flags, 0)
    }
    __open64_2(path: *const c_char, flags: c_int) -> c_int {
        open_file(AT_FDCWD, path, flags, 0)
    }
    __openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
        open_file(directory, path, flags, 0)
    }
    __openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
        open_file(directory, path, flags, 0)
    }
    creat(path: *const c_char, mode: mode_t) -> c_int {
        open_file(AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
    }
    creat64(path: *const c_char, mode: mode_t) -> c_int {
        creat(path, mode)
    }
    mkdir(path: *const c_char, mode: mode_t) -> c_int {
        mkdirat(AT_FDCWD, path, mode)
    }
    mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
        whole("mkdir", true, [at!(directory, path)], || libc::syscall(libc::SYS_mkdirat, directory, path, mode))
    }
    rename(from: *const c_char, to: *const c_char) -> c_int {
        renameat2(AT_FDCWD, from, AT_FDCWD, to, 0)
    }
    renameat(from_in: c_int, from: *const c_char, to_in: c_int, to: *const c_char) -> c_int {
        renameat2(from_in, from, to_in, to, 0)
    }
    renameat2(from_in: c_int, from: *const c_char, to_in: c_int, to: *const c_char, flags: c_uint) -> c_int {
        whole("rename", false, [at!(from_in, from), at!(to_in, to)], || {
            libc::syscall(libc::SYS_renameat2, from_in, from, to_in, to, flags)
        })
    }
    link(from: *const c_char, to: *const c_char) -> c_int {
        linkat(AT_FDCWD, from, AT_FDCWD, to, 0)
    }
    linkat(from_in: c_int, from: *const c_char, to_in: c_int, to: *const c_char, flags: c_int) -> c_int {
        whole("link", true, [at!(from_in, from), at!(to_in, to)], || {
            libc::syscall(libc::SYS_linkat, from_in, from, to_in, to, flags)
        })
    }
    symlink(text: *const c_char, path: *const c_char) -> c_int {
        symlinkat(text, AT_FDCWD, path)
    }
    symlinkat(text: *const c_char, directory: c_int, path: *const c_char) -> c_int {
        whole("link", true, [at!(directory, path)], || {
            libc::syscall(libc::SYS_symlinkat, text, directory, path)
        })
    }
    unlink(path: *const c_char) -> c_int {
        unlinkat(AT_FDCWD, path, 0)
    }
    rmdir(path: *const c_char) -> c_int {
        unlinkat(AT_FDCWD, path, AT_REMOVEDIR)
    }
    remove(path: *const c_char) -> c_int {
        let result = unlinkat(AT_FDCWD, path, 0);
        if result == -1 && *libc::__errno_location() == libc::EISDIR { rmdir(path) } else { result }
    }
    unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
        whole("remove", false, [at!(directory, path)], || libc::syscall(libc::SYS_unlinkat, directory, path, flags))
    }
    chmod(path: *const c_char, mode: mode_t) -> c_int {
        whole("chmod", false, [at!(AT_FDCWD, path)], || {
            libc::syscall(libc::SYS_fchmodat, AT_FDCWD, path, mode)
        })
    }
    fchmodat(directory: c_int, path: *const c_char, mode: mode_t, flags: c_int) -> c_int {
        whole("chmod", false, [at!(directory, path)], || match flags {
            0 => libc::syscall(libc::SYS_fchmodat, directory, path, mode),
            flags => libc::syscall(libc::SYS_fchmodat2, directory, path, mode, flags),
        })
    }
    fchmod(file: c_int, mode: mode_t) -> c_int {
        whole("chmod", false, [at!(file)], || libc::syscall(libc::SYS_fchmod, file, mode))
    }
    fchown(file: c_int, owner: uid_t, group: gid_t) -> c_int {
        whole("chmod", false, [at!(file)], || libc::syscall(libc::SYS_fchown, file, owner, group))
    }
}
