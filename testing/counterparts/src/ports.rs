//! Port numbers that no other test of this machine takes.
//!
//! A test needs numbers that stay its own while nobody listens on them: a stack that was killed starts again on its port.
//! So the numbers are cut into blocks, and who binds the first number of a block has all of it. The kernel gives that to
//! one process of the machine, and takes it back when the process ends, however that comes. Nobody binds the other
//! numbers until they are used.
//!
//! ```text
//! 20000 lock | 20001 ... 20007 | 20008 lock | 20009 ... 20015 | ...
//! ```
//!
//! All of them lie below those that systems give to sockets that did not ask for one, so no connection takes them either.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is cut into blocks: above the services that have a number, below the numbers that systems give away.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = 1_596;
const BLOCK: u16 = 8;

/// The environment variable that tells `akm` from which numbers local targets get theirs.
pub const PORTS_VARIABLE: &str = "AKM_PORTS";

/// Blocks that lie side by side, for as long as this is kept.
#[derive(Debug)]
pub struct Ports {
    locks: Vec<TcpListener>,
    first: u16,
}

impl Ports {
    /// Reserves blocks with at least so many numbers.
    ///
    /// # Panics
    ///
    /// If this machine has none left.
    pub fn reserve(count: u16) -> Self {
        // Each call begins elsewhere, and each process too, so that they seldom meet.
        static CALLS: AtomicU16 = AtomicU16::new(0);
        let wanted = count.div_ceil(BLOCK - 1).max(1);
        let places = BLOCKS - wanted + 1;
        let calls = u32::from(CALLS.fetch_add(1, Ordering::Relaxed));
        let begin = std::process::id().wrapping_mul(37).wrapping_add(calls.wrapping_mul(u32::from(wanted)));
        (0..u32::from(places))
            .map(|offset| (begin.wrapping_add(offset) % u32::from(places)) as u16)
            .find_map(|block| Self::lock(FIRST + block * BLOCK, wanted))
            .expect("this machine has as many ports as the tests need")
    }

    /// All numbers from the first to the last, as `akm` reads them. The locks among them are taken.
    pub fn range(&self) -> RangeInclusive<u16> {
        let blocks = u16::try_from(self.locks.len()).expect("not more than there are");
        self.first + 1..=self.first + blocks * BLOCK - 1
    }

    /// The same as a variable of the environment: name and value.
    pub fn environment(&self) -> (&'static str, String) {
        (PORTS_VARIABLE, format!("{}-{}", self.range().start(), self.range().end()))
    }

    /// The first number. The six after it belong to this too.
    pub fn first(&self) -> u16 {
        self.first + 1
    }

    fn lock(first: u16, blocks: u16) -> Option<Self> {
        let numbers = || (0..blocks).map(|block| first + block * BLOCK);
        let locks = numbers().map(|number| TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok());
        let locks: Vec<TcpListener> = locks.collect::<Option<_>>()?;
        // A program that is no test may have one of the others.
        let is_free = |port: u16| {
            let address = (Ipv4Addr::UNSPECIFIED, port);
            UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
        };
        numbers().flat_map(|number| number + 1..number + BLOCK).all(is_free).then_some(Self { locks, first })
    }
}

/// A number for this process, until it ends: no call gives it again.
pub fn port() -> u16 {
    static GIVEN: Mutex<(Vec<Ports>, u16)> = Mutex::new((Vec::new(), 0));
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let (blocks, next) = &mut *given;
    match blocks.last() {
        Some(ports) if *next < *ports.range().end() => *next += 1,
        _ => {
            let ports = Ports::reserve(1);
            *next = ports.first();
            blocks.push(ports);
        }
    }
    *next
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nobody_else_is_given_what_is_reserved() {
        let all: Vec<Ports> = (0..40).map(|_| Ports::reserve(10)).collect();
        let numbers: Vec<u16> = all.iter().flat_map(Ports::range).collect();
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
        assert!(all.iter().all(|ports| Ports::lock(ports.first, 2).is_none()));
    }

    #[test]
    fn what_is_given_back_can_be_reserved_again() {
        let ports = Ports::reserve(1);
        let first = ports.first;
        drop(ports);
        // Another test of this machine may be quicker, with this block or with any other.
        assert!((0..1000).any(|_| Ports::lock(first, 1).is_some()));
    }

    #[test]
    fn a_reserved_number_can_be_bound_on_every_address() {
        let port = port();
        for address in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)] {
            UdpSocket::bind((address, port)).unwrap();
            TcpListener::bind((address, port)).unwrap();
        }
    }

    #[test]
    fn a_process_is_given_each_number_once() {
        let numbers: HashSet<u16> = (0..30).map(|_| port()).collect();
        assert_eq!(numbers.len(), 30);
    }

    #[test]
    fn akm_is_told_the_range() {
        let ports = Ports::reserve(8);
        let (first, last) = (ports.first(), ports.first() + 2 * BLOCK - 2);
        assert_eq!(ports.range(), first..=last);
        assert_eq!(ports.environment(), (PORTS_VARIABLE, format!("{first}-{last}")));
    }
}
