//! Keys for applications, from an epoch (protocol, section 5).

use super::{Instant, Session};
use crate::keys::NotExportable;
use crate::secret::SecretBytes;

/// A key that an application got.
#[derive(Debug)]
pub struct Exported {
    /// The epoch that it is of: whoever names it gets the same key at every member.
    pub epoch: u32,
    /// The key.
    pub key: SecretBytes,
}

/// Why an application gets no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExported {
    /// This member is in no epoch, or not in the one that was named, or it is over.
    #[error("no such epoch is open here")]
    NotOpen,
    /// What was asked for is no key that can be exported.
    #[error(transparent)]
    NotExportable(#[from] NotExportable),
}

impl Session {
    /// A key of `length` bytes of an open epoch: of the one that is named, else of the one that this member is in. All
    /// members get the same for the same epoch, label and context, also one that was restored from an older disk: it
    /// must not become the key of a cipher that counts from a fixed number.
    ///
    /// Never of an epoch of which nothing has authenticated, and of one that is over as little as its frames are taken.
    pub fn export(
        &self,
        epoch: Option<u32>,
        label: &str,
        context: &[u8],
        length: u8,
        now: Instant,
    ) -> Result<Exported, NotExported> {
        let open = self.epochs.open_at(epoch, now).ok_or(NotExported::NotOpen)?;
        let key = open.secret.export_secret().key(label, context, length)?;
        Ok(Exported { epoch: open.number, key })
    }
}
