//! As much of HTTP as two pages on loopback need.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// How long whoever asks has for the request and the answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How many are answered at once: one that says nothing keeps its place for [`PATIENCE`], and nobody else waits for it.
pub const AT_ONCE: usize = 8;

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

/// Why a request gets no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPage {
    /// It asks for something else.
    Other,
    /// It is for another host: a browser on this machine was made to ask, by a name that leads here.
    Foreign,
}

impl Page {
    /// What the head of a request asks for.
    pub fn asked(head: &[u8]) -> Result<Self, NoPage> {
        let mut lines = head.split(|byte| *byte == b'\n');
        let mut words = lines.next().unwrap_or_default().split(|byte| byte.is_ascii_whitespace());
        let page = match (words.next(), words.next()) {
            (Some(b"GET"), Some(b"/health")) => Self::Health,
            (Some(b"GET"), Some(b"/metrics")) => Self::Metrics,
            _ => return Err(NoPage::Other),
        };
        let mut hosts = lines.filter_map(host);
        if hosts.all(is_loopback) { Ok(page) } else { Err(NoPage::Foreign) }
    }
}

/// What a line of a head says of the host that is asked, if it does.
fn host(line: &[u8]) -> Option<&[u8]> {
    let (name, host) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
    name.trim_ascii().eq_ignore_ascii_case(b"host").then(|| host[1..].trim_ascii())
}

/// Whether a host, with or without a port, is this machine and can be no other.
fn is_loopback(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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

/// The whole response to what was asked for: within it `Ok` is all well, `Err` is not.
pub fn response(body: Result<Result<String, String>, NoPage>) -> String {
    let (status, body) = match body {
        Ok(Ok(body)) => ("200 OK", body),
        Ok(Err(body)) => ("503 Service Unavailable", body),
        Err(NoPage::Other) => ("404 Not Found", "ask for /health or /metrics\n".to_owned()),
        Err(NoPage::Foreign) => (
            "421 Misdirected Request",
            "ask for this host by its loopback address or as localhost\n".to_owned(),
        ),
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
        assert_eq!(Page::asked(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), Ok(Page::Health));
        assert_eq!(Page::asked(b"GET /metrics HTTP/1.0\r\n\r\n"), Ok(Page::Metrics));
        for other in
            [&b"POST /metrics HTTP/1.1"[..], b"GET / HTTP/1.1", b"GET /metricsx HTTP/1.1", b"\xff", b""]
        {
            assert_eq!(Page::asked(other), Err(NoPage::Other));
        }
    }

    #[test]
    fn a_browser_that_was_led_here_by_another_name_gets_nothing() {
        let ask = |hosts: &[&str]| {
            let hosts: String = hosts.iter().map(|host| format!("Accept: */*\r\n{host}\r\n")).collect();
            Page::asked(format!("GET /metrics HTTP/1.1\r\n{hosts}\r\n").as_bytes())
        };
        for own in [
            "Host: 127.0.0.1:9464",
            "host:127.9.8.7",
            "HOST:  LocalHost:80 ",
            "Host: [::1]:9464",
            "Host: [::1]",
            "X-Host: evil",
        ] {
            assert_eq!(ask(&[own]), Ok(Page::Metrics), "{own}");
        }
        for foreign in [
            "Host: evil.example",
            "Host: localhost.evil.example:9464",
            "Host: 127.0.0.1.evil.example",
            "Host: 10.0.0.1",
            "Host: evil:127.0.0.1",
            "Host: [::2]:80",
            "Host: \u{e9}",
            "Host:",
        ] {
            assert_eq!(ask(&[foreign]), Err(NoPage::Foreign), "{foreign}");
            assert_eq!(ask(&["Host: localhost", foreign]), Err(NoPage::Foreign), "{foreign}");
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
