//! How much a node keeps of what comes from outside, and does at once.

/// Frames of one relationship that wait for an answer or a write; one more is dropped.
pub const FRAMES_WAITING: usize = 64;

/// Of these, frames that wait for nothing but that one more epoch may be followed, all of one epoch; one more is dropped as
/// `budget`.
pub const FRAMES_KEPT: usize = 16;

/// Wishes of applications for one relationship that wait; one more is refused.
pub const WISHES_WAITING: usize = 64;

/// Bytes of all that waits, in all relationships together.
pub const BYTES_WAITING: usize = 2 * 1024 * 1024;

/// Questions of one relationship that are out at the same time.
pub const QUESTIONS_OUT: usize = 8;

/// Requests of modules that are under way at the same time.
pub const REQUESTS_AT_ONCE: usize = 16;

/// Streams of one relationship on which no request was proven yet; one more takes the place of one that was answered.
pub const UNPROVEN_STREAMS: usize = 4;

/// Answers to `identify` on new streams of one relationship at once; then one comes each second.
pub const IDENTIFIES_AT_ONCE: u32 = 8;

/// Relationships that act, each with a write to the disk, before what comes from outside gets its turn.
pub const DUE_AT_ONCE: usize = 16;

/// Relationships that are told of a frame that belongs to none, in turn.
pub const HINTED_AT_ONCE: usize = 8;
