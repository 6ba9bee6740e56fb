//! Where a node is reached, and the text of it.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;

/// Where frames for a node go, and where they come from.
///
/// Small, so that a host keeps one for each member and copies it. As text it is `host:port`, with the host as an IP
/// address: `192.0.2.7:47100`, `[2001:db8::7]:47100`. The text stands in messages and files; what [`fmt::Display`] writes
/// is read back as the same endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A UDP or TCP port at an IP address.
    Ip(SocketAddr),
}

impl Endpoint {
    /// Its socket address; `None` if it is in no IP network.
    pub fn socket_address(self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(address),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    /// Without the flow label that the system may give with an IPv6 address: it is of one datagram, not of a node.
    fn from(mut address: SocketAddr) -> Self {
        if let SocketAddr::V6(address) = &mut address {
            address.set_flowinfo(0);
        }
        Self::Ip(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        text.parse().map(Self::Ip).map_err(|_| NotAnEndpoint)
    }
}

/// The text is not that of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address and a port, as in 192.0.2.7:47100")]
pub struct NotAnEndpoint;

/// Where a node is reached, as an operator says it: an endpoint, or the name of a host and a port.
///
/// Which endpoint a name stands for is asked each time that it is used, as the answer changes with the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamedEndpoint {
    /// An endpoint that needs no look-up.
    Endpoint(Endpoint),
    /// A name that the system's resolver knows.
    Host {
        /// The name.
        name: String,
        /// The port there, not 0.
        port: u16,
    },
}

impl NamedEndpoint {
    /// The endpoint that it stands for at this moment.
    #[cfg(feature = "std")]
    pub fn resolve(&self) -> std::io::Result<Endpoint> {
        use std::net::ToSocketAddrs;
        match self {
            Self::Endpoint(endpoint) => Ok(*endpoint),
            Self::Host { name, port } => (name.as_str(), *port)
                .to_socket_addrs()?
                .next()
                .map(Endpoint::from)
                .ok_or_else(|| std::io::Error::other("the name has no address")),
        }
    }
}

impl From<Endpoint> for NamedEndpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self::Endpoint(endpoint)
    }
}

impl fmt::Display for NamedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

impl FromStr for NamedEndpoint {
    type Err = NotANamedEndpoint;

    fn from_str(text: &str) -> Result<Self, NotANamedEndpoint> {
        let (name, port) = text.rsplit_once(':').ok_or(NotANamedEndpoint)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(NotANamedEndpoint)?;
        if let Ok(endpoint) = text.parse() {
            return Ok(Self::Endpoint(endpoint));
        }
        let is_of_a_name = |character: char| character.is_alphanumeric() || "-_.[]:%".contains(character);
        if name.is_empty() || !name.chars().all(is_of_a_name) {
            return Err(NotANamedEndpoint);
        }
        Ok(Self::Host { name: name.to_owned(), port })
    }
}

/// The text is not a host and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host and a port, as in device.example:47100")]
pub struct NotANamedEndpoint;

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_of_an_endpoint_is_read_back(address: SocketAddr) {
            let endpoint = Endpoint::from(address);
            prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            prop_assert_eq!(endpoint.to_string(), address.to_string());
        }
    }

    #[test]
    fn a_name_is_no_endpoint() {
        for text in ["", "localhost:1", "127.0.0.1", "127.0.0.1:65536", " 127.0.0.1:1", "::1:80"] {
            assert_eq!(text.parse::<Endpoint>(), Err(NotAnEndpoint), "{text}");
        }
    }

    #[test]
    fn a_host_with_a_port_is_a_named_endpoint() {
        let name = "device-1.example:47100".parse::<NamedEndpoint>().unwrap();
        assert_eq!(name, NamedEndpoint::Host { name: "device-1.example".into(), port: 47_100 });
        assert_eq!(name.to_string(), "device-1.example:47100");
        let address = "[2001:db8::7]:47100".parse::<NamedEndpoint>().unwrap();
        assert_eq!(address, NamedEndpoint::Endpoint("[2001:db8::7]:47100".parse().unwrap()));
        assert_eq!(address.to_string(), "[2001:db8::7]:47100");
        for text in
            ["", "device", ":1", "device:0", "192.0.2.7:0", "device:65536", "two words:1", "http://device:1"]
        {
            assert_eq!(text.parse::<NamedEndpoint>(), Err(NotANamedEndpoint), "{text}");
        }
    }

    #[cfg(feature = "std")]
    #[test]
    fn an_endpoint_resolves_to_itself_and_a_name_to_an_address_at_its_port() {
        let address = "192.0.2.7:47100".parse::<NamedEndpoint>().unwrap();
        assert_eq!(address.resolve().unwrap().to_string(), "192.0.2.7:47100");
        let local = "localhost:47100".parse::<NamedEndpoint>().unwrap().resolve().unwrap();
        let local = local.socket_address().unwrap();
        assert!(local.ip().is_loopback());
        assert_eq!(local.port(), 47_100);
    }
}
