//! Lines on their way to an application: bounded in number and in bytes, since whoever reads slowly, or not at all, must not
//! take the memory of the stack. What does not fit is left out, and the one who hands it in knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

/// Lines that wait for an application before some are left out.
pub(super) const LINES_WAITING: usize = 4096;

/// The bytes of all of them together. A line alone always fits.
const BYTES_WAITING: usize = 1 << 20;

/// Where lines for an application go.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    queue: mpsc::Sender<String>,
    bytes: Arc<AtomicUsize>,
}

/// Where they come out.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: mpsc::Receiver<String>,
    bytes: Arc<AtomicUsize>,
    /// The length of the line that was taken last: it is somebody's until he comes for the next.
    taken: usize,
}

/// A queue of at most this many lines.
pub(super) fn lines(most: usize) -> (Lines, Waiting) {
    let (sender, receiver) = mpsc::channel(most);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Lines { queue: sender, bytes: Arc::clone(&bytes) }, Waiting { queue: receiver, bytes, taken: 0 })
}

impl Lines {
    /// Hands in a line if it fits. `false`: it is left out, or nobody reads any more.
    pub(super) fn offer(&self, line: String) -> bool {
        let length = line.len();
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        let fits = before == 0 || before + length <= BYTES_WAITING;
        let is_taken = fits && self.queue.try_send(line).is_ok();
        if !is_taken {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
        }
        is_taken
    }

    /// Hands in a line, and waits for a place.
    pub(super) async fn send(&self, line: String) {
        let length = line.len();
        self.bytes.fetch_add(length, Ordering::Relaxed);
        if self.queue.send(line).await.is_err() {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
        }
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl Waiting {
    /// The next line; `None` when there will be none.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.bytes.fetch_sub(std::mem::take(&mut self.taken), Ordering::Relaxed);
        let line = self.queue.recv().await?;
        self.taken = line.len();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_reads_nothing_keeps_a_mebibyte_waiting_and_no_more() {
        let (lines, mut waiting) = lines(LINES_WAITING);
        let line = "x".repeat(BYTES_WAITING / 16);
        let taken = (0..1000).filter(|_| lines.offer(line.clone())).count();
        assert_eq!(taken, 16);
        assert_eq!(waiting.next().await, Some(line.clone()));
        // What is being written counts.
        assert!(!lines.offer(line.clone()));
        assert_eq!(waiting.next().await, Some(line.clone()));
        assert!(lines.offer(line));
    }

    #[tokio::test]
    async fn a_line_that_is_longer_than_all_fits_alone() {
        let (lines, mut waiting) = lines(2);
        let long = "x".repeat(2 * BYTES_WAITING);
        assert!(lines.offer(long.clone()));
        assert!(!lines.offer("y".to_owned()));
        assert_eq!(waiting.next().await, Some(long));
    }

    #[tokio::test]
    async fn what_nobody_reads_is_not_taken() {
        let (lines, waiting) = lines(2);
        drop(waiting);
        assert!(lines.is_closed() && !lines.offer("x".to_owned()));
    }
}
