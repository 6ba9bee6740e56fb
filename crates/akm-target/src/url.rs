//! Where a stack is to go, as the operator writes it.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;
use std::str::FromStr;

/// The directory of the stack at an `ssh://` target whose URL names none.
pub const DEFAULT_DIR: &str = "/opt/akm";

const FORMS: &str =
    "write local:DIR (local:./node-a) or ssh://[user@]host[:port][/dir] (ssh://root@192.0.2.7:22)";

/// A place that can become an AKM node: a directory of this machine, or a host that `ssh` reaches.
///
/// Its text, as `Display` gives it, is the target's identity: two ways to write one target (`local:a` and
/// `local:./a/`, or `ssh://host` and `ssh://host/opt/akm`) have one text, and parsing it again gives an equal value.
/// A host name is left as written, since it may be an alias of the operator's ssh configuration. Nothing is
/// percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetUrl {
    host: Option<SshHost>,
    dir: String,
}

/// The host of an `ssh://` target, and as whom and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SshHost {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

/// A text that names no target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetUrlError {
    /// The text has neither of the two forms.
    #[error("{0:?} is not a target; {FORMS}")]
    UnknownForm(String),
    /// The directory cannot hold a stack.
    #[error("{text:?} is not a target: its directory {why}; {FORMS}")]
    Directory {
        /// The text as given.
        text: String,
        /// What is wrong with the directory.
        why: &'static str,
    },
    /// User, host or port of an `ssh://` target cannot be used.
    #[error("{text:?} is not a target: its {part}; {FORMS}")]
    Host {
        /// The text as given.
        text: String,
        /// The part, and what is wrong with it.
        part: &'static str,
    },
    /// The URL holds a password. It is not repeated here.
    #[error("a target's URL must not hold a password; leave it out and let ssh use a key or its agent")]
    Password,
}

impl TargetUrl {
    /// Parses a target; a relative directory of a `local:` target is taken from `base`, which must be absolute.
    pub fn parse_in(text: &str, base: &Path) -> Result<Self, TargetUrlError> {
        if let Some(dir) = text.strip_prefix("local:") {
            let malformed = |why| TargetUrlError::Directory { text: text.to_owned(), why };
            let dir = if dir.is_empty() || dir.starts_with('/') {
                dir.to_owned()
            } else if dir.starts_with('~') {
                return Err(malformed("starts with `~`, which only a shell understands: write it out"));
            } else {
                let base =
                    base.to_str().ok_or_else(|| malformed("is relative to one whose name is not UTF-8"))?;
                format!("{base}/{dir}")
            };
            return Ok(Self { host: None, dir: plain_dir(&dir).map_err(malformed)? });
        }
        let Some(rest) = text.strip_prefix("ssh://") else {
            return Err(TargetUrlError::UnknownForm(without_password(text)));
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let host = SshHost::parse(text, authority)?;
        let dir = match path {
            "" | "/" => DEFAULT_DIR.to_owned(),
            path => {
                plain_dir(path).map_err(|why| TargetUrlError::Directory { text: text.to_owned(), why })?
            }
        };
        Ok(Self { host: Some(host), dir })
    }

    /// The absolute directory of the stack at the target.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// The host, if the target is not a directory of this machine.
    pub fn host(&self) -> Option<&SshHost> {
        self.host.as_ref()
    }

    /// Whether the target is a directory of this machine.
    pub fn is_local(&self) -> bool {
        self.host.is_none()
    }
}

impl SshHost {
    fn parse(text: &str, authority: &str) -> Result<Self, TargetUrlError> {
        let malformed = |part| TargetUrlError::Host { text: text.to_owned(), part };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if let Some(user) = user {
            if user.contains(':') {
                return Err(TargetUrlError::Password);
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "._+-@".contains(c);
            if user.is_empty() || user.starts_with('-') || !user.chars().all(plain) {
                return Err(malformed(
                    "user name is empty, starts with `-` or has a character that none should have",
                ));
            }
        }
        let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
            let (address, port) =
                bracketed.split_once(']').ok_or_else(|| malformed("bracket is not closed"))?;
            let host = ipv6_host(address).ok_or_else(|| malformed("brackets do not hold an IPv6 address"))?;
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err(malformed("bracket is followed by something else than a port")),
            }
        } else {
            let (host, port) = match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            };
            if port.is_some_and(|port| port.contains(':')) {
                return Err(malformed("host looks like an IPv6 address, which needs brackets"));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
                return Err(malformed(
                    "host is empty, starts with `-` or has a character that none can have",
                ));
            }
            (host.to_owned(), port)
        };
        let port = match port {
            None => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
                Ok(port) if port != 0 => Some(port),
                _ => return Err(malformed("port is not a number from 1 to 65535")),
            },
            Some(_) => return Err(malformed("port is not a number from 1 to 65535")),
        };
        Ok(Self { user: user.map(str::to_owned), host, port })
    }

    /// The user to log in as; `None` leaves it to the operator's ssh.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The name, alias or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of the ssh server; `None` leaves it to the operator's ssh.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl FromStr for TargetUrl {
    type Err = TargetUrlError;

    /// Parses a target; a relative directory is taken from the current directory.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let base = std::env::current_dir().map_err(|_| TargetUrlError::Directory {
            text: text.to_owned(),
            why: "cannot be found, since the current directory is gone",
        });
        match base {
            Ok(base) => Self::parse_in(text, &base),
            Err(_) if text.starts_with("ssh://") || text.starts_with("local:/") => {
                Self::parse_in(text, Path::new("/"))
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(host) = &self.host else { return write!(f, "local:{}", self.dir) };
        f.write_str("ssh://")?;
        if let Some(user) = &host.user {
            write!(f, "{user}@")?;
        }
        if host.host.contains(':') {
            write!(f, "[{}]", host.host)?
        } else {
            f.write_str(&host.host)?
        }
        if let Some(port) = host.port {
            write!(f, ":{port}")?;
        }
        if self.dir != DEFAULT_DIR { f.write_str(&self.dir) } else { Ok(()) }
    }
}

/// An absolute path without `.`, `..`, doubled or trailing slashes.
fn plain_dir(dir: &str) -> Result<String, &'static str> {
    if dir.is_empty() {
        return Err("is missing");
    }
    if dir.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    let mut plain = String::with_capacity(dir.len());
    for part in dir.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err("holds `..`: write where it leads");
        }
        if plain.is_empty() && part.starts_with('~') {
            return Err("starts with `~`, which only a shell understands: write it out");
        }
        plain.push('/');
        plain.push_str(part);
    }
    if plain.is_empty() { Err("is `/`, which is not for us alone") } else { Ok(plain) }
}

fn ipv6_host(text: &str) -> Option<String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    match zone {
        None => Some(address.to_string()),
        Some(zone)
            if !zone.is_empty() && zone.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) =>
        {
            Some(format!("{address}%{zone}"))
        }
        Some(_) => None,
    }
}

/// A mistyped URL of another form may hold a password as well.
fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) if before.contains(':') => format!("...@{host}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TargetUrl, TargetUrlError> {
        TargetUrl::parse_in(text, Path::new("/base"))
    }

    #[test]
    fn every_way_to_write_a_target_has_one_text() {
        for (written, text) in [
            ("local:/srv/akm", "local:/srv/akm"),
            ("local:/srv//akm/./", "local:/srv/akm"),
            ("local:node", "local:/base/node"),
            ("local:./node/", "local:/base/node"),
            ("local:a b'c\"d", "local:/base/a b'c\"d"),
            ("local:-x", "local:/base/-x"),
            ("ssh://host", "ssh://host"),
            ("ssh://host/", "ssh://host"),
            ("ssh://host/opt/akm/", "ssh://host"),
            ("ssh://root@host:2222", "ssh://root@host:2222"),
            ("ssh://root@host:22/srv/a b", "ssh://root@host:22/srv/a b"),
            ("ssh://MyAlias", "ssh://MyAlias"),
            ("ssh://[0:0::1]:22/x", "ssh://[::1]:22/x"),
            ("ssh://u@[fe80::1%eth0]", "ssh://u@[fe80::1%eth0]"),
        ] {
            let url = parse(written).unwrap_or_else(|e| panic!("{written}: {e}"));
            assert_eq!(url.to_string(), text);
            assert_eq!(parse(text).unwrap(), url, "{text} parses to what it was made from");
        }
    }

    #[test]
    fn parts_are_told_apart() {
        let url = parse("ssh://pi@[::1]:2222/srv/akm").unwrap();
        let host = url.host().unwrap();
        assert_eq!(
            (host.user(), host.host(), host.port(), url.dir()),
            (Some("pi"), "::1", Some(2222), "/srv/akm")
        );
        assert!(!url.is_local());
        let url = parse("local:/srv/akm").unwrap();
        assert!(url.is_local() && url.host().is_none());
        assert_eq!(parse("ssh://h").unwrap().dir(), DEFAULT_DIR);
    }

    #[test]
    fn what_is_not_a_target_is_refused_with_both_forms() {
        for text in [
            "",
            "x",
            "/srv/akm",
            "local",
            "local:",
            "local:/",
            "local:///",
            "local:/.",
            "local:..",
            "local:/a/../b",
            "local:~/x",
            "local:/a\nb",
            "local:/a\0b",
            "local:/a\u{1b}[2J",
            "ssh:host",
            "ssh://",
            "ssh:///dir",
            "ssh://@host",
            "ssh://-oProxyCommand=x",
            "ssh://-u@host",
            "ssh://u ser@host",
            "ssh://u;x@host",
            "ssh://host:",
            "ssh://host:0",
            "ssh://host:+1",
            "ssh://host:65536",
            "ssh://host:ssh",
            "ssh://::1",
            "ssh://[::1",
            "ssh://[::1]x",
            "ssh://[host]",
            "ssh://[::1%]",
            "ssh://ho st",
            "ssh://host\n",
            "ssh://host/a/../b",
            "ssh://host/~/a",
            "ssh://host//",
            "http://host/dir",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("local:DIR (local:./node-a)"), "{error}");
            assert!(error.contains("ssh://[user@]host[:port][/dir] (ssh://root@192.0.2.7:22)"), "{error}");
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for text in ["ssh://root:hunter2@host", "ssh://:hunter2@host", "sssh://root:hunter2@host"] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert_eq!(parse("ssh://root:hunter2@host"), Err(TargetUrlError::Password));
    }
}
