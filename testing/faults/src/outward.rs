//! Calls that reach other processes, on this machine or another. They count only where a test asks for it.

use std::ffi::{c_int, c_void};
use std::ptr;

use libc::{id_t, idtype_t, msghdr, pid_t, rusage, siginfo_t, size_t, sockaddr, socklen_t, ssize_t};

use crate::fault::judge_outward;

/// Defines functions of the C library that count as outward and are then the system call of that name.
macro_rules! outward {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $kind:literal, $call:expr;)*) => {$(
        /// As in the C library, counted.
        ///
        /// # Safety
        ///
        /// As in the C library.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            judge_outward($kind);
            // SAFETY: the arguments are those of the caller, who keeps the contract of this function.
            unsafe { $call as $result }
        }
    )*};
}

outward! {
    connect(socket: c_int, address: *const sockaddr, length: socklen_t) -> c_int,
        "connect", libc::syscall(libc::SYS_connect, socket, address, length);
    send(socket: c_int, bytes: *const c_void, length: size_t, flags: c_int) -> ssize_t,
        "send", libc::syscall(libc::SYS_sendto, socket, bytes, length, flags, ptr::null::<sockaddr>(), 0);
    sendto(socket: c_int, bytes: *const c_void, length: size_t, flags: c_int, to: *const sockaddr, size: socklen_t)
        -> ssize_t,
        "send", libc::syscall(libc::SYS_sendto, socket, bytes, length, flags, to, size);
    sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> ssize_t,
        "send", libc::syscall(libc::SYS_sendmsg, socket, message, flags);
    waitpid(process: pid_t, status: *mut c_int, options: c_int) -> pid_t,
        "wait", libc::syscall(libc::SYS_wait4, process, status, options, ptr::null_mut::<rusage>());
    wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t,
        "wait", libc::syscall(libc::SYS_wait4, -1, status, options, usage);
    wait4(process: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t,
        "wait", libc::syscall(libc::SYS_wait4, process, status, options, usage);
    waitid(which: idtype_t, id: id_t, found: *mut siginfo_t, options: c_int) -> c_int,
        "wait", libc::syscall(libc::SYS_waitid, which, id, found, options, ptr::null_mut::<rusage>());
}
