//! Doors for the fuzz targets into the readers of the file, apart from disk and passphrase.

use akm_core::secret::Secret;
use zeroize::Zeroizing;

use super::content::Content;
use super::envelope::{Envelope, Seal, emit, emit_around};

/// What stands in a file, as far as it can be read without a passphrase.
pub enum Read {
    /// The content, in clear.
    Plain(Vec<u8>),
    /// Memory in KiB, passes and lanes that finding the key would cost.
    Sealed(u32, u32, u32),
}

/// Reads a content and emits it again; `None` if it is refused.
pub fn reread_content(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    Content::parse(bytes).ok().map(|content| content.emit())
}

/// Reads a file and emits it again, a sealed one around the same sealed content; `None` if it is refused.
pub fn reread_file(bytes: &[u8]) -> Option<(Read, Zeroizing<Vec<u8>>)> {
    match Envelope::parse(bytes).ok()? {
        Envelope::Plain(content) => Some((Read::Plain(content.to_vec()), emit(content, None, [0; 24]))),
        Envelope::Sealed(sealed) => {
            let cost = sealed.cost;
            Some((Read::Sealed(cost.memory, cost.passes, cost.lanes), emit_around(&sealed)))
        }
    }
}

/// Opens a sealed file under this key, whatever passphrase and cost it asks for; `None` if it is refused.
pub fn open_file(bytes: &[u8], key: &[u8; 32]) -> Option<Zeroizing<Vec<u8>>> {
    match Envelope::parse(bytes).ok()? {
        Envelope::Plain(_) => None,
        Envelope::Sealed(sealed) => {
            sealed.open(&Seal::of(sealed.salt, sealed.cost, Secret::fill(|out| *out = *key)))
        }
    }
}

/// A file sealed under this key.
pub fn seal_file(content: &[u8], key: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let seal = Seal::of([1; 16], super::Cost::DEFAULT, Secret::fill(|out| *out = *key));
    emit(content, Some(&seal), [2; 24])
}
