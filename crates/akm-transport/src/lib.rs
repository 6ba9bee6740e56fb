//! Frames as bytes on a wire: opaque in, opaque out.
//!
//! ```text
//!   stream     frames -- encode --> | u32 length | frame | u32 length | frame | -- FrameReader --> frames
//!   datagram   one frame is one datagram; a node has UDP and TCP on one port number
//! ```
//!
//! What it promises: a frame comes out as it went in or not at all, however the network cuts the
//! stream; what a stranger sends costs no more memory than he really sent, and never more than one
//! frame beside what was read in one go.
//!
//! What it does not do: look into a frame, hold a key, retry, reconnect, or choose an async runtime.
//! The sockets that it makes are the standard library's; [`Endpoint`], [`FrameReader`] and [`encode`] have no I/O, and are
//! there without the feature `std`.

#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "std")]
mod connection;
#[cfg(feature = "std")]
mod datagram;
mod endpoint;
mod stream;

#[cfg(feature = "std")]
pub use connection::FrameStream;
#[cfg(feature = "std")]
pub use datagram::{bind_pair, pick_port};
pub use endpoint::{Endpoint, NamedEndpoint, NotANamedEndpoint, NotAnEndpoint};
pub use stream::{FRAME_LENGTH_MAX, FrameReader, StreamError, encode};
