//! Frames as bytes on a wire: opaque in, opaque out.
//!
//! ```text
//!                 +-- Carrier: one frame is one datagram -----------------> UdpCarrier
//!   frames -------+
//!   (Endpoint)    +-- encode --> | u32 length | frame | ... --> FrameReader   FrameStream, over TCP
//! ```
//!
//! An [`Endpoint`] says where frames go and come from, whatever the medium. A [`Carrier`] takes and gives them in batches
//! and tells what its medium can do; a node has UDP and TCP on one port number ([`bind_pair`]).
//!
//! What it promises: a frame comes out as it went in or not at all, however the network cuts the
//! stream; what a stranger sends costs no more memory than he really sent, and never more than one
//! frame beside what was read in one go.
//!
//! What it does not do: look into a frame, hold a key, retry, reconnect, wait, or choose an async runtime. Who drives a
//! carrier asks its descriptor whether something is there. [`Endpoint`], [`Carrier`], [`FrameReader`] and [`encode`] have no
//! I/O, and are there without the feature `std`.

#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

mod carrier;
#[cfg(feature = "std")]
mod connection;
mod endpoint;
#[cfg(feature = "std")]
mod ports;
mod stream;
#[cfg(feature = "std")]
mod udp;

pub use carrier::{Batch, Capabilities, Carrier, Medium};
#[cfg(feature = "std")]
pub use connection::FrameStream;
pub use endpoint::{Endpoint, NamedEndpoint, NotANamedEndpoint, NotAnEndpoint};
#[cfg(feature = "std")]
pub use ports::{PORTS, bind_pair, pick_port};
pub use stream::{FRAME_LENGTH_MAX, FrameReader, StreamError, encode};
#[cfg(feature = "std")]
pub use udp::UdpCarrier;
