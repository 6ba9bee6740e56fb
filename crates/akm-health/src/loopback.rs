//! As much of HTTP as two pages on loopback need.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// How long whoever asks has for the request and the answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Longest head of a request that is read, in bytes.
pub const HEAD_MAX: usize = 4096;

/// The address is not one of loopback.
#[derive(Debug)]
pub struct NotLoopback(pub SocketAddr);

impl std::fmt::Display for NotLoopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not on loopback: health and metrics are shown to this machine only", self.0)
    }
}

impl std::error::Error for NotLoopback {}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/health`: 200 if all is well, else 503, with what is not in the body.
    Health,
    /// `/metrics`: in the text format of Prometheus.
    Metrics,
}

impl Page {
    /// What the head of a request asks for; `None` for anything else.
    pub fn asked(head: &[u8]) -> Option<Self> {
        let line = head.split(|byte| *byte == b'\n').next()?;
        let mut words = line.split(|byte| byte.is_ascii_whitespace());
        match (words.next(), words.next()) {
            (Some(b"GET"), Some(b"/health")) => Some(Self::Health),
            (Some(b"GET"), Some(b"/metrics")) => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// Whether there is nothing more to read: the head of the request has ended, or is too long to be one.
pub fn is_whole(head: &[u8]) -> bool {
    head.len() >= HEAD_MAX || head.windows(4).any(|end| end == b"\r\n\r\n")
}

/// Listens on an address, if that is on loopback.
pub fn bind_loopback(address: SocketAddr) -> std::io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(std::io::Error::other(NotLoopback(address)));
    }
    TcpListener::bind(address)
}

/// The whole response: `Ok` is all well, `Err` is not; `None`: no such page.
pub fn response(body: Option<Result<String, String>>) -> String {
    let (status, body) = match body {
        Some(Ok(body)) => ("200 OK", body),
        Some(Err(body)) => ("503 Service Unavailable", body),
        None => ("404 Not Found", "ask for /health or /metrics\n".to_owned()),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_pages_exist() {
        assert_eq!(Page::asked(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), Some(Page::Health));
        assert_eq!(Page::asked(b"GET /metrics HTTP/1.1\r\n\r\n"), Some(Page::Metrics));
        for other in
            [&b"POST /metrics HTTP/1.1"[..], b"GET / HTTP/1.1", b"GET /metricsx HTTP/1.1", b"\xff", b""]
        {
            assert_eq!(Page::asked(other), None);
        }
    }

    #[test]
    fn a_head_is_read_to_its_end_and_no_further_than_it_may_go() {
        assert!(!is_whole(b"GET /health HTTP/1.1\r\n"));
        assert!(is_whole(b"GET /health HTTP/1.1\r\n\r\n"));
        assert!(!is_whole(&[b'x'; HEAD_MAX - 1]));
        assert!(is_whole(&[b'x'; HEAD_MAX]));
    }

    #[test]
    fn an_address_that_others_reach_is_refused() {
        assert!(bind_loopback("0.0.0.0:0".parse().unwrap()).is_err());
        assert!(bind_loopback("127.0.0.1:0".parse().unwrap()).is_ok());
    }
}
