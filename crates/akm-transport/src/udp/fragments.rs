//! Whether IP may cut a datagram that is too long for the network.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu_discover, ipv6_mtu_discover, set_ip_mtu_discover,
    set_ipv6_mtu_discover,
};

/// How a socket stood before batches were prepared on it, which forbids the cutting for the sake of QUIC. A policy may
/// allow frames of any length that a datagram can have.
pub(super) struct Setting {
    v4: Ipv4PathMtuDiscovery,
    /// Of an IPv6 socket.
    v6: Option<Ipv6PathMtuDiscovery>,
}

impl Setting {
    pub(super) fn of(socket: &UdpSocket) -> io::Result<Self> {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let v6 = is_ipv6.then(|| ipv6_mtu_discover(socket)).transpose()?;
        Ok(Self { v4: ip_mtu_discover(socket)?, v6 })
    }

    pub(super) fn restore(self, socket: &UdpSocket) -> io::Result<()> {
        set_ip_mtu_discover(socket, self.v4)?;
        if let Some(v6) = self.v6 {
            set_ipv6_mtu_discover(socket, v6)?;
            allow_ipv6_fragments(socket)?;
        }
        Ok(())
    }
}

#[expect(unsafe_code, reason = "no crate sets this option of a socket by a safe call")]
fn allow_ipv6_fragments(socket: &UdpSocket) -> io::Result<()> {
    let off: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the socket is borrowed; the system reads one integer, of which the address and
    // the length are given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_DONTFRAG,
            (&raw const off).cast(),
            size_of_val(&off) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
