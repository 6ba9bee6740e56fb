//! A real OpenSSH server on loopback, with keys and configuration of its own.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use akm_counterparts::ports;
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// A server that runs as the current user and lets that user in with one key; it ends when this is dropped.
///
/// Commands run with an empty home directory, so that the user's own shell start-up files have no part in a test, and
/// with a `sudo` that just runs what it is given: who runs the tests need be neither root nor in sudoers.
pub(crate) struct Sshd {
    place: TempDir,
    process: Child,
    port: u16,
    user: String,
}

impl Sshd {
    /// Starts a server on a free port.
    pub(crate) fn start() -> Self {
        Self::start_as(None, "")
    }

    /// Starts a server whose commands find the programs in `front` before any other.
    pub(crate) fn start_with_path(front: &Path) -> Self {
        Self::start_as(Some(front), "")
    }

    /// Starts a server with further lines in its configuration.
    pub(crate) fn start_with(extra: &str) -> Self {
        Self::start_as(None, extra)
    }

    fn start_as(front: Option<&Path>, extra: &str) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: install openssh-server");
        let place = tempfile::tempdir().expect("a directory for the server");
        let user = said_by(Command::new("id").arg("-un"));
        if said_by(Command::new("id").arg("-u")) == "0" {
            fs::create_dir_all("/run/sshd").expect("/run/sshd, which sshd wants when root starts it");
        }
        for key in ["host_key", "user_key", "wrong_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
                .arg(place.path().join(key))
                .status();
            assert!(made.is_ok_and(|status| status.success()), "ssh-keygen failed: install openssh-client");
        }
        fs::copy(place.path().join("user_key.pub"), place.path().join("authorized_keys")).unwrap();

        let sudo = place.path().join("bin/sudo");
        fs::create_dir(place.path().join("bin")).unwrap();
        fs::write(&sudo, "#!/bin/sh\n[ \"$1\" = -n ] || exit 1\nshift\nexec \"$@\"\n").unwrap();
        fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();

        let port = ports::port();
        let process = listen(place.path(), port, front, extra);
        let server = Self { place, process, port, user };
        server.write_client_configurations();
        server
    }

    /// Ends the server; connections that are open stay open.
    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on the same port, after [`Sshd::stop`].
    pub(crate) fn start_again(&mut self) {
        self.process = launch(self.place.path());
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The user that the server lets in.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// A target's URL for an absolute directory.
    pub(crate) fn url(&self, dir: &str) -> String {
        format!("ssh://{}@127.0.0.1:{}{dir}", self.user, self.port)
    }

    /// The client configuration (`ssh -F`) that knows the server and holds the right key. It also has the alias
    /// `device`.
    pub(crate) fn config(&self) -> PathBuf {
        self.place.path().join("config")
    }

    /// A client configuration that does not know the server.
    pub(crate) fn config_of_a_stranger(&self) -> PathBuf {
        self.place.path().join("config_stranger")
    }

    /// A client configuration that expects another host key.
    pub(crate) fn config_with_other_host_key(&self) -> PathBuf {
        self.place.path().join("config_other_host")
    }

    /// A client configuration with a key that the server does not let in.
    pub(crate) fn config_with_wrong_key(&self) -> PathBuf {
        self.place.path().join("config_wrong_key")
    }

    fn write_client_configurations(&self) {
        let place = self.place.path();
        let host = format!("[127.0.0.1]:{}", self.port);
        let key = |name: &str| fs::read_to_string(place.join(name)).unwrap();
        fs::write(place.join("known_hosts"), format!("{host} {}", key("host_key.pub"))).unwrap();
        fs::write(place.join("known_other"), format!("{host} {}", key("wrong_key.pub"))).unwrap();
        fs::write(place.join("known_nobody"), "").unwrap();
        for (name, known, user_key) in [
            ("config", "known_hosts", "user_key"),
            ("config_stranger", "known_nobody", "user_key"),
            ("config_other_host", "known_other", "user_key"),
            ("config_wrong_key", "known_hosts", "wrong_key"),
        ] {
            let place = place.display();
            // The key exchange that ssh would choose costs several times the work of all that a test asks for.
            let text = format!(
                "Host device\n  HostName 127.0.0.1\n  Port {}\n  User {}\n\
                 Host *\n  UserKnownHostsFile {place}/{known}\n  GlobalKnownHostsFile /dev/null\n  \
                 IdentityFile {place}/{user_key}\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
                 StrictHostKeyChecking ask\n  UpdateHostKeys no\n  \
                 KexAlgorithms curve25519-sha256\n",
                self.port, self.user
            );
            fs::write(self.place.path().join(name), text).unwrap();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns once the server listens.
fn listen(place: &Path, port: u16, front: Option<&Path>, extra: &str) -> Child {
    let shown = place.display();
    let front = front.map(|dir| format!("{}:", dir.display())).unwrap_or_default();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host_key\nAuthorizedKeysFile {shown}/authorized_keys\n\
         PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\nPrintMotd no\n\
         SetEnv HOME={shown} PATH={front}{shown}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n{extra}\n"
    );
    let file = place.join("sshd_config");
    fs::write(&file, config).unwrap();
    fs::set_permissions(place.join("host_key"), fs::Permissions::from_mode(0o600)).unwrap();
    launch(place)
}

/// Starts the server that is configured; like [`listen`].
fn launch(place: &Path) -> Child {
    let mut process = Command::new(SSHD)
        .args(["-D", "-e", "-f"])
        .arg(place.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sshd starts");
    let mut log = BufReader::new(process.stderr.take().expect("a pipe"));
    let mut said = String::new();
    loop {
        let before = said.len();
        match log.read_line(&mut said) {
            Ok(1..) if said[before..].contains("Server listening on") => break,
            Ok(1..) => {}
            _ => {
                let _ = process.wait();
                panic!("sshd does not start: {said}");
            }
        }
    }
    // The server writes to its log for as long as it runs, and must not be stopped by a full pipe.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    process
}

fn said_by(command: &mut Command) -> String {
    let output = command.output().expect("a program of every system");
    String::from_utf8(output.stdout).expect("plain text").trim().to_owned()
}
