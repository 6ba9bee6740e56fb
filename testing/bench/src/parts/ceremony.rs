//! Whole ceremonies: one against the disk, and many at once against one.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::error::BenchError;
use crate::module::Module;
use crate::report::Row;
use crate::rounds::{Effort, in_turn, timed};

/// What is appended to a file before each sync, in bytes: about a record of AKM.
const RECORD: [u8; 512] = [0x61; 512];

/// How many appends one measurement of the disk takes the mean of.
const APPENDS: u32 = 32;

/// One ceremony: `akm provision local:DIR` from start to end, all five steps.
pub(super) fn one(effort: Effort, scratch: &Path) -> Result<Vec<Row>, BenchError> {
    let mut module = Module::new(scratch)?;
    let path = module.place().join("appended");
    module.ceremony()?;
    let comparison = in_turn(effort, 5, || module.ceremony(), || append_and_sync(&path))?.comparison();
    Ok(vec![
        Row::of("ceremony", "a whole local ceremony", "append 512 bytes and fsync", comparison)
            .with_fact("milliseconds a ceremony", comparison.a.median * 1e3)
            .with_fact("milliseconds an append and fsync", comparison.b.median * 1e3),
    ])
}

/// Many ceremonies at one store, each a process of its own, all begun together.
pub(super) fn many(effort: Effort, scratch: &Path) -> Result<Vec<Row>, BenchError> {
    let count = effort.size(100, 3);
    let module = RefCell::new(Module::new(scratch)?);
    module.borrow_mut().ceremony()?;
    let comparison =
        in_turn(effort, 3, || module.borrow_mut().ceremonies(count), || module.borrow_mut().ceremony())?
            .comparison();
    Ok(vec![
        Row::of("ceremonies", format!("{count} ceremonies at once"), "one", comparison)
            .with_fact("times as fast as one after the other", count as f64 / comparison.ratio.median)
            .with_fact("milliseconds a ceremony, of many", comparison.a.median * 1e3 / count as f64)
            .with_fact("milliseconds a ceremony, alone", comparison.b.median * 1e3),
    ])
}

fn append_and_sync(path: &Path) -> Result<Duration, BenchError> {
    let mut file =
        OpenOptions::new().create(true).append(true).open(path).map_err(BenchError::scratch(path))?;
    let (result, took) = timed(|| {
        (0..APPENDS).try_for_each(|_| {
            file.write_all(&RECORD)?;
            file.sync_all()
        })
    });
    result.map_err(BenchError::scratch(path))?;
    Ok(took / APPENDS)
}
