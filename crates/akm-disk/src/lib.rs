//! Files that belong to one user and outlive a loss of power: how every program of AKM keeps what it keeps.
//!
//! ```text
//!   durable    a file is replaced, made or removed as a whole, and that lasts
//!   private    nobody but the owner gets at a file or a directory
//!   directory  one that is private, made to last
//!   lock       one process at a time
//!   advice     what a person can do about an error of the system
//! ```
//!
//! What it promises: after a crash at any moment the old content stands or the new one, whole; what a call says is done is
//! on the disk; what others could have read or written is not used; a file is in memory that is wiped.
//!
//! What it does not do: know any format, or what a file is for. Nor does it make system calls by itself: whatever
//! changes a file goes through the C library, where the tests make it fail.

mod advice;
pub mod directory;
pub mod durable;
mod error;
mod lock;
pub mod private;

pub use advice::advice;
pub use error::DiskError;
pub use lock::Lock;
