//! The real counterparts of elements, for tests: each is a process or a store of its own in a directory of its own, and ends
//! with the value that stands for it. A program that is missing fails the test with what installs it.

pub mod ports;
pub mod softhsm;
pub mod swtpm;
pub mod vpcd;
