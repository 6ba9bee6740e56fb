//! The ports of a node: UDP and TCP on the same number.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use crate::endpoint::Endpoint;
use crate::udp::UdpCarrier;

/// What the receive buffer is asked to be; to others than root the system may give less. It must hold what arrives
/// while the element is asked for the keys of an epoch, or a place is written.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Ports to record: above the well-known services, below those that systems give to outgoing
/// connections (from 32,768), one of which could hold the port while the node is off.
pub const PORTS: RangeInclusive<u16> = 20_000..=32_767;

/// How many ports the system is asked for before giving up.
const TRIES: usize = 128;

/// Binds UDP and TCP to one port number, both non-blocking. With port 0 the system chooses one that
/// is free in both; ask either for it.
///
/// The TCP listener may take a port on which old connections still linger; the UDP socket shares its
/// port with nobody. [`ErrorKind::AddrInUse`]: somebody has the port, in UDP or TCP.
pub fn bind_pair(at: Endpoint) -> io::Result<(UdpCarrier, TcpListener)> {
    let Endpoint::Ip(address) = at;
    let (udp, tcp) = if address.port() == 0 { bind_any(address)? } else { bind_both(address)? };
    Ok((UdpCarrier::new(udp)?, tcp))
}

/// One of these ports that is free for UDP and TCP at this address and that is not given yet, to be recorded and bound
/// later. Nothing keeps it until then. The search begins at random, and looks at each port once at most.
///
/// [`ErrorKind::AddrInUse`]: there is none.
pub fn pick_port(ip: IpAddr, ports: RangeInclusive<u16>, is_given: impl Fn(u16) -> bool) -> io::Result<u16> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)?;
    let begin = u32::from_be_bytes(random) as usize % ports.len().max(1);
    let turned = ports.clone().skip(begin).chain(ports.take(begin));
    for port in turned.filter(|port| !is_given(*port)) {
        match bind_both(SocketAddr::new(ip, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(port),
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

fn bind_any(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    for _ in 1..TRIES {
        match bind_both(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    bind_both(address)
}

fn bind_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = bind_udp(address)?;
    let tcp = TcpListener::bind(udp.local_addr()?)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Root may go beyond the limit of the system. A smaller buffer loses frames under load, and is no reason not to
    // start.
    if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;
    use crate::carrier::Carrier;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ANY_PORT: Endpoint = Endpoint::Ip(SocketAddr::new(LOCALHOST, 0));

    #[test]
    fn udp_and_tcp_get_the_same_port() {
        let (udp, tcp) = bind_pair(ANY_PORT).unwrap();
        assert_ne!(tcp.local_addr().unwrap().port(), 0);
        assert_eq!(udp.local_endpoint().unwrap(), tcp.local_addr().unwrap().into());
    }

    #[test]
    fn both_sockets_answer_at_once_when_nothing_is_there() {
        let (mut udp, tcp) = bind_pair(ANY_PORT).unwrap();
        assert_eq!(udp.receive(&mut |_, _| panic!("a frame")).unwrap(), 0);
        assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_port_that_is_taken_in_either_is_in_use() {
        let (udp, tcp) = bind_pair(ANY_PORT).unwrap();
        let address = udp.local_endpoint().unwrap();
        assert_eq!(bind_pair(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(udp);
        assert_eq!(bind_pair(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(tcp);
        let (udp, tcp) = bind_pair(address).unwrap();
        drop(tcp);
        assert_eq!(bind_pair(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(udp);
    }

    #[test]
    fn a_port_with_a_connection_that_was_just_closed_can_be_bound_again() {
        let (udp, tcp) = bind_pair(ANY_PORT).unwrap();
        let address = udp.local_endpoint().unwrap();
        tcp.set_nonblocking(false).unwrap();
        let connected = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let (accepted, _) = tcp.accept().unwrap();
        drop((accepted, connected, udp, tcp));
        bind_pair(address).unwrap();
    }

    #[test]
    fn a_picked_port_can_be_bound_and_is_not_one_for_outgoing_connections() {
        let port = pick_port(LOCALHOST, PORTS, |_| false).unwrap();
        assert!(PORTS.contains(&port));
        let address = SocketAddr::new(LOCALHOST, port).into();
        let (udp, tcp) = bind_pair(address).unwrap();
        assert_eq!(udp.local_endpoint().unwrap(), address);
        assert_eq!(tcp.local_addr().unwrap().port(), port);
    }

    #[test]
    fn a_port_that_was_given_or_is_taken_is_not_picked() {
        let (_udp, tcp) = bind_pair(ANY_PORT).unwrap();
        let taken = tcp.local_addr().unwrap().port();
        for given in [true, false] {
            let picked = pick_port(LOCALHOST, taken..=taken, |_| given);
            assert_eq!(picked.unwrap_err().kind(), ErrorKind::AddrInUse);
        }
        for _ in 0..20 {
            let port = pick_port(LOCALHOST, PORTS, |port| port % 2 == 0).unwrap();
            assert_eq!(port % 2, 1);
        }
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_at_once() {
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(pick_port(elsewhere, PORTS, |_| false).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        assert_eq!(
            bind_pair(SocketAddr::new(elsewhere, 0).into()).unwrap_err().kind(),
            ErrorKind::AddrNotAvailable
        );
    }
}
