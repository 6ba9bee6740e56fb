//! A TPM in a process of its own: swtpm.

use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::Ports;

/// How long a swtpm may take until it serves.
const START_TIME: Duration = Duration::from_secs(30);

/// A swtpm with a state of its own, on ports of its own on the loopback. Ended when dropped.
#[derive(Debug)]
pub struct Swtpm {
    directory: TempDir,
    process: Option<Child>,
    ports: Ports,
}

impl Swtpm {
    /// Starts a TPM that is as from the factory.
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a directory for the state of a swtpm");
        let mut swtpm = Self { directory, process: None, ports: Ports::reserve(2) };
        assert!(swtpm.try_start(), "swtpm does not start on port {}", swtpm.port());
        swtpm
    }

    /// The port that takes TPM commands; the next one takes control commands.
    pub fn port(&self) -> u16 {
        self.ports.first()
    }

    /// The text that names this TPM as an element.
    pub fn spec(&self) -> String {
        format!("tpm:swtpm:host=127.0.0.1,port={}", self.port())
    }

    /// The text that names this TPM for the tools of tpm2-tools (`TPM2TOOLS_TCTI`).
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port())
    }

    /// Runs one of tpm2-tools with this TPM; whether it succeeded, and all that it said. Nobody else may be
    /// connected meanwhile.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let ran = Command::new(program)
            .args(arguments)
            .env("TPM2TOOLS_TCTI", self.tcti())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output();
        let output = match ran {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("{program} is missing: apt-get install -y tpm2-tools")
            }
            ran => ran.expect("a tool runs"),
        };
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Ends the process at once, as a loss of power does. The state stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a swtpm can be killed");
            process.wait().expect("a killed swtpm ends");
        }
    }

    /// Starts it again on the same ports, with the state that it had.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.try_start(), "swtpm does not start again on port {}", self.port());
    }

    /// Whether it serves. It ends at once where a port is taken.
    fn try_start(&mut self) -> bool {
        let state = self.directory.path().display();
        let ready = self.directory.path().join("ready");
        let _ = std::fs::remove_file(&ready);
        let (port, control) = (self.port(), self.port() + 1);
        let spawned = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={state}")])
            .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
            .args(["--ctrl", &format!("type=tcp,port={control},bindaddr=127.0.0.1")])
            .args(["--pid", &format!("file={}", ready.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut process = match spawned {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("swtpm is missing: apt-get install -y swtpm")
            }
            spawned => spawned.expect("swtpm starts"),
        };
        // It writes this file once it has its ports.
        let deadline = Instant::now() + START_TIME;
        while !std::fs::read(&ready).is_ok_and(|pid| !pid.is_empty()) {
            if process.try_wait().expect("swtpm can be asked").is_some() {
                return false;
            }
            if Instant::now() > deadline {
                let _ = process.kill();
                let _ = process.wait();
                panic!("swtpm does not become ready");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.process = Some(process);
        true
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
