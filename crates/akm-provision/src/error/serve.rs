//! Why the module does not stay running.

use std::io;
use std::net::SocketAddr;

/// Why the module does not stay running.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The system does not tell of signals.
    #[error("cannot watch for signals")]
    Signals(#[source] io::Error),
    /// Nothing can be shown at the address.
    #[error("cannot show metrics at {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}
