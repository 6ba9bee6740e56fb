//! Frames over UDP on this machine, sealed against clear.

use std::cell::RefCell;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use akm_core::crypto::{AWS_LC, Suite};
use akm_transport::{Batch, Carrier, Endpoint, UdpCarrier, bind_pair};

use crate::duo::{Duo, Member};
use crate::error::BenchError;
use crate::report::Row;
use crate::rounds::{Effort, in_turn, worked};

const LENGTHS: [usize; 2] = [64, 1400];

/// Frames in one measurement; they go and come in batches.
const FRAMES: usize = 1024;

/// Two ends of one way, in one thread.
struct Way {
    here: UdpCarrier,
    there: UdpCarrier,
    to: Endpoint,
    batch: Batch,
}

impl Way {
    fn new() -> Result<Self, BenchError> {
        let bind = || {
            let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            bind_pair(anywhere.into()).map(|(udp, _)| udp).map_err(|error| broken(&error))
        };
        let (here, there) = (bind()?, bind()?);
        let to = there.local_endpoint().map_err(|error| broken(&error))?;
        Ok(Self { here, there, to, batch: Batch::new() })
    }

    /// Sends frames as `make` makes them, and gives each that arrives to `take`.
    fn carry(
        &mut self,
        mut make: impl FnMut(&mut dyn FnMut(&[u8])) -> Result<(), BenchError>,
        mut take: impl FnMut(&[u8]) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let (mut sent, mut arrived) = (0, 0);
        let mut outcome = Ok(());
        while sent < FRAMES {
            while sent < FRAMES && !self.batch.is_full() {
                make(&mut |frame| {
                    self.batch.push(self.to, frame);
                    sent += 1;
                })?;
            }
            self.here.send(&self.batch, &mut |_, error| outcome = Err(broken(&error)));
            self.batch.clear();
            // On this machine what was sent is there at once.
            while arrived < sent {
                let mut each = |_, frame: &[u8]| {
                    if outcome.is_ok() {
                        outcome = take(frame);
                    }
                };
                match self.there.receive(&mut each).map_err(|error| broken(&error))? {
                    0 => return Err(BenchError::Product(format!("{arrived} of {sent} frames arrived"))),
                    count => arrived += count,
                }
            }
        }
        outcome
    }
}

fn broken(error: &std::io::Error) -> BenchError {
    BenchError::Product(format!("a socket on 127.0.0.1: {error}"))
}

/// A sealed way and a clear one.
struct Contest {
    sender: Member,
    receiver: Member,
    sealed: Way,
    clear: Way,
    body: Vec<u8>,
}

impl Contest {
    fn new(suite: Suite, length: usize) -> Result<Self, BenchError> {
        let duo = Duo::new(AWS_LC, suite);
        let member = |index| duo.member(index, duo.first_place());
        let body = vec![0x61; length];
        Ok(Self { sender: member(0), receiver: member(1), sealed: Way::new()?, clear: Way::new()?, body })
    }

    fn sealed(&mut self) -> Result<Duration, BenchError> {
        let Self { sender, receiver, sealed, body, .. } = self;
        let before = receiver.delivered();
        let (done, took) = worked(|| {
            sealed.carry(
                |push| sender.send(black_box(body), |frame| push(frame)),
                |frame| {
                    receiver.hear(frame, |payload| {
                        black_box(payload);
                    })
                },
            )
        });
        done?;
        match receiver.delivered() - before {
            all if all == FRAMES as u64 => Ok(took),
            some => Err(BenchError::Product(format!("{some} of {FRAMES} frames were delivered"))),
        }
    }

    fn clear(&mut self) -> Result<Duration, BenchError> {
        let Self { clear, body, .. } = self;
        let (done, took) = worked(|| {
            clear.carry(
                |push| {
                    push(black_box(body));
                    Ok(())
                },
                |frame| {
                    black_box(frame);
                    Ok(())
                },
            )
        });
        done.map(|()| took)
    }
}

/// Both lengths.
pub(super) fn run(effort: Effort) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for length in LENGTHS {
        let mut contest = Contest::new(Suite::Aes256Gcm, length)?;
        // The first frames begin an epoch.
        contest.sealed()?;
        let contest = RefCell::new(contest);
        let share = effort.share(LENGTHS.len());
        let rounds = in_turn(share, 20, || contest.borrow_mut().sealed(), || contest.borrow_mut().clear())?;
        let comparison = rounds.comparison();
        let bits = |seconds: f64| (8 * length * FRAMES) as f64 / seconds / 1e9;
        let what = format!("carry {length} bytes over 127.0.0.1, sealed, both ends on one processor");
        rows.push(
            Row::of("carrier", what, "clear", comparison)
                .with_fact("Gbit/s of payload, sealed", bits(comparison.a.median))
                .with_fact("Gbit/s of payload, clear", bits(comparison.b.median)),
        );
    }
    Ok(rows)
}
