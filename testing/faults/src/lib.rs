//! Makes the n-th durable call of a run of programs fail, stop half-way, or be the last one.
//!
//! A test preloads this library (`LD_PRELOAD`) into the programs that it runs. They inherit it, so the
//! shell scripts at a target, their tools, `akmd` and `akm` all count in one sequence, kept in a file that
//! all of them map (`control`). Counted is what changes regular files, directories and links below one
//! directory, as the programs ask the C library for it (`durable`), and where a test wants that also what
//! reaches other processes (`outward`). At the call whose turn it is the order of the test is carried out
//! (`fault`).
//!
//! It sees calls to the C library, not system calls: what a program does past that library is not counted.
//! Nothing here ships.

#![expect(unsafe_code, reason = "stands in for functions of the C library, whose interface is pointers")]

mod control;
mod durable;
mod fault;
mod outward;
mod place;
