//! At which of this machine's addresses others asked.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

/// Places of the table. A stranger who fills it takes no memory: he only makes the system choose again.
const SLOTS: usize = 1024;

/// The address of this machine to which each sender sent last.
///
/// Of fixed size: senders that fall on one place displace each other, and where nothing is known the system chooses
/// the address, as for whoever never asked.
pub(super) struct WaysBack {
    slots: Vec<Option<(SocketAddr, IpAddr)>>,
    places: RandomState,
}

impl WaysBack {
    pub(super) fn new() -> Self {
        Self { slots: vec![None; SLOTS], places: RandomState::new() }
    }

    /// Notes that something came from there to an address of this machine; to all of a network at once does not count.
    pub(super) fn learn(&mut self, sender: SocketAddr, asked: Option<IpAddr>) {
        let (sender, asked) = (canonical(sender), asked.map(|asked| asked.to_canonical()));
        let is_broadcast = asked == Some(IpAddr::V4(std::net::Ipv4Addr::BROADCAST));
        let slot = self.slot(sender);
        self.slots[slot] =
            asked.filter(|asked| !asked.is_multicast() && !is_broadcast).map(|asked| (sender, asked));
    }

    /// The address from which to send there, in the family of the destination.
    pub(super) fn of(&self, destination: SocketAddr) -> Option<IpAddr> {
        let (known, asked) = self.slots[self.slot(canonical(destination))]?;
        if known != canonical(destination) {
            return None;
        }
        match (destination, asked) {
            (SocketAddr::V6(_), IpAddr::V4(asked)) => Some(IpAddr::V6(asked.to_ipv6_mapped())),
            (_, asked) => Some(asked),
        }
    }

    pub(super) fn forget(&mut self, destination: SocketAddr) {
        let slot = self.slot(canonical(destination));
        self.slots[slot] = None;
    }

    fn slot(&self, sender: SocketAddr) -> usize {
        (self.places.hash_one(sender) % SLOTS as u64) as usize
    }
}

/// An IPv4 address is the same address where a socket for both families writes it in IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn sender(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_address_asked_last_is_the_one_to_answer_from() {
        let mut ways_back = WaysBack::new();
        let one = sender("198.51.100.7:47100");
        assert_eq!(ways_back.of(one), None);
        ways_back.learn(one, Some(IpAddr::V4([192, 0, 2, 9].into())));
        ways_back.learn(one, Some(OURS));
        assert_eq!(ways_back.of(one), Some(OURS));
        assert_eq!(ways_back.of(sender("198.51.100.7:47101")), None);
        ways_back.forget(one);
        assert_eq!(ways_back.of(one), None);
    }

    #[test]
    fn a_sender_is_the_same_in_either_family() {
        let mut ways_back = WaysBack::new();
        ways_back.learn(sender("[::ffff:198.51.100.7]:47100"), Some("::ffff:192.0.2.1".parse().unwrap()));
        assert_eq!(ways_back.of(sender("198.51.100.7:47100")), Some(OURS));
        let mapped = ways_back.of(sender("[::ffff:198.51.100.7]:47100"));
        assert_eq!(mapped, Some("::ffff:192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn what_went_to_many_says_nothing_about_the_way_back() {
        let mut ways_back = WaysBack::new();
        for many in ["255.255.255.255", "224.0.0.1", "ff02::1"] {
            ways_back.learn(sender("198.51.100.7:47100"), Some(many.parse().unwrap()));
            assert_eq!(ways_back.of(sender("198.51.100.7:47100")), None, "{many}");
        }
    }

    #[test]
    fn a_flood_of_senders_takes_no_more_memory() {
        let mut ways_back = WaysBack::new();
        for number in 0..10_000_u32 {
            ways_back.learn(SocketAddr::new(IpAddr::V4(number.into()), 1), Some(OURS));
        }
        assert_eq!(ways_back.slots.capacity(), SLOTS);
    }
}
