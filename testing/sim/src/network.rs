//! The network between the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use akm_host::Endpoint;

use crate::random::Random;

/// The network between the nodes: it loses, repeats, delays and so reorders frames, and links of it
/// can be cut, each direction for itself.
#[derive(Debug)]
pub struct Network {
    flights: BTreeMap<(Duration, u64), Flight>,
    sent: u64,
    random: Random,
    cut: BTreeSet<(usize, usize)>,
    /// How many of a thousand frames get lost.
    pub loss: u32,
    /// How many of a thousand frames arrive twice.
    pub duplication: u32,
    /// Shortest and longest time on the way.
    pub delay: (Duration, Duration),
}

/// A frame on its way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// When it was sent.
    pub since: Duration,
    /// Where it comes from.
    pub from: Endpoint,
    /// The node that it goes to.
    pub to: usize,
    /// Its bytes.
    pub frame: Vec<u8>,
}

impl Network {
    /// A network that loses nothing and takes no time.
    pub fn new(random: Random) -> Self {
        Self {
            flights: BTreeMap::new(),
            sent: 0,
            random,
            cut: BTreeSet::new(),
            loss: 0,
            duplication: 0,
            delay: (Duration::ZERO, Duration::ZERO),
        }
    }

    /// Takes a frame from one node to another, as well as it can.
    pub fn send(&mut self, now: Duration, (node, from): (usize, Endpoint), to: usize, frame: &[u8]) {
        if self.cut.contains(&(node, to)) || self.random.chance(self.loss) {
            return;
        }
        let copies = if self.random.chance(self.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let (shortest, longest) = self.delay;
            let delay = self.random.between(shortest.as_micros() as u64, longest.as_micros() as u64);
            self.sent += 1;
            let flight = Flight { since: now, from, to, frame: frame.to_vec() };
            self.flights.insert((now + Duration::from_micros(delay), self.sent), flight);
        }
    }

    /// When the next frame arrives.
    pub fn due(&self) -> Option<Duration> {
        self.flights.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next frame to arrive, whenever that is.
    pub fn arrive(&mut self) -> Option<Flight> {
        self.flights.pop_first().map(|(_, flight)| flight)
    }

    /// What is on its way.
    pub fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.values()
    }

    /// A copy of this frame is on its way again.
    pub fn put_back(&mut self, flight: &Flight) {
        self.sent += 1;
        let copy = flight.clone();
        self.flights.insert((flight.since + self.delay.1, self.sent), copy);
    }

    /// Takes one of these frames out of the network.
    pub fn take(&mut self, at: usize) -> Option<Flight> {
        let key = *self.flights.keys().nth(at)?;
        self.flights.remove(&key)
    }

    /// Cuts the link from one node to another, or mends it. The other direction stays as it is.
    pub fn cut(&mut self, from: usize, to: usize, cut: bool) {
        if cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Cuts all links between these nodes and the rest.
    pub fn split(&mut self, side: &[usize], nodes: usize) {
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| side.contains(&from) != side.contains(to)) {
                self.cut.insert((from, to));
            }
        }
    }

    /// Mends all links.
    pub fn join(&mut self) {
        self.cut.clear();
    }

    /// The faults stop: all links work, nothing is lost or repeated, and what is on the way arrives
    /// within this delay.
    pub fn calm(&mut self, now: Duration, delay: Duration) {
        self.join();
        (self.loss, self.duplication, self.delay) = (0, 0, (Duration::ZERO, delay));
        let flights = std::mem::take(&mut self.flights);
        self.flights = flights
            .into_iter()
            .map(|((due, number), flight)| ((due.min(now + delay), number), flight))
            .collect();
    }
}
