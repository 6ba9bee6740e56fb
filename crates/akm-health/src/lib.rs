//! How a program that stays running shows whether it is well, and what it counts: two pages over HTTP, on loopback.
//!
//! ```text
//!   GET /health  --> Page::Health  --> "well", or 503 and what is not, one line each
//!   GET /metrics --> Page::Metrics --> Metrics: families in the text format of Prometheus
//! ```
//!
//! What it promises: nothing but loopback is listened on; a head that is too long or of something else gets an answer and
//! no more; whoever asks for another host gets nothing; the text of a metric cannot be broken by a name in it.
//!
//! What it does not do: accept, read or write. Each program has its own way to wait, for as long as [`PATIENCE`], and
//! answers [`AT_ONCE`] at the same time.

mod loopback;
mod metrics;

pub use loopback::{
    AT_ONCE, HEAD_MAX, NoPage, NotLoopback, PATIENCE, Page, bind_loopback, is_whole, response,
};
pub use metrics::{Kind, Metrics, label};
