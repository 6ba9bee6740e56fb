//! The words of a line of a trace, as setup and actions read them.

use std::str::FromStr;
use std::time::Duration;

/// A line of a trace that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a line of a trace")]
pub struct Malformed;

/// Reads a number.
pub(crate) fn number<N: FromStr>(word: &str) -> Result<N, Malformed> {
    word.parse().map_err(|_| Malformed)
}

/// Reads a time in milliseconds.
pub(crate) fn milliseconds(word: &str) -> Result<Duration, Malformed> {
    number(word).map(Duration::from_millis)
}
