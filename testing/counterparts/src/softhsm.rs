//! Tokens of SoftHSM 2 that belong to one test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Where Debian puts the library.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The user's PIN of every token that is made here.
pub const PIN: &str = "4711-0815";

/// The security officer's PIN of every token that is made here.
pub const SO_PIN: &str = "1122-3344";

/// What the library reads to find its configuration. Without it the store of the system is used.
pub const CONFIGURATION_VARIABLE: &str = "SOFTHSM2_CONF";

/// Tells a process that it was started by [`SoftHsm::again`], and for which store.
const AGAIN_VARIABLE: &str = "AKM_TEST_SOFTHSM_STORE";

const INSTALL: &str = "apt-get install softhsm2";

/// A store of tokens in a directory of its own, gone with the value.
///
/// The library reads the environment of the process that it is in: whatever uses these tokens must run with
/// [`SoftHsm::environment`], such as a program started by the test, or the test itself started again by
/// [`SoftHsm::again`].
#[derive(Debug)]
pub struct SoftHsm {
    directory: PathBuf,
    _own: Option<TempDir>,
}

impl SoftHsm {
    /// Makes an empty store.
    pub fn new() -> Self {
        assert!(Path::new(MODULE).exists(), "{MODULE} is missing: {INSTALL}");
        let own = tempfile::tempdir().expect("a directory for the tokens");
        let directory = own.path().to_path_buf();
        let tokens = directory.join("tokens");
        fs::create_dir(&tokens).expect("a directory for the tokens");
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            tokens.display()
        );
        fs::write(directory.join("softhsm2.conf"), configuration).expect("the configuration");
        let store = Self { directory, _own: Some(own) };
        fs::write(store.pin_file(), PIN).expect("the PIN file");
        fs::set_permissions(store.pin_file(), Permissions::from_mode(0o600)).expect("the PIN file's mode");
        store
    }

    /// The store that this process was started with by [`SoftHsm::again`].
    pub fn of_this_process() -> Option<Self> {
        Some(Self { directory: std::env::var_os(AGAIN_VARIABLE)?.into(), _own: None })
    }

    /// The store's directory, in which a test may keep what belongs to it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory that holds the tokens' files.
    pub fn tokens(&self) -> PathBuf {
        self.directory.join("tokens")
    }

    /// The file that holds [`PIN`].
    pub fn pin_file(&self) -> PathBuf {
        self.directory.join("pin")
    }

    /// What the environment of a program must hold so that it sees this store and no other.
    pub fn environment(&self) -> (&'static str, PathBuf) {
        (CONFIGURATION_VARIABLE, self.directory.join("softhsm2.conf"))
    }

    /// A program that sees this store.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let (name, value) = self.environment();
        command.env(name, value);
        command
    }

    /// The running test binary again, to do one test's body in a process of its own that sees this store.
    pub fn again(&self, test: &str) -> Command {
        let mut command = self.command(std::env::current_exe().expect("the test's own path"));
        command.env(AGAIN_VARIABLE, &self.directory);
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        command
    }

    /// Makes a token, and returns the text of an element that is it.
    pub fn token(&self, label: &str) -> String {
        let made = self
            .command("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN])
            .output()
            .unwrap_or_else(|error| panic!("softhsm2-util does not start ({error}): {INSTALL}"));
        assert!(
            made.status.success(),
            "softhsm2-util makes no token: {}{}",
            String::from_utf8_lossy(&made.stdout),
            String::from_utf8_lossy(&made.stderr)
        );
        self.spec(label)
    }

    /// The text of an element that is the token with this label, which consists of plain characters.
    pub fn spec(&self, label: &str) -> String {
        format!("pkcs11:token={label}?module-path={MODULE}&pin-source=file:{}", self.pin_file().display())
    }
}

impl Default for SoftHsm {
    fn default() -> Self {
        Self::new()
    }
}
