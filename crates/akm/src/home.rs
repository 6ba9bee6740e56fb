//! Where the module is, and what opens its vault.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::CommandError;
use akm_disk::private;
use akm_provision::error::Kind;
use akm_provision::module::{Module, Passphrase};
use clap::Args;
use zeroize::Zeroizing;

/// Longest passphrase file, in bytes.
const PASSPHRASE_MAX: u64 = 4096;

/// What may be said with every command.
#[derive(Args)]
pub(crate) struct Options {
    /// The home of the module (otherwise $AKM_HOME, or ~/.local/share/akm)
    #[arg(long, global = true, env = "AKM_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Read the passphrase of the vault from this file instead of the terminal
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on standard error; up to three times
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Options {
    /// `--home`, `$AKM_HOME`, or the user's data directory.
    pub(crate) fn home(&self) -> Result<PathBuf, CommandError> {
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        let data =
            std::env::var_os("XDG_DATA_HOME").filter(|dir| Path::new(dir).is_absolute()).map(PathBuf::from);
        let own = std::env::home_dir().map(|dir| dir.join(".local/share"));
        data.or(own)
            .map(|dir| dir.join("akm"))
            .ok_or_else(|| CommandError::usage("there is no home directory: set AKM_HOME".to_owned()))
    }

    /// The module, open.
    pub(crate) fn open_module(&self) -> Result<Module, CommandError> {
        let passphrase =
            || self.read_passphrase(false).map_err(|error| std::io::Error::other(error.to_string()));
        Ok(Module::open(&self.home()?, passphrase)?)
    }

    /// From the file that was named, else from the terminal; never from an argument or the environment.
    pub(crate) fn read_passphrase(&self, twice: bool) -> Result<Passphrase, CommandError> {
        if let Some(path) = &self.passphrase_file {
            let unreadable = |error| {
                let advice = akm_disk::advice(&error);
                CommandError::failed(format!(
                    "cannot read the passphrase from {}: {error}{advice}",
                    path.display()
                ))
            };
            // As large as it may get: a vector that grows leaves copies behind.
            let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_MAX as usize + 1));
            let file = std::fs::File::open(path).map_err(unreadable)?;
            let metadata = file.metadata().map_err(unreadable)?;
            // A pipe or terminal is private by other means.
            if metadata.is_file() {
                private::check(path, &metadata, private::OWNER_ONLY)?;
            }
            file.take(PASSPHRASE_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
            while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                bytes.pop();
            }
            return Ok(bytes);
        }
        let ask = |prompt: &str| {
            rpassword::prompt_password(prompt).map(|text| Zeroizing::new(text.into_bytes())).map_err(
                |error| {
                    let why = format!(
                        "the vault needs its passphrase, and there is no terminal to ask at ({error}): use \
                         --passphrase-file FILE"
                    );
                    CommandError::new(Kind::VaultClosed, why)
                },
            )
        };
        let passphrase = ask("Passphrase of the vault: ")?;
        if twice && *ask("Once more: ")? != *passphrase {
            return Err(CommandError::usage("the two passphrases differ".to_owned()));
        }
        Ok(passphrase)
    }
}
