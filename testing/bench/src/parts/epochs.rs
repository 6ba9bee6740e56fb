//! Moving to another epoch, beside what the disk and the element need for it.

use std::hint::black_box;
use std::time::Duration;

use akm_core::crypto::{AWS_LC, Suite};
use akm_core::keys::element_function;
use akm_core::session::Input;
use akm_element::random;

use crate::duo::{Duo, Member};
use crate::error::BenchError;
use crate::report::Row;
use crate::rounds::{Effort, in_turn, worked};

const PART: &str = "epochs";

/// Members that move in one measurement.
pub(super) const BATCH: u32 = 64;

/// The distance of the long way: as far as a member follows that has just started.
const FAR: u32 = 1 << 20;

pub(super) fn run(effort: Effort) -> Result<Vec<Row>, BenchError> {
    let effort = effort.share(3);
    Ok(vec![next(effort)?, followed(effort)?, far(effort)?])
}

/// The element function in software: two blocks of SHA-256 inside, two outside.
fn functions() -> Duration {
    let key = random();
    let ((), took) = worked(|| {
        for number in 0..BATCH {
            black_box(element_function(black_box(&key), b"akm1 epoch", &u64::from(number).to_be_bytes()));
        }
    });
    took
}

fn next(effort: Effort) -> Result<Row, BenchError> {
    let duo = Duo::new(AWS_LC, Suite::Aes256Gcm);
    let mut sender = duo.member(0, duo.first_place());
    let advance = || {
        let (result, took) = worked(|| {
            (0..BATCH).try_for_each(|_| {
                sender.handle(Input::Advance, |frame| {
                    black_box(frame);
                })
            })
        });
        result.map(|()| took)
    };
    let comparison = in_turn(effort, 50, advance, || Ok(functions()))?.comparison();
    Ok(Row::of(PART, "begin the next epoch and say hello", "the element function in software", comparison)
        .with_fact("microseconds", comparison.a.median * 1e6 / f64::from(BATCH)))
}

fn followed(effort: Effort) -> Result<Row, BenchError> {
    let way = Way::to(1)?;
    let comparison = in_turn(effort, 50, || way.go(), || Ok(functions()))?.comparison();
    Ok(Row::of(PART, "follow to the next epoch", "the element function in software", comparison)
        .with_fact("microseconds", comparison.a.median * 1e6 / f64::from(BATCH)))
}

fn far(effort: Effort) -> Result<Row, BenchError> {
    let (far, next) = (Way::to(FAR)?, Way::to(1)?);
    let comparison = in_turn(effort, 50, || far.go(), || next.go())?.comparison();
    Ok(Row::of(PART, "follow over 2^20 epochs", "follow to the next epoch", comparison)
        .with_fact("microseconds", comparison.a.median * 1e6 / f64::from(BATCH)))
}

/// A frame of a later epoch.
pub(super) struct Way {
    duo: Duo,
    frame: Vec<u8>,
}

impl Way {
    /// To this epoch, from the first.
    pub(super) fn to(epoch: u32) -> Result<Self, BenchError> {
        let duo = Duo::new(AWS_LC, Suite::Aes256Gcm);
        let before = duo.first_place().at(epoch - 1).expect("it lies ahead");
        let frame = duo.member(0, before).frame(b"here")?;
        Ok(Self { duo, frame })
    }

    /// Members that stand in the first epoch hear this frame, each for the first time.
    pub(super) fn go(&self) -> Result<Duration, BenchError> {
        let first = self.duo.first_place().at(0).expect("it lies ahead");
        let encoded = first.emit();
        let mut members: Vec<Member> = (0..BATCH)
            .map(|_| {
                let place = akm_core::tree::Place::parse(encoded.expose()).expect("it was just made");
                self.duo.member(1, place)
            })
            .collect();
        let (result, took) = worked(|| {
            members.iter_mut().try_for_each(|member| {
                member.hear(&self.frame, |payload| {
                    black_box(payload);
                })
            })
        });
        result?;
        match members.iter().all(|member| member.delivered() == 1 && member.epoch() > 0) {
            true => Ok(took),
            false => Err(BenchError::Product("a member did not follow".to_owned())),
        }
    }
}
