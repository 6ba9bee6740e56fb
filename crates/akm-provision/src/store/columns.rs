//! Columns read back into the types that they were written from.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use akm_core::id::{AkmId, RelationshipId};
use rusqlite::Row;

use super::StoreError;
use crate::names::{Name, Timestamp};

/// An enum whose variants stand in the store, and before the operator, as words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word for it, in the store and in what the operator reads.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            fn from_column(
                row: &rusqlite::Row<'_>,
                column: &str,
            ) -> Result<Self, $crate::store::StoreError> {
                match row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)? {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::store::StoreError::damaged(column)),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(super) use words;

pub(super) fn akm_id(row: &Row<'_>, column: &str) -> Result<AkmId, StoreError> {
    AkmId::from_bytes(row.get(column)?).map_err(|_| StoreError::damaged(column))
}

pub(super) fn optional_akm_id(row: &Row<'_>, column: &str) -> Result<Option<AkmId>, StoreError> {
    let bytes: Option<[u8; 16]> = row.get(column)?;
    bytes.map(|bytes| AkmId::from_bytes(bytes).map_err(|_| StoreError::damaged(column))).transpose()
}

pub(super) fn relationship_id(row: &Row<'_>, column: &str) -> Result<RelationshipId, StoreError> {
    RelationshipId::from_bytes(row.get(column)?).map_err(|_| StoreError::damaged(column))
}

pub(super) fn name(row: &Row<'_>, column: &str) -> Result<Name, StoreError> {
    optional_name(row, column)?.ok_or_else(|| StoreError::damaged(column))
}

pub(super) fn optional_name(row: &Row<'_>, column: &str) -> Result<Option<Name>, StoreError> {
    let text = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    text.map(|text| text.parse().map_err(|_| StoreError::damaged(column))).transpose()
}

pub(super) fn timestamp(row: &Row<'_>, column: &str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_unix_millis(row.get(column)?))
}

pub(super) fn optional_timestamp(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let millis: Option<i64> = row.get(column)?;
    Ok(millis.map(Timestamp::from_unix_millis))
}

pub(super) fn optional_path(row: &Row<'_>, column: &str) -> Result<Option<PathBuf>, StoreError> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    Ok(bytes.map(|bytes| OsString::from_vec(bytes).into()))
}

pub(super) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
