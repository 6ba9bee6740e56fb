//! What AKM costs, as ratios measured in one run.
//!
//! ```text
//!   parts (one file each, one list) ----> rounds: A B B A A B ... of one run ----> rows ----> table, JSON
//! ```
//!
//! A number of nanoseconds says little about the next machine, or about this one a minute later. So
//! every figure is a ratio: what AKM does against the least that it could do, or against itself at another
//! size, both measured in turn within each round. A row has the median of the ratios of all rounds,
//! and the least and the greatest, so that noise shows.
//!
//! What it does not do: judge. A goal that was missed is said, and nothing fails.

pub mod allocations;
pub mod duo;
mod elements;
mod error;
mod installed_node;
mod machine;
mod module;
pub mod parts;
mod processes;
mod report;
mod rounds;

pub use elements::time_functions;
pub use error::BenchError;
pub use machine::Machine;
pub use report::{Report, Row};
pub use rounds::{Comparison, Effort, Spread};
